//! Doing what the log says.

use super::{
    guard,
    notes::{self, number},
};
use crate::{
    Value,
    node::{
        NodeError,
        dialect::{Dialect, Failure, Session, capture_table},
    },
    replica::{Act, Step},
    table::{Catalogue, Reference, Table, TableChange},
    value::Kind,
    writes::RowChange,
};

/// All steps, in one transaction; but for a change of a table where that cannot be rolled back, which is one of its own.
pub(super) async fn all<D: Dialect>(
    dialect: &D,
    session: &mut D::Session,
    steps: &[Step],
    token: &str,
) -> Result<(), NodeError> {
    let alone = |step: &Step| matches!(step.act, Act::Define(_)) && !dialect.transactional_ddl();
    for part in steps.chunk_by(|one, next| !alone(one) && !alone(next)) {
        if let [step @ Step { act: Act::Define(change), .. }] = part
            && alone(step)
            && prepare(dialect, session, step, change, token).await? == Found::There
        {
            continue;
        }
        together(dialect, session, part, token).await?;
    }
    Ok(())
}

#[derive(PartialEq, Eq)]
enum Found {
    /// It was all done before.
    There,
    /// It is to be done.
    Before,
}

/// Whether the node is where these steps begin.
async fn find<D: Dialect>(
    dialect: &D,
    session: &mut D::Session,
    part: &[Step],
    token: &str,
) -> Result<(Found, notes::Place), NodeError> {
    let place = notes::place(dialect, session).await?;
    guard::check(&place, token)?;
    if let Some(why) = &place.fenced {
        return Err(NodeError::Diverged(why.clone()));
    }
    let (Some(first), Some(last)) = (part.first(), part.last()) else {
        return Ok((Found::There, place));
    };
    if place.applied >= last.at {
        // What failed last time was but the word that it was done; or somebody else did it.
        return if place.applied > last.at || place.hash == last.hash {
            Ok((Found::There, place))
        } else {
            Err(NodeError::Diverged(format!("it has another log's entry {}", last.at)))
        };
    }
    if place.applied.next() != first.at {
        let expected = crate::Offset(first.at.0.saturating_sub(1));
        return Err(NodeError::Moved { expected, found: place.applied });
    }
    Ok((Found::Before, place))
}

/// A change of a table, where each statement commits by itself. It is marked before it is begun, and each of its
/// statements may be repeated: after a crash in the middle it is done again from its start.
async fn prepare<D: Dialect>(
    dialect: &D,
    session: &mut D::Session,
    step: &Step,
    change: &TableChange,
    token: &str,
) -> Result<Found, NodeError> {
    let (found, place) = find(dialect, session, std::slice::from_ref(step), token).await?;
    if found == Found::There {
        return Ok(found);
    }
    if place.pending != Some(step.at) {
        refuse_strangers(dialect, session, change).await?;
        let sql = format!(
            "UPDATE _ledger_state SET pending = {} WHERE one = 1",
            dialect.value(Kind::Int64, 1)
        );
        session.execute(&sql, &[number(step.at.0)]).await.map_err(Failure::while_applying)?;
    }
    let catalogue = notes::catalogue(dialect, session).await.map_err(Failure::while_applying)??;
    for sql in ddl(dialect, change, &catalogue) {
        session.command(&sql).await.map_err(Failure::while_applying)?;
    }
    Ok(found)
}

/// A table of that name that the log knows nothing of is somebody else's.
pub(super) async fn refuse_strangers<D: Dialect>(
    dialect: &D,
    session: &mut D::Session,
    change: &TableChange,
) -> Result<(), NodeError> {
    let TableChange::Create(table) = change else { return Ok(()) };
    let sql = format!("SELECT count(*) FROM {}", dialect.quote(&table.name));
    match session.select(&sql, &[]).await {
        Err(Failure::Refused { .. }) => Ok(()),
        Err(failure) => Err(failure.while_applying()),
        Ok(_) => Err(NodeError::Diverged(format!(
            "it has a table {:?} already that the log knows nothing of",
            table.name
        ))),
    }
}

