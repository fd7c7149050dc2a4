//! How fast it applies: run by hand with `--ignored --nocapture`, best in release.

use std::time::Duration;

use tokio::time::Instant;

use super::TABLES;
use super::pump::{Pump, applier, end_of_log};
use crate::proof::{Mesh, report};

/// Processor time of a process.
fn cpu(pid: i32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let numbers = stat.rsplit_once(')').unwrap().1;
    let ticks: u64 =
        numbers.split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// Processor time of this thread's process, all of it.
fn own() -> Duration {
    cpu(i32::try_from(std::process::id()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn speed() {
    const ROWS: u32 = 200_000;
    for version in herdsman_sandbox::tested_versions() {
        let tables = format!(
            "{TABLES} CREATE TABLE wide (id int PRIMARY KEY, a int, b text, c text, d timestamptz);"
        );
        let mesh = Mesh::prepared(vec![version; 2], &tables, |_| {}).await;
        let mut at = applier(&mesh, "n2").await;
        let mut pump = Pump::start(&mesh, "n1", &at).await;
        let pid = "SELECT pid FROM herdsman.lease";
        let pid: i32 = mesh.ask("n2", pid).await.unwrap().parse().unwrap();
        for (what, statement) in [
            (
                "insert",
                format!(
                    "INSERT INTO wide SELECT i, i * 3, 'name ' || i, md5(i::text), now() FROM generate_series(1, {ROWS}) AS i"
                ),
            ),
            ("update", "UPDATE wide SET a = a + 1".to_owned()),
            ("update", "UPDATE wide SET a = a + 1".to_owned()),
            ("delete", "DELETE FROM wide WHERE id % 2 = 0".to_owned()),
            ("update", "UPDATE wide SET a = a + 1".to_owned()),
        ] {
            // In transactions of a hundred rows, as a busy writer's.
            for from in (0..ROWS).step_by(5_000) {
                let range = if what == "insert" {
                    String::new()
                } else {
                    format!(
                        "{} id > {from} AND id <= {}",
                        if statement.contains("WHERE") { " AND" } else { " WHERE" },
                        from + 5_000
                    )
                };
                let statement = if what == "insert" {
                    statement
                        .replace("(1,", &format!("({},", from + 1))
                        .replace(&format!("{ROWS})"), &format!("{})", from + 5_000))
                } else {
                    statement.clone()
                };
                mesh.on("n1", &format!("{statement}{range}")).await;
            }
            let until = end_of_log(&mesh, "n1").await;
            let (began, before, before_own) = (Instant::now(), cpu(pid), own());
            let (mut rows, mut changes) = (0, 0);
            while let Some(group) = pump.next(until, 2000).await {
                changes += group.changes;
                rows += at.apply(&[group], false).await.unwrap().rows;
            }
            let (took, busy, mine) = (began.elapsed(), cpu(pid) - before, own() - before_own);
            let per = |time: Duration| time.as_secs_f64() * 1e6 / changes.max(1) as f64;
            report(&format!(
                "{version} {what}: {changes} changes, {rows} rows, {:.2} µs wall, {:.2} µs backend CPU, {:.2} µs own CPU per change",
                per(took),
                per(busy),
                per(mine)
            ));
        }
    }
}
