//! One sink with what waits for it.

use std::fmt;
use std::sync::Arc;

use herdsman_wal::Change;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::stats::Stats;
use super::task::{self, Done};
use crate::config::RetryConfig;
use crate::dead_letter::{DeadLetterError, DeadLetters, Record};
use crate::error::StreamError;
use crate::lanes::{self, Effect, Lanes, Letter, LetterId, Limits, Patience, WorkId};
use crate::sink::{Batch, DeliveryError, Position, Sink, SinkError, Why};

/// See the [module](self).
pub(super) struct Outbox {
    index: usize,
    pub(super) name: Arc<str>,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) lanes: Lanes,
    patience: Patience,
    state: State,
    /// Failed tries to open it, in a row.
    open_failures: u32,
    /// What the sink had when it was opened; nothing up to it is handed over.
    has: Option<Position>,
    /// The last position it said it has taken.
    taken: Option<Position>,
    dead_letters: Option<Arc<DeadLetters>>,
    /// Given up, and not yet kept.
    letters: Vec<Letter>,
    letters_not_before: Option<Instant>,
    keeping: bool,
    stats: Stats,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be opened then, when nothing is under way.
    Closed {
        until: Option<Instant>,
    },
    Opening,
    Open,
    /// For good.
    Left,
}

impl Outbox {
    pub(super) fn new(
        index: usize,
        name: String,
        sink: Arc<dyn Sink>,
        retry: &RetryConfig,
        dead_letters: Option<Arc<DeadLetters>>,
        stats: Stats,
    ) -> Self {
        let patience = Patience { retry: retry.clone(), give_up: dead_letters.is_some() };
        Self {
            index,
            name: name.into(),
            lanes: Lanes::new(sink.order(), patience.clone()),
            sink,
            patience,
            state: State::Closed { until: None },
            open_failures: 0,
            has: None,
            taken: None,
            dead_letters,
            letters: Vec::new(),
            letters_not_before: None,
            keeping: false,
            stats,
        }
    }

    /// Forgets what waits: it comes again. No task may be under way.
    pub(super) fn restart(&mut self) {
        self.lanes = Lanes::new(self.sink.order(), self.patience.clone());
        self.state = State::Closed { until: None };
        (self.has, self.taken) = (None, None);
        self.letters.clear();
        (self.keeping, self.letters_not_before) = (false, None);
    }

    /// Whether the sink does not have it yet.
    pub(super) fn wants(&self, change: &Change) -> bool {
        self.has.is_none_or(|has| !lanes::has(has, change))
    }

    /// Whether something waits that is worth waiting for.
    pub(super) fn has_work(&self) -> bool {
        self.state != State::Left && self.lanes.waiting().changes > 0
    }

    /// Nobody is there any more who would take anything: what waits is not waited for. Tells the sink's name.
    pub(super) fn leave(&mut self) -> String {
        self.state = State::Left;
        self.name.to_string()
    }

    /// Gives the sink whatever it may have now.
    pub(super) fn hand_out(&mut self, now: Instant, limits: Limits, tasks: &mut JoinSet<Done>) {
        self.keep_letters(now, tasks);
        match self.state {
            State::Opening | State::Left => return,
            State::Closed { until } => {
                if self.lanes.in_flight() == 0 && until.is_none_or(|until| until <= now) {
                    self.state = State::Opening;
                    tasks.spawn(task::open(
                        self.index,
                        Arc::clone(&self.name),
                        Arc::clone(&self.sink),
                    ));
                }
                return;
            }
            State::Open => {}
        }
        while let Some(work) = self.lanes.take(now, limits) {
            let sink = Arc::clone(&self.sink);
            self.stats.handed_out(self.index);
            tasks.spawn(task::deliver(
                self.index,
                Arc::clone(&self.name),
                sink,
                work.id,
                work.batch,
            ));
        }
    }

    fn keep_letters(&mut self, now: Instant, tasks: &mut JoinSet<Done>) {
        let Some(dead_letters) = &self.dead_letters else { return };
        let early = self.letters_not_before.is_some_and(|time| now < time);
        if self.letters.is_empty() || self.keeping || early {
            return;
        }
        (self.keeping, self.letters_not_before) = (true, None);
        let records: Vec<_> = self.letters.iter().map(Record::from).collect();
        let ids = self.letters.iter().map(|letter| letter.id).collect();
        let (dead_letters, name, sink) =
            (Arc::clone(dead_letters), Arc::clone(&self.name), self.index);
        tasks.spawn_blocking(move || Done::Kept {
            sink,
            letters: ids,
            result: dead_letters.append(&name, &records),
        });
    }

