//! Random writes on every node at once, with links held at random: afterwards every node holds the same, and every
//! acknowledged write is there, was overwritten by somebody who knew it, or is in a conflict record.
//!
//! `HERDSMAN_SEED` replays the choices of a run (what the servers make of them depends on their timing too),
//! `HERDSMAN_SOAK=1` makes it 34 runs for each set of versions.

pub(crate) mod judge;
pub(crate) mod ledger;
pub(crate) mod writer;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use self::judge::{Findings, judge};
use self::ledger::Ledger;
use self::writer::Writer;
use crate::proof::{Mesh, mixed, report, seed, soak, three_of};

/// One key of one column, with a large value; and one of two, of which one is text.
pub(crate) const TABLES: &str = "
    CREATE TABLE plain (id int PRIMARY KEY, val text NOT NULL, n bigint NOT NULL DEFAULT 0, big text);
    ALTER TABLE plain ALTER big SET STORAGE EXTERNAL;
    CREATE TABLE pair (a text, b int, n bigint NOT NULL DEFAULT 0, val text NOT NULL, PRIMARY KEY (a, b));
";

/// A table of the fuzz.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// An expression that is a key's text.
    pub(crate) shown: &'static str,
    /// Its key columns.
    pub(crate) key: &'static str,
    pub(crate) large: bool,
}

pub(crate) const TABLE: [Table; 2] = [
    Table { name: "plain", shown: "id", key: "id", large: true },
    Table { name: "pair", shown: "b", key: "a, b", large: false },
];

/// How a run goes.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) seed: u64,
    pub(crate) keys: u32,
    pub(crate) writers_per_node: usize,
    pub(crate) lasts: Duration,
    /// Of how many transactions one is a TRUNCATE; 0 for none.
    pub(crate) truncate_every: u32,
    pub(crate) holds: bool,
}

impl Run {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        Self {
            seed,
            keys: random.u32(30..=100),
            writers_per_node: 2,
            lasts: Duration::from_millis(random.u64(3_000..5_000)),
            truncate_every: if random.bool() { 150 } else { 0 },
            holds: true,
        }
    }
}

/// One run, and what was found wrong after it.
pub(crate) async fn run(mesh: &Arc<Mesh>, run: &Run) -> Findings {
    let ledger = Arc::new(Ledger::default());
    ledger.begin(mesh).await;
    let until = Instant::now() + run.lasts;
    let mut tasks = Vec::new();
    let mut random = fastrand::Rng::with_seed(run.seed);
    for node in mesh.nodes() {
        for number in 0..run.writers_per_node {
            let writer = Writer::new(mesh, &ledger, run, &node, number, random.u64(..));
            tasks.push(tokio::spawn(writer.write(until)));
        }
    }
    if run.holds {
        hold_at_random(mesh, fastrand::Rng::with_seed(random.u64(..)), until).await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    mesh.settle().await;
    judge(mesh, &ledger).await
}

/// Holds links for a while, one to four at once, each node's look at itself among them.
pub(crate) async fn hold_at_random(mesh: &Mesh, mut random: fastrand::Rng, until: Instant) {
    let nodes = mesh.nodes();
    while Instant::now() < until {
        for _ in 0..random.usize(1..=4) {
            let (source, target) = (random.usize(..nodes.len()), random.usize(..nodes.len()));
            mesh.hold(&nodes[source], &nodes[target]);
        }
        sleep(Duration::from_millis(random.u64(100..900))).await;
        if random.u32(..3) > 0 {
            mesh.release_all();
            sleep(Duration::from_millis(random.u64(0..300))).await;
        }
    }
}

/// With lanes many small transactions of the members go at once, where they have no key in common.
async fn fuzz(majors: Option<Vec<u32>>, lanes: usize) {
    let Some(majors) = majors else { return };
    let runs = match std::env::var("HERDSMAN_FUZZ_RUNS").ok().and_then(|runs| runs.parse().ok()) {
        Some(runs) => runs,
        None if soak() => 34,
        None => 2,
    };
    let first = seed();
    let mesh = Mesh::start_with(majors.clone(), TABLES, |config| {
        config.lanes = lanes;
        if lanes > 1 {
            config.batch.rows = 4;
        }
    });
    let mesh = Arc::new(mesh.await);
    let mut all = Findings::default();
    for number in 0..runs {
        let plan = Run::new(first + number);
        let found = run(&mesh, &plan).await;
        assert!(
            found.problems.is_empty(),
            "HERDSMAN_SEED={} on {majors:?}: {found:#?}\n{plan:?}",
            plan.seed
        );
        all.add(&found);
    }
    let mut used = 0;
    for node in mesh.nodes() {
        let noted = mesh.ask(&node, "SELECT count(*) FROM herdsman.lanes").await.unwrap();
        used += usize::from(noted != "0");
    }
    // Whether lots come that have no key in common is chance where runs are few; that such lots use lanes, `apply::lanes` shows.
    assert!(lanes > 1 || used == 0, "{lanes} lanes, and {used} nodes have used them");
    assert!(!soak() || lanes == 1 || used > 0, "{lanes} lanes, and nobody has ever used them");
    report(&format!(
        "mesh fuzz on {majors:?}, {lanes} lanes: {runs} runs from HERDSMAN_SEED={first}: {}",
        all.figures()
    ));
    assert!(all.conflicts > 0, "nobody ever wrote the same key at once: {}", all.figures());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_writes_end_alike_on_15() {
    fuzz(three_of(15), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_writes_end_alike_on_18() {
    fuzz(three_of(18), 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_writes_end_alike_on_a_mix_of_versions() {
    fuzz(mixed(), 4).await;
}
