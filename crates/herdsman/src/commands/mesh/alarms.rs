//! What of a mesh is worth being told of: conflicts, and members that are far behind others. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use herdsman_mesh::status::{LinkStatus, Status, TargetStatus};
use herdsman_node::{Lsn, NodeName};
use herdsman_watch::{Event, Lag, LagAlarm};

/// Conflicts of one member are told of at most this often: a table that two write to all the time must not drown the rest.
const CONFLICTS_EVERY: Duration = Duration::from_secs(5);

/// What was told already.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    /// Links whose alarm is on: who is behind, and behind whom.
    late: BTreeSet<(NodeName, NodeName)>,
    /// Of each member, how many conflicts were told, and when that was last done.
    conflicts: BTreeMap<NodeName, (u64, Option<Duration>)>,
}

impl Alarms {
    /// What there is to tell of this status, so long after we began.
    pub(super) fn look(&mut self, status: &Status, bound: &LagAlarm, now: Duration) -> Vec<Event> {
        let mut events = self.conflicts(status, now);
        events.extend(self.lags(status, bound));
        events
    }

    fn conflicts(&mut self, status: &Status, now: Duration) -> Vec<Event> {
        let targets: BTreeMap<_, _> = named(&status.targets).collect();
        self.conflicts.retain(|name, _| targets.contains_key(name));
        let mut events = Vec::new();
        for (node, target) in targets {
            let (told, at) = self.conflicts.entry(node.clone()).or_default();
            // An engine that was begun anew counts anew.
            *told = if target.conflicts < *told { 0 } else { *told };
            let due = at.is_none_or(|at| now.saturating_sub(at) >= CONFLICTS_EVERY);
            if target.conflicts > *told && due {
                let (conflicts, total) = (target.conflicts - *told, target.conflicts);
                (*told, *at) = (total, Some(now));
                events.push(Event::Conflict { node, conflicts, total });
            }
        }
        events
    }

    fn lags(&mut self, status: &Status, bound: &LagAlarm) -> Vec<Event> {
        let mut events = Vec::new();
        let mut late = BTreeSet::new();
        for (node, target) in named(&status.targets) {
            for (source, link) in named(&target.links).filter(|(source, _)| *source != node) {
                let key = (node.clone(), source);
                let was = self.late.contains(&key);
                let lag = Lag { bytes: link.lag_bytes, seconds: link.lag_seconds };
                // Where it is not known how far the member is, the alarm stays as it was.
                let is = if is_known(target, link) { bound.is_on(was, &lag) } else { was };
                let is = is && bound.is_set();
                if is && !was {
                    let (node, source) = key.clone();
                    let (bytes, seconds) = (Some(lag.bytes), Some(lag.seconds));
                    events.push(Event::Lag { node, source: Some(source), bytes, seconds });
                }
                if is {
                    late.insert(key);
                }
            }
        }
        let over = self.late.difference(&late);
        events.extend(
            over.cloned().map(|(node, source)| Event::LagOver { node, source: Some(source) }),
        );
        self.late = late;
        events
    }
}

/// Another process may apply to the member, and then nothing here moves; and what is confirmed is read only once one is there.
fn is_known(target: &TargetStatus, link: &LinkStatus) -> bool {
    matches!(target.state.as_str(), "working" | "paused") && link.confirmed != Lsn(0)
}

fn named<T>(all: &BTreeMap<String, T>) -> impl Iterator<Item = (NodeName, &T)> {
    // They were nodes of the configuration.
    all.iter().filter_map(|(name, value)| Some((NodeName::new(name).ok()?, value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: &str, conflicts: u64, seconds: f64) -> Status {
        let link =
            |lag_seconds| LinkStatus { confirmed: Lsn(7), lag_seconds, ..LinkStatus::default() };
        let links = [("n1".to_owned(), link(99.0)), ("n2".to_owned(), link(seconds))].into();
        let target =
            TargetStatus { state: state.to_owned(), links, conflicts, ..TargetStatus::default() };
        Status { problem: None, targets: [("n1".to_owned(), target)].into() }
    }

    fn told(events: &[Event]) -> String {
        let told = events.iter().map(|event| {
            let event = serde_json::to_value(event).unwrap();
            let words = ["event", "node", "source", "conflicts", "total"].map(|key| &event[key]);
            let words = words.into_iter().filter(|word| !word.is_null());
            words.map(|word| word.to_string().replace('"', "")).collect::<Vec<_>>().join(" ")
        });
        told.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn conflicts_are_told_together_every_few_seconds_and_anew_after_a_new_beginning() {
        let mut alarms = Alarms::default();
        for (second, conflicts, expected) in [
            (0, 0, ""),
            (1, 2, "conflict n1 2 2"),
            (2, 3, ""),
            (5, 4, ""),
            (6, 4, "conflict n1 2 4"),
            (60, 4, ""),
            (61, 1, "conflict n1 1 1"),
            (62, 1, ""),
        ] {
            let status = status("working", conflicts, 0.0);
            let events = alarms.look(&status, &LagAlarm::default(), Duration::from_secs(second));
            assert_eq!(told(&events), expected, "at {second} s");
        }
    }

    #[test]
    fn a_link_that_is_late_is_told_of_once_and_when_it_has_caught_up() {
        let bound = LagAlarm { bytes: None, time: Some(Duration::from_secs(10)) };
        let mut alarms = Alarms::default();
        for (state, seconds, expected) in [
            ("working", 10.0, ""),
            ("waiting", 11.0, ""),
            ("working", 11.0, "lag n1 n2"),
            ("working", 6.0, ""),
            ("failing", 0.0, ""),
            ("working", 5.0, "lag_over n1 n2"),
            ("paused", 11.0, "lag n1 n2"),
        ] {
            let status = status(state, 0, seconds);
            let events = alarms.look(&status, &bound, Duration::ZERO);
            assert_eq!(told(&events), expected, "{state}, {seconds} s");
        }
        let none = alarms.look(&Status::default(), &bound, Duration::ZERO);
        assert_eq!(told(&none), "lag_over n1 n2", "a member that has left is not late");

        let mut fresh = status("working", 0, 99.0);
        for link in fresh.targets.values_mut().flat_map(|target| target.links.values_mut()) {
            link.confirmed = Lsn(0);
        }
        assert_eq!(told(&alarms.look(&fresh, &bound, Duration::ZERO)), "", "nothing is known yet");
    }
}
