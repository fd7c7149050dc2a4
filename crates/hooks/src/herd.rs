//! What hooks need to know of a topology: who may be written to, who may be read, who neither. Pure.

use std::collections::BTreeMap;

use herdsman_node::{Conninfo, NodeName};
use herdsman_watch::Topology;

/// Every node's part under one verdict. Two topologies that make the same of it need nothing done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Herd(pub BTreeMap<NodeName, Part>);

/// A node's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The proven primary; in a mesh each member that is up.
    Writer,
    /// A standby that may be read.
    Reader,
    /// It answers, and nothing new should be sent there: it is behind, or claims to be primary without proof.
    Resting,
    /// It does not answer, is fenced, or belongs to another cluster.
    Away,
}

/// Where clients reach a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Host name, address, or the folder of a unix socket.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Its address, where the configuration says it.
    pub(crate) address: Option<std::net::IpAddr>,
}

/// Where clients reach the nodes.
pub(crate) type Places = BTreeMap<NodeName, Place>;

impl Herd {
    /// Everybody's part in a topology.
    #[must_use]
    pub fn of(topology: &Topology) -> Self {
        let part = |name: &NodeName| {
            let view = topology.nodes.get(name)?;
            let readable = topology.readers().any(|reader| reader == name);
            Some(if topology.is_writer(name) {
                Part::Writer
            } else if view.fenced || view.foreign || !view.answers() {
                Part::Away
            } else if readable {
                Part::Reader
            } else {
                Part::Resting
            })
        };
        Self(topology.nodes.keys().filter_map(|name| Some((name.clone(), part(name)?))).collect())
    }

    /// The proven primary; in a mesh the first member that is up.
    #[must_use]
    pub fn writer(&self) -> Option<&NodeName> {
        self.with(Part::Writer).next()
    }

    /// Whom reads are sent to: the standbys that may be read, and where there is none, the writer.
    #[must_use]
    pub fn readers(&self) -> Vec<&NodeName> {
        let readers: Vec<_> = self.with(Part::Reader).collect();
        if readers.is_empty() { self.with(Part::Writer).collect() } else { readers }
    }

    fn with(&self, wanted: Part) -> impl Iterator<Item = &NodeName> {
        self.0.iter().filter(move |(_, part)| **part == wanted).map(|(name, _)| name)
    }
}

impl From<&Conninfo> for Place {
    fn from(info: &Conninfo) -> Self {
        let address = info.hostaddr.or_else(|| info.host.parse().ok());
        Self { host: info.host.clone(), port: info.port, address }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use herdsman_node::{Role, Timeline};
    use herdsman_watch::{Moment, NodeView, Proof, Verdict, Why};

    use super::*;

    pub(crate) fn name(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    pub(crate) fn herd(parts: &[(&str, Part)]) -> Herd {
        Herd(parts.iter().map(|(node, part)| (name(node), *part)).collect())
    }

    pub(crate) fn proven(node: &str) -> Verdict {
        Verdict::Primary {
            node: name(node),
            timeline: Timeline(1),
            proof: Proof::Attested,
            reason: "attested".to_owned(),
        }
    }

    pub(crate) fn nobody() -> Verdict {
        Verdict::None { why: Why::NoClaimant, reason: "nobody".to_owned() }
    }

    pub(crate) fn view(role: Role, readable: bool) -> NodeView {
        NodeView { role, readable, evidence_at: Some(Moment::default()), ..NodeView::default() }
    }

    #[test]
    fn only_what_is_proven_is_a_writer_and_only_what_may_be_read_a_reader() {
        let nodes = [
            ("claims", view(Role::Primary, true)),
            ("fenced", NodeView { fenced: true, ..view(Role::Unavailable, false) }),
            ("foreign", NodeView { foreign: true, ..view(Role::Standby, true) }),
            ("late", view(Role::Standby, false)),
            ("reads", view(Role::Standby, true)),
            ("silent", NodeView { error: Some("x".to_owned()), ..view(Role::Standby, true) }),
        ];
        let mut topology = Topology {
            verdict: proven("claims"),
            nodes: nodes.map(|(node, view)| (name(node), view)).into(),
            ..Topology::default()
        };
        let rest = [
            ("fenced", Part::Away),
            ("foreign", Part::Away),
            ("late", Part::Resting),
            ("reads", Part::Reader),
            ("silent", Part::Away),
        ];
        let expected = |claims| herd(&[&[("claims", claims)], &rest[..]].concat());
        assert_eq!(Herd::of(&topology), expected(Part::Writer));
        let claimants = vec![name("claims"), name("other")];
        let split = Verdict::SplitBrain { claimants, reason: "no proof".to_owned() };
        for verdict in [nobody(), split] {
            topology.verdict = verdict;
            assert_eq!(Herd::of(&topology), expected(Part::Resting));
            assert_eq!(Herd::of(&topology).writer(), None);
        }
        let member = NodeView { member: true, ..view(Role::Primary, true) };
        topology.verdict = Verdict::None { why: Why::Mesh, reason: "a mesh".to_owned() };
        topology.nodes = [("a", member.clone()), ("b", member)].map(|(n, v)| (name(n), v)).into();
        assert_eq!(Herd::of(&topology), herd(&[("a", Part::Writer), ("b", Part::Writer)]));
    }

    #[test]
    fn the_writer_is_read_only_where_no_standby_may_be() {
        let cases = [
            (vec![("a", Part::Writer), ("b", Part::Reader), ("c", Part::Reader)], vec!["b", "c"]),
            (vec![("a", Part::Writer), ("b", Part::Resting)], vec!["a"]),
            (vec![("a", Part::Resting), ("b", Part::Reader)], vec!["b"]),
            (vec![("a", Part::Away), ("b", Part::Resting)], vec![]),
            (vec![("a", Part::Writer), ("b", Part::Writer)], vec!["a", "b"]),
        ];
        for (parts, expected) in cases {
            let herd = herd(&parts);
            let readers: Vec<_> = herd.readers().iter().map(|node| node.as_str()).collect();
            assert_eq!(readers, expected, "{parts:?}");
        }
    }
}
