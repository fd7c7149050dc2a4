//! Servers whose counter of transactions goes round while the mesh is at work. Only some packages of PostgreSQL bring
//! `pg_resetwal`, which takes a server near that.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;

use herdsman_mesh::config::Mode;
use herdsman_sandbox::{Sandbox, tested_versions};
use tokio::process::Command;

use crate::proof::{Mesh, setup, up};

/// Two thousand transactions before the counter goes round.
const NEAR: u64 = (1 << 32) - 2000;
/// Transactions that a page of the log of commits holds, in segments of 32 pages.
const SEGMENT: u64 = 32 * 32768;
const TABLES: &str = "CREATE TABLE mark (node text PRIMARY KEY, n bigint NOT NULL); CREATE TABLE t (id int PRIMARY KEY, v text)";
/// A large transaction of many parts, each with a number of its own.
const PARTS: &str = "DO $$ BEGIN FOR i IN 1..200 LOOP
  BEGIN INSERT INTO t SELECT i * 100 + n, repeat('x', 100) FROM generate_series(0, 20) AS n; EXCEPTION WHEN division_by_zero THEN NULL; END;
END LOOP; END $$";
/// Takes so many numbers.
const BURN: &str =
    "DO $$ BEGIN FOR i IN 1..1500 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$";
const ALL: &str = "SELECT count(*) || ' ' || md5(string_agg(id || v, ',' ORDER BY id)) FROM t";

/// Has a server go on near the end of its counter. It must be without slots.
async fn bring_near(sandbox: &Sandbox, node: &str, program: &Path) {
    let root = sandbox.sql(node, "postgres").await.unwrap();
    root.batch_execute("VACUUM FREEZE").await.unwrap();
    let data: String = root.query_one("SHOW data_directory", &[]).await.unwrap().get(0);
    drop(root);
    sandbox.stop(node).await.unwrap();
    let owner = fs::metadata(&data).unwrap();
    let (from, oldest) = (NEAR.to_string(), (NEAR - 1000).to_string());
    let mut reset = Command::new(program);
    reset.args(["-x", &*from, "-u", &*oldest, "-c", &*format!("{from},{from}"), "-D", &*data]);
    if are_apart(&owner) {
        reset.uid(owner.uid()).gid(owner.gid());
    }
    let output = reset.current_dir(&data).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let segment = Path::new(&data).join(format!("pg_xact/{:04X}", NEAR / SEGMENT));
    fs::write(&segment, vec![0; usize::try_from(SEGMENT / 4).unwrap()]).unwrap();
    chown(&segment, Some(owner.uid()), Some(owner.gid())).unwrap();
    sandbox.start(node).await.unwrap();
}

/// Whether the test runs as somebody else than the servers do.
fn are_apart(owner: &fs::Metadata) -> bool {
    fs::metadata("/proc/self").unwrap().uid() != owner.uid()
}

async fn goes_round(mode: Mode) {
    if !tested_versions().contains(&15) {
        return;
    }
    let servers = Sandbox::builder().versions([15; 2]).setting("track_commit_timestamp", "on");
    let servers = servers.setting("logical_decoding_work_mem", "64kB");
    let sandbox = servers.start().await.unwrap();
    let nodes = sandbox.node_names();
    let program = sandbox.binaries_of(&nodes[0]).unwrap().bin_dir.join("pg_resetwal");
    if !program.is_file() {
        return;
    }
    for node in &nodes {
        bring_near(&sandbox, node, &program).await;
        let app = sandbox.sql(node, "app").await.unwrap();
        app.batch_execute(TABLES).await.unwrap();
    }
    let setup = setup(&sandbox, |config| config.mode = mode);
    up(&setup).await;
    let mesh = Mesh::of(sandbox, setup).await;
    mesh.start_engine();
    let (one, two) = (&*nodes[0], &*nodes[1]);
    let round = "SELECT pg_current_xact_id()::text::bigint > 4294967296";
    assert_eq!(mesh.ask(one, round).await.as_deref(), Some("f"));
    // Rows from before, on both.
    mesh.on(one, "INSERT INTO t VALUES (-1, 'one'), (-2, 'one'), (-3, 'one')").await;
    mesh.on(two, "INSERT INTO t VALUES (-4, 'two'), (-5, 'two')").await;
    mesh.settle().await;
    // One that begins before and ends behind.
    let large = mesh.app(one).await;
    large.batch_execute("BEGIN").await.unwrap();
    large.batch_execute(PARTS).await.unwrap();
    for node in &nodes {
        mesh.on(node, BURN).await;
        mesh.on(node, BURN).await;
        assert_eq!(mesh.ask(node, round).await.as_deref(), Some("t"), "{node}");
    }
    // Rows of both, where they were written and where they came to; and two writers of one row.
    mesh.on(two, "UPDATE t SET v = 'two' WHERE id IN (-1, -4)").await;
    mesh.on(one, "DELETE FROM t WHERE id = -5; UPDATE t SET v = 'behind' WHERE id = -2").await;
    large.batch_execute("UPDATE t SET v = 'large' WHERE id = -3; COMMIT").await.unwrap();
    mesh.settle().await;
    mesh.hold(one, two);
    mesh.hold(two, one);
    mesh.on(two, "UPDATE t SET v = 'first' WHERE id = -1; DELETE FROM t WHERE id = -2").await;
    mesh.on(one, "UPDATE t SET v = 'last' WHERE id IN (-1, -2)").await;
    mesh.settle().await;
    let held = mesh.ask(one, ALL).await;
    assert_eq!(held, mesh.ask(two, ALL).await);
    assert!(held.unwrap().starts_with("4204 "));
    for node in &nodes {
        let few = "SELECT string_agg(v, ',' ORDER BY id) FROM t WHERE id < 0";
        assert_eq!(mesh.ask(node, few).await.as_deref(), Some("two,large,last,last"), "{node}");
    }
    if mode == Mode::Untouched {
        remembers_nothing_of_the_round_before(&mesh, two).await;
    }
    mesh.stop_engine().await;
}

/// What a server says of a number that is 2³² less is about another transaction.
async fn remembers_nothing_of_the_round_before(mesh: &Mesh, node: &str) {
    mesh.stop_engine().await;
    let root = mesh.root(node).await;
    let before = "INSERT INTO herdsman.memory (xid, at, horizon, base) SELECT xid - 4294967296, 1, 1, false FROM herdsman.memory ORDER BY xid DESC LIMIT 1";
    root.batch_execute("INSERT INTO herdsman.memory (xid, at, horizon, base) VALUES (pg_current_xact_id()::text::bigint, 1, 1, false)").await.unwrap();
    assert_eq!(root.execute(before, &[]).await.unwrap(), 1);
    mesh.start_engine();
    mesh.on(&mesh.nodes()[0], "INSERT INTO t VALUES (-9, 'again')").await;
    mesh.settle().await;
    let left = "SELECT count(*) FROM herdsman.memory WHERE xid < 4294967296 - 2000";
    assert_eq!(mesh.ask(node, left).await.as_deref(), Some("0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transaction_numbers_that_go_round_are_nothing_to_the_mesh() {
    goes_round(Mode::Columns).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transaction_numbers_that_go_round_are_nothing_to_a_mesh_of_untouched_tables() {
    goes_round(Mode::Untouched).await;
}
