//! The `watch:` and `availability:` sections of the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use herdsman_node::{NodeName, SystemId, Timeline, units};
use serde::{Deserialize, Deserializer};

/// How the cluster is watched and judged: the `watch:` section.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchConfig {
    /// Time between two probes of a node. Default 500 ms: half a second of stale news costs a read, not a write.
    #[serde(deserialize_with = "duration")]
    pub interval: Duration,
    /// Bound on one probe and one connection attempt. Default 1 s; evidence older than `interval + timeout` counts
    /// for nothing.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
    /// Time between probes while there is no proven primary. Default 100 ms.
    #[serde(deserialize_with = "duration")]
    pub suspect_interval: Duration,
    /// Time between two empty queries to a standby, which make it report a promotion. Default 100 ms.
    #[serde(deserialize_with = "duration")]
    pub pulse: Duration,
    /// Time between two connections made only to see that new ones are accepted. Default 5 s.
    #[serde(deserialize_with = "duration")]
    pub fresh_connect_interval: Duration,
    /// First pause before reconnecting; doubled each time, with jitter. Default 50 ms.
    #[serde(deserialize_with = "duration")]
    pub backoff_min: Duration,
    /// Longest pause before reconnecting. Default 1 s.
    #[serde(deserialize_with = "duration")]
    pub backoff_max: Duration,
    /// What is done when two nodes claim to be primary. Default `proof`.
    pub split_brain: SplitBrain,
    /// How much of the cluster must agree before a primary is accepted. Default `auto`.
    pub quorum: Quorum,
    /// What becomes of a proven primary whose standbys cannot be reached any more. Default `keep`.
    pub lost_standbys: LostStandbys,
    /// How long a reachable standby may be detached before it stops counting against the primary. Default 5 s.
    #[serde(deserialize_with = "duration")]
    pub suspect_grace: Duration,
    /// How long after a standby was last seen following the primary its promotion still counts as witnessed.
    /// Default 15 s.
    #[serde(deserialize_with = "duration")]
    pub witness_window: Duration,
    /// A standby further behind is not readable. Default: no bound.
    pub max_lag: MaxLag,
    /// A node further behind is told of. Default: no bound, and no alarm.
    pub lag_alarm: LagAlarm,
    /// Good probes in a row before a node that was away counts again. Default 1.
    #[serde(deserialize_with = "count")]
    pub healthy_checks: u32,
    /// Failed probes in a row before a node counts as away. Default 1.
    #[serde(deserialize_with = "count")]
    pub unhealthy_checks: u32,
    /// Keeps reads off a standby that comes and goes.
    pub damping: Damping,
    /// The cluster's system identifier. Default: learnt from the nodes.
    pub system_id: Option<SystemId>,
    /// The operator's word on who is primary.
    pub pin: Option<Pin>,
    /// A command that knows who is primary.
    pub authority: Option<Authority>,
    /// Addresses (`host:port`) under which *other nodes* reach a node, where they differ from ours.
    pub replication_addresses: BTreeMap<NodeName, Vec<String>>,
    /// File that keeps fences and the last primary over a restart. Default: none.
    pub state_file: Option<PathBuf>,
    /// The members of a mesh (`mesh.nodes`, no key of this section): each is a primary of its own, and watched as such.
    #[serde(skip)]
    pub mesh: BTreeSet<NodeName>,
}

/// What is done when two nodes claim to be primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitBrain {
    /// The one with proof is handed out; without proof nobody is.
    Proof,
    /// Nobody is handed out while two claim, however good the proof: what pgroute66 does.
    None,
}

/// How much of the cluster must agree before a primary is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quorum {
    /// `majority` with three nodes or more, else `none`.
    Auto,
    /// More than half of the configured nodes: the primary and the standbys that follow it.
    Majority,
    /// The primary and at least one standby.
    Any,
    /// The primary alone will do.
    None,
}

/// What becomes of a proven primary whose standbys cannot be reached any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LostStandbys {
    /// It stays primary while it answers.
    Keep,
    /// It is held back until the quorum agrees again.
    Hold,
}

/// Bounds on the lag of a readable standby.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MaxLag {
    /// In log bytes.
    pub bytes: Option<u64>,
    /// In time.
    #[serde(deserialize_with = "maybe_duration")]
    pub time: Option<Duration>,
}

/// Bounds beyond which a lag is told of, as the events `lag` and `lag_over`; who may be read is not changed by them. They hold
/// for standbys, and for what the members of a mesh take from each other.
///
/// An alarm is over once the lag is at most half of every bound, so that one that stays near a bound is told of once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LagAlarm {
    /// In log bytes.
    pub bytes: Option<u64>,
    /// In time.
    #[serde(deserialize_with = "maybe_duration")]
    pub time: Option<Duration>,
}

