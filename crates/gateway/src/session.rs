//! One client's protocol state: the pure heart. What the client and its server say goes in, what is to be said to either
//! comes out, and when a server is needed, done with, or lost.
//!
//! Nothing here does I/O or reads a clock. Messages are walked by their lengths and copied as they are; only the few that
//! carry a name, a text or a state are looked into.

mod aftermath;
mod ahead;
mod batch;
mod expect;
mod fromclient;
mod fromserver;
mod guard;
mod local;
mod loss;
mod pins;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use herdsman::classify::Classifier;
use herdsman::policy::Want;

use crate::config::{PoolMode, SessionState, Target};
use crate::effects::Effect;
use crate::settings::Settings;
use crate::statements::{ServerStatements, Statement};
use crate::wire::backend::Status;
use crate::wire::{Malformed, Problem};

pub(crate) use batch::Needs;
use expect::Expects;
pub(crate) use guard::Guard;
pub(crate) use loss::{After, Told};

/// What holds for a session and does not change within a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) classifier: &'a Classifier,
    pub(crate) target: &'a Target,
    pub(crate) mode: PoolMode,
    pub(crate) session_state: SessionState,
    /// Prepared statements kept per server connection.
    pub(crate) prepared: usize,
    /// What is checked with each write.
    pub(crate) guard: Option<Guard<'a>>,
}

/// The server connection a session has, as far as the heart has to know it.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    pub(crate) settings: &'a mut Settings,
    pub(crate) statements: &'a mut ServerStatements,
    pub(crate) reported: &'a mut Vec<(Box<str>, Box<str>)>,
}

/// What is to be sent.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    pub(crate) to_client: Vec<u8>,
    pub(crate) to_server: Vec<u8>,
}

/// What comes after bytes of the client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fed {
    /// More of them are needed.
    More,
    /// A server is needed (see [`Session::needs`]); then the rest of them again.
    Need,
    /// The server has to finish first; then the rest of them again.
    Wait,
    /// The client says goodbye.
    Goodbye,
    /// The client is told this and sent away.
    End(Problem),
}

/// What comes after bytes of the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// More of them are needed, or will come.
    More,
    /// The server has answered everything and holds no transaction of the client.
    Done,
    /// It refused a read that another node can answer; nothing of it has been shown.
    Elsewhere(Elsewhere),
    /// It says that it ends the connection.
    Lost(Told),
    /// The check that went with a write has failed: nothing was done, and all of it is to be sent again where it may.
    Guarded,
    /// A setting the client relies on was refused: nothing that came after it counts.
    Poisoned,
    /// What it says makes no sense.
    Nonsense(Malformed),
}

/// Why a statement goes elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elsewhere {
    /// It writes after all: to the writer.
    Writes,
    /// A standby's replay was in its way: to another reader.
    Conflict,
}

/// Where the client's transaction is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tx {
    /// As the server's last status says.
    AtServer,
    /// Begun towards the client, not yet on any server: this text is sent ahead of the first statement.
    Ahead { begin: Vec<u8>, read_only: bool },
    /// Failed without a server: only its end is accepted.
    Broken,
}