async fn together<D: Dialect>(
    dialect: &D,
    session: &mut D::Session,
    part: &[Step],
    token: &str,
) -> Result<(), NodeError> {
    session.command(dialect.begin_apply()).await.map_err(Failure::while_applying)?;
    // Whoever else drove this node waits here, and then finds it done, or another's.
    let lock = "UPDATE _ledger_state SET one = 1 WHERE one = 1";
    session.execute(lock, &[]).await.map_err(Failure::while_applying)?;
    let (found, place) = find(dialect, session, part, token).await?;
    if found == Found::There {
        return session.command("ROLLBACK").await.map_err(Failure::while_applying);
    }
    let mut catalogue =
        notes::catalogue(dialect, session).await.map_err(Failure::while_applying)??;
    for step in part {
        match &step.act {
            Act::Nothing => {}
            Act::Rows(rows) => self::rows(dialect, session, rows, &catalogue)
                .await
                .map_err(|error| at(step, error))?,
            Act::Define(change) => {
                if dialect.transactional_ddl() {
                    for sql in ddl(dialect, change, &catalogue) {
                        session.command(&sql).await.map_err(|it| at(step, it.while_applying()))?;
                    }
                }
                change
                    .apply(&mut catalogue)
                    .map_err(|refused| at(step, NodeError::Diverged(format!("{refused:?}"))))?;
                let (name, table) = (change.table(), catalogue.0.get(change.table()));
                notes::define(dialect, session, name, table)
                    .await
                    .map_err(Failure::while_applying)?;
            }
        }
        notes::note(dialect, session, step).await.map_err(Failure::while_applying)?;
    }
    let Some(last) = part.last() else { return Ok(()) };
    let done = async {
        let value = |kind, number| dialect.value(kind, number);
        let sql = format!(
            "UPDATE _ledger_state SET applied = {}, hash = {}, pending = NULL WHERE one = 1",
            value(Kind::Int64, 1),
            value(notes::TEXT, 2)
        );
        session.execute(&sql, &[number(last.at.0), Value::Text(last.hash.to_string())]).await?;
        // One more than the window: the log's tail is checked against it.
        let old = last.at.0.saturating_sub(place.window);
        let sql = format!("DELETE FROM _ledger_outcome WHERE at < {}", value(Kind::Int64, 1));
        session.execute(&sql, &[number(old)]).await?;
        session.command("COMMIT").await
    };
    done.await.map_err(Failure::while_applying)
}

fn at(step: &Step, error: NodeError) -> NodeError {
    match error {
        NodeError::Diverged(why) => NodeError::Diverged(format!("entry {}: {why}", step.at)),
        other => other,
    }
}

/// First what goes, then what changes, then what comes: rows may pass unique values to each other.
async fn rows<D: Dialect>(
    dialect: &D,
    session: &mut D::Session,
    changes: &[RowChange],
    catalogue: &Catalogue,
) -> Result<(), NodeError> {
    let mut later = Vec::new();
    let mut last = Vec::new();
    for change in changes {
        let table = catalogue
            .0
            .get(&change.table)
            .ok_or_else(|| NodeError::Diverged(format!("it has no table {:?}", change.table)))?;
        if let Some(row) =
            change.before.iter().chain(&change.after).find(|row| row.len() != table.columns.len())
        {
            let (found, wanted) = (row.len(), table.columns.len());
            let why = format!("table {} has {wanted} columns, and the log {found}", table.name);
            return Err(NodeError::Diverged(why));
        }
        match (&change.before, &change.after) {
            (Some(before), Some(after)) if !takes_another_unique_value(table, before, after) => {
                later.push((table, before, after));
            }
            (before, after) => {
                if let Some(before) = before {
                    delete(dialect, session, table, before).await?;
                }
                last.extend(after.as_ref().map(|after| (table, after)));
            }
        }
    }
    for (table, before, after) in later {
        update(dialect, session, table, before, after).await?;
    }
    for (table, after) in last {
        insert(dialect, session, table, after).await?;
    }
    Ok(())
}

fn takes_another_unique_value(table: &Table, before: &[Value], after: &[Value]) -> bool {
    let differs = |at: &usize| before.get(*at) != after.get(*at);
    table.uniques.iter().flatten().any(differs)
}

