//! Negative controls of the checker: one story in which all is well, bent in one point each.

use super::*;
use crate::soak::script::Cast;

/// A promotion of n2 beside n1, seen 1 s after the start; every test bends one thing.
struct Story {
    record: Record,
    acks: Vec<Ack>,
    missing: BTreeSet<i64>,
    heard: Vec<Heard>,
    slow: BTreeMap<String, Vec<(Instant, Instant)>>,
}

impl Story {
    fn new() -> Self {
        let cast = Cast {
            old: "n1".to_owned(),
            timeline: 1,
            chosen: "n2".to_owned(),
            other: "n3".to_owned(),
        };
        let mut record = Record::new(cast);
        let observable = record.started + Duration::from_secs(1);
        record.observable = Some(observable);
        record.lost = Some(observable);
        record
            .stages
            .push(Stage { at: observable, expect: Expect::NamedUnlessLost("n2".to_owned()) });
        let mut story = Self {
            record,
            acks: Vec::new(),
            missing: BTreeSet::new(),
            heard: Vec::new(),
            slow: BTreeMap::new(),
        };
        story.hear(0, 10, 1, Some("n1"));
        story.hear(1200, 15, 2, Some("n2"));
        story.write(1, 900, 10, "n1");
        story.write(2, 1100, 10, "n1");
        story.write(3, 1300, 15, "n2");
        story.missing.insert(2);
        story
    }

    fn at(&self, millis: u64) -> Instant {
        self.record.started + Duration::from_millis(millis)
    }

    fn hear(&mut self, millis: u64, version: u64, term: u64, primary: Option<&str>) {
        let (at, primary) = (self.at(millis), primary.map(str::to_owned));
        self.heard.push(Heard { at, version, term, primary, words: String::new() });
    }

    fn write(&mut self, id: i64, millis: u64, version: u64, node: &str) {
        let (asked, acked) = (self.at(millis), self.at(millis + 2));
        self.acks.push(Ack { id, node: node.to_owned(), asked, acked, version, term: 1 });
    }

    fn check(&self) -> (Figures, Vec<String>) {
        let Self { record, acks, missing, heard, slow } = self;
        let (ended, lease) = (self.at(10_000), Duration::from_millis(1500));
        check(&Facts { record, ended, acks, missing, heard, slow, lease })
    }

    #[track_caller]
    fn violates(&self, what: &str) {
        let (_, violations) = self.check();
        assert!(violations.iter().any(|v| v.contains(what)), "{what}: {violations:?}");
    }
}

#[test]
fn a_quick_change_is_counted_and_no_violation() {
    let (figures, violations) = Story::new().check();
    assert!(violations.is_empty(), "{violations:?}");
    let millis = |n| Some(Duration::from_millis(n));
    let expected = Figures {
        promoted: true,
        acked: 3,
        wrong: 1,
        last_wrong: millis(102),
        lost: 0,
        first_lost: None,
        withdrawn: millis(200),
        named: millis(200),
        resumed: millis(302),
        excused: 0,
    };
    assert_eq!(figures, expected);
}

#[test]
fn a_write_to_the_old_primary_long_after_the_change_is_a_violation() {
    let mut story = Story::new();
    story.heard.pop();
    story.write(4, 3100, 12, "n1");
    story.violates("is the bound");
}

#[test]
fn a_write_sent_to_the_old_primary_after_the_new_one_was_named_is_a_violation() {
    let mut story = Story::new();
    story.write(4, 1250, 12, "n1");
    story.violates("after n2 had been named");
}

#[test]
fn a_write_to_a_node_that_was_never_primary_is_a_violation() {
    let mut story = Story::new();
    story.write(4, 500, 10, "n3");
    story.violates("no primary in this cycle");
}

#[test]
fn a_write_lost_by_the_primary_that_acknowledged_it_is_a_violation() {
    let mut story = Story::new();
    story.missing.insert(3);
    story.violates("is gone from it");
}

#[test]
fn a_verdict_that_stays_wrong_is_a_violation_unless_the_server_did_not_answer_the_checker_either() {
    let mut story = Story::new();
    story.hear(6000, 30, 2, None);
    story.hear(6300, 31, 2, Some("n2"));
    story.violates("for 300ms more");
    story.slow.insert("n2".to_owned(), vec![(story.at(5000), story.at(6100))]);
    let (figures, violations) = story.check();
    assert!(violations.is_empty() && figures.excused == 1, "{violations:?}");
}

#[test]
fn nobody_may_be_named_for_long_only_when_something_acknowledged_is_missing() {
    let mut story = Story::new();
    story.heard[1].primary = None;
    story.violates("NamedUnlessLost");
    story.missing.insert(1);
    let (figures, violations) = story.check();
    assert!(violations.is_empty(), "{violations:?}");
    assert_eq!((figures.lost, figures.first_lost), (1, Some(Duration::from_millis(98))));
}

#[test]
fn a_replica_that_lacks_old_writes_may_be_named_only_once_another_follows_it() {
    let mut story = Story::new();
    story.record.observable = Some(story.at(4000));
    story.record.lost = story.record.observable;
    story.record.stages[1].at = story.at(4000);
    story.heard[1].at = story.at(4200);
    story.acks.truncate(1);
    story.missing.insert(1);
    story.violates("n2 lacks 1 writes");
    story.record.repointed = Some(story.at(4100));
    let (_, violations) = story.check();
    assert!(violations.is_empty(), "{violations:?}");
}

#[test]
fn a_dead_primary_that_stays_named_is_a_violation() {
    let mut story = Story::new();
    story.record.observable = None;
    story.record.stages[1].expect = Expect::NotNamed("n1".to_owned());
    story.heard.pop();
    story.acks.clear();
    story.violates("NotNamed");
}
