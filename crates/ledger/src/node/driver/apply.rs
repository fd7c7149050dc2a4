//! Doing what the log says.

use super::{
    guard,
    notes::{self, number},
    plan::Plan,
    tables::Tables,
};
use crate::{
    Value,
    node::{
        NodeError,
        dialect::{Ask, Dialect, Failure, Session, capture_table, next_rows},
    },
    replica::{Act, Step},
    table::{Catalogue, Reference, Table, TableChange},
    value::Kind,
};

/// How often what came of entries long past is forgotten, in entries.
const FORGET_EVERY: u64 = 1024;

/// All steps, in one transaction; but for a change of a table where that cannot be rolled back, which is one of its own.
pub(super) async fn all<D: Dialect>(
    dialect: &D,
    session: &mut D::Session,
    steps: &[Step],
    token: &str,
    tables: &Tables,
) -> Result<(), NodeError> {
    let alone = |step: &Step| is_define(step) && !dialect.transactional_ddl();
    for part in steps.chunk_by(|one, next| !alone(one) && !alone(next)) {
        if let [step @ Step { act: Act::Define(change), .. }] = part
            && alone(step)
            && prepare(dialect, session, step, change, token).await? == Found::There
        {
            continue;
        }
        match together(dialect, session, part, token, tables).await {
            // So that it is known which of them does not fit, and those before it are there.
            Err(NodeError::Diverged(_)) if part.len() > 1 => {
                session.command("ROLLBACK").await.map_err(Failure::while_applying)?;
                for step in part {
                    let step = std::slice::from_ref(step);
                    together(dialect, session, step, token, tables).await?;
                }
            }
            done => done?,
        }
    }
    Ok(())
}

fn is_define(step: &Step) -> bool {
    matches!(step.act, Act::Define(_))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// It was all done before.
    There,
    /// It is to be done, but for so many of the first steps.
    After(usize),
}

/// How much of these steps the node has.
fn find(place: &notes::Place, part: &[Step], token: &str) -> Result<Found, NodeError> {
    guard::check(place.guard.as_ref(), token)?;
    if let Some(why) = &place.fenced {
        return Err(NodeError::Diverged(why.clone()));
    }
    let (Some(first), Some(last)) = (part.first(), part.last()) else { return Ok(Found::There) };
    if place.applied > last.at {
        return Ok(Found::There);
    }
    if place.applied.next() == first.at {
        return Ok(Found::After(0));
    }
    // What failed last time was but the word that it was done; or it was done one by one, up to there; or somebody else
    // did it.
    let Some(done) = part.iter().position(|step| step.at == place.applied) else {
        let expected = crate::Offset(first.at.0.saturating_sub(1));
        return Err(NodeError::Moved { expected, found: place.applied });
    };
    match part.get(done) {
        Some(step) if step.hash == place.hash && step.at == last.at => Ok(Found::There),
        Some(step) if step.hash == place.hash => Ok(Found::After(done + 1)),
        _ => Err(NodeError::Diverged(format!("it has another log's entry {}", place.applied))),
    }
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
    let place = notes::place(dialect, session).await?;
    let found = find(&place, std::slice::from_ref(step), token)?;
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
    tables: &Tables,
) -> Result<(), NodeError> {
    let begin = vec![
        Ask::command(dialect.begin_apply()),
        // Whoever else drove this node waits here, and then finds it done, or another's.
        Ask::Execute("UPDATE _ledger_state SET one = 1 WHERE one = 1".to_owned(), Vec::new()),
        Ask::select(notes::PLACE),
    ];
    let mut told = session.together(begin).await.all().map_err(Failure::while_applying)?.skip(2);
    let place = notes::place_of(&next_rows(&mut told))?;
    let Found::After(done) = find(&place, part, token)? else {
        return session.command("ROLLBACK").await.map_err(Failure::while_applying);
    };
    let part = part.get(done..).unwrap_or_default();
    let known = tables.of(place.defined, dialect, session).await?;
    let mut catalogue = std::borrow::Cow::Borrowed(&*known);
    let mut plan = Plan::default();
    for steps in part.chunk_by(|one, next| !is_define(one) && !is_define(next)) {
        if let [step @ Step { act: Act::Define(change), .. }] = steps {
            // What comes before it is of the tables as they were.
            carry_out(session, std::mem::take(&mut plan)).await?;
            define(dialect, session, step, change, catalogue.to_mut()).await?;
        } else {
            plan.entries(dialect, steps, &catalogue)?;
        }
    }
    for ask in notes::notes(dialect, part.iter().map(notes::note_of)) {
        plan.say(ask);
    }
    let Some(last) = part.last() else { return Ok(()) };
    let value = |kind, number| dialect.value(kind, number);
    let sql = format!(
        "UPDATE _ledger_state SET applied = {}, hash = {}, pending = NULL WHERE one = 1",
        value(Kind::Int64, 1),
        value(notes::TEXT, 2)
    );
    plan.say(Ask::Execute(sql, vec![number(last.at.0), Value::Text(last.hash.to_string())]));
    if place.applied.0 / FORGET_EVERY != last.at.0 / FORGET_EVERY {
        // One more than the window: the log's tail is checked against it.
        let old = last.at.0.saturating_sub(place.window);
        let sql = format!("DELETE FROM _ledger_outcome WHERE at < {}", value(Kind::Int64, 1));
        plan.say(Ask::Execute(sql, vec![number(old)]));
    }
    carry_out(session, plan).await?;
    session.command("COMMIT").await.map_err(Failure::while_applying)
}

