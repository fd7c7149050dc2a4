mod simulation;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use simulation::{Rule, Settings, Simulation, Step};

use super::*;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any::<Step>(), 0..300)
}

fn settings(rule: Rule) -> impl Strategy<Value = Settings> {
    // A few numbers before, at and after the place where 32 bits go round.
    let first_xid = prop_oneof![Just(700), ((5_u64 << 32) - 40)..(5 << 32) + 5];
    (first_xid, 0_usize..60, 2_usize..30, 1_usize..8).prop_map(
        move |(first_xid, observe_after, most_keys, page)| Settings {
            first_xid,
            observe_after,
            most_keys,
            page,
            rule,
            ..Settings::default()
        },
    )
}

/// Whether one of many random schedules goes wrong.
fn goes_wrong(settings: Settings) -> bool {
    let mut runner = TestRunner::deterministic();
    let strategy = prop::collection::vec(any::<Step>(), 100..300);
    (0..400).any(|number| {
        let steps = strategy.new_tree(&mut runner).unwrap().current();
        let settings = Settings { observe_after: number % 60, ..settings };
        Simulation::run(settings, &steps).is_err()
    })
}

proptest! {
    #[test]
    fn under_any_schedule_each_row_is_as_the_stream_has_it(
        settings in settings(Rule::BySnapshot),
        steps in steps(),
    ) {
        prop_assert_eq!(Simulation::run(settings, &steps), Ok(()));
    }
}

/// The same simulation finds what is wrong with positions, and only there: where a transaction is seen in the moment it
/// is in the log, positions do.
#[test]
fn positions_in_the_log_bring_old_rows_back_where_a_commit_waits_to_be_seen() {
    let simple = Settings { simple: true, rule: Rule::ByPosition, ..Settings::default() };
    assert!(!goes_wrong(Settings { seen_at_once: true, ..simple }));
    assert!(goes_wrong(simple));
}

#[test]
fn without_waiting_for_earlier_writers_rows_are_old_or_missing() {
    assert!(!goes_wrong(Settings { simple: true, ..Settings::default() }));
    assert!(goes_wrong(Settings {
        simple: true,
        rule: Rule::WithoutWaiting,
        ..Settings::default()
    }));
}

#[test]
fn without_reading_moved_rows_again_large_values_are_missing() {
    assert!(!goes_wrong(Settings::default()));
    assert!(goes_wrong(Settings { rule: Rule::WithoutReadingAgain, ..Settings::default() }));
}

#[test]
fn what_every_later_snapshot_shows_is_forgotten() {
    let mut window = Window::new(10);
    for xid in [7, 8, 9] {
        window.begin(xid);
        window.told(b"k", &[]);
        window.commit(Lsn(u64::from(xid)));
    }
    assert_eq!(window.remembers(), 3);
    assert_eq!(window.accept("8:10:8".parse().unwrap(), Lsn(9), []), Accepted::Waits);
    assert_eq!(window.remembers(), 1, "only the one that this snapshot does not show is kept");
}

#[test]
fn a_chunk_waits_until_the_stream_has_come_that_far_and_stands_between_transactions() {
    let mut window = Window::new(10);
    let keys: [Key; 2] = [b"a".as_slice().into(), b"b".as_slice().into()];
    assert_eq!(window.accept("5:5:".parse().unwrap(), Lsn(100), keys), Accepted::Waits);
    window.passed(Lsn(99));
    assert_eq!(window.take(), None);
    window.begin(5);
    window.told(b"b", &[2, 3]);
    window.passed(Lsn(100));
    assert_eq!(window.take(), None, "a transaction is half delivered");
    window.commit(Lsn(110));
    assert_eq!(window.take(), Some(vec![Keep::All, Keep::Columns([2, 3].into())]));
    assert!(!window.waits());
}
