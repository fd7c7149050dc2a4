//! kill -9 of everything, at random, under load: nothing may be missing, and where the position is kept with the rows
//! nothing may be there twice.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use herdsman_sandbox::{Sandbox, on_each_version};
use tokio::task::JoinHandle;

/// Kills of the program, of the source and of the target.
struct Kills {
    program: u32,
    source: u32,
    target: u32,
}

/// Few in `./test`, many in `./test --soak`.
fn kills() -> Kills {
    match std::env::var("HERDSMAN_SOAK") {
        Ok(_) => Kills { program: 200, source: 50, target: 50 },
        Err(_) => Kills { program: 12, source: 3, target: 3 },
    }
}

const TABLES: &str = "
    CREATE TABLE items (id int PRIMARY KEY, v int NOT NULL, big text);
    ALTER TABLE items ALTER big SET STORAGE EXTERNAL;
    CREATE TABLE journal (worker int, n int);
    ALTER TABLE journal REPLICA IDENTITY FULL";

/// A server that keeps its log for as long as it takes.
async fn unbounded(version: u32) -> Sandbox {
    let builder = Sandbox::builder().pg_version(version).setting("max_slot_wal_keep_size", "-1");
    builder.start().await.unwrap()
}

fn host(sandbox: &Sandbox) -> BTreeMap<String, String> {
    sandbox.conninfo("n1", "postgres").unwrap()
}

/// The configuration: from one server to a copy and to a file.
fn configuration(source: &Sandbox, target: &Sandbox, folder: &Path) -> String {
    let indented = |keys: BTreeMap<String, String>, indent: &str| -> String {
        keys.iter().map(|(key, value)| format!("{indent}{key}: '{value}'\n")).collect()
    };
    let mut copy = host(target);
    let port = copy.remove("port").unwrap();
    copy.retain(|key, _| ["host", "user", "dbname", "password", "sslmode"].contains(&key.as_str()));
    format!(
        "hosts:\n  n1:\n{}stream:\n  state: {state}/state\n  tables: [public.items, public.journal]\n  \
         retry: {{pause: 20ms, longest_pause: 200ms}}\n  sinks:\n    copy:\n      postgres:\n        port: {port}\n{}    \
         lines:\n      file: {{path: {state}/lines.jsonl}}\n",
        indented(host(source), "    "),
        indented(copy, "        "),
        state = folder.display()
    )
}

struct Program {
    config: String,
    log: std::fs::File,
}

impl Program {
    fn start(&self, more: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_herdsman"))
            .args(["stream", "run", "-c", &self.config])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(self.log.try_clone().unwrap())
            .spawn()
            .unwrap()
    }
}

/// Writers that go on over every break, each counting what the server acknowledged or may have done.
fn write_on(
    source: &Arc<Sandbox>,
    stop: &Arc<AtomicBool>,
    done: &Arc<AtomicU64>,
) -> Vec<JoinHandle<()>> {
    let writer = |worker: i32| {
        let (source, stop, done) = (Arc::clone(source), Arc::clone(stop), Arc::clone(done));
        tokio::spawn(async move {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                // A server that is down refuses; the next one takes it up again.
                let Ok(client) = source.sql("n1", "postgres").await else {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                };
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    let id = fastrand::i32(0..200) * 4 + worker;
                    let sql = match n % 7 {
                        0 => format!("DELETE FROM items WHERE id = {id}"),
                        1 => format!(
                            "UPDATE items SET id = id + 4000 WHERE id = {id} AND NOT EXISTS (SELECT FROM items WHERE id = {id} + 4000)"
                        ),
                        2 => format!("UPDATE items SET v = v + 1 WHERE id % 4 = {worker}"),
                        3 => {
                            format!("DELETE FROM journal WHERE worker = {worker} AND n < {n} - 300")
                        }
                        _ => format!(
                            "INSERT INTO items VALUES ({id}, 0, repeat('x', 3000)) ON CONFLICT (id) DO UPDATE SET v = items.v + 1"
                        ),
                    };
                    let both = format!(
                        "BEGIN; {sql}; INSERT INTO journal VALUES ({worker}, {n}), ({worker}, {n}); COMMIT"
                    );
                    if client.batch_execute(&both).await.is_err() {
                        break;
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        })
    };
    (0..4).map(writer).collect()
}

/// All rows of both tables, each copy counted.
async fn rows(sandbox: &Sandbox) -> Vec<(String, i64)> {
    let client = sandbox.sql("n1", "postgres").await.unwrap();
    let all = "SELECT 'items ' || id || ' ' || v || ' ' || md5(coalesce(big, '')), count(*) FROM items GROUP BY 1 \
               UNION ALL SELECT 'journal ' || worker || ' ' || n, count(*) FROM journal GROUP BY 1 ORDER BY 1";
    client.query(all, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}

on_each_version! {
    async fn whatever_is_killed_no_change_is_missing_and_none_is_applied_twice(version: u32) {
        let source = Arc::new(unbounded(version).await);
        let target = Sandbox::builder().pg_version(version).start().await.unwrap();
        for sandbox in [&*source, &target] {
            sandbox.sql("n1", "postgres").await.unwrap().batch_execute(TABLES).await.unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("herdsman.yml");
        std::fs::write(&path, configuration(&source, &target, folder.path())).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let program = Program { config: path.display().to_string(), log };

        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        // The slot must be there before the first row is.
        let made = Command::new(env!("CARGO_BIN_EXE_herdsman"))
            .args(["stream", "slots", "create", "-c", &program.config]).status().unwrap();
        assert!(made.success());
        let writers = write_on(&source, &stop, &done);
        let mut left = kills();
        let mut running = program.start(&[]);
        while left.program + left.source + left.target > 0 {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(50..900))).await;
            match fastrand::u32(0..left.program + left.source + left.target) {
                draw if draw < left.program => {
                    left.program -= 1;
                    running.kill().unwrap();
                    running.wait().unwrap();
                    running = program.start(&[]);
                }
                draw if draw < left.program + left.source => {
                    left.source -= 1;
                    source.kill("n1").await.unwrap();
                    source.start("n1").await.unwrap();
                }
                _ => {
                    left.target -= 1;
                    target.kill("n1").await.unwrap();
                    target.start("n1").await.unwrap();
                }
            }
            let ended = running.try_wait().unwrap();
            assert!(ended.is_none(), "the program ended by itself: {}", log_of(folder.path()));
        }
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.unwrap();
        }
        running.kill().unwrap();
        running.wait().unwrap();
        let status = program.start(&["--until-idle"]).wait().unwrap();
        assert!(status.success(), "{}", log_of(folder.path()));

        let (there, here) = (rows(&source).await, rows(&target).await);
        assert!(done.load(Ordering::Relaxed) > 100 && there.len() > 100, "too little was written");
        let missing: Vec<_> = there.iter().filter(|row| !here.contains(row)).take(5).collect();
        let beyond: Vec<_> = here.iter().filter(|row| !there.contains(row)).take(5).collect();
        assert!(missing.is_empty() && beyond.is_empty(), "missing {missing:?}, beyond {beyond:?}\n{}", log_of(folder.path()));
        check_lines(folder.path(), &source).await;
    }
}

