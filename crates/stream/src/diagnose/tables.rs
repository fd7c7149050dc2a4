//! The publication and the tables.

use herdsman_wal::inspect::ServerFacts;
use herdsman_wal::publication::{Publication, TableFacts, matching};
use herdsman_wal::{ReplicaIdentity, quote_identifier};

use super::{Facts, Finding, Wanted};

/// Tables named in one line at most.
const NAMED: usize = 10;

pub(super) fn findings(
    wanted: &Wanted,
    facts: &Facts,
    server: &ServerFacts,
    found: &mut Vec<Finding>,
) {
    let Some(tables) = &facts.tables else { return };
    let chosen = matching(tables, &wanted.tables, &wanted.exclude);
    for pattern in &wanted.tables {
        if matching(tables, std::slice::from_ref(pattern), &[]).is_empty() {
            found.push(Finding::warn(
                "tables",
                format!("no table matches `{pattern}`"),
                "check the name, letter by letter, and the database; views, foreign, temporary and unlogged tables have no changes to send",
            ));
        }
    }
    let publication = facts.publication.as_ref();
    found.push(match publication {
        None => missing(wanted, server),
        Some(publication) => present(wanted, publication),
    });
    if let Some(publication) = publication {
        found.extend(left_out(wanted, publication, &chosen));
        found.extend(operations(publication));
    }
    for table in &chosen {
        found.push(identity(table, publication));
    }
    if let Some(publication) = publication {
        // Published, and nobody asked for them: they fail all the same.
        let others = tables.iter().filter(|t| !chosen.contains(t) && publishes(publication, t));
        let broken = others.filter(|t| !t.partitioned && !t.unidentified.is_empty());
        found.extend(broken.map(|table| identity(table, Some(publication))));
    }
}

fn missing(wanted: &Wanted, server: &ServerFacts) -> Finding {
    let subject = "publication";
    let name = quote_identifier(wanted.publication.as_str());
    let says = format!("there is no publication {name} in database `{}`", server.database);
    if wanted.create && server.may_create {
        return Finding::warn(subject, says, "nothing: it is made when the stream starts");
    }
    let fix = if wanted.create {
        format!(
            "run `GRANT CREATE ON DATABASE {} TO {}` (it must own the tables too), or have their owner create the publication",
            quote_identifier(&server.database),
            quote_identifier(&server.role)
        )
    } else {
        format!(
            "run `CREATE PUBLICATION {name} FOR TABLE …` before the slot is created, or set `stream.create: true`"
        )
    };
    Finding::fail(subject, says, Some(fix))
}

fn present(wanted: &Wanted, publication: &Publication) -> Finding {
    let subject = "publication";
    let name = quote_identifier(wanted.publication.as_str());
    if publication.newer_than.contains(&wanted.slot) {
        let slot = &wanted.slot;
        return Finding::warn(
            subject,
            format!(
                "{name} was created, or its options changed, after the position that slot `{slot}` stands at: if it was created, changes before that make the stream stop with `publication does not exist` (PostgreSQL 18 leaves them out without a word)"
            ),
            "run `herdsman stream recreate`, which makes the slot anew after the publication and loses what waits in it; nothing needs to be done if only its options changed",
        );
    }
    let what = match (publication.spec.all_tables, publication.spec.tables.len()) {
        (true, _) => "all tables".to_owned(),
        (false, 1) => "1 table".to_owned(),
        (false, count) => format!("{count} tables"),
    };
    let schemas: Vec<String> =
        publication.schemas.iter().map(|s| format!(" and schema {s}")).collect();
    Finding::ok(subject, format!("{name} has {what}{}", schemas.concat()))
}

