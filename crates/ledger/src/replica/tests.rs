use std::collections::BTreeMap;

use super::*;
use crate::{LogId, Value, table::Column, table::tests::account, writes::claims};

const LOG: LogId = LogId([1; 16]);

fn genesis() -> Genesis {
    Genesis { log: LOG, window: 20, keys: 100 }
}

fn first() -> Vec<u8> {
    Entry::Genesis(genesis()).encode(LOG).unwrap()
}

fn attempt(request: u8, number: u32) -> Attempt {
    Attempt { request: RequestId([request; 16]), number }
}

/// A log that is read by one node.
struct Reader {
    replica: Replica,
    log: Vec<Vec<u8>>,
    notes: Durable,
}

impl Reader {
    fn new() -> Self {
        let replica = Replica::new(genesis(), &first());
        let (applied, hash) = (replica.applied(), replica.hash());
        let settled = vec![Settled { at: applied, hash, attempt: None, outcome: Outcome::Noted }];
        let catalogue = Catalogue::default();
        let notes = Durable { genesis: genesis(), applied, hash, catalogue, settled, fenced: None };
        let mut reader = Self { replica, log: vec![first()], notes };
        assert_eq!(reader.define(100, 0, TableChange::Create(account())), Outcome::Committed);
        reader
    }

    fn take(&mut self, body: Vec<u8>) -> Result<Step, Fence> {
        let at = self.replica.applied().next();
        let step = self.replica.take(at, &body)?;
        self.log.push(body);
        let &Step { at, hash, attempt, outcome, .. } = &step;
        (self.notes.applied, self.notes.hash) = (at, hash);
        self.notes.settled.push(Settled { at, hash, attempt, outcome });
        self.notes.catalogue = self.replica.catalogue().clone();
        Ok(step)
    }

    fn entry(&mut self, entry: &Entry) -> Outcome {
        self.take(entry.encode(LOG).unwrap()).unwrap().outcome
    }

    fn define(&mut self, request: u8, base: u64, change: TableChange) -> Outcome {
        self.entry(&Entry::Define { attempt: attempt(request, 1), base: Offset(base), change })
    }

    fn insert(&mut self, by: Attempt, base: u64, id: i64) -> Outcome {
        let entry = self.insertion(by, base, id);
        self.entry(&entry)
    }

    fn insertion(&self, attempt: Attempt, base: u64, id: i64) -> Entry {
        let cents = Value::Decimal(crate::Decimal { scale: 2, unscaled: 0 });
        let after = Some(vec![Value::Int(id), Value::Null, cents, Value::Null]);
        let rows = vec![RowChange { table: "account".to_owned(), before: None, after }];
        let tables = BTreeMap::from([("account".to_owned(), account())]);
        let claims = claims(&rows, &[], &Catalogue(tables)).unwrap();
        Entry::Write { attempt, base: Offset(base), claims, rows }
    }

    fn now(&self) -> u64 {
        self.replica.applied().0
    }

    fn tail(&self) -> Vec<(Offset, Vec<u8>)> {
        let from = usize::try_from(self.notes.tail_from().0).unwrap();
        let tail = self.log.iter().enumerate().skip(from);
        tail.map(|(at, body)| (Offset(u64::try_from(at).unwrap()), body.clone())).collect()
    }
}

#[test]
fn a_request_commits_once_and_may_try_again_only_after_a_conflict() {
    let mut it = Reader::new();
    let base = it.now();
    assert_eq!(it.insert(attempt(1, 1), base, 1), Outcome::Committed);
    let at = it.replica.applied();
    assert_eq!(it.insert(attempt(1, 1), base, 1), Outcome::Duplicate(at));
    assert_eq!(it.insert(attempt(1, 2), at.0, 2), Outcome::Duplicate(at), "also with other rows");
    assert_eq!(it.insert(attempt(2, 1), base, 1), Outcome::Conflict);
    let now = it.now();
    assert_eq!(it.insert(attempt(2, 2), now, 1), Outcome::Committed);
}

#[test]
fn the_order_decides_between_a_request_and_its_cancellation() {
    let mut it = Reader::new();
    let base = it.now();
    let cancel = |request| Entry::Cancel { request: RequestId([request; 16]) };
    assert_eq!(it.entry(&cancel(1)), Outcome::Cancelled);
    assert_eq!(it.insert(attempt(1, 1), base, 1), Outcome::Cancelled);
    assert_eq!(it.insert(attempt(2, 1), base, 1), Outcome::Committed);
    let at = it.replica.applied();
    assert_eq!(it.entry(&cancel(2)), Outcome::Duplicate(at));
    assert_eq!(it.insert(attempt(1, 2), at.0, 3), Outcome::Cancelled, "for good");
}

#[test]
fn what_is_forgotten_about_requests_cannot_commit_either() {
    let mut it = Reader::new();
    let base = it.now();
    let late = it.insertion(attempt(1, 1), base, 1);
    assert_eq!(it.entry(&Entry::Cancel { request: RequestId([1; 16]) }), Outcome::Cancelled);
    for _ in 0..genesis().window {
        it.entry(&Entry::Trim { below: Offset(0) });
    }
    assert_eq!(it.replica.remembered().1, 0);
    assert_eq!(it.entry(&late), Outcome::Conflict);
}

