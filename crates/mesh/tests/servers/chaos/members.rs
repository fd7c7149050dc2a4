//! Members come and go while everybody writes and nodes, links and the engine fail: a command that fails with them is given
//! again until it is through.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use herdsman_mesh::verify::Verdict;
use herdsman_mesh::{MeshError, join, leave};
use herdsman_sandbox::Sandbox;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::proof::{DEADLINE, name, report, seed, soak};
use crate::world::World;

/// Servers; three of them are members in the beginning.
const SERVERS: usize = 4;
/// Of the mesh at the least.
const FEWEST: usize = 2;

pub(super) async fn come_and_go(major: u32) {
    let seed = seed();
    let lasts = Duration::from_secs(if soak() { 600 } else { 10 });
    let mut random = fastrand::Rng::with_seed(seed);
    let mut chaos = Chaos::start(major).await;
    let until = Instant::now() + lasts;
    // Each at least once.
    while Instant::now() < until || chaos.added == 0 || chaos.removed == 0 {
        chaos.one(&mut random).await;
    }
    let Chaos { mut world, writers, added, removed, again, called_off, faults, story, .. } = chaos;
    let mut written = Vec::new();
    for writer in writers.into_values() {
        written.extend(writer.end().await);
    }
    let told = world.verify().await;
    assert!(
        told.verdict == Verdict::Equal,
        "HERDSMAN_SEED={seed} on {major}: {told:#?}\n{story:#?}"
    );
    for member in &world.members {
        let lacking = lacking(&world, member, &written).await;
        assert!(
            lacking.is_empty(),
            "HERDSMAN_SEED={seed} on {major}: of {} rows {member} lacks {}, such as {:?}\n{story:#?}",
            written.len(),
            lacking.len(),
            lacking.iter().take(5).collect::<Vec<_>>()
        );
    }
    world.stop_engine().await;
    report(&format!(
        "mesh members in chaos on {major}, {} s, HERDSMAN_SEED={seed}: {added} added, {removed} removed, {called_off} removals called off, {again} commands given again, {faults:?}; {} rows written, all there",
        lasts.as_secs(),
        written.len()
    ));
}

/// Rows that are not there: id, and when they were written.
async fn lacking(world: &World, member: &str, written: &Written) -> Written {
    let client = world.app(member).await;
    let rows = client.query("SELECT id FROM log", &[]).await.unwrap();
    let there: BTreeSet<&str> = rows.iter().map(|row| row.get(0)).collect();
    written.iter().filter(|(id, _)| !there.contains(id.as_str())).cloned().collect()
}

/// Rows of `log` that were acknowledged, and when.
type Written = Vec<(String, Duration)>;

struct Chaos {
    world: World,
    writers: BTreeMap<String, Writer>,
    added: u32,
    removed: u32,
    /// Commands that failed and were given again.
    again: u32,
    /// Removals that were begun and called off.
    called_off: u32,
    faults: BTreeMap<&'static str, u32>,
    /// What was done, and when.
    story: Vec<(Duration, String)>,
    begun: Instant,
}

impl Chaos {
    async fn start(major: u32) -> Self {
        let world = World::start(vec![major; SERVERS], 3, 2000).await;
        let mut chaos = Self {
            world,
            writers: BTreeMap::new(),
            added: 0,
            removed: 0,
            again: 0,
            called_off: 0,
            faults: BTreeMap::new(),
            story: Vec::new(),
            begun: Instant::now(),
        };
        for node in chaos.world.members.clone() {
            chaos.write(&node);
        }
        chaos
    }

    fn tell(&mut self, what: String) {
        self.story.push((self.begun.elapsed(), what));
    }

    fn write(&mut self, node: &str) {
        self.writers.insert(node.to_owned(), Writer::start(&self.world.sandbox, node, self.begun));
    }

    async fn one(&mut self, random: &mut fastrand::Rng) {
        let members = self.world.members.clone();
        let mut others = self.world.sandbox.node_names();
        others.retain(|node| !members.contains(node));
        match random.u32(..4) {
            0 if members.len() > FEWEST => {
                let node = members[random.usize(..members.len())].clone();
                self.remove(&node, random).await;
            }
            1 if !others.is_empty() => self.add(&others[0], random).await,
            _ => self.fault(random).await,
        }
        sleep(Duration::from_millis(random.u64(100..600))).await;
    }

