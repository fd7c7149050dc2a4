//! The heart: which answer of which Herdsman replaces what is known, and when what is known is too old.

use std::time::Duration;

use herdsman_node::{SystemId, Timeline};
use herdsman_watch::{Proof, Topology, Verdict, Why};

/// One answer as it came in.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Which of the addresses gave it.
    pub(super) server: usize,
    /// Whether it is the first one over its connection: the program behind it may be another one than before.
    pub(super) first: bool,
    pub(super) topology: Topology,
}

/// What is known, and whether it still counts. Moments are times since the beginning.
#[derive(Debug)]
pub(super) struct Decider {
    stale_after: Duration,
    /// The last answer that was taken, with its own numbers.
    last: Option<Answer>,
    taken_at: Duration,
    stale: bool,
    /// The furthest timeline a primary was accepted on.
    furthest: Option<(Option<SystemId>, Timeline)>,
    /// The numbers that are handed out: those of several servers do not form one order.
    version: u64,
    term: u64,
    primary: Option<(String, Timeline)>,
}

impl Decider {
    pub(super) fn new(stale_after: Duration) -> Self {
        Self {
            stale_after,
            last: None,
            taken_at: Duration::ZERO,
            stale: false,
            furthest: None,
            version: 0,
            term: 0,
            primary: None,
        }
    }

    /// When [`Decider::silence`] has something to say, unless an answer is taken before.
    pub(super) fn deadline(&self) -> Option<Duration> {
        (!self.stale).then(|| self.taken_at + self.stale_after)
    }

    /// What is to be published because of this answer, if anything.
    pub(super) fn answer(&mut self, answer: Answer, now: Duration) -> Option<Topology> {
        if let Some(last) = &self.last {
            let order = numbers(&answer.topology).cmp(&numbers(&last.topology));
            // The answers over one connection come from one program, whose numbers only grow.
            if answer.server == last.server && !answer.first && order.is_lt() {
                return None;
            }
            // Who has just begun knows less than what is still fresh.
            let nothing_new = knows_nothing(&answer.topology) && !knows_nothing(&last.topology);
            if nothing_new && !self.stale {
                return None;
            }
            let same = answer.server == last.server && !answer.first && order.is_eq();
            if same && !self.stale {
                self.taken_at = now;
                return None;
            }
        }
        let mut topology = answer.topology.clone();
        self.hold_back_old_news(&mut topology);
        self.last = Some(answer);
        self.taken_at = now;
        self.stale = false;
        Some(self.numbered(topology))
    }

    /// What is to be published because nobody has answered until now, if anything. `problem` says what happened instead.
    pub(super) fn silence(&mut self, now: Duration, problem: &str) -> Option<Topology> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        self.stale = true;
        let bound = self.stale_after;
        let mut topology = Topology::default();
        let mut reason = format!("no Herdsman has answered within {bound:?} ({problem})");
        if let Some(last) = &self.last {
            topology = last.topology.clone();
            reason = format!("{reason}; the last news was: {}", topology.verdict);
        }
        topology.verdict = Verdict::None { why: Why::Starting, reason };
        Some(self.numbered(topology))
    }

    /// An accepted timeline never goes back: a server that has not heard of a promotion yet names the old primary.
    fn hold_back_old_news(&mut self, topology: &mut Topology) {
        let Verdict::Primary { node, timeline, proof, .. } = &topology.verdict else { return };
        let (system_id, timeline) = (topology.system_id, *timeline);
        let older = self.furthest.filter(|(cluster, furthest)| {
            *cluster == system_id && timeline < *furthest && *proof != Proof::Pinned
        });
        let Some((_, furthest)) = older else {
            self.furthest = Some((system_id, timeline));
            return;
        };
        let reason = format!(
            "{node} is named primary on timeline {timeline}, but a primary on timeline {furthest} was known before"
        );
        topology.verdict = Verdict::None { why: Why::Fenced, reason };
    }

    fn numbered(&mut self, mut topology: Topology) -> Topology {
        if let Verdict::Primary { node, timeline, .. } = &topology.verdict {
            let primary = Some((node.as_str().to_owned(), *timeline));
            if primary != self.primary {
                self.term += 1;
                self.primary = primary;
            }
        }
        self.version += 1;
        topology.version = self.version;
        topology.term = self.term;
        topology
    }
}

fn numbers(topology: &Topology) -> (u64, u64) {
    (topology.term, topology.version)
}

