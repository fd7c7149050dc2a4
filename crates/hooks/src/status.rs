//! Where each hook stands, for logs, metrics and whoever asks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::Serialize;

/// Where one hook stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HookStatus {
    /// Its name.
    pub name: String,
    /// What it does: `exec`, `webhook`, `slack`, `pgbouncer`, `haproxy` or `hosts`.
    pub kind: &'static str,
    /// What it is about now.
    pub state: State,
    /// How its runs ended, since it was started.
    pub runs: Runs,
    /// Messages that wait to be told.
    pub waiting: usize,
    /// Messages that were given up, or went because too many waited.
    pub dropped: u64,
    /// Its last run.
    pub last: Option<LastRun>,
}

/// What a hook is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing has to be done.
    #[default]
    Idle,
    /// It runs.
    Running,
    /// It failed, and is tried again after a pause.
    Failing,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did what it should.
    Succeeded,
    /// It did not.
    Failed,
    /// It took too long, and was ended.
    TimedOut,
}

/// How runs ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Runs {
    /// How many did what they should.
    pub succeeded: u64,
    /// How many did not.
    pub failed: u64,
    /// How many took too long.
    pub timed_out: u64,
}

/// A run that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastRun {
    /// When it ended, in RFC 3339.
    pub at: String,
    /// How.
    pub outcome: Outcome,
    /// What was done, or what is wrong and what to do.
    pub told: String,
}

/// One hook's board: the hook writes, others read.
#[derive(Debug)]
pub(crate) struct Board(Mutex<HookStatus>);

/// Reads where all hooks stand; also those that a reload brings. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Statuses(Arc<Mutex<Vec<Arc<Board>>>>);

impl Statuses {
    /// All of them, in the order of the configuration.
    #[must_use]
    pub fn read(&self) -> Vec<HookStatus> {
        let boards = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        boards.iter().map(|board| board.status().clone()).collect()
    }

    pub(crate) fn show(&self, boards: Vec<Arc<Board>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = boards;
    }
}

impl Board {
    pub(crate) fn new(name: &str, kind: &'static str) -> Self {
        Self(Mutex::new(HookStatus {
            name: name.to_owned(),
            kind,
            state: State::Idle,
            runs: Runs::default(),
            waiting: 0,
            dropped: 0,
            last: None,
        }))
    }

    pub(crate) fn begins(&self) {
        self.status().state = State::Running;
    }

    /// A run is over; `told` says what was done or what is wrong.
    pub(crate) fn ended(&self, outcome: Outcome, told: &str) {
        let mut status = self.status();
        let (count, state) = match outcome {
            Outcome::Succeeded => (&mut status.runs.succeeded, State::Idle),
            Outcome::Failed => (&mut status.runs.failed, State::Failing),
            Outcome::TimedOut => (&mut status.runs.timed_out, State::Failing),
        };
        *count += 1;
        status.state = state;
        let at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        status.last = Some(LastRun { at, outcome, told: told.to_owned() });
    }

    pub(crate) fn dropped(&self) {
        self.status().dropped += 1;
    }

    /// A message was given up: nothing is tried any more.
    pub(crate) fn given_up(&self) {
        let mut status = self.status();
        status.dropped += 1;
        status.state = State::Idle;
    }

    pub(crate) fn waiting(&self, count: usize) {
        self.status().waiting = count;
    }

    fn status(&self) -> MutexGuard<'_, HookStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outcome {
    /// What metrics call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
        }
    }
}