/// Rows of the large transaction, 200 bytes each.
fn large() -> u64 {
    if std::env::var("HERDSMAN_SOAK").is_ok() { 10_000_000 } else { 800_000 }
}

/// The most memory the program ever had, in MiB.
fn peak_memory(program: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

on_each_version! {
    async fn a_transaction_larger_than_memory_allows_takes_no_more_of_it(version: u32) {
        let source = unbounded(version).await;
        let client = source.sql("n1", "postgres").await.unwrap();
        client.batch_execute("CREATE TABLE big (id int PRIMARY KEY, v text)").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("herdsman.yml");
        let hosts: String = host(&source).iter().map(|(key, value)| format!("    {key}: '{value}'\n")).collect();
        let text = format!(
            "hosts:\n  n1:\n{hosts}stream:\n  state: {state}/state\n  tables: [public.big]\n  sinks:\n    \
             lines: {{file: {{path: {state}/lines.jsonl, rotate: {{bytes: 33554432, keep: 1}}}}}}\n",
            state = folder.path().display()
        );
        std::fs::write(&path, text).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let program = Program { config: path.display().to_string(), log };
        let made = Command::new(env!("CARGO_BIN_EXE_herdsman"))
            .args(["stream", "slots", "create", "-c", &program.config]).status().unwrap();
        assert!(made.success());
        let mut running = program.start(&[]);
        let rows = large();
        let write = format!("INSERT INTO big SELECT i, repeat('x', 200) FROM generate_series(1, {rows}) i");
        client.batch_execute(&write).await.unwrap();
        // The last row is there when the log is acknowledged that far.
        let end: String = client.query_one("SELECT pg_current_wal_lsn()::text", &[]).await.unwrap().get(0);
        let done = "SELECT confirmed_flush_lsn >= $1::text::pg_lsn FROM pg_replication_slots WHERE slot_name = 'herdsman'";
        while !client.query_one(done, &[&end]).await.unwrap().get::<_, bool>(0) {
            assert!(running.try_wait().unwrap().is_none(), "{}", log_of(folder.path()));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let peak = peak_memory(&running);
        running.kill().unwrap();
        running.wait().unwrap();
        let text = std::fs::read_to_string(folder.path().join("lines.jsonl")).unwrap();
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!((&last["new"]["id"], &last["ordinal"]), (&rows.into(), &(rows - 1).into()));
        assert!(peak < 256, "{rows} rows took {peak} MiB");
    }
}

/// The file may hold a line more than once; leaving those out, it holds every change in its order.
async fn check_lines(folder: &Path, source: &Sandbox) {
    let text = std::fs::read_to_string(folder.join("lines.jsonl")).unwrap();
    let mut seen = std::collections::HashSet::new();
    let (mut last, mut repeated) = ((0, 0), 0);
    let mut table: BTreeMap<String, i64> = BTreeMap::new();
    for line in text.lines() {
        let change: serde_json::Value = serde_json::from_str(line).unwrap();
        let place = (position(&change["commit_lsn"]), change["ordinal"].as_u64().unwrap());
        if !seen.insert(place) {
            repeated += 1;
            continue;
        }
        assert!(place > last, "{place:?} comes after {last:?}");
        last = place;
        if change["table"] == "items" {
            if let Some(id) = change["old"]["id"].as_i64() {
                table.remove(&id.to_string());
            }
            if let (Some(id), Some(v)) = (change["new"]["id"].as_i64(), change["new"]["v"].as_i64())
            {
                table.insert(id.to_string(), v);
            }
        }
    }
    let client = source.sql("n1", "postgres").await.unwrap();
    let rows = client.query("SELECT id::text, v::int8 FROM items", &[]).await.unwrap();
    let expected: BTreeMap<String, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(
        table, expected,
        "the lines, played back, are not the table ({repeated} came twice)"
    );
}

fn position(lsn: &serde_json::Value) -> u64 {
    lsn.as_str().unwrap().parse::<herdsman_node::Lsn>().unwrap().0
}

fn log_of(folder: &Path) -> String {
    let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    log.lines().rev().take(30).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
}
