//! The `mesh:` section of the configuration.

mod check;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub use herdsman_config::LoginConfig;
use herdsman_config::Secret;
use herdsman_node::{NodeName, units};
use serde::{Deserialize, Deserializer};

/// The `mesh:` section: who is in it, which tables, and what is done about conflicts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MeshConfig {
    /// The mesh's name, part of the names of slots, publications and origins: lower-case letters, digits, underscores.
    pub name: String,
    /// The members, by their names in `hosts`. No mesh when empty.
    pub nodes: Vec<NodeName>,
    /// Tables to keep alike, as `schema.table` with `*` and `?`.
    pub tables: Vec<String>,
    /// Tables to leave out of those.
    pub exclude: Vec<String>,
    /// Where the stamps are kept.
    pub mode: Mode,
    /// What is done about conflicts, by table (a glob as in `tables`).
    pub policies: BTreeMap<String, PolicyConfig>,
    /// What is done when two rows with different keys claim the same value of another unique constraint.
    pub unique: UniquePolicy,
    /// How keys are kept apart.
    pub sequences: SequencesConfig,
    /// How changes are put together for one transaction of a member.
    pub batch: BatchConfig,
    /// How many sessions apply on a member at once, where there is enough to apply.
    pub lanes: usize,
    /// What the mesh logs in with, where that is not what `hosts` says.
    pub login: LoginConfig,
    /// Who may change the mesh through the API.
    pub control: ControlConfig,
    /// How long conflict records are kept.
    #[serde(deserialize_with = "keep")]
    pub keep_conflicts: Duration,
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            name: "mesh".to_owned(),
            nodes: Vec::new(),
            tables: vec!["public.*".to_owned()],
            exclude: Vec::new(),
            mode: Mode::Columns,
            policies: BTreeMap::new(),
            unique: UniquePolicy::Evict,
            sequences: SequencesConfig::default(),
            batch: BatchConfig::default(),
            lanes: 1,
            login: LoginConfig::default(),
            control: ControlConfig::default(),
            keep_conflicts: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

impl MeshConfig {
    /// The lanes there are. Where a row's version is that of its transaction there is one: its origin says who wrote it, and
    /// PostgreSQL has one session at a time write with an origin.
    #[must_use]
    pub const fn lanes_in_use(&self) -> usize {
        match self.mode {
            Mode::Columns => self.lanes,
            Mode::Untouched => 1,
        }
    }
}

fn keep<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    units::duration(
        deserializer,
        Duration::from_secs(60)..=Duration::from_secs(10 * 366 * 24 * 3600),
    )
}

/// Where the stamps are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// In two columns of each table.
    #[default]
    Columns,
    /// Where PostgreSQL keeps them with `track_commit_timestamp`; the tables stay as they are.
    Untouched,
}

/// What is done about conflicts in a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyConfig {
    /// Which of two versions is kept.
    pub conflict: ConflictPolicy,
    /// For `node_priority`: the members, the most important first.
    pub priority: Vec<NodeName>,
    /// For `handler`: the SQL function, `schema.name(older jsonb, newer jsonb) returns jsonb`.
    pub handler: Option<String>,
    /// Columns whose changes add up: balances, stocks, counters.
    pub delta: Vec<String>,
}

/// Which of two versions is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConflictPolicy {
    /// The one written last.
    #[default]
    LastUpdateWins,
    /// Of each column the one written last.
    ColumnWise,
    /// Of two insertions the first; else the one written last.
    FirstInsertWins,
    /// The one of the more important node.
    NodePriority,
    /// What a function of the user's makes of both.
    Handler,
}

/// What is done when two rows claim the same value of a unique constraint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UniquePolicy {
    /// The row written later stays; the other waits in `herdsman.evicted` until the value is free.
    #[default]
    Evict,
    /// The stream stops until somebody has decided.
    Halt,
    /// It is recorded and left out: the members are not alike from there on.
    Log,
}

/// How keys are kept apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SequencesConfig {
    /// How.
    pub kind: SequenceKind,
}

/// How keys are kept apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SequenceKind {
    /// Each node has a range of its own.
    #[default]
    Ranges,
    /// Each node counts in steps.
    Interleaved,
    /// Time, node and a counter in one number.
    Snowflake,
    /// They are left alone.
    Manual,
}

/// Who may change the mesh through the API (`POST /v2/mesh/…` and `/rpc`): whoever has the token. Without one nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ControlConfig {
    /// The token: `Authorization: Bearer TOKEN`. 8 or more letters, digits and signs.
    pub token: Option<Secret>,
    /// File whose first line is the token, instead of `token`.
    pub token_file: Option<PathBuf>,
    /// Variable that holds the token, instead of `token`.
    pub token_env: Option<String>,
    /// Program and arguments that print the token, instead of `token`.
    pub token_command: Option<String>,
}

impl ConflictPolicy {
    /// The word for it in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LastUpdateWins => "last_update_wins",
            Self::ColumnWise => "column_wise",
            Self::FirstInsertWins => "first_insert_wins",
            Self::NodePriority => "node_priority",
            Self::Handler => "handler",
        }
    }
}

/// How changes are put together.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchConfig {
    /// Rows in one transaction of a member, unless a single transaction has more.
    pub rows: usize,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self { rows: 2000 }
    }
}
