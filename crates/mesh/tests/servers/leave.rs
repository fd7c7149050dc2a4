//! Members leave, and are given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use herdsman_mesh::config::Mode;
use herdsman_mesh::leave::{self, Progress};
use herdsman_mesh::{MeshError, Setup};
use tokio::time::{sleep, timeout};

use crate::proof::{DEADLINE, Mesh, mixed, name, three_of};
use crate::world::{World, Writers};

const SLOTS: &str = "SELECT count(*)::text FROM pg_replication_slots";
/// What a node that has left must not have any more.
pub(crate) const TRACES: &str = "SELECT concat_ws(' ',
    (SELECT count(*) FROM pg_replication_slots), (SELECT count(*) FROM pg_publication),
    (SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'herdsman%' AND nspname <> 'herdsman_monitor'),
    (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal),
    (SELECT count(*) FROM pg_replication_origin),
    (SELECT count(*) FROM pg_attribute WHERE attname LIKE '\\_herdsman%' AND NOT attisdropped))";

#[tokio::test(flavor = "multi_thread")]
async fn a_member_leaves_without_a_trace_while_the_others_are_written() {
    let Some(majors) = mixed() else { return };
    let mut world = World::start(majors.into_iter().take(3).collect(), 3, 2000).await;
    let writers = Writers::start(&world, &["n1", "n2", "n3"]).await;
    sleep(Duration::from_secs(1)).await;
    // Its application goes first.
    writers.end("n3");
    sleep(Duration::from_millis(300)).await;
    let left = world.remove("n3", leave::Options::default()).await;
    assert_eq!((left.id.0, left.slots), (3, 2), "{left:?}");
    sleep(Duration::from_millis(500)).await;
    let written = writers.stop().await;
    world.assert_equal().await;
    world.assert_all_there(&written).await;
    assert!(written.iter().any(|id| id.starts_with("n3-")));
    for node in ["n1", "n2"] {
        assert_eq!(world.text(node, SLOTS).await.as_deref(), Some("2"), "{node}");
    }
    assert_eq!(world.text("n3", TRACES).await.as_deref(), Some("0 0 0 0 0 0"));
    // What it holds is its own from now on.
    world.app("n3").await.batch_execute("DELETE FROM log").await.unwrap();
    world.assert_all_there(&written).await;
    world.stop_engine().await;
}

