//! The names of what the mesh adds to its members. One place: everything that reads or writes them asks here.

use herdsman_wal::{InvalidObjectName, PublicationName, SlotName, quote_identifier};

use crate::stamp::NodeId;
use crate::table::TableName;

/// The schema of the mesh's own tables and functions.
pub const SCHEMA: &str = "herdsman";
/// The schema of the tombstones: one table for each table of the mesh.
pub const GONE: &str = "herdsman_gone";
/// The column that holds a row's time.
pub const STAMP: &str = "_herdsman_stamp";
/// The column that holds where a row was written.
pub const NODE: &str = "_herdsman_node";
/// In a tombstone: the time of the version that was deleted.
pub const SEEN: &str = "_herdsman_seen";
/// In a tombstone: the node of the version that was deleted.
pub const SEEN_NODE: &str = "_herdsman_seen_node";

/// The schema of the parts of columns: one table for each table of the mesh that has such.
pub const PARTS: &str = "herdsman_parts";
/// Of a part: the column.
pub const PART_COLUMN: &str = "_herdsman_column";
/// Of a part: the member whose register it is, [`BASE`] or [`CELL`].
pub const PART_OF: &str = "_herdsman_of";
/// Of a register: what that member's changes come to.
pub const PART_SUM: &str = "_herdsman_sum";
/// Of a cell: the value as a text.
pub const PART_VALUE: &str = "_herdsman_value";
/// In place of a member: what was there before the policy.
pub const BASE: i16 = 0;
/// In place of a member: the value of whoever wrote last.
pub const CELL: i16 = -1;

/// Of a TRUNCATE: up to when its writer had what each other member wrote, as a JSON object.
pub const KNEW: &str = "_herdsman_knew";

/// Bytes of a name that PostgreSQL keeps.
const LONGEST: usize = 63;

/// The slot, on every other member, that the changes for `target` are read from; on `target` itself its look at its own
/// changes.
///
/// # Errors
/// The mesh's name makes no name for a slot.
pub fn slot(mesh: &str, target: NodeId) -> Result<SlotName, InvalidObjectName> {
    SlotName::new(&format!("herdsman_{mesh}_to_{target}"))
}

/// The publication of every member.
///
/// # Errors
/// The mesh's name makes no name for a publication.
pub fn publication(mesh: &str) -> Result<PublicationName, InvalidObjectName> {
    PublicationName::new(&format!("herdsman_{mesh}"))
}

/// The replication origin that marks what lane `lane` of this process applies.
#[must_use]
pub fn origin(mesh: &str, lane: u16) -> String {
    format!("herdsman_{mesh}_{lane}")
}

/// The table of a table's tombstones, quoted and with its schema.
#[must_use]
pub fn gone(table: &TableName) -> String {
    format!("{}.{}", quote_identifier(GONE), quote_identifier(&gone_name(table)))
}

/// The table of the parts of a table's columns. It has the bare name of the table of its tombstones ([`gone_name`]).
#[must_use]
pub fn parts(table: &TableName) -> TableName {
    TableName::new(PARTS, &gone_name(table))
}

/// The bare name of the table of a table's tombstones: the table's own, or, where that is too long, its beginning and
/// a fingerprint.
#[must_use]
pub fn gone_name(table: &TableName) -> String {
    let whole = table.to_string();
    if whole.len() <= LONGEST {
        return whole;
    }
    let mut end = LONGEST - 17;
    while !whole.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}~{:016x}", whole.get(..end).unwrap_or_default(), fingerprint(&whole))
}

/// SQL for the text that tables are noted by (what [`TableName`] is written as), from SQL for a schema's and a table's name.
#[must_use]
pub fn as_noted(schema: &str, name: &str) -> String {
    let part = |part: &str| {
        format!(
            "CASE WHEN {part} ~ '[.\"]' THEN '\"' || replace({part}, '\"', '\"\"') || '\"' ELSE {part} END"
        )
    };
    format!("({}) || '.' || ({})", part(schema), part(name))
}

/// FNV-1a: the same in every version of this program, which the standard library's hasher does not promise.
fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Something in the mesh's schema, quoted.
#[must_use]
pub fn own(name: &str) -> String {
    format!("{}.{}", quote_identifier(SCHEMA), quote_identifier(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_tables_have_one_table_of_tombstones() {
        let long = "x".repeat(40);
        let tables = [
            ("a.b", "c"),
            ("a", "b.c"),
            ("a", "b"),
            ("\"a", "b"),
            (&*long, &*format!("{long}1")),
            (&*long, &*format!("{long}2")),
        ];
        let mut names: Vec<_> =
            tables.iter().map(|(schema, name)| gone_name(&TableName::new(schema, name))).collect();
        assert!(names.iter().all(|name| name.len() <= LONGEST), "{names:?}");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), tables.len(), "{names:?}");
        assert_eq!(gone_name(&TableName::new("public", "t")), "public.t");
    }
}
