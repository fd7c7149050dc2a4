//! Which columns tell a table's rows apart, in the stream and in a chunk alike.

use std::collections::HashMap;
use std::sync::Arc;

use crate::change::Row;
use crate::decode::Field;
use crate::snapshot::window::Key;
use crate::{Relation, ReplicaIdentity};

/// A table's key. A table may change its shape while it is read, so columns are known by name, and by a number of our
/// own for each name.
#[derive(Debug)]
pub(crate) struct Keys {
    names: Vec<Box<str>>,
    numbers: HashMap<Box<str>, u16>,
    /// The shape of the change looked at last, and the numbers of its columns.
    shape: Option<Arc<Relation>>,
    ids: Vec<u16>,
    untold: Vec<u16>,
}

/// A row does not tell its key as text.
#[derive(Debug)]
pub(crate) struct NoKey;

impl Keys {
    /// The key that every change tells, the old row of an update or delete included: the replica identity, or under
    /// FULL, where that is all columns, the primary key.
    pub(crate) fn of(relation: &Relation) -> Result<Self, &'static str> {
        let part: fn(&crate::Column) -> bool = match relation.identity {
            ReplicaIdentity::Default | ReplicaIdentity::Index => |column| column.key,
            ReplicaIdentity::Full => |column| column.primary,
            ReplicaIdentity::Nothing => return Err("its replica identity is NOTHING"),
        };
        let key = relation.columns.iter().filter(|column| part(column));
        let names: Vec<Box<str>> = key.map(|column| column.name.clone()).collect();
        if names.is_empty() {
            return Err("it has no primary key that is published");
        }
        Ok(Self {
            names,
            numbers: HashMap::new(),
            shape: None,
            ids: Vec::new(),
            untold: Vec::new(),
        })
    }

    /// The columns, in the table's order.
    pub(crate) fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// Where the key's columns are in rows of this shape.
    pub(crate) fn places(&self, relation: &Relation) -> Vec<usize> {
        let place = |name| relation.column(name).map(|(place, _)| place);
        self.names.iter().filter_map(|name| place(name)).collect()
    }

    /// The numbers of the columns of rows of this shape.
    pub(crate) fn ids(&mut self, relation: &Relation) -> Vec<u16> {
        let mut id = |name: &str| {
            let next = u16::try_from(self.numbers.len()).unwrap_or(u16::MAX);
            *self.numbers.entry(name.into()).or_insert(next)
        };
        relation.columns.iter().map(|column| id(&column.name)).collect()
    }

    /// The changes that follow have this shape.
    pub(crate) fn look_at(&mut self, relation: &Arc<Relation>) {
        if self.shape.as_ref().is_some_and(|shape| Arc::ptr_eq(shape, relation)) {
            return;
        }
        self.ids = self.ids(relation);
        self.shape = Some(Arc::clone(relation));
    }

    /// The key of a row.
    pub(crate) fn key(&self, row: Row<'_>) -> Result<Key, NoKey> {
        let text = |name: &str| match row.field(name) {
            Some(Field::Text(text)) => Some(text),
            _ => None,
        };
        join(self.names.iter().map(|name| text(name))).ok_or(NoKey)
    }

    /// The numbers of the columns that a row does not tell.
    pub(crate) fn untold(&mut self, row: Row<'_>) -> &[u16] {
        self.untold.clear();
        let columns = self.ids.iter().zip(row.iter());
        let untold = columns.filter(|(_, (_, field))| *field == Field::Unchanged);
        self.untold.extend(untold.map(|(id, _)| *id));
        self.untold.sort_unstable();
        &self.untold
    }
}

/// A key from its columns' texts; `None` where one is missing.
pub(crate) fn join<'a>(texts: impl Iterator<Item = Option<&'a [u8]>>) -> Option<Key> {
    let mut key = Vec::new();
    for text in texts {
        let text = text?;
        key.extend_from_slice(&u32::try_from(text.len()).ok()?.to_be_bytes());
        key.extend_from_slice(text);
    }
    Some(key.into())
}

/// The columns' texts of a key.
pub(crate) fn split(key: &[u8]) -> Vec<String> {
    let mut rest = key;
    let next = || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (text, after) = after.split_at_checked(length)?;
        rest = after;
        Some(String::from_utf8_lossy(text).into_owned())
    };
    std::iter::from_fn(next).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_key_is_its_columns_and_no_other_key_is_the_same(
            one in prop::collection::vec(".{0,4}", 1..4),
            other in prop::collection::vec(".{0,4}", 1..4),
        ) {
            let key = |texts: &[String]| join(texts.iter().map(|t| Some(t.as_bytes()))).unwrap();
            prop_assert_eq!(split(&key(&one)), one.clone());
            prop_assert_eq!(key(&one) == key(&other), one == other);
        }
    }
}
