//! A running stream: frames in, transactions out.
//!
//! The server sends most transactions whole, once they are committed. Large ones it sends in blocks while they run,
//! mixed with each other and not knowing whether they will ever be committed; those wait in a [`spool`], on disk past a
//! bound, and are yielded like any other when their commit arrives.

mod options;
mod spool;
mod state;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use herdsman_node::Lsn;
use herdsman_node::raw::{RawConnection, ServerMessage};

pub use options::{Start, StreamOptions};

use crate::decode::{Decoder, Malformed, Message};
use crate::replication::{CopyReader, Feedback, Frame, Identity, Sender, refused};
use crate::{Catalogue, ChangeRef, Source, Transaction, WalError};
use spool::Spools;
use state::{Place, State};

/// What a stream yields. Borrowed from the receive buffer until the next call.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A transaction begins; its changes follow, then its [`Event::Commit`] or [`Event::Prepare`].
    Begin(&'a Arc<Transaction>),
    /// One change of the transaction that has begun.
    Change(ChangeRef<'a>),
    /// The transaction is complete.
    Commit {
        /// The transaction.
        transaction: &'a Arc<Transaction>,
        /// Where it ends: what may be acknowledged once all of it is handled.
        end_lsn: Lsn,
    },
    /// The transaction is complete and prepared; what becomes of it is told later.
    Prepare {
        /// The transaction, with its name.
        transaction: &'a Arc<Transaction>,
        /// Where it ends.
        end_lsn: Lsn,
    },
    /// A prepared transaction is committed.
    CommitPrepared {
        /// Its name.
        gid: &'a str,
        /// Where the commit ends.
        end_lsn: Lsn,
    },
    /// A prepared transaction is rolled back.
    RollbackPrepared {
        /// Its name.
        gid: &'a str,
        /// Where the rollback ends.
        end_lsn: Lsn,
    },
    /// A logical message that belongs to no transaction: it was sent even if what wrote it has been rolled back.
    Message {
        /// Where it was logged.
        lsn: Lsn,
        /// What kind of message it is, as its sender says.
        prefix: &'a str,
        /// What it says.
        content: &'a [u8],
    },
    /// A change of a transaction in progress, with [`StreamOptions::early`]: it may never be committed. Its
    /// transaction's commit is not known yet, and 0.
    Early {
        /// The part of the transaction it belongs to; its own number where it has no parts.
        subxid: u32,
        /// The change. Its ordinal counts what may never happen as well.
        change: ChangeRef<'a>,
    },
    /// A transaction in progress, or a part of it, never happened.
    EarlyAbort {
        /// The transaction.
        xid: u32,
        /// The part; `xid` for all of it.
        subxid: u32,
    },
    /// A transaction in progress is committed, or prepared if it has a name: all of it has been yielded early.
    EarlyCommit {
        /// The transaction.
        transaction: &'a Arc<Transaction>,
        /// Where it ends.
        end_lsn: Lsn,
    },
    /// Everything committed before this position has been yielded.
    Idle {
        /// The position.
        wal_end: Lsn,
    },
}

/// A running stream. Dropping it ends the connection; [`Stream::close`] ends it properly.
#[derive(Debug)]
pub struct Stream {
    reader: CopyReader,
    sender: Sender,
    endpoint: String,
    decoder: Decoder,
    spools: Spools,
    catalogue: Option<Catalogue>,
    /// What the next event is made of, found before it was asked for.
    pending: Option<Result<Next, WalError>>,
    /// A relation to be learnt. Kept here while the catalogue is asked: that may be given up and begun again.
    learning: Option<Place>,
    state: State,
}

/// How long the server has to end the stream when we close it.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// What the next event is made of, found without borrowing from the buffer.
#[derive(Debug)]
enum Next {
    Begin,
    /// A message at this place in the receive buffer, or in the buffer of the spool that is played back.
    Change(Place),
    /// A change of this part of a transaction in progress.
    Early(Place, u32),
    EarlyCommit(Lsn),
    Commit(Lsn),
    Prepare(Lsn),
    /// A message outside of any transaction.
    Other(Place),
    Idle(Lsn),
    Schema,
}

impl Stream {
    pub(crate) fn new(
        connection: RawConnection,
        endpoint: String,
        identity: &Identity,
        start: &Start,
        status_pause: Duration,
    ) -> Self {
        let (reading, writing) = tokio::io::split(connection.stream);
        let source = Source {
            system_id: identity.system_id,
            timeline: identity.timeline,
            database: identity.database.as_str().into(),
            slot: start.slot.as_str().into(),
        };
        Self {
            reader: CopyReader::new(reading, &connection.buffer),
            sender: Sender::start(writing, start.from, status_pause),
            endpoint,
            decoder: Decoder::default(),
            spools: Spools::new(start.options.spill_after, start.options.spill_folder.clone()),
            catalogue: None,
            pending: None,
            learning: None,
            state: State::new(source, start.options.local_only, start.options.early),
        }
    }

    /// Has types and primary keys looked up that the stream itself does not tell, over a connection of its own.
    #[must_use]
    pub fn with_catalogue(mut self, catalogue: Catalogue) -> Self {
        self.catalogue = Some(catalogue);
        self
    }

    /// Which stream this is.
    #[must_use]
    pub fn source(&self) -> &Arc<Source> {
        &self.state.source
    }

    /// Tells the server what is handled.
    #[must_use]
    pub fn feedback(&self) -> Feedback {
        self.sender.feedback().clone()
    }

    /// Bytes of transactions in progress that wait for their commit: in memory, and on disk.
    #[must_use]
    pub fn spooled_bytes(&self) -> (usize, u64) {
        self.spools.bytes()
    }

    /// The next event. May be dropped while it waits and called again; nothing is lost by that.
    ///
    /// # Errors
    /// [`WalError`]; the stream is then over, and what was not acknowledged comes again in the next one.
    pub async fn next(&mut self) -> Result<Event<'_>, WalError> {
        self.ready().await;
        match self.pending.take() {
            Some(next) => self.event(next?),
            // `ready` has just put it there.
            None => Err(self.protocol("there is no next event".to_owned())),
        }
    }

    /// Waits until [`Stream::next`] has something to give at once. May be dropped while it waits and called again.
    pub async fn ready(&mut self) {
        if self.pending.is_none() {
            self.pending = Some(self.advance().await);
        }
    }

    async fn advance(&mut self) -> Result<Next, WalError> {
        if self.state.ended_transaction {
            self.state.transaction = None;
            self.state.ended_transaction = false;
        }
        loop {
            if let Some(place) = self.learning.clone() {
                self.learn(&place).await?;
                self.learning = None;
                if self.state.schema_changed() {
                    return Ok(Next::Schema);
                }
            }
            self.spools.make_room().await?;
            if self.spools.is_playing() {
                if let Some(next) = self.play().await? {
                    return Ok(next);
                }
                continue;
            }
            if let Some(next) = self.live().await? {
                return Ok(next);
            }
        }
    }

    /// Takes one frame, or the one that was put back.
    async fn live(&mut self) -> Result<Option<Next>, WalError> {
        let (lsn, at) = match self.state.put_back.take() {
            Some(frame) => frame,
            None => match self.reader.frame().await {
                Ok(Frame::Data { lsn, at }) => (lsn, at),
                Ok(Frame::Keepalive { wal_end, answer }) => {
                    self.sender.feedback().received(wal_end);
                    if answer {
                        self.sender.feedback().answer();
                    }
                    let idle = wal_end > Lsn(0) && self.state.is_outside();
                    return Ok(idle.then_some(Next::Idle(wal_end)));
                }
                Ok(Frame::Refused(said)) => return Err(self.ended_by(said)),
                Ok(Frame::Ended) => return Err(self.lost("the server ended the stream")),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(self.protocol(error.to_string()));
                }
                Err(error) => return Err(self.lost(&error.to_string())),
            },
        };
        let bytes = self.reader.bytes(&at);
        let before = self.decoder;
        let (within, message) =
            self.decoder.decode(bytes).map_err(|source| malformed(&self.endpoint, lsn, source))?;
        if let Some(xid) = self.spools.open_block() {
            if !matches!(message, Message::StreamStop) {
                if let Message::Origin { name, .. } = message {
                    self.spools.set_origin(name);
                    return Ok(None);
                }
                // Kept as it would be outside of a block: without the number of the subtransaction.
                let (tag, rest) = bytes.split_at_checked(1).unwrap_or_default();
                let rest = if within.is_some() { rest.get(4..).unwrap_or_default() } else { rest };
                self.spools.push(within.unwrap_or(xid), lsn, tag, rest);
                return Ok(None);
            }
            self.spools.close_block();
            return Ok(None);
        }
        let place = Place { at: at.clone(), lsn, spooled: false };
        match self.state.take(&message, lsn, &mut self.spools) {
            state::Taken::Nothing => Ok(None),
            state::Taken::Begin => {
                // The message that shows that the transaction has begun comes again.
                self.decoder = before;
                self.state.put_back = Some((lsn, at));
                Ok(Some(Next::Begin))
            }
            state::Taken::Change => match (self.state.early_block(), within) {
                (Some(xid), within) => {
                    self.state.count();
                    Ok(Some(Next::Early(place, within.unwrap_or(xid))))
                }
                (None, _) => Ok(Some(self.change(place))),
            },
            state::Taken::Skipped => Ok(None),
            state::Taken::EarlyCommit(end) => Ok(Some(Next::EarlyCommit(end))),
            state::Taken::Commit(end) => Ok(Some(Next::Commit(end))),
            state::Taken::Prepare(end) => Ok(Some(Next::Prepare(end))),
            state::Taken::Other => Ok(Some(Next::Other(place))),
            state::Taken::Relation => {
                self.learning = Some(place);
                Ok(None)
            }
            state::Taken::Strange(problem) => Err(self.protocol(problem)),
        }
    }

    /// Takes one message of the spool that is played back.
    async fn play(&mut self) -> Result<Option<Next>, WalError> {
        if self.state.transaction.is_none() {
            let Some(played) = self.spools.begin() else { return Ok(None) };
            self.state.begin_played(played);
            return Ok(Some(Next::Begin));
        }
        let Some(place) = self.spools.next().await? else {
            let Some((end, prepared)) = self.spools.finish() else { return Ok(None) };
            self.state.ended_transaction = true;
            return Ok(Some(if prepared { Next::Prepare(end) } else { Next::Commit(end) }));
        };
        let bytes = self.spools.bytes_at(&place.at);
        let (_, message) = Decoder::default()
            .decode(bytes)
            .map_err(|source| malformed(&self.endpoint, place.lsn, source))?;
        match self.state.within(&message) {
            state::Taken::Change => Ok(Some(self.change(place))),
            state::Taken::Relation => {
                self.learning = Some(place);
                Ok(None)
            }
            state::Taken::Strange(problem) => Err(self.protocol(problem)),
            _ => Ok(None),
        }
    }

    fn change(&mut self, place: Place) -> Next {
        self.state.count();
        Next::Change(place)
    }

    /// Learns a relation, and about its types what can be learnt.
    async fn learn(&mut self, place: &Place) -> Result<(), WalError> {
        let bytes = bytes_of(place, &self.reader, &self.spools);
        let malformed = |source| malformed(&self.endpoint, place.lsn, source);
        let in_block = !place.spooled && self.state.early_block().is_some();
        let mut decoder = if in_block { Decoder::within_a_block() } else { Decoder::default() };
        let (_, message) = decoder.decode(bytes).map_err(malformed)?;
        let Message::Relation(body) = message else { return Ok(()) };
        let columns = body.columns().map_err(malformed)?;
        let mut primary = Vec::new();
        if let Some(catalogue) = &mut self.catalogue {
            let types: Vec<u32> = columns.iter().map(|column| column.type_oid).collect();
            catalogue.learn(&mut self.state.types, &types).await;
            // With an index as identity, a row that goes tells the index's columns: only those name it throughout.
            if matches!(body.identity, b'f' | b'n') {
                primary = catalogue.primary_key(body.oid).await;
            }
        }
        self.state.learn(&body, &primary).map_err(malformed)
    }

    fn event(&self, next: Next) -> Result<Event<'_>, WalError> {
        let early = if let Next::Early(_, subxid) = next { Some(subxid) } else { None };
        let place = match next {
            Next::Early(place, _) => place,
            Next::EarlyCommit(end_lsn) => {
                return Ok(Event::EarlyCommit { transaction: self.transaction()?, end_lsn });
            }
            Next::Idle(wal_end) => return Ok(Event::Idle { wal_end }),
            Next::Change(place) | Next::Other(place) => place,
            Next::Begin => return self.transaction().map(Event::Begin),
            Next::Commit(end_lsn) => {
                return Ok(Event::Commit { transaction: self.transaction()?, end_lsn });
            }
            Next::Prepare(end_lsn) => {
                return Ok(Event::Prepare { transaction: self.transaction()?, end_lsn });
            }
            Next::Schema => {
                let change = self.state.schema_change().ok_or_else(|| self.nothing_begun())?;
                return Ok(Event::Change(change));
            }
        };
        let bytes = bytes_of(&place, &self.reader, &self.spools);
        let malformed = |source| malformed(&self.endpoint, place.lsn, source);
        let mut decoder =
            if early.is_some() { Decoder::within_a_block() } else { Decoder::default() };
        let (_, message) = decoder.decode(bytes).map_err(malformed)?;
        match message {
            Message::StreamAbort { xid, subxid } => Ok(Event::EarlyAbort { xid, subxid }),
            Message::CommitPrepared { gid, end_lsn, .. } => {
                Ok(Event::CommitPrepared { gid, end_lsn })
            }
            Message::RollbackPrepared { gid, end_lsn, .. } => {
                Ok(Event::RollbackPrepared { gid, end_lsn })
            }
            Message::Logical { transactional: false, lsn, prefix, content } => {
                Ok(Event::Message { lsn, prefix, content })
            }
            message => {
                let change = self.state.change(message, place.lsn);
                let event = change.map(|change| match early {
                    Some(subxid) => Event::Early { subxid, change },
                    None => Event::Change(change),
                });
                event.ok_or_else(|| self.nothing_begun())
            }
        }
    }

    fn transaction(&self) -> Result<&Arc<Transaction>, WalError> {
        self.state.transaction.as_ref().ok_or_else(|| self.nothing_begun())
    }

    fn nothing_begun(&self) -> WalError {
        self.protocol(
            "a change comes outside of any transaction, or of a table not described".to_owned(),
        )
    }

    fn protocol(&self, problem: String) -> WalError {
        WalError::Protocol { endpoint: self.endpoint.clone(), problem }
    }

    fn lost(&self, problem: &str) -> WalError {
        WalError::Lost { endpoint: self.endpoint.clone(), problem: problem.to_owned() }
    }

    fn ended_by(&self, said: ServerMessage) -> WalError {
        // 57P01: an administrator or a shutdown; 57P03: starting again.
        if said.code.starts_with("57P") {
            return self.lost(&said.message);
        }
        if said.code == "55000" && said.message.contains("slot") {
            return WalError::SlotLost {
                endpoint: self.endpoint.clone(),
                slot: self.state.source.slot.to_string(),
                reason: said.message,
                confirmed: self.sender.feedback().position(),
            };
        }
        refused(&self.endpoint, "go on streaming", said)
    }

    /// Ends the stream: the server hears the last position, and has a moment to end it as well.
    pub async fn close(mut self) {
        let ending = async {
            self.sender.close().await;
            while let Ok(frame) = self.reader.frame().await {
                if matches!(frame, Frame::Ended | Frame::Refused(_)) {
                    return;
                }
            }
        };
        // Whether the server took leave or not, the socket closes now.
        let _closed = tokio::time::timeout(CLOSE_LIMIT, ending).await;
    }
}

/// Where a message's bytes are, whichever way it came.
fn bytes_of<'a>(place: &Place, reader: &'a CopyReader, spools: &'a Spools) -> &'a [u8] {
    if place.spooled { spools.bytes_at(&place.at) } else { reader.bytes(&place.at) }
}

fn malformed(endpoint: &str, lsn: Lsn, source: Malformed) -> WalError {
    WalError::Malformed { endpoint: endpoint.to_owned(), lsn, source }
}