pub(super) async fn insert<D: Dialect>(
    dialect: &D,
    session: &mut D::Session,
    table: &Table,
    row: &[Value],
) -> Result<(), NodeError> {
    let names: Vec<String> = table.columns.iter().map(|it| dialect.quote(&it.name)).collect();
    let places: Vec<String> =
        table.columns.iter().enumerate().map(|(i, it)| dialect.value(it.kind, i + 1)).collect();
    let sql = format!(
        "INSERT INTO {} ({}) VALUES ({})",
        dialect.quote(&table.name),
        names.join(", "),
        places.join(", ")
    );
    one(session, table, row, &sql, row).await
}

async fn delete<D: Dialect>(
    dialect: &D,
    session: &mut D::Session,
    table: &Table,
    before: &[Value],
) -> Result<(), NodeError> {
    let found = is_as_it_was(dialect, table, 1);
    let sql = format!("DELETE FROM {} WHERE {found}", dialect.quote(&table.name));
    one(session, table, before, &sql, &found_by(table, before)).await
}

async fn update<D: Dialect>(
    dialect: &D,
    session: &mut D::Session,
    table: &Table,
    before: &[Value],
    after: &[Value],
) -> Result<(), NodeError> {
    let mut sets = Vec::new();
    let mut values = Vec::new();
    for ((column, before), after) in table.columns.iter().zip(before).zip(after) {
        if before != after {
            values.push(after.clone());
            sets.push(format!(
                "{} = {}",
                dialect.quote(&column.name),
                dialect.value(column.kind, values.len())
            ));
        }
    }
    let found = is_as_it_was(dialect, table, values.len() + 1);
    values.extend(found_by(table, before));
    let sql =
        format!("UPDATE {} SET {} WHERE {found}", dialect.quote(&table.name), sets.join(", "));
    one(session, table, before, &sql, &values).await
}

/// The condition that a row has this key and all these values.
fn is_as_it_was<D: Dialect>(dialect: &D, table: &Table, first: usize) -> String {
    let key = table.key.iter().filter_map(|at| table.columns.get(*at)).map(|it| (it, "="));
    let all = table.columns.iter().map(|it| (it, dialect.same()));
    let conditions: Vec<String> = key
        .chain(all)
        .enumerate()
        .map(|(i, (column, operator))| {
            format!(
                "{} {operator} {}",
                dialect.quote(&column.name),
                dialect.value(column.kind, first + i)
            )
        })
        .collect();
    conditions.join(" AND ")
}

fn found_by(table: &Table, row: &[Value]) -> Vec<Value> {
    table.key_of(row).into_iter().chain(row).cloned().collect()
}

/// Exactly one row, or the node is not what the log made it.
async fn one<S: Session>(
    session: &mut S,
    table: &Table,
    row: &[Value],
    sql: &str,
    values: &[Value],
) -> Result<(), NodeError> {
    let about = || format!("table {}, row {:?}", table.name, table.key_of(row));
    match session.execute(sql, values).await.map_err(Failure::while_applying) {
        Ok(1) => Ok(()),
        Ok(_) => Err(NodeError::Diverged(format!("{}: it is not as the log has it", about()))),
        Err(NodeError::Diverged(why)) => Err(NodeError::Diverged(format!("{}: {why}", about()))),
        Err(error) => Err(error),
    }
}

/// An engine's statements for a change of a table.
pub(super) fn ddl<D: Dialect>(
    dialect: &D,
    change: &TableChange,
    catalogue: &Catalogue,
) -> Vec<String> {
    match change {
        TableChange::Create(table) => {
            let mut all = create(dialect, table, catalogue);
            all.extend(cascades(dialect, table, change, catalogue));
            all
        }
        TableChange::AddColumn { table, column } => {
            let Some(old) = catalogue.0.get(table) else { return Vec::new() };
            let mut new = old.clone();
            if new.columns.iter().all(|it| it.name != column.name) {
                new.columns.push(column.clone());
            }
            let there = if dialect.transactional_ddl() { "" } else { "IF NOT EXISTS " };
            let mut all = vec![format!(
                "ALTER TABLE {} ADD COLUMN {there}{}",
                dialect.quote(table),
                dialect.column(column, false)
            )];
            for prefix in ["o", "n"] {
                let name = dialect.quote(&format!("{prefix}_{}", column.name));
                let kind = dialect.captured(column.kind);
                let capture = dialect.quote(&capture_table(table));
                all.push(format!("ALTER TABLE {capture} ADD COLUMN {there}{name} {kind}"));
            }
            all.extend(dialect.triggers(&new));
            all
        }
        TableChange::Drop { table } => {
            let old = catalogue.0.get(table);
            let mut all =
                old.map(|old| cascades(dialect, old, change, catalogue)).unwrap_or_default();
            all.extend(drop_alone(dialect, table));
            all
        }
    }
}