    /// Adds a node while something fails.
    async fn add(&mut self, node: &str, random: &mut fastrand::Rng) {
        let setup = Arc::new(self.world.setup());
        let options = join::Options { patience: DEADLINE, ..join::Options::default() };
        let node_name = name(node);
        let add = move || {
            let (setup, node, options) = (Arc::clone(&setup), node_name.clone(), options.clone());
            async move { join::add(&setup, &node, &options, |_| {}).await.map(drop) }
        };
        self.tell(format!("add {node}"));
        self.through(add, random).await;
        self.tell(format!("{node} added"));
        self.world.members.push(node.to_owned());
        self.added += 1;
        self.write(node);
    }

    /// Removes a node that is written until it refuses, while something fails; sometimes the command is lost on the way, and
    /// then perhaps the removal is called off.
    async fn remove(&mut self, node: &str, random: &mut fastrand::Rng) {
        let setup = Arc::new(self.world.setup());
        let options = leave::Options { patience: DEADLINE, ..leave::Options::default() };
        let node_name = name(node);
        self.writers[node].leaves();
        let remove = move || {
            let (setup, node, options) = (Arc::clone(&setup), node_name.clone(), options.clone());
            async move {
                match leave::remove(&setup, &node, &options, |_| {}).await {
                    // One that was lost, or failed, had done it all.
                    Err(error) if error.to_string().contains("is no member") => Ok(()),
                    outcome => outcome.map(drop),
                }
            }
        };
        self.tell(format!("remove {node}"));
        if random.bool() {
            let lost = tokio::spawn(remove());
            sleep(Duration::from_millis(random.u64(..2_000))).await;
            lost.abort();
            drop(lost.await);
            if random.bool() && self.call_off(node).await {
                return;
            }
        }
        self.through(remove, random).await;
        self.tell(format!("{node} removed"));
        self.world.members.retain(|member| member != node);
        self.removed += 1;
        self.writer_ends(node).await;
        // What it holds is its own; a node that joins has to be empty.
        let client = self.world.app(node).await;
        client.batch_execute("DROP TABLE old, log, acc").await.unwrap();
    }

    /// What it has written counts, and it does not come back.
    async fn writer_ends(&mut self, node: &str) {
        let writer = self.writers.remove(node).unwrap();
        let ended = Writer::ended(node, writer.end().await);
        self.writers.insert(format!("{node} {}", self.writers.len()), ended);
    }

    /// Whether it stays.
    async fn call_off(&mut self, node: &str) -> bool {
        let (setup, node_name) = (Arc::new(self.world.setup()), name(node));
        let deadline = Instant::now() + DEADLINE * 2;
        while let Err(error) = leave::cancel(&setup, &node_name, |_| {}).await {
            let told = error.to_string();
            if told.contains("has left") {
                return false;
            }
            if told.contains("does not leave") {
                break;
            }
            assert!(Instant::now() < deadline, "{error}");
            self.tell(format!("not called off: {error}"));
            sleep(Duration::from_millis(300)).await;
        }
        self.tell(format!("{node} stays"));
        self.called_off += 1;
        self.writer_ends(node).await;
        self.write(node);
        true
    }

    /// Runs a command with a failure meanwhile, and again if it failed with it.
    async fn through<F>(&mut self, command: impl Fn() -> F, random: &mut fastrand::Rng)
    where
        F: Future<Output = Result<(), MeshError>> + Send + 'static,
    {
        let deadline = Instant::now() + DEADLINE * 2;
        let first = tokio::spawn(command());
        sleep(Duration::from_millis(random.u64(..800))).await;
        self.fault(random).await;
        let mut outcome = timeout(DEADLINE * 2, first).await.expect("it ends").unwrap();
        while let Err(error) = outcome {
            assert!(Instant::now() < deadline, "{error}");
            self.again += 1;
            self.tell(format!("failed: {error}"));
            sleep(Duration::from_millis(300)).await;
            outcome = timeout(DEADLINE * 2, command()).await.expect("it ends");
        }
    }

