//! What has happened between one topology and the next. Pure.

use herdsman_node::{NodeName, Role};
use herdsman_watch::{NodeView, Topology, Verdict, Why};
use serde::Serialize;

/// Something an operator may want to hear of.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// There is a proven primary: another one than before, or again one.
    Primary {
        /// Who.
        node: NodeName,
        /// On which timeline.
        timeline: u32,
        /// How many there have been.
        term: u64,
        /// Who it was before, as far as anybody knows.
        previous: Option<NodeName>,
        /// Why it is the one.
        reason: String,
    },
    /// Nobody may be written to any more.
    NoPrimary {
        /// Who it was.
        previous: Option<NodeName>,
        /// Why, for programs.
        why: Why,
        /// Why, in words.
        reason: String,
    },
    /// Several claim the role and nothing proves which is right.
    SplitBrain {
        /// Who.
        claimants: Vec<NodeName>,
        /// What is missing.
        reason: String,
    },
    /// A server answers again, or for the first time.
    NodeUp {
        /// Which.
        node: NodeName,
        /// What it is.
        role: Role,
    },
    /// A server does not answer any more.
    NodeDown {
        /// Which.
        node: NodeName,
        /// What is wrong.
        reason: String,
    },
    /// A server has become something else.
    Role {
        /// Which.
        node: NodeName,
        /// What it is.
        role: Role,
        /// What it was.
        previous: Role,
    },
    /// Reads may be sent there.
    Readable {
        /// Which.
        node: NodeName,
    },
    /// Reads may not be sent there any more, though it answers.
    Unreadable {
        /// Which.
        node: NodeName,
        /// Why.
        reason: String,
    },
    /// An old primary must not be used.
    Fenced {
        /// Which.
        node: NodeName,
    },
    /// It may be used again.
    Unfenced {
        /// Which.
        node: NodeName,
    },
}

/// What has happened, the verdict first, then node by node.
pub(super) fn between(old: &Topology, new: &Topology) -> Vec<Event> {
    let mut events = Vec::from_iter(verdict(old, new));
    for (name, node) in &new.nodes {
        let fresh = NodeView::default();
        node_events(name, old.nodes.get(name).unwrap_or(&fresh), node, &mut events);
    }
    events
}

fn verdict(old: &Topology, new: &Topology) -> Option<Event> {
    let previous = || old.primary().cloned();
    match (&old.verdict, &new.verdict) {
        (
            Verdict::Primary { node: before, timeline: then, .. },
            Verdict::Primary { node, timeline, .. },
        ) if (before, then) == (node, timeline) => None,
        (Verdict::SplitBrain { claimants: before, .. }, Verdict::SplitBrain { claimants, .. })
            if before == claimants =>
        {
            None
        }
        (Verdict::None { why: before, .. }, Verdict::None { why, .. }) if before == why => None,
        // Before the first answer there is nothing to tell, and nobody to miss.
        (_, Verdict::None { why: Why::Starting, .. }) => None,
        (_, Verdict::Primary { node, timeline, reason, .. }) => Some(Event::Primary {
            node: node.clone(),
            timeline: timeline.0,
            term: new.term,
            previous: previous(),
            reason: reason.clone(),
        }),
        (_, Verdict::SplitBrain { claimants, reason }) => {
            Some(Event::SplitBrain { claimants: claimants.clone(), reason: reason.clone() })
        }
        (_, Verdict::None { why, reason }) => {
            Some(Event::NoPrimary { previous: previous(), why: *why, reason: reason.clone() })
        }
    }
}

fn node_events(name: &NodeName, old: &NodeView, new: &NodeView, events: &mut Vec<Event>) {
    let node = name.clone();
    if old.fenced != new.fenced {
        let node = node.clone();
        events.push(if new.fenced { Event::Fenced { node } } else { Event::Unfenced { node } });
    }
    match (old.answers(), new.answers()) {
        (false, true) => {
            events.push(Event::NodeUp { node, role: new.role });
            return;
        }
        (true, false) => {
            events.push(Event::NodeDown { node, reason: new.trouble() });
            return;
        }
        (false, false) => return,
        (true, true) => {}
    }
    if old.role != new.role {
        let (node, previous) = (node.clone(), old.role);
        events.push(Event::Role { node, role: new.role, previous });
    }
    match (old.readable, new.readable) {
        (false, true) => events.push(Event::Readable { node }),
        (true, false) => events.push(Event::Unreadable { node, reason: new.trouble() }),
        _ => {}
    }
}
