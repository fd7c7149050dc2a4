//! What has happened between one topology and the next. Pure.

use herdsman_node::{NodeName, Role};
use serde::{Deserialize, Serialize};

use crate::{NodeView, Topology, Verdict, Why};

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
    /// A server is further behind than [`LagAlarm`](crate::LagAlarm) says.
    Lag {
        /// Which.
        node: NodeName,
        /// Behind whom: a member of a mesh; `None` where it is a standby behind its primary.
        source: Option<NodeName>,
        /// Log bytes it lacks, if they are known still.
        bytes: Option<u64>,
        /// Age in seconds of the oldest change it lacks, if it is known still.
        seconds: Option<f64>,
    },
    /// It is not, any more.
    LagOver {
        /// Which.
        node: NodeName,
        /// Behind whom it was, as in [`Event::Lag`].
        source: Option<NodeName>,
    },
    /// A member of a mesh has recorded conflicts.
    Conflict {
        /// Which.
        node: NodeName,
        /// How many, since the last such event of this node.
        conflicts: u64,
        /// How many since this Herdsman began to apply there.
        total: u64,
    },
}

/// What kind of thing has happened, for who wants to hear of some only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// [`Event::Primary`].
    Primary,
    /// [`Event::NoPrimary`].
    NoPrimary,
    /// [`Event::SplitBrain`].
    SplitBrain,
    /// [`Event::NodeUp`].
    NodeUp,
    /// [`Event::NodeDown`].
    NodeDown,
    /// [`Event::Role`].
    Role,
    /// [`Event::Readable`].
    Readable,
    /// [`Event::Unreadable`].
    Unreadable,
    /// [`Event::Fenced`].
    Fenced,
    /// [`Event::Unfenced`].
    Unfenced,
    /// [`Event::Lag`].
    Lag,
    /// [`Event::LagOver`].
    LagOver,
    /// [`Event::Conflict`].
    Conflict,
}

impl EventKind {
    /// The kinds that say who may be written to.
    pub const VERDICTS: [Self; 3] = [Self::Primary, Self::NoPrimary, Self::SplitBrain];
}

impl Event {
    /// What has happened between two topologies, the verdict first, then node by node.
    ///
    /// ```
    /// use herdsman_watch::{Event, Topology};
    /// assert!(Event::between(&Topology::default(), &Topology::default()).is_empty());
    /// ```
    #[must_use]
    pub fn between(old: &Topology, new: &Topology) -> Vec<Self> {
        let mut events = Vec::from_iter(verdict(old, new));
        for (name, node) in &new.nodes {
            let fresh = NodeView::default();
            node_events(name, old.nodes.get(name).unwrap_or(&fresh), node, &mut events);
        }
        events
    }

