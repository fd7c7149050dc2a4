//! The whole service on real servers: from the first start over every kind of break.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use herdsman_node::{Conninfo, NodeName};
use herdsman_sandbox::{Sandbox, on_each_version};
use herdsman_stream::config::{GuardAction, LagGuardConfig, LostSlot, SnapshotMode};
use herdsman_stream::engine::End;
use herdsman_stream::service::{Service, ServiceError, Setup};
use herdsman_stream::{Batch, DeliveryError, Sink, StreamConfig};
use herdsman_watch::{AvailabilityConfig, WatchConfig, Watcher};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Keeps what it gets, a word for each change.
#[derive(Default)]
struct Collector {
    got: Mutex<Vec<String>>,
}

#[async_trait]
impl Sink for Collector {
    async fn deliver(&self, batch: &Batch) -> Result<(), DeliveryError> {
        let mut got = self.got.lock().unwrap();
        for change in &batch.changes {
            let view = change.view();
            let id = view.key_row().and_then(|row| Some(row.field("id")?.text()?.to_owned()));
            got.push(format!("{} {}", view.kind().name(), id.unwrap_or_default()));
        }
        Ok(())
    }
}

impl Collector {
    fn got(&self) -> Vec<String> {
        self.got.lock().unwrap().clone()
    }

    async fn wait_for(&self, word: &str) -> Vec<String> {
        let waiting = async {
            while !self.got().iter().any(|got| got == word) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(60), waiting).await;
        assert!(in_time.is_ok(), "`{word}` did not come: {:?}", self.got());
        self.got()
    }
}

/// Keeps the rows as they are, taking each as the whole truth.
#[derive(Default)]
struct Copy {
    rows: Mutex<BTreeMap<String, String>>,
    pause: Duration,
}

#[async_trait]
impl Sink for Copy {
    async fn deliver(&self, batch: &Batch) -> Result<(), DeliveryError> {
        tokio::time::sleep(self.pause).await;
        let mut rows = self.rows.lock().unwrap();
        for change in &batch.changes {
            let text = |row: herdsman_wal::Row<'_>, name| {
                row.field(name).unwrap().text().unwrap().to_owned()
            };
            if let Some(old) = change.old_row() {
                rows.remove(&text(old, "id"));
            }
            if let Some(new) = change.new_row() {
                rows.insert(text(new, "id"), text(new, "v"));
            }
        }
        Ok(())
    }
}

/// Never takes anything.
struct Stuck;

#[async_trait]
impl Sink for Stuck {
    async fn deliver(&self, _: &Batch) -> Result<(), DeliveryError> {
        std::future::pending().await
    }
}

fn nodes(sandbox: &Sandbox, names: &[&str]) -> BTreeMap<NodeName, Conninfo> {
    let info = |name| Conninfo::from_pairs(sandbox.conninfo(name, "postgres").unwrap()).unwrap();
    names.iter().map(|&name| (NodeName::new(name).unwrap(), info(name))).collect()
}

fn config(state: &Path) -> StreamConfig {
    StreamConfig { state: state.to_owned(), ..StreamConfig::default() }
}

struct Running {
    task: JoinHandle<Result<End, ServiceError>>,
    stop: CancellationToken,
    got: Arc<Collector>,
}

impl Running {
    async fn stop(self) -> Vec<String> {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        self.got.got()
    }
}

fn start(
    sandbox: &Sandbox,
    names: &[&str],
    config: StreamConfig,
    watch: Option<&Watcher>,
) -> Running {
    let got = Arc::new(Collector::default());
    let setup = Setup {
        config,
        nodes: nodes(sandbox, names),
        watch: watch.map(Watcher::watch),
        sinks: vec![("collector".to_owned(), Arc::clone(&got) as Arc<dyn Sink>)],
    };
    let service = Service::new(setup).unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(service.run(stop.clone()));
    Running { task, stop, got }
}

fn watcher(sandbox: &Sandbox, names: &[&str]) -> Watcher {
    let setup = herdsman_watch::Setup {
        nodes: nodes(sandbox, names),
        watch: WatchConfig::default(),
        availability: AvailabilityConfig::default(),
    };
    Watcher::start(setup).unwrap()
}

async fn sql(sandbox: &Sandbox, node: &str, sql: &str) {
    sandbox.sql(node, "postgres").await.unwrap().batch_execute(sql).await.unwrap();
}

