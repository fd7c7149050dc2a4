//! What was found on a node.

mod table;

use std::collections::{BTreeMap, BTreeSet};

use herdsman_node::Lsn;
use herdsman_wal::publication::Publication;
use herdsman_wal::slot::Slot;
use serde::Deserialize;

use crate::setup::Member;
use crate::stamp::NodeId;
use crate::table::TableName;

pub use table::{
    Constraint, FoundColumn, FoundIndex, FoundSequence, FoundTable, FoundTrigger, OwnedSequence,
};

/// What was found on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Its version, settings and what our role may do there.
    pub facts: Facts,
    /// Who it is in the mesh, where it is already a member.
    pub own: Option<Own>,
    /// Whether there is a schema of the mesh's name that the mesh has not made.
    pub foreign_schema: bool,
    /// The members as it knows them.
    pub members: Vec<Member>,
    /// What it has in the mesh's schema.
    pub relations: BTreeSet<String>,
    /// The functions of the mesh's schemas, as `schema.name`, and their texts.
    pub functions: BTreeMap<String, String>,
    /// The tables of tombstones, by their bare names.
    pub gone: BTreeMap<String, GoneTable>,
    /// What the mesh has noted about tables it has prepared, as `schema.name`.
    pub prepared: BTreeMap<String, TableState>,
    /// The tables the configuration means, by name.
    pub tables: Vec<FoundTable>,
    /// The mesh's publication.
    pub publication: Option<Publication>,
    /// Whether that sends computed columns too (PostgreSQL 18 and later).
    pub publishes_generated: bool,
    /// All slots of the server.
    pub slots: Vec<Slot>,
    /// How far it is, by source.
    pub progress: BTreeMap<i16, Lsn>,
    /// What keys of its tables come from.
    pub sequences: Vec<FoundSequence>,
    /// For tables that other nodes have and it lacks: what they are made of and it lacks too.
    pub lacks: BTreeMap<TableName, Vec<String>>,
    /// The schemas of the database.
    pub schemas: BTreeSet<String>,
    /// The roles of the server.
    pub roles: BTreeSet<String>,
    /// Those among them that our role is as good as.
    pub owners: BTreeSet<String>,
}

/// A node's version and settings, and what our role may do there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// Its version as a number: 150018 is 15.18.
    pub version: u32,
    /// Its version as it calls it.
    pub version_text: String,
    /// What tells its database from every other: the cluster's number and the database's; empty where we may not ask.
    pub identity: String,
    /// The database.
    pub database: String,
    /// Our role.
    pub role: String,
    /// Whether that may do anything.
    pub superuser: bool,
    /// Whether it may use replication.
    pub replication: bool,
    /// Whether row security does not hold for it.
    pub bypasses_row_security: bool,
    /// Whether it may create schemas and publications in the database.
    pub may_create: bool,
    /// Whether it may set `session_replication_role`.
    pub may_be_replica: bool,
    /// Functions, with their argument types, that it needs and may not execute.
    pub forbidden: Vec<String>,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// `minimal`, `replica` or `logical`.
    pub wal_level: String,
    /// Whether it keeps the commit times of transactions.
    pub commit_times: bool,
    /// How many slots it may have.
    pub max_slots: u32,
    /// How many processes may send its log.
    pub max_senders: u32,
    /// How many do so for others than the mesh.
    pub used_senders: u32,
    /// How many replication origins may be in use.
    pub max_origins: u32,
    /// How many there are.
    pub used_origins: u32,
}

/// Who a node is in the mesh: the row of `herdsman.mesh`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Own {
    /// The mesh's name.
    pub name: String,
    /// What version of the mesh's layout it has.
    pub format: i32,
    /// Its number.
    pub node: NodeId,
    /// Its name.
    pub node_name: String,
}

/// What the mesh has noted about a table when it prepared it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableState {
    /// The replica identity it had: `d`, `n`, `f`, or `i:` and the index.
    pub identity: String,
    /// Whether no other node lacks rows that were here before the mesh.
    pub spread: bool,
}

/// A table of tombstones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct GoneTable {
    /// Names and types of its key.
    pub key: Vec<(String, String)>,
    /// Whether its replica identity is FULL.
    pub full_identity: bool,
    /// Whether there is an index of its stamps.
    #[serde(default)]
    pub by_time: bool,
}
