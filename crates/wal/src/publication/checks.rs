//! Whether publishing tables would break the application that writes to them. Pure.

use super::{Operations, PublicationError, PublicationSpec, TableFacts, TableSpec};
use crate::ReplicaIdentity;

/// Checks that every table wanted can be published without harm.
///
/// The moment a table is published for updates or deletes, PostgreSQL refuses those of the *application* where the table
/// has nothing that tells its rows apart, or where a column list leaves a part of that out. Where only inserts and
/// truncations are published, none of this matters.
///
/// # Errors
/// [`PublicationError::Harmful`] for the first table of that kind, with what to do, and [`PublicationError::NoTable`].
pub fn check(
    wanted: &PublicationSpec,
    tables: &[TableFacts],
    endpoint: &str,
) -> Result<(), PublicationError> {
    let endpoint = || endpoint.to_owned();
    let facts = |spec: &TableSpec| {
        tables.iter().find(|facts| facts.schema == spec.schema && facts.name == spec.name)
    };
    let shown = |spec: &&TableSpec| format!("{}.{}", spec.schema, spec.name);
    let missing: Vec<String> =
        wanted.tables.iter().filter(|spec| facts(spec).is_none()).map(|s| shown(&s)).collect();
    if !missing.is_empty() {
        let tables = missing.join(", ");
        return Err(PublicationError::NoTable { endpoint: endpoint(), tables });
    }
    let Operations { update, delete, .. } = wanted.operations;
    if !update && !delete {
        return Ok(());
    }
    let harmful = |facts: &TableFacts, (problem, fix): (String, String)| {
        let table = format!("{}.{}", facts.schema, facts.name);
        Err(PublicationError::Harmful { endpoint: endpoint(), table, problem, fix })
    };
    if wanted.all_tables {
        for facts in tables.iter().filter(|facts| facts.partition_of.is_none()) {
            if let Some(found) = without_identity(facts) {
                return harmful(facts, found);
            }
        }
    }
    for spec in &wanted.tables {
        let Some(facts) = facts(spec) else { continue };
        if let Some(found) = without_identity(facts).or_else(|| column_left_out(spec, facts)) {
            return harmful(facts, found);
        }
    }
    Ok(())
}

fn without_identity(facts: &TableFacts) -> Option<(String, String)> {
    if facts.unidentified.is_empty() {
        return None;
    }
    let problem = match facts.identity {
        _ if facts.partitioned => {
            format!("nothing tells the rows of {} apart", facts.unidentified.join(", "))
        }
        ReplicaIdentity::Nothing => "its replica identity is set to NOTHING".to_owned(),
        ReplicaIdentity::Index => "the index of its replica identity is gone".to_owned(),
        _ if facts.deferrable_key => {
            "its primary key is deferrable, and such a key does not tell its rows apart".to_owned()
        }
        _ => "it has no primary key, and nothing else tells its rows apart".to_owned(),
    };
    let fix = format!(
        "give it a primary key that is checked at once, or run `{}`, or publish only inserts",
        facts.fix()
    );
    Some((problem, fix))
}

fn column_left_out(spec: &TableSpec, facts: &TableFacts) -> Option<(String, String)> {
    let columns = spec.columns.as_ref()?;
    if facts.identity == ReplicaIdentity::Full {
        let problem =
            "its replica identity is the whole row, and the column list is not".to_owned();
        let fix = "publish all its columns and leave some out when delivering, or run `ALTER TABLE … REPLICA IDENTITY DEFAULT`".replace('…', &facts.quoted());
        return Some((problem, fix));
    }
    let left_out: Vec<&str> = facts
        .identity_columns
        .iter()
        .filter(|column| !columns.contains(column))
        .map(String::as_str)
        .collect();
    if left_out.is_empty() {
        return None;
    }
    let left_out = left_out.join(", ");
    let problem = format!("the column list leaves out a part of its replica identity ({left_out})");
    Some((problem, "add it to the list".to_owned()))
}

/// What is wrong with a row filter that looks at columns outside the replica identity.
pub(super) fn filter_outside(
    facts: &TableFacts,
    outside: &[String],
    endpoint: &str,
) -> PublicationError {
    let table = format!("{}.{}", facts.schema, facts.name);
    let outside = outside.join(", ");
    PublicationError::Harmful {
        endpoint: endpoint.to_owned(),
        problem: format!("its row filter looks at {outside}, outside its replica identity"),
        fix: format!(
            "filter when delivering, or run `ALTER TABLE {} REPLICA IDENTITY FULL`, or publish only inserts",
            facts.quoted()
        ),
        table,
    }
}

#[cfg(test)]
mod tests;
