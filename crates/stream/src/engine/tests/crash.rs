//! Crashes at any moment: of us, while sinks are slow, fail, and lose answers.
//!
//! What survives a crash is what a machine would keep: the server with what it was told, the state folder, and what the
//! sinks had taken. All else is new.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;

use async_trait::async_trait;
use fastrand::Rng;
use proptest::prelude::*;

use super::script::Story;
use super::sinks::error;
use super::*;
use crate::lanes::Behind;
use crate::lanes::fixture::{delete, truncate, update};
use crate::sink::{Batch, DeliveryError, SinkError, Undelivered, Why};

/// Commit position and number within the transaction.
type Id = (Lsn, u64);

type Taken = Vec<(usize, Arc<Change>)>;

/// A sink that fails at random, and checks what it is promised.
#[derive(Clone)]
struct Unreliable {
    name: &'static str,
    order: Order,
    exactly_once: bool,
    poison: Arc<BTreeSet<Id>>,
    rng: Arc<Mutex<Rng>>,
    /// Survives crashes: what it took, with the life in which it did.
    taken: Arc<Mutex<Taken>>,
    position: Arc<Mutex<Option<Position>>>,
    life: usize,
    under_way: Arc<Mutex<Vec<Arc<Batch>>>>,
}

impl Unreliable {
    fn new(name: &'static str, order: Order, poison: &Arc<BTreeSet<Id>>, rng: &mut Rng) -> Self {
        Self {
            name,
            order,
            exactly_once: name == "exact",
            poison: Arc::clone(poison),
            rng: Arc::new(Mutex::new(rng.fork())),
            taken: Arc::default(),
            position: Arc::default(),
            life: 0,
            under_way: Arc::default(),
        }
    }

    /// The same sink after a crash.
    fn next_life(&mut self) {
        self.life += 1;
        self.under_way = Arc::default();
    }

    fn luck(&self) -> u8 {
        self.rng.lock().unwrap().u8(..)
    }

    fn has(&self) -> BTreeSet<Id> {
        self.taken.lock().unwrap().iter().map(|(_, change)| change.view().id()).collect()
    }

    /// No two batches under way may hold changes of the same row.
    fn enter(&self, batch: &Arc<Batch>) {
        let mut under_way = self.under_way.lock().unwrap();
        assert!(self.order != Order::Total || under_way.is_empty());
        for other in under_way.iter() {
            let mut behind = Behind::default();
            other.changes.iter().for_each(|change| behind.add(change));
            let clash = batch.changes.iter().any(|change| behind.holds_back(change));
            assert!(!clash, "{}: one row in two batches", self.name);
        }
        under_way.push(Arc::clone(batch));
    }

    fn take_what_it_takes(&self, batch: &Batch) -> Result<(), DeliveryError> {
        let grumpy = self.luck() < 30;
        let mut behind = Behind::default();
        let mut undelivered = Vec::new();
        let mut taken = self.taken.lock().unwrap();
        for (index, change) in batch.changes.iter().enumerate() {
            let stuck = self.order == Order::Total && !undelivered.is_empty();
            let why = if stuck || behind.holds_back(change) {
                Why::Behind
            } else if self.poison.contains(&change.view().id()) || (grumpy && self.luck() < 40) {
                Why::Failed(error())
            } else {
                taken.push((self.life, Arc::clone(change)));
                if self.exactly_once {
                    let (commit_lsn, ordinal) = change.view().id();
                    let position = Position { commit_lsn, changes: ordinal + 1 };
                    *self.position.lock().unwrap() = Some(position);
                }
                continue;
            };
            behind.add(change);
            undelivered.push(Undelivered { index, why });
        }
        if undelivered.is_empty() {
            if self.exactly_once {
                *self.position.lock().unwrap() = batch.position;
            }
            return Ok(());
        }
        Err(DeliveryError::Partly(undelivered))
    }
}

