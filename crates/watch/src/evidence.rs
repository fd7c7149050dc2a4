use std::time::Duration;

use herdsman_node::{Lsn, SystemId, Timeline};

/// What one probe of one node saw: only what the node said of itself, nothing concluded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Evidence {
    /// Which cluster it belongs to.
    pub(crate) system_id: SystemId,
    /// Whether it replays another server's log (`pg_is_in_recovery()`).
    pub(crate) in_recovery: bool,
    /// The timeline it writes (primary), or the one it receives or last checkpointed (standby).
    ///
    /// A primary's comes from the name of the log file it writes: `pg_control_checkpoint()` keeps the old timeline
    /// for minutes after a promotion.
    pub(crate) timeline: Timeline,
    /// The position it has flushed (primary) or replayed (standby).
    pub(crate) lsn: Lsn,
    /// How far it received its upstream's log when it last had one; kept through a promotion.
    pub(crate) received: Option<Lsn>,
    /// Whether it refuses writes by `default_transaction_read_only`.
    pub(crate) read_only: bool,
    /// Its log receiver, on a standby that has one.
    pub(crate) receiver: Option<Receiver>,
    /// Its log senders.
    pub(crate) senders: Vec<Sender>,
    /// Where its timeline left each earlier one, oldest first; empty on timeline 1 and where it may not be read.
    pub(crate) branches: Vec<Branch>,
    /// `server_version_num`.
    pub(crate) server_version: u32,
    /// Whether our role lacks `pg_monitor`, so that receivers and senders are not shown in full.
    pub(crate) blind: bool,
}

/// A standby's word on whom it follows (`pg_stat_wal_receiver`).
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Receiver {
    /// Whether it is streaming; `waiting`, `starting` and the rest are not.
    pub(crate) streaming: bool,
    /// Host it connects to, as its configuration says.
    pub(crate) host: String,
    /// Port it connects to.
    pub(crate) port: u16,
    /// Timeline it receives.
    pub(crate) timeline: Option<Timeline>,
    /// Replication slot it uses.
    pub(crate) slot: Option<String>,
    /// Name it presents to its upstream.
    pub(crate) application_name: Option<String>,
}

/// An upstream's word on who follows it (`pg_stat_replication`).
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sender {
    /// Name the follower presented.
    pub(crate) application_name: String,
    /// Whether it is streaming, rather than catching up or taking a backup.
    pub(crate) streaming: bool,
    /// What the follower said it has replayed; a mere log archiver says nothing.
    pub(crate) replayed: Option<Lsn>,
    /// Age of the follower's last message.
    pub(crate) age: Option<Duration>,
    /// Replication slot in use.
    pub(crate) slot: Option<String>,
}

/// Where a timeline left its parent: one line of a history file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Branch {
    /// The timeline that was left.
    pub(crate) parent: Timeline,
    /// The position at which it was left.
    pub(crate) at: Lsn,
}

/// One attempt to look at a node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sighting {
    /// It answered.
    Seen(Box<Evidence>),
    /// It did not answer in time; it may yet.
    Missed(String),
    /// It is certain that it cannot be used now: refused, closed, rejected.
    Gone(String),
}

impl Evidence {
    /// Where this node's history left `parent`, if it did and may be read.
    #[must_use]
    pub(crate) fn left(&self, parent: Timeline) -> Option<Lsn> {
        self.branches.iter().find(|branch| branch.parent == parent).map(|branch| branch.at)
    }
}