    pub(super) fn opened(
        &mut self,
        result: Result<Option<Position>, SinkError>,
        now: Instant,
    ) -> Result<Vec<Effect>, StreamError> {
        match result {
            Ok(position) => {
                if let (Some(found), Some(expected)) = (position, self.taken)
                    && found < expected
                {
                    self.state = State::Closed { until: None };
                    let sink = self.name.to_string();
                    return Err(StreamError::SinkWentBack { sink, found, expected });
                }
                (self.state, self.open_failures) = (State::Open, 0);
                self.has = position.max(self.has);
                Ok(position.map_or_else(Vec::new, |position| self.lanes.skip_to(position)))
            }
            Err(error) => {
                self.open_failures = self.open_failures.saturating_add(1);
                let pause =
                    self.patience.retry.backoff().pause(self.open_failures, fastrand::f64());
                tracing::warn!(sink = %self.name, %error, ?pause, "the sink cannot be opened; trying again");
                self.stats.unavailable(self.index, &error);
                self.state = State::Closed { until: Some(now + pause) };
                Ok(Vec::new())
            }
        }
    }

    /// What became of a batch. Dead letters among it stay here until they are kept.
    pub(super) fn delivered(
        &mut self,
        id: WorkId,
        batch: &Batch,
        result: Result<(), DeliveryError>,
        now: Instant,
    ) -> Vec<Effect> {
        match result {
            Ok(()) => {
                self.taken = batch.position.max(self.taken);
                self.stats.delivered(self.index, batch);
                self.lanes.done(id)
            }
            Err(DeliveryError::Unavailable(error)) => {
                tracing::warn!(sink = %self.name, %error, "the sink takes nothing; trying again");
                self.stats.unavailable(self.index, &error);
                self.stats.retries(self.index, 1);
                self.reopen_for(&error);
                self.lanes.unavailable(id, now, fastrand::f64());
                Vec::new()
            }
            Err(DeliveryError::Partly(undelivered)) => {
                let mut again = 0_usize;
                for one in &undelivered {
                    if let Why::Failed(error) | Why::Rejected(error) = &one.why {
                        tracing::warn!(sink = %self.name, %error, "a change was not delivered");
                        self.stats.failed(self.index, error);
                        again += 1;
                        self.reopen_for(error);
                    }
                }
                let mut effects = self.lanes.undelivered(id, undelivered, now, fastrand::f64);
                for letter in effects.extract_if(.., |e| matches!(e, Effect::DeadLetter(_))) {
                    if let Effect::DeadLetter(letter) = letter {
                        self.letters.push(letter);
                        again = again.saturating_sub(1);
                    }
                }
                self.stats.retries(self.index, again);
                self.stats.delivered_partly(self.index, &effects);
                effects
            }
        }
    }

    fn reopen_for(&mut self, error: &SinkError) {
        if error.reopen && self.state == State::Open {
            self.state = State::Closed { until: None };
        }
    }

    /// What became of dead letters that were to be kept.
    pub(super) fn kept(
        &mut self,
        ids: Vec<LetterId>,
        result: Result<(), DeadLetterError>,
        now: Instant,
    ) -> Vec<Effect> {
        self.keeping = false;
        if let Err(error) = result {
            tracing::error!(sink = %self.name, %error, "their keys wait until dead letters can be kept");
            let pause = self.patience.retry.longest_pause;
            self.letters_not_before = Some(now + pause);
            return Vec::new();
        }
        self.letters.retain(|letter| !ids.contains(&letter.id));
        self.stats.dead_letters(self.index, ids.len());
        ids.into_iter().flat_map(|id| self.lanes.dead_letter_written(id)).collect()
    }

    pub(super) fn next_wake(&self, now: Instant) -> Option<Instant> {
        let lanes = match self.state {
            State::Opening | State::Left => None,
            State::Closed { until } => until,
            State::Open => self.lanes.next_wake(now),
        };
        lanes.into_iter().chain(self.letters_not_before).min()
    }

    pub(super) fn publish(&self) {
        let waiting = self.lanes.waiting();
        self.stats.set_waiting(
            self.index,
            waiting,
            self.lanes.in_flight(),
            self.state == State::Open,
        );
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("name", &self.name)
            .field("state", &self.state)
            .field("lanes", &self.lanes.waiting())
            .finish_non_exhaustive()
    }
}
