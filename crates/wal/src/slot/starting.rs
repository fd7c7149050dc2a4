//! Whether, and from where, a slot may be read. Pure.

use herdsman_node::Lsn;

use super::Slot;
use crate::WalError;

/// From where a stream starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFrom {
    /// From where the slot stands: nothing else is known.
    Slot(Lsn),
    /// From the last position that is known to be handled; the slot is this many bytes behind it, and the server skips
    /// them.
    Handled {
        /// The position.
        lsn: Lsn,
        /// How far behind it the slot is.
        skipped: u64,
    },
}

impl StartFrom {
    /// The position to start from.
    #[must_use]
    pub fn lsn(self) -> Lsn {
        match self {
            Self::Slot(lsn) | Self::Handled { lsn, .. } => lsn,
        }
    }
}

/// Decides whether the slot may be read, and from where.
///
/// `handled` is the last position of which it is known that it and everything before it is durable. Whoever keeps it must
/// write it down **before** confirming it to the server, also where nothing but an idle position is confirmed; otherwise a
/// crash in between looks like a slot that went ahead.
///
/// PostgreSQL itself would start in every one of these cases: it silently moves to where the slot stands, or skips to
/// where it is asked to start, whichever is later.
///
/// # Errors
/// - [`WalError::SlotLost`]: what the slot needs is gone.
/// - [`WalError::SlotActive`]: somebody reads it; try again later.
/// - [`WalError::SlotAhead`]: it has moved past `handled`, so changes are missing.
/// - [`WalError::Protocol`]: the server's log ends before `handled`: it was put back, and what it writes next would be
///   skipped.
/// - [`WalError::Server`]: it is the slot of another database, of another plugin, or not ready, which the server would
///   refuse.
pub fn may_start(handled: Option<Lsn>, slot: &Slot, endpoint: &str) -> Result<StartFrom, WalError> {
    let (name, endpoint) = (slot.name.to_string(), endpoint.to_owned());
    if let Some(problem) = unfit(slot) {
        return Err(refusal(&name, endpoint, problem));
    }
    if let Some(reason) = slot.lost() {
        let confirmed = slot.confirmed.or(handled).unwrap_or_default();
        return Err(WalError::SlotLost { endpoint, slot: name, reason, confirmed });
    }
    if let Some(pid) = slot.active_pid {
        return Err(WalError::SlotActive { endpoint, slot: name, pid });
    }
    let Some(slot_at) = slot.confirmed else {
        return Err(refusal(&name, endpoint, NOT_READY.map(str::to_owned)));
    };
    let Some(handled) = handled else { return Ok(StartFrom::Slot(slot_at)) };
    if slot_at > handled {
        return Err(WalError::SlotAhead { endpoint, slot: name, slot_at, handled });
    }
    if handled > slot.wal_position {
        let end = slot.wal_position;
        let problem = format!(
            "its log ends at {end}, before {handled}, up to where changes from it were handled; it was put back to an earlier state or replaced: take a snapshot with a new slot"
        );
        return Err(WalError::Protocol { endpoint, problem });
    }
    Ok(StartFrom::Handled { lsn: handled, skipped: handled.bytes_after(slot_at) })
}

const NOT_READY: [&str; 2] =
    ["it is still being made", "; wait until that is done, or drop it and make it anew"];

/// What is wrong with the slot whatever its position, and what to do.
fn unfit(slot: &Slot) -> Option<[String; 2]> {
    match slot.plugin.as_deref() {
        None => {
            let problem = "it is a physical slot, as standbys use".to_owned();
            return Some([problem, "; use another name".to_owned()]);
        }
        Some("pgoutput") => {}
        Some(other) => {
            let problem = format!("it was made for the output plugin {other}, not pgoutput");
            return Some([problem, "; use another name, or recreate it".to_owned()]);
        }
    }
    if !slot.database_is_ours {
        let database = slot.database.as_deref().unwrap_or("unknown");
        let problem = format!("it was made in the database `{database}`");
        return Some([problem, "; connect to that database, or use another name".to_owned()]);
    }
    if slot.synced && slot.on_standby {
        let problem = "it is the copy of the primary's slot".to_owned();
        let advice = "; read from the primary, the copy can be read after a promotion".to_owned();
        return Some([problem, advice]);
    }
    None
}

/// As the server itself would refuse it: `object_not_in_prerequisite_state`.
fn refusal(slot: &str, endpoint: String, [message, advice]: [String; 2]) -> WalError {
    let what = format!("start from replication slot `{slot}`");
    WalError::Server { endpoint, what, message, sqlstate: "55000".to_owned(), advice }
}

#[cfg(test)]
mod tests;