    async fn fault(&mut self, random: &mut fastrand::Rng) {
        let nodes = self.world.sandbox.node_names();
        let node = &nodes[random.usize(..nodes.len())];
        let a_while = Duration::from_millis(random.u64(200..1_500));
        let sandbox = Arc::clone(&self.world.sandbox);
        let begun = self.begun.elapsed();
        let what = match random.u32(..5) {
            0 | 1 => {
                sandbox.kill(node).await.unwrap();
                sleep(a_while).await;
                sandbox.start(node).await.unwrap();
                "killed"
            }
            2 => {
                sandbox.freeze(node).await.unwrap();
                sleep(a_while).await;
                sandbox.thaw(node).await.unwrap();
                "frozen"
            }
            3 => {
                sandbox.cut_off(node).unwrap();
                sleep(a_while).await;
                sandbox.heal();
                "cut off"
            }
            _ => {
                self.world.drop_engine();
                sleep(a_while / 4).await;
                self.world.start_engine();
                "engine killed"
            }
        };
        self.story.push((begun, format!("{node} {what} until {:?}", self.begun.elapsed())));
        *self.faults.entry(what).or_default() += 1;
    }
}

/// An application on one node, which comes back whenever its node does.
struct Writer {
    stop: Arc<AtomicBool>,
    leaves: Arc<AtomicBool>,
    task: JoinHandle<Written>,
}

impl Writer {
    fn start(sandbox: &Arc<Sandbox>, node: &str, begun: Instant) -> Self {
        let (stop, leaves) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let writing = write(
            Arc::clone(sandbox),
            node.to_owned(),
            Arc::clone(&stop),
            Arc::clone(&leaves),
            begun,
        );
        Self { stop, leaves, task: tokio::spawn(writing) }
    }

    /// One that has written these rows.
    fn ended(node: &str, written: Written) -> Self {
        assert!(written.iter().all(|(id, _)| id.starts_with(node)));
        let ended = Arc::new(AtomicBool::new(true));
        Self { stop: Arc::clone(&ended), leaves: ended, task: tokio::spawn(async { written }) }
    }

    /// Its node is taken out: once it is refused, or not there, it does not come back.
    fn leaves(&self) {
        self.leaves.store(true, Ordering::Relaxed);
    }

    /// The ids of rows of `log` that were acknowledged.
    async fn end(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        timeout(DEADLINE, self.task).await.expect("the writer ends").unwrap()
    }
}

async fn write(
    sandbox: Arc<Sandbox>,
    node: String,
    stop: Arc<AtomicBool>,
    leaves: Arc<AtomicBool>,
    since: Instant,
) -> Written {
    let (mut random, mut done) = (fastrand::Rng::new(), Vec::new());
    let run = random.u64(..);
    let mut number = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        let client = match sandbox.sql(&node, "app").await {
            Ok(client) => client,
            Err(_) if leaves.load(Ordering::Relaxed) => break,
            Err(_) => {
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            let id = format!("{node}-{run}-{number}");
            let (key, old) = (random.u32(0..60), random.u32(1..2000));
            let other = match random.u32(0..6) {
                0 => format!("DELETE FROM acc WHERE id = {key}"),
                1 => format!("DELETE FROM old WHERE id = {old}"),
                2 => format!("UPDATE old SET a = '{id}' WHERE id BETWEEN {old} AND {old} + 3"),
                _ => format!(
                    "INSERT INTO acc AS a VALUES ({key}, '{id}') ON CONFLICT (id) DO UPDATE SET v = excluded.v, n = a.n + 1"
                ),
            };
            let both = format!("BEGIN; INSERT INTO log VALUES ('{id}', {number}); {other}; COMMIT");
            match timeout(DEADLINE, client.batch_execute(&both)).await {
                Ok(Ok(())) => done.push((id, since.elapsed())),
                _ if leaves.load(Ordering::Relaxed) => return done,
                // Two may make the same key at the same moment; else the session is gone.
                _ if client.batch_execute("ROLLBACK").await.is_err() => break,
                _ => {}
            }
            sleep(Duration::from_millis(3)).await;
        }
    }
    done
}
