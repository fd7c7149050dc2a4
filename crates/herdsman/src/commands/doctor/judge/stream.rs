//! What `herdsman stream diagnose` finds, under the codes of this program, and what may not be copied.

use std::collections::BTreeSet;

use herdsman_stream::StreamConfig;
use herdsman_stream::config::{LostSlot, SnapshotMode};
use herdsman_stream::diagnose::{self, Level};
use herdsman_wal::quote_identifier;

use crate::codes::Code;
use crate::commands::doctor::evidence::{Diagnosed, Evidence, Seen, StreamSeen, Unreadable};
use crate::commands::doctor::finding::Finding;

/// Tables named in one statement at most.
const NAMED: usize = 20;

pub(super) fn findings(config: &StreamConfig, evidence: &Evidence) -> Vec<Finding> {
    match &evidence.stream {
        None => Vec::new(),
        Some(StreamSeen::NoNode(problem)) => vec![Finding::error(
            Code::StreamNode,
            "stream",
            format!("there is no node to read from: {problem}"),
            "mend that first, or name the node under `stream.node`",
        )],
        Some(StreamSeen::Diagnosed(Diagnosed { node, role, report, unreadable })) => {
            let out = matches!(evidence.nodes.get(node), Some(Seen::Out(_)));
            let told = report.findings.iter().filter_map(|finding| translated(finding, out));
            let told = told.chain(rights(config, role, unreadable));
            told.map(|finding| finding.on(node)).collect()
        }
    }
}

/// Copying rows takes more than reading changes does.
fn rights(config: &StreamConfig, role: &str, unreadable: &Unreadable) -> Option<Finding> {
    let Unreadable { schemas, tables } = unreadable;
    let quoted = quote_identifier(role);
    let list = |names: &BTreeSet<String>| {
        names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ")
    };
    let grants: Vec<String> = [("USAGE ON SCHEMA", schemas), ("SELECT ON", tables)]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("`GRANT {what} {} TO {quoted}`", list(names)))
        .collect();
    if grants.is_empty() {
        return None;
    }
    let subject = "stream: tables";
    let what =
        super::count(tables.len().max(schemas.len()), "table or schema", "tables or schemas");
    let says = format!("`{role}` may not read {what} that it is to deliver");
    let fix = format!("run {} on the primary", grants.join(" and "));
    Some(if config.snapshot == SnapshotMode::Initial {
        let says = format!("{says}: the snapshot that `stream.snapshot` asks for fails");
        Finding::error(Code::StreamRights, subject, says, fix)
    } else if config.on_lost_slot == LostSlot::Resnapshot {
        let says = format!("{says}: the snapshot of `stream.on_lost_slot` would fail");
        Finding::warning(Code::StreamRights, subject, says, fix)
    } else {
        let says = format!("{says}: `herdsman stream snapshot` of them would fail");
        Finding::info(Code::StreamRights, subject, says, fix)
    })
}

/// None for what is said elsewhere. `out`: the node lets nobody in, which is told of the node itself.
fn translated(finding: &diagnose::Finding, out: bool) -> Option<Finding> {
    let code = match finding.subject.as_str() {
        "connection" if out => return None,
        // All slots of the node are looked at anyway.
        "other slots" => return None,
        "connection" | "role" | "output plugin" | "heartbeat" => Code::StreamRights,
        "version" => Code::Version,
        "wal_level" => Code::WalLevel,
        "slots" => Code::Slots,
        "senders" => Code::Senders,
        "slot" | "waiting" => Code::StreamSlot,
        "publication" | "tables" => Code::StreamTables,
        "log held back" | "max_slot_wal_keep_size" => Code::LogHeldBack,
        subject if subject.starts_with("table ") => Code::NoIdentity,
        "server" => Code::Unanswered,
        _ => Code::StreamSettings,
    };
    let subject = format!("stream: {}", finding.subject);
    let fix = finding.fix.clone().unwrap_or_else(|| "see the server's log".to_owned());
    Some(match finding.level {
        Level::Ok => Finding::ok(code, &subject, &finding.says),
        Level::Warn if fix.starts_with("nothing") => {
            Finding::info(code, &subject, &finding.says, fix)
        }
        Level::Warn => Finding::warning(code, &subject, &finding.says, fix),
        Level::Fail => Finding::error(code, &subject, &finding.says, fix),
    })
}

#[cfg(test)]
mod tests;
