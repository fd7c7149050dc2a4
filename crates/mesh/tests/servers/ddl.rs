//! Tables are altered on all members while all of them are written.

use std::sync::Arc;
use std::time::Duration;

use herdsman_mesh::ddl::{self, Options, Progress};
use herdsman_mesh::status::Status;
use herdsman_mesh::verify;
use tokio::time::{Instant, sleep, timeout};

use crate::harness::{BOTH, Busy, TABLES, all_flow};
use crate::proof::{DEADLINE, Mesh, mixed, oldest_and_newest, soak, three_of};

/// What alters `acc` and `log` in every way, one job each.
const JOBS: [&[&str]; 10] = [
    &["ALTER TABLE acc ADD COLUMN extra text NOT NULL DEFAULT 'none'"],
    &["ALTER TABLE acc ALTER COLUMN n TYPE numeric(20,4)"],
    &["ALTER TABLE log ALTER COLUMN n TYPE bigint"],
    // A column of the key.
    &["ALTER TABLE acc ALTER COLUMN id TYPE bigint"],
    &["CREATE INDEX acc_val ON acc (val)"],
    &["ALTER TABLE acc ADD COLUMN made int GENERATED ALWAYS AS (length(val)) STORED"],
    &["ALTER TABLE log ADD CONSTRAINT log_once UNIQUE (node, n)"],
    &["ALTER TABLE acc RENAME COLUMN extra TO other"],
    &["CREATE TABLE later (id bigint PRIMARY KEY, val text)", "CREATE INDEX ON later (val)"],
    &["ALTER TABLE acc DROP COLUMN other"],
];

fn options(statements: &[&str]) -> Options {
    let statements = statements.iter().map(|text| (*text).to_owned()).collect();
    Options { statements, ..Options::default() }
}

pub(crate) async fn alter(mesh: &Mesh, statements: &[&str]) -> Result<ddl::Altered, String> {
    let setup = Arc::new(mesh.setup.clone());
    let options = options(statements);
    let altered = ddl::run(&setup, &options, |_| {});
    let altered = timeout(DEADLINE, Box::pin(altered)).await.expect("`mesh ddl` ends");
    altered.map_err(|error| error.to_string())
}

pub(crate) async fn equal(mesh: &Mesh) {
    let setup = Arc::new(mesh.setup.clone());
    let report = verify::run(&setup, &verify::Options::default(), |_| {}).await.unwrap();
    assert_eq!(report.verdict, verify::Verdict::Equal, "{report:#?}");
}

/// Waits until the engine's status is as wished.
async fn until(mesh: &Mesh, what: &str, mut wish: impl FnMut(&Status) -> bool) {
    let mut status = mesh.status();
    let ended = timeout(DEADLINE, status.wait_for(|status| wish(status))).await.is_ok();
    let now = serde_json::to_string_pretty(&**mesh.status().borrow()).unwrap();
    assert!(ended, "not within {DEADLINE:?}: {what}: {now}");
}

/// Every row that was acknowledged is everywhere.
pub(crate) async fn nothing_lost(mesh: &Mesh, written: &[String]) {
    assert!(written.len() > 20, "{}", written.len());
    for node in mesh.nodes() {
        for ids in written.chunks(500) {
            let ids: Vec<String> = ids.iter().map(|id| format!("('{id}')")).collect();
            let question = format!(
                "SELECT count(*) FROM (VALUES {}) AS w (id) WHERE NOT EXISTS (SELECT FROM log WHERE log.id = w.id)",
                ids.join(", ")
            );
            assert_eq!(mesh.ask(&node, &question).await.as_deref(), Some("0"), "{node}");
        }
    }
}

