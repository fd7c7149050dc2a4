//! Who follows whom, when both sides say so.
//!
//! Neither side alone is proof: a frozen primary stays `streaming` on its standbys for a minute, and a walsender row
//! outlives its standby as long.

use std::collections::BTreeMap;
use std::time::Duration;

use herdsman_node::NodeName;

use crate::evidence::{Evidence, Receiver, Sender};

/// A follower reports at least every `wal_receiver_status_interval` (10 s by default); twice that and some is silence.
const SILENT_AFTER: Duration = Duration::from_secs(25);

/// What a standby and the nodes it might follow say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stance {
    /// It follows this node, directly, and the node says so too.
    Follows(NodeName),
    /// It follows nobody that says so too.
    Detached,
    /// We may not see whom it follows (no `pg_monitor`).
    Unseen,
}

/// What the live nodes of our cluster say.
pub(super) type Live<'a> = BTreeMap<&'a NodeName, &'a Evidence>;

/// The addresses (`host:port`) under which others reach each configured node, whether it lives or not.
pub(super) type Addresses<'a> = BTreeMap<&'a NodeName, &'a [String]>;

/// Each standby's stance.
pub(super) fn stances(live: &Live<'_>, addresses: &Addresses<'_>) -> BTreeMap<NodeName, Stance> {
    live.iter()
        .filter(|(_, evidence)| evidence.in_recovery)
        .map(|(&name, evidence)| (name.clone(), stance(name, evidence, live, addresses)))
        .collect()
}

/// The claimant at the top of the chain `standby` hangs on, through any cascade.
pub(super) fn root<'a>(
    standby: &'a NodeName,
    stances: &'a BTreeMap<NodeName, Stance>,
) -> Option<&'a NodeName> {
    let mut node = standby;
    // A chain longer than the herd is a circle.
    for _ in 0..=stances.len() {
        match stances.get(node) {
            Some(Stance::Follows(upstream)) => node = upstream,
            Some(Stance::Detached | Stance::Unseen) => return None,
            None => return (node != standby).then_some(node),
        }
    }
    None
}

/// Whether every follower that the live nodes list is a live node of ours, so that nobody else can be following.
pub(super) fn accounts_for_all(live: &Live<'_>, stances: &BTreeMap<NodeName, Stance>) -> bool {
    let listed: usize =
        live.values().map(|e| e.senders.iter().filter(|s| s.replayed.is_some()).count()).sum();
    let known = stances.values().filter(|stance| matches!(stance, Stance::Follows(_))).count();
    listed <= known && !live.values().any(|evidence| evidence.blind)
}

fn stance(
    name: &NodeName,
    evidence: &Evidence,
    live: &Live<'_>,
    addresses: &Addresses<'_>,
) -> Stance {
    if evidence.blind {
        return Stance::Unseen;
    }
    let Some(receiver) = evidence.receiver.as_ref().filter(|r| r.streaming) else {
        return Stance::Detached;
    };
    let address = format!("{}:{}", receiver.host, receiver.port);
    let named: Vec<_> =
        addresses.iter().filter(|(_, known)| known.contains(&address)).map(|(&n, _)| n).collect();
    let mut agreeing = live.iter().filter(|&(&upstream, candidate)| {
        upstream != name
            && (named.is_empty() || named.contains(&upstream))
            && (candidate.in_recovery || candidate.timeline >= evidence.timeline)
            && lists(candidate, name, receiver)
    });
    match (agreeing.next(), agreeing.next()) {
        (Some((&upstream, _)), None) => Stance::Follows(upstream.clone()),
        // Nobody lists it, or two do: either way there is no proof.
        _ if live.values().any(|candidate| candidate.blind) => Stance::Unseen,
        _ => Stance::Detached,
    }
}

/// Whether `upstream` says that the standby with this receiver follows it, on the timeline it writes.
fn lists(upstream: &Evidence, name: &NodeName, receiver: &Receiver) -> bool {
    let same_timeline =
        upstream.in_recovery || receiver.timeline.is_none_or(|t| t == upstream.timeline);
    same_timeline && upstream.senders.iter().any(|sender| is_of(sender, name, receiver))
}

fn is_of(sender: &Sender, name: &NodeName, receiver: &Receiver) -> bool {
    let same = match (&sender.slot, &receiver.slot) {
        (Some(here), Some(there)) => here == there,
        (None, Some(_)) | (Some(_), None) => false,
        (None, None) => {
            receiver
                .application_name
                .as_ref()
                .is_some_and(|there| *there == sender.application_name)
                || sender.application_name == name.as_str()
        }
    };
    let alive = sender.age.is_none_or(|age| age <= SILENT_AFTER);
    same && sender.streaming && sender.replayed.is_some() && alive
}
