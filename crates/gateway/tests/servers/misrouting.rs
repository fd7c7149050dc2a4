//! Every statement that a proxy is known to have sent to the wrong server, and where it runs here. The servers' own logs
//! say where: each statement carries a mark.

mod tables;

use std::collections::BTreeMap;
use std::path::PathBuf;

use herdsman_sandbox::{Sandbox, on_each_version};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::harness::{self, Readers, Running, eventually};
use tables::{CASES, READS, SCHEMA, Step, WRITES};

/// How often a story is told again because the standby could not be read all the time.
const ATTEMPTS: usize = 20;

/// Where a statement has to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    /// On the primary, and nowhere else.
    Primary,
    /// On the standby, and nowhere else.
    Standby,
    /// On the primary in the end: no text can tell, and a standby that has refused it is asked only once.
    PrimaryInTheEnd,
    /// Wherever its transaction is, or without any server.
    Anywhere,
}
use On::{Anywhere, Primary, PrimaryInTheEnd, Standby};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Simple,
    Extended,
}

/// Statements under marks, and what is to be found in the logs.
struct Herd {
    cluster: Sandbox,
    running: Running,
    /// While the standby may not be read, reads belong on the primary.
    readers: Readers,
    marks: BTreeMap<usize, (On, String)>,
    /// How many there were, with those that do not count any more.
    made: usize,
    /// Who else uses the pool.
    other: Client,
    wrong: Vec<String>,
}

impl Herd {
    async fn run(
        &mut self,
        client: &Client,
        protocol: Protocol,
        on: On,
        sql: &str,
        expected: Option<&str>,
    ) {
        let number = self.made;
        self.made += 1;
        let mark = mark(number);
        let text = sql.replace("{n}", &number.to_string());
        let marked = match text.rfind(';') {
            // Within the last statement: a log shows them one by one.
            Some(at) if text.ends_with(';') => format!("{} /* {mark} */;", text.get(..at).unwrap()),
            _ => format!("{text} /* {mark} */"),
        };
        let answer = match protocol {
            Protocol::Simple => simple(client, &marked).await,
            Protocol::Extended => extended(client, &marked).await,
        };
        match answer {
            Err(error) => {
                let why =
                    error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string);
                self.wrong.push(format!("{protocol:?} {text}: {why}"));
            }
            Ok(found) if expected.is_some_and(|expected| found.as_deref() != Some(expected)) => {
                self.wrong.push(format!("{protocol:?} {text}: {found:?} in place of {expected:?}"));
            }
            Ok(_) => {}
        }
        self.marks.insert(number, (on, format!("{protocol:?} {text}")));
        // Connections that go back are used by others, with other settings.
        let size = format!("SET work_mem TO '{}kB'", 1000 + number % 3);
        for sql in [&size, "SELECT txid_current()", "SELECT 1"] {
            self.other.simple_query(sql).await.unwrap();
        }
    }

    /// What one client does. Where it is to read the standby, again until that could be read all the time.
    async fn story(&mut self, protocol: Protocol, steps: &[Step]) {
        let reads = steps.iter().any(|(on, ..)| *on == Standby);
        for _ in 0..ATTEMPTS {
            let before = self.readers.all().await;
            let begin = self.made;
            let client = self.running.connect("postgres", "postgres").await;
            for (on, sql, expected) in steps {
                self.run(&client, protocol, *on, sql, *expected).await;
            }
            if !reads || self.readers.stayed(before) {
                return;
            }
            let _untrue = self.marks.split_off(&begin);
        }
        panic!("the standby could never be read for as long as this takes: {steps:?}");
    }

    /// Which statements ran where they should not have.
    fn compare(&mut self) -> usize {
        let logs: Vec<_> = ["n1", "n2"].map(|node| log(&self.cluster, node)).into();
        let mut found = 0;
        for (number, (on, sql)) in &self.marks {
            let mark = mark(*number);
            let [primary, standby] =
                [0, 1].map(|node| logs.get(node).is_some_and(|log: &String| log.contains(&mark)));
            found += usize::from(primary || standby);
            let right = match on {
                Primary => primary && !standby,
                Standby => standby && !primary,
                PrimaryInTheEnd => primary,
                Anywhere => true,
            };
            if !right {
                self.wrong.push(format!(
                    "{sql}: on the primary {primary}, on the standby {standby}, should be {on:?}"
                ));
            }
        }
        found
    }
}

