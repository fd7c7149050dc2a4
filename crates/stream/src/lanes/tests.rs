//! The rules one by one. What holds for every schedule is in [`simulation`](super::simulation).

use std::time::Duration;

use herdsman_node::Lsn;
use herdsman_wal::ReplicaIdentity;

use super::fixture::*;
use super::key::{Touch, touch};
use super::*;

const LIMITS: Limits = Limits { changes: 100, bytes: 1 << 20, more_coming: true };

fn patience(attempts: u32, give_up: bool) -> Patience {
    let (pause, longest_pause) = (Duration::from_secs(1), Duration::from_secs(60));
    Patience { retry: RetryConfig { attempts, pause, longest_pause }, give_up }
}

fn total() -> Lanes {
    Lanes::new(Order::Total, patience(3, true))
}

fn per_key(parallel: usize) -> Lanes {
    Lanes::new(Order::PerKey { parallel }, patience(3, true))
}

pub(super) fn error() -> SinkError {
    SinkError {
        what: "reach",
        target: "the shop".to_owned(),
        problem: "it is closed".to_owned(),
        advice: "come back tomorrow",
        reopen: false,
    }
}

fn failed(index: usize) -> Undelivered {
    Undelivered { index, why: Why::Failed(error()) }
}

fn labels(work: &Work) -> Vec<String> {
    work.batch.changes.iter().map(|change| label(change)).collect()
}

fn count(effects: &[Effect]) -> u64 {
    effects.iter().map(|e| if let Effect::Handled { count, .. } = e { *count } else { 0 }).sum()
}

fn letter(effects: &[Effect]) -> Letter {
    let letters = effects.iter().filter_map(|effect| match effect {
        Effect::DeadLetter(letter) => Some(letter.clone()),
        Effect::Handled { .. } => None,
    });
    let letters: Vec<_> = letters.collect();
    assert_eq!(letters.len(), 1, "{effects:?}");
    letters[0].clone()
}

/// Pushes a whole transaction of inserts with these ids.
fn push_all(lanes: &mut Lanes, commit: u64, ids: &[&str]) {
    let (tx, table) = (transaction(commit), table("users"));
    for (ordinal, id) in (0..).zip(ids) {
        lanes.push(insert(&tx, ordinal, &table, id), commit);
    }
    lanes.commit(commit);
}

#[tokio::test]
async fn a_total_order_is_one_batch_at_a_time_with_whole_transactions() {
    let (now, mut lanes) = (Instant::now(), total());
    push_all(&mut lanes, 10, &["a", "b"]);
    push_all(&mut lanes, 20, &["c"]);
    let open = transaction(30);
    lanes.push(insert(&open, 0, &table("users"), "d"), 30);
    let work = lanes.take(now, LIMITS).unwrap();
    assert_eq!(labels(&work), ["a", "b", "c"]);
    assert_eq!(work.batch.position, Some(Position { commit_lsn: Lsn(20), changes: u64::MAX }));
    assert!(lanes.take(now, LIMITS).is_none(), "one is under way");
    let effects = lanes.done(work.id);
    assert!(matches!(
        effects[..],
        [Effect::Handled { ticket: 10, count: 2 }, Effect::Handled { ticket: 20, count: 1 }]
    ));
    assert!(lanes.take(now, LIMITS).is_none(), "the end of the third is not known yet");
    lanes.commit(30);
    let work = lanes.take(now, LIMITS).unwrap();
    assert_eq!(work.batch.position, Some(Position { commit_lsn: Lsn(30), changes: u64::MAX }));
    assert_eq!(count(&lanes.done(work.id)), 1);
    assert_eq!(lanes.waiting(), Waiting::default());
}

#[tokio::test]
async fn a_transaction_larger_than_a_batch_is_cut_and_each_part_says_how_far_it_goes() {
    let (now, mut lanes) = (Instant::now(), total());
    let limits = Limits { changes: 2, ..LIMITS };
    push_all(&mut lanes, 10, &["a", "b", "c"]);
    let first = lanes.take(now, limits).unwrap();
    assert_eq!(first.batch.position, Some(Position { commit_lsn: Lsn(10), changes: 2 }));
    lanes.done(first.id);
    let second = lanes.take(now, limits).unwrap();
    assert_eq!(labels(&second), ["c"]);
    assert_eq!(second.batch.position, Some(Position { commit_lsn: Lsn(10), changes: u64::MAX }));
}

