//! Who may commit: first committer wins.
//!
//! A transaction that ran against the data at its base commits if nobody has since written what it writes or read.
//! Every node asks this of the same entries in the same order, so all answer alike, without a word between them.

use std::collections::{HashMap, VecDeque};

use crate::{
    entry::Genesis,
    identity::Offset,
    writes::{Claim, KeyHash, Mode},
};

/// Who wrote what, for as many entries as the genesis says.
///
/// What it holds is a function of the last entries alone, not of how long this node has been running: of those within
/// the window, as many of the newest as have no more keys than the limit. So a node that starts again reads the tail of
/// the log and decides as it would have.
#[derive(Clone, Debug)]
pub struct Window {
    window: u64,
    keys_most: u64,
    /// Committed entries with the keys they wrote, oldest first.
    entries: VecDeque<(Offset, Vec<KeyHash>)>,
    keys: u64,
    last: HashMap<KeyHash, Offset>,
    /// The newest place that was forgotten.
    floor: Offset,
}

impl Window {
    /// What is known before the first entry after the genesis.
    #[must_use]
    pub fn new(genesis: &Genesis) -> Self {
        Self {
            window: genesis.window,
            keys_most: genesis.keys,
            entries: VecDeque::new(),
            keys: 0,
            last: HashMap::new(),
            floor: Offset::GENESIS,
        }
    }

    /// Whether a transaction commits. What was forgotten counts as written: who began before that conflicts.
    #[must_use]
    pub fn admits(&self, base: Offset, claims: &[Claim]) -> bool {
        let untouched = |claim: &Claim| {
            claim.mode == Mode::Touch || self.last.get(&claim.key).is_none_or(|last| *last <= base)
        };
        base >= self.floor && claims.iter().all(untouched)
    }

    /// Remembers what a committed transaction wrote. Entries come in order; those that wrote nothing may be left out.
    pub fn record(&mut self, at: Offset, claims: &[Claim]) {
        let written: Vec<KeyHash> =
            claims.iter().filter(|it| it.mode != Mode::Read).map(|it| it.key).collect();
        if written.is_empty() {
            return;
        }
        self.keys = self.keys.saturating_add(count(&written));
        for key in &written {
            self.last.insert(*key, at);
        }
        self.entries.push_back((at, written));
        while self.keys > self.keys_most {
            self.forget_oldest();
        }
    }

    /// Forgets what is too old once the log has come to `at`.
    pub fn advance(&mut self, at: Offset) {
        let floor = Offset(at.0.saturating_sub(self.window));
        while self.entries.front().is_some_and(|(oldest, _)| *oldest <= floor) {
            self.forget_oldest();
        }
        self.floor = self.floor.max(floor);
    }

    /// A transaction that began before this place conflicts, whatever it wrote.
    #[must_use]
    pub fn floor(&self) -> Offset {
        self.floor
    }

    /// How many keys are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.last.len()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.last.is_empty()
    }

    fn forget_oldest(&mut self) {
        let Some((at, keys)) = self.entries.pop_front() else { return };
        self.keys = self.keys.saturating_sub(count(&keys));
        for key in keys {
            if self.last.get(&key) == Some(&at) {
                self.last.remove(&key);
            }
        }
        self.floor = self.floor.max(at);
    }
}

