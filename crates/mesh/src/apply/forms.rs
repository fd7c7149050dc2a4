//! Whether rows come in the form that a member's table has. Pure.

use herdsman_wal::DataType;

use crate::group::Rows;
use crate::table::{Table, TableName};

/// A table whose rows come in another form than the member's table has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// The bare name of its tombstones.
    pub(crate) gone: Box<str>,
    /// Its name, where that is known: of one that is not there, and of which only deletions came, it is not.
    pub(crate) table: Option<TableName>,
    /// How they differ.
    pub(crate) differs: Vec<Difference>,
}

/// How the form of rows differs from a table's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Difference {
    /// The member has no such table.
    Table,
    /// Only the member has this column.
    Here(Box<str>),
    /// Only the rows have it.
    There(Box<str>),
    /// It is of these types: the member's and the rows'.
    Type(Box<str>, Box<str>, Box<str>),
}

impl Misfit {
    /// Its name, as far as it is known.
    pub(crate) fn name(&self) -> String {
        self.table.as_ref().map_or_else(|| self.gone.to_string(), ToString::to_string)
    }

    /// Whether older rows can be put into the table by leaving out and filling in columns: not where some are missing
    /// and others are new, which may be one that has got another name.
    pub(crate) fn is_clear(&self) -> bool {
        let here = self.differs.iter().any(|differs| matches!(differs, Difference::Here(_)));
        let there = self.differs.iter().any(|differs| matches!(differs, Difference::There(_)));
        !(here && there)
    }

    /// How they differ, in words.
    pub(crate) fn told(&self, here: &str, there: &str) -> String {
        let each = self.differs.iter().map(|differs| match differs {
            Difference::Table => format!("node `{here}` does not have it in the mesh"),
            Difference::Here(column) => {
                format!("column \"{column}\" is on node `{here}` and not on node `{there}`")
            }
            Difference::There(column) => {
                format!("column \"{column}\" is on node `{there}` and not on node `{here}`")
            }
            Difference::Type(column, ours, theirs) => {
                format!(
                    "column \"{column}\" is {ours} on node `{here}` and {theirs} on node `{there}`"
                )
            }
        });
        each.collect::<Vec<_>>().join(", ")
    }
}

/// How these rows differ from the table.
pub(super) fn differing(table: &Table, rows: &Rows) -> Vec<Difference> {
    let mut differs = Vec::new();
    for (column, _) in rows.columns() {
        let Some(ours) = table.columns.iter().find(|ours| ours.name == column.name) else {
            differs.push(Difference::There(column.name.clone()));
            continue;
        };
        if let Some(theirs) = type_name(&column.data_type, column.type_modifier)
            && is_known(&ours.sql_type)
            && !same(&ours.sql_type, &theirs)
        {
            let name = column.name.clone();
            differs.push(Difference::Type(name, ours.sql_type.clone(), theirs.into()));
        }
    }
    for (_, ours) in table.written() {
        if !rows.columns().any(|(column, _)| column.name == ours.name) {
            differs.push(Difference::Here(ours.name.clone()));
        }
    }
    differs
}

/// Built-in types whose names differ in `pg_type` and as SQL writes them, and that values are not all told apart by.
const TYPES: [(&str, &str); 17] = [
    ("int2", "smallint"),
    ("int4", "integer"),
    ("int8", "bigint"),
    ("float4", "real"),
    ("float8", "double precision"),
    ("numeric", "numeric"),
    ("bool", "boolean"),
    ("text", "text"),
    ("varchar", "character varying"),
    ("bpchar", "character"),
    ("bytea", "bytea"),
    ("date", "date"),
    ("timestamp", "timestamp without time zone"),
    ("timestamptz", "timestamp with time zone"),
    ("uuid", "uuid"),
    ("json", "json"),
    ("jsonb", "jsonb"),
];

/// The type as SQL writes it, where it is one of those; the modifier of numeric alone, since there a cast rounds.
fn type_name(data_type: &DataType, modifier: i32) -> Option<String> {
    if &*data_type.schema != "pg_catalog" {
        return None;
    }
    let (_, name) = TYPES.iter().find(|(internal, _)| *internal == &*data_type.name)?;
    if &*data_type.name == "numeric" && modifier >= 4 {
        let modifier = modifier - 4;
        let (precision, scale) = ((modifier >> 16) & 0xffff, modifier & 0x7ff);
        // Eleven bits with a sign.
        let scale = (scale ^ 1024) - 1024;
        return Some(format!("numeric({precision},{scale})"));
    }
    Some((*name).to_owned())
}

/// The type without its modifier.
fn bare(sql_type: &str) -> String {
    let (before, rest) = sql_type.split_once('(').unwrap_or((sql_type, ""));
    let after = rest.split_once(')').map_or("", |(_, after)| after);
    format!("{before}{after}")
}

fn is_known(sql_type: &str) -> bool {
    let bare = bare(sql_type);
    TYPES.iter().any(|(_, name)| *name == bare)
}

fn same(ours: &str, theirs: &str) -> bool {
    if bare(theirs) == "numeric" { ours == theirs } else { bare(ours) == theirs }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_apart_as_sql_writes_them() {
        for (ours, theirs, alike) in [
            ("integer", "integer", true),
            ("integer", "bigint", false),
            ("character varying(10)", "character varying", true),
            ("timestamp(3) without time zone", "timestamp without time zone", true),
            ("timestamp with time zone", "timestamp without time zone", false),
            ("numeric(10,2)", "numeric(10,2)", true),
            ("numeric(10,2)", "numeric(10,4)", false),
            ("numeric(10,2)", "numeric", false),
        ] {
            assert_eq!(same(ours, theirs), alike, "{ours} {theirs}");
        }
        assert!(is_known("character(3)") && !is_known("integer[]") && !is_known("mood"));
    }
}