#[test]
fn a_change_of_a_table_conflicts_with_whoever_wrote_to_it_as_it_was() {
    let mut it = Reader::new();
    let base = it.now();
    let column = Column { name: "open".to_owned(), kind: crate::Kind::Bool, nullable: true };
    let add = TableChange::AddColumn { table: "account".to_owned(), column };
    assert_eq!(it.insert(attempt(1, 1), base, 1), Outcome::Committed);
    assert_eq!(it.define(2, base, add.clone()), Outcome::Committed, "writers do not hold it up");
    assert_eq!(it.insert(attempt(3, 1), base, 3), Outcome::Conflict);
    let now = it.now();
    assert_eq!(it.define(4, now, add), Outcome::Refused(*b"42701"));
    assert_eq!(
        it.insert(attempt(5, 1), now, 5),
        Outcome::Committed,
        "a refused change changes nothing"
    );
}

#[test]
fn records_of_others_are_passed_over_and_statements_refused_by_all() {
    let mut it = Reader::new();
    let step = it.take(b"{}".to_vec()).unwrap();
    assert_eq!((step.outcome, step.act), (Outcome::Noted, Act::Nothing));
    let elsewhere = Entry::Cancel { request: RequestId([9; 16]) }.encode(LogId([2; 16])).unwrap();
    assert_eq!(it.take(elsewhere).unwrap().outcome, Outcome::Noted);
    let now = it.now();
    assert_eq!(
        it.insert(attempt(9, 1), now, 9),
        Outcome::Committed,
        "the other log's entry means nothing"
    );
    let statement =
        Entry::Statement { attempt: attempt(1, 1), sql: "DELETE FROM account".to_owned() };
    assert_eq!(it.entry(&statement), Outcome::Refused(*b"0A000"));
    let now = it.now();
    assert_eq!(
        it.insert(attempt(2, 1), now + 5, 1),
        Outcome::Refused(*b"XX000"),
        "from the future"
    );
}

#[test]
fn a_gap_or_a_damaged_entry_fences_and_leaves_the_replica_as_it_was() {
    let mut it = Reader::new();
    let body = it.insertion(attempt(1, 1), it.now(), 1).encode(LOG).unwrap();
    let next = it.replica.applied().next();
    for at in [next.next(), it.replica.applied()] {
        let fence = Fence::Gap { expected: next, found: at };
        assert_eq!(it.replica.take(at, &body), Err(fence));
    }
    let mut damaged = body.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(matches!(it.replica.take(next, &damaged), Err(Fence::Unreadable { .. })));
    assert_eq!(it.take(body).unwrap().outcome, Outcome::Committed);
}

#[test]
fn an_operator_has_an_entry_passed_over_by_all_that_have_not_applied_it() {
    let mut it = Reader::new();
    let target = it.replica.applied().next();
    let mut poison = it.insertion(attempt(1, 1), it.now(), 1).encode(LOG).unwrap();
    *poison.last_mut().unwrap() ^= 1;
    assert!(it.take(poison.clone()).is_err());
    it.replica.excuse(target);
    let step = it.take(poison).unwrap();
    assert_eq!((step.outcome, step.act), (Outcome::Skipped, Act::Nothing));
    let skip = Entry::Skip { target };
    assert_eq!(it.entry(&skip), Outcome::Noted);
    assert_eq!(it.entry(&skip), Outcome::Noted, "a second word changes nothing");

    let mut other = Reader::new();
    let now = other.now();
    assert_eq!(other.insert(attempt(1, 1), now, 1), Outcome::Committed);
    let fence = other.take(skip.encode(LOG).unwrap()).unwrap_err();
    assert!(matches!(fence, Fence::SkippedTooLate { .. }), "{fence}");
}

#[test]
fn a_node_that_starts_again_decides_as_it_would_have() {
    let mut it = Reader::new();
    let base = it.now();
    for id in 0..30 {
        let request = u8::try_from(id).unwrap();
        let now = it.now();
        it.insert(attempt(request, 1), now, id);
    }
    let mut again = Replica::resume(&it.notes, &it.tail()).unwrap();
    assert_eq!((again.applied(), again.hash()), (it.replica.applied(), it.replica.hash()));
    assert_eq!(again.remembered(), it.replica.remembered());
    let now = it.now();
    let late = [(29, now), (29, base), (50, now - 1), (28, now), (51, now - 25)];
    for (request, base) in late {
        let entry = it.insertion(attempt(request, 1), base, i64::from(request));
        let body = entry.encode(LOG).unwrap();
        let at = again.applied().next();
        assert_eq!(again.take(at, &body), it.take(body));
    }
}

#[test]
fn notes_that_do_not_belong_to_the_log_fence() {
    let mut it = Reader::new();
    for id in 0..5 {
        let now = it.now();
        it.insert(attempt(u8::try_from(id).unwrap(), 1), now, id);
    }
    let tail = it.tail();
    assert!(Replica::resume(&it.notes, &tail).is_ok());
    // The topic was made anew, and others' entries have come to the same places.
    let mut another = tail.clone();
    another[3].1 = it.insertion(attempt(77, 1), 0, 77).encode(LOG).unwrap();
    assert!(matches!(Replica::resume(&it.notes, &another), Err(Fence::AnotherLog(_))));
    let mut short = tail.clone();
    short.pop();
    assert!(Replica::resume(&it.notes, &short).is_err());
    let mut hole = it.notes.clone();
    hole.settled.remove(3);
    assert!(Replica::resume(&hole, &tail).is_err());
    let mut fenced = it.notes.clone();
    fenced.fenced = Some("a row was gone".to_owned());
    assert!(matches!(Replica::resume(&fenced, &tail), Err(Fence::Diverged(_))));
}
