//! What `mesh ddl` does not do, and why.

use herdsman_node::NodeName;

use crate::error::MeshError;
use crate::install::{Found, FoundTable, Plan, Step};
use crate::table::TableName;

/// What statements may begin with: nothing that writes rows, which would be written once for each member.
const VERBS: [&str; 7] = ["alter", "create", "drop", "comment", "grant", "revoke", "reindex"];

/// Refuses statements that alter nothing.
pub(super) fn no_ddl(statements: &[String]) -> Result<(), MeshError> {
    if statements.is_empty() {
        return Err(MeshError::refused("there is no statement", "name at least one"));
    }
    for statement in statements {
        let verb = verb(statement).to_lowercase();
        if !VERBS.contains(&verb.as_str()) {
            let shown: String = statement.chars().take(60).collect();
            return Err(MeshError::refused(
                format!("`{shown}` is none of {}", VERBS.join(", ").to_uppercase()),
                "run on one node what writes rows: the mesh carries it to the others",
            ));
        }
    }
    Ok(())
}

/// The first word behind comments.
fn verb(statement: &str) -> &str {
    let mut rest = statement.trim_start();
    loop {
        let after = if let Some(line) = rest.strip_prefix("--") {
            line.split_once('\n').map_or("", |(_, after)| after)
        } else if let Some(block) = rest.strip_prefix("/*") {
            block.split_once("*/").map_or("", |(_, after)| after)
        } else {
            break;
        };
        rest = after.trim_start();
    }
    rest.split(|letter: char| !letter.is_ascii_alphabetic()).next().unwrap_or_default()
}

/// Refuses to begin where something of the mesh is to be mended first.
pub(super) fn unready(plan: &Plan) -> Result<(), MeshError> {
    let Some(step) = plan.steps.first() else { return Ok(()) };
    Err(MeshError::refused(
        format!("node `{}` is not prepared: {} is still to be done", step.node, step.what),
        "run `herdsman mesh up` first",
    ))
}

/// Refuses what leaves tables that cannot be in a mesh.
pub(super) fn unfit(plan: &Plan) -> Result<(), MeshError> {
    if plan.problems.is_empty() && plan.copies.is_empty() {
        return Ok(());
    }
    let mut problems = plan.problems.clone();
    problems.extend(
        plan.copies
            .first()
            .map(|copy| format!("table {} would come into the mesh with rows", copy.table)),
    );
    Err(MeshError::refused(
        format!("the mesh could not go on after this: {}", problems.join("; ")),
        "nothing was changed",
    ))
}

pub(super) fn not_together(step: &Step) -> MeshError {
    MeshError::refused(
        format!(
            "after this, {} would be needed on node `{}`, outside of a transaction",
            step.what, step.node
        ),
        "nothing was changed; please report it",
    )
}

pub(super) fn renamed(before: &TableName, after: &str) -> MeshError {
    MeshError::refused(
        format!(
            "table {before} would be called {after}, and its deletions are remembered by its name"
        ),
        "nothing was changed; tables of a mesh keep their names: make a new one, or a view of the new name",
    )
}

/// Where rows have no stamps, what a statement writes anew would be of another version on each node.
pub(super) fn rewritten(table: &TableName) -> MeshError {
    MeshError::refused(
        format!(
            "the statements would write table {table} anew, and when and where its rows were written would be lost, which `mode: untouched` goes by"
        ),
        "nothing was changed; add a column and fill it with an UPDATE instead, or run the statement on each node, one after another, while nobody writes that table and everything has arrived (docs/mesh.md, \"Two modes\")",
    )
}

fn was_stamped(before: &Found, name: &TableName) -> bool {
    let was = before.tables.iter().find(|known| known.table_name() == *name);
    was.is_some_and(FoundTable::stamped)
}

/// Refuses what the mesh's tables cannot lose.
pub(super) fn changed(node: &NodeName, before: &Found, after: &Found) -> Result<(), MeshError> {
    let refuse = |problem: String| Err(MeshError::refused(problem, "nothing was changed"));
    if after.own.is_none() {
        return refuse(format!("node `{node}` would not be in the mesh any more"));
    }
    for table in &after.tables {
        let name = table.table_name();
        if !before.prepared.contains_key(&name.to_string()) {
            continue;
        }
        if was_stamped(before, &name) && !table.stamped() {
            return refuse(format!("table {name} would lose the mesh's columns"));
        }
        let was = before.tables.iter().find(|known| known.table_name() == name);
        let numbers = |table: &FoundTable| -> Vec<i16> {
            table.key().iter().map(|column| column.number).collect()
        };
        if was.is_some_and(|was| numbers(was) != numbers(table)) {
            return refuse(format!(
                "the primary key of table {name} would be another one, and rows are told apart by it: make a new table with that key"
            ));
        }
    }
    Ok(())
}

/// The error of a statement that failed.
pub(super) fn failed(node: &NodeName, sql: &str, source: tokio_postgres::Error) -> MeshError {
    let code = source.code().map(|code| code.code().to_owned()).unwrap_or_default();
    let error = MeshError::Sql { node: node.clone(), what: format!("rehearse `{sql}`"), source };
    match code.as_str() {
        "25001" => MeshError::refused(
            error.to_string(),
            "nothing was changed; statements run in one transaction with what the mesh does: leave CONCURRENTLY out, or run this by hand on each node, where it leaves columns and keys as they are",
        ),
        "55P03" => MeshError::refused(
            error.to_string(),
            "nothing was changed; a transaction that is open for long holds the table: end it or wait for it",
        ),
        "42601" => MeshError::refused(
            error.to_string(),
            "nothing was changed; give each statement as an argument of its own",
        ),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_writes_rows_is_not_taken_for_an_alteration() {
        let check = |text: &str| no_ddl(&[text.to_owned()]).is_ok();
        assert!(check("alter table t add c int"));
        assert!(check("-- why\n /* and */ CREATE INDEX ON t (a)"));
        assert!(!check("UPDATE t SET a = 1"));
        assert!(!check("/* alter"));
        assert!(!check(""));
        assert!(no_ddl(&[]).is_err());
    }
}
