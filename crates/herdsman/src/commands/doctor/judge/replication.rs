//! Who is the primary, and whether the others follow it.

use herdsman_node::NodeName;
use herdsman_watch::{NodeView, Topology, Verdict, WatchConfig, Why};

use crate::codes::Code;
use crate::commands::doctor::evidence::{Evidence, ServerFacts};
use crate::commands::doctor::finding::Finding;
use crate::config::Config;
use crate::show::bytes;

/// A standby that is further behind than both has trouble keeping up, or stands still.
const LAG_BYTES: u64 = 64 << 20;
const LAG_SECONDS: f64 = 10.0;

pub(super) fn findings(config: &Config, evidence: &Evidence) -> Vec<Finding> {
    let Some(topology) = &evidence.topology else { return Vec::new() };
    let mut found: Vec<Finding> = verdict(&topology.verdict).into_iter().collect();
    for (node, view) in &topology.nodes {
        let about = set_aside(view).into_iter().chain(lag(view, &config.watch));
        found.extend(about.map(|finding| finding.on(node)));
    }
    let primary = match &topology.verdict {
        Verdict::Primary { node, .. } => Some(node),
        _ => None,
    };
    let leader = evidence.servers().find(|(node, _)| Some(*node) == primary);
    for (node, server) in evidence.servers().filter(|(_, server)| server.facts.in_recovery) {
        let about = streaming(&server.facts, topology, node)
            .into_iter()
            .chain(paused(&server.facts))
            .chain(leader.into_iter().flat_map(|(_, leader)| lower(&server.facts, &leader.facts)));
        found.extend(about.map(|finding| finding.on(node)));
    }
    found
}

fn verdict(verdict: &Verdict) -> Option<Finding> {
    let subject = "primary";
    let says = verdict.to_string();
    match verdict {
        Verdict::Primary { node, .. } => Some(Finding::ok(Code::NoPrimary, subject, says).on(node)),
        Verdict::SplitBrain { .. } => Some(Finding::error(
            Code::SplitBrain,
            subject,
            says,
            "stop the wrong one, or let the standbys follow the right one; to overrule, name it in `watch.pin`",
        )),
        Verdict::None { why: Why::Mesh, .. } => None,
        Verdict::None { why, .. } => {
            Some(Finding::error(Code::NoPrimary, subject, says, advice(*why)))
        }
    }
}

const fn advice(why: Why) -> &'static str {
    match why {
        Why::Starting | Why::NoClaimant | Why::Mesh => {
            "bring the last primary back, or promote a standby; nothing has to be done in Herdsman"
        }
        Why::Unattested => {
            "repair the standby that does not follow it, or wait until `watch.suspect_grace` is over"
        }
        Why::NoQuorum => "bring the standbys back, or lower `watch.quorum`",
        Why::Fenced => {
            "bring the true primary back, or rebuild this one as its standby; to overrule, name it in `watch.pin`"
        }
        Why::ReadOnly => {
            "run `ALTER SYSTEM RESET default_transaction_read_only` and `SELECT pg_reload_conf()` there, if it is to take writes"
        }
        Why::LostWrites => {
            "name the promoted node in `watch.pin` to accept the loss, or let another one follow it"
        }
        Why::UnknownCluster => {
            "take the strangers out of `hosts`, or set `watch.system_id` to the right cluster's"
        }
        Why::Overruled => "correct `watch.pin`, or what `watch.authority` prints",
    }
}

/// Nodes that answer and may not be used all the same.
fn set_aside(view: &NodeView) -> Option<Finding> {
    let subject = "set aside";
    if view.foreign {
        let fix = "take it out of `hosts`, or rebuild it as a standby of this cluster; where it is the right one, set `watch.system_id`";
        let says = "it has another system identifier: it is of another cluster";
        return Some(Finding::error(Code::SetAside, subject, says, fix));
    }
    view.fenced.then(|| {
        let fix = "rebuild it as a standby (pg_rewind, or a new base backup); it is used again once it has been seen in recovery";
        let says = "it was the primary before another one was proven: it is fenced";
        Finding::error(Code::SetAside, subject, says, fix)
    })
}

fn lag(view: &NodeView, watch: &WatchConfig) -> Option<Finding> {
    let lag = view.lag.as_ref()?;
    let says = format!("{}, {:.1} s behind", bytes(lag.bytes), lag.seconds);
    let max = &watch.max_lag;
    let unreadable = max.bytes.is_some_and(|bound| lag.bytes > bound)
        || max.time.is_some_and(|bound| lag.seconds > bound.as_secs_f64());
    let fix = "look for long queries and locks on the standby, and for the network and disks between the two";
    if unreadable {
        let says = format!("{says}: more than `watch.max_lag`, so it is not read from");
        return Some(Finding::warning(Code::Lag, "lag", says, fix));
    }
    if lag.bytes > LAG_BYTES && lag.seconds > LAG_SECONDS {
        return Some(Finding::warning(Code::Lag, "lag", says, fix));
    }
    Some(Finding::ok(Code::Lag, "lag", says))
}

fn streaming(facts: &ServerFacts, topology: &Topology, node: &NodeName) -> Option<Finding> {
    let subject = "streaming";
    // Without the right to look, nothing is not told from nobody.
    if !facts.monitor && !facts.superuser {
        return None;
    }
    if facts.receiver.as_deref() != Some("streaming") {
        let state = facts.receiver.as_ref().map_or_else(
            || "it is a standby that receives from nobody".to_owned(),
            |state| format!("it is a standby whose receiver is {state}"),
        );
        return Some(Finding::error(
            Code::NotStreaming,
            subject,
            state,
            "see its log for the reason; check `primary_conninfo` and `primary_slot_name` there and that its upstream answers; where timelines have parted, rebuild it (pg_rewind, or a new base backup)",
        ));
    }
    let view = topology.nodes.get(node)?;
    match &view.follows {
        Some(upstream) => {
            Some(Finding::ok(Code::NotStreaming, subject, format!("from {upstream}")))
        }
        None if matches!(topology.verdict, Verdict::Primary { .. }) => Some(Finding::warning(
            Code::NotStreaming,
            subject,
            "it streams from an address that is no node of `hosts`",
            "list that address under `watch.replication_addresses`, at the node it belongs to",
        )),
        None => None,
    }
}

fn paused(facts: &ServerFacts) -> Option<Finding> {
    facts.paused.then(|| {
        let fix = "run `SELECT pg_wal_replay_resume()` there (it takes a superuser, or the function granted)";
        Finding::warning(Code::ReplayPaused, "replay", "it is paused: reads grow old", fix)
    })
}

/// Settings that a standby must not have lower than its primary: replay stops otherwise.
fn lower(standby: &ServerFacts, primary: &ServerFacts) -> Vec<Finding> {
    let settings = |facts: &ServerFacts| {
        [
            ("max_connections", facts.max_connections),
            ("max_worker_processes", facts.max_workers),
            ("max_wal_senders", facts.max_senders),
            ("max_prepared_transactions", facts.max_prepared),
            ("max_locks_per_transaction", facts.max_locks),
        ]
    };
    let pairs = settings(standby).into_iter().zip(settings(primary));
    pairs
        .filter(|((_, here), (_, there))| here < there)
        .map(|((name, here), (_, there))| {
            Finding::error(
                Code::LowerSettings,
                name,
                format!("{here}, less than the primary's {there}: replay stops"),
                format!("run `ALTER SYSTEM SET {name} = {there}` there, and restart it"),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests;
