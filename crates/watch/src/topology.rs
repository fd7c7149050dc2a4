use std::collections::BTreeMap;
use std::fmt;

use herdsman_node::{Lsn, NodeName, Role, SystemId, Timeline};
use serde::{Deserialize, Serialize};

use crate::Moment;

/// What Herdsman knows of the whole cluster at one moment: the verdict and every node's place in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Topology {
    /// Grows by at least one with every publication.
    pub version: u64,
    /// Grows by one each time another node becomes the proven primary (or the same one on another timeline).
    pub term: u64,
    /// The cluster's system identifier, once known.
    pub system_id: Option<SystemId>,
    /// Who may be written to, or why nobody.
    pub verdict: Verdict,
    /// Every configured node.
    pub nodes: BTreeMap<NodeName, NodeView>,
}

/// The judge's conclusion about the primary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Verdict {
    /// One node is the primary, with proof.
    Primary {
        /// The primary.
        node: NodeName,
        /// The timeline it writes.
        timeline: Timeline,
        /// What proves it.
        proof: Proof,
        /// The proof in words.
        reason: String,
    },
    /// Two or more nodes claim the role and nothing proves which claim is true.
    SplitBrain {
        /// Who claims it.
        claimants: Vec<NodeName>,
        /// What is missing, in words.
        reason: String,
    },
    /// Nobody may be written to.
    None {
        /// Why, for programs.
        why: Why,
        /// Why, in words.
        reason: String,
    },
}

/// What a verdict is to somebody who asks about some of the nodes only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// The proven primary is among them.
    Primary(&'a NodeName),
    /// There is a split brain, and one of those who claim is among them.
    SplitBrain,
    /// None of them may be written to.
    None,
}

/// What proves a primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// Every reachable standby and the primary name each other, and enough of the cluster agrees.
    Attested,
    /// It held the role before, still answers, and nobody with a better claim exists.
    Incumbent,
    /// Its promotion was seen: it followed the last primary until just before, and lost nothing acknowledged.
    WitnessedPromotion,
    /// It has the newest timeline and every standby; the other claimants have none.
    Unanimous,
    /// The operator pinned it.
    Pinned,
    /// The configured outside authority names it.
    Authority,
}

/// Why nobody is the primary, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Nothing has been heard yet.
    Starting,
    /// No reachable node claims the role.
    NoClaimant,
    /// A node claims it, and reachable standbys do not follow it.
    Unattested,
    /// Too few nodes agree.
    NoQuorum,
    /// The only claimant is fenced: a newer primary was accepted before.
    Fenced,
    /// The only claimant refuses writes (`default_transaction_read_only`).
    ReadOnly,
    /// A promotion would lose writes that the last primary had acknowledged.
    LostWrites,
    /// Nodes of several clusters answer, and none is known to be ours.
    UnknownCluster,
    /// The operator's pin or the outside authority names a node that cannot be it now.
    Overruled,
    /// The members of a mesh take writes each on their own: there is no one primary to be found.
    Mesh,
}

/// One node in the topology.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// What it is seen to be. A fenced or foreign node is `unavailable`, whatever it says of itself.
    pub role: Role,
    /// Whether reads may be sent to it.
    pub readable: bool,
    /// Why not, or what is odd about it, in words.
    pub reasons: Vec<String>,
    /// Whether it is an old primary that must not be used until it has been seen in recovery.
    pub fenced: bool,
    /// Whether it belongs to another cluster.
    pub foreign: bool,
    /// Whether it is a member of a mesh: a primary of its own, with nothing to prove.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub member: bool,
    /// Its system identifier, when last heard.
    pub system_id: Option<SystemId>,
    /// The timeline it writes or follows, when last heard.
    pub timeline: Option<Timeline>,
    /// The position it has written (primary) or replayed (standby), when last heard.
    pub lsn: Option<Lsn>,
    /// Which node it replicates from, when both sides say so.
    pub follows: Option<NodeName>,
    /// How far behind the primary it is.
    pub lag: Option<Lag>,
    /// Whether it is so far behind that it is told of (`watch.lag_alarm`); stays as it was while the lag is not known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lag_alarm: bool,
    /// How long it takes to answer the watcher's question, in seconds: the network and the server's load, smoothed over a few
    /// answers. None while it does not answer.
    #[serde(default)]
    pub latency_seconds: Option<f64>,
    /// Its server version, as `server_version_num`.
    pub server_version: Option<u32>,
    /// When the last evidence was taken.
    #[serde(skip)]
    pub evidence_at: Option<Moment>,
    /// How old the last evidence was when this was written, in seconds. Filled by [`Topology::aged`].
    pub evidence_age_seconds: Option<f64>,
    /// The last failure to reach it, while it cannot be reached.
    pub error: Option<String>,
    /// State of its copy of the heartbeat row.
    #[serde(skip)]
    pub heartbeat: Heartbeat,
}