/// Flap damping: a node that comes and goes is not read from for a while.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Damping {
    /// This many changes between there and away within `window` start the hold; 0 turns damping off. Default 6.
    pub changes: u32,
    /// Default 60 s.
    #[serde(deserialize_with = "duration")]
    pub window: Duration,
    /// How long reads are kept off it. Default 10 s.
    #[serde(deserialize_with = "duration")]
    pub hold: Duration,
}

/// The operator's word on who is primary: wins over every rule but the node's own recovery state.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The node.
    pub node: NodeName,
    /// Holds only for this cluster, where given.
    #[serde(default)]
    pub system_id: Option<SystemId>,
    /// Holds only on this timeline or a later one, where given.
    #[serde(default)]
    pub min_timeline: Option<Timeline>,
    /// Holds until then (RFC 3339, such as `2026-11-21T12:00:00Z`), where given.
    #[serde(default, deserialize_with = "maybe_time")]
    pub until: Option<SystemTime>,
}

/// A command that knows who is primary: it prints the node's name, or nothing when it does not know.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authority {
    /// Program and arguments; no shell is involved.
    pub command: Vec<String>,
    /// Time between two runs. Default 2 s.
    #[serde(default = "two_seconds", deserialize_with = "duration")]
    pub interval: Duration,
    /// Bound on one run. Default 1 s.
    #[serde(default = "one_second", deserialize_with = "duration")]
    pub timeout: Duration,
}

/// The heartbeat behind `/v1/{id}/availability`: the `availability:` section.
///
/// The row lives in `"public"."pgr66_avc"`, the table pgroute66 uses. The watcher writes it, only on the proven
/// primary.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AvailabilityConfig {
    /// When the row is written. Default `on_demand`.
    pub heartbeat: HeartbeatSchedule,
    /// Time between two writes. Default 1 s.
    #[serde(deserialize_with = "duration")]
    pub interval: Duration,
    /// Write the row once per availability request instead, as pgroute66 does. Default `false`.
    pub writes: bool,
}

/// When the heartbeat row is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeartbeatSchedule {
    /// From the first availability request on, and until ten minutes after the last.
    OnDemand,
    /// Always.
    Always,
    /// Never; a row that something else writes is still read.
    Never,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(500),
            timeout: Duration::from_secs(1),
            suspect_interval: Duration::from_millis(100),
            pulse: Duration::from_millis(100),
            fresh_connect_interval: Duration::from_secs(5),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(1),
            split_brain: SplitBrain::Proof,
            quorum: Quorum::Auto,
            lost_standbys: LostStandbys::Keep,
            suspect_grace: Duration::from_secs(5),
            witness_window: Duration::from_secs(15),
            max_lag: MaxLag::default(),
            lag_alarm: LagAlarm::default(),
            healthy_checks: 1,
            unhealthy_checks: 1,
            damping: Damping::default(),
            system_id: None,
            pin: None,
            authority: None,
            replication_addresses: BTreeMap::new(),
            state_file: None,
            mesh: BTreeSet::new(),
        }
    }
}

impl Default for Damping {
    fn default() -> Self {
        Self { changes: 6, window: Duration::from_secs(60), hold: Duration::from_secs(10) }
    }
}

impl Default for AvailabilityConfig {
    fn default() -> Self {
        Self {
            heartbeat: HeartbeatSchedule::OnDemand,
            interval: Duration::from_secs(1),
            writes: false,
        }
    }
}

impl WatchConfig {
    /// How long evidence counts: a node that froze right after a probe is found out one interval and one timeout
    /// later.
    #[must_use]
    pub fn lease(&self) -> Duration {
        (self.interval + self.timeout) * self.unhealthy_checks
    }
}

const fn one_second() -> Duration {
    Duration::from_secs(1)
}

const fn two_seconds() -> Duration {
    Duration::from_secs(2)
}

/// Shorter is a busy loop, longer is not watching.
const DURATIONS: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(3600);

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    units::duration(deserializer, DURATIONS)
}

fn maybe_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

fn maybe_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SystemTime>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let parsed = humantime::parse_rfc3339(&text).map_err(|_| {
        serde::de::Error::custom(format!(
            "`{text}` is not a time; write it like 2026-11-21T12:00:00Z"
        ))
    })?;
    Ok(Some(parsed))
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    units::number(deserializer, 1..=100)
}
