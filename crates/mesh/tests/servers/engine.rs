//! The engine on real servers: what it is given arrives once, whatever breaks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use herdsman_mesh::engine::Engine;
use herdsman_node::Lsn;
use herdsman_sandbox::Fault;
use tokio::time::{Instant, sleep, timeout};

use crate::harness::{BOTH, Busy, TABLES, all_flow, all_in, until_status};
use crate::proof::{Mesh, mixed_in_full, soak, three_of};

/// Counts how often a row of `log` is written, whoever writes it; not part of the mesh.
const AUDIT: &str = "
    CREATE SCHEMA audit;
    CREATE TABLE audit.written (id text);
    CREATE FUNCTION audit.count() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
        'BEGIN INSERT INTO audit.written VALUES (NEW.id); RETURN NEW; END';
    CREATE TRIGGER audit BEFORE INSERT OR UPDATE ON public.log FOR EACH ROW EXECUTE FUNCTION audit.count();
    ALTER TABLE public.log ENABLE ALWAYS TRIGGER audit";

/// Each test on 15, on 18, and, in full, on all versions together.
macro_rules! on_meshes {
    ($($(#[$meta:meta])* async fn $name:ident($majors:ident: Vec<u32>) $body:block)*) => {
        $(mod $name {
            use super::*;
            async fn run($majors: Vec<u32>) $body

            async fn run_on(majors: Option<Vec<u32>>) {
                if let Some(majors) = majors {
                    Box::pin(run(majors)).await;
                }
            }

            $(#[$meta])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_15() {
                run_on(three_of(15)).await;
            }

            $(#[$meta])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_18() {
                run_on(three_of(18)).await;
            }

            $(#[$meta])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_all() {
                run_on(mixed_in_full()).await;
            }
        })*
    };
}

/// Every acknowledged row is on every node, and all nodes hold the same.
async fn check(mesh: &Mesh, acknowledged: &[String]) {
    mesh.settle().await;
    mesh.assert_equal(&BOTH).await;
    let logs = mesh.rows("log", "id").await;
    for (node, rows) in &logs {
        let missing: Vec<_> = acknowledged.iter().filter(|id| !rows.contains_key(*id)).collect();
        assert!(missing.is_empty(), "{node} lacks {missing:?}");
    }
}

/// What every slot of a node is read by, and how far it is confirmed.
async fn slots(mesh: &Mesh, node: &str) -> BTreeMap<String, (bool, Lsn)> {
    let question =
        "SELECT slot_name::text, active, confirmed_flush_lsn::text FROM pg_replication_slots";
    let rows = mesh.root(node).await.query(question, &[]).await.unwrap();
    rows.iter()
        .map(|row| (row.get(0), (row.get(1), row.get::<_, &str>(2).parse().unwrap())))
        .collect()
}

on_meshes! {
    async fn what_is_written_anywhere_is_everywhere(majors: Vec<u32>) {
        let mesh = Arc::new(Mesh::start(majors, TABLES).await);
        let busy = Busy::write(&mesh, Duration::from_millis(2));
        mesh.until(&mesh.nodes()[0], "SELECT count(*) > 500 FROM log", "t").await;
        let acknowledged = busy.stop().await;
        assert!(acknowledged.len() > 100, "{} rows were written", acknowledged.len());
        check(&mesh, &acknowledged).await;
        mesh.stop_engine().await;
    }

    async fn a_node_that_is_killed_comes_back_and_nothing_is_lost(majors: Vec<u32>) {
        let mesh = Arc::new(Mesh::start(majors, TABLES).await);
        let busy = Busy::write(&mesh, Duration::from_millis(3));
        for node in mesh.nodes() {
            sleep(Duration::from_millis(fastrand::u64(700..1500))).await;
            mesh.sandbox.kill(&node).await.unwrap();
            sleep(Duration::from_millis(fastrand::u64(300..1500))).await;
            mesh.sandbox.start(&node).await.unwrap();
        }
        sleep(Duration::from_secs(1)).await;
        let acknowledged = busy.stop().await;
        check(&mesh, &acknowledged).await;
    }

    async fn an_engine_that_dies_anywhere_is_gone_on_with_and_applies_once(majors: Vec<u32>) {
        let mesh = Arc::new(Mesh::start(majors, TABLES).await);
        for node in mesh.nodes() {
            mesh.root(&node).await.batch_execute(AUDIT).await.unwrap();
        }
        let busy = Busy::write(&mesh, Duration::from_millis(5));
        for _ in 0..30 {
            sleep(Duration::from_millis(fastrand::u64(50..900))).await;
            mesh.drop_engine();
            mesh.start_engine();
        }
        let acknowledged = busy.stop().await;
        check(&mesh, &acknowledged).await;
        for node in mesh.nodes() {
            let question = "SELECT string_agg(DISTINCT id, ' ') FROM (SELECT id FROM audit.written GROUP BY id HAVING count(*) > 1) t";
            assert_eq!(mesh.ask(&node, question).await, None, "written more than once on {node}");
            let question = "SELECT (SELECT count(*) FROM audit.written) = (SELECT count(*) FROM log)";
            assert_eq!(mesh.ask(&node, question).await.unwrap(), "t", "{node}");
        }
    }

    async fn of_two_engines_one_applies_and_the_other_takes_over(majors: Vec<u32>) {
        let count = majors.len();
        let mesh = Arc::new(Mesh::prepared(majors, TABLES, |_| {}).await);
        let first = Engine::start(mesh.setup.clone()).unwrap();
        until_status(&first, "the first works", |status| all_flow(status, count)).await;
        let second = Engine::start(mesh.setup.clone()).unwrap();
        until_status(&second, "the second waits", |status| all_in(status, count, "waiting")).await;
        let busy = Busy::write(&mesh, Duration::from_millis(5));
        sleep(Duration::from_secs(2)).await;
        assert!(all_in(&second.status().borrow(), count, "waiting"), "both apply");
        drop(first);
        until_status(&second, "the second takes over", |status| all_flow(status, count)).await;
        let acknowledged = busy.stop().await;
        check(&mesh, &acknowledged).await;
        second.stop().await;
    }

    async fn a_link_that_is_cut_or_falls_silent_heals(majors: Vec<u32>) {
        let mesh = Arc::new(Mesh::start(majors, TABLES).await);
        let busy = Busy::write(&mesh, Duration::from_millis(5));
        for fault in [Fault::Cut, Fault::Stall, Fault::Reset] {
            for node in mesh.nodes() {
                let proxy = mesh.sandbox.client_proxy(&node).unwrap();
                proxy.set(fault);
                sleep(Duration::from_millis(400)).await;
                proxy.set(Fault::Pass);
                sleep(Duration::from_millis(200)).await;
            }
        }
        let acknowledged = busy.stop().await;
        check(&mesh, &acknowledged).await;
    }

    async fn a_held_link_keeps_back_what_is_written_and_no_other_does(majors: Vec<u32>) {
        let mesh = Mesh::start(majors, TABLES).await;
        let nodes = mesh.nodes();
        let (a, b, c) = (&nodes[0], &nodes[1], &nodes[2]);
        mesh.settle().await;
        mesh.hold(a, b);
        for number in 0..20 {
            mesh.on(a, &format!("INSERT INTO log VALUES ('{number}', 'a', 1)")).await;
        }
        mesh.carried(a, c).await;
        mesh.on(b, "INSERT INTO log VALUES ('b', 'b', 1)").await;
        mesh.carried(b, a).await;
        // Signs of life of the others come and go meanwhile.
        sleep(Duration::from_millis(1500)).await;
        assert_eq!(mesh.ask(b, "SELECT count(*) FROM log").await.unwrap(), "1");
        mesh.settle().await;
        mesh.assert_equal(&BOTH).await;
        assert_eq!(mesh.ask(b, "SELECT count(*) FROM log").await.unwrap(), "21");
    }

    async fn a_pause_within_a_large_transaction_lets_it_end_and_locks_nothing(majors: Vec<u32>) {
        // Four rows of it go over at a time.
        let mesh = Mesh::start_with(majors, TABLES, |config| config.batch.rows = 4).await;
        let nodes = mesh.nodes();
        let (a, b) = (&nodes[0], &nodes[1]);
        mesh.on(a, "INSERT INTO log SELECT n::text, 'a', 1 FROM generate_series(10, 29) n").await;
        mesh.settle().await;
        let client = mesh.app(b).await;
        client.batch_execute("BEGIN; SELECT FROM log WHERE id = '19' FOR UPDATE").await.unwrap();
        mesh.on(a, "UPDATE log SET n = 2").await;
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'mesh' AND wait_event_type = 'Lock'";
        mesh.until(b, waiting, "1").await;
        mesh.hold(a, b);
        client.batch_execute("COMMIT").await.unwrap();
        mesh.on(a, "UPDATE log SET n = 3 WHERE id = '29'").await;
        // A row of its beginning is there for everybody, and so is its end.
        let row = client.batch_execute("SELECT FROM log WHERE id = '10' FOR UPDATE");
        timeout(Duration::from_secs(60), row).await.unwrap().unwrap();
        assert_eq!(mesh.ask(b, "SELECT count(*) FROM log WHERE n = 2").await.unwrap(), "20");
        // What was written after the pause is held.
        sleep(Duration::from_millis(1500)).await;
        assert_eq!(mesh.ask(b, "SELECT count(*) FROM log WHERE n = 3").await.unwrap(), "0");
        mesh.settle().await;
        mesh.assert_equal(&BOTH).await;
        assert_eq!(mesh.ask(b, "SELECT n FROM log WHERE id = '29'").await.unwrap(), "3");
    }

    async fn an_engine_that_is_stopped_leaves_nothing_behind(majors: Vec<u32>) {
        let mesh = Arc::new(Mesh::start(majors, TABLES).await);
        let busy = Busy::write(&mesh, Duration::from_millis(2));
        sleep(Duration::from_secs(1)).await;
        mesh.stop_engine().await;
        let acknowledged = busy.stop().await;
        for node in mesh.nodes() {
            let active = "SELECT count(*) FROM pg_replication_slots WHERE active";
            mesh.until(&node, active, "0").await;
            let sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'mesh'";
            mesh.until(&node, sessions, "0").await;
        }
        // What is confirmed is on disk at the target, and what is on disk there is confirmed.
        let mut confirmed = Vec::new();
        for source in mesh.nodes() {
            let id = mesh.ask(&source, "SELECT node FROM herdsman.mesh").await.unwrap();
            let slots = slots(&mesh, &source).await;
            for target in mesh.nodes() {
                let own = mesh.ask(&target, "SELECT node FROM herdsman.mesh").await.unwrap();
                let progress = format!("SELECT lsn FROM herdsman.progress WHERE source = {id}");
                let applied: Lsn = mesh.ask(&target, &progress).await.unwrap().parse().unwrap();
                let slot = slots[&format!("herdsman_mesh_to_{own}")].1;
                assert!(slot >= applied, "{source} → {target}: {slot} is confirmed of {applied}");
                confirmed.push(slot);
            }
        }
        mesh.start_engine();
        check(&mesh, &acknowledged).await;
    }

    async fn at_rest_next_to_nothing_is_written(majors: Vec<u32>) {
        let mesh = Mesh::start(majors, TABLES).await;
        for node in mesh.nodes() {
            mesh.on(&node, &format!("INSERT INTO log SELECT '{node}-' || n, '{node}', n FROM generate_series(1, 100) n")).await;
        }
        mesh.settle().await;
        let mut before = BTreeMap::new();
        for node in mesh.nodes() {
            // What a checkpoint makes pages cost more is no matter of ours.
            mesh.root(&node).await.batch_execute("CHECKPOINT").await.unwrap();
        }
        sleep(Duration::from_secs(2)).await;
        for node in mesh.nodes() {
            before.insert(node.clone(), mesh.ask(&node, "SELECT pg_current_wal_lsn()").await.unwrap());
        }
        sleep(Duration::from_secs(5)).await;
        for node in mesh.nodes() {
            let question = format!("SELECT pg_current_wal_lsn() - '{}'::pg_lsn", before[&node]);
            let grown: f64 = mesh.ask(&node, &question).await.unwrap().parse().unwrap();
            assert!(grown < 5.0 * 20_000.0, "{node} has written {grown} bytes within 5 s");
        }
        mesh.assert_equal(&BOTH).await;
    }

    async fn a_lost_slot_is_told_and_the_other_links_go_on(majors: Vec<u32>) {
        let mesh = Mesh::prepared(majors, TABLES, |_| {}).await;
        let nodes = mesh.nodes();
        let (a, b) = (&nodes[0], &nodes[1]);
        let id = mesh.ask(b, "SELECT node FROM herdsman.mesh").await.unwrap();
        let slot = format!("herdsman_mesh_to_{id}");
        mesh.root(a).await.execute("SELECT pg_drop_replication_slot($1)", &[&slot]).await.unwrap();
        mesh.start_engine();
        let engine = Engine::start(mesh.setup.clone()).unwrap();
        mesh.drop_engine();
        until_status(&engine, "the loss is told", |status| {
            let link = status.targets.get(b).and_then(|target| target.links.get(a));
            link.is_some_and(|link| {
                let problem = link.problem.as_deref().unwrap_or_default();
                link.state == "failing" && problem.contains(&slot) && problem.contains(&format!("`herdsman mesh add {b}`"))
            })
        })
        .await;
        mesh.on(b, "INSERT INTO log VALUES ('b', 'b', 1)").await;
        mesh.until(a, "SELECT count(*) FROM log", "1").await;
        engine.stop().await;
    }
}

/// In a process of its own, whose memory is that of one mesh.
async fn large_alone(major: u32) {
    if three_of(major).is_none() {
        return;
    }
    let itself = std::env::current_exe().unwrap();
    let output = tokio::process::Command::new(itself)
        .args(["--exact", "engine::a_large_transaction_alone", "--ignored", "--nocapture"])
        .env("HERDSMAN_CASE", major.to_string())
        // What is freed goes back at once: what the program holds is measured, not what its allocator keeps for it.
        .env("MALLOC_MMAP_THRESHOLD_", "131072")
        .env("MALLOC_TRIM_THRESHOLD_", "131072")
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_transaction_goes_through_in_bounded_memory_on_15() {
    // It is this program's memory, whatever the servers: once will do where there is little time.
    if soak() || three_of(18).is_none() {
        large_alone(15).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_transaction_goes_through_in_bounded_memory_on_18() {
    large_alone(18).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by two others, in a process of its own"]
async fn a_large_transaction_alone() {
    let major = std::env::var("HERDSMAN_CASE").ok().and_then(|major| major.parse().ok());
    let mesh = Mesh::start(three_of(major.unwrap()).unwrap(), TABLES).await;
    let nodes = mesh.nodes();
    for node in &nodes {
        // On a busy machine a log of such a size waits for a while; the sandbox would keep less of it for a slot.
        let root = mesh.root(node).await;
        root.batch_execute("ALTER SYSTEM SET max_slot_wal_keep_size = '2GB'").await.unwrap();
        root.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    }
    mesh.settle().await;
    let before = memory();
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    let watching = tokio::spawn(async move {
        loop {
            seen.fetch_max(memory(), Ordering::Relaxed);
            sleep(Duration::from_millis(20)).await;
        }
    });
    let begun = Instant::now();
    let large = "INSERT INTO log SELECT 'big-' || n, repeat(md5(n::text), 20), n FROM generate_series(1, 200000) n";
    mesh.on(&nodes[0], large).await;
    // Small ones of the others find their way meanwhile.
    for number in 0..20 {
        mesh.on(&nodes[1], &format!("INSERT INTO log VALUES ('small-{number}', 'b', 1)")).await;
    }
    // It takes a while where other tests have the machine, too.
    for node in &nodes {
        let count = "SELECT count(*) FROM log";
        while mesh.ask(node, count).await.as_deref() != Some("200020") {
            assert!(begun.elapsed() < Duration::from_secs(400), "{node} does not get it all");
            sleep(Duration::from_millis(500)).await;
        }
    }
    mesh.settle().await;
    watching.abort();
    let grown = most.load(Ordering::Relaxed).saturating_sub(before);
    crate::proof::report(&format!(
        "200,000 rows of 640 bytes in one transaction: {:?}, {} MiB more",
        begun.elapsed(),
        grown >> 20
    ));
    // Three links read 128 MB of rows each. What they have under way takes 80 to 135 MB together, more where the machine is
    // busy; with one of them whole it would be as much again.
    assert!(grown < 192 << 20, "{} MiB more", grown >> 20);
}

/// Bytes of memory this process holds.
fn memory() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_the_list_of_members_is_left_alone_without_a_restart() {
    let Some(majors) = three_of(18) else { return };
    let mesh = Mesh::prepared(majors, TABLES, |_| {}).await;
    let engine = Engine::start(mesh.setup.clone()).unwrap();
    until_status(&engine, "all flows", |status| all_flow(status, 3)).await;
    let gone = mesh.nodes()[2].clone();
    let id = mesh.ask(&gone, "SELECT node FROM herdsman.mesh").await.unwrap();
    for node in mesh.nodes() {
        let update = format!("UPDATE herdsman.members SET state = 'gone' WHERE node = {id}");
        mesh.root(&node).await.batch_execute(&update).await.unwrap();
    }
    until_status(&engine, "two are left", |status| all_flow(status, 2)).await;
    let left: BTreeSet<String> = engine.status().borrow().targets.keys().cloned().collect();
    assert!(!left.contains(&gone), "{left:?}");
    let active = "SELECT count(*) FROM pg_replication_slots WHERE active";
    mesh.until(&gone, active, "0").await;
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_conflicts_and_tombstones_go_and_young_ones_stay() {
    let Some(majors) = three_of(18) else { return };
    let mesh = Mesh::start(majors, TABLES).await;
    let node = mesh.nodes()[0].clone();
    mesh.on(&node, "INSERT INTO acc VALUES (1, 'x'), (2, 'y'); DELETE FROM acc").await;
    mesh.settle().await;
    mesh.stop_engine().await;
    for node in mesh.nodes() {
        mesh.root(&node).await.batch_execute(
            "SET session_replication_role = replica;
             UPDATE herdsman_gone.\"public.acc\" SET _herdsman_stamp = 77 WHERE id = 1;
             INSERT INTO herdsman.conflicts (at, rel, kind, winner, why) VALUES (now() - interval '99 days', 'public.acc', 'update_update', 'held', 'old'), (now(), 'public.acc', 'update_update', 'held', 'young')",
        ).await.unwrap();
    }
    mesh.start_engine();
    for node in mesh.nodes() {
        mesh.until(
            &node,
            "SELECT string_agg(id::text, ' ') FROM herdsman_gone.\"public.acc\"",
            "2",
        )
        .await;
        mesh.until(
            &node,
            "SELECT string_agg(why, ' ') FROM herdsman.conflicts WHERE why IN ('old', 'young')",
            "young",
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_in_the_way_is_named() {
    let Some(majors) = three_of(18) else { return };
    let mesh = Mesh::prepared(majors, TABLES, |_| {}).await;
    let engine = Engine::start(mesh.setup.clone()).unwrap();
    let (here, there) = (mesh.nodes()[0].clone(), mesh.nodes()[1].clone());
    mesh.on(&here, "INSERT INTO acc VALUES (1, 'x')").await;
    mesh.until(&there, "SELECT count(*) FROM acc", "1").await;
    let holder = mesh.app(&there).await;
    holder
        .batch_execute("SET application_name = 'a report'; BEGIN; SELECT FROM acc FOR UPDATE")
        .await
        .unwrap();
    mesh.on(&here, "UPDATE acc SET val = 'y'").await;
    until_status(&engine, "the holder is named", |status| {
        let problem = status.targets.get(&there).and_then(|target| target.problem.as_deref());
        problem.is_some_and(|problem| problem.contains("of app, a report, idle in transaction"))
    })
    .await;
    holder.batch_execute("ROLLBACK").await.unwrap();
    mesh.until(&there, "SELECT val FROM acc", "y").await;
    until_status(&engine, "nobody is", |status| {
        status.targets.get(&there).is_some_and(|target| target.problem.is_none())
    })
    .await;
    engine.stop().await;
}