async fn tables_are_altered_under_writers(majors: Vec<u32>) {
    let mesh = Arc::new(Mesh::start(majors, TABLES).await);
    let busy = Busy::write(&mesh, Duration::from_millis(3));
    for statements in JOBS {
        let altered = alter(&mesh, statements).await;
        let altered = altered.unwrap_or_else(|error| panic!("{statements:?}: {error}"));
        assert!(altered.attempts >= 1);
        sleep(Duration::from_millis(200)).await;
    }
    mesh.on("n1", "INSERT INTO later VALUES (1, 'n1')").await;
    mesh.on("n2", "INSERT INTO later VALUES (2, 'n2')").await;
    mesh.on("n2", "UPDATE log SET n = 3000000000 WHERE id = 'n2-1'").await;
    let written = busy.stop().await;
    mesh.settle().await;
    let columns = "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attname) FROM pg_attribute WHERE attrelid = 'acc'::regclass AND attnum > 0 AND NOT attisdropped";
    for node in mesh.nodes() {
        assert_eq!(
            mesh.ask(&node, columns).await.as_deref(),
            Some(
                "_herdsman_node smallint, _herdsman_stamp bigint, id bigint, made integer, n numeric(20,4), val text"
            )
        );
        assert_eq!(mesh.ask(&node, "SELECT count(*) FROM later").await.as_deref(), Some("2"));
    }
    mesh.assert_equal(&BOTH).await;
    nothing_lost(&mesh, &written).await;
    alter(&mesh, &["DROP TABLE later"]).await.unwrap();
    let left = "SELECT count(*) FROM pg_class WHERE relname IN ('later', 'public.later')";
    for node in mesh.nodes() {
        assert_eq!(mesh.ask(&node, left).await.as_deref(), Some("0"), "{node}");
    }
    // Nothing is left to be done, and what is written goes on.
    mesh.on("n3", "UPDATE acc SET val = 'last'").await;
    mesh.settle().await;
    equal(&mesh).await;
    let setup = Arc::new(mesh.setup.clone());
    let (_, plan) =
        herdsman_mesh::install::prepare(&setup, &herdsman_mesh::install::Options::default())
            .await
            .unwrap();
    assert_eq!((plan.steps, plan.problems), (Vec::new(), Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_altered_under_writers_on_the_oldest_and_the_newest() {
    let Some(majors) = oldest_and_newest() else { return };
    tables_are_altered_under_writers(majors).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_altered_under_writers_in_full() {
    for majors in [three_of(15), three_of(18), mixed()].into_iter().flatten() {
        if soak() {
            tables_are_altered_under_writers(majors).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_mesh_cannot_have_is_refused_and_changes_nothing() {
    let Some(majors) = three_of(18).or_else(|| three_of(15)) else { return };
    let mesh = Mesh::start(majors, TABLES).await;
    mesh.on("n1", "INSERT INTO acc VALUES (1, 'a'), (2, 'b')").await;
    mesh.settle().await;
    let refused: [(&[&str], &str); 12] = [
        (&["UPDATE acc SET n = 1"], "is none of ALTER"),
        (&["CREATE INDEX CONCURRENTLY ON acc (val)"], "leave CONCURRENTLY out"),
        (
            &["ALTER TABLE acc ADD COLUMN a int; ALTER TABLE acc ADD COLUMN b int"],
            "argument of its own",
        ),
        (&["ALTER TABLE acc DROP COLUMN _herdsman_stamp"], "would lose the mesh's columns"),
        (&["ALTER TABLE acc DROP CONSTRAINT acc_pkey"], "primary key"),
        (
            &[
                "ALTER TABLE acc DROP CONSTRAINT acc_pkey",
                "ALTER TABLE acc ADD PRIMARY KEY (id, val)",
            ],
            "primary key",
        ),
        (&["ALTER TABLE acc RENAME TO accounts"], "keep their names"),
        (&["ALTER TABLE acc ADD COLUMN at timestamptz DEFAULT now()"], "other values on node"),
        (&["ALTER TABLE acc ADD COLUMN r float8 DEFAULT random()"], "makes up for itself"),
        (
            &["ALTER TABLE acc ADD COLUMN a int", "ALTER TABLE acc ADD COLUMN a int"],
            "already exists",
        ),
        (&["DROP SCHEMA herdsman CASCADE"], "n1"),
        (&["ALTER TABLE acc ADD CONSTRAINT apart EXCLUDE (val WITH =)"], "exclu"),
    ];
    for (statements, why) in refused {
        let error = alter(&mesh, statements).await.expect_err("is refused");
        assert!(error.contains(why), "{statements:?}: {error}");
    }
    let jobs = "SELECT count(*) FROM herdsman.ddl";
    let columns =
        "SELECT count(*) FROM pg_attribute WHERE attrelid = 'acc'::regclass AND attnum > 0";
    for node in mesh.nodes() {
        assert_eq!(mesh.ask(&node, jobs).await.as_deref(), Some("0"));
        assert_eq!(mesh.ask(&node, columns).await.as_deref(), Some("5"));
    }
    equal(&mesh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_member_down_nothing_is_locked() {
    let Some(majors) = three_of(18).or_else(|| three_of(15)) else { return };
    let mesh = Mesh::start(majors, TABLES).await;
    mesh.settle().await;
    mesh.sandbox.kill("n3").await.unwrap();
    let error = alter(&mesh, &["ALTER TABLE acc ADD COLUMN extra int"]).await.unwrap_err();
    assert!(error.contains("n3"), "{error}");
    for node in ["n1", "n2"] {
        assert_eq!(mesh.ask(node, "SELECT count(*) FROM herdsman.ddl").await.as_deref(), Some("0"));
    }
}

/// Runs a job and drops it, as a crash would, once it has come so far.
async fn cut_short(mesh: &Mesh, statements: &[&str], at: impl Fn(&Progress) -> bool) {
    let setup = Arc::new(mesh.setup.clone());
    let (seen, mut waiting) = tokio::sync::mpsc::unbounded_channel();
    let statements = options(statements);
    let job = tokio::spawn(async move {
        let _cut =
            ddl::run(&setup, &statements, |progress| drop(seen.send(progress.clone()))).await;
    });
    let reached = async {
        while let Some(progress) = waiting.recv().await {
            if at(&progress) {
                break;
            }
        }
    };
    timeout(DEADLINE, reached).await.unwrap();
    job.abort();
    let _aborted = job.await;
}

/// Waits until the last job is over everywhere, and all say the same of it.
async fn settled(mesh: &Mesh) -> String {
    let question = "SELECT state FROM herdsman.ddl ORDER BY id DESC LIMIT 1";
    let deadline = Instant::now() + DEADLINE;
    loop {
        let mut states = Vec::new();
        for node in mesh.nodes() {
            states.push(mesh.ask(&node, question).await.unwrap());
        }
        states.dedup();
        if let [state] = &states[..]
            && ["done", "given up"].contains(&state.as_str())
        {
            return state.clone();
        }
        assert!(Instant::now() < deadline, "{states:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_runs_it_may_be_lost_at_any_time() {
    let Some(majors) = three_of(18).or_else(|| three_of(15)) else { return };
    cut_short_at_any_time(Mesh::start(majors, TABLES).await).await;
}

pub(crate) async fn cut_short_at_any_time(mesh: Mesh) {
    let mesh = Arc::new(mesh);
    let busy = Busy::write(&mesh, Duration::from_millis(5));
    let points: [fn(&Progress) -> bool; 3] = [
        |progress| matches!(progress, Progress::Locking { .. }),
        |progress| matches!(progress, Progress::Draining { .. }),
        |progress| matches!(progress, Progress::Committing { .. }),
    ];
    for (at, point) in points.into_iter().enumerate() {
        let add = format!("ALTER TABLE acc ADD COLUMN extra_{at} int DEFAULT {at}");
        cut_short(&mesh, &[&add], point).await;
        let state = settled(&mesh).await;
        let there = format!(
            "SELECT count(*) FROM pg_attribute WHERE attrelid = 'acc'::regclass AND attname = 'extra_{at}'"
        );
        let wanted = if state == "done" { "1" } else { "0" };
        for node in mesh.nodes() {
            assert_eq!(mesh.ask(&node, &there).await.as_deref(), Some(wanted), "{node}: {state}");
        }
        // The same again, where it was undone.
        let id: i64 =
            mesh.ask("n1", "SELECT max(id) FROM herdsman.ddl").await.unwrap().parse().unwrap();
        let setup = Arc::new(mesh.setup.clone());
        let again = Box::pin(ddl::retry(&setup, id, Duration::from_secs(60), |_| {})).await;
        again.unwrap();
        for node in mesh.nodes() {
            assert_eq!(mesh.ask(&node, &there).await.as_deref(), Some("1"), "{node}");
        }
    }
    let written = busy.stop().await;
    mesh.settle().await;
    nothing_lost(&mesh, &written).await;
    equal(&mesh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_lost_after_the_decision_makes_up_for_it() {
    let Some(majors) = three_of(18).or_else(|| three_of(15)) else { return };
    lost_after_the_decision(Mesh::start(majors, TABLES).await).await;
}

pub(crate) async fn lost_after_the_decision(mesh: Mesh) {
    mesh.on("n1", "INSERT INTO acc VALUES (1, 'a')").await;
    mesh.settle().await;
    alter(&mesh, &["ALTER TABLE acc ADD COLUMN extra int DEFAULT 7"]).await.unwrap();
    // As if n3 had crashed before it committed: it has neither the column nor the note that it is done.
    mesh.stop_engine().await;
    let root = mesh.root("n3").await;
    root.batch_execute(
        "ALTER TABLE acc DROP COLUMN extra; UPDATE herdsman.ddl SET state = 'prepared'",
    )
    .await
    .unwrap();
    mesh.on("n1", "UPDATE acc SET extra = 8; INSERT INTO acc VALUES (2, 'b')").await;
    mesh.on("n3", "INSERT INTO acc VALUES (3, 'c')").await;
    mesh.start_engine();
    mesh.until("n3", "SELECT state FROM herdsman.ddl", "done").await;
    mesh.settle().await;
    for node in mesh.nodes() {
        let rows =
            "SELECT string_agg(id || '=' || coalesce(extra::text, '-'), ' ' ORDER BY id) FROM acc";
        assert_eq!(mesh.ask(&node, rows).await.as_deref(), Some("1=8 2=7 3=7"), "{node}");
    }
    mesh.assert_equal(&BOTH).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_altered_by_hand_on_one_node_waits_is_named_and_goes_on_by_itself() {
    let Some(majors) = oldest_and_newest() else { return };
    let mesh = Arc::new(Mesh::start(majors, TABLES).await);
    until(&mesh, "all flow", |status| all_flow(status, 3)).await;
    let busy = Busy::write(&mesh, Duration::from_millis(5));
    sleep(Duration::from_millis(500)).await;
    mesh.on("n1", "ALTER TABLE acc ADD COLUMN extra int DEFAULT 5").await;
    // Others lack it, and n1 has what others do not write.
    let named = |status: &Status, target: &str, source: &str| {
        status.targets[target].links[source].problem.as_deref().is_some_and(|problem| {
            problem.contains("public.acc") && problem.contains("extra") && problem.contains("n1")
        })
    };
    until(&mesh, "n1's stream is held", |status| named(status, "n2", "n1")).await;
    until(&mesh, "n2's stream is held", |status| named(status, "n1", "n2")).await;
    // Between those that have it alike, changes flow.
    mesh.carried("n2", "n3").await;
    mesh.on("n2", "ALTER TABLE acc ADD COLUMN extra int DEFAULT 5").await;
    sleep(Duration::from_millis(500)).await;
    mesh.on("n3", "ALTER TABLE acc ADD COLUMN extra int DEFAULT 5").await;
    until(&mesh, "all flow", |status| all_flow(status, 3)).await;
    mesh.on("n1", "UPDATE acc SET extra = 6 WHERE id < 10").await;
    mesh.carried("n1", "n3").await;
    // And away again.
    for node in mesh.nodes() {
        mesh.on(&node, "ALTER TABLE acc DROP COLUMN extra").await;
        sleep(Duration::from_millis(300)).await;
    }
    let written = busy.stop().await;
    mesh.settle().await;
    nothing_lost(&mesh, &written).await;
    mesh.assert_equal(&BOTH).await;
    equal(&mesh).await;
}