#[tokio::test]
async fn a_batch_ends_with_a_transaction_where_the_next_one_does_not_fit() {
    let (now, mut lanes) = (Instant::now(), total());
    push_all(&mut lanes, 10, &["a", "b"]);
    push_all(&mut lanes, 20, &["c", "d"]);
    let work = lanes.take(now, Limits { changes: 3, ..LIMITS }).unwrap();
    assert_eq!(labels(&work), ["a", "b"]);
    lanes.done(work.id);
    // One change is taken however large it is.
    let work = lanes.take(now, Limits { bytes: 1, ..LIMITS }).unwrap();
    assert_eq!(labels(&work), ["c"]);
}

#[tokio::test]
async fn nothing_waits_for_the_end_of_a_transaction_when_no_more_comes() {
    let (now, mut lanes) = (Instant::now(), total());
    lanes.push(insert(&transaction(10), 0, &table("users"), "a"), 10);
    assert!(lanes.take(now, LIMITS).is_none());
    let work = lanes.take(now, Limits { more_coming: false, ..LIMITS }).unwrap();
    assert_eq!(work.batch.position, Some(Position { commit_lsn: Lsn(10), changes: 1 }));
}

#[tokio::test]
async fn what_comes_back_does_not_wait_for_an_end_that_came_while_it_was_under_way() {
    let (mut now, mut lanes) = (Instant::now(), total());
    lanes.push(insert(&transaction(10), 0, &table("users"), "a"), 10);
    let work = lanes.take(now, Limits { more_coming: false, ..LIMITS }).unwrap();
    lanes.commit(10);
    lanes.unavailable(work.id, now, 0.5);
    now += Duration::from_secs(120);
    let work = lanes.take(now, LIMITS).unwrap();
    assert_eq!(work.batch.position, Some(Position { commit_lsn: Lsn(10), changes: u64::MAX }));
    lanes.done(work.id);
    // It ends no other one.
    lanes.push(insert(&transaction(20), 0, &table("users"), "b"), 20);
    assert!(lanes.take(now, LIMITS).is_none());
}

#[tokio::test]
async fn in_a_total_order_a_failing_change_is_tried_alone_and_then_given_up() {
    let (now, mut lanes) = (Instant::now(), total());
    push_all(&mut lanes, 10, &["a", "b", "c"]);
    let work = lanes.take(now, LIMITS).unwrap();
    let behind = Undelivered { index: 2, why: Why::Behind };
    let effects = lanes.undelivered(work.id, vec![failed(1), behind], now, || 1.0);
    assert_eq!(count(&effects), 1);
    assert!(lanes.take(now, LIMITS).is_none(), "it pauses");
    assert_eq!(lanes.next_wake(now), Some(now + Duration::from_secs(1)));

    let later = now + Duration::from_secs(1);
    let work = lanes.take(later, LIMITS).unwrap();
    assert_eq!(labels(&work), ["b"]);
    lanes.undelivered(work.id, vec![failed(0)], later, || 1.0);
    assert_eq!(lanes.next_wake(later), Some(later + Duration::from_secs(2)));

    let later = later + Duration::from_secs(2);
    let work = lanes.take(later, LIMITS).unwrap();
    let given_up = letter(&lanes.undelivered(work.id, vec![failed(0)], later, || 1.0));
    assert_eq!((label(&given_up.change), given_up.attempts), ("b".to_owned(), 3));
    assert!(lanes.take(later, LIMITS).is_none(), "nothing overtakes what is not kept yet");
    assert_eq!(count(&lanes.dead_letter_written(given_up.id)), 1);
    assert_eq!(count(&lanes.dead_letter_written(given_up.id)), 0, "only once");
    let work = lanes.take(later, LIMITS).unwrap();
    assert_eq!(labels(&work), ["c"]);
    assert_eq!(work.batch.position, Some(Position { commit_lsn: Lsn(10), changes: u64::MAX }));
}

#[tokio::test]
async fn a_rejected_change_is_given_up_at_once() {
    let now = Instant::now();
    for mut lanes in [total(), per_key(2)] {
        push_all(&mut lanes, 10, &["a", "b"]);
        let work = lanes.take(now, LIMITS).unwrap();
        let rejected = Undelivered { index: 0, why: Why::Rejected(error()) };
        let effects = lanes.undelivered(work.id, vec![rejected], now, || 1.0);
        assert_eq!((count(&effects), letter(&effects).attempts), (1, 1));
        assert_eq!(lanes.waiting().changes, 1);
        assert_eq!(count(&lanes.dead_letter_written(letter(&effects).id)), 1);
        assert_eq!(lanes.waiting(), Waiting::default());
    }
}

