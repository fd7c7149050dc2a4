//! Random writes on every node at once, with links held and the engine killed at random.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;

use super::start;
use crate::fuzz::{TABLES, hold_at_random};
use crate::proof::{Mesh, mixed, report, seed, three_of};

/// Keys that all write.
const KEYS: u32 = 50;
/// How long a run writes.
const LASTS: Duration = Duration::from_secs(4);
/// Runs, and the most until a mesh without a rule is found out.
const RUNS: u64 = 3;
const MOST: u64 = 8;

/// One writer's random transactions, until then.
async fn write(mesh: Arc<Mesh>, node: String, seed: u64, until: Instant) -> u64 {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut committed = 0;
    while Instant::now() < until {
        let client = mesh.app(&node).await;
        while Instant::now() < until && !client.is_closed() {
            let statements = transaction(&mut random, seed);
            match timeout(Duration::from_secs(20), run(&client, &statements)).await {
                Ok(true) => committed += 1,
                _ => drop(client.batch_execute("ROLLBACK").await),
            }
            sleep(Duration::from_millis(random.u64(0..8))).await;
        }
    }
    committed
}

async fn run(client: &Client, statements: &[String]) -> bool {
    if client.batch_execute("BEGIN").await.is_err() {
        return false;
    }
    for statement in statements {
        if client.batch_execute(statement).await.is_err() {
            return false;
        }
    }
    client.batch_execute("COMMIT").await.is_ok()
}

/// Statements of one to five kinds: insertions, updates with and without a large value, deletions, deletions and
/// insertions again, changed keys, many rows at once, seldom a TRUNCATE.
fn transaction(random: &mut fastrand::Rng, writer: u64) -> Vec<String> {
    let mut statements = Vec::new();
    for _ in 0..random.u32(1..=5) {
        let (key, other) = (random.u32(1..=KEYS), random.u32(1..=KEYS));
        let val = format!("{writer}-{}", random.u32(..));
        let large = random.bool();
        statements.push(match random.u32(..24) {
            0..=4 => format!("INSERT INTO plain (id, val) VALUES ({key}, '{val}') ON CONFLICT DO NOTHING"),
            5..=7 => format!(
                "INSERT INTO pair (a, b, val) VALUES ('k{}', {key}, '{val}') ON CONFLICT DO NOTHING",
                key % 7
            ),
            8..=11 => format!("UPDATE plain SET val = '{val}', n = n + 1 WHERE id = {key}"),
            12 if large => format!(
                "UPDATE plain SET val = '{val}', big = repeat('{}', {}) WHERE id = {key}",
                random.alphabetic(),
                random.u32(1..9000)
            ),
            12 | 13 => format!("UPDATE pair SET val = '{val}', n = n + 1 WHERE b = {key}"),
            14 | 15 => format!("DELETE FROM plain WHERE id = {key}"),
            16 => format!("DELETE FROM pair WHERE b = {key}"),
            17 | 18 => format!(
                "DELETE FROM plain WHERE id = {key}; INSERT INTO plain (id, val) VALUES ({key}, '{val}')"
            ),
            19 => format!(
                "UPDATE plain SET id = {other}, val = '{val}' WHERE id = {key} AND NOT EXISTS (SELECT FROM plain WHERE id = {other})"
            ),
            20 | 21 => {
                format!("UPDATE plain SET val = '{val}' WHERE id BETWEEN {key} AND {key} + 9")
            }
            22 => format!("UPDATE plain SET val = val WHERE id = {key}"),
            _ if random.u32(..8) == 0 => "TRUNCATE plain".to_owned(),
            _ => format!("UPDATE plain SET n = n + 1 WHERE id = {key}"),
        });
    }
    statements
}

/// One run: how many transactions were committed, and what is not the same everywhere.
pub(super) async fn once(mesh: &Arc<Mesh>, seed: u64, kill: bool) -> (u64, Vec<String>) {
    let until = Instant::now() + LASTS;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut tasks = Vec::new();
    for node in mesh.nodes() {
        for _ in 0..2 {
            let writing = write(Arc::clone(mesh), node.clone(), random.u64(..) >> 16, until);
            tasks.push(tokio::spawn(writing));
        }
    }
    if kill {
        while Instant::now() < until {
            sleep(Duration::from_millis(random.u64(200..900))).await;
            mesh.drop_engine();
            sleep(Duration::from_millis(random.u64(0..300))).await;
            mesh.start_engine();
        }
    } else {
        hold_at_random(mesh, fastrand::Rng::with_seed(random.u64(..)), until).await;
    }
    let mut committed = 0;
    for task in tasks {
        committed += task.await.unwrap();
    }
    mesh.settle().await;
    (committed, differences(mesh).await)
}

