//! Thousands of random steps: nothing is lost, nothing is too many, nobody shares.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::super::{ServerIdentity, Use};
use super::*;

const SEEDS: u64 = 40;
const STEPS: usize = 1_500;
const WORKERS: usize = 3;

type Pending = Pin<Box<dyn Future<Output = Result<Box<Server>, PoolError>>>>;

struct Schedule {
    random: fastrand::Rng,
    pool: Arc<Pool>,
    fake: Arc<Fake>,
    pending: Vec<Pending>,
    leases: Vec<Lease>,
    /// Connections some cancel request is under way for.
    cancelled: Vec<Arc<ServerIdentity>>,
    /// Ended by the server: what we did with them cannot be seen from its end.
    broken: HashSet<usize>,
    now: u64,
    /// The most there may be: the size, or what there was when it shrank.
    most: usize,
    served: usize,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut rules = rules(random.usize(1..=5), random.usize(0..12));
        rules.pool.server_check_delay = Duration::from_secs(1 << 30);
        rules.pool.server_idle_timeout = Duration::from_millis(random.u64(200..20_000));
        rules.pool.server_lifetime = Duration::from_millis(random.u64(2_000..50_000));
        let most = rules.pool.size;
        let (pool, fake) = pool_with(rules);
        Self {
            random,
            pool,
            fake,
            pending: Vec::new(),
            leases: Vec::new(),
            cancelled: Vec::new(),
            broken: HashSet::new(),
            now: 0,
            most,
            served: 0,
        }
    }

    fn pick<T>(&mut self, of: fn(&mut Self) -> &mut Vec<T>) -> Option<T> {
        let count = of(self).len();
        (count > 0).then(|| {
            let place = self.random.usize(..count);
            of(self).swap_remove(place)
        })
    }

    async fn step(&mut self) {
        let worker = self.random.usize(..WORKERS);
        match self.random.u32(..100) {
            0..25 => self.ask(worker),
            25..35 => {
                if let Some(server) = self.pool.idle(worker, plain(), self.now) {
                    self.lease(server);
                }
            }
            35..55 => {
                if let Some(lease) = self.pick(|this| &mut this.leases) {
                    lease.give_back(worker, self.now);
                }
            }
            55..60 => drop(self.pick(|this| &mut this.leases)),
            60..63 => {
                if let Some(mut lease) = self.pick(|this| &mut this.leases) {
                    lease.server.dirty = true;
                    lease.give_back(worker, self.now);
                }
            }
            63..70 => drop(self.pick(|this| &mut this.pending)),
            70..76 => {
                let opened = self.fake.opened();
                if opened > 0 {
                    let process = self.random.usize(1..=opened);
                    self.broken.insert(process);
                    let _closed_already = std::panic::catch_unwind(|| self.fake.breaks(process));
                }
            }
            76..78 => {
                if let Some(lease) = self.leases.first() {
                    lease.server.identity.cancelling(true);
                    self.cancelled.push(Arc::clone(&lease.server.identity));
                }
            }
            78..85 => {
                if let Some(identity) = self.pick(|this| &mut this.cancelled) {
                    identity.cancelling(false);
                }
            }
            85..90 => self.pool.sweep(self.now),
            90..91 => self.pool.sever(self.random.bool()),
            91..93 => self.pool.pause(self.random.u32(..5) == 0),
            93..94 => {
                let size = self.random.usize(1..=5);
                self.most = self.most.max(size);
                self.pool.change(|state, todo| {
                    state.limits.size = size;
                    state.pump(todo);
                });
            }
            94..95 => self.fake.down.store(self.random.u32(..4) == 0, Ordering::SeqCst),
            95..96 => self.fake.delay.store(self.random.u64(..30), Ordering::SeqCst),
            _ => self.passes(300).await,
        }
        if self.random.u32(..3) == 0 {
            settle().await;
            self.passes(10).await;
        }
        self.poll();
    }

    /// Time passes, less than so many milliseconds.
    async fn passes(&mut self, most: u64) {
        let millis = self.random.u64(..most);
        self.now += millis;
        tokio::time::advance(Duration::from_millis(millis)).await;
    }

    fn ask(&mut self, worker: usize) {
        let (pool, now) = (Arc::clone(&self.pool), self.now);
        let deadline = Instant::now() + Duration::from_millis(self.random.u64(..2000));
        self.pending.push(Box::pin(async move { pool.take(worker, plain(), now, deadline).await }));
    }

    fn poll(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut got = Vec::new();
        self.pending.retain_mut(|future| match future.as_mut().poll(&mut cx) {
            Poll::Pending => true,
            Poll::Ready(answer) => {
                got.extend(answer.ok());
                false
            }
        });
        got.into_iter().for_each(|server| self.lease(server));
    }

    fn lease(&mut self, server: Box<Server>) {
        let id = server.identity.id;
        assert!(self.leases.iter().all(|lease| lease.server.identity.id != id), "{id} twice");
        self.served += 1;
        let writer = self.random.bool();
        self.leases.push(Lease::new(server, Arc::clone(&self.pool), 0, writer));
    }

    /// What must hold after every step.
    fn check(&mut self) {
        let state = self.pool.lock();
        assert_eq!(state.slots, state.known.len() + state.opening, "a slot was lost or won");
        assert!(state.slots <= self.most, "{} of {}", state.slots, self.most);
        self.most = state.slots.max(state.limits.size);
        let with_somebody = state.known.len() - state.idle.len() - state.parked.len();
        let on_the_way = with_somebody.checked_sub(self.leases.len());
        assert!(
            on_the_way.is_some_and(|count| count <= self.pending.len()),
            "a connection is lost"
        );
        assert!(state.paused || state.idle.len() == 0 || state.queue.is_empty(), "waits in vain");
        let known: HashMap<usize, Use> = state
            .known
            .values()
            .map(|identity| {
                (usize::try_from(identity.backend.unwrap().0).unwrap(), identity.doing())
            })
            .collect();
        let served_by_nobody = !state.queue.is_empty()
            && state.opening == 0
            && !state.paused
            && state.slots < state.limits.size
            && state.failing.is_none();
        assert!(!served_by_nobody, "somebody waits, there is room, and nothing is opened");
        drop(state);
        for process in 1..=self.fake.opened() {
            if self.broken.contains(&process) {
                continue;
            }
            let doing = known.get(&process);
            if self.fake.closed(process) {
                assert_ne!(doing, Some(&Use::Idle), "{process} is closed and will be handed out");
                // One that was severed is closed before whoever has it lets go of it.
                self.broken.insert(process);
            } else {
                assert!(doing.is_some(), "{process} is open and nobody knows it");
            }
        }
    }

    /// Everything ends well.
    async fn end(mut self) -> usize {
        self.fake.down.store(false, Ordering::SeqCst);
        self.cancelled.drain(..).for_each(|identity| identity.cancelling(false));
        self.pool.pause(false);
        for _ in 0..100 {
            self.leases.drain(..).for_each(|lease| lease.give_back(0, self.now));
            tokio::time::advance(Duration::from_millis(50)).await;
            settle().await;
            self.poll();
            self.check();
        }
        assert!(self.pending.is_empty(), "everybody got an answer");
        let counts = self.pool.counts();
        assert_eq!((counts.waiting, counts.opening, counts.active), (0, 0, 0));
        assert_eq!(self.pool.lock().parked.len(), 0);
        self.pool.sweep(u64::MAX);
        self.check();
        assert!(self.pool.is_empty());
        self.served
    }
}

#[test]
fn random_schedules_lose_nothing_and_share_nothing() {
    let mut served = 0;
    for seed in 0..SEEDS {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        let run = std::panic::AssertUnwindSafe(|| {
            runtime.block_on(async {
                let mut schedule = Schedule::new(seed);
                for _ in 0..STEPS {
                    schedule.step().await;
                    schedule.check();
                }
                schedule.end().await
            })
        });
        match std::panic::catch_unwind(run) {
            Ok(count) => served += count,
            Err(_) => panic!("seed {seed} shows it"),
        }
    }
    assert!(
        served > 5_000,
        "only {served} were served: the steps are not what they were meant to be"
    );
}