#[tokio::test]
async fn without_dead_letters_a_change_is_tried_for_ever() {
    let mut now = Instant::now();
    for order in [Order::Total, Order::PerKey { parallel: 2 }] {
        let mut lanes = Lanes::new(order, patience(2, false));
        push_all(&mut lanes, 10, &["a"]);
        for round in 0..20 {
            let work = lanes.take(now, LIMITS).unwrap();
            let why = if round % 2 == 0 { Why::Failed(error()) } else { Why::Rejected(error()) };
            let effects =
                lanes.undelivered(work.id, vec![Undelivered { index: 0, why }], now, || 1.0);
            assert!(effects.is_empty(), "{effects:?}");
            assert!(lanes.take(now, LIMITS).is_none());
            now = lanes.next_wake(now).unwrap();
        }
    }
}

#[tokio::test]
async fn an_outage_pauses_the_whole_sink_and_makes_no_dead_letters() {
    let mut now = Instant::now();
    let mut lanes = per_key(4);
    push_all(&mut lanes, 10, &["a"]);
    let one = lanes.take(now, LIMITS).unwrap();
    push_all(&mut lanes, 20, &["b"]);
    let two = lanes.take(now, LIMITS).unwrap();
    lanes.unavailable(one.id, now, 1.0);
    lanes.unavailable(two.id, now, 1.0);
    assert_eq!(lanes.next_wake(now), Some(now + Duration::from_secs(1)), "one failure, not two");
    for seconds in [2, 4, 8, 16, 32, 60, 60] {
        now = lanes.next_wake(now).unwrap();
        let work = lanes.take(now, LIMITS).unwrap();
        assert_eq!(labels(&work), ["a", "b"]);
        assert!(lanes.take(now, LIMITS).is_none(), "one batch finds out");
        lanes.unavailable(work.id, now, 1.0);
        assert_eq!(lanes.next_wake(now), Some(now + Duration::from_secs(seconds)));
    }
    now = lanes.next_wake(now).unwrap();
    let work = lanes.take(now, LIMITS).unwrap();
    assert_eq!(count(&lanes.done(work.id)), 2);
    assert_eq!(lanes.next_wake(now), None);
}

#[tokio::test]
async fn a_failing_change_blocks_its_own_key_only() {
    let (now, mut lanes) = (Instant::now(), per_key(2));
    push_all(&mut lanes, 10, &["a", "b"]);
    let work = lanes.take(now, LIMITS).unwrap();
    assert_eq!(count(&lanes.undelivered(work.id, vec![failed(0)], now, || 1.0)), 1);
    push_all(&mut lanes, 20, &["b", "a", "c"]);
    let work = lanes.take(now, LIMITS).unwrap();
    assert_eq!(labels(&work), ["b", "c"]);
    lanes.done(work.id);
    let now = lanes.next_wake(now).unwrap();
    let work = lanes.take(now, LIMITS).unwrap();
    assert_eq!(work.batch.changes.len(), 1, "what failed is tried alone");
    lanes.done(work.id);
    assert_eq!(labels(&lanes.take(now, LIMITS).unwrap()), ["a"]);
}

#[tokio::test]
async fn several_changes_of_one_key_may_share_a_batch_but_never_stand_in_two() {
    let (now, mut lanes) = (Instant::now(), per_key(3));
    push_all(&mut lanes, 10, &["a", "b", "a", "a"]);
    let work = lanes.take(now, LIMITS).unwrap();
    assert_eq!(labels(&work), ["a", "b", "a", "a"]);
    push_all(&mut lanes, 20, &["a", "c"]);
    assert_eq!(labels(&lanes.take(now, LIMITS).unwrap()), ["c"]);
    assert!(lanes.take(now, LIMITS).is_none());
    lanes.done(work.id);
    assert_eq!(labels(&lanes.take(now, LIMITS).unwrap()), ["a"]);
}

