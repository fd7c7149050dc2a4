//! How long it takes to add a node, beside `pg_dump | psql`.

use std::process::Stdio;
use std::sync::Arc;

use herdsman_mesh::engine::Engine;
use herdsman_mesh::join;
use herdsman_node::NodeName;
use herdsman_sandbox::Sandbox;
use tokio::process::Command;
use tokio::time::Instant;

use crate::error::BenchError;
use crate::pair::{TABLE, direct, servers, setup, up};

/// Megabytes of the table, with its index, a second.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Added {
    /// A node joins; with slots, copy and catching up.
    pub(crate) joined: f64,
    /// Of it, while rows are copied.
    pub(crate) copied: f64,
    /// `pg_dump | psql` into an empty database; none where the programs are not there.
    pub(crate) dumped: Option<f64>,
}

/// Two members with rows, and a third server that joins.
pub(crate) async fn add(pg_version: u32, rows: u32, dump_first: bool) -> Result<Added, BenchError> {
    let sandbox = servers(&[pg_version; 3]).await?;
    let members = setup(&sandbox, 2)?;
    up(&members).await?;
    let engine = Engine::start(members.clone())?;
    let source = sandbox.sql("n1", "postgres").await?;
    let fill = format!(
        "INSERT INTO {TABLE} SELECT n, n % 1000, 'row number ' || n, repeat(md5(n::text), 8), now() FROM generate_series(1, {rows}) n"
    );
    source.batch_execute(&fill).await?;
    let there = sandbox.sql("n2", "postgres").await?;
    let count = format!("SELECT count(*) FROM {TABLE}");
    while there.query_one(&count, &[]).await?.get::<_, i64>(0) < i64::from(rows) {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let size = format!("SELECT pg_total_relation_size('{TABLE}')::float8 / 1e6");
    let megabytes: f64 = source.query_one(&size, &[]).await?.get(0);
    let mut dumped = None;
    if dump_first {
        dumped = dump(&sandbox).await?;
    }
    let (node, begun): (NodeName, _) = ("n3".parse()?, Instant::now());
    let joined = join::add(&Arc::new(members), &node, &join::Options::default(), |_| {}).await?;
    let seconds = begun.elapsed().as_secs_f64();
    if !dump_first {
        dumped = dump(&sandbox).await?;
    }
    engine.stop().await;
    Ok(Added {
        joined: megabytes / seconds,
        copied: megabytes / joined.copied.elapsed.as_secs_f64(),
        dumped: dumped.map(|seconds| megabytes / seconds),
    })
}

/// Seconds.
async fn dump(sandbox: &Sandbox) -> Result<Option<f64>, BenchError> {
    let bin = &sandbox.binaries().bin_dir;
    let (pg_dump, psql) = (bin.join("pg_dump"), bin.join("psql"));
    if !pg_dump.exists() || !psql.exists() {
        return Ok(None);
    }
    let to = sandbox.sql("n3", "postgres").await?;
    to.batch_execute("CREATE DATABASE dumped").await?;
    let uri = |node: &str, database: &str| -> Result<String, BenchError> {
        let pairs = direct(sandbox, node, "postgres")?;
        let pairs = pairs.into_iter().map(|(key, value)| match &*key {
            "dbname" => format!("dbname={database}"),
            _ => format!("{key}={value}"),
        });
        Ok(pairs.collect::<Vec<_>>().join(" "))
    };
    let begun = Instant::now();
    let mut dumping = Command::new(pg_dump)
        .args(["--no-owner", "--no-privileges", "--no-publications", "--table", TABLE, "--dbname"])
        .arg(uri("n1", "postgres")?)
        .stdout(Stdio::piped())
        .spawn()?;
    let Some(out) = dumping.stdout.take() else {
        return Err(BenchError::Wrong("pg_dump has no output".to_owned()));
    };
    let out: Stdio = out.try_into()?;
    let read = Command::new(psql)
        .args(["--quiet", "--no-psqlrc", "--dbname"])
        .arg(uri("n3", "dumped")?)
        .stdin(out)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await?;
    let dumped = dumping.wait().await?;
    let seconds = begun.elapsed().as_secs_f64();
    to.batch_execute("DROP DATABASE dumped").await?;
    match dumped.success() && read.success() {
        true => Ok(Some(seconds)),
        false => Err(BenchError::Wrong("pg_dump | psql failed".to_owned())),
    }
}