/// How far a standby is behind the primary.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lag {
    /// Log bytes the primary has written and the standby has not replayed.
    pub bytes: u64,
    /// Age in seconds of the oldest byte it has not replayed, by the watcher's own clock; 0 when it has all.
    pub seconds: f64,
}

/// What is known of the heartbeat row on a node (`/v1/{id}/availability`).
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Heartbeat {
    /// Not looked at.
    #[default]
    Unknown,
    /// The table is not there.
    Missing,
    /// The row's time, on the watcher's clock.
    Beat(Moment),
    /// Reading it failed.
    Failed(String),
}

impl Default for Verdict {
    fn default() -> Self {
        Self::None { why: Why::Starting, reason: "no node has answered yet".to_owned() }
    }
}

impl Default for NodeView {
    fn default() -> Self {
        Self {
            role: Role::Unavailable,
            readable: false,
            reasons: Vec::new(),
            fenced: false,
            foreign: false,
            member: false,
            system_id: None,
            timeline: None,
            lsn: None,
            follows: None,
            lag: None,
            lag_alarm: false,
            latency_seconds: None,
            server_version: None,
            evidence_at: None,
            evidence_age_seconds: None,
            error: None,
            heartbeat: Heartbeat::Unknown,
        }
    }
}

impl Topology {
    /// The proven primary, if there is one.
    #[must_use]
    pub fn primary(&self) -> Option<&NodeName> {
        match &self.verdict {
            Verdict::Primary { node, .. } => Some(node),
            Verdict::SplitBrain { .. } | Verdict::None { .. } => None,
        }
    }

    /// Whether the members of a mesh are watched, each on its own.
    #[must_use]
    pub fn is_mesh(&self) -> bool {
        matches!(self.verdict, Verdict::None { why: Why::Mesh, .. })
    }

    /// Whether a node may be written to: the proven primary, or in a mesh each member that is up.
    #[must_use]
    pub fn is_writer(&self, name: &NodeName) -> bool {
        self.primary() == Some(name)
            || self.nodes.get(name).is_some_and(|node| node.member && node.role == Role::Primary)
    }

    /// Nodes that may be read from, the primary not among them.
    pub fn readers(&self) -> impl Iterator<Item = &NodeName> {
        self.nodes
            .iter()
            .filter(|(_, view)| view.readable && view.role == Role::Standby)
            .map(|(name, _)| name)
    }

    /// Nodes seen in this role.
    pub fn with_role(&self, role: Role) -> impl Iterator<Item = &NodeName> {
        self.nodes.iter().filter(move |(_, view)| view.role == role).map(|(name, _)| name)
    }

    /// A copy with the age of each node's evidence filled in, for people and programs outside.
    #[must_use]
    pub fn aged(&self, now: Moment) -> Self {
        let mut copy = self.clone();
        for view in copy.nodes.values_mut() {
            view.evidence_age_seconds = view.evidence_at.map(|at| now.since(at).as_secs_f64());
        }
        copy
    }
}

impl NodeView {
    /// Whether its server was reached when last looked at, whatever it said.
    #[must_use]
    pub const fn answers(&self) -> bool {
        self.error.is_none() && self.evidence_at.is_some()
    }

    /// What is wrong with it, in words; empty if nothing is known to be.
    #[must_use]
    pub fn trouble(&self) -> String {
        self.error.clone().unwrap_or_else(|| self.reasons.join("; "))
    }
}

impl Verdict {
    /// The verdict for those who ask about a group of nodes.
    ///
    /// A group selects whom one hears about. It never hides a second primary: one claimant inside and another outside
    /// is a split brain all the same.
    pub fn answer(&self, is_member: impl Fn(&NodeName) -> bool) -> Answer<'_> {
        match self {
            Self::Primary { node, .. } if is_member(node) => Answer::Primary(node),
            Self::SplitBrain { claimants, .. } if claimants.iter().any(is_member) => {
                Answer::SplitBrain
            }
            Self::Primary { .. } | Self::SplitBrain { .. } | Self::None { .. } => Answer::None,
        }
    }

    /// The verdict's reason in words.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Primary { reason, .. }
            | Self::SplitBrain { reason, .. }
            | Self::None { reason, .. } => reason,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Primary { node, timeline, reason, .. } => {
                write!(f, "primary is {node} on timeline {timeline}: {reason}")
            }
            Self::SplitBrain { reason, .. } => write!(f, "split brain: {reason}"),
            Self::None { why: Why::Mesh, reason } => write!(f, "mesh: {reason}"),
            Self::None { reason, .. } => write!(f, "no primary: {reason}"),
        }
    }
}
