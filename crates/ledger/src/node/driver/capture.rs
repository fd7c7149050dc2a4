//! Running a client's transaction, to see what it would change.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Shared, notes};
use crate::{
    Offset, Value,
    node::{
        Answer, Captured, NodeError, SqlError, Transaction,
        dialect::{Dialect, Failure, Session as _, capture_table, check_statement},
    },
    table::{Catalogue, Table},
    writes::{RowChange, fold},
};

struct Running<D: Dialect> {
    shared: Arc<Shared<D>>,
    /// Dropped in the middle, it is closed, and the engine rolls back.
    session: D::Session,
    base: Offset,
    catalogue: Catalogue,
    affected: u64,
    failed: bool,
}

pub(super) async fn begin<D: Dialect>(
    shared: Arc<Shared<D>>,
) -> Result<Box<dyn Transaction>, SqlError> {
    let mut session = shared.capturing().await?;
    for sql in shared.dialect.begin_snapshot() {
        session.command(sql).await?;
    }
    // In the snapshot of the data: a place read outside of it would let updates be lost.
    let place = notes::place(&shared.dialect, &mut session).await?;
    if let Some(why) = place.fenced {
        return Err(NodeError::Diverged(why).into());
    }
    let catalogue = notes::catalogue(&shared.dialect, &mut session).await??;
    let (base, affected) = (place.applied, 0);
    Ok(Box::new(Running { shared, session, base, catalogue, affected, failed: false }))
}

#[async_trait]
impl<D: Dialect> Transaction for Running<D> {
    fn base(&self) -> Offset {
        self.base
    }

    async fn run(&mut self, sql: &str) -> Result<Answer, SqlError> {
        if self.failed {
            // As PostgreSQL has it; the others would go on after an error, each in its way.
            let message = "the transaction failed, and nothing more can be run in it";
            return Err(Failure::refused("25P02", message).into());
        }
        self.failed = true;
        check_statement(sql)?;
        let answer = self.session.statement(sql).await?;
        self.affected = self.affected.saturating_add(answer.affected);
        self.failed = false;
        Ok(answer)
    }

    async fn capture(mut self: Box<Self>) -> Result<Captured, SqlError> {
        if self.failed {
            return Err(
                Failure::refused("25P02", "the transaction failed, and cannot commit").into()
            );
        }
        let mut captured = Vec::new();
        for table in self.catalogue.0.values() {
            captured.extend(changes_of(&self.shared.dialect, &mut self.session, table).await?);
        }
        self.session.command("ROLLBACK").await?;
        if captured.is_empty() && self.affected > 0 {
            let message = "the statement changed a table that does not belong to the ledger; only the ledger's own can be changed through it";
            return Err(Failure::refused("0A000", message).into());
        }
        let rows = fold(captured, &self.catalogue)
            .map_err(|unfit| Failure::refused("22000", unfit.to_string()))?;
        let Self { shared, session, base, catalogue, .. } = *self;
        shared.give_back(session);
        Ok(Captured { base, catalogue, rows })
    }
}

async fn changes_of<D: Dialect>(
    dialect: &D,
    session: &mut D::Session,
    table: &Table,
) -> Result<Vec<RowChange>, SqlError> {
    let side = |prefix: &str| {
        let column = |it: &crate::table::Column| {
            dialect.text_of(it.kind, &dialect.quote(&format!("{prefix}_{}", it.name)))
        };
        table.columns.iter().map(column).collect::<Vec<_>>().join(", ")
    };
    let capture = dialect.quote(&capture_table(&table.name));
    let sql = format!("SELECT op, {}, {} FROM {capture} ORDER BY seq", side("o"), side("n"));
    let rows = session.select(&sql, &[]).await?;
    rows.into_iter().map(|row| change_of(table, row)).collect()
}

fn change_of(table: &Table, row: Vec<Option<String>>) -> Result<RowChange, SqlError> {
    let mut cells = row.into_iter();
    let op = cells.next().flatten().unwrap_or_default();
    let mut side = |there: bool| -> Result<Option<Vec<Value>>, SqlError> {
        let texts: Vec<Option<String>> = cells.by_ref().take(table.columns.len()).collect();
        if !there {
            return Ok(None);
        }
        row_of(table, &texts).map(Some)
    };
    let before = side(op != "i")?;
    let after = side(op != "d")?;
    Ok(RowChange { table: table.name.clone(), before, after })
}

/// A row as an engine gave it.
pub(super) fn row_of(table: &Table, texts: &[Option<String>]) -> Result<Vec<Value>, SqlError> {
    let value = |(column, text): (&crate::table::Column, &Option<String>)| {
        let Some(text) = text else { return Ok(Value::Null) };
        Value::of_text(column.kind, text).map_err(|unfit| {
            let message = format!("{}.{}: {unfit}", table.name, column.name);
            SqlError::from(Failure::refused("22000", message))
        })
    };
    table.columns.iter().zip(texts).map(value).collect()
}
