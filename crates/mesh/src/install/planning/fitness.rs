//! Whether a table can be in a mesh at all.

use super::Planning;
use crate::config::{Mode, UniquePolicy};
use crate::install::found::{Found, FoundColumn, FoundIndex, FoundTable};
use crate::names::{NODE, STAMP};
use crate::table::TableName;

/// Types whose equal values have different texts, or whose texts do not hold all of them.
const NO_KEYS: [&str; 5] = [
    "pg_catalog.float4",
    "pg_catalog.float8",
    "pg_catalog.jsonb",
    "pg_catalog.interval",
    "pg_catalog.json",
];

impl Planning<'_> {
    /// Collects what stands in a table's way, on every node.
    pub(super) fn fitness(&mut self, name: &TableName) {
        let mut problems = Vec::new();
        for (node, found) in &self.nodes {
            let Some(table) = found.tables.iter().find(|table| table.table_name() == *name) else {
                continue;
            };
            let unique = self.setup.config.unique;
            let mut found_problems = unfit(table, found, unique);
            if self.setup.config.mode == Mode::Untouched && unique != UniquePolicy::Halt {
                found_problems.extend(rivals(table));
            }
            for problem in found_problems {
                problems.push(format!("node `{node}`, table {name}: {problem}"));
            }
        }
        for problem in problems {
            self.problem(problem);
        }
    }
}

fn unfit(table: &FoundTable, found: &Found, unique: UniquePolicy) -> Vec<String> {
    let mut problems = kind(table);
    // The rest makes no sense for what is no ordinary table.
    if !problems.is_empty() {
        return problems;
    }
    problems.extend(key(table));
    if unique != UniquePolicy::Log {
        problems.extend(uniques(table));
    }
    problems.extend(own_columns(table));
    let quoted = table.table_name().quoted();
    for column in table.columns.iter().filter(|column| column.generated == "v") {
        problems.push(format!(
            "column \"{}\" is VIRTUAL, and nothing of a table that has such a column can be changed while its changes are published; make it STORED",
            column.name
        ));
    }
    if !table.owned {
        let (owner, role) = (&table.owner, &found.facts.role);
        problems.push(format!(
            "it belongs to \"{owner}\", and only its owner can give it columns and triggers; GRANT \"{owner}\" TO \"{role}\""
        ));
    }
    if table.row_security && !found.facts.bypasses_row_security {
        problems.push(format!(
            "row security hides rows of it from our role; ALTER ROLE \"{}\" BYPASSRLS, or ALTER TABLE {quoted} NO FORCE ROW LEVEL SECURITY",
            found.facts.role
        ));
    }
    problems
}

/// A row that gives its place to another cannot wait for it and keep its version.
fn rivals(table: &FoundTable) -> Option<String> {
    let another = table.indexes.iter().find(|index| !index.primary && index.unique)?;
    Some(format!(
        "it has another unique constraint ({}), and of two rows that claim one value none can give way with `mode: untouched`; say `unique: halt`, which stops that member until somebody has decided, or `mode: columns`",
        another.name
    ))
}

fn kind(table: &FoundTable) -> Vec<String> {
    let quoted = table.table_name().quoted();
    let problem = if table.kind == "p" {
        "it is partitioned, which the mesh cannot follow yet; take it out with `exclude`".to_owned()
    } else if table.partition {
        "it is a partition, which the mesh cannot follow yet; take it out with `exclude`".to_owned()
    } else if table.persistence == "u" {
        format!(
            "it is unlogged, so its changes are in no log; ALTER TABLE {quoted} SET LOGGED, or take it out with `exclude`"
        )
    } else if table.inherits {
        "it inherits or is inherited from; take it out with `exclude`".to_owned()
    } else if table.typed {
        format!("it is a table of a type, which takes no more columns; ALTER TABLE {quoted} NOT OF")
    } else if table.rules {
        "it has rules, which would rewrite what is applied; drop them, or take it out with `exclude`".to_owned()
    } else {
        return Vec::new();
    };
    vec![problem]
}

fn key(table: &FoundTable) -> Vec<String> {
    let quoted = table.table_name().quoted();
    let Some(index) = table.primary() else {
        return vec![format!(
            "it has no primary key, and rows are told apart by that; ALTER TABLE {quoted} ADD PRIMARY KEY (…), or take it out with `exclude`"
        )];
    };
    let mut problems = Vec::new();
    if !index.immediate {
        problems.push(
            "its primary key is deferrable, so nothing can be inserted ON CONFLICT with it; make it NOT DEFERRABLE".to_owned(),
        );
    }
    if index.exclusion {
        problems
            .push("its primary key is one WITHOUT OVERLAPS; take it out with `exclude`".to_owned());
    }
    for column in table.key() {
        if let Some(reason) = no_key(column) {
            problems.push(format!(
                "column \"{}\" ({}) of its primary key {reason}; take another key, or the table out with `exclude`",
                column.name, column.sql_type
            ));
        }
    }
    problems
}

fn no_key(column: &FoundColumn) -> Option<&'static str> {
    if !column.generated.is_empty() {
        return Some("is computed, which is too late for the trigger that remembers deleted keys");
    }
    if column.composite {
        return Some(
            "is of a composite type, of whose parts nobody knows whether equal ones have one text",
        );
    }
    if !column.deterministic || column.base.ends_with(".citext") {
        return Some("has equal values with different texts");
    }
    let numbers = column.base == "pg_catalog.numeric" && column.sql_type.ends_with("[]");
    if numbers || NO_KEYS.contains(&column.base.as_str()) {
        return Some("is of a type whose equal values have different texts");
    }
    None
}

fn uniques(table: &FoundTable) -> Vec<String> {
    let bad = |index: &&FoundIndex| {
        !index.primary && (index.unique || index.exclusion) && !index.is_plain()
    };
    let problem = |index: &FoundIndex| {
        let what = if index.exclusion && !index.unique {
            "is an exclusion constraint"
        } else if !index.immediate {
            "is deferrable"
        } else if index.partial {
            "holds for some rows only"
        } else if index.columns.contains(&0) {
            "is over an expression"
        } else if index.nulls_alike {
            "counts NULLs as equal"
        } else {
            "is not complete"
        };
        format!(
            "unique \"{}\" {what}, and which of two rows from different nodes stays cannot be told for that; drop it, or set `unique: log` and look at the conflicts",
            index.name
        )
    };
    table.indexes.iter().filter(bad).map(problem).collect()
}

/// Columns by the mesh's names that are not the mesh's.
fn own_columns(table: &FoundTable) -> Option<String> {
    let wrong = |name: &str, sql_type: &str| {
        table.column(name).is_some_and(|column| column.sql_type != sql_type || !column.not_null)
    };
    (wrong(STAMP, "bigint") || wrong(NODE, "smallint")).then(|| {
        format!("it has columns {STAMP} and {NODE} that are not as the mesh makes them; drop them")
    })
}
