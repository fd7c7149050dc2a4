use std::collections::BTreeMap;

use herdsman_node::NodeName;
use herdsman_watch::{Moment, NodeView, Topology, Watch};

use crate::{ApiConfig, ApiStatistics, Bodies, HookBoard, MeshControl, Metrics};

/// Named subsets of the nodes, as `?group=` selects them. Names of nodes that do not exist are skipped; a group
/// called `all` has no effect.
///
/// ```
/// use herdsman_api::Groups;
/// let groups: Groups = serde_json::from_str(r#"{"dc1": ["host1", "host2"]}"#)?;
/// assert_eq!(groups["dc1"][1].as_str(), "host2");
/// # Ok::<(), serde_json::Error>(())
/// ```
pub type Groups = BTreeMap<String, Vec<NodeName>>;

/// Everything answers are made of.
#[derive(Clone, Debug)]
pub struct ApiState {
    /// Where the topology is read.
    pub watch: Watch,
    /// What `?group=` may select.
    pub groups: Groups,
    /// How to answer.
    pub config: ApiConfig,
    /// Whether an availability request makes the watcher write the heartbeat (`availability.writes`). The API itself
    /// never writes; it says so where a node's heartbeat is not known yet.
    pub writes: bool,
}

/// What one answer is made of: one topology, taken at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) topology: &'a Topology,
    pub(crate) groups: &'a Groups,
    pub(crate) bodies: Bodies,
    pub(crate) writes: bool,
    /// Whether there is a stream to follow.
    pub(crate) live: bool,
    /// The mesh, if there is one.
    pub(crate) mesh: Option<&'a dyn MeshControl>,
    /// What has been counted, if anything.
    pub(crate) metrics: Option<&'a dyn Metrics>,
    /// The hooks, if there are any.
    pub(crate) hooks: Option<&'a dyn HookBoard>,
    /// The node that the port asked at belongs to.
    pub(crate) about: Option<&'a NodeName>,
    /// What the API has counted.
    pub(crate) counted: ApiStatistics,
    pub(crate) now: Moment,
}

/// That a node cannot be asked, and why.
pub(crate) fn unavailable(name: &str, node: &NodeView) -> String {
    let why = node.trouble();
    let separator = if why.is_empty() { "" } else { ": " };
    format!("`{name}` is unavailable{separator}{why}")
}
