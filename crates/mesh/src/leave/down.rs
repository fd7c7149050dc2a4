//! Taking the mesh off nodes without asking anybody: off all of them, or off one that is a member for nobody any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use herdsman_node::NodeName;

use super::{slots, standing, strip};
use crate::error::MeshError;
use crate::heal::existing::open;
use crate::install::{self, Plan, Step};
use crate::setup::{MemberState, Setup};
use crate::stamp::NodeId;

/// Takes the mesh off every node of the configuration, or off `node` only, which was given up while it was lost and is there
/// again. Rows stay. Tells who had something of it.
///
/// # Errors
/// `node` is a member. Of all: somebody applies changes there, there are members that the configuration does not name, or one
/// of the nodes cannot be reached; nothing is changed then. Or a step failed: the same call goes on from there.
pub async fn down(
    setup: &Arc<Setup>,
    node: Option<&NodeName>,
    keep_columns: bool,
    mut tell: impl FnMut(&Step),
) -> Result<Vec<NodeName>, MeshError> {
    let mut with = Vec::new();
    let mut members: BTreeSet<(NodeId, NodeName)> = BTreeSet::new();
    let nodes: BTreeSet<&NodeName> = setup.config.nodes.iter().chain(node).collect();
    for name in nodes {
        let session = open(setup, name).await?;
        let known = install::members(name, &session.client).await?;
        if node.is_none_or(|node| node == name) {
            let own = standing::own_number(&session).await?;
            with.extend(own.map(|own| (name.clone(), own)));
        }
        if node != Some(name) {
            let known = known.into_iter().filter(|member| member.state != MemberState::Gone);
            members.extend(known.map(|member| (member.id, member.name)));
        }
        if node.is_none() && slots::are_busy(&session, &setup.config.name).await? {
            return Err(MeshError::refused(
                format!("node `{name}`: somebody applies changes there, or reads them"),
                "stop every `herdsman run` of this mesh first; to take one node out, run `herdsman mesh remove`",
            ));
        }
    }
    let member = |(name, id): &(NodeName, NodeId)| members.contains(&(*id, name.clone()));
    if let (Some(node), true) = (node, with.iter().any(member)) {
        return Err(MeshError::refused(
            format!("node `{node}` is a member of the mesh"),
            format!("take it out with `herdsman mesh remove {node}`"),
        ));
    }
    let is_stranger = |(_, name): &&(NodeId, NodeName)| !setup.config.nodes.contains(name);
    if let (None, Some((_, stranger))) = (node, members.iter().find(is_stranger)) {
        return Err(MeshError::refused(
            format!("node `{stranger}` is a member and not in the configuration"),
            "list it in `hosts` and `mesh.nodes`, so that the mesh is taken off it too",
        ));
    }
    for (name, _) in &with {
        if node.is_some() {
            strip(setup, name, keep_columns, &mut tell).await?;
        } else {
            bare(setup, name, keep_columns, &mut tell).await?;
        }
    }
    Ok(with.into_iter().map(|(name, _)| name).collect())
}

/// Removes everything of the mesh from a node at which nobody works.
pub(super) async fn bare(
    setup: &Arc<Setup>,
    node: &NodeName,
    keep_columns: bool,
    tell: impl FnMut(&Step),
) -> Result<(), MeshError> {
    let found = install::look(setup, node).await?;
    let steps = install::removal(&setup.config.name, node, &found, keep_columns);
    let plan = Plan { steps, ..Plan::default() };
    install::carry_out(setup, &plan, tell).await
}
