//! Columns: which a batch and a table share, and how their types are written.

use crate::table::{Column, Table};

/// Which columns of a table take what a batch's columns bring: for each of these its place in the table, `None` where it
/// is computed there.
///
/// # Errors
/// A column that only one of the two has.
pub(crate) fn taken<'n>(
    table: &Table,
    names: impl Iterator<Item = &'n str>,
) -> Result<Vec<Option<usize>>, Missing> {
    let mut here = vec![false; table.columns.len()];
    let mut taken = Vec::new();
    for name in names {
        let at = table.columns.iter().position(|column| &*column.name == name);
        let Some(at) = at else { return Err(Missing { column: name.into(), here: false }) };
        if let Some(here) = here.get_mut(at) {
            *here = true;
        }
        taken.push(Some(at).filter(|at| table.columns.get(*at).is_some_and(|c| !c.generated)));
    }
    let missing = table.written().find(|(at, _)| here.get(*at) == Some(&false));
    match missing {
        Some((_, column)) => Err(Missing { column: column.name.clone(), here: true }),
        None => Ok(taken),
    }
}

/// A column that only one of two members has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) column: Box<str>,
    /// Whether the one that applies has it.
    pub(crate) here: bool,
}

/// Whether values of this type can be equal and not look it.
pub(super) fn looks_differ(sql_type: &str) -> bool {
    ["numeric", "character(", "bpchar"].iter().any(|kind| sql_type.starts_with(kind))
}

/// What a text is cast to. An explicit cast to a bounded string would cut it; the assignment that follows refuses it.
pub(crate) fn cast(sql_type: &str) -> String {
    let unbounded = [
        ("character varying(", "character varying"),
        ("character(", "bpchar"),
        ("bit varying(", "bit varying"),
        ("bit(", "bit varying"),
    ];
    for (bounded, free) in unbounded {
        if let Some(rest) = sql_type.strip_prefix(bounded) {
            let dimensions = rest.split_once(')').map_or("", |(_, dimensions)| dimensions);
            return format!("{free}{dimensions}");
        }
    }
    sql_type.to_owned()
}

/// What `text` makes of each, with commas between.
pub(super) fn list<'a>(
    columns: impl Iterator<Item = &'a Column>,
    text: impl Fn(&Column) -> String,
) -> String {
    columns.map(text).collect::<Vec<_>>().join(", ")
}
