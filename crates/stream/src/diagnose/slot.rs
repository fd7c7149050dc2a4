//! The slot: whether it can be read, what waits in it, and the log it holds back.

use herdsman_wal::WalError;
use herdsman_wal::inspect::ServerFacts;
use herdsman_wal::slot::{Slot, StartFrom, WalStatus, may_start};

use super::{Facts, Finding, Wanted, size};

const GIGABYTE: u64 = 1 << 30;
/// Less than this is kept anyway, and a limit below it would be hit by one bulk load.
const LEAST_ADVISED: u64 = 4 * GIGABYTE;

pub(super) fn findings(
    wanted: &Wanted,
    facts: &Facts,
    server: &ServerFacts,
    found: &mut Vec<Finding>,
) {
    let Some(slots) = &facts.slots else { return };
    match facts.slot(&wanted.slot) {
        None => found.push(missing(wanted)),
        Some(slot) => {
            found.push(readable(wanted, slot, &facts.endpoint));
            if slot.lost().is_none() && slot.is_logical() {
                found.extend(waiting(slot));
                found.extend(held_back(wanted, slot));
                found.extend(spilled(slot, server));
            }
        }
    }
    found.push(keep_size(wanted, slots, server));
    for slot in slots.iter().filter(|slot| slot.name != wanted.slot) {
        found.extend(abandoned(wanted, slot));
    }
}

fn missing(wanted: &Wanted) -> Finding {
    let says = format!("there is no slot `{}`", wanted.slot);
    if wanted.create {
        let fix =
            "nothing: it is made when the stream starts, and changes from then on are delivered";
        return Finding::warn("slot", says, fix);
    }
    let fix = "run `herdsman stream slots create`, or set `stream.create: true`".to_owned();
    Finding::fail("slot", says, Some(fix))
}

fn readable(wanted: &Wanted, slot: &Slot, endpoint: &str) -> Finding {
    let name = &slot.name;
    match may_start(wanted.handled, slot, endpoint) {
        Ok(StartFrom::Slot(lsn)) => {
            Finding::ok("slot", format!("`{name}` exists and can be read, from {lsn}"))
        }
        Ok(StartFrom::Handled { lsn, skipped }) => {
            let skipped = size(skipped);
            Finding::ok(
                "slot",
                format!(
                    "`{name}` exists and can be read, from {lsn}, what was last handled; {skipped} before that is skipped"
                ),
            )
        }
        Err(WalError::SlotActive { pid, .. }) => {
            Finding::ok("slot", format!("`{name}` exists and is being read (PID {pid})"))
        }
        Err(error @ (WalError::SlotLost { .. } | WalError::SlotAhead { .. })) => Finding::fail(
            "slot",
            error.to_string(),
            Some(
                "run `herdsman stream recreate`, then `herdsman stream snapshot` for the tables of which changes may be missing"
                    .to_owned(),
            ),
        ),
        Err(error) => Finding::fail(
            "slot",
            error.to_string(),
            Some("set `stream.slot` to another name, or run `herdsman stream recreate`".to_owned()),
        ),
    }
}

/// Counted by positions: looking into the slot would decode all of it.
fn waiting(slot: &Slot) -> Option<Finding> {
    let (bytes, confirmed) = (slot.waiting()?, slot.confirmed?);
    let says =
        format!("{} of log since {confirmed}, at most; counted without reading it", size(bytes));
    Some(Finding::ok("waiting", says))
}

fn held_back(wanted: &Wanted, slot: &Slot) -> Option<Finding> {
    let subject = "log held back";
    let retained = slot.retained()?;
    let mut says = format!("{} for `{}`", size(retained), slot.name);
    if let Some(left) = slot.safe_wal_size {
        let left = u64::try_from(left).unwrap_or(0);
        says.push_str(&format!("; {} more and the server lets go of it", size(left)));
    }
    let read_it = "start the stream and see that its sinks keep up, or drop the slot";
    if slot.wal_status == Some(WalStatus::Unreserved) {
        let says = format!("{says}; the next checkpoint may remove it");
        return Some(Finding::fail(subject, says, Some(read_it.to_owned())));
    }
    let endangered = slot.safe_wal_size.is_some_and(|left| {
        let left = u64::try_from(left).unwrap_or(0);
        left < retained.saturating_add(left) / 4
    });
    let warn = wanted.lag_guard.warn_bytes;
    if endangered || (warn > 0 && retained >= warn) {
        return Some(Finding::warn(subject, says, read_it));
    }
    Some(Finding::ok(subject, says))
}

fn spilled(slot: &Slot, server: &ServerFacts) -> Option<Finding> {
    let decoding = slot.decoding.filter(|decoding| decoding.spilled_transactions > 0)?;
    let says = format!(
        "{} of {} transactions did not fit into logical_decoding_work_mem ({}) and went through the server's disk, {} in all; transactions that are sent while in progress do not",
        decoding.spilled_transactions,
        decoding.transactions,
        size(server.logical_decoding_work_mem),
        size(decoding.spill_bytes)
    );
    Some(Finding::ok("decoding", says))
}

/// What may be held back at most: room for a few checkpoints' worth of log, and twice what was needed so far.
fn advised(slots: &[Slot], server: &ServerFacts) -> u64 {
    let largest = slots.iter().filter_map(Slot::retained).max().unwrap_or(0);
    let bytes = server.max_wal_size.saturating_mul(4).max(largest.saturating_mul(2));
    bytes.max(LEAST_ADVISED).div_ceil(GIGABYTE).saturating_mul(GIGABYTE)
}

fn keep_size(wanted: &Wanted, slots: &[Slot], server: &ServerFacts) -> Finding {
    let subject = "max_slot_wal_keep_size";
    let advised = advised(slots, server);
    let set = format!(
        "run `ALTER SYSTEM SET max_slot_wal_keep_size = '{}GB'` and `SELECT pg_reload_conf()`, with more than that free on the disk of the log",
        advised / GIGABYTE
    );
    let Some(limit) = server.max_slot_wal_keep_size else {
        let now = server.wal_bytes.map(|now| format!("; the log takes {} now", size(now)));
        let says = format!(
            "not limited: a slot that nobody reads fills the server's disk{}",
            now.unwrap_or_default()
        );
        return Finding::warn(subject, says, set);
    };
    let guard = wanted.lag_guard.limit_bytes;
    if guard > limit {
        let says = format!(
            "{}, less than `lag_guard.limit_bytes` ({}): the slot is lost before the guard does anything",
            size(limit),
            size(guard)
        );
        return Finding::warn(subject, says, set);
    }
    if limit < server.max_wal_size {
        let says = format!(
            "{}, less than the log between two checkpoints (max_wal_size, {}): a short stop of the stream may lose the slot",
            size(limit),
            size(server.max_wal_size)
        );
        return Finding::warn(subject, says, set);
    }
    Finding::ok(subject, format!("{}: a slot further behind than that is lost", size(limit)))
}

fn abandoned(wanted: &Wanted, slot: &Slot) -> Option<Finding> {
    let retained = slot.retained()?;
    let warn = wanted.lag_guard.warn_bytes;
    if slot.active_pid.is_some() || warn == 0 || retained < warn {
        return None;
    }
    let name = &slot.name;
    Some(Finding::warn(
        "other slots",
        format!("nobody reads slot `{name}`, and {} of log is held back for it", size(retained)),
        format!("if it is not needed any more: `SELECT pg_drop_replication_slot('{name}')`"),
    ))
}