#[async_trait]
impl Sink for Unreliable {
    async fn open(&self) -> Result<Option<Position>, SinkError> {
        if self.luck() < 20 {
            return Err(error());
        }
        Ok(if self.exactly_once { *self.position.lock().unwrap() } else { None })
    }

    async fn deliver(&self, batch: &Batch) -> Result<(), DeliveryError> {
        let batch = Arc::new(batch.clone());
        self.enter(&batch);
        let pause = Duration::from_millis(u64::from(self.luck()) / 8);
        tokio::time::sleep(pause).await;
        self.under_way.lock().unwrap().retain(|other| !Arc::ptr_eq(other, &batch));
        if self.luck() < 15 {
            return Err(DeliveryError::Unavailable(error()));
        }
        self.take_what_it_takes(&batch)?;
        // Sometimes the answer is lost.
        if self.exactly_once && self.luck() < 15 {
            return Err(DeliveryError::Unavailable(error()));
        }
        Ok(())
    }

    fn order(&self) -> Order {
        self.order
    }
}

fn story(rng: &mut Rng) -> Story {
    let tables = [table("one"), table("two")];
    let mut story = Vec::new();
    for number in 1..rng.u64(3..12) {
        let tx = transaction(number * 100);
        let mut changes = Vec::new();
        for ordinal in 0..rng.u64(0..7) {
            let table = &tables[rng.usize(0..2)];
            let (one, other) = (rng.u8(0..4).to_string(), rng.u8(0..4).to_string());
            changes.push(match rng.u8(0..12) {
                0 => truncate(&tx, ordinal, std::slice::from_ref(table)),
                1..=3 => update(&tx, ordinal, table, Some(&one), &other),
                4 | 5 => delete(&tx, ordinal, table, &one),
                _ => insert(&tx, ordinal, table, &one),
            });
        }
        story.push((tx, changes));
    }
    story
}

fn engine(folder: &Path, sinks: &[Unreliable]) -> Engine {
    let boxed = sinks.iter().map(|sink| {
        let boxed: Arc<dyn Sink> = Arc::new(sink.clone());
        (sink.name.to_owned(), boxed)
    });
    // A save that was under way at the crash holds the folder a moment longer.
    let checkpoint = (0..1000).find_map(|_| {
        std::thread::sleep(Duration::from_millis(1));
        Checkpoint::open(folder).ok()
    });
    let pauses = (Duration::from_millis(10), Duration::from_millis(80));
    Engine::new(Parts {
        sinks: boxed.collect(),
        batch: BatchConfig { changes: 5, bytes: 1 << 20, queue_bytes: 4000 },
        retry: RetryConfig { attempts: 4, pause: pauses.0, longest_pause: pauses.1 },
        checkpoint: Some(checkpoint.expect("the folder to be free")),
        dead_letters: Some(DeadLetters::open(folder).unwrap()),
        ..Parts::default()
    })
}

/// What is acknowledged is with every sink, or kept as its dead letter.
fn watch_acknowledgements(server: &Server, story: &Story, sinks: &[Unreliable], folder: &Path) {
    let (story, sinks, folder) = (story.clone(), sinks.to_vec(), folder.to_owned());
    server.on_acknowledge(move |lsn| {
        let letters = DeadLetters::open(&folder).unwrap().list().unwrap();
        for sink in &sinks {
            let mut has = sink.has();
            let dead = letters.iter().filter(|letter| letter.sink == sink.name);
            has.extend(dead.map(|letter| letter.change.view().id()));
            for (tx, changes) in story.iter().filter(|(tx, _)| script::end_of(tx) <= lsn) {
                let missing = changes.iter().find(|change| !has.contains(&change.view().id()));
                assert!(missing.is_none(), "{}: {} acknowledged", sink.name, tx.commit_lsn);
            }
        }
    });
}

