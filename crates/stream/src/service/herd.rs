//! Which node is read from: the one that is named, or whichever is the primary.

use std::collections::BTreeMap;
use std::sync::Arc;

use herdsman_node::{Conninfo, NodeName};
use herdsman_watch::{Topology, Watch};
use tokio::sync::watch;

/// The nodes, and who of them is the primary.
#[derive(Debug)]
pub(super) struct Herd {
    nodes: BTreeMap<NodeName, Conninfo>,
    choice: Choice,
}

#[derive(Debug)]
enum Choice {
    /// This one, whatever its role.
    Node(NodeName),
    /// The primary, as the watcher proves it.
    Primary(watch::Receiver<Arc<Topology>>),
}

/// No node can be chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// The named node does not exist.
    #[error("`stream.node` names `{0}`, which is not one of the nodes")]
    Unknown(NodeName),
    /// Several nodes, and nothing says which is the primary.
    #[error(
        "there are several nodes and nothing watches them: name one (`stream.node`), or give the stream a watcher"
    )]
    Unwatched,
}

impl Herd {
    pub(super) fn new(
        nodes: BTreeMap<NodeName, Conninfo>,
        named: Option<NodeName>,
        watch: Option<&Watch>,
    ) -> Result<Self, ChoiceError> {
        let choice = match (named, watch) {
            (Some(node), _) if !nodes.contains_key(&node) => {
                return Err(ChoiceError::Unknown(node));
            }
            (Some(node), _) => Choice::Node(node),
            (None, Some(watch)) => Choice::Primary(watch.subscribe()),
            (None, None) => match nodes.keys().next() {
                Some(node) if nodes.len() == 1 => Choice::Node(node.clone()),
                _ => return Err(ChoiceError::Unwatched),
            },
        };
        Ok(Self { nodes, choice })
    }

    /// Waits until a node can be read from. `waiting` hears why not, each time that changes.
    pub(super) async fn node(&mut self, mut waiting: impl FnMut(&str)) -> (NodeName, Conninfo) {
        loop {
            let chosen = match &mut self.choice {
                Choice::Node(node) => Some(node.clone()),
                Choice::Primary(topology) => {
                    let now = Arc::clone(&topology.borrow_and_update());
                    if now.primary().is_none() {
                        waiting(now.verdict.reason());
                    }
                    now.primary().cloned()
                }
            };
            if let Some((node, info)) = chosen.and_then(|node| self.nodes.get_key_value(&node)) {
                return (node.clone(), info.clone());
            }
            if let Choice::Primary(topology) = &mut self.choice
                && topology.changed().await.is_err()
            {
                // The watcher is gone, and so are we in a moment.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until another node than this is proven to be the primary. For a named node: for ever.
    pub(super) async fn moved_from(&mut self, node: &NodeName) -> NodeName {
        let Choice::Primary(topology) = &mut self.choice else {
            return std::future::pending().await;
        };
        let moved = topology.wait_for(|now| now.primary().is_some_and(|primary| primary != node));
        match moved.await.map(|now| now.primary().cloned()) {
            Ok(Some(primary)) => primary,
            _ => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(names: &[&str]) -> BTreeMap<NodeName, Conninfo> {
        let info = |name: &str| Conninfo::from_pairs([("host", name)]).unwrap();
        names.iter().map(|name| (NodeName::new(name).unwrap(), info(name))).collect()
    }

    #[tokio::test]
    async fn a_single_node_or_a_named_one_needs_no_watcher() {
        let mut only = Herd::new(nodes(&["a"]), None, None).unwrap();
        assert_eq!(only.node(|_| {}).await.0.as_str(), "a");
        let named = Some(NodeName::new("b").unwrap());
        let mut named = Herd::new(nodes(&["a", "b"]), named, None).unwrap();
        assert_eq!(named.node(|_| {}).await.1.host, "b");
    }

    #[test]
    fn several_nodes_without_a_watcher_and_names_that_are_none_are_refused() {
        assert_eq!(Herd::new(nodes(&["a", "b"]), None, None).err(), Some(ChoiceError::Unwatched));
        let other = NodeName::new("c").unwrap();
        let refused = Herd::new(nodes(&["a"]), Some(other.clone()), None).err();
        assert_eq!(refused, Some(ChoiceError::Unknown(other)));
    }
}