/// One client's session.
#[derive(Debug)]
pub(crate) struct Session {
    /// As the server, or we in its place, last said.
    status: Status,
    tx: Tx,
    /// Why the transaction broke, for the client's next statement.
    owed: Option<Problem>,
    expects: Expects,
    /// What statements under way leave behind when they succeed, in order.
    effects: VecDeque<Effect>,
    /// Bytes of the client's current message that still go to the server as they are.
    pass: usize,
    /// Bytes of the client's current message that go nowhere.
    discard: usize,
    /// Bytes of the server's current message that still go to the client as they are.
    server_pass: usize,
    /// Bytes of the server's current message that go nowhere.
    server_discard: usize,
    /// The client's prepared statements by its own names.
    names: HashMap<Box<[u8]>, Arc<Statement>>,
    /// Those of them that came since the last `Sync`.
    added: Vec<(Box<[u8]>, u64)>,
    /// The unnamed statement: text and types, and whether the server has it.
    unnamed: Unnamed,
    /// Which statement a portal was made of, while that matters.
    portals: Vec<(Box<[u8]>, Arc<Statement>)>,
    /// The effect of the unnamed portal's statement.
    bound: Effect,
    /// The batch being looked at before it has a server.
    batch: batch::Batch,
    /// Set by `SET` and the start-up packet.
    settings: Settings,
    /// What `RESET` goes back to.
    startup: Settings,
    /// What they were before the transaction, if it changed them.
    before: Option<(Settings, Settings)>,
    /// A check went ahead of what is under way, which commits by itself, and has not been answered.
    guarded: bool,
    /// Whether one is due with the batch that begins.
    check: guard::Due,
    /// One was sent along with the bytes at hand.
    checked: bool,
    /// Length of the check within the text that was sent.
    prefix: usize,
    /// An error to be shown in place of the one that came.
    instead: Vec<u8>,
    /// The last statement was a rollback; of all, if the transaction is over.
    rolled_back: bool,
    /// A partial rollback happened after the transaction changed settings: nobody knows them.
    unsure: bool,
    /// Why the server connection belongs to the client until it leaves, if it does.
    pins: Vec<&'static str>,
    /// The server connection is not to be used by anybody else.
    tainted: bool,
    /// Length of the batch that was answered without a server.
    taken_here: usize,
    /// A server was attached and has been sent nothing.
    fresh: bool,
    /// Extended messages were sent since the last `Sync`.
    unsynced: bool,
    /// The server skips everything up to the next `Sync`.
    skipping: bool,
    /// The answer to what is under way may still be thrown away and asked of another node.
    retractable: bool,
    /// Length of `to_client` where that answer begins.
    mark: usize,
    /// What is under way may commit.
    commits: bool,
    /// What is under way may write.
    writes: bool,
    /// The commit may be acknowledged before it is flushed.
    early: bool,
    /// A reader refused what is to be sent again: it writes.
    to_writer: bool,
    /// Something of the answer under way has been shown.
    shown: bool,
    /// The last commit was not confirmed by synchronous standbys.
    unconfirmed: bool,
    /// A commit was refused by its check, which is still to be said.
    refused_commit: bool,
    /// Nothing is shown up to the next `ReadyForQuery`.
    muted: bool,
    /// The server wants `COPY` data.
    copying: bool,
    /// Statements carried out, for the statistics.
    pub(crate) queries: u64,
    /// The same of prepared statements.
    pub(crate) prepared: Prepared,
}

/// What was done with prepared statements, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prepared {
    /// By the client.
    pub(crate) client_parses: u64,
    /// On servers, for clients.
    pub(crate) server_parses: u64,
    pub(crate) binds: u64,
}

#[derive(Debug, Default)]
struct Unnamed {
    text: Vec<u8>,
    /// Where in `text` the types begin.
    types: usize,
    known: bool,
    at_server: bool,
    effect: Option<Effect>,
}

impl Session {
    pub(crate) fn new(startup: Settings, pinned: bool) -> Self {
        Self {
            status: Status::Idle,
            tx: Tx::AtServer,
            owed: None,
            expects: Expects::default(),
            effects: VecDeque::new(),
            pass: 0,
            discard: 0,
            server_pass: 0,
            server_discard: 0,
            names: HashMap::new(),
            added: Vec::new(),
            unnamed: Unnamed::default(),
            portals: Vec::new(),
            bound: Effect::None,
            batch: batch::Batch::default(),
            settings: startup.clone(),
            startup,
            before: None,
            guarded: false,
            check: guard::Due::No,
            checked: false,
            prefix: 0,
            instead: Vec::new(),
            rolled_back: false,
            unsure: false,
            pins: pinned.then_some(pins::SESSION_MODE).into_iter().collect(),
            tainted: false,
            taken_here: 0,
            fresh: false,
            unsynced: false,
            skipping: false,
            retractable: false,
            mark: 0,
            commits: false,
            writes: false,
            early: false,
            to_writer: false,
            shown: false,
            unconfirmed: false,
            refused_commit: false,
            muted: false,
            copying: false,
            queries: 0,
            prepared: Prepared::default(),
        }
    }

    /// What the client's next statement needs; meaningful after [`Fed::Need`].
    pub(crate) fn needs(&self) -> &Needs {
        &self.batch.needs
    }

