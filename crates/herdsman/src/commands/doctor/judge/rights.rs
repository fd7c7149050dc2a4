//! Versions, and what the watcher's login has to be allowed.

use herdsman_node::NodeName;
use herdsman_wal::quote_identifier;
use herdsman_watch::HeartbeatSchedule;

use crate::codes::Code;
use crate::commands::doctor::evidence::{Evidence, HeartbeatTable, History, ServerFacts};
use crate::commands::doctor::finding::Finding;
use crate::config::Config;

/// The oldest major version that can be watched, and the oldest that is tested.
const OLDEST: u32 = 13;
const OLDEST_TESTED: u32 = 15;

pub(super) fn version(facts: &ServerFacts) -> Finding {
    let (subject, says) = ("version", format!("PostgreSQL {}", facts.version_text));
    match facts.version / 10_000 {
        major if major < OLDEST => Finding::error(
            Code::Version,
            subject,
            format!("{says} is too old to be watched"),
            format!("upgrade it to PostgreSQL {OLDEST_TESTED} or later"),
        ),
        major if major < OLDEST_TESTED => Finding::info(
            Code::Version,
            subject,
            format!("{says} can be watched, and nothing else is promised"),
            format!("upgrade it to PostgreSQL {OLDEST_TESTED} or later"),
        ),
        _ => Finding::ok(Code::Version, subject, says),
    }
}

/// Roles are the same on a primary and its standbys: where a primary answers, it is asked.
pub(super) fn findings(config: &Config, evidence: &Evidence) -> Vec<Finding> {
    let primaries = evidence.servers().any(|(_, server)| !server.facts.in_recovery);
    let asked = evidence.servers().filter(|(_, server)| !primaries || !server.facts.in_recovery);
    let schedule = config.availability.heartbeat;
    asked
        .flat_map(|(node, server)| {
            let facts = &server.facts;
            let database =
                config.nodes.get(node).map(|info| info.dbname.clone()).unwrap_or_default();
            [
                Some(monitor(facts)),
                Some(history(facts, &database)),
                heartbeat(facts, &database, schedule),
            ]
            .into_iter()
            .flatten()
            .map(|finding| finding.on(node))
            .collect::<Vec<_>>()
        })
        .chain(releases(evidence))
        .collect()
}

fn monitor(facts: &ServerFacts) -> Finding {
    let subject = "pg_monitor";
    let role = &facts.role;
    if facts.superuser || facts.monitor {
        return Finding::ok(Code::Monitor, subject, format!("`{role}` sees who replicates"));
    }
    Finding::warning(
        Code::Monitor,
        subject,
        format!("`{role}` may not see who replicates from whom: no proof can be had"),
        format!("run `GRANT pg_monitor TO {}` on the primary", quote_identifier(role)),
    )
}

fn history(facts: &ServerFacts, database: &str) -> Finding {
    let subject = "timeline history";
    let role = quote_identifier(&facts.role);
    match facts.history {
        History::Open => Finding::ok(Code::History, subject, "can be read"),
        History::Withheld => Finding::info(
            Code::History,
            subject,
            format!("`{}` may not read it: what a promotion kept is estimated", facts.role),
            format!(
                "run `GRANT USAGE ON SCHEMA herdsman_monitor TO {role}` and `GRANT EXECUTE ON FUNCTION herdsman_monitor.timeline_history() TO {role}` on the primary, in database `{database}`"
            ),
        ),
        History::Missing => Finding::info(
            Code::History,
            subject,
            "cannot be read: what a promotion kept is estimated by positions",
            format!(
                "create the function `herdsman_monitor.timeline_history` in database `{database}` (`herdsman explain {}` has it)",
                Code::History
            ),
        ),
    }
}

fn heartbeat(facts: &ServerFacts, database: &str, schedule: HeartbeatSchedule) -> Option<Finding> {
    let subject = "heartbeat table";
    let role = quote_identifier(&facts.role);
    let grant = format!("GRANT SELECT, INSERT, UPDATE ON public.pgr66_avc TO {role}");
    let place = format!("on the primary, in database `{database}`");
    let (says, fix) = match facts.heartbeat_table {
        _ if schedule == HeartbeatSchedule::Never => return None,
        HeartbeatTable::Writable => {
            let says = "can be written, or made when it is needed";
            return Some(Finding::ok(Code::HeartbeatTable, subject, says));
        }
        HeartbeatTable::Closed => (
            format!("`{}` may not write public.pgr66_avc", facts.role),
            format!("run `{grant}` {place}"),
        ),
        HeartbeatTable::Missing => (
            format!("`{}` may not make public.pgr66_avc, which is not there", facts.role),
            format!(
                "run `CREATE TABLE public.pgr66_avc (pgr66_avc timestamp)` and `{grant}` {place}"
            ),
        ),
    };
    let fix = format!("{fix}, or set `availability: {{ heartbeat: never }}`");
    Some(match schedule {
        HeartbeatSchedule::Always => Finding::warning(Code::HeartbeatTable, subject, says, fix),
        // Only who asks for /availability needs it.
        _ => Finding::info(Code::HeartbeatTable, subject, says, fix),
    })
}

/// Nodes of one major version with different bugs.
fn releases(evidence: &Evidence) -> Option<Finding> {
    let mut newest: Option<(&NodeName, &ServerFacts)> = None;
    let mut behind = Vec::new();
    for (node, server) in evidence.servers() {
        let same_major =
            |other: &ServerFacts| other.version / 10_000 == server.facts.version / 10_000;
        match newest {
            Some((_, known)) if !same_major(known) => return None,
            Some((_, known)) if known.version >= server.facts.version => {}
            _ => newest = Some((node, &server.facts)),
        }
    }
    let (newest, facts) = newest?;
    for (node, server) in evidence.servers() {
        if server.facts.version < facts.version {
            behind.push(format!("{node} {}", server.facts.version_text));
        }
    }
    (!behind.is_empty()).then(|| {
        Finding::info(
            Code::Version,
            "releases",
            format!("{newest} has {}, and older ones: {}", facts.version_text, behind.join(", ")),
            "bring all nodes to the same release, standbys first",
        )
    })
}
