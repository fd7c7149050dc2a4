//! A change that can be kept and sent between tasks.

use std::sync::Arc;

use herdsman_node::Lsn;

use crate::Relation;
use crate::change::{Body, ChangeRef, Kind, Row, Source, Transaction};
use crate::decode::{Old, Tuple};

/// A change that owns what it holds: [`ChangeRef`] for keeping.
#[derive(Clone, Debug)]
pub struct Change {
    /// The stream it came through.
    pub source: Arc<Source>,
    /// The transaction it belongs to.
    pub transaction: Arc<Transaction>,
    /// Its number within the transaction, from 0.
    pub ordinal: u64,
    /// Where it was logged.
    pub lsn: Lsn,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Row {
        kind: Kind,
        table: Arc<Relation>,
        old: Option<(bool, u16)>,
        new: Option<u16>,
        split: usize,
        bytes: Box<[u8]>,
    },
    Truncate {
        tables: Box<[Arc<Relation>]>,
        cascade: bool,
        restart_identity: bool,
    },
    Schema {
        table: Arc<Relation>,
        previous: Arc<Relation>,
    },
    Message {
        prefix: Box<str>,
        content: Box<[u8]>,
    },
}

impl From<ChangeRef<'_>> for Change {
    fn from(change: ChangeRef<'_>) -> Self {
        Self {
            source: Arc::clone(change.source),
            transaction: Arc::clone(change.transaction),
            ordinal: change.ordinal,
            lsn: change.lsn,
            content: Content::from(change.body),
        }
    }
}

impl From<Body<'_>> for Content {
    fn from(body: Body<'_>) -> Self {
        match body {
            Body::Insert { table, new } => Self::row(Kind::Insert, table, None, Some(new)),
            Body::Read { table, new } => Self::row(Kind::Read, table, None, Some(new)),
            Body::Update { table, old, new } => Self::row(Kind::Update, table, old, Some(new)),
            Body::Delete { table, old } => Self::row(Kind::Delete, table, Some(old), None),
            Body::Truncate { tables, cascade, restart_identity } => {
                Self::Truncate { tables: tables.into(), cascade, restart_identity }
            }
            Body::Schema { table, previous } => {
                Self::Schema { table: Arc::clone(table), previous: Arc::clone(previous) }
            }
            Body::Message { prefix, content } => {
                Self::Message { prefix: prefix.into(), content: content.into() }
            }
        }
    }
}

impl Content {
    fn row(
        kind: Kind,
        table: &Arc<Relation>,
        old: Option<Old<'_>>,
        new: Option<Tuple<'_>>,
    ) -> Self {
        let before = old.map_or(Tuple::EMPTY, Old::tuple);
        let after = new.unwrap_or(Tuple::EMPTY);
        Self::Row {
            kind,
            table: Arc::clone(table),
            old: old.map(|old| (matches!(old, Old::Full(_)), before.count())),
            new: new.map(|new| new.count()),
            split: before.bytes().len(),
            bytes: [before.bytes(), after.bytes()].concat().into(),
        }
    }
}

impl Change {
    /// The same change, borrowed.
    #[must_use]
    pub fn view(&self) -> ChangeRef<'_> {
        ChangeRef {
            source: &self.source,
            transaction: &self.transaction,
            ordinal: self.ordinal,
            lsn: self.lsn,
            body: self.content.body(),
        }
    }

    /// What kind of change it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.view().kind()
    }

    /// The table it is about, where it is about exactly one.
    #[must_use]
    pub fn table(&self) -> Option<&Arc<Relation>> {
        self.view().table()
    }

    /// The row as it is now: see [`ChangeRef::new_row`].
    #[must_use]
    pub fn new_row(&self) -> Option<Row<'_>> {
        self.view().new_row()
    }

    /// The row as it was: see [`ChangeRef::old_row`].
    #[must_use]
    pub fn old_row(&self) -> Option<Row<'_>> {
        self.view().old_row()
    }

    /// Bytes of memory that it takes, for whoever bounds a queue; what is shared with other changes is left out.
    #[must_use]
    pub fn weight(&self) -> usize {
        let content = match &self.content {
            Content::Row { bytes, .. } => bytes.len(),
            Content::Truncate { tables, .. } => tables.len() * size_of::<usize>(),
            Content::Schema { .. } => 0,
            Content::Message { prefix, content } => prefix.len() + content.len(),
        };
        size_of::<Self>() + content
    }
}

impl Content {
    fn body(&self) -> Body<'_> {
        match self {
            Self::Row { kind, table, old, new, split, bytes } => {
                // Cut where it was joined: the split is the old row's own length.
                let (before, after) = bytes.split_at_checked(*split).unwrap_or_default();
                let new = Tuple::checked_before(new.unwrap_or(0), after);
                let old = old.map(|(full, count)| {
                    let tuple = Tuple::checked_before(count, before);
                    if full { Old::Full(tuple) } else { Old::Key(tuple) }
                });
                match (kind, old) {
                    (Kind::Insert, _) => Body::Insert { table, new },
                    (Kind::Delete, old) => {
                        Body::Delete { table, old: old.unwrap_or(Old::Key(Tuple::EMPTY)) }
                    }
                    (Kind::Update, old) => Body::Update { table, old, new },
                    _ => Body::Read { table, new },
                }
            }
            Self::Truncate { tables, cascade, restart_identity } => {
                Body::Truncate { tables, cascade: *cascade, restart_identity: *restart_identity }
            }
            Self::Schema { table, previous } => Body::Schema { table, previous },
            Self::Message { prefix, content } => Body::Message { prefix, content },
        }
    }
}
