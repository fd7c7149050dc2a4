//! Slots that hold back log, and publications that make statements fail.

use herdsman_node::NodeName;
use herdsman_wal::quote_literal;
use herdsman_wal::slot::{Slot, WalStatus};

use super::count;
use crate::codes::Code;
use crate::commands::doctor::evidence::{Evidence, Server, StreamSeen};
use crate::commands::doctor::finding::Finding;
use crate::config::Config;
use crate::show::bytes;

/// What an unread slot may hold back without a warning, where no setting says anything.
const HELD: u64 = 1 << 30;

pub(super) fn findings(
    config: &Config,
    evidence: &Evidence,
    node: &NodeName,
    server: &Server,
) -> Vec<Finding> {
    // What the stream uses is told by its own diagnosis.
    let streamed =
        matches!(&evidence.stream, Some(StreamSeen::Diagnosed(stream)) if stream.node == *node);
    let ours = |slot: &&Slot| !(streamed && slot.name == config.stream.slot);
    let bound = bound(server.facts.keep_size, config.stream.lag_guard.warn_bytes);
    let looked_at: Vec<&Slot> =
        server.slots.iter().filter(|slot| !slot.temporary).filter(ours).collect();
    let mut found: Vec<Finding> = looked_at.iter().filter_map(|slot| unread(slot, bound)).collect();
    if found.is_empty() && !looked_at.is_empty() {
        let says = format!("{}, none left behind", count(looked_at.len(), "slot", "slots"));
        found.push(Finding::ok(Code::SlotUnread, "slots", says));
    }
    let publication = config.stream.publication.as_str();
    let harmful = server.published.iter().filter(|(_, table)| !table.unidentified.is_empty());
    let tables = harmful.filter(|(name, _)| !(streamed && name == publication));
    found.extend(tables.map(|(publication, table)| {
        let fixes: Vec<String> = table.fix().split("; ").map(|sql| format!("`{sql}`")).collect();
        Finding::error(
            Code::NoIdentity,
            &format!("table {}.{}", table.schema, table.name),
            format!(
                "publication `{publication}` sends its updates and deletes, and nothing tells its rows apart: the application's own UPDATE and DELETE on it fail"
            ),
            format!("give it a primary key, or run {} there", fixes.join(" and ")),
        )
    }));
    found
}

/// A quarter of what is kept at most: the rest is for whoever is to be told.
fn bound(keep_size: Option<u64>, warn_bytes: u64) -> u64 {
    let warn = if warn_bytes == 0 { HELD } else { warn_bytes };
    keep_size.map_or(warn, |keep| warn.min(keep / 4))
}

/// A slot that nobody reads, or that is of no use any more.
fn unread(slot: &Slot, bound: u64) -> Option<Finding> {
    let name = &slot.name;
    let drop = format!("`SELECT pg_drop_replication_slot({})`", quote_literal(name.as_str()));
    if let Some(why) = slot.lost() {
        return Some(Finding::error(
            Code::SlotLost,
            &format!("slot {name}"),
            format!("it is lost: {why}"),
            format!(
                "run {drop} there; rebuild the standby that used it, or begin the stream or link anew (`herdsman explain {}`)",
                Code::SlotLost
            ),
        ));
    }
    // Copied here from the primary, it is read there.
    let held = slot.retained().filter(|_| slot.active_pid.is_none() && !slot.synced)?;
    let reader = match (&slot.plugin, name.as_str().starts_with("herdsman")) {
        (None, _) => "start the standby that reads it",
        (Some(_), true) => "start `herdsman run`, which reads it",
        (Some(_), false) => "start the program that reads it",
    };
    let subject = format!("slot {name}");
    let says = format!("nobody reads it, and {} of log is held back for it", bytes(held));
    let fix = format!("{reader}, or, if it is not needed any more, run {drop} there");
    Some(match slot.wal_status {
        Some(WalStatus::Unreserved) => {
            let says = format!("{says}; the next checkpoint may remove what it needs");
            Finding::error(Code::SlotUnread, &subject, says, fix)
        }
        _ if held >= bound => Finding::warning(Code::SlotUnread, &subject, says, fix),
        _ => Finding::info(Code::SlotUnread, &subject, says, fix),
    })
}

#[cfg(test)]
mod tests;
