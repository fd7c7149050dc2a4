//! Servers whose clocks are really wrong: a member waits until its own is past what it applies, and refuses what is too far
//! ahead.

use std::sync::Arc;

use herdsman_mesh::status::Status;
use herdsman_mesh::verify::{self, Verdict};
use herdsman_sandbox::Sandbox;
use tokio::time::timeout;

use super::fuzz::once;
use super::start_with_clocks;
use crate::fuzz::TABLES;
use crate::proof::{DEADLINE, Mesh, seed, three_of};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text)";
const COUNT: &str = "SELECT count(*) FROM t";
const HELD: &str = "SELECT string_agg(id || v, ' ' ORDER BY id) FROM t";

/// What a member's status says is wrong.
fn told(status: &Status, node: &str) -> String {
    status.targets.get(node).and_then(|target| target.problem.clone()).unwrap_or_default()
}

async fn until_told(mesh: &Mesh, node: &str, what: &str) {
    let mut status = mesh.status();
    let waiting = status.wait_for(|status| told(status, node).contains(what));
    timeout(DEADLINE, waiting).await.expect("the status tells it").unwrap();
}

async fn two() -> Option<Mesh> {
    let majors = three_of(18).or_else(|| three_of(15))?;
    Some(start_with_clocks(majors.into_iter().take(2).collect(), TABLE).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_waits_until_the_members_clock_is_past_it() {
    let Some(mesh) = two().await else { return };
    mesh.on("n1", "INSERT INTO t VALUES (1, 'before')").await;
    mesh.settle().await;

    // Far behind: refused, and told.
    mesh.sandbox.set_clock("n2", -3600).unwrap();
    mesh.on("n1", "INSERT INTO t VALUES (2, 'far')").await;
    until_told(&mesh, "n2", "too far to wait for").await;
    assert_eq!(mesh.ask("n2", COUNT).await.as_deref(), Some("1"));
    // The other way nothing waits: what n2 commits is long past on n1.
    mesh.on("n2", "INSERT INTO t VALUES (3, 'n2')").await;
    mesh.until("n1", COUNT, "3").await;

    // So far behind that it is waited for: nothing is seen meanwhile, and who waits is told.
    mesh.sandbox.set_clock("n2", -40).unwrap();
    until_told(&mesh, "n2", "its clock is behind that of `n1`").await;
    assert_eq!(mesh.ask("n2", "SELECT count(*) FROM t WHERE id = 2").await.as_deref(), Some("0"));

    // Nearly right. What comes is later than n2's clock when it is written, and not when it is there.
    mesh.sandbox.set_clock("n2", -4).unwrap();
    mesh.on("n1", "INSERT INTO t VALUES (4, 'ahead')").await;
    let there = "SELECT count(*) FROM t WHERE id IN (2, 4)";
    mesh.until("n2", there, "2").await;
    let past = "SELECT bool_and(clock_timestamp() > pg_xact_commit_timestamp(xmin))::text FROM t";
    assert_eq!(mesh.ask("n2", past).await.as_deref(), Some("true"));
    // So who overwrites it there is later, and wins everywhere.
    mesh.on("n2", "UPDATE t SET v = 'behind' WHERE id = 4").await;
    mesh.sandbox.set_clock("n2", 0).unwrap();
    mesh.settle().await;
    for node in mesh.nodes() {
        let held = mesh.ask(&node, HELD).await;
        assert_eq!(held.as_deref(), Some("1before 2far 3n2 4behind"), "{node}");
    }
    assert_eq!(mesh.differences("t", "id").await, Vec::<String>::new());
    let mut status = mesh.status();
    let well = status.wait_for(|status| told(status, "n2").is_empty());
    timeout(DEADLINE, well).await.expect("nothing is told any more").unwrap();
    mesh.stop_engine().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_clock_that_was_set_back_keeps_from_the_others_is_found_and_put_right() {
    let Some(mesh) = two().await else { return };
    mesh.on("n1", "INSERT INTO t VALUES (1, 'n1'), (2, 'n1')").await;
    mesh.settle().await;
    // Below what it replaces: as docs/mesh.md says, it stays where it was written.
    mesh.sandbox.set_clock("n2", -3600).unwrap();
    mesh.on("n2", "UPDATE t SET v = 'lost' WHERE id = 1").await;
    mesh.sandbox.set_clock("n2", 0).unwrap();
    mesh.settle().await;
    assert_eq!(mesh.ask("n1", HELD).await.as_deref(), Some("1n1 2n1"));
    assert_eq!(mesh.ask("n2", HELD).await.as_deref(), Some("1lost 2n1"));
    let setup = Arc::new(mesh.setup.clone());
    let options = verify::Options { repair: true, ..verify::Options::default() };
    let report = Box::pin(verify::run(&setup, &options, |_| {})).await.unwrap();
    assert_eq!(report.verdict, Verdict::Repaired, "{report:#?}");
    for node in mesh.nodes() {
        assert_eq!(mesh.ask(&node, HELD).await.as_deref(), Some("1n1 2n1"), "{node}");
    }
    mesh.stop_engine().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_whose_clocks_differ_end_alike() {
    let Some(majors) = three_of(18).or_else(|| three_of(15)) else { return };
    let mesh = Arc::new(start_with_clocks(majors, TABLES).await);
    // Nothing was written yet: they are not set back.
    mesh.sandbox.set_clock("n1", 2).unwrap();
    mesh.sandbox.set_clock("n3", -1).unwrap();
    let seed = seed();
    let (committed, differences) = once(&mesh, seed, false).await;
    assert!(committed > 10, "{committed}");
    assert_eq!(differences, Vec::<String>::new(), "HERDSMAN_SEED={seed}");
    mesh.stop_engine().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_stamps_a_clock_that_is_behind_loses_nothing_and_nothing_waits() {
    let Some(majors) = three_of(18).or_else(|| three_of(15)) else { return };
    let servers = Sandbox::builder().versions(majors.into_iter().take(2)).own_clocks(true);
    let mesh = Mesh::prepared_on(servers, TABLE, |_| {}).await;
    mesh.sandbox.set_clock("n2", -3600).unwrap();
    mesh.start_engine();
    mesh.on("n1", "INSERT INTO t VALUES (1, 'n1'), (2, 'n1')").await;
    mesh.carried("n1", "n2").await;
    mesh.on("n2", "UPDATE t SET v = 'n2' WHERE id = 1; DELETE FROM t WHERE id = 2").await;
    mesh.settle().await;
    for node in mesh.nodes() {
        assert_eq!(mesh.ask(&node, HELD).await.as_deref(), Some("1n2"), "{node}");
    }
    assert_eq!(mesh.differences("t", "id").await, Vec::<String>::new());
    mesh.stop_engine().await;
}