on_each_version! {
    async fn what_is_there_comes_first_then_what_happens_and_a_restart_goes_on_where_it_ended(version: u32) {
        let sandbox = Sandbox::builder().pg_version(version).start().await.unwrap();
        let state = tempfile::tempdir().unwrap();
        sql(&sandbox, "n1", "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)").await;
        let config = StreamConfig { snapshot: SnapshotMode::Initial, ..config(state.path()) };
        let running = start(&sandbox, &["n1"], config.clone(), None);
        running.got.wait_for("read 2").await;
        sql(&sandbox, "n1", "INSERT INTO t VALUES (3); DELETE FROM t WHERE id = 1").await;
        running.got.wait_for("delete 1").await;
        assert_eq!(running.stop().await, ["read 1", "read 2", "insert 3", "delete 1"]);
        sql(&sandbox, "n1", "INSERT INTO t VALUES (4)").await;
        let running = start(&sandbox, &["n1"], config, None);
        running.got.wait_for("insert 4").await;
        assert_eq!(running.stop().await, ["insert 4"]);
    }

    async fn a_server_that_is_killed_and_comes_back_costs_no_change(version: u32) {
        let sandbox = Sandbox::builder().pg_version(version).start().await.unwrap();
        let state = tempfile::tempdir().unwrap();
        sql(&sandbox, "n1", "CREATE TABLE t (id int PRIMARY KEY)").await;
        let running = start(&sandbox, &["n1"], config(state.path()), None);
        // The slot begins with the stream: what is written before is not its business.
        wait_for_slot(&sandbox).await;
        for id in 0..5 {
            sql(&sandbox, "n1", &format!("INSERT INTO t VALUES ({id})")).await;
            sandbox.kill("n1").await.unwrap();
            sandbox.start("n1").await.unwrap();
        }
        sql(&sandbox, "n1", "INSERT INTO t VALUES (99)").await;
        let mut got = running.got.wait_for("insert 99").await;
        running.stop().await;
        got.dedup();
        let expected: Vec<_> = [0, 1, 2, 3, 4, 99].map(|id| format!("insert {id}")).to_vec();
        assert_eq!(got, expected);
    }

    async fn a_lost_slot_stops_the_stream_with_what_may_be_missing_or_all_rows_come_again(version: u32) {
        let sandbox = Sandbox::builder().pg_version(version).start().await.unwrap();
        let state = tempfile::tempdir().unwrap();
        sql(&sandbox, "n1", "CREATE TABLE t (id int PRIMARY KEY)").await;
        let running = start(&sandbox, &["n1"], config(state.path()), None);
        wait_for_slot(&sandbox).await;
        sql(&sandbox, "n1", "INSERT INTO t VALUES (1)").await;
        running.got.wait_for("insert 1").await;
        running.stop().await;
        sql(&sandbox, "n1", "SELECT pg_drop_replication_slot('herdsman'); INSERT INTO t VALUES (2)").await;
        let stopped = start(&sandbox, &["n1"], config(state.path()), None).task.await.unwrap();
        let said = stopped.unwrap_err().to_string();
        assert!(said.contains("what was committed after it may be missing"), "{said}");
        let again = StreamConfig { on_lost_slot: LostSlot::Resnapshot, ..config(state.path()) };
        let running = start(&sandbox, &["n1"], again, None);
        running.got.wait_for("read 2").await;
        sql(&sandbox, "n1", "INSERT INTO t VALUES (3)").await;
        running.got.wait_for("insert 3").await;
        assert_eq!(running.stop().await, ["read 1", "read 2", "insert 3"]);
    }

    async fn after_a_promotion_nothing_is_lost_in_silence(version: u32) {
        let sandbox = Sandbox::builder().pg_version(version).standbys(1).start().await.unwrap();
        let state = tempfile::tempdir().unwrap();
        sql(&sandbox, "n1", "CREATE TABLE t (id int PRIMARY KEY)").await;
        let names = ["n1", "n2"];
        let watcher = watcher(&sandbox, &names);
        let config = StreamConfig { on_lost_slot: LostSlot::Resnapshot, ..config(state.path()) };
        let running = start(&sandbox, &names, config, Some(&watcher));
        wait_for_slot(&sandbox).await;
        sql(&sandbox, "n1", "INSERT INTO t VALUES (1)").await;
        running.got.wait_for("insert 1").await;
        sandbox.wait_replayed().await.unwrap();
        sandbox.kill("n1").await.unwrap();
        sandbox.promote("n2").await.unwrap();
        sql(&sandbox, "n2", "INSERT INTO t VALUES (2)").await;
        // No slot followed to the new primary: all its rows come again, and then what happens.
        let got = running.got.wait_for("read 2").await;
        assert_eq!(got, ["insert 1", "read 1", "read 2"]);
        sql(&sandbox, "n2", "INSERT INTO t VALUES (3)").await;
        running.got.wait_for("insert 3").await;
        running.stop().await;
        watcher.stop().await;
    }

    async fn a_table_is_delivered_again_while_the_stream_goes_on(version: u32) {
        let sandbox = Sandbox::builder().pg_version(version).start().await.unwrap();
        let state = tempfile::tempdir().unwrap();
        sql(&sandbox, "n1", "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, 0 FROM generate_series(1, 9000) i").await;
        let copy = Arc::new(Copy::default());
        let setup = Setup {
            config: config(state.path()),
            nodes: nodes(&sandbox, &["n1"]),
            watch: None,
            sinks: vec![("copy".to_owned(), Arc::clone(&copy) as Arc<dyn Sink>)],
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(Service::new(setup).unwrap().run(stop.clone()));
        wait_for_slot(&sandbox).await;
        sql(&sandbox, "n1", "SELECT pg_logical_emit_message(true, 'herdsman.snapshot.wanted', 'public.t')").await;
        // Meanwhile rows change, move and go.
        let writing = sandbox.sql("n1", "postgres").await.unwrap();
        for round in 0..300 {
            let id = fastrand::i32(1..9000);
            let changes = [
                format!("UPDATE t SET v = {round} WHERE id % 500 = {}", id % 500),
                format!("DELETE FROM t WHERE id = {id}"),
                format!("UPDATE t SET id = id + 100000 WHERE id = {id} - 1"),
            ];
            writing.batch_execute(&changes[round % 3]).await.unwrap();
        }
        let rows = writing.query("SELECT id::text, v::text FROM t", &[]).await.unwrap();
        let expected: BTreeMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        for _ in 0..1500 {
            if *copy.rows.lock().unwrap() == expected {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(*copy.rows.lock().unwrap(), expected);
        stop.cancel();
        task.await.unwrap().unwrap();
    }

    async fn the_lag_guard_acts_before_the_log_fills_the_disk_as_far_as_it_may(version: u32) {
        for (action, slots) in [(GuardAction::Pause, 1), (GuardAction::DropSlot, 0)] {
            let sandbox = Sandbox::builder().pg_version(version).start().await.unwrap();
            let state = tempfile::tempdir().unwrap();
            sql(&sandbox, "n1", "CREATE TABLE t (id int PRIMARY KEY, v text)").await;
            let lag_guard = LagGuardConfig { warn_bytes: 1 << 10, limit_bytes: 1 << 20, action };
            let setup = Setup {
                config: StreamConfig { lag_guard, ..config(state.path()) },
                nodes: nodes(&sandbox, &["n1"]),
                watch: None,
                sinks: vec![("stuck".to_owned(), Arc::new(Stuck) as Arc<dyn Sink>)],
            };
            let task = tokio::spawn(Service::new(setup).unwrap().run(CancellationToken::new()));
            wait_for_slot(&sandbox).await;
            sql(&sandbox, "n1", "INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 5000) i").await;
            let ended = tokio::time::timeout(Duration::from_secs(60), task).await.unwrap().unwrap();
            assert!(matches!(ended, Err(ServiceError::Guard(_))), "{ended:?}");
            let client = sandbox.sql("n1", "postgres").await.unwrap();
            let count = "SELECT count(*) FROM pg_replication_slots";
            assert_eq!(client.query_one(count, &[]).await.unwrap().get::<_, i64>(0), slots);
        }
    }

    async fn an_interrupted_snapshot_goes_on_and_ends_right(version: u32) {
        let sandbox = Sandbox::builder().pg_version(version).start().await.unwrap();
        let state = tempfile::tempdir().unwrap();
        for table in ["a", "b", "c"] {
            sql(&sandbox, "n1", &format!("CREATE TABLE {table} (id text PRIMARY KEY, v text); \
                INSERT INTO {table} SELECT '{table}' || i, repeat('x', 100) FROM generate_series(1, 20000) i")).await;
        }
        let copy = Arc::new(Copy { pause: Duration::from_millis(10), ..Copy::default() });
        let service = || {
            let setup = Setup {
                config: StreamConfig { snapshot: SnapshotMode::Initial, ..config(state.path()) },
                nodes: nodes(&sandbox, &["n1"]),
                watch: None,
                sinks: vec![("copy".to_owned(), Arc::clone(&copy) as Arc<dyn Sink>)],
            };
            Service::new(setup).unwrap()
        };
        let writing = sandbox.sql("n1", "postgres").await.unwrap();
        for round in 1..4 {
            let task = tokio::spawn(service().run(CancellationToken::new()));
            while copy.rows.lock().unwrap().len() < round * 12_000 {
                assert!(!task.is_finished());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
            for table in ["a", "b", "c"] {
                let changes = format!("UPDATE {table} SET v = '{round}' WHERE random() < 0.01; \
                    DELETE FROM {table} WHERE random() < 0.01; UPDATE {table} SET id = id || '_' WHERE random() < 0.01");
                writing.batch_execute(&changes).await.unwrap();
            }
        }
        let stop = CancellationToken::new();
        let task = tokio::spawn(service().run(stop.clone()));
        let all = "SELECT id, v FROM a UNION ALL SELECT id, v FROM b UNION ALL SELECT id, v FROM c";
        let rows = writing.query(all, &[]).await.unwrap();
        let expected: BTreeMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        for _ in 0..3000 {
            if *copy.rows.lock().unwrap() == expected {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let equal = *copy.rows.lock().unwrap() == expected;
        assert!(equal, "{} rows instead of {}", copy.rows.lock().unwrap().len(), expected.len());
        // The last rows were there before it is noted that they are.
        for _ in 0..500 {
            if !state.path().join("snapshot").exists() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(!state.path().join("snapshot").exists());
        stop.cancel();
        task.await.unwrap().unwrap();
    }

    async fn with_a_failover_slot_a_promotion_costs_nothing(version: u32) {
        // Older versions have no slots that standbys keep.
        if version < 17 {
            return;
        }
        let sandbox = Sandbox::builder().pg_version(version).standbys(1).start().await.unwrap();
        let state = tempfile::tempdir().unwrap();
        sql(&sandbox, "n1", "CREATE TABLE t (id int PRIMARY KEY)").await;
        keep_slots_on_the_standby(&sandbox).await;
        let names = ["n1", "n2"];
        let watcher = watcher(&sandbox, &names);
        let running = start(&sandbox, &names, config(state.path()), Some(&watcher));
        wait_for_slot(&sandbox).await;
        sql(&sandbox, "n1", "INSERT INTO t VALUES (1)").await;
        running.got.wait_for("insert 1").await;
        wait_until(&sandbox, "n2", "SELECT count(*) = 1 FROM pg_replication_slots WHERE synced AND NOT temporary").await;
        sql(&sandbox, "n1", "INSERT INTO t VALUES (2)").await;
        sandbox.wait_replayed().await.unwrap();
        sandbox.kill("n1").await.unwrap();
        sandbox.promote("n2").await.unwrap();
        sql(&sandbox, "n2", "INSERT INTO t VALUES (3)").await;
        let mut got = running.got.wait_for("insert 3").await;
        got.dedup();
        assert_eq!(got, ["insert 1", "insert 2", "insert 3"]);
        running.stop().await;
        watcher.stop().await;
    }
}

/// What PostgreSQL needs to carry slots over to a standby.
async fn keep_slots_on_the_standby(sandbox: &Sandbox) {
    sql(sandbox, "n1", "SELECT pg_create_physical_replication_slot('to_n2')").await;
    sql(sandbox, "n1", "ALTER SYSTEM SET synchronized_standby_slots = 'to_n2'").await;
    let client = sandbox.sql("n2", "postgres").await.unwrap();
    let current = client.query_one("SHOW primary_conninfo", &[]).await.unwrap();
    let conninfo = format!("{} dbname=postgres", current.get::<_, &str>(0)).replace('\'', "''");
    for setting in [
        format!("primary_conninfo = '{conninfo}'"),
        "primary_slot_name = 'to_n2'".to_owned(),
        "hot_standby_feedback = on".to_owned(),
        "sync_replication_slots = on".to_owned(),
    ] {
        client.batch_execute(&format!("ALTER SYSTEM SET {setting}")).await.unwrap();
    }
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    wait_until(sandbox, "n1", "SELECT active FROM pg_replication_slots WHERE slot_name = 'to_n2'")
        .await;
    sql(sandbox, "n1", "SELECT pg_reload_conf()").await;
}

async fn wait_until(sandbox: &Sandbox, node: &str, question: &str) {
    let client = sandbox.sql(node, "postgres").await.unwrap();
    for _ in 0..1500 {
        let row = client.query_opt(question, &[]).await.unwrap();
        if row.is_some_and(|row| row.get::<_, Option<bool>>(0) == Some(true)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("in vain: {question}");
}

async fn wait_for_slot(sandbox: &Sandbox) {
    let client = sandbox.sql("n1", "postgres").await.unwrap();
    for _ in 0..500 {
        // A slot is active while it is being made, too, and lost if its server is killed then.
        let active = "SELECT count(*) FROM pg_replication_slots s JOIN pg_stat_replication r ON r.pid = s.active_pid
                      WHERE s.slot_type = 'logical' AND r.state = 'streaming'";
        if client.query_one(active, &[]).await.unwrap().get::<_, i64>(0) == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the stream did not begin");
}