/// Each life took the changes of each row in their order, and left none out.
fn check_order(sink: &Unreliable, story: &Story, dead: &BTreeSet<Id>) {
    let all: Vec<_> = story.iter().flat_map(|(_, changes)| changes).collect();
    let taken = sink.taken.lock().unwrap().clone();
    for (at, (life, change)) in taken.iter().enumerate() {
        let before: BTreeSet<_> = taken[..at].iter().map(|(_, c)| c.view().id()).collect();
        let after_in_life = taken[..at].iter().filter(|(l, _)| l == life).map(|(_, c)| c);
        let mut mine = Behind::default();
        mine.add(change);
        for earlier in all.iter().filter(|c| c.view().id() < change.view().id()) {
            let id = earlier.view().id();
            let related = sink.order == Order::Total || mine.holds_back(earlier);
            assert!(
                !related || before.contains(&id) || dead.contains(&id),
                "{}: {:?} came before {id:?}",
                sink.name,
                change.view().id()
            );
        }
        for later in after_in_life.filter(|c| c.view().id() > change.view().id()) {
            let related = sink.order == Order::Total || mine.holds_back(later);
            assert!(!related, "{}: {:?} came after a later one", sink.name, change.view().id());
        }
    }
}

async fn tell(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let story = story(&mut rng);
    let ids: Vec<_> =
        story.iter().flat_map(|(_, changes)| changes).map(|change| change.view().id()).collect();
    let poison: Arc<BTreeSet<Id>> =
        Arc::new(ids.iter().copied().filter(|_| rng.u8(..) < 12).collect());
    let mut sinks = vec![
        Unreliable::new("total", Order::Total, &poison, &mut rng),
        Unreliable::new("keys", Order::PerKey { parallel: 3 }, &poison, &mut rng),
        Unreliable::new("exact", Order::Total, &poison, &mut rng),
    ];
    let server = Server::new(story.clone());
    watch_acknowledgements(&server, &story, &sinks, folder.path());
    // For each sink and life: what was acknowledged when it began.
    let mut acknowledged = vec![Lsn(0)];
    for _ in 0..rng.usize(0..5) {
        let mut engine = engine(folder.path(), &sinks);
        let mut events = Script::new(&server);
        let life = Duration::from_millis(rng.u64(0..400));
        let _crashed = timeout(life, engine.run(&mut events, CancellationToken::new())).await;
        drop(engine);
        sinks.iter_mut().for_each(Unreliable::next_life);
        acknowledged.push(server.acknowledged());
    }
    let mut engine = engine(folder.path(), &sinks);
    let end = run_to_end(&mut engine, &server).await.unwrap();
    let last = story.last().map(|(tx, _)| script::end_of(tx)).unwrap_or_default();
    assert!(end.undelivered == 0 && server.acknowledged() >= last);

    let letters = DeadLetters::open(folder.path()).unwrap().list().unwrap();
    for sink in &sinks {
        let mut dead = BTreeMap::new();
        for letter in letters.iter().filter(|letter| letter.sink == sink.name) {
            assert_eq!(letter.attempts, 4);
            assert!(dead.insert(letter.change.view().id(), ()).is_none(), "kept twice");
        }
        let dead: BTreeSet<_> = dead.into_keys().collect();
        let mut all = sink.has();
        all.extend(&dead);
        assert!(ids.iter().all(|id| all.contains(id)), "{}: a change is missing", sink.name);
        assert!(poison.is_subset(&dead));
        check_order(sink, &story, &dead);
        let taken = sink.taken.lock().unwrap().clone();
        let mut seen = BTreeSet::new();
        for (life, change) in taken {
            let (id, end) = (change.view().id(), script::end_of(&change.transaction));
            let again = !seen.insert(id);
            assert!(!(again && sink.exactly_once), "{id:?} came twice");
            assert!(!again || end > acknowledged[life], "{id:?} was acknowledged and came again");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn nothing_is_lost_and_only_what_was_not_acknowledged_comes_again(seed: u64) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(tell(seed));
    }
}
