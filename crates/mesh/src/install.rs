//! What a node needs to be a member: found, planned, made.
//!
//! [`survey`] looks, [`plan`] decides (pure), [`carry_out`] does. The order of a plan is what keeps every write: first the
//! mesh's own schema, publication and slots, then one transaction for each table that gives it its columns and triggers
//! and publishes it. What is written before that transaction was there before the mesh and is told apart by its stamp, 0
//! ([`Plan::copies`]); what is written after it is stamped and streamed.

mod carrying;
mod ddl;
mod found;
mod guarding;
mod layout;
mod planning;
mod queries;
mod removing;
mod surveying;
mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;

use herdsman_node::NodeName;
use herdsman_wal::SlotName;
use tokio_postgres::Client;

use crate::config::Mode;
use crate::error::MeshError;
use crate::parts::{self, Parts};
use crate::setup::{Member, Setup};
use crate::table::{Table, TableName};

pub(crate) use carrying::lock;
pub use carrying::{Patience, carry_out, carry_out_within, connect};
pub use found::{
    Constraint, Facts, Found, FoundColumn, FoundIndex, FoundSequence, FoundTable, FoundTrigger,
    GoneTable, Own, OwnedSequence, TableState,
};
pub(crate) use guarding::{guard, unguard};
pub use layout::FORMAT;
pub(crate) use layout::untouched::{CLOCK, MEMORY, ORDER};
pub use planning::{Options, plan, plan_with};
pub use removing::removal;
pub(crate) use surveying::found;
pub use surveying::{look, survey, survey_each};

/// What was found on the nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// By node, in the configuration's names.
    pub nodes: BTreeMap<NodeName, Found>,
}

/// What has to be done, in order, and what stands in the way.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Plan {
    /// Steps, in order.
    pub steps: Vec<Step>,
    /// What has to be mended first. Nothing is done while there is one.
    pub problems: Vec<String>,
    /// What the user should know.
    pub notes: Vec<String>,
    /// Rows from before the mesh that one node has and others lack: for who copies them, after the steps. It goes on
    /// until the source's `herdsman.tables.spread` says that it is done.
    pub copies: Vec<Copy>,
}

/// Rows from before the mesh that are to be copied.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Copy {
    /// The table.
    pub table: TableName,
    /// Who has them.
    #[serde(serialize_with = "crate::setup::name")]
    pub from: NodeName,
    /// Who lacks them.
    #[serde(serialize_with = "crate::setup::name")]
    pub to: NodeName,
    /// Whether others have rows of that table as well, so that some may be of the same keys.
    pub merged: bool,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Step {
    /// Where.
    #[serde(serialize_with = "crate::setup::name")]
    pub node: NodeName,
    /// What it does, in words.
    pub what: String,
    /// The statements.
    pub sql: Vec<String>,
    /// How they are run.
    #[serde(skip)]
    pub how: How,
    /// The table whose lock they need: who holds it is named where they do not get it.
    #[serde(skip)]
    pub table: Option<TableName>,
}

/// How the statements of a step are run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum How {
    /// All in one transaction.
    #[default]
    Together,
    /// One by one: what cannot be part of a transaction.
    Singly,
    /// They make this slot, which waits for transactions that are older.
    Slot {
        /// Its name.
        name: SlotName,
        /// Whether standbys keep it too, where the version can.
        failover: bool,
    },
    /// In one transaction, with [`POSITION`] standing for the position this slot of another node (or the same) is at.
    AtSlot {
        /// Whose slot.
        node: NodeName,
        /// Its name.
        slot: SlotName,
    },
}

/// In the statements of [`How::AtSlot`], where the slot's position goes.
pub const POSITION: &str = ":position";

impl Step {
    /// Statements for one transaction.
    #[must_use]
    pub fn new(node: &NodeName, what: impl Into<String>, sql: Vec<String>) -> Self {
        Self { node: node.clone(), what: what.into(), sql, how: How::Together, table: None }
    }

    /// Statements that cannot be part of a transaction.
    #[must_use]
    pub fn singly(node: &NodeName, what: impl Into<String>, sql: Vec<String>) -> Self {
        Self { how: How::Singly, ..Self::new(node, what, sql) }
    }

    /// The same, which needs a lock on `table`.
    #[must_use]
    pub fn on(self, table: &TableName) -> Self {
        Self { table: Some(table.clone()), ..self }
    }
}

/// The members as a node knows them; empty where it is none.
///
/// # Errors
/// The statement failed.
pub async fn members(node: &NodeName, client: &Client) -> Result<Vec<Member>, MeshError> {
    surveying::members(node, client).await
}

/// The tables of the mesh as a node has them, by name: those that the configuration means, prepared or not.
///
/// # Errors
/// The statement failed, or a pattern of the configuration is none.
pub async fn tables(
    setup: &Setup,
    node: &NodeName,
    client: &Client,
) -> Result<Vec<Table>, MeshError> {
    let chosen = tables::Chosen::new(setup)?;
    let found = tables::read(node, client, &chosen).await?;
    let policies = &setup.config.policies;
    let with_parts = |found: FoundTable| {
        let mut table = found.table();
        table.parts = Parts::of(&table, parts::policy(policies, &table.name));
        table.untouched = setup.config.mode == Mode::Untouched;
        table
    };
    Ok(found.into_iter().map(with_parts).collect())
}

/// Looks at every node and plans what is missing: [`survey`] and [`plan`].
///
/// # Errors
/// A node cannot be reached or asked.
pub async fn prepare(setup: &Arc<Setup>, options: &Options) -> Result<(Survey, Plan), MeshError> {
    let found = survey(setup).await?;
    let plan = plan_with(setup, &found, options);
    Ok((found, plan))
}

/// What columns of a node's tables take their numbers from, without a look at the numbers.
pub(crate) async fn sequences_of(
    node: &NodeName,
    client: &Client,
) -> Result<Vec<FoundSequence>, MeshError> {
    tables::ask(node, client, "read its sequences", queries::SEQUENCES).await
}
