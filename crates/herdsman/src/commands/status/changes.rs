//! One line whenever something has changed, for logs and pipes. Pure.

use herdsman_node::{NodeName, Role};
use herdsman_watch::{NodeView, Topology, Verdict};

use super::{remarks, table};
use crate::exit::Failed;
use crate::show::clean;

/// Remembers what was told last.
#[derive(Debug, Default)]
pub(super) struct Changes(Option<Seen>);

/// What makes a difference: positions, lag and reasons move all the time.
#[derive(Debug, PartialEq)]
enum Seen {
    Herd(String, Vec<(NodeName, Role, bool, bool, Option<NodeName>)>),
    Nothing(String),
}

impl Changes {
    /// The line for this look, where it is not as the last one was.
    pub(super) fn line(&mut self, look: Result<&Topology, &Failed>) -> Option<String> {
        let seen = match look {
            Ok(topology) => {
                Seen::Herd(who(&topology.verdict), topology.nodes.iter().map(what).collect())
            }
            Err(failed) => Seen::Nothing(failed.message.clone()),
        };
        if self.0.as_ref() == Some(&seen) {
            return None;
        }
        self.0 = Some(seen);
        Some(match look {
            Ok(topology) => line(topology),
            Err(failed) => clean(&failed.message),
        })
    }
}

fn who(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Primary { node, timeline, .. } => format!("{node} {timeline}"),
        Verdict::SplitBrain { claimants, .. } => format!("{claimants:?}"),
        Verdict::None { why, .. } => format!("{why:?}"),
    }
}

fn what((name, view): (&NodeName, &NodeView)) -> (NodeName, Role, bool, bool, Option<NodeName>) {
    (name.clone(), view.role, view.readable, view.fenced, view.follows.clone())
}

fn line(topology: &Topology) -> String {
    let nodes = table::in_order(topology).into_iter().map(|(name, view)| {
        let follows = view.follows.as_ref().map(|node| format!(" of {node}")).unwrap_or_default();
        let remarks = remarks(view);
        let remarks = if remarks.is_empty() { remarks } else { format!(" ({remarks})") };
        format!("{name} {}{follows}{remarks}", view.role)
    });
    let nodes: Vec<_> = nodes.collect();
    format!("{} | {}", clean(&topology.verdict.to_string()), nodes.join(", "))
}

#[cfg(test)]
mod tests {
    use herdsman_node::Lsn;
    use herdsman_watch::{Lag, Why};

    use super::*;
    use crate::exit::Exit;

    fn herd() -> Topology {
        let name = |text| NodeName::new(text).unwrap();
        let standby = NodeView {
            role: Role::Standby,
            readable: true,
            follows: Some(name("n1")),
            ..NodeView::default()
        };
        let gone = NodeView { error: Some("refused".to_owned()), ..NodeView::default() };
        let verdict = Verdict::None { why: Why::NoClaimant, reason: "nobody".to_owned() };
        let nodes = [(name("n1"), gone), (name("n2"), standby)].into();
        Topology { verdict, nodes, ..Topology::default() }
    }

    #[test]
    fn a_line_is_told_once_and_again_only_after_a_change() {
        let mut changes = Changes::default();
        let mut herd = herd();
        let line = changes.line(Ok(&herd));
        let expected = "no primary: nobody | n2 standby of n1, n1 unavailable (refused)";
        assert_eq!(line.as_deref(), Some(expected));
        for view in herd.nodes.values_mut() {
            view.lsn = Some(Lsn(77));
            view.lag = Some(Lag { bytes: 7, seconds: 7.0 });
        }
        assert_eq!(changes.line(Ok(&herd)), None, "numbers that move are no change");
        let away = Exit::Unavailable.with("failed to ask\u{1b}");
        assert_eq!(changes.line(Err(&away)).as_deref(), Some("failed to ask "));
        assert_eq!(changes.line(Err(&away)), None);
        assert_eq!(changes.line(Ok(&herd)).as_deref(), Some(expected), "it is back");
        herd.nodes.values_mut().for_each(|view| view.readable = false);
        assert!(changes.line(Ok(&herd)).is_some());
    }
}
