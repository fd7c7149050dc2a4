//! The judgement of a cycle, pure: what was acknowledged, what is left of it, what was true and what was said, to
//! figures and violations.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::script::{Expect, Record, Stage};
use super::verdicts::Heard;
use super::writer::Ack;

/// The verdict agrees with a truth that has been stable for so long.
const AGREES_WITHIN: Duration = Duration::from_secs(2);
/// What the same takes more on a machine of few cores that runs three servers, other tests and their copies.
const LOAD_ALLOWANCE: Duration = Duration::from_secs(1);
/// What an acknowledgement may take more than interval and timeout on such a machine.
const ACK_ALLOWANCE: Duration = Duration::from_millis(500);

/// All that is known of a cycle.
pub(super) struct Facts<'a> {
    pub(super) record: &'a Record,
    pub(super) ended: Instant,
    pub(super) acks: &'a [Ack],
    /// Acknowledged ids that the last primary does not have.
    pub(super) missing: &'a BTreeSet<i64>,
    /// From the verdict in force at the start on.
    pub(super) heard: &'a [Heard],
    /// When a node was slow to answer the checker.
    pub(super) slow: &'a BTreeMap<String, Vec<(Instant, Instant)>>,
    /// The watcher's interval and timeout together.
    pub(super) lease: Duration,
}

/// The figures of a cycle.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Figures {
    pub(super) promoted: bool,
    pub(super) acked: usize,
    /// Acknowledged by the old primary after the new one took writes.
    pub(super) wrong: usize,
    /// How long after the new one took writes the last of them came.
    pub(super) last_wrong: Option<Duration>,
    /// Acknowledged by the then true primary and not replicated when another took over.
    pub(super) lost: usize,
    /// How long before the new one took writes the first of those was acknowledged.
    pub(super) first_lost: Option<Duration>,
    /// From the fault, or the new primary's first moment, to a verdict that no longer names the old one.
    pub(super) withdrawn: Option<Duration>,
    /// From the new primary's first moment, or the old one's return, to a verdict that names it.
    pub(super) named: Option<Duration>,
    /// From the same to the first acknowledged write there.
    pub(super) resumed: Option<Duration>,
    /// Disagreements excused because a server did not answer the checker either.
    pub(super) excused: usize,
}

/// Reaches the judgement.
pub(super) fn check(facts: &Facts<'_>) -> (Figures, Vec<String>) {
    let mut violations = Vec::new();
    let mut figures = Figures {
        promoted: facts.record.promoted(),
        acked: facts.acks.len(),
        ..Figures::default()
    };
    facts.writes(&mut figures, &mut violations);
    facts.agreement(&mut figures, &mut violations);
    facts.times(&mut figures);
    (figures, violations)
}

