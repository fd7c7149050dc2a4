//! How far every member is.

mod board;

use std::collections::BTreeMap;

use herdsman_node::{Lsn, NodeName};

pub(crate) use board::{Board, LinkBoard, LinkState, TargetBoard, TargetState};

/// The mesh as this process sees it.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Status {
    /// What keeps this process from knowing who is in the mesh, if something does.
    pub problem: Option<String>,
    /// By member, what comes to it.
    pub targets: BTreeMap<String, TargetStatus>,
}

/// What comes to one member.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct TargetStatus {
    /// `connecting`, `working`, `waiting` (another process has the lease), `paused` or `failing`.
    pub state: String,
    /// What is wrong, if something is.
    pub problem: Option<String>,
    /// By source. The member itself is one: its own changes are looked at again.
    pub links: BTreeMap<String, LinkStatus>,
    /// Rows applied since this process began.
    pub rows: u64,
    /// Rows applied in a second, of late.
    pub rows_per_second: f64,
    /// Conflicts recorded since this process began.
    pub conflicts: u64,
}

/// What comes to one member from one other.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct LinkStatus {
    /// `streaming`, `paused`, `connecting` or `failing`.
    pub state: String,
    /// What is wrong, if something is.
    pub problem: Option<String>,
    /// Where the source's log ends, as far as it has told.
    pub sent: Lsn,
    /// What is applied and on disk.
    pub confirmed: Lsn,
    /// Bytes between the two.
    pub lag_bytes: u64,
    /// Seconds since the oldest change that is not yet applied was committed; where nothing is heard from the source,
    /// since it was last heard; 0 when nothing waits.
    pub lag_seconds: f64,
    /// Changes applied from there since this process began.
    pub rows: u64,
    /// Transactions applied from there since this process began.
    pub transactions: u64,
}

/// A link: who wrote, and who receives it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkName {
    /// Who wrote.
    pub source: NodeName,
    /// Who receives it.
    pub target: NodeName,
}
