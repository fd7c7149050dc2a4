//! Programs and libraries that people use, each doing the same list of things through a gateway in front of a primary and
//! a standby: first in transaction mode, more clients than there are server connections, then in session mode.
//!
//! The scripts of other languages are in `tests/drivers`; `scripts/fetch-drivers` fetches what they need.

pub(crate) mod scripts;
mod with_sqlx;
mod with_tokio_postgres;

use herdsman_sandbox::Sandbox;

use crate::harness::{self, Running};

/// Two server connections per node, for six clients and more.
const TRANSACTION: &str = "pool: { mode: transaction, size: 2 }";
const SESSION: &str = "pool: { mode: session, size: 20 }";

/// Comes back when every standby has what the primary had when it was called: what one client reads after another
/// client's write would otherwise be a matter of luck.
const SETTLE: &str = "
    CREATE FUNCTION settle() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
    DECLARE target pg_lsn := pg_current_wal_lsn();
    BEGIN
      WHILE EXISTS (SELECT FROM pg_stat_replication WHERE replay_lsn IS NULL OR replay_lsn < target) LOOP
        PERFORM pg_sleep(0.01);
      END LOOP;
    END $$";

/// A primary and a standby.
async fn cluster(version: u32) -> Sandbox {
    let cluster = Sandbox::builder().pg_version(version).standbys(1).start().await.unwrap();
    cluster.sql("n1", "postgres").await.unwrap().batch_execute(SETTLE).await.unwrap();
    cluster
}

/// Runs checks through a gateway in transaction mode, then in session mode.
async fn in_both_modes(version: u32, checks: impl AsyncFn(&Running)) {
    let cluster = cluster(version).await;
    for mode in [TRANSACTION, SESSION] {
        let running = harness::gateway(&cluster, mode).await;
        checks(&running).await;
        running.stop().await;
    }
}

herdsman_sandbox::on_newest_version! {
    async fn psql_works(version: u32) {
        in_both_modes(version, async |running| scripts::psql(running).await).await;
    }

    async fn pgbench_works(version: u32) {
        in_both_modes(version, async |running| scripts::pgbench(running).await).await;
    }

    async fn psycopg2_works(version: u32) {
        in_both_modes(version, async |running| scripts::python(running, "psycopg2").await).await;
    }

    async fn psycopg3_works(version: u32) {
        in_both_modes(version, async |running| scripts::python(running, "psycopg3").await).await;
    }

    async fn asyncpg_works(version: u32) {
        in_both_modes(version, async |running| scripts::python(running, "asyncpg").await).await;
    }

    async fn node_postgres_works(version: u32) {
        in_both_modes(version, async |running| scripts::node(running).await).await;
    }

    async fn pgjdbc_works(version: u32) {
        in_both_modes(version, async |running| scripts::java(running).await).await;
    }

    async fn pgx_works(version: u32) {
        in_both_modes(version, async |running| scripts::go(running).await).await;
    }

    async fn tokio_postgres_works(version: u32) {
        in_both_modes(version, async |running| {
            with_tokio_postgres::checks(&running.conninfo("postgres", "app")).await;
        })
        .await;
    }

    async fn sqlx_works(version: u32) {
        in_both_modes(version, async |running| {
            with_sqlx::checks(&running.url("postgres", "app")).await;
        })
        .await;
    }
}
