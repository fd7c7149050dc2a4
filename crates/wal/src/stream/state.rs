//! Where a stream stands between two messages. Pure: message in, what it means out.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use herdsman_node::Lsn;

use super::spool::{Played, Spools};
use crate::decode::{Malformed, Message, RelationBody};
use crate::{
    Body, ChangeRef, DataType, Relation, Source, Timestamp, Transaction, TypeBook, TypeKind,
};

/// Where a message's bytes are.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) at: Range<usize>,
    pub(super) lsn: Lsn,
    /// In the buffer of the spool that is played back, not in the receive buffer.
    pub(super) spooled: bool,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) source: Arc<Source>,
    pub(super) types: TypeBook,
    /// Leave out what came from elsewhere.
    local_only: bool,
    /// As described on this connection. A new connection describes all again.
    relations: HashMap<u32, Arc<Relation>>,
    /// The one used last, which is mostly the one used next.
    current: Option<Arc<Relation>>,
    /// The relation just described, and what it was before, if it was another.
    altered: Option<(Arc<Relation>, Arc<Relation>)>,
    truncated: Vec<Arc<Relation>>,
    /// A transaction whose beginning has been read, but not yet whether it came from elsewhere.
    beginning: Option<Transaction>,
    pub(super) transaction: Option<Arc<Transaction>>,
    pub(super) ended_transaction: bool,
    /// Changes of the transaction so far.
    count: u64,
    /// Transactions in progress, where they are yielded while they run.
    early: Option<HashMap<u32, Early>>,
    /// The one whose block is open.
    block: Option<u32>,
    /// A frame that was looked at and not used.
    pub(super) put_back: Option<(Lsn, Range<usize>)>,
}

/// A transaction that is yielded while it runs.
#[derive(Debug, Default)]
struct Early {
    transaction: Transaction,
    /// Tables as it describes them. They count for others once it is committed.
    relations: HashMap<u32, Arc<Relation>>,
    count: u64,
}

/// What a message means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Nothing,
    /// The transaction has begun, now that all about it is known; the message itself has not been used.
    Begin,
    Change,
    /// A change that is left out.
    Skipped,
    Commit(Lsn),
    EarlyCommit(Lsn),
    Prepare(Lsn),
    Other,
    Relation,
    Strange(String),
}

impl State {
    pub(super) fn new(source: Source, local_only: bool, early: bool) -> Self {
        Self {
            source: Arc::new(source),
            types: TypeBook::default(),
            local_only,
            relations: HashMap::new(),
            current: None,
            altered: None,
            truncated: Vec::new(),
            beginning: None,
            transaction: None,
            ended_transaction: false,
            count: 0,
            early: early.then(HashMap::new),
            block: None,
            put_back: None,
        }
    }

    pub(super) fn is_outside(&self) -> bool {
        self.transaction.is_none() && self.beginning.is_none()
    }

