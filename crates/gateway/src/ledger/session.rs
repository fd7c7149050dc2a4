//! One client's session: its socket, its state, and the messages it sends.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;

use bytes::BytesMut;
use herdsman_ledger::Offset;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::LedgerDoor;
use super::answers::Held;
use super::fault::{Fault, Trouble};
use super::said;
use super::server::{APPLICATION, Server};
use super::step::{Ours, Prepared, Step};
use crate::client::{Card, Order, State};
use crate::listen::{Client, ClientStream};
use crate::shared::Shared;
use crate::wire::error::code;
use crate::wire::{HEADER, Problem, frontend, header};

/// Read at once, if it is there.
pub(super) const READ: usize = 8 * 1024;
/// What a client may send ahead.
pub(super) const AHEAD: usize = 64 * 1024;
/// The longest message: more than an entry of the log takes.
const LONGEST: usize = 64 * 1024 * 1024;
/// Answers kept back until it is known whether what they are of has committed, and the messages that asked for them; with
/// more, it is not run again.
pub(super) const HELD_MOST: usize = 1024 * 1024;
/// Answers are sent when they are complete, or so many.
pub(super) const OUT_MOST: usize = 64 * 1024;

/// Where the client is with its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tx {
    Idle,
    /// One of ours around what stands alone.
    Implicit,
    Explicit,
    Failed,
}

/// How fresh reads are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Level {
    Eventual,
    #[default]
    Session,
    Linearizable,
}

/// A client of the ledger.
pub(super) struct Session {
    pub(super) stream: ClientStream,
    pub(super) unread: BytesMut,
    pub(super) out: Vec<u8>,
    pub(super) card: Arc<Card>,
    shared: Arc<Shared>,
    pub(super) door: Arc<LedgerDoor>,
    pub(super) server: Option<Server>,
    pub(super) statements: HashMap<Vec<u8>, Prepared>,
    /// Portals that are answered here.
    pub(super) portals: HashMap<Vec<u8>, Ours>,
    /// What the client has set, as SQL by name; and what it has in the transaction that runs: `None` took it away.
    pub(super) settings: Vec<(String, String)>,
    pub(super) pending: Vec<(String, Option<String>)>,
    /// The connection is to be made anew after the transaction.
    pub(super) renew: bool,
    /// What the client was told of the server's session.
    pub(super) told: HashMap<String, String>,
    pub(super) tx: Tx,
    pub(super) serializable: bool,
    pub(super) serializable_default: bool,
    pub(super) read: Level,
    /// What the client has seen of the log.
    pub(super) seen: Offset,
    pub(super) held: Held,
    /// Answers of the transaction that runs have been shown: it is not run again.
    pub(super) shown: bool,
    /// Extended messages are passed over until the next `Sync`.
    pub(super) skipping: bool,
    /// Extended messages that wait to be sent.
    pub(super) run: Vec<Step>,
    /// What was done in the implicit transaction.
    pub(super) steps: Vec<Step>,
}

impl Session {
    pub(super) fn new(client: Client, shared: Arc<Shared>, door: Arc<LedgerDoor>) -> Self {
        let Client { stream, unread, card, settings, .. } = client;
        let settings = settings.values.iter().filter(|(name, _)| **name != *APPLICATION);
        let settings =
            settings.map(|(name, value)| (name.to_string(), format!("SET \"{name}\" TO {value}")));
        let welcome = door.welcome.get().cloned().unwrap_or_default();
        Self {
            stream,
            unread,
            out: Vec::new(),
            card,
            shared,
            server: None,
            statements: HashMap::new(),
            portals: HashMap::new(),
            settings: settings.collect(),
            pending: Vec::new(),
            renew: false,
            told: welcome.into_iter().collect(),
            tx: Tx::Idle,
            serializable: false,
            serializable_default: false,
            read: Level::default(),
            seen: Offset::GENESIS,
            held: Held::default(),
            shown: false,
            skipping: false,
            run: Vec::new(),
            steps: Vec::new(),
            door,
        }
    }