#[tokio::test]
async fn an_update_that_moves_a_row_waits_for_both_keys_and_holds_both() {
    let (now, mut lanes) = (Instant::now(), per_key(8));
    let (tx, users) = (transaction(10), table("users"));
    lanes.push(insert(&tx, 0, &users, "a"), 1);
    let a = lanes.take(now, LIMITS).unwrap();
    lanes.push(insert(&tx, 1, &users, "b"), 1);
    let b = lanes.take(now, LIMITS).unwrap();
    lanes.push(update(&tx, 2, &users, Some("a"), "b"), 1);
    lanes.push(insert(&tx, 3, &users, "a"), 1);
    lanes.push(delete(&tx, 4, &users, "b"), 1);
    assert!(lanes.take(now, LIMITS).is_none());
    lanes.done(b.id);
    assert!(lanes.take(now, LIMITS).is_none(), "the other key is still under way");
    lanes.done(a.id);
    let work = lanes.take(now, Limits { changes: 1, ..LIMITS }).unwrap();
    assert_eq!(work.batch.changes[0].kind(), herdsman_wal::Kind::Update);
    assert!(lanes.take(now, LIMITS).is_none(), "it holds both keys");
    lanes.done(work.id);
    assert_eq!(labels(&lanes.take(now, LIMITS).unwrap()), ["a", "b"]);
}

#[tokio::test]
async fn a_truncate_waits_for_its_tables_and_holds_back_what_follows_in_them() {
    let (now, mut lanes) = (Instant::now(), per_key(8));
    let (tx, one, two, other) = (transaction(10), table("one"), table("two"), table("other"));
    lanes.push(insert(&tx, 0, &one, "a"), 1);
    let a = lanes.take(now, LIMITS).unwrap();
    lanes.push(truncate(&tx, 1, &[one.clone(), two.clone()]), 1);
    lanes.push(insert(&tx, 2, &two, "b"), 1);
    lanes.push(insert(&tx, 3, &other, "c"), 1);
    lanes.push(message(&tx, 4, "note"), 1);
    assert_eq!(labels(&lanes.take(now, LIMITS).unwrap()), ["c", "message"]);
    assert!(lanes.take(now, LIMITS).is_none());
    lanes.done(a.id);
    let truncated = lanes.take(now, LIMITS).unwrap();
    assert_eq!(labels(&truncated), ["truncate"]);
    // It fails and is tried again: still nothing overtakes it.
    lanes.undelivered(truncated.id, vec![failed(0)], now, || 1.0);
    assert!(lanes.take(now, LIMITS).is_none());
    let now = lanes.next_wake(now).unwrap();
    let truncated = lanes.take(now, LIMITS).unwrap();
    lanes.done(truncated.id);
    assert_eq!(labels(&lanes.take(now, LIMITS).unwrap()), ["b"]);
}

#[tokio::test]
async fn a_table_whose_key_becomes_another_is_waited_for() {
    let (now, mut lanes) = (Instant::now(), per_key(8));
    let (tx, before) = (transaction(10), table("users"));
    let columns = [("id", false, false), ("value", true, true)];
    let after = Arc::new(relation("users", ReplicaIdentity::Default, &columns));
    lanes.push(insert(&tx, 0, &before, "a"), 1);
    let first = lanes.take(now, LIMITS).unwrap();
    lanes.push(insert(&tx, 1, &after, "b"), 1);
    assert!(lanes.take(now, LIMITS).is_none());
    lanes.done(first.id);
    assert_eq!(labels(&lanes.take(now, LIMITS).unwrap()), ["b"]);
}

#[tokio::test]
async fn an_idle_worker_gets_its_share_of_what_is_ready() {
    let (now, mut lanes) = (Instant::now(), per_key(4));
    let ids: Vec<_> = (0..200).map(|id| id.to_string()).collect();
    push_all(&mut lanes, 10, &ids.iter().map(String::as_str).collect::<Vec<_>>());
    let sizes: Vec<_> = std::iter::from_fn(|| lanes.take(now, LIMITS))
        .map(|work| work.batch.changes.len())
        .collect();
    assert_eq!(sizes, [50, 50, 50, 50]);
}

#[tokio::test]
async fn what_the_sink_says_it_has_is_not_delivered_again() {
    let now = Instant::now();
    let position = Position { commit_lsn: Lsn(20), changes: 1 };
    for mut lanes in [total(), per_key(2)] {
        push_all(&mut lanes, 10, &["a", "b"]);
        push_all(&mut lanes, 20, &["c", "d"]);
        assert_eq!(count(&lanes.skip_to(position)), 3);
        let work = lanes.take(now, LIMITS).unwrap();
        assert_eq!(labels(&work), ["d"]);
    }
}

