//! What a change touches: the exact bytes that two changes must share to have an order between them.

use std::collections::HashSet;

use herdsman_wal::decode::{Field, Old, Tuple};
use herdsman_wal::{Body, Change, Relation, ReplicaIdentity};

/// The exact name of a row, of a table or of a kind of message. Not a hash: two different rows never share one.
pub(crate) type Key = Box<[u8]>;

/// What a change touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    /// Rows of a table: one, or two where an update gives a row another key.
    Rows {
        /// The table.
        table: Key,
        /// The row by its new key, or its only one.
        first: Key,
        /// The row by its old key, where that is another.
        second: Option<Key>,
    },
    /// Whole tables: nothing before it in them may come later, nothing after it earlier.
    Tables(Vec<Key>),
    /// No table: only others with the same key.
    Alone(Key),
}

/// Finds out what a change touches.
pub(crate) fn touch(change: &Change) -> Touch {
    match change.view().body {
        Body::Insert { table, new } | Body::Read { table, new } => row(table, Some(new), None),
        Body::Update { table, old, new } => row(table, Some(new), old),
        Body::Delete { table, old } => row(table, None, Some(old)),
        Body::Truncate { tables, .. } => Touch::Tables(distinct(tables.iter().map(|t| name(t)))),
        Body::Schema { table, previous } => {
            Touch::Tables(distinct([name(table), name(previous)].into_iter()))
        }
        Body::Message { prefix, .. } => Touch::Alone([b"m", prefix.as_bytes()].concat().into()),
        // A kind of change that this does not know yet: in order with others of its table, or of none.
        _ => change.table().map_or_else(
            || Touch::Alone(Box::from(*b"?")),
            |table| Touch::Tables(vec![name(table)]),
        ),
    }
}

/// Which columns a table's rows are told apart by, as positions: those that *every* kind of change tells.
///
/// The primary key is told by updates and deletes only where it is the replica identity, or where the whole row is.
pub(crate) fn columns(table: &Relation) -> impl Iterator<Item = usize> {
    let all_told = matches!(table.identity, ReplicaIdentity::Full | ReplicaIdentity::Nothing);
    let primary = all_told && table.columns.iter().any(|column| column.primary);
    let columns = table.columns.iter().enumerate();
    columns
        .filter(move |(_, column)| if primary { column.primary } else { column.key })
        .map(|(index, _)| index)
}

fn row(table: &Relation, new: Option<Tuple<'_>>, old: Option<Old<'_>>) -> Touch {
    let before = old.map(Old::tuple);
    let after = new.and_then(|new| key(table, new, before));
    let old_key = before.and_then(|old| key(table, old, None));
    let name = name(table);
    match (after, old_key) {
        (Some(first), second) => {
            let second = second.filter(|second| *second != first);
            Touch::Rows { table: name, first, second }
        }
        (None, Some(first)) if new.is_none() => Touch::Rows { table: name, first, second: None },
        // A key that the change does not tell: it may be any row.
        _ => Touch::Tables(vec![name]),
    }
}

/// The row's key. Rows of a table without any key all share one: their order is all there is to go by.
fn key(table: &Relation, tuple: Tuple<'_>, fill: Option<Tuple<'_>>) -> Option<Key> {
    let mut bytes = Vec::with_capacity(64);
    bytes.push(b'r');
    write_name(&mut bytes, table);
    let mut wanted = columns(table).peekable();
    for (index, field) in tuple.iter().enumerate() {
        if wanted.next_if_eq(&index).is_none() {
            continue;
        }
        let field = match field {
            Field::Unchanged => fill.and_then(|old| old.get(index)).unwrap_or(Field::Unchanged),
            field => field,
        };
        match field {
            Field::Unchanged => return None,
            Field::Null => bytes.push(0),
            Field::Text(value) | Field::Binary(value) => {
                bytes.push(1);
                bytes.extend_from_slice(&value.len().to_be_bytes());
                bytes.extend_from_slice(value);
            }
        }
    }
    Some(bytes.into())
}

fn name(table: &Relation) -> Key {
    let mut bytes = Vec::with_capacity(table.schema.len() + table.name.len() + 2);
    bytes.push(b't');
    write_name(&mut bytes, table);
    bytes.into()
}

/// No name holds a zero byte.
fn write_name(bytes: &mut Vec<u8>, table: &Relation) {
    bytes.extend_from_slice(table.schema.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(table.name.as_bytes());
    bytes.push(0);
}

fn distinct(names: impl Iterator<Item = Key>) -> Vec<Key> {
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// For a sink that goes through a batch by itself: which changes must wait because an earlier one of the same key was
/// not delivered ([`Why::Behind`](crate::Why::Behind)).
///
/// ```
/// # fn deliver(change: &herdsman_wal::Change) -> bool { true }
/// use herdsman_stream::{Batch, lanes::Behind};
/// fn go_through(batch: &Batch) {
///     let mut behind = Behind::default();
///     for change in &batch.changes {
///         if behind.holds_back(change) || !deliver(change) {
///             behind.add(change);
///         }
///     }
/// }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Behind {
    rows: HashSet<Key>,
    tables: HashSet<Key>,
    touched: HashSet<Key>,
}

impl Behind {
    /// This change was not delivered.
    pub fn add(&mut self, change: &Change) {
        match touch(change) {
            Touch::Rows { table, first, second } => {
                self.touched.insert(table);
                self.rows.insert(first);
                self.rows.extend(second);
            }
            Touch::Tables(tables) => self.tables.extend(tables),
            Touch::Alone(key) => {
                self.rows.insert(key);
            }
        }
    }

    /// Whether this change has to wait for one that was added.
    #[must_use]
    pub fn holds_back(&self, change: &Change) -> bool {
        if self.rows.is_empty() && self.tables.is_empty() {
            return false;
        }
        match touch(change) {
            Touch::Rows { table, first, second } => {
                self.tables.contains(&table)
                    || self.rows.contains(&first)
                    || second.is_some_and(|second| self.rows.contains(&second))
            }
            Touch::Tables(tables) => {
                tables.iter().any(|t| self.tables.contains(t) || self.touched.contains(t))
            }
            Touch::Alone(key) => self.rows.contains(&key),
        }
    }
}
