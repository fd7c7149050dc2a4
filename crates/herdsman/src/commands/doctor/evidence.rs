//! What was seen of every node and section: the ground that findings are judged from.

use std::collections::{BTreeMap, BTreeSet};

use herdsman_hooks::Obstacle;
use herdsman_ledger::config::NodeConfig;
use herdsman_ledger::node::Place;
use herdsman_mesh::install::{Plan, Survey};
use herdsman_mesh::status::Status;
use herdsman_node::{ConnectErrorKind, NodeName};
use herdsman_stream::diagnose;
use herdsman_wal::publication::TableFacts;
use herdsman_wal::slot::Slot;
use herdsman_watch::Topology;
use serde::Deserialize;

/// Everything.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// What each node says, asked with the login that `hosts` has.
    pub(super) nodes: BTreeMap<NodeName, Seen>,
    /// What a watcher concludes; none where it could not be started.
    pub(super) topology: Option<Topology>,
    /// None where nothing is streamed.
    pub(super) stream: Option<StreamSeen>,
    /// None where there is no mesh.
    pub(super) mesh: Option<MeshSeen>,
    /// None where there is no ledger.
    pub(super) ledger: Option<LedgerSeen>,
    /// Logins of the gateway's users that were tried.
    pub(super) logins: Vec<Login>,
    /// How the gateway's look-up of users went; none where there is none, or no node to ask.
    pub(super) auth_query: Option<(NodeName, Result<(), Refused>)>,
    /// By the name of each hook that can be looked at, what keeps it from doing what it should.
    pub(super) hooks: Vec<(String, Vec<Obstacle>)>,
    /// How many files a process may open that is started from here; none for any number.
    pub(super) open_files: Option<u64>,
    /// How many connections this machine's kernel lets wait at a listening socket; none where it does not tell.
    pub(super) waiting: Option<u64>,
}

/// One node.
#[derive(Debug)]
pub(super) enum Seen {
    /// It let us in.
    In(Box<Server>),
    /// It did not, or the settings for TLS make no sense.
    Out(Unreached),
}

/// Why a node could not be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unreached {
    /// None: its certificates cannot be used here.
    pub(super) kind: Option<ConnectErrorKind>,
    pub(super) endpoint: String,
    pub(super) problem: String,
}

/// A node that answers.
#[derive(Clone, Debug, Default)]
pub(super) struct Server {
    pub(super) facts: ServerFacts,
    pub(super) slots: Vec<Slot>,
    /// Tables whose UPDATEs or DELETEs are published, with what tells their rows apart: by publication.
    pub(super) published: Vec<(String, TableFacts)>,
    /// None where its clock could not be read.
    pub(super) clock: Option<Clock>,
    /// Questions that were not answered, and why.
    pub(super) unanswered: Vec<(&'static str, String)>,
}

/// Settings and rights, as the server tells them in one answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct ServerFacts {
    pub(super) version: u32,
    pub(super) version_text: String,
    pub(super) in_recovery: bool,
    pub(super) wal_level: String,
    pub(super) role: String,
    pub(super) superuser: bool,
    /// Whether our role has what `pg_monitor` may see.
    pub(super) monitor: bool,
    pub(super) history: History,
    /// Whether this connection is encrypted; none where the server does not tell.
    pub(super) encrypted: Option<bool>,
    pub(super) max_connections: u64,
    /// Of those, kept for superusers and roles with `pg_use_reserved_connections`.
    pub(super) reserved: u64,
    /// In use now, ours included.
    pub(super) connections: u64,
    pub(super) max_senders: u64,
    pub(super) senders: u64,
    pub(super) max_slots: u64,
    pub(super) max_workers: u64,
    pub(super) max_apply_workers: u64,
    /// Subscriptions that are switched on.
    pub(super) subscriptions: u64,
    pub(super) max_prepared: u64,
    pub(super) max_locks: u64,
    /// Bytes of log that a slot may hold back before it is lost; none without such a limit.
    pub(super) keep_size: Option<u64>,
    /// Whether replay stands still on purpose.
    pub(super) paused: bool,
    /// What its receiver does; none without one, and where our role may not see it.
    pub(super) receiver: Option<String>,
    pub(super) heartbeat_table: HeartbeatTable,
    /// Whether our role may promote a standby.
    pub(super) may_promote: bool,
    /// Whether our role may have it write a checkpoint, where that can be granted.
    pub(super) may_checkpoint: bool,
}

