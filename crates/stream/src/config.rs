//! The `stream:` section of the configuration.

mod check;
mod koyo;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub use herdsman_config::LoginConfig;
use herdsman_node::{Backoff, NodeName, units};
pub use herdsman_wal::json::Shape;
use herdsman_wal::{PublicationName, SlotName};
use serde::{Deserialize, Deserializer};

pub use koyo::Koyo;

use crate::sinks::SinkConfig;

/// The `stream:` section: what to read, and where it goes.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamConfig {
    /// The replication slot: what the server keeps our place in.
    pub slot: SlotName,
    /// The publication: which tables the server sends.
    pub publication: PublicationName,
    /// Tables to publish and deliver, as `schema.table` with `*` and `?`.
    pub tables: Vec<String>,
    /// Tables to leave out of those.
    pub exclude: Vec<String>,
    /// What is done to rows, by table (a glob as in `tables`).
    pub transform: BTreeMap<String, TransformConfig>,
    /// The node to read from; the primary, whichever that is, when left out.
    pub node: Option<NodeName>,
    /// What the stream logs in with, where that is not what `hosts` says.
    pub login: LoginConfig,
    /// Create publication and slot where they are missing.
    pub create: bool,
    /// Have the slot kept on standbys as well, so that a promotion loses nothing (PostgreSQL 17 and later).
    pub failover: bool,
    /// Whether the rows that are there already are delivered first.
    pub snapshot: SnapshotMode,
    /// What to do when the slot is lost, or gone after a promotion.
    pub on_lost_slot: LostSlot,
    /// Folder for the position, spilled transactions and dead letters.
    pub state: PathBuf,
    /// Shape of the JSON that sinks write.
    pub shape: Shape,
    /// Whether changes that were themselves replicated from elsewhere are delivered.
    pub foreign_origins: bool,
    /// How changes are put together for sinks.
    pub batch: BatchConfig,
    /// How failed deliveries are tried again.
    pub retry: RetryConfig,
    /// Where dead letters go.
    pub dead_letters: DeadLetters,
    /// What to do before the log that the slot holds back fills the server's disk.
    pub lag_guard: LagGuardConfig,
    /// How often a heartbeat is written into the log while nothing else is; `never` for no heartbeat.
    #[serde(deserialize_with = "heartbeat")]
    pub heartbeat: Option<Duration>,
    /// The sinks, by name.
    pub sinks: BTreeMap<String, SinkConfig>,
}

impl Default for StreamConfig {
    fn default() -> Self {
        let name = "herdsman";
        Self {
            // Both names are valid: lower-case letters only.
            slot: SlotName::new(name).unwrap_or_else(|_| unreachable!("a valid name")),
            publication: PublicationName::new(name)
                .unwrap_or_else(|_| unreachable!("a valid name")),
            tables: vec!["public.*".to_owned()],
            exclude: Vec::new(),
            transform: BTreeMap::new(),
            node: None,
            login: LoginConfig::default(),
            create: true,
            failover: true,
            snapshot: SnapshotMode::Never,
            on_lost_slot: LostSlot::Error,
            state: PathBuf::from("herdsman-state"),
            shape: Shape::Herdsman,
            foreign_origins: true,
            batch: BatchConfig::default(),
            retry: RetryConfig::default(),
            dead_letters: DeadLetters::File,
            lag_guard: LagGuardConfig::default(),
            heartbeat: Some(Duration::from_secs(30)),
            sinks: BTreeMap::new(),
        }
    }
}

/// What is done to a table's rows before they are delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransformConfig {
    /// The only columns to deliver, besides the key; all when empty.
    pub columns: Vec<String>,
    /// Columns to leave out.
    pub drop: Vec<String>,
    /// Columns to mask, and how.
    pub mask: BTreeMap<String, Mask>,
    /// Columns to give another name.
    pub rename: BTreeMap<String, String>,
    /// Another name for the table, as `schema.table`.
    pub table: Option<String>,
    /// Which rows are published, as an SQL condition (PostgreSQL 15 and later; part of the publication).
    #[serde(rename = "where")]
    pub condition: Option<String>,
}

/// How a column is masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mask {
    /// NULL instead of the value.
    Null,
    /// `***` instead of the value.
    Stars,
    /// A keyed hash of the value, the same for the same value.
    Hash,
}

/// Whether the rows that are there already are delivered first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotMode {
    /// When the slot is made.
    Initial,
    /// Not at all.
    Never,
}

/// What to do when the slot is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LostSlot {
    /// Stop, and say what may be missing.
    Error,
    /// Make a new slot and deliver all rows again.
    Resnapshot,
}

/// How changes are put together for sinks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchConfig {
    /// Changes in a batch at most.
    pub changes: usize,
    /// Bytes in a batch at most, but one change is always taken.
    pub bytes: usize,
    /// Bytes that may wait for all sinks together, before reading stops.
    pub queue_bytes: usize,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self { changes: 1000, bytes: 1 << 20, queue_bytes: 64 << 20 }
    }
}

/// How failed deliveries are tried again.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryConfig {
    /// Tries of one change before it becomes a dead letter.
    pub attempts: u32,
    /// Pause after the first failure; it doubles, with jitter.
    #[serde(deserialize_with = "pause")]
    pub pause: Duration,
    /// The longest pause.
    #[serde(deserialize_with = "pause")]
    pub longest_pause: Duration,
}

impl RetryConfig {
    /// The pauses between tries.
    #[must_use]
    pub const fn backoff(&self) -> Backoff {
        Backoff { first: self.pause, longest: self.longest_pause }
    }
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            attempts: 8,
            pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(30),
        }
    }
}

/// Where dead letters go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadLetters {
    /// A file below `state`.
    File,
    /// No dead letters: a change that cannot be delivered stops its key for good.
    Never,
}

/// What to do before the log that the slot holds back fills the server's disk.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LagGuardConfig {
    /// Bytes of log held back from which on a warning is logged.
    pub warn_bytes: u64,
    /// Bytes of log held back from which on `action` is taken; 0 for never.
    pub limit_bytes: u64,
    /// What is done at `limit_bytes`.
    pub action: GuardAction,
}

impl Default for LagGuardConfig {
    fn default() -> Self {
        Self { warn_bytes: 1 << 30, limit_bytes: 0, action: GuardAction::Warn }
    }
}

/// What the lag guard does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuardAction {
    /// Only warn.
    Warn,
    /// Stop delivering and exit with an error, leaving the slot.
    Pause,
    /// Drop the slot: the server's disk is worth more than the stream. Changes will be missing.
    DropSlot,
}

fn pause<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    units::duration(deserializer, Duration::from_millis(1)..=Duration::from_secs(3600))
}

fn heartbeat<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    units::duration_or_never(deserializer, Duration::from_secs(1)..=Duration::from_secs(3600))
}