#[tokio::test]
async fn an_unfinished_transaction_is_forgotten_at_the_end() {
    let now = Instant::now();
    for mut lanes in [total(), per_key(2)] {
        push_all(&mut lanes, 10, &["a"]);
        lanes.push(insert(&transaction(20), 0, &table("users"), "b"), 20);
        lanes.forget(20);
        assert_eq!(lanes.waiting().changes, 1);
        let work = lanes.take(now, Limits { more_coming: false, ..LIMITS }).unwrap();
        assert_eq!(labels(&work), ["a"]);
        lanes.done(work.id);
        assert_eq!(lanes.waiting(), Waiting::default());
        assert!(lanes.take(now, LIMITS).is_none());
    }
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_counts_as_no_delivery() {
    let now = Instant::now();
    for mut lanes in [total(), per_key(2)] {
        for answer in [vec![failed(9)], vec![Undelivered { index: 0, why: Why::Behind }]] {
            push_all(&mut lanes, 10, &["a"]);
            let work = lanes.take(now, LIMITS);
            if let Some(work) = work {
                assert_eq!(count(&lanes.undelivered(work.id, answer, now, || 1.0)), 0);
            }
        }
        assert_eq!(lanes.waiting().changes, 2);
    }
}

#[test]
fn a_key_is_what_every_change_of_the_row_tells() {
    let tx = transaction(10);
    let first = |change: &Change| match touch(change) {
        Touch::Rows { first, second: None, .. } => first,
        other => panic!("{other:?}"),
    };
    let users = table("users");
    let key = first(&insert(&tx, 0, &users, "1"));
    assert_eq!(key, first(&update(&tx, 0, &users, None, "1")));
    assert_eq!(key, first(&update(&tx, 0, &users, Some("1"), "1")));
    assert_eq!(key, first(&delete(&tx, 0, &users, "1")));
    assert_ne!(key, first(&insert(&tx, 0, &users, "2")));
    assert_ne!(key, first(&insert(&tx, 0, &table("others"), "1")));

    // Deletes tell the columns of the index only, so that inserts go by them too.
    let columns = [("id", true, false), ("pk", false, true)];
    let indexed = Arc::new(relation("indexed", ReplicaIdentity::Index, &columns));
    assert_eq!(first(&insert(&tx, 0, &indexed, "1")), first(&delete(&tx, 0, &indexed, "1")));
}

#[test]
fn keys_of_several_columns_do_not_run_together() {
    let tx = transaction(10);
    let columns = [("a", true, true), ("b", true, true)];
    let table = Arc::new(relation("pairs", ReplicaIdentity::Default, &columns));
    let keys: Vec<_> = [[Some("x"), Some("yz")], [Some("xy"), Some("z")], [Some("xyz"), None]]
        .iter()
        .map(|values| {
            let new = row(values);
            let body = herdsman_wal::Body::Insert { table: &table, new: new.tuple() };
            touch(&change(&tx, 0, body))
        })
        .collect();
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
}

#[test]
fn a_change_whose_key_is_not_told_touches_the_whole_table() {
    let change = update_of_unknown(&transaction(10), 0, &table("users"));
    assert!(matches!(touch(&change), Touch::Tables(tables) if tables.len() == 1));
}

#[test]
fn rows_of_a_table_without_a_key_are_one_lane() {
    let columns = [("id", false, false)];
    let table = Arc::new(relation("log", ReplicaIdentity::Default, &columns));
    let tx = transaction(10);
    assert_eq!(touch(&insert(&tx, 0, &table, "1")), touch(&insert(&tx, 1, &table, "2")));
}

#[test]
fn behind_holds_back_the_same_key_and_nothing_else() {
    let (tx, users, others) = (transaction(10), table("users"), table("others"));
    let mut behind = Behind::default();
    assert!(!behind.holds_back(&insert(&tx, 0, &users, "1")));
    behind.add(&update(&tx, 0, &users, Some("1"), "2"));
    for (id, held) in [("1", true), ("2", true), ("3", false)] {
        assert_eq!(behind.holds_back(&insert(&tx, 0, &users, id)), held, "{id}");
    }
    assert!(behind.holds_back(&truncate(&tx, 0, &[users])));
    assert!(!behind.holds_back(&truncate(&tx, 0, std::slice::from_ref(&others))));
    behind.add(&truncate(&tx, 0, std::slice::from_ref(&others)));
    assert!(behind.holds_back(&insert(&tx, 0, &others, "1")));
    assert!(!behind.holds_back(&message(&tx, 0, "note")));
}