/// A table goes, and nobody is told.
pub(super) fn drop_alone<D: Dialect>(dialect: &D, table: &str) -> Vec<String> {
    let drop = |name: &str| format!("DROP TABLE IF EXISTS {}", dialect.quote(name));
    let mut all = vec![drop(table), drop(&capture_table(table))];
    all.extend(dialect.drop_rest(table));
    all
}

/// What the tables that this one refers to are to do from then on when a row of theirs goes.
fn cascades<D: Dialect>(
    dialect: &D,
    table: &Table,
    change: &TableChange,
    catalogue: &Catalogue,
) -> Vec<String> {
    let mut after = catalogue.clone();
    // The log's replica has found it to be allowed.
    if change.apply(&mut after).is_err() {
        return Vec::new();
    }
    let names: std::collections::BTreeSet<&str> =
        table.references.iter().map(|it| it.parent.as_str()).collect();
    let parents = names.into_iter().filter_map(|name| after.0.get(name));
    parents.flat_map(|parent| cascade(dialect, parent, &after)).collect()
}

/// What a table does when a row of it goes, where the engine does not do it by itself.
pub(super) fn cascade<D: Dialect>(
    dialect: &D,
    parent: &Table,
    catalogue: &Catalogue,
) -> Vec<String> {
    let children: Vec<(&Table, &Reference)> = catalogue.referring_to(&parent.name).collect();
    dialect.cascade(parent, &children)
}

pub(super) fn create<D: Dialect>(dialect: &D, table: &Table, catalogue: &Catalogue) -> Vec<String> {
    let there = if dialect.transactional_ddl() { "" } else { "IF NOT EXISTS " };
    let columns =
        table.columns.iter().enumerate().map(|(i, it)| dialect.column(it, table.is_in_a_key(i)));
    let names_of = |table: &Table, key: &[usize]| {
        let columns = key.iter().filter_map(|at| table.columns.get(*at));
        columns.map(|it| dialect.quote(&it.name)).collect::<Vec<_>>().join(", ")
    };
    let names = |key: &Vec<usize>| names_of(table, key);
    let mut lines: Vec<String> = columns.collect();
    lines.push(format!("PRIMARY KEY ({})", names(&table.key)));
    lines.extend(table.uniques.iter().map(|key| format!("UNIQUE ({})", names(key))));
    for reference in &table.references {
        let parent = if reference.parent == table.name {
            Some(table)
        } else {
            catalogue.0.get(&reference.parent)
        };
        let Some(parent) = parent else { continue };
        let key = parent.key_named(&reference.key).and_then(|which| parent.key_at(which));
        lines.push(format!(
            "FOREIGN KEY ({}) REFERENCES {} ({}){}",
            names(&reference.columns),
            dialect.quote(&parent.name),
            names_of(parent, key.unwrap_or_default()),
            dialect.on_delete(reference.on_delete)
        ));
    }
    let options = dialect.table_options();
    let main = format!(
        "CREATE TABLE {there}{} ({}){options}",
        dialect.quote(&table.name),
        lines.join(", ")
    );
    let mut captured =
        vec![dialect.numbered().to_owned(), format!("op {} NOT NULL", dialect.own_text())];
    for prefix in ["o", "n"] {
        captured.extend(table.columns.iter().map(|it| {
            format!(
                "{} {}",
                dialect.quote(&format!("{prefix}_{}", it.name)),
                dialect.captured(it.kind)
            )
        }));
    }
    let capture = dialect.quote(&capture_table(&table.name));
    let capture = format!("CREATE TABLE {there}{capture} ({}){options}", captured.join(", "));
    let mut all = vec![main, capture];
    all.extend(dialect.triggers(table));
    all
}
