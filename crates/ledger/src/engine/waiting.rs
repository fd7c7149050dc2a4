//! Who waits for word of which request.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;

use crate::{
    Offset, RequestId,
    entry::Attempt,
    replica::{Outcome, Step},
};

/// More words than a request gets from a dozen nodes; what is beyond would say the same.
const WORDS_MOST: usize = 64;

/// What became of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    pub(super) attempt: Attempt,
    pub(super) at: Offset,
    pub(super) outcome: Outcome,
}

/// Clients that wait, by request.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<HashMap<RequestId, Vec<mpsc::Sender<Word>>>>);

/// One client's place; dropped, nobody waits there.
pub(super) struct Seat<'w> {
    waiting: &'w Waiting,
    request: RequestId,
    words: mpsc::Receiver<Word>,
}

impl Waiting {
    /// From now on, words of this request are heard.
    pub(super) fn sit(&self, request: RequestId) -> Seat<'_> {
        let (tell, words) = mpsc::channel(WORDS_MOST);
        self.lock().entry(request).or_default().push(tell);
        Seat { waiting: self, request, words }
    }

    /// A node has decided.
    pub(super) fn tell(&self, step: &Step) {
        let Some(attempt) = step.attempt else { return };
        let word = Word { attempt, at: step.at, outcome: step.outcome };
        for seat in self.lock().get(&attempt.request).into_iter().flatten() {
            if seat.try_send(word).is_err() {
                // It is full and has heard it, or nobody sits there any more.
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RequestId, Vec<mpsc::Sender<Word>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat<'_> {
    /// What became of this attempt, or of the request in its stead.
    pub(super) async fn word(&mut self, number: u32) -> Option<Word> {
        loop {
            let word = self.words.recv().await?;
            // An older attempt's conflict says nothing about this one.
            if word.attempt.number == number || word.outcome != Outcome::Conflict {
                return Some(word);
            }
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.words.close();
        let mut all = self.waiting.lock();
        if let Some(seats) = all.get_mut(&self.request) {
            seats.retain(|seat| !seat.is_closed());
            if seats.is_empty() {
                all.remove(&self.request);
            }
        }
    }
}
