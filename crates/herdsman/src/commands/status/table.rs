//! The table of nodes.

use herdsman_node::{NodeName, Role};
use herdsman_watch::{NodeView, Topology};

use crate::show::{self, or_dash};

const HEADER: [&str; 9] =
    ["NODE", "ROLE", "READABLE", "FOLLOWS", "TIMELINE", "LSN", "LAG", "SEEN", "REMARKS"];

/// All nodes, the primary first, then standbys, then the rest.
pub(super) fn of(topology: &Topology) -> String {
    let rows = in_order(topology).into_iter().map(|(name, view)| row(name, view)).collect();
    format!("{}\n\n{}", show::table(HEADER, rows), super::edition(topology))
}

/// The primary first, then standbys, then the rest.
pub(in crate::commands) fn in_order(topology: &Topology) -> Vec<(&NodeName, &NodeView)> {
    let mut nodes: Vec<_> = topology.nodes.iter().collect();
    nodes.sort_by_key(|(name, view)| (rank(topology, name, view), (*name).clone()));
    nodes
}

fn rank(topology: &Topology, name: &NodeName, view: &NodeView) -> u8 {
    match view.role {
        _ if topology.primary() == Some(name) => 0,
        Role::Primary => 1,
        Role::Standby => 2,
        Role::Unavailable => 3,
    }
}

fn row(name: &NodeName, view: &NodeView) -> [String; 9] {
    [
        name.to_string(),
        view.role.to_string(),
        if view.readable { "yes" } else { "no" }.to_owned(),
        or_dash(view.follows.as_ref()),
        or_dash(view.timeline),
        or_dash(view.lsn),
        super::lag(view.lag.as_ref()),
        view.evidence_age_seconds
            .map_or_else(|| "never".to_owned(), |age| format!("{age:.1} s ago")),
        super::remarks(view),
    ]
}

#[cfg(test)]
mod tests {
    use herdsman_node::{Lsn, Timeline};
    use herdsman_watch::{Lag, Proof, Verdict};

    use super::*;

    #[test]
    fn the_table_shows_the_primary_first_and_one_line_per_node() {
        let name = |text| NodeName::new(text).unwrap();
        let standby = NodeView {
            role: Role::Standby,
            readable: true,
            timeline: Some(Timeline(3)),
            lsn: Some(Lsn(0x300_0148)),
            follows: Some(name("n2")),
            lag: Some(Lag { bytes: 1536, seconds: 0.25 }),
            evidence_age_seconds: Some(0.12),
            ..NodeView::default()
        };
        let primary = NodeView { role: Role::Primary, follows: None, lag: None, ..standby.clone() };
        let gone =
            NodeView { error: Some("nothing listens there".to_owned()), ..NodeView::default() };
        let topology = Topology {
            version: 7,
            term: 2,
            verdict: Verdict::Primary {
                node: name("n2"),
                timeline: Timeline(3),
                proof: Proof::Attested,
                reason: String::new(),
            },
            nodes: [(name("n1"), standby), (name("n2"), primary), (name("n0"), gone)].into(),
            ..Topology::default()
        };
        let expected = "\
NODE  ROLE         READABLE  FOLLOWS  TIMELINE  LSN        LAG            SEEN       REMARKS
n2    primary      yes       -        3         0/3000148  -              0.1 s ago
n1    standby      yes       n2       3         0/3000148  1.5 kB, 0.2 s  0.1 s ago
n0    unavailable  no        -        -         -          -              never      nothing listens there

topology 7, term 2, system identifier unknown";
        assert_eq!(of(&topology), expected);
    }
}
