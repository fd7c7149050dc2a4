//! Which request comes next for a batch, and what is left of it in the end. Pure.

use std::ops::Range;

use bytes::Bytes;
use herdsman_wal::json::idempotency_key;
use herdsman_wal::{Change, Kind};

use super::sign::fingerprint;
use super::verdict::Verdict;
use crate::config::Shape;
use crate::lanes::Behind;
use crate::sink::{Batch, DeliveryError, SinkError, Undelivered, Why};
use crate::sinks::json;

/// How far a batch is.
pub(super) struct Progress<'a> {
    batch: &'a Batch,
    together: bool,
    /// Each change as JSON, one after the other.
    json: Vec<u8>,
    /// Where in `json` each change is.
    places: Vec<Range<usize>>,
    /// What is still to be sent, as places in the batch, the next at the end.
    todo: Vec<Vec<usize>>,
    left: Vec<Undelivered>,
    /// Rows of which a change has failed.
    blocked: Behind,
    /// Failures in a row.
    failures: u32,
    taken: bool,
    down: Option<SinkError>,
}

/// One request.
#[derive(Debug)]
pub(super) struct Request {
    /// Its changes, as places in the batch.
    pub(super) places: Vec<usize>,
    pub(super) body: Bytes,
    /// The same whenever the same changes are sent.
    pub(super) key: String,
}

/// After so many failures in a row, the others would fail as well.
const ENOUGH: u32 = 3;

impl<'a> Progress<'a> {
    pub(super) fn of(batch: &'a Batch, shape: Shape, together: bool) -> Self {
        let mut json = Vec::new();
        let mut places = Vec::with_capacity(batch.changes.len());
        for change in &batch.changes {
            let begin = json.len();
            json::write(shape, change, &mut json);
            places.push(begin..json.len());
        }
        let count = places.len();
        let todo = if together {
            vec![(0..count).collect()]
        } else {
            (0..count).rev().map(|index| vec![index]).collect()
        };
        Self {
            batch,
            together,
            json,
            places,
            todo,
            left: Vec::new(),
            blocked: Behind::default(),
            failures: 0,
            taken: false,
            down: None,
        }
    }

    /// What to send next; none when there is nothing more to do.
    pub(super) fn next(&mut self) -> Option<Request> {
        while let Some(mut places) = self.todo.pop() {
            places.retain(|&index| !self.waits(index));
            if !places.is_empty() {
                return Some(self.request(places));
            }
        }
        None
    }

    /// Takes note of what became of a request.
    pub(super) fn record(&mut self, mut places: Vec<usize>, verdict: Verdict) {
        let Some(&first) = places.first() else { return };
        match verdict {
            Verdict::Taken => {
                self.taken = true;
                self.failures = 0;
            }
            Verdict::Refused(_) | Verdict::Failed(_) if places.len() > 1 => {
                let later = places.split_off(places.len() / 2);
                self.todo.extend([later, places]);
            }
            Verdict::Refused(error) => self.is_left(first, Why::Rejected(error)),
            Verdict::Failed(error) => {
                self.is_left(first, Why::Failed(error));
                self.failures += 1;
                // Halving on would hit a receiver that fails on everything with twice as many requests as changes.
                if self.together || self.failures >= ENOUGH {
                    self.give_up();
                }
            }
            Verdict::Down(error) if !self.taken && self.left.is_empty() => {
                self.todo.clear();
                self.down = Some(error);
            }
            Verdict::Down(error) => {
                self.is_left(first, Why::Failed(error));
                self.todo.push(places.split_off(1));
                self.give_up();
            }
        }
    }

    /// What the engine is told.
    pub(super) fn result(mut self) -> Result<(), DeliveryError> {
        if let Some(error) = self.down {
            return Err(DeliveryError::Unavailable(error));
        }
        self.left.sort_by_key(|undelivered| undelivered.index);
        if self.left.is_empty() { Ok(()) } else { Err(DeliveryError::Partly(self.left)) }
    }

    /// Leaves everything that was not tried for the next time.
    fn give_up(&mut self) {
        for index in std::mem::take(&mut self.todo).into_iter().flatten() {
            self.is_left(index, Why::Behind);
        }
    }

    /// A change is not delivered now: what comes later of the same rows waits, even for a dead letter, which is none
    /// before it is kept.
    fn is_left(&mut self, index: usize, why: Why) {
        if let Some(change) = self.batch.changes.get(index) {
            self.blocked.add(change);
        }
        self.left.push(Undelivered { index, why });
    }

    /// Leaves a change where an earlier one of its rows is left.
    fn waits(&mut self, index: usize) -> bool {
        let change = self.batch.changes.get(index);
        let waits = change.is_some_and(|change| self.blocked.holds_back(change));
        if waits {
            self.is_left(index, Why::Behind);
        }
        waits
    }

    fn request(&self, places: Vec<usize>) -> Request {
        let mut body = Vec::new();
        let mut names = Vec::new();
        if self.together {
            body.extend_from_slice(b"{\"changes\":[");
        }
        for (number, &index) in places.iter().enumerate() {
            let json = self.places.get(index).and_then(|place| self.json.get(place.clone()));
            let json = json.unwrap_or_default();
            if number > 0 {
                body.push(b',');
            }
            body.extend_from_slice(json);
            if let Some(change) = self.batch.changes.get(index) {
                names.push(name_of(change, json));
            }
        }
        if self.together {
            body.extend_from_slice(b"]}");
        }
        let key = match names.as_slice() {
            [name] => name.clone(),
            names => fingerprint(names.join("\n").as_bytes()),
        };
        Request { places, body: body.into(), key }
    }
}

/// What tells a change from every other, whatever shape its JSON has. Rows of a snapshot have no name that lasts; what
/// they say stands for it.
fn name_of(change: &Change, json: &[u8]) -> String {
    match change.kind() {
        Kind::Read => fingerprint(json),
        _ => idempotency_key(&change.view()),
    }
}

#[cfg(test)]
mod tests;
