//! Databases as clients see them.

use std::fmt;
use std::str::FromStr;

use herdsman_node::{InvalidName, NodeName};
use serde::{Deserialize, Deserializer, de::Error};

use super::{PoolOverrides, read};

/// A database as clients see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatabaseConfig {
    /// Its name on the servers. Default: the same.
    pub dbname: Option<String>,
    /// The group of nodes it is on. Default: all nodes.
    pub group: Option<String>,
    /// Which of them: `split`, `writer`, `reader`, `writers` or the name of a node. Default `split`.
    pub target: Target,
    /// Most clients of this database, whatever the user: 0 to 1,000,000, where 0 is no bound. Default: `max_database_clients`.
    #[serde(deserialize_with = "read::some_queue")]
    pub max_clients: Option<usize>,
    /// What holds for its pools.
    pub pool: PoolOverrides,
}

/// Where a database's statements go.
///
/// ```
/// use herdsman_gateway::config::Target;
///
/// assert_eq!("reader".parse(), Ok(Target::Reader));
/// assert_eq!("pg3".parse::<Target>().unwrap().to_string(), "pg3");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Reads to readers, the rest to the writer.
    #[default]
    Split,
    /// Everything to the writer.
    Writer,
    /// Everything to readers; what writes is refused by the server.
    Reader,
    /// Everything to any node of the group, each a writer: for a mesh.
    Writers,
    /// Everything to one node, whatever its role.
    Node(NodeName),
}

impl FromStr for Target {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Ok(match text {
            "split" => Self::Split,
            "writer" => Self::Writer,
            "reader" => Self::Reader,
            "writers" => Self::Writers,
            node => Self::Node(NodeName::new(node)?),
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Split => "split",
            Self::Writer => "writer",
            Self::Reader => "reader",
            Self::Writers => "writers",
            Self::Node(node) => node.as_str(),
        })
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