/// What the logs are searched for.
fn mark(number: usize) -> String {
    format!("mark-{number}-")
}

/// Comes back when the gateway knows the functions of the database, and so which of them only read.
async fn until_functions_are_known(client: &Client) {
    eventually("a function that only reads is read on the standby", async || {
        let sql = "SELECT current_setting('cluster_name') FROM reads(1)";
        simple(client, sql).await.unwrap().as_deref() == Some("n2")
    })
    .await;
}

async fn simple(client: &Client, sql: &str) -> Result<Option<String>, tokio_postgres::Error> {
    let messages = client.simple_query(sql).await?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(ToOwned::to_owned),
        _ => None,
    }))
}

async fn extended(client: &Client, sql: &str) -> Result<Option<String>, tokio_postgres::Error> {
    let statement = client.prepare(sql).await?;
    let rows = client.query(&statement, &[]).await?;
    let text = |row: &tokio_postgres::Row| {
        let kind = row.columns().first()?.type_().name().to_owned();
        match kind.as_str() {
            "int4" => row.get::<_, Option<i32>>(0).map(|number| number.to_string()),
            "int8" => row.get::<_, Option<i64>>(0).map(|number| number.to_string()),
            "bool" => {
                row.get::<_, Option<bool>>(0).map(|truth| if truth { "t" } else { "f" }.to_owned())
            }
            "text" | "name" | "varchar" => row.get(0),
            _ => None,
        }
    };
    Ok(rows.first().and_then(text))
}

fn log(cluster: &Sandbox, node: &str) -> String {
    let path: PathBuf = cluster.dir().join(node).join("log");
    std::fs::read(&path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether the extended protocol takes it: one statement only.
fn is_single(sql: &str) -> bool {
    !sql.trim_end_matches(';').replace("'a;b'", "").contains("; ")
}

on_each_version! {
    async fn nothing_is_sent_where_it_cannot_run(version: u32) {
        let cluster =
            Sandbox::builder().pg_version(version).standbys(1).setting("log_statement", "all").start().await.unwrap();
        cluster.sql("n1", "postgres").await.unwrap().batch_execute(SCHEMA).await.unwrap();
        cluster.wait_replayed().await.unwrap();
        let running = harness::gateway(&cluster, "pool: { size: 4 }").await;
        running.until(|topology| topology.readers().count() == 1).await;
        let other = running.connect("postgres", "postgres").await;
        until_functions_are_known(&other).await;
        let readers = running.readers(1).await;
        let mut herd = Herd { cluster, running, readers, marks: BTreeMap::new(), made: 0, other, wrong: Vec::new() };

        for protocol in [Protocol::Simple, Protocol::Extended] {
            let fits = |sql: &str| protocol == Protocol::Simple || is_single(sql);
            for sql in READS {
                herd.story(protocol, &[(Standby, sql, None)]).await;
            }
            let writer = herd.running.connect("postgres", "postgres").await;
            for sql in WRITES.iter().filter(|sql| fits(sql)) {
                herd.run(&writer, protocol, Primary, sql, None).await;
            }
            // What a client has not written itself it may read anywhere.
            herd.cluster.wait_replayed().await.unwrap();
            for (_, steps) in CASES.iter().filter(|(_, steps)| steps.iter().all(|(_, sql, _)| fits(sql))) {
                herd.story(protocol, steps).await;
            }
        }
        let found = herd.compare();
        assert!(found > herd.marks.len() / 2, "the logs show only {found} of {} statements", herd.marks.len());
        assert!(herd.wrong.is_empty(), "{} wrong:\n{}", herd.wrong.len(), herd.wrong.join("\n"));
        herd.running.stop().await;
    }
}
