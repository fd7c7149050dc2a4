//! What a node holds, in a form that is the same on every engine.

use super::{capture::row_of, notes};
use crate::{
    Value,
    codec::Writer,
    identity::sha256,
    node::{
        Checksum, Checksums, NodeError, SqlError,
        dialect::{Dialect, Failure, Session as _},
    },
    table::Table,
    value::encode::encode_row,
};

/// How many rows are read at once.
const PAGE: usize = 2000;

pub(super) async fn all<D: Dialect>(
    dialect: &D,
    session: &mut D::Session,
) -> Result<Checksums, NodeError> {
    for sql in dialect.begin_read() {
        session.command(sql).await.map_err(Failure::while_applying)?;
    }
    let at = notes::place(dialect, session).await?.applied;
    let catalogue = notes::catalogue(dialect, session).await.map_err(Failure::while_applying)??;
    let mut tables = std::collections::BTreeMap::new();
    for table in catalogue.0.values() {
        tables.insert(table.name.clone(), of_table(dialect, session, table).await?);
    }
    Ok(Checksums { at, tables })
}

async fn of_table<D: Dialect>(
    dialect: &D,
    session: &mut D::Session,
    table: &Table,
) -> Result<Checksum, NodeError> {
    let mut checksum = Checksum::default();
    let mut after: Vec<Value> = Vec::new();
    loop {
        let (rows, more) = page(dialect, session, table, &after).await?;
        for row in &rows {
            checksum.add(row);
        }
        if let Some(last) = rows.last() {
            after = table.key_of(last).into_iter().cloned().collect();
        }
        if !more {
            return Ok(checksum);
        }
    }
}

/// The rows after the one with this key, from the first where it is empty; and whether there may be more.
pub(super) async fn page<D: Dialect>(
    dialect: &D,
    session: &mut D::Session,
    table: &Table,
    after: &[Value],
) -> Result<(Vec<Vec<Value>>, bool), NodeError> {
    let columns: Vec<String> =
        table.columns.iter().map(|it| dialect.text_of(it.kind, &dialect.quote(&it.name))).collect();
    let key: Vec<_> = table.key.iter().filter_map(|at| table.columns.get(*at)).collect();
    let names = key.iter().map(|it| dialect.quote(&it.name)).collect::<Vec<_>>().join(", ");
    let places: Vec<String> =
        key.iter().zip(1..).map(|(it, i)| dialect.value(it.kind, i)).collect();
    let select = format!("SELECT {} FROM {}", columns.join(", "), dialect.quote(&table.name));
    let beyond = if after.is_empty() {
        String::new()
    } else {
        format!(" WHERE ({names}) > ({})", places.join(", "))
    };
    let sql = format!("{select}{beyond} ORDER BY {names} LIMIT {PAGE}");
    let rows = session.select(&sql, after).await.map_err(Failure::while_applying)?;
    let row = |texts: &Vec<Option<String>>| {
        row_of(table, texts).map_err(|error| match error {
            SqlError::Node(error) => error,
            other => NodeError::Diverged(other.to_string()),
        })
    };
    let more = rows.len() >= PAGE;
    Ok((rows.iter().map(row).collect::<Result<_, _>>()?, more))
}

impl Checksum {
    fn add(&mut self, row: &[Value]) {
        let mut writer = Writer::default();
        encode_row(row, &mut writer);
        let hash = sha256(&writer.0);
        let (halves, _) = hash.as_chunks::<16>();
        for (sum, half) in self.sum.iter_mut().zip(halves) {
            *sum = sum.wrapping_add(u128::from_be_bytes(*half));
        }
        self.rows = self.rows.saturating_add(1);
    }
}