    /// A message outside of any block.
    pub(super) fn take(&mut self, message: &Message<'_>, lsn: Lsn, spools: &mut Spools) -> Taken {
        if self.beginning.is_some() {
            return self.after_begin(message);
        }
        match *message {
            Message::Begin { commit_lsn, commit_time, xid } => self.begins(Transaction {
                xid,
                begin_lsn: lsn,
                commit_lsn,
                commit_time: Timestamp(commit_time),
                origin: None,
                gid: None,
            }),
            Message::BeginPrepare { prepare_lsn, prepare_time, xid, gid, .. } => {
                self.begins(Transaction {
                    xid,
                    begin_lsn: lsn,
                    commit_lsn: prepare_lsn,
                    commit_time: Timestamp(prepare_time),
                    origin: None,
                    gid: Some(gid.into()),
                })
            }
            Message::Commit { end_lsn, .. } | Message::Prepare { end_lsn, .. } => {
                if self.transaction.is_none() {
                    return Taken::Strange("a transaction ends that has not begun".to_owned());
                }
                self.ended_transaction = true;
                match message {
                    Message::Commit { .. } => Taken::Commit(end_lsn),
                    _ => Taken::Prepare(end_lsn),
                }
            }
            Message::StreamStart { xid, first } => {
                if self.transaction.is_some() {
                    return Taken::Strange("a block begins within a transaction".to_owned());
                }
                if self.early.is_some() {
                    self.open_early(xid, first, lsn);
                } else {
                    spools.open(xid, first, lsn);
                }
                Taken::Nothing
            }
            Message::StreamStop => {
                self.close_early();
                Taken::Nothing
            }
            Message::StreamCommit { xid, commit_lsn, end_lsn, commit_time } => {
                let commit = (commit_lsn, Timestamp(commit_time), None);
                if self.end_early(xid, commit) {
                    return Taken::EarlyCommit(end_lsn);
                }
                spools.play(xid, commit_lsn, end_lsn, Timestamp(commit_time), None);
                Taken::Nothing
            }
            Message::StreamPrepare { prepare_lsn, end_lsn, prepare_time, xid, gid } => {
                let prepare = (prepare_lsn, Timestamp(prepare_time), Some(gid));
                if self.end_early(xid, prepare) {
                    return Taken::EarlyCommit(end_lsn);
                }
                spools.play(xid, prepare_lsn, end_lsn, Timestamp(prepare_time), Some(gid));
                Taken::Nothing
            }
            Message::StreamAbort { xid, subxid } => {
                if let Some(early) = &mut self.early {
                    if xid == subxid {
                        early.remove(&xid);
                    }
                    return Taken::Other;
                }
                spools.abort(xid, subxid);
                Taken::Nothing
            }
            Message::CommitPrepared { .. }
            | Message::RollbackPrepared { .. }
            | Message::Logical { transactional: false, .. } => Taken::Other,
            _ => self.within(message),
        }
    }

    fn begins(&mut self, transaction: Transaction) -> Taken {
        if self.transaction.is_some() {
            return Taken::Strange("a transaction begins within another".to_owned());
        }
        self.beginning = Some(transaction);
        Taken::Nothing
    }

    /// Only the message after the beginning shows whether the transaction came from elsewhere.
    fn after_begin(&mut self, message: &Message<'_>) -> Taken {
        let Some(mut transaction) = self.beginning.take() else { return Taken::Nothing };
        if let Message::Origin { name, .. } = message {
            transaction.origin = Some((*name).into());
            self.beginning = Some(transaction);
            return Taken::Nothing;
        }
        self.transaction = Some(Arc::new(transaction));
        self.count = 0;
        Taken::Begin
    }

    pub(super) fn begin_played(&mut self, played: Played) {
        self.transaction = Some(Arc::new(played.transaction));
        self.count = 0;
    }

    /// A message within a transaction, whether live or played back.
    pub(super) fn within(&mut self, message: &Message<'_>) -> Taken {
        match *message {
            Message::Relation(_) => return Taken::Relation,
            Message::Type { oid, schema, name } => {
                self.types.learn(DataType {
                    oid,
                    schema: schema.into(),
                    name: name.into(),
                    kind: TypeKind::Base,
                });
                return Taken::Nothing;
            }
            Message::Origin { name, .. } => {
                if let Some(early) = self.open_block() {
                    early.transaction.origin = Some(name.into());
                    self.transaction = Some(Arc::new(early.transaction.clone()));
                }
                return Taken::Nothing;
            }
            _ => {}
        }
        let Some(transaction) = &self.transaction else {
            return Taken::Strange("a change comes outside of any transaction".to_owned());
        };
        if self.local_only && transaction.origin.is_some() {
            return Taken::Skipped;
        }
        let known = match *message {
            Message::Insert { relation, .. }
            | Message::Update { relation, .. }
            | Message::Delete { relation, .. } => self.use_relation(relation),
            Message::Truncate(truncated) => {
                self.truncated.clear();
                let found = truncated.relations().map(|oid| self.find(oid).cloned());
                let found: Option<Vec<_>> = found.collect();
                found.is_some_and(|found| {
                    self.truncated = found;
                    true
                })
            }
            Message::Logical { .. } => true,
            _ => return Taken::Strange("a message comes where it cannot be".to_owned()),
        };
        if known {
            Taken::Change
        } else {
            Taken::Strange("a row comes of a table that was not described".to_owned())
        }
    }

    /// The transaction in progress whose block is open.
    pub(super) fn early_block(&self) -> Option<u32> {
        self.block
    }

    fn open_block(&mut self) -> Option<&mut Early> {
        self.early.as_mut()?.get_mut(&self.block?)
    }

