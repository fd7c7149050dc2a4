use super::super::WalStatus;
use super::*;
use crate::SlotName;

fn slot() -> Slot {
    Slot {
        name: SlotName::new("s").unwrap(),
        plugin: Some("pgoutput".to_owned()),
        database: Some("shop".to_owned()),
        database_is_ours: true,
        temporary: false,
        active_pid: None,
        restart: Some(Lsn(900)),
        confirmed: Some(Lsn(1000)),
        wal_status: Some(WalStatus::Reserved),
        safe_wal_size: None,
        two_phase: false,
        failover: false,
        synced: false,
        on_standby: false,
        invalidation_reason: None,
        conflicting: false,
        wal_position: Lsn(2000),
        decoding: None,
    }
}

fn start(handled: Option<u64>, slot: &Slot) -> Result<StartFrom, WalError> {
    may_start(handled.map(Lsn), slot, "db1:5432")
}

fn refused(handled: Option<u64>, slot: &Slot) -> String {
    start(handled, slot).unwrap_err().to_string()
}

#[test]
fn where_nothing_is_known_the_slot_says_where_to_start() {
    assert_eq!(start(None, &slot()).unwrap(), StartFrom::Slot(Lsn(1000)));
}

#[test]
fn a_slot_that_is_behind_is_read_from_what_was_handled() {
    let from = start(Some(1500), &slot()).unwrap();
    assert_eq!(from, StartFrom::Handled { lsn: Lsn(1500), skipped: 500 });
    assert_eq!(from.lsn(), Lsn(1500));
    let level = start(Some(1000), &slot()).unwrap();
    assert_eq!(level, StartFrom::Handled { lsn: Lsn(1000), skipped: 0 });
    start(Some(2000), &slot()).unwrap();
}

#[test]
fn a_slot_that_went_ahead_of_us_means_missing_changes() {
    let error = start(Some(999), &slot()).unwrap_err();
    assert!(
        matches!(error, WalError::SlotAhead { slot_at: Lsn(1000), handled: Lsn(999), .. }),
        "{error}"
    );
    assert!(!error.is_transient());
}

#[test]
fn a_log_that_ends_before_what_was_handled_is_not_read() {
    let text = refused(Some(2001), &slot());
    assert!(text.contains("put back to an earlier state"), "{text}");
}

#[test]
fn a_slot_in_use_names_its_reader_and_may_be_free_later() {
    let error = start(None, &Slot { active_pid: Some(42), ..slot() }).unwrap_err();
    assert!(matches!(error, WalError::SlotActive { pid: 42, .. }), "{error}");
    assert!(error.is_transient());
}

#[test]
fn a_lost_slot_is_lost_whichever_way_the_version_says_so() {
    let lost = [
        Slot { wal_status: Some(WalStatus::Lost), restart: None, ..slot() },
        Slot { invalidation_reason: Some("wal_removed".to_owned()), ..slot() },
        Slot { invalidation_reason: Some("idle_timeout".to_owned()), ..slot() },
        Slot { invalidation_reason: Some("something_new".to_owned()), ..slot() },
        Slot { conflicting: true, ..slot() },
    ];
    for slot in lost {
        // Being active or ahead of us is no matter then.
        let slot = Slot { active_pid: Some(42), ..slot };
        let error = start(Some(1), &slot).unwrap_err();
        assert!(matches!(error, WalError::SlotLost { confirmed: Lsn(1000), .. }), "{error}");
    }
    let in_danger = Slot { wal_status: Some(WalStatus::Unreserved), ..slot() };
    start(None, &in_danger).unwrap();
}

#[test]
fn a_slot_made_for_something_else_is_refused_with_what_it_is() {
    let cases = [
        (Slot { plugin: Some("wal2json".to_owned()), ..slot() }, "plugin wal2json, not pgoutput"),
        (Slot { plugin: None, confirmed: None, ..slot() }, "physical slot"),
        (Slot { database_is_ours: false, ..slot() }, "database `shop`"),
        (Slot { synced: true, on_standby: true, ..slot() }, "copy of the primary's slot"),
        (Slot { confirmed: None, ..slot() }, "still being made"),
    ];
    for (slot, says) in cases {
        let text = refused(None, &slot);
        assert!(text.contains(says), "{text}");
        assert!(text.starts_with("db1:5432 refused to start from replication slot `s`"), "{text}");
    }
    // After the promotion of the standby, its copy is the slot.
    start(None, &Slot { synced: true, ..slot() }).unwrap();
}

#[test]
fn what_is_kept_and_what_waits_are_counted_from_positions() {
    let slot = slot();
    assert_eq!((slot.retained(), slot.waiting()), (Some(1100), Some(1000)));
    let lost = Slot { restart: None, ..slot };
    assert_eq!(lost.retained(), None);
}