fn count(keys: &[KeyHash]) -> u64 {
    u64::try_from(keys.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::identity::LogId;

    fn genesis(window: u64, keys: u64) -> Genesis {
        Genesis { log: LogId([0; 16]), window, keys }
    }

    fn claim(mode: Mode, key: u8) -> Claim {
        Claim { mode, key: KeyHash([key; 16]) }
    }

    #[test]
    fn the_first_committer_wins() {
        let mut window = Window::new(&genesis(100, 100));
        window.record(Offset(5), &[claim(Mode::Write, 1)]);
        for mode in [Mode::Write, Mode::Read] {
            assert!(!window.admits(Offset(4), &[claim(mode, 2), claim(mode, 1)]));
            assert!(window.admits(Offset(5), &[claim(mode, 1)]));
            assert!(window.admits(Offset(4), &[claim(mode, 2)]));
        }
        assert!(
            window.admits(Offset(4), &[claim(Mode::Touch, 1)]),
            "who only touches minds nobody"
        );
    }

    #[test]
    fn what_is_only_read_is_written_by_nobody_and_what_is_touched_is() {
        let mut window = Window::new(&genesis(100, 100));
        window.record(Offset(5), &[claim(Mode::Read, 1), claim(Mode::Touch, 2)]);
        assert!(window.admits(Offset(1), &[claim(Mode::Write, 1)]));
        assert!(!window.admits(Offset(1), &[claim(Mode::Read, 2)]));
    }

    #[test]
    fn who_began_before_what_is_remembered_conflicts() {
        let mut window = Window::new(&genesis(10, 3));
        for at in 1..=4 {
            window.record(Offset(at), &[claim(Mode::Write, u8::try_from(at).unwrap())]);
        }
        assert_eq!((window.len(), window.floor()), (3, Offset(1)), "more keys than the limit");
        assert!(!window.admits(Offset(0), &[]));
        window.advance(Offset(13));
        assert_eq!((window.len(), window.floor()), (1, Offset(3)), "older than the window");
        assert!(!window.admits(Offset(2), &[claim(Mode::Write, 9)]));
        assert!(window.admits(Offset(3), &[claim(Mode::Write, 9)]));
        let all: Vec<Claim> = (0..4).map(|key| claim(Mode::Write, key)).collect();
        window.record(Offset(14), &all);
        assert!(window.is_empty(), "an entry with more keys than the limit");
        assert_eq!(window.floor(), Offset(14));
    }

    /// Committed entries with the keys they write.
    fn history() -> impl Strategy<Value = Vec<Vec<u8>>> {
        proptest::collection::vec(proptest::collection::vec(0_u8..20, 0..5), 1..60)
    }

    fn play(window: &mut Window, history: &[Vec<u8>], from: usize) {
        for (i, keys) in history.iter().enumerate().skip(from) {
            let at = Offset(u64::try_from(i).unwrap() + 1);
            let claims: Vec<Claim> = keys.iter().map(|key| claim(Mode::Write, *key)).collect();
            window.record(at, &claims);
            window.advance(at);
        }
    }

    proptest! {
        #[test]
        fn whoever_starts_from_the_tail_answers_like_the_one_who_saw_it_all(
            history in history(),
            window in 1_u64..20,
            keys in 1_u64..30,
            base in 0_u64..60,
            asked in proptest::collection::vec(0_u8..20, 0..3),
        ) {
            let genesis = genesis(window, keys);
            let mut whole = Window::new(&genesis);
            play(&mut whole, &history, 0);
            let mut tail = Window::new(&genesis);
            let from = history.len().saturating_sub(usize::try_from(window).unwrap());
            play(&mut tail, &history, from);
            let claims: Vec<Claim> = asked.iter().map(|key| claim(Mode::Write, *key)).collect();
            prop_assert_eq!(whole.floor(), tail.floor());
            prop_assert_eq!(&whole.last, &tail.last);
            prop_assert_eq!(whole.admits(Offset(base), &claims), tail.admits(Offset(base), &claims));
        }

        #[test]
        fn nothing_is_admitted_that_an_endless_memory_would_not(
            history in history(),
            window in 1_u64..20,
            keys in 1_u64..30,
            base in 0_u64..60,
            asked in 0_u8..20,
        ) {
            let mut bounded = Window::new(&genesis(window, keys));
            play(&mut bounded, &history, 0);
            let mut endless = Window::new(&genesis(u64::MAX, u64::MAX));
            play(&mut endless, &history, 0);
            let claims = [claim(Mode::Write, asked)];
            let (bounded, endless) = (bounded.admits(Offset(base), &claims), endless.admits(Offset(base), &claims));
            prop_assert!(endless || !bounded);
        }
    }
}
