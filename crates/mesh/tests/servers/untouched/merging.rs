//! Nodes that have rows already become members, and their rows are put together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use herdsman_mesh::config::Mode;
use herdsman_mesh::{Setup, heal, install};
use herdsman_sandbox::Sandbox;
use tokio::time::{sleep, timeout};

use crate::ddl::equal;
use crate::proof::{DEADLINE, MARKS, Mesh, setup, three_of};

/// Statements of a role, in a session of their own.
async fn run(sandbox: &Sandbox, node: &str, role: &str, statements: &str) {
    let client = sandbox.sql(node, role).await.unwrap();
    let done = client.batch_execute(statements).await;
    done.unwrap_or_else(|error| panic!("{node}: {statements}: {error:?}"));
}

/// An insertion that was committed some time ago.
async fn long_ago(sandbox: &Sandbox, node: &str, time: &str, row: &str) {
    let sql = format!(
        "SELECT pg_replication_origin_create('past') WHERE pg_replication_origin_oid('past') IS NULL;
         SELECT pg_replication_origin_session_setup('past'); BEGIN;
         SELECT pg_replication_origin_xact_setup('0/1', '{time}'); INSERT INTO t VALUES {row}; COMMIT"
    );
    run(sandbox, node, "postgres", &sql).await;
}

/// `herdsman mesh up --merge`.
async fn up(setup: &Arc<Setup>) {
    let refused = install::prepare(setup, &install::Options::default()).await.unwrap().1;
    let told = refused.problems.join("\n");
    assert!(told.contains("the row that was committed last stays"), "{told}");
    let options = install::Options { merge: true, ..install::Options::default() };
    let (_, plan) = install::prepare(setup, &options).await.unwrap();
    assert_eq!(plan.problems, Vec::<String>::new());
    install::carry_out(setup, &plan, |_| {}).await.unwrap();
    let spreading = Box::pin(heal::spread(setup, &plan.copies, |_, _, _| {}));
    timeout(DEADLINE, spreading).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_members_have_already_are_put_together_while_all_are_written() {
    let Some(majors) = three_of(18).or_else(|| three_of(15)) else { return };
    let sandbox = Sandbox::builder().versions(majors).start().await.unwrap();
    let nodes = sandbox.node_names();
    for node in &nodes {
        let tables = "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE busy (id int PRIMARY KEY, v text)";
        run(&sandbox, node, "app", &format!("{MARKS}; {tables}")).await;
        let rows = format!("INSERT INTO busy SELECT n, '{node}' FROM generate_series(1, 40) AS n");
        run(&sandbox, node, "app", &rows).await;
    }
    // Of these no server knows the time.
    run(&sandbox, "n1", "app", "INSERT INTO t VALUES (1, 'n1'), (2, 'n1'), (8, 'n1')").await;
    run(&sandbox, "n2", "app", "INSERT INTO t VALUES (2, 'n2'), (3, 'n2'), (7, 'n2')").await;
    run(&sandbox, "n3", "app", "INSERT INTO t VALUES (3, 'n3'), (6, 'n3')").await;
    for node in &nodes {
        run(&sandbox, node, "postgres", "ALTER SYSTEM SET track_commit_timestamp = on").await;
        sandbox.stop(node).await.unwrap();
        sandbox.start(node).await.unwrap();
    }
    long_ago(&sandbox, "n1", "2020-01-02", "(4, 'later'), (7, 'known')").await;
    long_ago(&sandbox, "n2", "2020-01-01", "(4, 'earlier')").await;
    long_ago(&sandbox, "n3", "2019-01-01", "(8, 'known')").await;
    run(&sandbox, "n2", "app", "INSERT INTO t VALUES (5, 'earlier')").await;
    run(&sandbox, "n1", "app", "INSERT INTO t VALUES (5, 'later'), (6, 'known')").await;

    // All of it while `busy` is written.
    let (sandbox, stop) = (Arc::new(sandbox), Arc::new(AtomicBool::new(false)));
    let mut writers = Vec::new();
    for node in nodes {
        let (sandbox, stop) = (Arc::clone(&sandbox), Arc::clone(&stop));
        writers.push(tokio::spawn(async move {
            let client = sandbox.sql(&node, "app").await.unwrap();
            let mut random = fastrand::Rng::new();
            while !stop.load(Ordering::Relaxed) {
                let key = random.u32(1..60);
                let statement = match random.u32(..4) {
                    0 => format!("DELETE FROM busy WHERE id = {key}"),
                    1 => format!("INSERT INTO busy VALUES ({key}, 'again') ON CONFLICT DO NOTHING"),
                    _ => {
                        format!("UPDATE busy SET v = '{node} {}' WHERE id = {key}", random.u32(..))
                    }
                };
                // What prepares the table may be in the way of who writes it, or what is copied make the key meanwhile.
                drop(client.batch_execute(&statement).await);
                sleep(Duration::from_millis(3)).await;
            }
        }));
    }
    let setup = setup(&sandbox, |config| config.mode = Mode::Untouched);
    up(&Arc::new(setup.clone())).await;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let sandbox = Arc::into_inner(sandbox).expect("nobody else has it");
    let mesh = Mesh::of(sandbox, setup).await;
    let expected = "1 n1, 2 n2, 3 n3, 4 later, 5 later, 6 known, 7 known, 8 known".to_owned();
    let held = "SELECT string_agg(concat_ws(' ', id, v), ', ' ORDER BY id) FROM t";
    for node in mesh.nodes() {
        assert_eq!(mesh.ask(&node, held).await.as_ref(), Some(&expected), "{node}");
    }
    mesh.start_engine();
    mesh.settle().await;
    equal(&mesh).await;
    // Whatever is written now is later than all of that.
    for (node, key) in [("n1", 3), ("n2", 4), ("n3", 1)] {
        mesh.on(node, &format!("UPDATE t SET v = '{node} now' WHERE id = {key}")).await;
    }
    mesh.on("n2", "DELETE FROM t WHERE id = 5").await;
    mesh.settle().await;
    equal(&mesh).await;
    let expected = "1 n3 now, 2 n2, 3 n1 now, 4 n2 now, 6 known, 7 known, 8 known";
    assert_eq!(mesh.ask("n1", held).await.as_deref(), Some(expected));
    let (_, plan) = install::prepare(&Arc::new(mesh.setup.clone()), &install::Options::default())
        .await
        .unwrap();
    assert_eq!((plan.steps, plan.problems), (Vec::new(), Vec::new()));
    assert_eq!(plan.copies, Vec::new());
    mesh.stop_engine().await;
}
