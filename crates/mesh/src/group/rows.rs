//! Versions of one table's rows, or its tombstones, column by column.

use std::hash::{BuildHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use herdsman_wal::decode::{Field, Tuple};
use herdsman_wal::{Column, Relation};

use super::values::{Values, index};
use crate::names;
use crate::stamp::{NodeId, Stamp};

/// Versions of one table's rows, or its tombstones, column by column.
#[derive(Clone, Debug)]
pub struct Rows {
    relation: Arc<Relation>,
    /// What each column of the relation is.
    roles: Vec<Role>,
    columns: Vec<Values>,
    /// Places in `columns` of the key, by the columns' names.
    key: Vec<(usize, Form)>,
    pub(crate) stamps: Vec<i64>,
    pub(crate) nodes: Vec<i16>,
    pub(crate) seen: Vec<i64>,
    pub(crate) seen_nodes: Vec<i16>,
    /// Where stamps are not in the row: what the first writer of the chain replaced, as a JSON object of texts, or NULL.
    pub(crate) images: Values,
    logged: bool,
    live: Vec<bool>,
    dead: usize,
}

/// What a column is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Value(usize),
    Key(usize, Form),
    Stamp,
    Node,
    Seen,
    SeenNode,
    /// Of a deletion in the log, what is not its key.
    Left,
}

/// When two texts of a key are the same value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// When they are the same.
    Plain,
    /// Zeros at the end of the fraction mean nothing.
    Numeric,
    /// Blanks at the end mean nothing.
    Padded,
}

impl Form {
    fn of(column: &Column) -> Self {
        match column.data_type.underlying().oid {
            1700 => Self::Numeric,
            1042 => Self::Padded,
            _ => Self::Plain,
        }
    }

    fn trim(self, text: &[u8]) -> &[u8] {
        let trimmed = |drop: u8| {
            let end = text.iter().rposition(|b| *b != drop).map_or(0, |last| last + 1);
            text.get(..end).unwrap_or(text)
        };
        match self {
            Self::Numeric if text.contains(&b'.') => {
                let digits = trimmed(b'0');
                digits.strip_suffix(b".").unwrap_or(digits)
            }
            Self::Padded => trimmed(b' '),
            Self::Plain | Self::Numeric => text,
        }
    }

    fn same(self, a: Field<'_>, b: Field<'_>) -> bool {
        match (a, b) {
            (Field::Text(a), Field::Text(b)) => a == b || self.trim(a) == self.trim(b),
            _ => a == b,
        }
    }
}

/// A version that was added at the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Added {
    pub(super) stamp: Stamp,
    /// What its writer replaced at this key.
    pub(super) seen: Stamp,
    pub(super) bytes: usize,
}

/// What a writer replaced, where nothing tells its version.
const SOMETHING: Stamp = Stamp::new(0, NodeId(0));

/// What [`Rows::new`] says of a table without key columns: it has none, or nobody could tell which they are.
pub(crate) const NO_KEY: &str = "has no primary key";