/// Rows and tombstones, with their versions. A tombstone that a later row or TRUNCATE hides need not be everywhere.
async fn differences(mesh: &Mesh) -> Vec<String> {
    let mut all = mesh.differences("plain", "id").await;
    all.extend(mesh.differences("pair", "b").await);
    for (name, key) in [("plain", "id"), ("pair", "a, b")] {
        let gone = format!(
            "(SELECT ({key})::text AS k, _herdsman_stamp, _herdsman_node FROM herdsman_gone.\"public.{name}\" AS g
              WHERE ({key}) NOT IN (SELECT {key} FROM {name}) AND NOT EXISTS (
                SELECT FROM herdsman.truncates AS t WHERE t.rel = 'public.{name}'
                AND (t._herdsman_stamp, t._herdsman_node) >= (g._herdsman_stamp, g._herdsman_node)))"
        );
        all.extend(mesh.differences(&gone, "k").await);
    }
    all
}

/// What every node has on record, in order, for whoever has to find out why keys differ.
async fn records(mesh: &Mesh) -> String {
    let mut told = String::new();
    for node in mesh.nodes() {
        for (what, sql) in [
            ("truncates", "SELECT string_agg(t::text, E'\\n' ORDER BY t::text) FROM herdsman.truncates AS t"),
            ("gone", "SELECT string_agg(g::text, E'\\n' ORDER BY id) FROM herdsman_gone.\"public.plain\" AS g"),
            (
                "conflicts",
                "SELECT string_agg(concat_ws(' ', at, rel, key, kind, winner, why, held_stamp, held_node, left(held::text, 60),
                   '<-', arriving_stamp, arriving_node, left(arriving::text, 60)), E'\\n' ORDER BY id) FROM herdsman.conflicts",
            ),
        ] {
            let found = mesh.ask(&node, sql).await.unwrap_or_default();
            told.push_str(&format!("\n== {node}: {what}\n{found}"));
        }
    }
    told
}

async fn runs(majors: Option<Vec<u32>>) {
    let Some(majors) = majors else { return };
    let first = seed();
    let mesh = Arc::new(start(majors.clone(), TABLES).await);
    let mut all = 0;
    for number in 0..RUNS {
        // The last one with an engine that is killed again and again.
        let (committed, differences) = once(&mesh, first + number, number + 1 == RUNS).await;
        all += committed;
        let told = if differences.is_empty() { String::new() } else { records(&mesh).await };
        assert!(
            differences.is_empty(),
            "HERDSMAN_SEED={} on {majors:?}: {} keys differ: {differences:#?}{told}",
            first + number,
            differences.len()
        );
    }
    let mut conflicts = 0;
    for node in mesh.nodes() {
        let count = mesh.ask(&node, "SELECT count(*) FROM herdsman.conflicts").await.unwrap();
        conflicts += count.parse::<u64>().unwrap();
    }
    report(&format!(
        "untouched fuzz on {majors:?}: {RUNS} runs from HERDSMAN_SEED={first}: {all} transactions, {conflicts} conflicts recorded, 0 keys differ"
    ));
    assert!(conflicts > 0, "nobody ever wrote the same key at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_writes_end_alike_on_15() {
    runs(three_of(15)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_writes_end_alike_on_a_mix_of_versions() {
    runs(mixed()).await;
}

/// The control: with a rule broken the same is found out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_tombstones_nodes_differ() {
    let Some(majors) = three_of(18).or_else(|| three_of(15)) else { return };
    let first = seed();
    let mesh = Arc::new(start(majors, TABLES).await);
    let forget = "CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER forget BEFORE INSERT OR UPDATE ON herdsman_gone.\"public.plain\" FOR EACH ROW EXECUTE FUNCTION forget();
        ALTER TABLE herdsman_gone.\"public.plain\" ENABLE ALWAYS TRIGGER forget";
    for node in mesh.nodes() {
        mesh.root(&node).await.batch_execute(forget).await.unwrap();
    }
    for number in 0..MOST {
        let (_, differences) = once(&mesh, first + number, false).await;
        if !differences.is_empty() {
            report(&format!("untouched without tombstones: {} keys differ", differences.len()));
            return;
        }
    }
    panic!("HERDSMAN_SEED={first}: {MOST} runs without tombstones found nothing");
}
