//! The judgement of a cycle, pure: what was acknowledged, what is left of it, what was true and what was said, to
//! figures and violations.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::script::{Expect, Record, Stage};
use super::verdicts::Heard;
use super::writer::Ack;

#[cfg(test)]
mod stories;

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
    /// How long before the old one was gone, or superseded, the first of those was acknowledged.
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
    facts.losses(&figures, &mut violations);
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
                    let age = self.record.lost.map(|at| at.saturating_duration_since(ack.acked));
                    figures.first_lost = figures.first_lost.max(age);
                }
                None => {}
            }
        }
    }

    /// A replica that was far behind may not be named on its own word, before another node follows it: it lacks more than
    /// what was under way.
    fn losses(&self, figures: &Figures, violations: &mut Vec<String>) {
        let bound = self.lease + ACK_ALLOWANCE;
        let Some(first) = figures.first_lost.filter(|first| *first > bound) else { return };
        let node = self.record.last_primary();
        let until = self.record.repointed.unwrap_or(self.ended);
        let named = |heard: &&Heard| heard.at < until && heard.primary.as_deref() == Some(node);
        if let Some(heard) = self.heard.iter().find(named) {
            violations.push(format!(
                "{node} lacks {} writes, the first acknowledged {first:?} before the old primary was gone or superseded \
                 ({bound:?} is the bound), and the verdict was: {}",
                figures.lost, heard.words
            ));
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