fn knows_nothing(topology: &Topology) -> bool {
    matches!(topology.verdict, Verdict::None { why: Why::Starting, .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALE: Duration = Duration::from_secs(5);

    /// One event, and what is published because of it: `n1@2` for a primary and its timeline, a word of the reason
    /// where there is none, nothing where nothing is published.
    type Step = (u64, Event, Option<&'static str>);

    enum Event {
        /// Server, whether over a new connection, term, version, primary and timeline.
        Says(usize, bool, u64, u64, Option<(&'static str, u32)>),
        /// As `Says`, by the operator's word.
        Pins(usize, u64, u64, (&'static str, u32)),
        Starts(usize),
        Silence,
    }
    use Event::{Pins, Says, Silence, Starts};

    fn topology(term: u64, version: u64, verdict: Verdict) -> Topology {
        Topology { term, version, verdict, system_id: Some(SystemId(1)), ..Topology::default() }
    }

    fn primary((node, timeline): (&str, u32), proof: Proof) -> Verdict {
        let (node, reason) = (node.parse().unwrap(), "proven".to_owned());
        Verdict::Primary { node, timeline: Timeline(timeline), proof, reason }
    }

    fn nobody(why: Why) -> Verdict {
        Verdict::None { why, reason: "nobody claims it".to_owned() }
    }

    #[track_caller]
    fn check(steps: &[Step]) {
        let mut decider = Decider::new(STALE);
        let (mut version, mut term) = (0, 0);
        for (number, (seconds, event, expected)) in steps.iter().enumerate() {
            let now = Duration::from_secs(*seconds);
            let answer = |server, first, topology| Answer { server, first, topology };
            let published = match *event {
                Says(server, first, term, version, who) => {
                    let verdict = who.map_or_else(
                        || nobody(Why::NoClaimant),
                        |who| primary(who, Proof::Attested),
                    );
                    decider.answer(answer(server, first, topology(term, version, verdict)), now)
                }
                Pins(server, term, version, who) => {
                    let pinned = topology(term, version, primary(who, Proof::Pinned));
                    decider.answer(answer(server, false, pinned), now)
                }
                Starts(server) => {
                    decider.answer(answer(server, true, topology(0, 0, nobody(Why::Starting))), now)
                }
                Silence => decider.silence(now, "connection refused"),
            };
            if let Some(topology) = &published {
                assert_eq!(topology.version, version + 1, "step {number}: versions grow by one");
                assert!(topology.term >= term, "step {number}: terms never shrink");
                (version, term) = (topology.version, topology.term);
            }
            let told = published.map(|topology| match topology.verdict {
                Verdict::Primary { node, timeline, .. } => format!("{node}@{timeline}"),
                other => other.reason().to_owned(),
            });
            match (told, expected) {
                (Some(told), Some(expected)) => {
                    assert!(told.contains(expected), "step {number}: {told}");
                }
                (told, expected) => assert_eq!(told.as_deref(), *expected, "step {number}"),
            }
        }
    }

    #[test]
    fn changes_are_published_once() {
        check(&[
            (0, Says(0, true, 1, 7, Some(("n1", 1))), Some("n1@1")),
            (1, Says(0, false, 1, 7, Some(("n1", 1))), None),
            (2, Says(0, false, 1, 8, None), Some("nobody claims it")),
            (3, Says(0, false, 2, 9, Some(("n2", 2))), Some("n2@2")),
        ]);
    }

    #[test]
    fn numbers_that_go_back_count_only_after_a_restart() {
        check(&[
            (0, Says(0, true, 4, 70, Some(("n1", 1))), Some("n1@1")),
            (1, Says(0, false, 4, 69, Some(("n2", 1))), None),
            (1, Says(0, false, 3, 90, Some(("n2", 1))), None),
            (2, Says(0, true, 1, 3, Some(("n2", 2))), Some("n2@2")),
            (3, Says(0, false, 1, 4, None), Some("nobody claims it")),
        ]);
    }

    #[test]
    fn another_server_has_numbers_of_its_own() {
        check(&[
            (0, Says(0, true, 4, 70, Some(("n1", 1))), Some("n1@1")),
            (1, Says(1, true, 1, 2, Some(("n1", 1))), Some("n1@1")),
            (1, Says(1, false, 1, 2, Some(("n1", 1))), None),
            (2, Says(0, true, 4, 60, Some(("n1", 1))), Some("n1@1")),
        ]);
    }

    #[test]
    fn who_has_just_begun_replaces_nothing_that_is_fresh() {
        check(&[
            (0, Starts(0), Some("nobody claims it")),
            (1, Says(0, false, 0, 0, None), None),
            (1, Says(0, false, 1, 2, Some(("n1", 1))), Some("n1@1")),
            (2, Starts(1), None),
            (3, Starts(0), None),
            // Its answers are no news either: the primary is withdrawn five seconds after the last that was.
            (5, Silence, None),
            (6, Silence, Some("no Herdsman has answered within 5s (connection refused)")),
            (7, Starts(0), Some("nobody claims it")),
        ]);
    }

    #[test]
    fn silence_withdraws_the_primary_once_and_any_answer_brings_it_back() {
        check(&[
            (0, Says(0, true, 1, 7, Some(("n1", 1))), Some("n1@1")),
            (4, Says(0, false, 1, 7, Some(("n1", 1))), None),
            (8, Silence, None),
            (9, Silence, Some("the last news was: primary is n1 on timeline 1")),
            (20, Silence, None),
            (21, Says(0, false, 1, 7, Some(("n1", 1))), Some("n1@1")),
            (26, Silence, Some("no Herdsman has answered")),
        ]);
        check(&[(4, Silence, None), (5, Silence, Some("no Herdsman has answered"))]);
    }

    #[test]
    fn an_old_primary_is_not_taken_from_a_server_that_has_not_heard_yet() {
        check(&[
            (0, Says(0, true, 2, 9, Some(("n2", 2))), Some("n2@2")),
            (
                1,
                Says(1, true, 1, 5, Some(("n1", 1))),
                Some("n1 is named primary on timeline 1, but"),
            ),
            (2, Says(1, false, 2, 6, Some(("n2", 2))), Some("n2@2")),
            (3, Pins(1, 3, 7, ("n1", 1)), Some("n1@1")),
            (4, Says(1, false, 3, 8, Some(("n1", 1))), Some("n1@1")),
        ]);
    }

    #[test]
    fn stale_news_keep_the_nodes() {
        let mut decider = Decider::new(STALE);
        let mut known = topology(1, 1, primary(("n1", 1), Proof::Attested));
        known.nodes.insert("n1".parse().unwrap(), herdsman_watch::NodeView::default());
        decider.answer(Answer { server: 0, first: true, topology: known.clone() }, STALE);
        let stale = decider.silence(STALE * 2, "gone").unwrap();
        assert_eq!((&stale.nodes, stale.primary()), (&known.nodes, None));
        assert_eq!(decider.deadline(), None);
    }
}
