//! A session beside a model of its cluster: whatever the order of things, no reader that a read is allowed to use may
//! lack a write that was acknowledged to the session.

use herdsman_node::{Lsn, SystemId, Timeline};
use proptest::prelude::*;

use super::super::{Replayed, covers};
use super::*;

const OURS: SystemId = SystemId(7);

/// What can happen. An index picks one of the things under way, if there is any.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// Somebody else commits something.
    Elsewhere,
    /// A standby is promoted with everything it should have.
    Promoted,
    /// A short write: sent, committed and answered at once.
    Wrote,
    Sent,
    /// The write is committed, and its answer is on the way.
    Landed(usize),
    Answered(usize),
    /// The connection breaks or the caller gives up.
    Lost(usize),
    /// A transaction is handed out.
    Began,
    /// One that was handed out commits; only the application sees it.
    Unseen,
    Opened,
    Committed,
    RolledBack,
    CommitLost,
    /// Somebody begins to ask the writer for its position.
    Ask,
    /// The writer reads its position.
    Looked(usize),
    /// The answer arrives.
    Settled(usize),
    /// A token of another session arrives, this many commits old.
    Observed(usize),
    /// A token of another cluster arrives.
    Foreign(usize),
    /// It was another cluster's writer that was asked: a second `ReplicaSet` in the same session.
    SettledElsewhere(usize),
}

/// A question to the writer, and its answer once it has looked.
struct Question {
    mark: Mark,
    answer: Option<SessionToken>,
}

struct Model {
    state: State,
    /// The timeline of each commit; the position of a commit is its index.
    log: Vec<Timeline>,
    /// The last position the session must see.
    promised: usize,
    /// Writes in flight, and where they were committed if they were.
    writes: Vec<Option<usize>>,
    questions: Vec<Question>,
    transactions: usize,
    handed_out: usize,
    /// Whether something may have been committed that the session was not told of.
    blind: bool,
}

impl Model {
    fn new() -> Self {
        Self {
            state: State::default(),
            log: vec![Timeline(1)],
            promised: 0,
            writes: Vec::new(),
            questions: Vec::new(),
            transactions: 0,
            handed_out: 0,
            blind: false,
        }
    }

    fn newest(&self) -> usize {
        self.log.len() - 1
    }

    fn token(&self, position: usize) -> SessionToken {
        SessionToken {
            system_id: OURS,
            timeline: self.log[position],
            lsn: Lsn(u64::try_from(position).unwrap()),
        }
    }

    fn commit(&mut self) -> usize {
        self.log.push(self.log[self.newest()]);
        self.newest()
    }

    fn promise(&mut self, position: usize) {
        self.promised = self.promised.max(position);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Elsewhere => _ = self.commit(),
            Event::Promoted => self.log.push(Timeline(self.log[self.newest()].0 + 1)),
            Event::Wrote => {
                let at = self.commit();
                self.state.wrote();
                self.promise(at);
            }
            Event::Sent => {
                self.state.sent();
                self.writes.push(None);
            }
            Event::Landed(i) => self.landed(i),
            Event::Answered(i) => {
                self.landed(i);
                if let Some(at) = take(&mut self.writes, i).flatten() {
                    self.state.answered(true);
                    self.promise(at);
                }
            }
            Event::Lost(i) => {
                if take(&mut self.writes, i).is_some() {
                    self.state.answered(false);
                    self.blind = true;
                }
            }
            Event::Began => {
                self.state.began();
                self.handed_out += 1;
                self.blind = true;
            }
            Event::Unseen if self.handed_out > 0 => {
                self.handed_out -= 1;
                let at = self.commit();
                self.promise(at);
            }
            Event::Opened => {
                self.state.opened();
                self.transactions += 1;
            }
            Event::Committed if self.transactions > 0 => {
                let at = self.commit();
                self.close(End::Committed);
                self.promise(at);
            }
            Event::RolledBack if self.transactions > 0 => self.close(End::RolledBack),
            Event::CommitLost if self.transactions > 0 => {
                self.close(End::Unknown);
                self.blind = true;
            }
            Event::Ask => {
                let question = self.state.pending().map(|mark| Question { mark, answer: None });
                self.questions.extend(question);
            }
            Event::Looked(i) => self.looked(i),
            Event::Settled(i) => {
                self.looked(i);
                if let Some(Question { mark, answer: Some(token) }) = take(&mut self.questions, i) {
                    self.state.settle(mark, token);
                }
            }
            Event::Observed(age) => {
                let at = self.newest().saturating_sub(age);
                self.state.observe(self.token(at));
                self.promise(at);
            }
            Event::Foreign(lsn) => self.state.observe(foreign(lsn)),
            Event::SettledElsewhere(i) => {
                if let Some(question) = take(&mut self.questions, i) {
                    self.state.settle(question.mark, foreign(1));
                }
            }
            Event::Unseen | Event::Committed | Event::RolledBack | Event::CommitLost => {}
        }
    }

    fn landed(&mut self, i: usize) {
        let at = self.newest() + 1;
        if let Some(write) = pick(&mut self.writes, i).filter(|write| write.is_none()) {
            *write = Some(at);
            self.commit();
        }
    }

    fn looked(&mut self, i: usize) {
        let now = self.token(self.newest());
        if let Some(question) = pick(&mut self.questions, i) {
            question.answer.get_or_insert(now);
        }
    }

    fn close(&mut self, end: End) {
        self.transactions -= 1;
        self.state.closed(end);
    }

    /// Whether a read with this need may go to a reader that has replayed up to the position.
    fn allowed(&self, needs: Needs, position: usize) -> bool {
        let reader = Replayed {
            system_id: Some(OURS),
            timeline: Some(self.log[position]),
            follows: None,
            lsn: self.token(position).lsn,
        };
        match needs {
            Needs::Nothing => true,
            Needs::Token(token) => covers(&reader, &token),
            Needs::AskWriter | Needs::Writer => false,
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let needs = self.state.needs();
        // Whoever is further back than the one who lacks a single commit is covered even less.
        let lacking = self.promised.checked_sub(1);
        let allowed = |needs| lacking.is_some_and(|position| self.allowed(needs, position));
        prop_assert!(!allowed(needs), "{needs:?} allows a reader that lacks {}", self.promised);
        if needs == Needs::AskWriter {
            prop_assert!(self.state.pending().is_some(), "nothing to ask, yet asking is needed");
        }
        match self.state.ending() {
            Ending::Nothing => prop_assert_eq!(self.promised, 0),
            Ending::Token(token) => prop_assert!(!allowed(Needs::Token(token)), "told {token}"),
            Ending::Ask => prop_assert!(self.state.pending().is_some()),
            Ending::Unfinished => prop_assert!(self.transactions + self.writes.len() > 0),
        }
        Ok(())
    }

    /// Lets everything end well and the writer be asked once more.
    fn calm(&mut self) {
        while !self.writes.is_empty() {
            self.happen(Event::Answered(0));
        }
        while self.transactions > 0 {
            self.happen(Event::Committed);
        }
        self.questions.clear();
        self.happen(Event::Ask);
        self.happen(Event::Settled(0));
    }
}