/// Tables that are wanted and that the publication does not have.
fn left_out(wanted: &Wanted, publication: &Publication, chosen: &[&TableFacts]) -> Option<Finding> {
    let missing: Vec<String> =
        chosen.iter().filter(|t| !publishes(publication, t)).map(|t| t.quoted()).collect();
    if missing.is_empty() {
        return None;
    }
    let says = format!("not in the publication, so never sent: {}", named(&missing));
    if wanted.create && publication.owned {
        return Some(Finding::warn(
            "tables",
            says,
            "nothing: they are added when the stream starts",
        ));
    }
    let name = quote_identifier(wanted.publication.as_str());
    let fix =
        format!("run as its owner: `ALTER PUBLICATION {name} ADD TABLE {}`", missing.join(", "));
    Some(Finding::fail("tables", says, Some(fix)))
}

fn operations(publication: &Publication) -> Option<Finding> {
    let operations = publication.spec.operations;
    let missing: Vec<&str> = [
        (operations.insert, "insert"),
        (operations.update, "update"),
        (operations.delete, "delete"),
        (operations.truncate, "truncate"),
    ]
    .iter()
    .filter(|(on, _)| !on)
    .map(|(_, name)| *name)
    .collect();
    if missing.is_empty() {
        return None;
    }
    let name = quote_identifier(publication.spec.name.as_str());
    Some(Finding::warn(
        "publication",
        format!("{name} does not publish: {}", missing.join(", ")),
        format!(
            "if that is not meant: `ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate')`"
        ),
    ))
}

/// What tells the rows of a table apart, and what its lack means.
fn identity(table: &TableFacts, publication: Option<&Publication>) -> Finding {
    let subject = format!("table {}.{}", table.schema, table.name);
    if table.unidentified.is_empty() {
        return Finding::ok(&subject, told_apart(table));
    }
    let why = match table.identity {
        _ if table.partitioned => {
            format!("nothing tells the rows of {} apart", named(&table.unidentified))
        }
        ReplicaIdentity::Nothing => "its replica identity is set to NOTHING".to_owned(),
        ReplicaIdentity::Index => "the index of its replica identity is gone".to_owned(),
        _ if table.deferrable_key => {
            "its primary key is deferrable, which makes it no replica identity".to_owned()
        }
        _ => "no primary key".to_owned(),
    };
    let fix = format!("give it a primary key that is checked at once, or run `{}`", table.fix());
    let operations = publication.filter(|p| publishes(p, table)).map(|p| p.spec.operations);
    match operations {
        Some(operations) if operations.update || operations.delete => Finding::fail(
            &subject,
            format!(
                "{why}: the application's own UPDATE and DELETE on it fail as long as it is published"
            ),
            Some(fix),
        ),
        Some(_) => {
            Finding::warn(&subject, format!("{why}: only its inserts can be published"), fix)
        }
        None => Finding::fail(
            &subject,
            format!(
                "{why}: it is not published, since the application's own UPDATE and DELETE on it would fail"
            ),
            Some(fix),
        ),
    }
}

fn told_apart(table: &TableFacts) -> String {
    let columns = table.identity_columns.join(", ");
    match table.identity {
        ReplicaIdentity::Full if table.has_primary_key => {
            "has a primary key; the whole old row is logged (REPLICA IDENTITY FULL)".to_owned()
        }
        ReplicaIdentity::Full => {
            "no primary key; the whole old row is logged (REPLICA IDENTITY FULL)".to_owned()
        }
        ReplicaIdentity::Index => format!("told apart by an index ({columns})"),
        _ if columns.is_empty() => "its partitions have primary keys".to_owned(),
        _ => format!("primary key ({columns})"),
    }
}

/// Whether changes of the table are sent.
fn publishes(publication: &Publication, table: &TableFacts) -> bool {
    let has = |schema: &str, name: &str| {
        publication.spec.tables.iter().any(|t| t.schema == schema && t.name == name)
            || publication.schemas.iter().any(|s| s == schema)
    };
    let root = table.partition_of.as_ref();
    publication.spec.all_tables
        || has(&table.schema, &table.name)
        || root.is_some_and(|(schema, name)| has(schema, name))
}

fn named(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMED).map(String::as_str).collect();
    let shown = shown.join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
