//! Random streams against random sinks: what must hold whatever happens, in both orders.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use fastrand::Rng;
use herdsman_wal::Transaction;
use proptest::prelude::*;

use super::fixture::*;
use super::tests::error;
use super::*;

const ATTEMPTS: u32 = 3;

struct World {
    lanes: Lanes,
    order: Order,
    rng: Rng,
    now: Instant,
    changes: Vec<Arc<Change>>,
    tickets: Vec<Ticket>,
    /// Changes that always fail.
    poison: BTreeSet<usize>,
    tries: Vec<u32>,
    done: BTreeSet<usize>,
    under_way: Vec<(WorkId, Vec<usize>)>,
    letters: Vec<(LetterId, usize)>,
    arrived: HashMap<Ticket, u64>,
    handled: HashMap<Ticket, u64>,
    limits: Limits,
}

impl World {
    fn new(order: Order, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let (pause, longest_pause) = (Duration::from_millis(100), Duration::from_secs(1));
        let patience = Patience {
            retry: RetryConfig { attempts: ATTEMPTS, pause, longest_pause },
            give_up: true,
        };
        let limits = Limits { changes: rng.usize(1..8), bytes: 4000, more_coming: true };
        Self {
            lanes: Lanes::new(order, patience),
            order,
            rng,
            now: Instant::now(),
            changes: Vec::new(),
            tickets: Vec::new(),
            poison: BTreeSet::new(),
            tries: Vec::new(),
            done: BTreeSet::new(),
            under_way: Vec::new(),
            letters: Vec::new(),
            arrived: HashMap::new(),
            handled: HashMap::new(),
            limits,
        }
    }

    fn push_transaction(&mut self, ticket: Ticket) {
        let tx = transaction(ticket * 100);
        for ordinal in 0..self.rng.u64(0..6) {
            let change = self.random_change(&tx, ordinal);
            if self.rng.u8(..) < 12 {
                self.poison.insert(self.changes.len());
            }
            self.changes.push(Arc::clone(&change));
            self.tickets.push(ticket);
            self.tries.push(0);
            self.lanes.push(change, ticket);
        }
        self.lanes.commit(ticket);
    }

    fn random_change(&mut self, tx: &Arc<Transaction>, ordinal: u64) -> Arc<Change> {
        let (one, two) = (table("one"), table("two"));
        let table = if self.rng.bool() { &one } else { &two };
        let id = |rng: &mut Rng| rng.u8(0..5).to_string();
        let (first, second) = (id(&mut self.rng), id(&mut self.rng));
        match self.rng.u8(0..20) {
            0 => truncate(tx, ordinal, std::slice::from_ref(table)),
            1 => truncate(tx, ordinal, &[one, two]),
            2 => message(tx, ordinal, "note"),
            3 => update_of_unknown(tx, ordinal, table),
            4..=7 => update(tx, ordinal, table, Some(&first), &second),
            8..=11 => delete(tx, ordinal, table, &first),
            _ => insert(tx, ordinal, table, &first),
        }
    }

    /// Whether `later` must not be delivered before `earlier`.
    fn conflict(&self, earlier: usize, later: usize) -> bool {
        let mut behind = Behind::default();
        behind.add(&self.changes[earlier]);
        self.order == Order::Total || behind.holds_back(&self.changes[later])
    }

    fn take(&mut self) -> bool {
        let Some(work) = self.lanes.take(self.now, self.limits) else {
            self.nothing_waits_without_a_reason();
            return false;
        };
        let index = |change: &Arc<Change>| {
            self.changes.iter().position(|other| Arc::ptr_eq(other, change)).unwrap()
        };
        let batch: Vec<_> = work.batch.changes.iter().map(index).collect();
        assert!(!batch.is_empty() && batch.is_sorted(), "{batch:?}");
        assert!(batch.len() <= self.limits.changes);
        for &later in &batch {
            assert!(!self.done.contains(&later), "delivered twice");
            for earlier in (0..later).filter(|e| !self.done.contains(e) && !batch.contains(e)) {
                assert!(!self.conflict(earlier, later), "{later} overtakes {earlier}");
            }
        }
        let parallel = match self.order {
            Order::Total => 1,
            Order::PerKey { parallel } => parallel,
        };
        self.under_way.push((work.id, batch));
        assert!(self.under_way.len() <= parallel);
        true
    }

    /// A change that was never tried waits for an earlier one, for a free worker or for the sink, and for nothing else.
    fn nothing_waits_without_a_reason(&self) {
        let Order::PerKey { parallel } = self.order else { return };
        if self.under_way.len() >= parallel
            || self.lanes.gate.is_closed(self.now)
            || self.lanes.gate.is_probing()
        {
            return;
        }
        let flying: BTreeSet<_> = self.under_way.iter().flat_map(|(_, batch)| batch).collect();
        for later in 0..self.changes.len() {
            let untried =
                self.tries[later] == 0 && !flying.contains(&later) && !self.done.contains(&later);
            let mut earlier = (0..later).filter(|earlier| !self.done.contains(earlier));
            let rejected = self.letters.iter().any(|(_, index)| *index == later);
            assert!(
                !untried || rejected || earlier.any(|earlier| self.conflict(earlier, later)),
                "{later} waits for nothing"
            );
        }
    }

