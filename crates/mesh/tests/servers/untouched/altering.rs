//! Tables to which nothing is added are altered on all members while all of them are written.

use std::sync::Arc;
use std::time::Duration;

use herdsman_mesh::ddl::{self, Progress};
use tokio::time::{sleep, timeout};

use super::start;
use crate::ddl::{alter, cut_short_at_any_time, equal, lost_after_the_decision, nothing_lost};
use crate::harness::{Busy, TABLES};
use crate::proof::{DEADLINE, Mesh, oldest_and_newest, soak, three_of};

/// What alters `acc` and `log` in every way that leaves the rows where they are, job by job.
const JOBS: [&[&str]; 4] = [
    // Tables in the order in which the writers write them, or the rehearsal may meet a deadlock.
    &[
        "ALTER TABLE log ALTER COLUMN node TYPE varchar",
        // A column of the key.
        "ALTER TABLE log ALTER COLUMN id TYPE varchar",
        "ALTER TABLE acc ADD COLUMN extra text NOT NULL DEFAULT 'none'",
    ],
    &[
        "ALTER TABLE acc RENAME COLUMN extra TO other",
        "CREATE INDEX acc_val ON acc (val)",
        "ALTER TABLE acc ADD CONSTRAINT not_empty CHECK (val <> '')",
    ],
    &["CREATE TABLE later (id bigint PRIMARY KEY, val text)", "CREATE INDEX ON later (val)"],
    &["ALTER TABLE acc DROP COLUMN other"],
];

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_altered_under_writers() {
    let Some(majors) = oldest_and_newest() else { return };
    let mesh = Arc::new(start(majors, TABLES).await);
    let busy = Busy::write(&mesh, Duration::from_millis(10));
    for statements in JOBS {
        let altered = alter(&mesh, statements).await;
        altered.unwrap_or_else(|error| panic!("{statements:?}: {error}"));
        sleep(Duration::from_millis(200)).await;
    }
    mesh.on("n1", "INSERT INTO later VALUES (1, 'n1')").await;
    mesh.on("n2", "INSERT INTO later VALUES (2, 'n2')").await;
    let written = busy.stop().await;
    mesh.settle().await;
    equal(&mesh).await;
    nothing_lost(&mesh, &written).await;
    for node in mesh.nodes() {
        assert_eq!(mesh.ask(&node, "SELECT count(*) FROM later").await.as_deref(), Some("2"));
    }
    alter(&mesh, &["DROP TABLE later"]).await.unwrap();

    // Their versions would be other ones on each node.
    for statement in [
        "ALTER TABLE acc ALTER COLUMN id TYPE bigint",
        "ALTER TABLE acc ADD COLUMN made int GENERATED ALWAYS AS (length(val)) STORED",
    ] {
        let error = alter(&mesh, &[statement]).await.expect_err("is refused");
        assert!(error.contains("write table public.acc anew"), "{error}");
    }

    // Nothing is left to be done, and what is written goes on: also over rows from before.
    mesh.on("n3", "UPDATE acc SET val = 'last'").await;
    mesh.settle().await;
    equal(&mesh).await;
    let setup = Arc::new(mesh.setup.clone());
    let options = herdsman_mesh::install::Options::default();
    let (_, plan) = herdsman_mesh::install::prepare(&setup, &options).await.unwrap();
    assert_eq!((plan.steps, plan.problems), (Vec::new(), Vec::new()));
    mesh.stop_engine().await;
}

/// What a node holds, without versions: what was applied in the transaction that altered has that one's.
async fn held(mesh: &Mesh, node: &str) -> String {
    let rows = "SELECT string_agg(concat_ws(' ', id, val), ', ' ORDER BY id) FROM acc";
    mesh.ask(node, rows).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_is_applied_while_tables_are_locked_the_latest_stays_whatever_comes_first() {
    let Some(majors) = three_of(18).or_else(|| three_of(15)) else { return };
    let mesh = Arc::new(start(majors, TABLES).await);
    mesh.on("n1", "INSERT INTO acc SELECT n, 'first' FROM generate_series(1, 6) AS n").await;
    mesh.settle().await;
    mesh.hold("n1", "n3");
    mesh.hold("n2", "n3");
    // It does not even hear of what it does itself.
    mesh.hold("n3", "n3");
    mesh.apart("n1", "n2");
    mesh.on("n1", "UPDATE acc SET val = 'n1' WHERE id IN (1, 2, 5); DELETE FROM acc WHERE id = 3")
        .await;
    mesh.on("n1", "INSERT INTO acc VALUES (7, 'n1'), (8, 'n1')").await;
    mesh.on("n3", "DELETE FROM acc WHERE id = 4").await;
    // Later, and from a node that the other does not hear of.
    mesh.on("n2", "UPDATE acc SET val = 'n2' WHERE id IN (1, 3)").await;
    mesh.on("n2", "DELETE FROM acc WHERE id = 2; INSERT INTO acc VALUES (7, 'n2')").await;
    mesh.on("n3", "DELETE FROM acc WHERE id = 5").await;
    // The job has to wait for all of that, and n3 gets the later first, and last what it did itself.
    let setup = Arc::new(mesh.setup.clone());
    let (seen, mut progress) = tokio::sync::mpsc::unbounded_channel();
    let options = ddl::Options {
        statements: vec!["ALTER TABLE acc ADD COLUMN extra int DEFAULT 7".to_owned()],
        ..ddl::Options::default()
    };
    let job = tokio::spawn(async move {
        Box::pin(ddl::run(&setup, &options, |told| drop(seen.send(told.clone())))).await
    });
    let draining = async {
        while let Some(told) = progress.recv().await {
            if matches!(told, Progress::Draining { .. }) {
                break;
            }
        }
    };
    timeout(DEADLINE, draining).await.unwrap();
    for source in ["n2", "n1"] {
        mesh.release(source, "n3");
        sleep(Duration::from_millis(1500)).await;
    }
    mesh.release_all();
    timeout(DEADLINE, job).await.unwrap().unwrap().unwrap();
    for node in mesh.nodes() {
        assert_eq!(held(&mesh, &node).await, "1 n2, 3 n2, 6 first, 7 n2, 8 n1", "{node}");
    }
    // Whatever is written then is later than all that was applied, on every member.
    mesh.apart("n1", "n3");
    mesh.on("n3", "UPDATE acc SET val = 'n3' WHERE id = 1").await;
    mesh.on("n2", "UPDATE acc SET val = 'new' WHERE id IN (1, 3, 7)").await;
    mesh.on("n1", "UPDATE acc SET val = 'newest' WHERE id = 8").await;
    mesh.settle().await;
    equal(&mesh).await;
    for node in mesh.nodes() {
        assert_eq!(held(&mesh, &node).await, "1 new, 3 new, 6 first, 7 new, 8 newest", "{node}");
    }
    mesh.stop_engine().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_alters_may_be_lost_at_any_time_in_full() {
    let Some(majors) = three_of(18).or_else(|| three_of(15)).filter(|_| soak()) else { return };
    cut_short_at_any_time(start(majors, TABLES).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_lost_makes_up_for_what_was_altered() {
    let Some(majors) = three_of(18).or_else(|| three_of(15)) else { return };
    lost_after_the_decision(start(majors, TABLES).await).await;
}
