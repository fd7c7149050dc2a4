//! The server: version, settings, limits, and what our role may do.

use herdsman_wal::inspect::ServerFacts;
use herdsman_wal::quote_identifier;

use super::{Facts, Finding, Wanted};

/// The oldest major version that is tested.
const OLDEST: u32 = 15;

pub(super) fn findings(
    wanted: &Wanted,
    facts: &Facts,
    server: &ServerFacts,
    found: &mut Vec<Finding>,
) {
    let ServerFacts { role, database, version_text, .. } = server;
    let endpoint = &facts.endpoint;
    found.push(Finding::ok(
        "connection",
        format!("{endpoint} lets `{role}` into database `{database}`, PostgreSQL {version_text}"),
    ));
    if server.major() < OLDEST {
        found.push(Finding::fail(
            "version",
            format!("PostgreSQL {version_text} is too old"),
            Some(format!("upgrade to PostgreSQL {OLDEST} or later")),
        ));
    }
    found.push(wal_level(server));
    found.push(plugin(server));
    found.push(privilege(server));
    limits(wanted, facts, server, found);
    found.push(heartbeat(wanted, server));
    timeouts(server, found);
}

fn wal_level(server: &ServerFacts) -> Finding {
    let level = server.wal_level.as_str();
    if level == "logical" {
        return Finding::ok("wal_level", level);
    }
    let whose = if server.in_recovery { "this standby and its primary" } else { "the server" };
    let fix = format!("run `ALTER SYSTEM SET wal_level = 'logical'` and restart {whose}");
    Finding::fail("wal_level", format!("{level}, expected logical"), Some(fix))
}

fn plugin(server: &ServerFacts) -> Finding {
    let subject = "output plugin";
    match &server.output_plugin_libraries {
        Some(allowed) if !server.allows_plugin("pgoutput") => {
            let mut list = allowed.clone();
            list.push("pgoutput".to_owned());
            let fix = format!(
                "run `ALTER SYSTEM SET output_plugin_libraries = {}` and `SELECT pg_reload_conf()`",
                list.join(", ")
            );
            let says = "pgoutput is not in output_plugin_libraries, so the server refuses it";
            Finding::fail(subject, says, Some(fix))
        }
        Some(allowed) if !server.allows_plugin("wal2json") => Finding::ok(
            subject,
            format!(
                "pgoutput may be used; wal2json may not (output_plugin_libraries is {}), which matters to other readers only",
                allowed.join(", ")
            ),
        ),
        _ => Finding::ok(subject, "pgoutput may be used"),
    }
}

fn privilege(server: &ServerFacts) -> Finding {
    let role = &server.role;
    if server.may_replicate() {
        return Finding::ok("role", format!("`{role}` may use replication slots"));
    }
    let quoted = quote_identifier(role);
    Finding::fail(
        "role",
        format!("`{role}` may not use replication slots"),
        Some(format!(
            "run `ALTER ROLE {quoted} REPLICATION` as a superuser (on Amazon RDS: `GRANT rds_replication TO {quoted}`)"
        )),
    )
}

fn limits(wanted: &Wanted, facts: &Facts, server: &ServerFacts, found: &mut Vec<Finding>) {
    let slot = facts.slot(&wanted.slot);
    let (used, max) = (server.used_slots, server.max_replication_slots);
    let says = format!("{used} of {max} in use (max_replication_slots)");
    let raise = |setting: &str, to: u32| {
        Some(format!(
            "drop a slot that nobody needs (`herdsman stream slots`), or raise {setting} to {to} and restart the server"
        ))
    };
    found.push(if slot.is_none() && used >= max {
        Finding::fail("slots", says, raise("max_replication_slots", max.saturating_add(5)))
    } else {
        Finding::ok("slots", says)
    });
    let (used, max) = (server.used_senders, server.max_wal_senders);
    let says = format!("{used} of {max} in use (max_wal_senders)");
    let active = slot.is_some_and(|slot| slot.active_pid.is_some());
    found.push(if !active && used >= max {
        let to = max.saturating_add(5);
        let fix = format!("raise max_wal_senders to {to} and restart the server");
        Finding::fail("senders", says, Some(fix))
    } else {
        Finding::ok("senders", says)
    });
}

fn heartbeat(wanted: &Wanted, server: &ServerFacts) -> Finding {
    let subject = "heartbeat";
    if !wanted.heartbeat {
        return Finding::warn(
            subject,
            "switched off: while other tables are written to and ours are not, the slot may hold back log",
            "set `stream.heartbeat`, such as 30s",
        );
    }
    if server.in_recovery {
        return Finding::warn(
            subject,
            "a standby cannot write one",
            "have them written on the primary, or accept that a quiet slot holds back log",
        );
    }
    if server.may_emit {
        return Finding::ok(subject, format!("`{}` may write messages into the log", server.role));
    }
    let arguments =
        if server.major() >= 17 { "boolean, text, text, boolean" } else { "boolean, text, text" };
    let role = quote_identifier(&server.role);
    Finding::fail(
        subject,
        format!("`{}` may not write messages into the log", server.role),
        Some(format!(
            "run `GRANT EXECUTE ON FUNCTION pg_logical_emit_message({arguments}) TO {role}`, or set `stream.heartbeat: never`"
        )),
    )
}

fn timeouts(server: &ServerFacts, found: &mut Vec<Finding>) {
    if server.wal_sender_timeout.is_none() {
        found.push(Finding::warn(
            "wal_sender_timeout",
            "0: a reader that vanished keeps its slot for ever, and nobody else can read it",
            "run `ALTER SYSTEM SET wal_sender_timeout = '60s'` and `SELECT pg_reload_conf()`",
        ));
    }
    if let Some(idle) = server.idle_replication_slot_timeout {
        found.push(Finding::warn(
            "idle_replication_slot_timeout",
            format!("a stream that stands still for {} s loses its slot", idle.as_secs()),
            "keep it well above the longest time the stream may be stopped, or set it to 0",
        ));
    }
}
