//! The servers under the bench, past every proxy.

use herdsman_sandbox::Sandbox;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::error::BenchError;

/// The role everything logs in as.
const ROLE: &str = "app";

/// Rows of the table that is read: pgbench's smallest.
pub(crate) const ACCOUNTS: i32 = 100_000;

const TABLES: &str = "
    CREATE TABLE pgbench_accounts (aid int NOT NULL, bid int, abalance int, filler char(84));
    INSERT INTO pgbench_accounts SELECT aid, 1, 0, '' FROM generate_series(1, 100000) aid;
    ALTER TABLE pgbench_accounts ADD PRIMARY KEY (aid);
    CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
    GRANT ALL ON pgbench_accounts, pgbench_history TO app";

/// A primary with pgbench's tables and this many standbys that have replayed them.
pub(crate) async fn start(standbys: usize, pg_version: u32) -> Result<Sandbox, BenchError> {
    let sandbox = Sandbox::builder()
        .standbys(standbys)
        .pg_version(pg_version)
        // Everything is in memory, and nothing else runs beside the statements that are measured.
        .setting("shared_buffers", "128MB")
        .setting("max_connections", "120")
        .setting("autovacuum", "off")
        .start()
        .await?;
    let admin = sandbox.sql("n1", "postgres").await?;
    admin.batch_execute(TABLES).await?;
    admin.batch_execute("VACUUM ANALYZE pgbench_accounts").await?;
    admin.batch_execute("CHECKPOINT").await?;
    sandbox.wait_replayed().await?;
    Ok(sandbox)
}

/// How libpq, and with it Herdsman, is told of a server.
pub(crate) fn conninfo(sandbox: &Sandbox, node: &str) -> Result<String, BenchError> {
    let mut keys = sandbox.conninfo(node, ROLE)?;
    keys.insert("port".to_owned(), sandbox.server_port(node)?.to_string());
    let pairs = keys.iter().map(|(key, value)| format!("{key}='{value}'"));
    Ok(pairs.collect::<Vec<_>>().join(" "))
}

/// How sqlx is told of it.
pub(crate) fn options(sandbox: &Sandbox, node: &str) -> Result<PgConnectOptions, BenchError> {
    Ok(PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(sandbox.server_port(node)?)
        .username(ROLE)
        .password(sandbox.credentials().password(ROLE)?)
        .database("postgres")
        .ssl_mode(PgSslMode::Disable))
}