fn foreign(lsn: usize) -> SessionToken {
    SessionToken {
        system_id: SystemId(8),
        timeline: Timeline(9),
        lsn: Lsn(u64::try_from(lsn).unwrap()),
    }
}

fn pick<T>(things: &mut [T], i: usize) -> Option<&mut T> {
    let i = i.checked_rem(things.len())?;
    things.get_mut(i)
}

fn take<T>(things: &mut Vec<T>, i: usize) -> Option<T> {
    let i = i.checked_rem(things.len())?;
    Some(things.remove(i))
}

type Kind = fn(usize) -> Event;

/// What happens all the time; several times what happens often.
const USUAL: [Kind; 32] = {
    use Event::*;
    [
        |_| Elsewhere,
        |_| Elsewhere,
        |_| Promoted,
        |_| Wrote,
        |_| Wrote,
        |_| Wrote,
        |_| Sent,
        |_| Sent,
        |_| Sent,
        Landed,
        Landed,
        Answered,
        Answered,
        Answered,
        |_| Opened,
        |_| Opened,
        |_| Committed,
        |_| Committed,
        |_| RolledBack,
        |_| Ask,
        |_| Ask,
        |_| Ask,
        |_| Ask,
        Looked,
        Looked,
        Settled,
        Settled,
        Settled,
        Settled,
        Observed,
        Foreign,
        SettledElsewhere,
    ]
};

/// What ties a session to the writer for good.
const FINAL: [Kind; 4] = [Event::Lost, |_| Event::Began, |_| Event::Unseen, |_| Event::CommitLost];

fn events(finals: usize) -> impl Strategy<Value = Vec<Event>> {
    let kinds = USUAL.len() * 8;
    let one = (0..kinds + finals, 0..4_usize).prop_map(move |(kind, i)| {
        let kinds = if kind < kinds { &USUAL[..] } else { &FINAL[..] };
        kinds[kind % kinds.len()](i)
    });
    prop::collection::vec(one, 0..60)
}

fn run(events: &[Event]) -> Result<Model, TestCaseError> {
    let mut model = Model::new();
    for event in events {
        model.happen(*event);
        model.check()?;
    }
    Ok(model)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn no_reader_without_an_acknowledged_write_is_ever_allowed(events in events(16)) {
        run(&events)?;
    }

    #[test]
    fn a_session_at_rest_reads_from_any_reader_that_has_caught_up(events in events(0)) {
        let mut model = run(&events)?;
        model.calm();
        model.check()?;
        let needs = model.state.needs();
        // A token of another cluster stays until the next write of our own.
        let foreign = matches!(needs, Needs::Token(token) if token.system_id != OURS);
        prop_assert!(foreign || model.allowed(needs, model.newest()), "{needs:?}");
    }

    #[test]
    fn what_cannot_be_seen_keeps_the_reads_on_the_writer(events in events(16)) {
        let mut model = run(&events)?;
        model.calm();
        model.check()?;
        prop_assert_eq!(model.blind, model.state.needs() == Needs::Writer);
    }
}
