//! Keys that no two members give out.
//!
//! # Ranges
//! The numbers of a type are cut into blocks of one width `w`: block `b` is the numbers from `b·w + 2` to `(b + 1)·w + 1`.
//! Each member takes the block of its number less one; with the width of `bigint`, 2147483647, the first keys of the first
//! three members are 2, 2147483649 and 4294967296. `integer` and `smallint` have 16 blocks, of 134217727 and 2047 numbers.
//!
//! A block is the sequence's START and MAXVALUE, so one that is used up gives an error and never a neighbour's number, and
//! TRUNCATE … RESTART IDENTITY stays within. A member whose own block cannot be used (the keys from before the mesh fill
//! it, or another member's sequence still stands in it) gets a block that holds no key anywhere: of `bigint` from the
//! 1024th on, where no member's own is; of the smaller types from the last one down.
//!
//! # Interleaved
//! All sequences count in steps of one power of two, at least twice the greatest number of a member and at least 8; member
//! `i` gives what leaves the remainder `i`. When the mesh outgrows its step, all of them go beyond every key there is.
//!
//! # Snowflake
//! `herdsman.id()`: 41 bits of milliseconds since 2024, ten of the member's number, twelve of a counter.

mod assigning;
mod maths;
mod planning;
mod reading;

use std::sync::Arc;

use herdsman_node::NodeName;

use crate::config::SequenceKind;
use crate::error::MeshError;
use crate::install::{self, Step, Survey};
use crate::setup::Setup;
use crate::stamp::NodeId;
use crate::table::TableName;

pub use maths::{Range, blocks, greatest, interleaved, range, step, width};
pub(crate) use planning::steps;
pub(crate) use reading::read;

/// From how full on a sequence is worth a warning, in percent.
pub const WARN_AT: f64 = 80.0;

/// A column's sequence on one node.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct SequenceStatus {
    /// The node.
    #[serde(serialize_with = "crate::setup::name")]
    pub node: NodeName,
    /// The table.
    pub table: TableName,
    /// The column.
    pub column: String,
    /// The sequence, as `schema.name`; `herdsman.id()` for a column that takes from that.
    pub sequence: String,
    /// How its numbers are kept from the other nodes'; `manual` where they are not.
    pub kind: SequenceKind,
    /// The least number it may give.
    pub first: i64,
    /// The greatest.
    pub last: i64,
    /// The step between two.
    pub increment: i64,
    /// What it gives next.
    pub next: i64,
    /// How much of it is used up, in percent.
    pub used: f64,
    /// What is wrong: numbers that another node gives too, or none left.
    pub problems: Vec<String>,
    /// What will be wrong.
    pub warnings: Vec<String>,
}

/// Looks at the sequences of all tables on all nodes.
///
/// # Errors
/// A node cannot be reached or asked.
pub async fn look(setup: &Arc<Setup>) -> Result<Vec<SequenceStatus>, MeshError> {
    let found = install::survey(setup).await?;
    Ok(planning::statuses(setup, &found))
}

/// What has to be done for every node to give keys of its own; and what stands in the way.
#[must_use]
pub fn plan(setup: &Setup, found: &Survey) -> install::Plan {
    let ids = ids(setup, found);
    let (steps, problems, notes) = steps(setup.config.sequences.kind, &found.nodes, &ids);
    install::Plan { steps, problems, notes, copies: Vec::new() }
}

/// The members' numbers, as the nodes themselves know them.
fn ids(setup: &Setup, found: &Survey) -> std::collections::BTreeMap<NodeName, NodeId> {
    let own = |node: &NodeName| Some((node.clone(), found.nodes.get(node)?.own.as_ref()?.node));
    setup.config.nodes.iter().filter_map(own).collect()
}

/// Steps, problems and notes.
pub(crate) type Planned = (Vec<Step>, Vec<String>, Vec<String>);
