//! The memory of a gateway that works for long: as much at the end as after it had seen everything once.
//!
//! With `HERDSMAN_SOAK`, an hour of 5,000 clients (`HERDSMAN_SOAK_MINUTES` says otherwise); else a few clients for some seconds,
//! which shows that the test works.

#![expect(clippy::print_stdout, reason = "the figures are published with --nocapture")]

use std::fs;
use std::io::Write as _;
use std::process::id;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use crate::cluster::Cluster;
use crate::program::{Folder, closed_port};

/// What may come on top between the first quarter and the last: pages that the allocator keeps.
const SLACK_KB: u64 = 12 * 1024;
const SLACK_PART: u64 = 10;
/// Different texts that clients prepare: more than a server connection keeps.
const TEXTS: u32 = 2000;

struct Size {
    clients: u32,
    lasts: Duration,
    /// A client rests for up to so many milliseconds between two things.
    rests: u64,
    looks: u32,
}

fn size() -> Size {
    if std::env::var_os("HERDSMAN_SOAK").is_none() {
        return Size { clients: 40, lasts: Duration::from_secs(4), rests: 100, looks: 8 };
    }
    let minutes = std::env::var("HERDSMAN_SOAK_MINUTES").ok().and_then(|text| text.parse().ok());
    let minutes: u64 = minutes.unwrap_or(60);
    Size { clients: 5000, lasts: Duration::from_secs(60 * minutes), rests: 15_000, looks: 60 }
}

/// What clients do and what came of it.
#[derive(Default)]
struct Counts {
    done: AtomicU64,
    connects: AtomicU64,
    /// Those that were not asked for.
    errors: AtomicU64,
    over: AtomicBool,
}

#[test]
fn memory_stays_flat_under_clients_of_every_kind() {
    let size = size();
    let cluster = Cluster::start(0);
    let folder = Folder::new();
    let (port, api) = (closed_port(), closed_port());
    let file = folder.file(
        "h.yml",
        &format!(
            "{}bind: 127.0.0.1\nport: {api}\nwatch:\n{}gateway:\n  listen: 127.0.0.1:{port}\n  \
             trust_loopback: true\n  users:\n    app: {{ password: {:?} }}\n  pool: {{ size: 20, queue_timeout: 120s }}\n",
            cluster.hosts(ToOwned::to_owned),
            cluster.replication_addresses(ToOwned::to_owned),
            cluster.sandbox().credentials().password("app").unwrap()
        ),
    );
    let running = folder.start(&["run", &file]);
    let counts = Arc::new(Counts::default());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let sizes = runtime.block_on(async {
        let mut clients = JoinSet::new();
        for number in 0..size.clients {
            clients.spawn(one(port, number, size.rests, Arc::clone(&counts)));
        }
        let mut sizes = Vec::new();
        let begun = Instant::now();
        for look in 1..=size.looks {
            sleep(
                (begun + size.lasts * look / size.looks).saturating_duration_since(Instant::now()),
            )
            .await;
            sizes.push(resident(running.pid()));
            println!(
                "{:>5} s: {:>7} kB, {} statements, {} connections",
                begun.elapsed().as_secs(),
                sizes.last().unwrap(),
                counts.done.load(Ordering::Relaxed),
                counts.connects.load(Ordering::Relaxed)
            );
        }
        counts.over.store(true, Ordering::Relaxed);
        clients.shutdown().await;
        sizes
    });
    let (quarter, last) = (sizes.len() / 4, sizes.len() - sizes.len() / 4);
    let most = |part: &[u64]| part.iter().copied().max().unwrap();
    let (early, late) = (most(&sizes[..=quarter]), most(&sizes[last..]));
    let summary = format!(
        "{} clients of the gateway for {:?}: {} statements, {} connections, {early} kB in the first quarter at most, {late} kB in the last\n",
        size.clients,
        size.lasts,
        counts.done.load(Ordering::Relaxed),
        counts.connects.load(Ordering::Relaxed)
    );
    print!("{summary}");
    if let Ok(path) = std::env::var("HERDSMAN_SOAK_REPORT") {
        let mut report = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        report.write_all(summary.as_bytes()).unwrap();
    }
    assert_eq!(counts.errors.load(Ordering::Relaxed), 0, "{}", running.stderr());
    assert!(counts.done.load(Ordering::Relaxed) > u64::from(size.clients));
    assert!(late <= early + early / SLACK_PART + SLACK_KB, "{sizes:?}");
}

/// One client after the other.
async fn one(port: u16, number: u32, rests: u64, counts: Arc<Counts>) {
    let mut random = fastrand::Rng::with_seed(u64::from(number) + (u64::from(id()) << 32));
    // Not all at once.
    sleep(Duration::from_millis(random.u64(..rests))).await;
    while !counts.over.load(Ordering::Relaxed) {
        let to = format!(
            "host=127.0.0.1 port={port} user=app dbname=postgres application_name=soak{}",
            number % 10
        );
        let Ok(Ok((client, connection))) =
            timeout(Duration::from_secs(60), tokio_postgres::connect(&to, NoTls)).await
        else {
            counts.errors.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let connection = tokio::spawn(connection);
        counts.connects.fetch_add(1, Ordering::Relaxed);
        for _ in 0..random.u32(1..60) {
            // A cancel request may be late, and hit what came next.
            if let Err(error) = something(&client, &mut random).await
                && error.code() != Some(&SqlState::QUERY_CANCELED)
            {
                println!("{error:?}");
                counts.errors.fetch_add(1, Ordering::Relaxed);
            }
            counts.done.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(random.u64(..rests))).await;
        }
        drop(client);
        // Half of them go without a word.
        if random.bool() {
            connection.abort();
        }
        let _ended = connection.await;
    }
}

async fn something(
    client: &Client,
    random: &mut fastrand::Rng,
) -> Result<(), tokio_postgres::Error> {
    match random.u32(..10) {
        0..4 => drop(client.simple_query("SELECT 1").await?),
        4 => {
            // A text of its own, so that statements come and go everywhere.
            let sql = format!("SELECT $1::int + {}", random.u32(..TEXTS));
            let statement = client.prepare(&sql).await?;
            let _row = client.query_one(&statement, &[&1]).await?;
        }
        5 => {
            client.batch_execute("BEGIN; SELECT set_config('work_mem', '5MB', true)").await?;
            client.batch_execute("ROLLBACK").await?;
        }
        6 => {
            client
                .batch_execute(&format!("SET statement_timeout = {}", random.u32(30_000..30_020)))
                .await?;
        }
        7 => {
            // One that fails.
            let _refused = client.simple_query("SELECT 1/0").await.is_err();
        }
        8 => {
            let _row =
                client.query_one("SELECT repeat('x', $1)", &[&random.i32(..100_000)]).await?;
        }
        _ => {
            client
                .batch_execute("CREATE TEMP TABLE IF NOT EXISTS kept (a int) ON COMMIT DROP")
                .await?;
            let token = client.cancel_token();
            // Late for what was done already.
            let _nothing_to_cancel = token.cancel_query(NoTls).await.is_err();
        }
    }
    Ok(())
}

/// What a process has in memory, in kB.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
