use super::*;

fn append(key: i64, value: i64) -> Op {
    Op::Append { key, value }
}

fn read(key: i64, found: &[i64]) -> Op {
    Op::Read { key, found: found.to_vec() }
}

/// All at the same time.
fn together(all: &[&[Op]]) -> Vec<Txn> {
    let txn = |ops: &&[Op]| Txn { ops: ops.to_vec(), fate: Fate::Committed, began: 0, ended: 100 };
    all.iter().map(txn).collect()
}

/// One after the other.
fn in_turn(all: &[&[Op]]) -> Vec<Txn> {
    let mut history = together(all);
    for (at, txn) in (0..).zip(&mut history) {
        (txn.began, txn.ended) = (at * 10, at * 10 + 5);
    }
    history
}

fn found(history: &[Txn]) -> Vec<Anomaly> {
    check(history).into_keys().collect()
}

#[test]
fn a_sound_history_is_found_sound() {
    let sound = in_turn(&[
        &[append(1, 1), append(2, 1)],
        &[read(1, &[1]), append(1, 2), read(1, &[1, 2])],
        &[append(1, 3), read(1, &[1, 2, 3]), append(1, 4), read(2, &[1])],
        &[read(1, &[1, 2, 3, 4]), read(2, &[1])],
    ]);
    assert_eq!(check(&sound), BTreeMap::new());
    // In the order of what was read, where nothing says who was first.
    let mut turned = sound;
    for txn in &mut turned {
        (txn.began, txn.ended) = (0, 100);
    }
    turned.reverse();
    assert_eq!(check(&turned), BTreeMap::new());
    assert_eq!(check(&[]), BTreeMap::new());
}

#[test]
fn who_got_no_word_may_have_committed_or_not_and_at_any_later_time() {
    let mut history =
        in_turn(&[&[append(1, 1)], &[append(1, 2)], &[read(1, &[1])], &[read(1, &[1, 2])]]);
    assert_eq!(found(&history), [Anomaly::RealTime]);
    history[1].fate = Fate::Unknown;
    assert_eq!(found(&history), []);
    history.pop();
    assert_eq!(found(&history), []);
    // But not before it began.
    let mut early = in_turn(&[&[read(1, &[1])], &[append(1, 1)]]);
    early[1].fate = Fate::Unknown;
    assert_eq!(found(&early), [Anomaly::RealTime]);
}

#[test]
fn every_anomaly_is_found_and_named() {
    let cases: [(&str, Vec<Txn>, Anomaly); 12] = [
        (
            "a cycle of writes",
            together(&[
                &[append(1, 1), append(2, 1)],
                &[append(1, 2), append(2, 2)],
                &[read(1, &[1, 2]), read(2, &[2, 1])],
            ]),
            Anomaly::G0,
        ),
        (
            "two appends with another's between",
            together(&[&[append(1, 1), append(1, 3)], &[append(1, 2)], &[read(1, &[1, 2, 3])]]),
            Anomaly::G0,
        ),
        (
            "a value in the middle of its transaction",
            together(&[&[append(1, 1), append(1, 2)], &[read(1, &[1])], &[read(1, &[1, 2])]]),
            Anomaly::G1b,
        ),
        (
            "each read what the other wrote",
            together(&[&[append(1, 1), read(2, &[1])], &[append(2, 1), read(1, &[1])]]),
            Anomaly::G1c,
        ),
        (
            "a lost update",
            together(&[
                &[read(1, &[]), append(1, 1)],
                &[read(1, &[]), append(1, 2)],
                &[read(1, &[1, 2])],
            ]),
            Anomaly::GSingle,
        ),
        (
            "a lost update of which nothing is left",
            in_turn(&[
                &[append(1, 1)],
                &[read(1, &[1]), append(1, 2)],
                &[append(1, 3)],
                &[read(1, &[1, 3])],
            ]),
            Anomaly::GSingle,
        ),
        (
            "a read skew",
            together(&[
                &[append(1, 1), append(2, 1)],
                &[read(1, &[1]), read(2, &[])],
                &[read(2, &[1])],
            ]),
            Anomaly::GSingle,
        ),
        (
            "a write skew",
            together(&[
                &[read(1, &[]), append(2, 1)],
                &[read(2, &[]), append(1, 1)],
                &[read(1, &[1]), read(2, &[1])],
            ]),
            Anomaly::G2,
        ),
        (
            "a stale read",
            in_turn(&[&[append(1, 1)], &[read(1, &[])], &[read(1, &[1])]]),
            Anomaly::RealTime,
        ),
        (
            "reads that do not agree",
            together(&[&[append(1, 1)], &[append(1, 2)], &[read(1, &[1, 2])], &[read(1, &[2])]]),
            Anomaly::Incompatible,
        ),
        (
            "a value that is there twice",
            together(&[&[append(1, 1)], &[read(1, &[1, 1])]]),
            Anomaly::Twice,
        ),
        ("a value of nobody", together(&[&[read(1, &[7])]]), Anomaly::Unwritten),
    ];
    for (what, history, wanted) in cases {
        let all = check(&history);
        assert!(all.contains_key(&wanted), "{what}: {all:?}");
    }
}

#[test]
fn a_failed_transactions_value_is_an_aborted_read_and_its_absence_is_none() {
    let mut history = together(&[&[append(1, 1)], &[append(1, 2)], &[read(1, &[1, 2])]]);
    assert_eq!(found(&history), []);
    history[1].fate = Fate::Failed;
    assert_eq!(found(&history), [Anomaly::G1a]);
    history[2].ops = vec![read(1, &[1])];
    assert_eq!(found(&history), []);
}

#[test]
fn a_transaction_that_does_not_see_its_own_appends_is_found() {
    for ops in [
        vec![append(1, 1), read(1, &[])],
        vec![read(1, &[]), append(1, 1), read(1, &[])],
        vec![read(1, &[]), read(1, &[1])],
    ] {
        let history = [Txn { ops: ops.clone(), fate: Fate::Committed, began: 0, ended: 1 }];
        let mut with = together(&[&[append(1, 2)]]);
        with.extend(history);
        assert!(check(&with).contains_key(&Anomaly::Internal), "{ops:?}");
    }
}
