//! `SHOW TOPOLOGY` and `SHOW STATE`.

use herdsman_watch::NodeView;

use super::header;
use crate::admin::reply::{Cell, Column, Row};
use crate::admin::view::{NodeSeat, View};

pub(super) const TOPOLOGY: &[Column] = header![
    t "node", t "host", i "port", t "role", t "readable", i "lag_bytes", t "lag_seconds", t "lsn", i "timeline",
    i "epoch", t "why"
];

/// Every node, as transactions are sent to them.
pub(super) fn topology(view: &View) -> Vec<Row> {
    view.nodes.iter().map(|node| row(view, node)).collect()
}

fn row(view: &View, node: &NodeSeat) -> Row {
    let seen = view.topology.nodes.iter().find(|(name, _)| name.as_str() == &*node.name);
    let unseen = NodeView::default();
    let (name, seen) = seen.map_or((None, &unseen), |(name, seen)| (Some(name), seen));
    let is_primary = name.is_some() && view.topology.primary() == name;
    let role = if is_primary { "primary" } else { seen.role.as_str() };
    let readable = if seen.readable { "yes" } else { "no" };
    vec![
        (&node.name).into(),
        (&node.host).into(),
        node.port.into(),
        role.into(),
        readable.into(),
        seen.lag.map(|lag| lag.bytes).into(),
        seen.lag.map(|lag| format!("{:.3}", lag.seconds)).into(),
        seen.lsn.map(|lsn| lsn.to_string()).into(),
        seen.timeline.map(|timeline| u64::from(timeline.0)).into(),
        node.epoch.into(),
        why(view, seen, is_primary, name.is_some()).into(),
    ]
}

/// What proves the primary; what is wrong with the others; and while there is no primary, why.
fn why(view: &View, seen: &NodeView, is_primary: bool, configured: bool) -> String {
    let verdict = &view.topology.verdict;
    let mut reasons = Vec::new();
    if !configured {
        reasons.push("is not configured any more".to_owned());
    }
    if is_primary {
        reasons.push(verdict.reason().to_owned());
    }
    reasons.extend(seen.reasons.iter().cloned());
    reasons.extend(seen.error.iter().cloned());
    if view.topology.primary().is_none() {
        reasons.push(verdict.to_string());
    }
    reasons.join("; ")
}

/// PgBouncer's three, then ours.
pub(super) fn state(view: &View) -> Vec<Row> {
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    let paused = view.paused.iter().any(|paused| &**paused == "*");
    let rows: [(&'static str, Cell); 6] = [
        ("active", yes(!paused && !view.suspended).into()),
        ("paused", yes(paused).into()),
        ("suspended", yes(view.suspended).into()),
        ("held", view.held.as_ref().map_or("no".into(), |why| Cell::from(format!("yes: {why}")))),
        ("primary", view.topology.primary().map(ToString::to_string).into()),
        ("verdict", view.topology.verdict.to_string().into()),
    ];
    rows.into_iter().map(|(key, value)| vec![key.into(), value]).collect()
}