    /// The settings the client relies on.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A server is there; `shown` is how much of `to_client` there is before its answers.
    pub(crate) fn attach(&mut self, shown: usize) {
        self.fresh = true;
        self.unnamed.at_server = false;
        self.to_writer = false;
        let plain = self.batch.needs.want == Want::Read && matches!(self.tx, Tx::AtServer);
        self.retractable = plain;
        self.mark = shown;
        self.shown = false;
    }

    /// Whether the answer so far is not to be sent yet.
    pub(crate) fn holds_back(&self) -> bool {
        self.retractable && !self.shown
    }

    /// Length of `to_client` before the answer that is held back.
    pub(crate) fn mark(&self) -> usize {
        self.mark
    }

    /// Whether what has been sent could be asked of another server without anybody noticing.
    pub(crate) fn may_go_elsewhere(&self) -> bool {
        self.retractable && !self.shown
    }

    /// Whether what the client says is to be kept by the caller, in case it is to be sent again.
    pub(crate) fn keeps(&self) -> bool {
        self.may_go_elsewhere() || self.guarded
    }

    /// The server is given up and what was sent to it is to be sent to another: everything as before it was sent. The
    /// caller has kept the bytes, and cuts its output to the returned length.
    pub(crate) fn rewind(&mut self) -> usize {
        // A check is answered before everything else: of what it goes with, nothing has been.
        let guarded = self.guarded;
        self.forget_server();
        self.names_undone();
        // The client will have said it once only; what a server has prepared stays prepared.
        self.prepared.client_parses = 0;
        self.prepared.binds = 0;
        if guarded { usize::MAX } else { self.mark }
    }

    /// How many named statements the client has prepared.
    pub(crate) fn prepared_statements(&self) -> usize {
        self.names.len()
    }

    /// Where the client's transaction is, for the console and the caller's timeouts.
    pub(crate) fn in_transaction(&self) -> bool {
        self.status != Status::Idle || self.tx != Tx::AtServer
    }

    /// Whether nothing is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.expects.is_empty() && self.pass == 0 && !self.unsynced
    }

    /// Whether the connection may be used by somebody else after this client, as it is.
    pub(crate) fn leaves_clean(&self) -> bool {
        !self.tainted && self.holds_state().is_none()
    }

    /// What is to be sent again belongs to the writer.
    pub(crate) fn must_write(&mut self) {
        self.to_writer = true;
    }

    /// The text of a simple query, or of the first statement of extended messages, at the start of `input`.
    pub(crate) fn text_of<'a>(&'a self, input: &'a [u8]) -> Option<&'a str> {
        let head = crate::wire::header(input).ok()??;
        let body = input.get(crate::wire::HEADER..head.len)?;
        let text = match head.tag {
            crate::wire::frontend::QUERY => crate::wire::frontend::query(body).ok()?,
            crate::wire::frontend::PARSE => crate::wire::frontend::parse(body).ok()?.query,
            crate::wire::frontend::BIND => {
                let name = crate::wire::frontend::bind(body).ok()?.statement;
                match self.names.get(name) {
                    Some(statement) => &statement.query,
                    None => self.unnamed.query(),
                }
            }
            _ => return None,
        };
        str::from_utf8(text).ok()
    }

    /// Whether commits may be acknowledged before they are flushed, by what the client has set.
    pub(crate) fn take_early(&mut self) -> bool {
        std::mem::take(&mut self.early) || self.settings.get("synchronous_commit").is_some()
    }

    /// Whether what is under way may write, for read-your-writes.
    pub(crate) fn take_wrote(&mut self) -> bool {
        std::mem::take(&mut self.writes)
    }

    /// The server connection was handed back.
    pub(crate) fn detach(&mut self) {
        self.fresh = false;
        self.unnamed.at_server = false;
        self.portals.clear();
        self.retractable = false;
        self.tainted = false;
    }

    fn forget_server(&mut self) {
        self.expects.clear();
        self.effects.clear();
        self.pass = 0;
        self.server_pass = 0;
        self.server_discard = 0;
        self.unsynced = false;
        self.skipping = false;
        self.copying = false;
        self.unconfirmed = false;
        self.muted = false;
        self.guarded = false;
        self.prefix = 0;
        self.detach();
    }

    fn names_undone(&mut self) {
        for (name, _) in self.added.drain(..) {
            self.names.remove(&name);
        }
    }
}