    /// Serves the client until it leaves.
    ///
    /// # Errors
    /// The connection's own.
    pub(super) async fn serve(mut self) -> io::Result<()> {
        let ended = loop {
            let message = match self.message().await {
                Ok(Some(message)) => message,
                Ok(None) => break None,
                Err(trouble) => break Some(trouble),
            };
            if let Err(trouble) = Box::pin(self.answer(&message)).await {
                break Some(trouble);
            }
        };
        self.card.cancel.set(None);
        if let Some(trouble) = ended {
            trouble.put(&mut self.out);
        }
        self.send().await?;
        self.stream.shutdown().await
    }

    /// The client's next message, whole; `None` where the session is over.
    async fn message(&mut self) -> Result<Option<BytesMut>, Trouble> {
        loop {
            let violation =
                |what: String| Trouble::Leave(Some(Problem::new(code::PROTOCOL_VIOLATION, what)));
            match header(&self.unread).map_err(|malformed| violation(malformed.to_string()))? {
                Some(header) if header.len > LONGEST => {
                    return Err(violation(format!(
                        "a message of {} bytes is too long",
                        header.len
                    )));
                }
                Some(header) if self.unread.len() >= header.len => {
                    return Ok(Some(self.unread.split_to(header.len)));
                }
                _ => {}
            }
            // The client may wait for the answers to what it has sent. Meanwhile more of it may have come.
            if !self.run.is_empty() {
                self.drive().await?;
                continue;
            }
            self.send().await?;
            let idle = self.tx == Tx::Idle;
            let state = if idle { State::Idle } else { State::InTransaction };
            self.card.enter(state, self.shared.clock.now());
            self.unread.reserve(READ);
            let read = tokio::select! {
                biased;
                read = self.stream.read_buf(&mut self.unread) => read?,
                problem = leave(&self.card, !idle) => return Err(Trouble::Leave(Some(problem))),
            };
            self.card.enter(State::Active, self.shared.clock.now());
            if read == 0 {
                return Ok(None);
            }
        }
    }

    async fn answer(&mut self, message: &[u8]) -> Result<(), Trouble> {
        let body = message.get(HEADER..).unwrap_or_default();
        match message.first() {
            Some(&frontend::TERMINATE) => return Err(Trouble::Leave(None)),
            Some(&frontend::QUERY) => {
                self.drive().await?;
                self.skipping = false;
                self.simple(body).await?;
                self.ready();
            }
            Some(&frontend::SYNC) => {
                self.sync().await?;
                self.ready();
            }
            Some(&frontend::FLUSH) => {
                self.drive().await?;
                self.show().await?;
                self.send().await?;
            }
            Some(&frontend::FUNCTION_CALL) => {
                let fault =
                    Fault::new("0A000", "function calls of the protocol are not for a ledger");
                self.fail(&fault.into(), false).await?;
                self.ready();
            }
            // As PostgreSQL does outside of a COPY.
            Some(&(frontend::COPY_DATA | frontend::COPY_DONE | frontend::COPY_FAIL)) => {}
            Some(
                &(frontend::PARSE
                | frontend::BIND
                | frontend::DESCRIBE
                | frontend::EXECUTE
                | frontend::CLOSE),
            ) => {
                if !self.skipping
                    && let Err(trouble) = self.extended(message).await
                {
                    self.skip_after(&trouble, false).await?;
                }
            }
            _ => {
                let what = "a message that has no place here";
                return Err(Trouble::Leave(Some(Problem::new(code::PROTOCOL_VIOLATION, what))));
            }
        }
        Ok(())
    }
}

/// The settings of a start-up packet that cannot be made.
pub(super) fn unfit(settings: &crate::settings::Settings) -> Option<String> {
    settings.values.iter().find_map(|(name, value)| said::unfit(name, value))
}

/// Ends when the client has to leave, with the reason; while it is busy, only for what cannot wait.
pub(super) async fn leave(card: &Card, busy: bool) -> Problem {
    poll_fn(|cx| {
        card.register(cx.waker());
        let problem = match card.ordered() {
            Order::None => return Poll::Pending,
            Order::End => {
                Problem::new(code::SHUTDOWN, "an administrator has ended this connection")
            }
            Order::Drain if busy => return Poll::Pending,
            Order::Drain => Problem::new(code::SHUTDOWN, "the gateway is shutting down"),
            Order::Idle | Order::IdleInTransaction | Order::QueryTimeout => {
                Problem::new(code::IDLE_TOO_LONG, "this takes too long")
            }
        };
        Poll::Ready(problem)
    })
    .await
}