    /// Of which kind it is.
    #[must_use]
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::Primary { .. } => EventKind::Primary,
            Self::NoPrimary { .. } => EventKind::NoPrimary,
            Self::SplitBrain { .. } => EventKind::SplitBrain,
            Self::NodeUp { .. } => EventKind::NodeUp,
            Self::NodeDown { .. } => EventKind::NodeDown,
            Self::Role { .. } => EventKind::Role,
            Self::Readable { .. } => EventKind::Readable,
            Self::Unreadable { .. } => EventKind::Unreadable,
            Self::Fenced { .. } => EventKind::Fenced,
            Self::Unfenced { .. } => EventKind::Unfenced,
            Self::Lag { .. } => EventKind::Lag,
            Self::LagOver { .. } => EventKind::LagOver,
            Self::Conflict { .. } => EventKind::Conflict,
        }
    }
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
    match (old.lag_alarm, new.lag_alarm) {
        (false, true) => events.push(Event::Lag {
            node: node.clone(),
            source: None,
            bytes: new.lag.map(|lag| lag.bytes),
            seconds: new.lag.map(|lag| lag.seconds),
        }),
        (true, false) => events.push(Event::LagOver { node: node.clone(), source: None }),
        _ => {}
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

#[cfg(test)]
mod tests {
    use herdsman_node::Timeline;

    use super::*;
    use crate::{Lag, Moment, Proof};

    fn name(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    fn node(role: Role) -> NodeView {
        let evidence_at = Some(Moment::default());
        NodeView { role, readable: role != Role::Unavailable, evidence_at, ..NodeView::default() }
    }

    fn herd(primary: &str) -> Topology {
        let role = |id: &str| if id == primary { Role::Primary } else { Role::Standby };
        Topology {
            verdict: Verdict::Primary {
                node: name(primary),
                timeline: Timeline(1),
                proof: Proof::Attested,
                reason: "attested".to_owned(),
            },
            nodes: ["n1", "n2"].map(|id| (name(id), node(role(id)))).into(),
            ..Topology::default()
        }
    }

    fn said(old: &Topology, new: &Topology) -> Vec<String> {
        Event::between(old, new)
            .iter()
            .map(|event| {
                let event = serde_json::to_value(event).unwrap();
                let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
                format!("{} {}", text("event"), text("node")).trim_end().to_owned()
            })
            .collect()
    }

    #[test]
    fn a_failover_is_told_step_by_step() {
        let start = Topology::default();
        let healthy = herd("n1");
        assert_eq!(said(&start, &healthy), ["primary n1", "node_up n1", "node_up n2"]);
        assert!(said(&healthy, &healthy).is_empty());

        let mut lost = healthy.clone();
        lost.verdict = Verdict::None { why: Why::NoClaimant, reason: "nobody".to_owned() };
        lost.nodes.insert(
            name("n1"),
            NodeView { error: Some("refused".to_owned()), ..NodeView::default() },
        );
        assert_eq!(said(&healthy, &lost), ["no_primary", "node_down n1"]);

        let mut promoted = herd("n2");
        promoted.nodes.insert(
            name("n1"),
            NodeView { error: Some("refused".to_owned()), fenced: true, ..NodeView::default() },
        );
        assert_eq!(said(&lost, &promoted), ["primary n2", "fenced n1", "role n2"]);

        let back = herd("n2");
        assert_eq!(said(&promoted, &back), ["unfenced n1", "node_up n1"]);
    }

    #[test]
    fn a_split_brain_and_a_standby_that_must_not_be_read_are_told() {
        let healthy = herd("n1");
        let mut split = healthy.clone();
        let claimants = vec![name("n1"), name("n2")];
        split.verdict = Verdict::SplitBrain { claimants, reason: "no proof".to_owned() };
        split.nodes.insert(name("n2"), node(Role::Primary));
        assert_eq!(said(&healthy, &split), ["split_brain", "role n2"]);
        assert_eq!(said(&split, &healthy), ["primary n1", "role n2"]);

        let mut late = healthy.clone();
        let unreadable = NodeView {
            readable: false,
            reasons: vec!["12 MB behind".to_owned()],
            ..node(Role::Standby)
        };
        late.nodes.insert(name("n2"), unreadable);
        let told = serde_json::to_value(Event::between(&healthy, &late)).unwrap();
        let expected =
            serde_json::json!([{ "event": "unreadable", "node": "n2", "reason": "12 MB behind" }]);
        assert_eq!(told, expected);
        assert_eq!(said(&late, &healthy), ["readable n2"]);
    }

    #[test]
    fn an_alarm_is_told_when_it_begins_and_when_it_is_over() {
        let healthy = herd("n1");
        let mut late = healthy.clone();
        let lag = Some(Lag { bytes: 70, seconds: 1.5 });
        let view = NodeView { lag, lag_alarm: true, ..node(Role::Standby) };
        late.nodes.insert(name("n2"), view);
        let told = serde_json::to_value(Event::between(&healthy, &late)).unwrap();
        let expected = serde_json::json!([
            { "event": "lag", "node": "n2", "source": null, "bytes": 70, "seconds": 1.5 }
        ]);
        assert_eq!(told, expected);
        assert!(said(&late, &late).is_empty());
        assert_eq!(said(&late, &healthy), ["lag_over n2"]);
    }
}