/// How our role may read the history of timelines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum History {
    /// By the function of our documentation, or as a superuser.
    #[default]
    Open,
    /// The function is there, and our role may not use it.
    Withheld,
    /// There is no such function.
    Missing,
}

/// Whether the table of heartbeats is there and can be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum HeartbeatTable {
    /// It can, or it can be made.
    #[default]
    Writable,
    /// It is there, and our role may not write it.
    Closed,
    /// It is not there, and our role may not make it.
    Missing,
}

/// How far a node's clock is from ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    /// Microseconds that it is ahead of ours.
    pub(super) ahead_micros: i64,
    /// Half of the time that asking took: it is no further off than that.
    pub(super) within_micros: u64,
}

/// The stream.
#[derive(Debug)]
pub(super) enum StreamSeen {
    /// There is no node to read from, and why.
    NoNode(String),
    /// It was looked at.
    Diagnosed(Diagnosed),
}

/// The stream, on the node it reads from.
#[derive(Debug)]
pub(super) struct Diagnosed {
    pub(super) node: NodeName,
    /// Who it logs in as.
    pub(super) role: String,
    /// What `herdsman stream diagnose` finds.
    pub(super) report: diagnose::Report,
    /// What it may not read of its tables.
    pub(super) unreadable: Unreadable,
}

/// What a role may not read of the tables it is to copy; names in quotes, as SQL takes them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) schemas: BTreeSet<String>,
    pub(super) tables: BTreeSet<String>,
}

/// The mesh.
#[derive(Debug, Default)]
pub(super) struct MeshSeen {
    pub(super) survey: Survey,
    /// Members that could not be looked at, and why.
    pub(super) unreached: BTreeMap<NodeName, String>,
    /// What `herdsman mesh up` would do.
    pub(super) plan: Plan,
    /// How far the members are; none where no node is one yet.
    pub(super) status: Option<Result<Status, String>>,
}

/// The ledger.
#[derive(Debug)]
pub(super) struct LedgerSeen {
    pub(super) nodes: Vec<LedgerNodeSeen>,
    pub(super) log: LedgerLogSeen,
}

/// One database of the ledger.
#[derive(Debug)]
pub(super) struct LedgerNodeSeen {
    pub(super) name: String,
    pub(super) config: NodeConfig,
    /// What is known of it beside, where it is a PostgreSQL server.
    pub(super) server: Option<LedgerServer>,
    /// Where it is in the log, as it has written down; nothing where it follows none yet.
    pub(super) place: Result<Option<Place>, String>,
}

/// A PostgreSQL server of the ledger.
#[derive(Debug)]
pub(super) struct LedgerServer {
    pub(super) host: NodeName,
    /// Who the ledger logs in as, and into what.
    pub(super) user: String,
    pub(super) database: String,
    /// Nothing where it did not understand the question.
    pub(super) rights: Result<Option<LedgerRights>, Unreached>,
}

/// What the ledger's role may do on a PostgreSQL server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct LedgerRights {
    pub(super) role: String,
    pub(super) in_recovery: bool,
    /// Whether it may set `session_replication_role`.
    pub(super) may_set: bool,
    /// Where its tables are made; none where nothing of its `search_path` can be used.
    pub(super) schema: Option<String>,
    /// Whether it may make tables there.
    pub(super) may_create: bool,
    /// Tables of the ledger that are not its own; as SQL takes them.
    pub(super) not_own: Vec<String>,
}

/// The ledger's log.
#[derive(Debug, Default)]
pub(super) struct LedgerLogSeen {
    pub(super) what: String,
    /// Brokers, or files, that were looked at.
    pub(super) places: usize,
    /// What is wrong with them: one for each at most.
    pub(super) problems: Vec<String>,
}

/// A user of the gateway, tried on a node.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) user: String,
    /// Who that is on the servers.
    pub(super) server_user: String,
    pub(super) database: String,
    pub(super) node: NodeName,
    pub(super) outcome: Result<(), Refused>,
}

/// Why something was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// Whether a right is missing, and not a password or the way there.
    pub(super) right: bool,
    pub(super) problem: String,
}

impl Evidence {
    /// The nodes that let us in.
    pub(super) fn servers(&self) -> impl Iterator<Item = (&NodeName, &Server)> {
        self.nodes.iter().filter_map(|(node, seen)| match seen {
            Seen::In(server) => Some((node, &**server)),
            Seen::Out(_) => None,
        })
    }
}