    fn finish_one(&mut self, kind: bool) {
        if self.under_way.is_empty() {
            return;
        }
        let (id, batch) = self.under_way.swap_remove(self.rng.usize(0..self.under_way.len()));
        let luck = if kind { 255 } else { self.rng.u8(..) };
        if luck < 20 {
            return self.lanes.unavailable(id, self.now, self.rng.f64());
        }
        let mut behind = Behind::default();
        let mut undelivered = Vec::new();
        for (index, &change) in batch.iter().enumerate() {
            let waits = if self.order == Order::Total {
                !undelivered.is_empty()
            } else {
                behind.holds_back(&self.changes[change])
            };
            let fails = self.poison.contains(&change) || (luck < 100 && self.rng.u8(..) < 40);
            let why = if waits {
                Why::Behind
            } else if fails && !kind && self.rng.u8(..) < 10 {
                Why::Rejected(error())
            } else if fails {
                self.tries[change] += 1;
                Why::Failed(error())
            } else {
                self.arrive(change);
                continue;
            };
            behind.add(&self.changes[change]);
            undelivered.push(Undelivered { index, why });
        }
        let effects = if undelivered.is_empty() {
            self.lanes.done(id)
        } else {
            let rejected: BTreeSet<_> = undelivered
                .iter()
                .filter(|one| matches!(one.why, Why::Rejected(_)))
                .map(|one| batch[one.index])
                .collect();
            let effects = self.lanes.undelivered(id, undelivered, self.now, || 0.5);
            for effect in &effects {
                if let Effect::DeadLetter(letter) = effect {
                    let at = |c: &usize| Arc::ptr_eq(&self.changes[*c], &letter.change);
                    let change = *batch.iter().find(|c| at(c)).unwrap();
                    let tries = self.tries[change];
                    assert!(
                        if rejected.contains(&change) {
                            letter.attempts == tries + 1
                        } else {
                            tries == ATTEMPTS && letter.attempts == ATTEMPTS
                        },
                        "{tries} tries, {} told",
                        letter.attempts
                    );
                    self.letters.push((letter.id, change));
                }
            }
            assert!(self.tries.iter().all(|tries| *tries <= ATTEMPTS));
            effects
        };
        self.account(&effects);
    }

    fn bury_one(&mut self) {
        if self.letters.is_empty() {
            return;
        }
        let (id, change) = self.letters.swap_remove(self.rng.usize(0..self.letters.len()));
        self.arrive(change);
        let effects = self.lanes.dead_letter_written(id);
        self.account(&effects);
    }

    fn arrive(&mut self, change: usize) {
        assert!(self.done.insert(change), "{change} arrives twice");
        *self.arrived.entry(self.tickets[change]).or_default() += 1;
    }

    /// Handled is exactly what was delivered or is kept as a dead letter.
    fn account(&mut self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Handled { ticket, count } = effect {
                *self.handled.entry(*ticket).or_default() += count;
            }
        }
        assert_eq!(self.handled, self.arrived);
        assert_eq!(self.lanes.waiting().changes, self.changes.len() - self.done.len());
    }

    fn run(mut self) {
        for ticket in 1..15 {
            self.push_transaction(ticket);
            for _ in 0..self.rng.u8(0..12) {
                match self.rng.u8(0..8) {
                    0..=2 => while self.take() && self.rng.bool() {},
                    3..=5 => self.finish_one(false),
                    6 => self.bury_one(),
                    _ => self.now += Duration::from_millis(self.rng.u64(0..300)),
                }
            }
        }
        // From here on the sink takes all that it ever takes.
        for _ in 0..10_000 {
            if self.done.len() == self.changes.len() {
                assert_eq!(self.lanes.waiting(), Waiting::default());
                return;
            }
            let took = self.take();
            let moved = took || !self.under_way.is_empty() || !self.letters.is_empty();
            self.finish_one(true);
            self.bury_one();
            if !moved {
                let wake = self.lanes.next_wake(self.now).expect("something to wait for");
                assert!(wake > self.now, "it would wait in circles");
                self.now = wake;
            }
        }
        panic!("it does not come to an end");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn per_key_nothing_is_lost_doubled_overtaken_or_handled_too_early(seed: u64, parallel in 1_usize..6) {
        World::new(Order::PerKey { parallel }, seed).run();
    }

    #[test]
    fn in_total_order_nothing_is_lost_doubled_overtaken_or_handled_too_early(seed: u64) {
        World::new(Order::Total, seed).run();
    }
}
