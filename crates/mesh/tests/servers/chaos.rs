//! Nodes killed, the engine killed, links cut, while everybody writes and tables are altered: in the end every node holds the same and no
//! acknowledged write is missing. 15 s, ten minutes with `HERDSMAN_SOAK=1`.

mod altering;
mod members;

use std::sync::Arc;
use std::time::Duration;

use herdsman_sandbox::tested_versions;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::fuzz::judge::judge;
use crate::fuzz::ledger::Ledger;
use crate::fuzz::writer::Writer;
use crate::fuzz::{Run, TABLES};
use crate::proof::{Mesh, report, seed, soak, three_of};

async fn chaos(majors: Option<Vec<u32>>) {
    let Some(majors) = majors else { return };
    let seed = seed();
    let lasts = Duration::from_secs(if soak() { 600 } else { 15 });
    let plan = Run { lasts, truncate_every: 0, keys: 200, ..Run::new(seed) };
    let mesh = Arc::new(Mesh::start(majors.clone(), TABLES).await);
    let ledger = Arc::new(Ledger::default());
    ledger.begin(&mesh).await;
    let mut random = fastrand::Rng::with_seed(seed);
    let until = Instant::now() + lasts;
    let mut writers = Vec::new();
    for node in mesh.nodes() {
        let writer = Writer::new(&mesh, &ledger, &plan, &node, 0, random.u64(..));
        writers.push(tokio::spawn(writer.write(until)));
    }
    let quiet = Arc::new(Mutex::new(()));
    let altering = altering::alter(Arc::clone(&mesh), Arc::clone(&quiet), random.fork(), until);
    let altering = tokio::spawn(altering);
    let mut faults = Faults::default();
    while Instant::now() < until {
        faults.one(&mesh, &quiet, &mut random).await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let altered = altering.await.unwrap();
    altering::assert_settled(&mesh).await;
    mesh.settle().await;
    let found = judge(&mesh, &ledger).await;
    assert!(found.problems.is_empty(), "HERDSMAN_SEED={seed} on {majors:?}: {found:#?}");
    report(&format!(
        "mesh chaos on {majors:?}, {} s, HERDSMAN_SEED={seed}: {faults:?}, {altered:?}; {}",
        lasts.as_secs(),
        found.figures()
    ));
}

/// How often what was done.
#[derive(Debug, Default)]
struct Faults {
    killed: u32,
    frozen: u32,
    cut_off: u32,
    engine_killed: u32,
    held: u32,
}

impl Faults {
    async fn one(&mut self, mesh: &Mesh, quiet: &Mutex<()>, random: &mut fastrand::Rng) {
        let failing = quiet.lock().await;
        let nodes = mesh.nodes();
        let node = &nodes[random.usize(..nodes.len())];
        let a_while = Duration::from_millis(random.u64(200..2_000));
        match random.u32(..6) {
            0 => {
                self.killed += 1;
                mesh.sandbox.kill(node).await.unwrap();
                sleep(a_while).await;
                mesh.sandbox.start(node).await.unwrap();
            }
            1 => {
                self.frozen += 1;
                mesh.sandbox.freeze(node).await.unwrap();
                sleep(a_while).await;
                mesh.sandbox.thaw(node).await.unwrap();
            }
            2 => {
                self.cut_off += 1;
                mesh.sandbox.cut_off(node).unwrap();
                sleep(a_while).await;
                mesh.sandbox.heal();
            }
            3 | 4 => {
                self.engine_killed += 1;
                mesh.drop_engine();
                sleep(a_while / 4).await;
                mesh.start_engine();
            }
            _ => {
                self.held += 1;
                mesh.hold(node, &nodes[random.usize(..nodes.len())]);
                sleep(a_while).await;
                mesh.release_all();
            }
        }
        drop(failing);
        sleep(a_while).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_in_any_chaos_on_15() {
    chaos(three_of(15)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_in_any_chaos_on_18() {
    chaos(three_of(18)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_in_any_chaos_on_15() {
    if tested_versions().contains(&15) {
        members::come_and_go(15).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_in_any_chaos_on_18() {
    if tested_versions().contains(&18) {
        members::come_and_go(18).await;
    }
}
