//! What `herdsman stream diagnose` finds, under the codes of this program.

use herdsman_stream::diagnose::{self, Level};

use crate::codes::Code;
use crate::commands::doctor::evidence::{Evidence, Seen, StreamSeen};
use crate::commands::doctor::finding::Finding;

pub(super) fn findings(evidence: &Evidence) -> Vec<Finding> {
    match &evidence.stream {
        None => Vec::new(),
        Some(StreamSeen::NoNode(problem)) => vec![Finding::error(
            Code::StreamNode,
            "stream",
            format!("there is no node to read from: {problem}"),
            "mend that first, or name the node under `stream.node`",
        )],
        Some(StreamSeen::Diagnosed(node, report)) => {
            let out = matches!(evidence.nodes.get(node), Some(Seen::Out(_)));
            let told = report.findings.iter().filter_map(|finding| translated(finding, out));
            told.map(|finding| finding.on(node)).collect()
        }
    }
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