impl Rows {
    /// For versions of rows (`gone`: for tombstones) of a table; `logged`: whose versions are those of their transactions.
    ///
    /// # Errors
    /// What the table lacks.
    pub(super) fn new(
        relation: &Arc<Relation>,
        gone: bool,
        logged: bool,
    ) -> Result<Self, &'static str> {
        let mut rows = Self {
            relation: Arc::clone(relation),
            roles: Vec::with_capacity(relation.columns.len()),
            columns: Vec::new(),
            key: Vec::new(),
            stamps: Vec::new(),
            nodes: Vec::new(),
            seen: Vec::new(),
            seen_nodes: Vec::new(),
            images: Values::default(),
            logged,
            live: Vec::new(),
            dead: 0,
        };
        let mut key = Vec::new();
        for column in &relation.columns {
            let at = rows.columns.len();
            let role = match &*column.name {
                _ if logged && column.primary => Role::Key(at, Form::of(column)),
                _ if logged && gone => Role::Left,
                _ if logged => Role::Value(at),
                names::STAMP => Role::Stamp,
                names::NODE => Role::Node,
                names::SEEN if gone => Role::Seen,
                names::SEEN_NODE if gone => Role::SeenNode,
                // All that a tombstone has besides is the key.
                _ if gone || column.primary => Role::Key(at, Form::of(column)),
                _ => Role::Value(at),
            };
            if let Role::Key(at, form) = role {
                key.push((&*column.name, at, form));
            }
            if matches!(role, Role::Key(..) | Role::Value(_)) {
                rows.columns.push(Values::default());
            }
            rows.roles.push(role);
        }
        if logged {
            return rows.with_key(key);
        }
        if !rows.roles.contains(&Role::Stamp) || !rows.roles.contains(&Role::Node) {
            return Err("does not have its two columns");
        }
        if gone && !(rows.roles.contains(&Role::Seen) && rows.roles.contains(&Role::SeenNode)) {
            return Err("does not have the two columns of what was deleted");
        }
        rows.with_key(key)
    }

    fn with_key(mut self, mut key: Vec<(&str, usize, Form)>) -> Result<Self, &'static str> {
        if key.is_empty() {
            return Err(NO_KEY);
        }
        key.sort_by_key(|(name, ..)| *name);
        self.key = key.into_iter().map(|(_, at, form)| (at, form)).collect();
        Ok(self)
    }

    /// The table as its writer has it.
    #[must_use]
    pub fn relation(&self) -> &Arc<Relation> {
        &self.relation
    }

    /// The columns without the mesh's own, with their values.
    pub fn columns(&self) -> impl Iterator<Item = (&Column, &Values)> {
        self.relation.columns.iter().zip(&self.roles).filter_map(|(column, role)| match role {
            Role::Value(at) | Role::Key(at, _) => Some((column, self.columns.get(*at)?)),
            _ => None,
        })
    }

    /// How many versions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live.len() - self.dead
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The versions that are left, where some of those that were taken in no longer count.
    pub(crate) fn live(&self) -> Option<Vec<u32>> {
        (self.dead > 0).then(|| {
            let live = (0_u32..).zip(&self.live);
            live.filter(|(_, live)| **live).map(|(row, _)| row).collect()
        })
    }

    /// A version's stamp.
    #[must_use]
    pub fn stamp(&self, row: u32) -> Stamp {
        stamp(&self.stamps, &self.nodes, row)
    }

    /// What a version's writer replaced.
    #[must_use]
    pub fn seen(&self, row: u32) -> Stamp {
        stamp(&self.seen, &self.seen_nodes, row)
    }

    /// The next version's number.
    pub(super) fn next(&self) -> u32 {
        // A group is full long before.
        u32::try_from(self.live.len()).unwrap_or(u32::MAX)
    }

    /// Adds a version at the end. After an error the group is of no further use.
    pub(super) fn add(
        &mut self,
        new: Tuple<'_>,
        old: Option<Tuple<'_>>,
        logged: Option<Stamp>,
    ) -> Result<Added, &'static str> {
        let image = old.filter(|_| self.logged);
        let mut old = old.map(|old| old.iter());
        let (mut stamp, mut seen, mut moved, mut bytes) =
            (logged.unwrap_or(Stamp::NONE), Stamp::NONE, false, 0);
        if new.len() != self.roles.len() {
            return Err("sends rows that do not fit its description");
        }
        for (role, field) in self.roles.iter().zip(new.iter()) {
            let before = old.as_mut().and_then(Iterator::next);
            let field = match (field, before) {
                (Field::Unchanged, Some(before)) => before,
                (field, _) => field,
            };
            bytes += field.bytes().map_or(0, <[u8]>::len);
            match *role {
                Role::Value(at) | Role::Key(at, _) => {
                    let column = self.columns.get_mut(at);
                    if !column.is_some_and(|column| column.push(field)) {
                        return Err("does not send a value whole (REPLICA IDENTITY must be FULL)");
                    }
                    if let (Role::Key(_, form), Some(before)) = (*role, before) {
                        moved |= !form.same(before, field);
                    }
                }
                Role::Stamp => {
                    stamp.micros = number(field)?;
                    if let Some(before) = before {
                        seen.micros = number(before)?;
                    }
                }
                Role::Node => {
                    stamp.node = NodeId(number(field)?);
                    if let Some(before) = before {
                        seen.node = NodeId(number(before)?);
                    }
                }
                // A tombstone says itself what it deleted.
                Role::Seen => {
                    seen.micros = number(field)?;
                    moved = false;
                }
                Role::SeenNode => seen.node = NodeId(number(field)?),
                Role::Left => {}
            }
        }
        // At a key that the row has moved to, it replaced nothing.
        let seen = if moved { Stamp::NONE } else { seen };
        let image = image.filter(|_| !moved).map(|old| self.image(old));
        let seen = if image.is_some() { SOMETHING } else { seen };
        bytes += image.as_ref().map_or(0, String::len);
        self.set_image(image.as_deref().map(str::as_bytes))?;
        self.stamps.push(stamp.micros);
        self.nodes.push(stamp.node.0);
        self.seen.push(seen.micros);
        self.seen_nodes.push(seen.node.0);
        self.live.push(true);
        Ok(Added { stamp, seen, bytes })
    }

    /// Takes the version that was added last away again.
    pub(super) fn take_back(&mut self) {
        self.columns.iter_mut().for_each(Values::pop);
        self.images.pop();
        self.stamps.pop();
        self.nodes.pop();
        self.seen.pop();
        self.seen_nodes.pop();
        self.live.pop();
    }

    /// A version no longer counts.
    pub(super) fn bury(&mut self, row: u32) {
        if let Some(live) = self.live.get_mut(index(row)) {
            self.dead += usize::from(std::mem::replace(live, false));
        }
    }

    /// A row as a JSON object of texts.
    fn image(&self, row: Tuple<'_>) -> String {
        let columns = self.relation.columns.iter().zip(row.iter());
        let columns = columns.map(|(column, field)| {
            let text = field.text().map_or(serde_json::Value::Null, Into::into);
            (column.name.to_string(), text)
        });
        serde_json::Value::Object(columns.collect()).to_string()
    }

    fn set_image(&mut self, image: Option<&[u8]>) -> Result<(), &'static str> {
        let field = image.map_or(Field::Null, Field::Text);
        if self.images.push(field) { Ok(()) } else { Err("has rows that are too long") }
    }

    /// Makes the version that was added last one that replaced what an earlier one of its chain did.
    pub(super) fn continue_chain(&mut self, row: u32, seen: Stamp, image: Option<&[u8]>) {
        self.images.pop();
        let _it_was_pushed_before = self.set_image(image);
        self.set_seen(row, seen);
    }

    /// What the first writer of a version's chain replaced.
    pub(super) fn image_of(&self, row: u32) -> Option<&[u8]> {
        self.images.get(index(row))
    }

    pub(super) fn set_seen(&mut self, row: u32, seen: Stamp) {
        let row = index(row);
        if let (Some(micros), Some(node)) = (self.seen.get_mut(row), self.seen_nodes.get_mut(row)) {
            (*micros, *node) = (seen.micros, seen.node.0);
        }
    }

    /// The key's values of a version, by the names of its columns, in a form in which equal keys are equal.
    pub(crate) fn key(&self, row: u32) -> impl Iterator<Item = Option<&[u8]>> {
        let row = index(row);
        self.key.iter().map(move |(at, form)| {
            let column = self.columns.get(*at);
            column.and_then(|column| column.get(row)).map(|text| form.trim(text))
        })
    }

    /// A number for a version's key: the same for the same key, with the same `hasher`.
    pub(crate) fn hash(&self, row: u32, hasher: &impl BuildHasher) -> u64 {
        let mut hasher = hasher.build_hasher();
        for part in self.key(row) {
            part.hash(&mut hasher);
        }
        hasher.finish()
    }
}

fn stamp(micros: &[i64], nodes: &[i16], row: u32) -> Stamp {
    let row = index(row);
    match (micros.get(row), nodes.get(row)) {
        (Some(micros), Some(node)) => Stamp::new(*micros, NodeId(*node)),
        _ => Stamp::NONE,
    }
}

fn number<N: std::str::FromStr>(field: Field<'_>) -> Result<N, &'static str> {
    field
        .text()
        .and_then(|text| text.parse().ok())
        .ok_or("holds something else than a number in the mesh's columns")
}
