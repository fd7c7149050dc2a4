//! Who takes part: ledgers, and what people use instead.

use std::time::Duration;

use clap::ValueEnum;
use herdsman_sandbox::Sandbox;
use tokio_postgres::{Client, Statement};

use crate::error::BenchError;
use crate::ours::{LogKind, Ours};
use crate::rounds::Trip;

/// Who.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Who {
    /// One PostgreSQL: nothing can cost less.
    Bare,
    /// A primary and two standbys, `synchronous_commit = remote_apply` on both.
    RemoteApply,
    /// A ledger of one node over Kafka.
    Kafka1,
    /// A ledger of three nodes over Kafka; an answer waits for all three.
    Kafka3,
    /// A ledger of one node over a file.
    Embedded1,
    /// A ledger of three nodes over a file; an answer waits for all three.
    Embedded3,
}

impl Who {
    pub(crate) const ALL: [Self; 6] = [
        Self::Bare,
        Self::RemoteApply,
        Self::Kafka1,
        Self::Kafka3,
        Self::Embedded1,
        Self::Embedded3,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bare => "one PostgreSQL",
            Self::RemoteApply => "remote_apply, 3 nodes",
            Self::Kafka1 => "ledger over Kafka, 1 node",
            Self::Kafka3 => "ledger over Kafka, 3 nodes",
            Self::Embedded1 => "ledger over a file, 1 node",
            Self::Embedded3 => "ledger over a file, 3 nodes",
        }
    }

    const fn nodes(self) -> usize {
        match self {
            Self::Bare | Self::Kafka1 | Self::Embedded1 => 1,
            Self::RemoteApply | Self::Kafka3 | Self::Embedded3 => 3,
        }
    }
}

/// Nothing goes on beside the bench; commits are on disk.
const SETTINGS: [(&str, &str); 6] = [
    ("shared_buffers", "128MB"),
    ("autovacuum", "off"),
    ("max_wal_size", "8GB"),
    ("checkpoint_timeout", "1h"),
    ("max_connections", "300"),
    ("fsync", "on"),
];

/// Rows of each client, which nobody else changes.
pub(crate) const ROWS: u32 = 100;

/// Servers of its own, and clients.
pub(crate) struct Contestant {
    pub(crate) who: Who,
    pub(crate) at: At,
    /// The process of each server that has begun all its others.
    pub(crate) postmasters: Vec<i32>,
}

/// Where clients go.
pub(crate) enum At {
    /// To one server, each over a connection of its own.
    Server { clients: Vec<(Client, Statement)>, sandbox: Sandbox },
    /// Through a ledger.
    Ledger(Box<Ours>),
}

impl Contestant {
    pub(crate) async fn start(who: Who, pg_version: u32, clients: u32) -> Result<Self, BenchError> {
        let rows = clients * ROWS;
        let at = match who {
            Who::Bare | Who::RemoteApply => server(who, pg_version, clients, rows).await?,
            Who::Kafka1 | Who::Kafka3 | Who::Embedded1 | Who::Embedded3 => {
                let log = match who {
                    Who::Kafka1 | Who::Kafka3 => LogKind::Kafka,
                    _ => LogKind::File,
                };
                At::Ledger(Box::new(Ours::start(log, pg_version, who.nodes(), rows).await?))
            }
        };
        let sandbox = match &at {
            At::Server { sandbox, .. } => sandbox,
            At::Ledger(ours) => &ours.sandbox,
        };
        let mut postmasters = Vec::new();
        for node in sandbox.node_names() {
            let pid = "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int";
            postmasters
                .push(sandbox.sql(&node, "postgres").await?.query_one(pid, &[]).await?.get(0));
        }
        Ok(Self { who, at, postmasters })
    }

    /// How long it takes from an append until it is read; of a ledger's log.
    pub(crate) async fn log_round_trip(&self, lasts: Duration) -> Result<Option<Trip>, BenchError> {
        match &self.at {
            At::Ledger(ours) if self.who.nodes() == 1 => ours.log_round_trip(lasts).await.map(Some),
            _ => Ok(None),
        }
    }
}

async fn server(who: Who, pg_version: u32, clients: u32, rows: u32) -> Result<At, BenchError> {
    let standbys = who.nodes() - 1;
    let mut builder = Sandbox::builder().pg_version(pg_version).standbys(standbys);
    for (name, value) in SETTINGS {
        builder = builder.setting(name, value);
    }
    let sandbox = builder.start().await?;
    let sql = sandbox.sql("n1", "postgres").await?;
    let fill = format!(
        "CREATE TABLE account (id bigint PRIMARY KEY, balance bigint NOT NULL); \
         INSERT INTO account SELECT n, 0 FROM generate_series(0, {}) n",
        rows - 1
    );
    sql.batch_execute(&fill).await?;
    if standbys > 0 {
        let wait = format!("ALTER SYSTEM SET synchronous_standby_names = '{standbys} (*)'");
        sql.batch_execute(&wait).await?;
        sql.batch_execute("ALTER SYSTEM SET synchronous_commit = 'remote_apply'").await?;
        sql.batch_execute("SELECT pg_reload_conf()").await?;
    }
    let mut all = Vec::new();
    for _ in 0..clients {
        let client = sandbox.sql("n1", "postgres").await?;
        let update = "UPDATE account SET balance = balance + 1 WHERE id = $1";
        let update = client.prepare(update).await?;
        all.push((client, update));
    }
    if standbys > 0 {
        // It is all for nothing if they do not wait.
        let sync = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        let mut waited = 0;
        while sql.query_one(sync, &[]).await?.get::<_, i64>(0)
            < i64::try_from(standbys).unwrap_or(i64::MAX)
        {
            waited += 1;
            if waited > 500 {
                return Err(BenchError::Wrong("the standbys are not synchronous".to_owned()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(At::Server { clients: all, sandbox })
}

/// Servers, none of which is another's standby.
pub(crate) async fn writers(pg_version: u32, nodes: usize) -> Result<Sandbox, BenchError> {
    let mut builder =
        Sandbox::builder().versions(std::iter::repeat_n(pg_version, nodes)).writers(nodes);
    for (name, value) in SETTINGS {
        builder = builder.setting(name, value);
    }
    Ok(builder.start().await?)
}
