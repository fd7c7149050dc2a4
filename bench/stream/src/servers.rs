//! The server under the bench: its rows, and slots that all begin before them.

use herdsman_sandbox::Sandbox;
use tokio_postgres::Client;

use crate::error::BenchError;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Load {
    /// Transactions of 100 rows.
    Small,
    /// One transaction.
    Big,
}

/// A server with the rows of one load in its log.
pub(crate) struct Source {
    pub(crate) sandbox: Sandbox,
    pub(crate) rows: u64,
    /// Behind all rows: a transaction that ends here is the last.
    pub(crate) end: String,
    pub(crate) client: Client,
    slots: u32,
}

/// All slots keep all of the log, and nothing goes on beside the bench.
const COMMON: [(&str, &str); 4] = [
    ("shared_buffers", "512MB"),
    ("autovacuum", "off"),
    ("max_wal_size", "16GB"),
    ("max_slot_wal_keep_size", "-1"),
];

/// Rows are written before they are read: how does not matter.
pub(crate) const NO_WAITING: [(&str, &str); 1] = [("synchronous_commit", "off")];
/// A commit is on the disk when it is answered.
pub(crate) const DURABLE: [(&str, &str); 2] = [("synchronous_commit", "on"), ("fsync", "on")];

const TABLE: &str = "
    CREATE TABLE t (id bigint PRIMARY KEY, a int, b text, c timestamptz);
    CREATE PUBLICATION p FOR TABLE t";

const BIG: &str = "INSERT INTO t SELECT n, n % 1000, 'row number ' || n, now() FROM";

const SMALL: &str = "
    CREATE PROCEDURE small(total bigint) LANGUAGE plpgsql AS $$
    BEGIN
      FOR i IN 0..total / 100 - 1 LOOP
        INSERT INTO t SELECT n, n % 1000, 'row number ' || n, now() FROM generate_series(i * 100, i * 100 + 99) n;
        COMMIT;
      END LOOP;
    END $$";

impl Source {
    /// Starts a server, makes a slot for pgoutput and one for `test_decoding`, and writes the rows.
    pub(crate) async fn start(load: Load, rows: u64, pg_version: u32) -> Result<Self, BenchError> {
        let mut source = Self::empty(rows, pg_version, &NO_WAITING).await?;
        source.write(load).await?;
        Ok(source)
    }

    /// The same without the rows, with these settings besides those of every source.
    pub(crate) async fn empty(
        rows: u64,
        pg_version: u32,
        settings: &[(&str, &str)],
    ) -> Result<Self, BenchError> {
        let mut builder = Sandbox::builder().pg_version(pg_version);
        for (name, value) in COMMON.iter().chain(settings) {
            builder = builder.setting(*name, *value);
        }
        let sandbox = builder.start().await?;
        let client = sandbox.sql("n1", "postgres").await?;
        client.batch_execute(TABLE).await?;
        client.batch_execute(SMALL).await?;
        for (name, plugin) in [("origin", "pgoutput"), ("polled", "test_decoding")] {
            let make = "SELECT pg_create_logical_replication_slot($1, $2)";
            client.query(make, &[&name, &plugin]).await?;
        }
        Ok(Self { sandbox, rows, end: String::new(), client, slots: 0 })
    }

    async fn write(&mut self, load: Load) -> Result<(), BenchError> {
        let (client, rows) = (&self.client, self.rows);
        match load {
            Load::Small => client.batch_execute(&format!("CALL small({rows})")).await?,
            Load::Big => {
                client.batch_execute(&format!("{BIG} generate_series(1, {rows}) n")).await?;
            }
        }
        let row = client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await?;
        self.end = row.get(0);
        self.stop().await?;
        self.client.batch_execute("CHECKPOINT").await?;
        Ok(())
    }

    async fn stop(&self) -> Result<(), BenchError> {
        // pg_recvlogical stops only at the transaction behind its end, and would decode a large one to see it.
        for _ in 0..2 {
            self.client.batch_execute("SELECT pg_logical_emit_message(true, 'stop', '')").await?;
        }
        Ok(())
    }

    /// Writes all rows in one transaction and returns what `now` said when it began.
    pub(crate) async fn write_slowly(&self, now: impl Fn() -> u64) -> Result<u64, BenchError> {
        let rows = self.rows;
        let began = now();
        self.client.batch_execute("BEGIN").await?;
        self.client.batch_execute(&format!("{BIG} generate_series(1, {rows}) n")).await?;
        self.client.batch_execute("COMMIT").await?;
        self.stop().await?;
        Ok(began)
    }

    pub(crate) async fn wait_for_reader(&self, slot: &str) -> Result<(), BenchError> {
        for _ in 0..400 {
            let active = "SELECT active FROM pg_replication_slots WHERE slot_name = $1";
            if self.client.query_one(active, &[&slot]).await?.get(0) {
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        Err(BenchError::Wrong("the reader does not come".to_owned()))
    }

    /// A slot that begins where all begin.
    pub(crate) async fn slot(&mut self, polled: bool) -> Result<String, BenchError> {
        self.slots += 1;
        let name = format!("run_{}", self.slots);
        let from = if polled { "polled" } else { "origin" };
        self.client
            .query("SELECT pg_copy_logical_replication_slot($1, $2)", &[&from, &name])
            .await?;
        Ok(name)
    }

    pub(crate) async fn drop_slot(&self, name: &str) -> Result<(), BenchError> {
        // The server notices that the reader is gone a moment after.
        for _ in 0..200 {
            let free = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
                        WHERE slot_name = $1 AND NOT active";
            if self.client.execute(free, &[&name]).await? == 1 {
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        Err(BenchError::Wrong(format!("slot {name} stays in use")))
    }

    /// How libpq is told of the server, past the sandbox's proxies.
    pub(crate) fn conninfo(&self) -> Result<String, BenchError> {
        let mut keys = self.sandbox.conninfo("n1", "postgres")?;
        keys.insert("port".to_owned(), self.sandbox.server_port("n1")?.to_string());
        let pairs = keys.iter().map(|(key, value)| format!("{key}='{value}'"));
        Ok(pairs.collect::<Vec<_>>().join(" "))
    }

    pub(crate) async fn postmaster(&self) -> Result<i32, BenchError> {
        let nodes = self.sandbox.status().await;
        let pid = nodes.into_iter().find(|node| node.name == "n1").and_then(|node| node.pid);
        pid.ok_or_else(|| BenchError::Wrong("the server is not running".to_owned()))
    }
}