impl Facts<'_> {
    fn writes(&self, figures: &mut Figures, violations: &mut Vec<String>) {
        let (old, last) = (&self.record.cast.old, self.record.last_primary());
        let named = self.heard.iter().find(|heard| {
            self.record.observable.is_some() && heard.primary.as_deref() == Some(last)
        });
        let latest = self.lease + ACK_ALLOWANCE;
        for ack in self.acks {
            let Ack { id, node, .. } = ack;
            if node != old && node != last {
                violations.push(format!(
                    "write {id} was sent to {node}, which was no primary in this cycle"
                ));
            }
            if node == last {
                // Without a promotion that is every write of the cycle.
                if self.missing.contains(id) {
                    violations
                        .push(format!("write {id} was acknowledged by {last} and is gone from it"));
                }
                continue;
            }
            if named.is_some_and(|named| ack.version >= named.version || ack.asked > named.at) {
                violations
                    .push(format!("write {id} was sent to {node} after {last} had been named"));
            }
            match self.record.observable.filter(|at| ack.acked >= *at) {
                Some(observable) => {
                    let late = ack.acked - observable;
                    figures.wrong += 1;
                    figures.last_wrong = figures.last_wrong.max(Some(late));
                    if late > latest {
                        violations.push(format!(
                            "{node} acknowledged write {id} {late:?} after {last} took writes; {latest:?} is the bound"
                        ));
                    }
                }
                None if self.missing.contains(id) => {
                    figures.lost += 1;
                    let age = self.record.observable.map(|at| at - ack.acked);
                    figures.first_lost = figures.first_lost.max(age);
                }
                None => {}
            }
        }
    }

    /// Each verdict against each truth that has been stable for long enough.
    fn agreement(&self, figures: &mut Figures, violations: &mut Vec<String>) {
        for (stage, until) in self.stable_stages() {
            let due = stage.at + AGREES_WITHIN + LOAD_ALLOWANCE;
            for (index, heard) in self.heard.iter().enumerate() {
                let to = self.heard.get(index + 1).map_or(self.ended, |next| next.at).min(until);
                let from = heard.at.max(due);
                if from >= to || self.agrees(&stage.expect, heard, figures.lost > 0) {
                    continue;
                }
                if self.is_excused(&stage.expect, from, to) {
                    figures.excused += 1;
                    continue;
                }
                let (since, lasted) = (from - stage.at, to - from);
                violations.push(format!(
                    "{:?} has been true for {since:?}, and for {lasted:?} more the verdict was: {}",
                    stage.expect, heard.words
                ));
            }
        }
    }

    /// Stages with their ends, those that say the same in a row as one.
    fn stable_stages(&self) -> Vec<(Stage, Instant)> {
        let mut stages: Vec<(Stage, Instant)> = Vec::new();
        for (index, stage) in self.record.stages.iter().enumerate() {
            let until = self.record.stages.get(index + 1).map_or(self.ended, |next| next.at);
            match stages.last_mut().filter(|(last, _)| last.expect == stage.expect) {
                Some((_, end)) => *end = until,
                None => stages.push((stage.clone(), until)),
            }
        }
        stages
    }

    fn agrees(&self, expect: &Expect, heard: &Heard, lost: bool) -> bool {
        let primary = heard.primary.as_deref();
        match expect {
            Expect::Anything => true,
            Expect::Named(node) => primary == Some(node),
            Expect::NamedUnlessLost(node) => primary == Some(node) || (lost && primary.is_none()),
            Expect::NotNamed(node) => primary != Some(node),
        }
    }

    /// A primary that did not answer the checker in time either cannot be asked of the watcher.
    fn is_excused(&self, expect: &Expect, from: Instant, to: Instant) -> bool {
        let (Expect::Named(node) | Expect::NamedUnlessLost(node)) = expect else { return false };
        let within = AGREES_WITHIN + LOAD_ALLOWANCE;
        self.slow.get(node).is_some_and(|slow| {
            slow.iter().any(|(asked, answered)| *asked <= to && *answered + within >= from)
        })
    }

    fn times(&self, figures: &mut Figures) {
        let record = self.record;
        let last = record.last_primary();
        let names = |heard: &Heard, node: &str| heard.primary.as_deref() == Some(node);
        let withdrawn = record.lost.and_then(|lost| {
            let at = self
                .heard
                .iter()
                .filter(|heard| heard.at >= lost)
                .find(|heard| !names(heard, &record.cast.old))?;
            Some((at.at, at.at - lost))
        });
        // A fault that was over before anybody noticed is no withdrawal.
        let noticed = withdrawn.filter(|(at, _)| {
            record.returned.is_none_or(|returned| *at <= returned + Duration::from_secs(1))
        });
        figures.withdrawn = noticed.map(|(_, span)| span);
        let Some(since) = record.observable.or(record.returned) else { return };
        if record.observable.is_none() && noticed.is_none() {
            return;
        }
        let named = self
            .heard
            .iter()
            .find(|heard| names(heard, last) && noticed.is_none_or(|(at, _)| heard.at >= at));
        figures.named = named.map(|heard| heard.at.saturating_duration_since(since));
        let resumed = named.and_then(|named| {
            self.acks.iter().find(|ack| ack.node == last && ack.acked >= named.at)
        });
        figures.resumed = resumed.map(|ack| ack.acked.saturating_duration_since(since));
    }
}

#[cfg(test)]
mod tests {
    use super::super::script::Cast;
    use super::*;

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
    fn a_verdict_that_stays_wrong_is_a_violation_unless_the_server_did_not_answer_the_checker_either()
     {
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
    fn a_dead_primary_that_stays_named_is_a_violation() {
        let mut story = Story::new();
        story.record.observable = None;
        story.record.stages[1].expect = Expect::NotNamed("n1".to_owned());
        story.heard.pop();
        story.acks.clear();
        story.violates("NotNamed");
    }
}