/// Whoever goes on writing to a member that leaves is told so, and what was acknowledged before is on the others.
async fn leaves_while_it_is_written(majors: Vec<u32>) {
    let mut world = World::start(majors, 3, 2000).await;
    let mut writers = Writers::start(&world, &["n1", "n2"]).await;
    for _ in 0..4 {
        writers.more(&world, "n3").await;
    }
    // One transaction that is open when the member begins to leave, and has written already.
    let slow = world.app("n3").await;
    slow.batch_execute("BEGIN; INSERT INTO log VALUES ('slow', 0)").await.unwrap();
    let ending = async {
        sleep(Duration::from_secs(2)).await;
        slow.batch_execute("COMMIT").await.unwrap();
    };
    let (left, ()) = tokio::join!(world.remove("n3", leave::Options::default()), ending);
    assert_eq!((left.id.0, left.slots), (3, 2), "{left:?}");
    let told = writers.refusal("n3").expect("who wrote there was turned away");
    assert!(told.contains("node \"n3\" leaves the mesh \"mesh\""), "{told}");
    assert!(told.contains("Connect to another member"), "{told}");
    sleep(Duration::from_millis(300)).await;
    let mut written = writers.stop().await;
    written.push("slow".to_owned());
    assert!(written.iter().any(|id| id.starts_with("n3-")));
    // What the others wrote last may be on its way; what the one that left wrote is not.
    world.assert_equal().await;
    world.assert_all_there(&written).await;
    // In the end it is a database like any other.
    world.app("n3").await.batch_execute("INSERT INTO log VALUES ('own', 0)").await.unwrap();
    world.stop_engine().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_to_a_member_that_leaves_is_kept_or_refused_on_15() {
    if let Some(majors) = three_of(15) {
        leaves_while_it_is_written(majors).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_to_a_member_that_leaves_is_kept_or_refused_on_18() {
    if let Some(majors) = three_of(18) {
        leaves_while_it_is_written(majors).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_not_taken_out_before_the_others_have_all_that_it_wrote() {
    let Some(majors) = three_of(18) else { return };
    let mesh = Mesh::start(majors, "CREATE TABLE t (id int PRIMARY KEY, v text)").await;
    mesh.settle().await;
    mesh.hold("n3", "n1");
    mesh.on("n3", "INSERT INTO t SELECT n, 'n3' FROM generate_series(1, 100) AS n").await;
    mesh.carried("n3", "n2").await;
    let setup = Arc::new(mesh.setup.clone());
    let (node, patience) = (name("n3"), Duration::from_secs(3));
    let options = leave::Options { patience, ..leave::Options::default() };
    let removing = leave::remove(&setup, &node, &options, |_| {});
    let error = timeout(DEADLINE, removing).await.expect("it ends").unwrap_err();
    assert!(matches!(error, MeshError::TimedOut { .. }), "{error}");
    assert!(error.to_string().contains("n3 to n1"), "{error}");
    // It goes on leaving, and nobody adds to what is on its way.
    let refused = mesh.app("n3").await.batch_execute("DELETE FROM t").await.unwrap_err();
    assert_eq!(refused.code().map(|code| code.code()), Some("25006"), "{refused:?}");

    // Called off, it is a member like the others.
    leave::cancel(&setup, &node, |_| {}).await.unwrap();
    mesh.on("n3", "INSERT INTO t VALUES (101, 'n3')").await;
    mesh.carried("n3", "n2").await;
    for other in mesh.nodes() {
        let state = mesh.ask(&other, "SELECT state FROM herdsman.members WHERE node = 3").await;
        assert_eq!(state.as_deref(), Some("active"), "{other}");
    }
    assert_refused(leave::cancel(&setup, &node, |_| {}).await, "does not leave");
    // While a command waits for it to be drained, too: that one ends then, and takes nothing out.
    let options = leave::Options::default();
    let removing = leave::remove(&setup, &node, &options, |_| {});
    let calling_off = async {
        let guarded = "SELECT count(*)::text FROM pg_trigger WHERE tgname = '~herdsman_leaving'";
        while mesh.ask("n3", guarded).await.as_deref() != Some("2") {
            sleep(Duration::from_millis(20)).await;
        }
        sleep(Duration::from_millis(500)).await;
        leave::cancel(&setup, &node, |_| {}).await.unwrap();
        mesh.release("n3", "n1");
    };
    let both = async { tokio::join!(removing, calling_off).0 };
    let outcome = timeout(DEADLINE, both).await.expect("they end");
    assert_refused(outcome, "called its leave off");
    mesh.on("n3", "INSERT INTO t VALUES (102, 'n3')").await;

    // Once the others count on its being gone, it can only be finished, wherever it was cut off.
    cut_off(&setup, |progress| matches!(progress, Progress::Dropping)).await;
    assert_refused(leave::cancel(&setup, &node, |_| {}).await, "has left");
    cut_off(&setup, |progress| {
        matches!(progress, Progress::Removing(step) if step.what.contains("out of the mesh"))
    })
    .await;
    assert_refused(leave::cancel(&setup, &node, |_| {}).await, "has left");
    let removing = leave::remove(&setup, &node, &options, |_| {});
    let left = timeout(DEADLINE, removing).await.expect("it ends").unwrap();
    assert_eq!(left.id.0, 3, "{left:?}");
    for node in ["n1", "n2"] {
        let count = mesh.ask(node, "SELECT count(*)::text FROM t").await;
        assert_eq!(count.as_deref(), Some("102"), "{node}");
        assert_eq!(mesh.ask(node, SLOTS).await.as_deref(), Some("2"), "{node}");
    }
    assert_eq!(mesh.ask("n3", TRACES).await.as_deref(), Some("0 0 0 0 0 0"));
    assert_refused(leave::remove(&setup, &node, &options, |_| {}).await, "is no member");
    mesh.stop_engine().await;
}

fn assert_refused<T: std::fmt::Debug>(outcome: Result<T, MeshError>, why: &str) {
    let error = outcome.unwrap_err();
    assert!(matches!(error, MeshError::Refused { .. }), "{error}");
    assert!(error.to_string().contains(why), "{error}");
}

/// Begins to take the third node out, and is cut off as soon as it tells this.
async fn cut_off(setup: &Arc<Setup>, at: fn(&Progress) -> bool) {
    let (node, options) = (name("n3"), leave::Options::default());
    let reached = AtomicBool::new(false);
    let removing = leave::remove(setup, &node, &options, |progress| {
        reached.fetch_or(at(progress), Ordering::Relaxed);
    });
    let mut removing = std::pin::pin!(removing);
    let until_reached = std::future::poll_fn(|context| {
        let ended = removing.as_mut().poll(context);
        if reached.load(Ordering::Relaxed) {
            return Poll::Ready(());
        }
        assert!(ended.is_pending(), "it was not to get that far: {ended:?}");
        Poll::Pending
    });
    timeout(DEADLINE, until_reached).await.expect("it gets that far");
}

/// What [`given_up`] writes to.
pub(crate) const TABLES: &str =
    "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE e (id int PRIMARY KEY)";

/// The third member is lost while only the first has received what it wrote last.
async fn lose(mesh: &Mesh) {
    mesh.on(
        "n1",
        "INSERT INTO t SELECT n, 'old' FROM generate_series(1, 100) AS n; INSERT INTO e VALUES (1)",
    )
    .await;
    mesh.settle().await;
    mesh.cut("n3", "n2");
    mesh.on("n3", "UPDATE t SET v = 'new' WHERE id <= 10").await;
    mesh.on("n3", "DELETE FROM t WHERE id BETWEEN 11 AND 20; INSERT INTO t VALUES (500, 'new')")
        .await;
    mesh.on("n3", "TRUNCATE e").await;
    mesh.carried("n3", "n1").await;
    // Written by the others since, knowing it and not knowing it.
    mesh.on("n1", "UPDATE t SET v = 'newer' WHERE id = 1").await;
    mesh.on("n2", "UPDATE t SET v = 'elsewhere' WHERE id = 2").await;
    mesh.carried("n1", "n2").await;
    mesh.carried("n2", "n1").await;
    mesh.sandbox.kill("n3").await.unwrap();
}

/// What the two that are left hold, versions included.
async fn both(mesh: &Mesh) -> (Option<String>, Option<String>) {
    let version = match mesh.setup.config.mode {
        Mode::Columns => "t._herdsman_stamp, t._herdsman_node",
        Mode::Untouched => "herdsman.micros(t.xmin), herdsman.node(t.xmin)",
    };
    let held = format!(
        "SELECT md5(string_agg((t.id, t.v, {version})::text, ',' ORDER BY id)) || (SELECT count(*) FROM e) FROM t"
    );
    (mesh.ask("n1", &held).await, mesh.ask("n2", &held).await)
}

/// A mesh gives its third member up, and is taken down in the end.
pub(crate) async fn given_up(mesh: Mesh) {
    lose(&mesh).await;
    // Without a heal they stay apart: nobody sends on what another wrote.
    mesh.carried("n1", "n2").await;
    mesh.carried("n2", "n1").await;
    let (one, other) = both(&mesh).await;
    assert_ne!(one, other);
    let setup = Arc::new(mesh.setup.clone());
    let options = leave::Options { dead: true, ..leave::Options::default() };
    let node = name("n3");
    let removing = leave::remove(&setup, &node, &options, |_| {});
    let left = timeout(DEADLINE, removing).await.expect("it ends").unwrap();
    assert_eq!(left.slots, 2, "{left:?}");
    let (one, other) = both(&mesh).await;
    assert_eq!(one, other, "{left:?}");
    let spread = left.spread.unwrap();
    // 8 rows that were changed and not again, 10 deleted, 1 inserted, and the test's own mark; row 2 lost to a later one.
    assert!((19..=21).contains(&spread.keys), "{spread:?}");
    for (question, answer) in [
        ("SELECT count(*)::text FROM t WHERE v = 'new'", "9"),
        ("SELECT v FROM t WHERE id = 1", "newer"),
        ("SELECT v FROM t WHERE id = 2", "elsewhere"),
        ("SELECT count(*)::text FROM t WHERE id BETWEEN 11 AND 20", "0"),
        ("SELECT count(*)::text FROM e", "0"),
        (SLOTS, "2"),
        ("SELECT state FROM herdsman.members WHERE node = 3", "gone"),
    ] {
        for node in ["n1", "n2"] {
            assert_eq!(
                mesh.ask(node, question).await.as_deref(),
                Some(answer),
                "{node}: {question}"
            );
        }
    }
    // They go on without it.
    mesh.on("n1", "INSERT INTO t VALUES (600, 'after')").await;
    mesh.carried("n1", "n2").await;
    // When it is there again, it is made a database of its own; and in the end the others are.
    mesh.sandbox.start("n3").await.unwrap();
    let nothing_told = |_: &_| {};
    assert_refused(
        leave::down(&setup, Some(&name("n2")), false, nothing_told).await,
        "is a member",
    );
    assert_eq!(leave::down(&setup, Some(&node), false, nothing_told).await.unwrap(), [node]);
    assert_eq!(mesh.ask("n3", TRACES).await.as_deref(), Some("0 0 0 0 0 0"));
    assert_refused(leave::down(&setup, None, false, nothing_told).await, "applies changes there");
    mesh.stop_engine().await;
    let rest = leave::down(&setup, None, false, nothing_told).await.unwrap();
    assert_eq!(rest, [name("n1"), name("n2")]);
    for node in ["n1", "n2"] {
        assert_eq!(mesh.ask(node, TRACES).await.as_deref(), Some("0 0 0 0 0 0"), "{node}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_still_applies_when_the_mesh_is_taken_off_is_waited_for() {
    let Some(majors) = three_of(18).or_else(|| three_of(15)) else { return };
    let mesh = Mesh::prepared(majors.into_iter().take(2).collect(), TABLES, |_| {}).await;
    let late = mesh.root("n1").await;
    let marks = "SELECT pg_replication_origin_session_setup(roname) FROM pg_replication_origin WHERE roname ~ '^herdsman_' LIMIT 1";
    late.batch_execute(marks).await.unwrap();
    tokio::spawn(async move {
        sleep(Duration::from_secs(1)).await;
        drop(late);
    });
    let setup = Arc::new(mesh.setup.clone());
    assert_eq!(leave::down(&setup, None, false, |_| {}).await.unwrap().len(), 2);
    for node in ["n1", "n2"] {
        assert_eq!(mesh.ask(node, TRACES).await.as_deref(), Some("0 0 0 0 0 0"), "{node}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_one_had_received_from_a_lost_member_is_spread_on_15() {
    if let Some(majors) = three_of(15) {
        given_up(Mesh::start(majors, TABLES).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_one_had_received_from_a_lost_member_is_spread_on_18() {
    if let Some(majors) = three_of(18) {
        given_up(Mesh::start(majors, TABLES).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_answers_is_not_given_up() {
    let Some(majors) = three_of(18) else { return };
    let mesh = Mesh::start(majors, "CREATE TABLE t (id int PRIMARY KEY, v text)").await;
    let setup = Arc::new(mesh.setup.clone());
    let options = leave::Options { dead: true, ..leave::Options::default() };
    let error = leave::remove(&setup, &name("n3"), &options, |_| {}).await.unwrap_err();
    assert!(matches!(error, MeshError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("answers"), "{error}");
    for node in mesh.nodes() {
        assert_eq!(mesh.ask(&node, SLOTS).await.as_deref(), Some("3"), "{node}");
    }
    mesh.stop_engine().await;
}
