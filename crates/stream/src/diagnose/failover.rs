//! Whether the stream outlives a promotion, and whether a standby holds it up.

use herdsman_wal::inspect::ServerFacts;
use herdsman_wal::slot::Slot;

use super::{Facts, Finding, Wanted};

/// From this major version on, standbys can keep logical slots.
const SINCE: u32 = 17;

const SUBJECT: &str = "failover";

pub(super) fn findings(
    wanted: &Wanted,
    facts: &Facts,
    server: &ServerFacts,
    found: &mut Vec<Finding>,
) {
    let slots = facts.slots.as_deref().unwrap_or_default();
    waited_for(slots, server, found);
    if server.in_recovery && !server.hot_standby_feedback {
        found.push(Finding::warn(
            SUBJECT,
            "this is a standby without hot_standby_feedback: rows that the slot needs may be removed by the primary, and the slot is lost then",
            "run `ALTER SYSTEM SET hot_standby_feedback = on` and `SELECT pg_reload_conf()` here",
        ));
    }
    if !wanted.failover {
        return;
    }
    if server.major() < SINCE {
        found.push(Finding::warn(
            SUBJECT,
            format!(
                "PostgreSQL {} has no failover slots: a promotion loses the slot, and what was not read by then",
                server.version_text
            ),
            format!(
                "upgrade to PostgreSQL {SINCE} or later, or set `stream.on_lost_slot: resnapshot`"
            ),
        ));
        return;
    }
    if let Some(slot) = facts.slot(&wanted.slot).filter(|slot| slot.is_logical() && !slot.failover)
    {
        let name = &slot.name;
        found.push(Finding::warn(
            SUBJECT,
            format!("slot `{name}` is not kept on standbys: a promotion loses it"),
            format!(
                "stop the stream and send `ALTER_REPLICATION_SLOT {name} (FAILOVER true)` over a replication connection (psql \"… replication=database\"), or run `herdsman stream recreate`"
            ),
        ));
    }
    standbys(slots, server, found);
}

/// A standby that must have everything first, and is not there, stops every logical reader.
fn waited_for(slots: &[Slot], server: &ServerFacts, found: &mut Vec<Finding>) {
    for name in &server.synchronized_standby_slots {
        let slot = slots.iter().find(|slot| slot.name.as_str() == name);
        let problem = match slot {
            None => "does not exist",
            Some(slot) if slot.is_logical() => "is a logical slot, not a standby's",
            Some(slot) if slot.active_pid.is_none() => "is not in use: its standby is away",
            Some(_) => continue,
        };
        found.push(Finding::fail(
            "synchronized_standby_slots",
            format!("slot `{name}` {problem}, and no failover slot is sent anything until it has everything"),
            Some(format!(
                "bring the standby back, or take `{name}` out of synchronized_standby_slots and run `SELECT pg_reload_conf()`"
            )),
        ));
    }
}

fn standbys(slots: &[Slot], server: &ServerFacts, found: &mut Vec<Finding>) {
    if server.in_recovery {
        found.push(if server.sync_replication_slots {
            Finding::ok(SUBJECT, "this standby copies failover slots (sync_replication_slots)")
        } else {
            Finding::warn(
                SUBJECT,
                "this standby does not copy failover slots: promoted, it has none",
                ON_STANDBY,
            )
        });
        return;
    }
    let physical: Vec<&str> =
        slots.iter().filter(|slot| !slot.is_logical()).map(|slot| slot.name.as_str()).collect();
    if physical.is_empty() {
        found.push(Finding::ok(SUBJECT, "no standby uses a slot of this server"));
    } else if server.synchronized_standby_slots.is_empty() {
        found.push(Finding::warn(
            SUBJECT,
            "synchronized_standby_slots is empty: the stream may get ahead of a standby that is then promoted, and deliver changes that never were",
            format!(
                "run `ALTER SYSTEM SET synchronized_standby_slots = {}` and `SELECT pg_reload_conf()`; {ON_STANDBY}",
                physical.join(", ")
            ),
        ));
    } else {
        found.push(Finding::ok(
            SUBJECT,
            format!(
                "standbys that are waited for: {}; {ON_STANDBY}",
                server.synchronized_standby_slots.join(", ")
            ),
        ));
    }
}

const ON_STANDBY: &str = "on each standby, sync_replication_slots and hot_standby_feedback have to be on, and primary_conninfo has to name a dbname";