    fn open_early(&mut self, xid: u32, first: bool, lsn: Lsn) {
        let Some(all) = &mut self.early else { return };
        if first {
            all.remove(&xid);
        }
        let begun = || Early {
            transaction: Transaction { xid, begin_lsn: lsn, ..Transaction::default() },
            ..Early::default()
        };
        let early = all.entry(xid).or_insert_with(begun);
        self.transaction = Some(Arc::new(early.transaction.clone()));
        self.count = early.count;
        self.block = Some(xid);
        self.current = None;
    }

    fn close_early(&mut self) {
        let count = self.count;
        if let Some(early) = self.open_block() {
            early.count = count;
        }
        self.block = None;
        self.transaction = None;
        self.current = None;
    }

    /// Ends a transaction that was yielded while it ran; false where such are kept.
    fn end_early(&mut self, xid: u32, (at, time, gid): (Lsn, Timestamp, Option<&str>)) -> bool {
        let Some(all) = &mut self.early else { return false };
        let Early { transaction, relations, .. } = all.remove(&xid).unwrap_or_default();
        self.relations.extend(relations);
        self.current = None;
        self.transaction = Some(Arc::new(Transaction {
            xid,
            commit_lsn: at,
            commit_time: time,
            gid: gid.map(Into::into),
            ..transaction
        }));
        self.ended_transaction = true;
        true
    }

    fn find(&self, oid: u32) -> Option<&Arc<Relation>> {
        let own = self.early.as_ref().and_then(|all| all.get(&self.block?)?.relations.get(&oid));
        own.or_else(|| self.relations.get(&oid))
    }

    #[inline]
    fn use_relation(&mut self, oid: u32) -> bool {
        if self.current.as_ref().is_some_and(|current| current.oid == oid) {
            return true;
        }
        self.current = self.find(oid).cloned();
        self.current.is_some()
    }

    pub(super) fn learn(
        &mut self,
        body: &RelationBody<'_>,
        primary: &[String],
    ) -> Result<(), Malformed> {
        let mut relation = Relation::read(body, &self.types)?;
        if !primary.is_empty() {
            for column in &mut relation.columns {
                column.primary = primary.iter().any(|name| **name == *column.name);
            }
        }
        let relation = Arc::new(relation);
        if let Some(early) = self.open_block() {
            early.relations.insert(relation.oid, relation);
            self.current = None;
            self.altered = None;
            return Ok(());
        }
        let previous = self.relations.insert(relation.oid, Arc::clone(&relation));
        self.current = None;
        self.altered = previous
            .filter(|previous| **previous != *relation && self.transaction.is_some())
            .map(|previous| (relation, previous));
        Ok(())
    }

    /// Whether the relation learnt last is not what it was.
    pub(super) fn schema_changed(&self) -> bool {
        self.altered.is_some()
    }

    pub(super) fn schema_change(&self) -> Option<ChangeRef<'_>> {
        let (table, previous) = self.altered.as_ref()?;
        let transaction = self.transaction.as_ref()?;
        Some(ChangeRef {
            source: &self.source,
            transaction,
            // Not counted: whether it is seen depends on what this connection saw before.
            ordinal: self.count,
            lsn: transaction.begin_lsn,
            body: Body::Schema { table, previous },
        })
    }

    pub(super) fn count(&mut self) {
        self.count += 1;
    }

    /// The change that `message`, which [`State::within`] has seen, is about.
    #[inline]
    pub(super) fn change<'a>(&'a self, message: Message<'a>, lsn: Lsn) -> Option<ChangeRef<'a>> {
        let table = self.current.as_ref();
        let body = match message {
            Message::Insert { new, .. } => Body::Insert { table: table?, new },
            Message::Update { old, new, .. } => Body::Update { table: table?, old, new },
            Message::Delete { old, .. } => Body::Delete { table: table?, old },
            Message::Truncate(truncated) => Body::Truncate {
                tables: &self.truncated,
                cascade: truncated.cascade,
                restart_identity: truncated.restart_identity,
            },
            Message::Logical { prefix, content, .. } => Body::Message { prefix, content },
            _ => return None,
        };
        Some(ChangeRef {
            source: &self.source,
            transaction: self.transaction.as_ref()?,
            ordinal: self.count.saturating_sub(1),
            lsn,
            body,
        })
    }
}
