//! `mesh ddl` meanwhile: whatever becomes of a job, it is done on all nodes or on none, and it is not in the next one's way.

use std::sync::Arc;
use std::time::Duration;

use herdsman_mesh::ddl::{self, Options, Progress};
use herdsman_mesh::{MeshError, verify};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use crate::proof::{DEADLINE, Mesh};

/// One job each, in any order and as often as it comes.
const CHANGES: [&str; 9] = [
    "ALTER TABLE plain ADD COLUMN IF NOT EXISTS extra text NOT NULL DEFAULT 'none'",
    "ALTER TABLE plain DROP COLUMN IF EXISTS extra",
    "ALTER TABLE pair ADD COLUMN IF NOT EXISTS extra int DEFAULT 7",
    "ALTER TABLE pair DROP COLUMN IF EXISTS extra",
    "ALTER TABLE plain ALTER COLUMN n TYPE numeric(20)",
    "ALTER TABLE plain ALTER COLUMN n TYPE bigint",
    "CREATE INDEX IF NOT EXISTS pair_val ON pair (val)",
    "DROP INDEX IF EXISTS pair_val",
    "ALTER TABLE pair ALTER COLUMN b TYPE bigint",
];
/// How long a job may take while things fail: others are to have their turn.
const IN_CHAOS: Duration = Duration::from_secs(15);
/// What the tables look like.
const FORM: &str = "SELECT string_agg(line, ', ' ORDER BY line) FROM (
    SELECT attrelid::regclass || '.' || attname || ' ' || format_type(atttypid, atttypmod) AS line FROM pg_attribute
    WHERE attrelid IN ('plain'::regclass, 'pair'::regclass) AND attnum > 0 AND NOT attisdropped
    UNION ALL SELECT indexdef FROM pg_indexes WHERE tablename IN ('plain', 'pair')) AS lines";

/// How often what came of them.
#[derive(Debug, Default)]
pub(super) struct Altered {
    done: u32,
    failed: u32,
    /// Whoever ran it was lost on the way.
    cut_off: u32,
}

/// Begins jobs while nothing fails, and lets the next failure come at any stage of them, or only after their end.
pub(super) async fn alter(
    mesh: Arc<Mesh>,
    quiet: Arc<Mutex<()>>,
    mut random: fastrand::Rng,
    until: Instant,
) -> Altered {
    let mut altered = Altered::default();
    while Instant::now() < until {
        let statement = CHANGES[random.usize(..CHANGES.len())];
        let left = until.saturating_duration_since(Instant::now());
        let lives = match random.u32(..4) {
            0 => Duration::from_millis(random.u64(..3_000)),
            _ => left,
        };
        let mut quiet = Some(Arc::clone(&quiet).lock_owned().await);
        let from = random.u32(..6);
        let job = run(&mesh, statement, IN_CHAOS, |progress| {
            if stage(progress) >= from {
                quiet = None;
            }
        });
        match timeout(lives.min(left), job).await {
            Ok(Ok(())) => altered.done += 1,
            Ok(Err(_)) => altered.failed += 1,
            Err(_) => altered.cut_off += 1,
        }
        drop(quiet);
        sleep(Duration::from_millis(random.u64(100..800))).await;
    }
    altered
}

fn stage(progress: &Progress) -> u32 {
    match progress {
        Progress::Rehearsing => 0,
        Progress::Locking { .. } => 1,
        Progress::Draining { .. } => 2,
        Progress::Committing { .. } => 3,
    }
}

async fn run(
    mesh: &Mesh,
    statement: &str,
    timeout: Duration,
    tell: impl FnMut(&Progress),
) -> Result<(), MeshError> {
    let setup = Arc::new(mesh.setup.clone());
    let statements = vec![statement.to_owned()];
    let options = Options { statements, timeout, ..Options::default() };
    Box::pin(ddl::run(&setup, &options, tell)).await.map(drop)
}

/// That tables can be altered, that no job is left, and that all nodes have the same tables with the same rows.
pub(super) async fn assert_settled(mesh: &Mesh) {
    let deadline = Instant::now() + DEADLINE * 2;
    let last = "ALTER TABLE plain ADD COLUMN IF NOT EXISTS last int DEFAULT 1";
    while let Err(error) = run(mesh, last, DEADLINE, |_| {}).await {
        assert!(Instant::now() < deadline, "{error}");
        sleep(Duration::from_millis(300)).await;
    }
    let open = "SELECT count(*) FROM herdsman.ddl WHERE state NOT IN ('done', 'given up')";
    let form = mesh.ask("n1", FORM).await;
    for node in mesh.nodes() {
        mesh.until(&node, open, "0").await;
        assert_eq!(mesh.ask(&node, FORM).await, form, "{node}");
    }
    let setup = Arc::new(mesh.setup.clone());
    let told = verify::run(&setup, &verify::Options::default(), |_| {}).await.unwrap();
    assert_eq!(told.verdict, verify::Verdict::Equal, "{told:#?}");
}
