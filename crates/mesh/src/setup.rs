//! Who is in the mesh and how they are reached.

use std::collections::BTreeMap;

use herdsman_node::{Conninfo, NodeName};

use crate::config::MeshConfig;
use crate::stamp::NodeId;

/// What every part of the mesh works from: the configuration, and how each node is reached.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The `mesh:` section.
    pub config: MeshConfig,
    /// Every node of the configuration, with the mesh's login already applied.
    pub nodes: BTreeMap<NodeName, Conninfo>,
}

/// A member as the nodes know it: `herdsman.members`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Member {
    /// Its number, for ever.
    pub id: NodeId,
    /// Its name in the configuration.
    #[serde(serialize_with = "name")]
    pub name: NodeName,
    /// What it is.
    pub state: MemberState,
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// It is being filled.
    Joining,
    /// It takes writes.
    Active,
    /// It is being drained.
    Leaving,
    /// It has left or is lost. Its number stays taken.
    Gone,
}

impl MemberState {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Active => "active",
            Self::Leaving => "leaving",
            Self::Gone => "gone",
        }
    }
}

pub(crate) fn name<S: serde::Serializer>(
    name: &NodeName,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.as_str())
}