/// Says it all, in the transaction that is open.
async fn carry_out<S: Session>(session: &mut S, plan: Plan) -> Result<(), NodeError> {
    if plan.is_empty() {
        return Ok(());
    }
    let (asks, judge) = plan.parts();
    judge.judge(session.together(asks).await)
}

/// New rows of a table, in the transaction that is open.
pub(super) async fn insert<D: Dialect>(
    dialect: &D,
    session: &mut D::Session,
    table: &Table,
    rows: &[Vec<Value>],
) -> Result<(), NodeError> {
    let mut plan = Plan::default();
    let rows: Vec<_> = rows.iter().map(|row| (crate::Offset::GENESIS, row.as_slice())).collect();
    plan.insert(dialect, table, &rows);
    carry_out(session, plan).await
}

/// Changes a table; of an engine where that commits by itself, what is left of it.
async fn define<D: Dialect>(
    dialect: &D,
    session: &mut D::Session,
    step: &Step,
    change: &TableChange,
    catalogue: &mut Catalogue,
) -> Result<(), NodeError> {
    if dialect.transactional_ddl() {
        for sql in ddl(dialect, change, catalogue) {
            session.command(&sql).await.map_err(|it| at(step, it.while_applying()))?;
        }
    }
    change
        .apply(catalogue)
        .map_err(|refused| at(step, NodeError::Diverged(format!("{refused:?}"))))?;
    let (name, table) = (change.table(), catalogue.0.get(change.table()));
    notes::define(dialect, session, name, table).await.map_err(Failure::while_applying)?;
    notes::defined(dialect, session, step.at).await.map_err(Failure::while_applying)
}

fn at(step: &Step, error: NodeError) -> NodeError {
    match error {
        NodeError::Diverged(why) => NodeError::Diverged(format!("entry {}: {why}", step.at)),
        other => other,
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
            let prefixes = ["o", "n"].into_iter().filter(|_| has_capture_tables(dialect));
            for prefix in prefixes {
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
    let mut all = vec![drop(table)];
    all.extend(has_capture_tables(dialect).then(|| drop(&capture_table(table))));
    all.extend(dialect.drop_rest(table));
    all
}

fn has_capture_tables<D: Dialect>(dialect: &D) -> bool {
    dialect.captured_at_once().is_none()
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
    let mut all = vec![main];
    all.extend(has_capture_tables(dialect).then(|| create_capture(dialect, table)));
    all.extend(dialect.triggers(table));
    all
}

fn create_capture<D: Dialect>(dialect: &D, table: &Table) -> String {
    let there = if dialect.transactional_ddl() { "" } else { "IF NOT EXISTS " };
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
    let options = dialect.table_options();
    format!("CREATE TABLE {there}{capture} ({}){options}", captured.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ChainHash, Offset, replica::Outcome};

    fn hash(of: u8) -> ChainHash {
        ChainHash([of; 32])
    }

    fn step(at: u8) -> Step {
        Step {
            at: Offset(at.into()),
            hash: hash(at),
            attempt: None,
            outcome: Outcome::Noted,
            act: Act::Nothing,
        }
    }

    #[test]
    fn steps_begin_where_the_node_is_and_nowhere_else() {
        let part: Vec<Step> = (5..9).map(step).collect();
        let find = |applied: u8, of: u8| {
            let place = notes::Place {
                applied: Offset(applied.into()),
                hash: hash(of),
                window: 10,
                defined: Offset(1),
                pending: None,
                fenced: None,
                guard: None,
            };
            super::find(&place, &part, "ours")
        };
        assert_eq!(find(4, 4), Ok(Found::After(0)));
        assert_eq!(find(6, 6), Ok(Found::After(2)), "two were done one by one");
        assert_eq!(find(8, 8), Ok(Found::There), "only the word of it was lost");
        assert_eq!(find(9, 9), Ok(Found::There));
        assert!(matches!(find(3, 3), Err(NodeError::Moved { .. })));
        for applied in [6, 8] {
            assert!(matches!(find(applied, 99), Err(NodeError::Diverged(_))), "another log's");
        }
    }
}
