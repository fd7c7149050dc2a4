//! A target, a sink that writes to it, and changes as a stream would bring them.

use std::sync::Arc;
use std::time::Duration;

use herdsman_node::{Lsn, SystemId, Timeline};
use herdsman_sandbox::Sandbox;
use herdsman_stream::sinks::postgres::{PostgresConfig, PostgresSink};
use herdsman_stream::{Batch, DeliveryError, Position, Sink};
use herdsman_wal::decode::{Field, Old, TupleWriter};
use herdsman_wal::{
    Body, Change, ChangeRef, Column, Relation, ReplicaIdentity, Source, Timestamp, Transaction,
    TypeBook,
};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_postgres::Client;

/// Long enough for a loaded machine; nothing asserts on time but to end a test that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Target {
    pub(crate) sandbox: Sandbox,
    pub(crate) admin: Client,
}

impl Target {
    pub(crate) async fn start(version: u32, schema: &str) -> Self {
        let sandbox = Sandbox::builder().pg_version(version).start().await.unwrap();
        let admin = sandbox.sql("n1", "postgres").await.unwrap();
        admin.batch_execute(schema).await.unwrap();
        Self { sandbox, admin }
    }

    pub(crate) fn sink(&self, role: &str, settings: &Value) -> PostgresSink {
        let mut config = json!(self.sandbox.conninfo("n1", role).unwrap());
        let port: u16 = config["port"].as_str().unwrap().parse().unwrap();
        config["port"] = json!(port);
        for (key, value) in settings.as_object().unwrap() {
            config[key] = value.clone();
        }
        let config: PostgresConfig = serde_json::from_value(config).unwrap();
        PostgresSink::new("copy", &config).unwrap()
    }

    /// A sink with these settings, open.
    pub(crate) async fn opened(&self, settings: Value) -> PostgresSink {
        let sink = self.sink("postgres", &settings);
        sink.open().await.unwrap();
        sink
    }

    /// The only column of each row, as text.
    pub(crate) async fn column(&self, sql: &str) -> Vec<Option<String>> {
        self.admin.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    pub(crate) async fn text(&self, sql: &str) -> String {
        self.column(sql).await.pop().unwrap().unwrap()
    }
}

/// A table; columns are `(name, type's number, whether in the key)`.
pub(crate) fn table(
    name: &str,
    identity: ReplicaIdentity,
    columns: &[(&str, u32, bool)],
) -> Arc<Relation> {
    let types = TypeBook::default();
    Arc::new(Relation {
        oid: 1000,
        schema: "public".into(),
        name: name.into(),
        identity,
        columns: columns
            .iter()
            .map(|&(name, oid, key)| Column {
                name: name.into(),
                data_type: types.get(oid),
                type_modifier: -1,
                key: key || identity == ReplicaIdentity::Full,
                primary: key,
            })
            .collect(),
    })
}

pub(crate) const INT4: u32 = 23;
pub(crate) const INT8: u32 = 20;
pub(crate) const TEXT: u32 = 25;

/// A column's value: `None` for NULL, [`TOAST`] for one that was not sent.
pub(crate) type Cell<'a> = Option<&'a str>;

/// Stands for a large value that was not sent.
pub(crate) const TOAST: Cell<'static> = Some("\u{1}toast");

/// Makes changes as a stream would: each batch is a transaction of its own.
#[derive(Debug)]
pub(crate) struct Maker {
    source: Arc<Source>,
    lsn: u64,
}

/// What happens to a row.
pub(crate) enum Does<'a> {
    Insert(&'a [Cell<'a>]),
    Read(&'a [Cell<'a>]),
    Update(&'a [Cell<'a>]),
    /// With the old key.
    Move(&'a [Cell<'a>], &'a [Cell<'a>]),
    /// With the whole old row.
    FullUpdate(&'a [Cell<'a>], &'a [Cell<'a>]),
    Delete(&'a [Cell<'a>]),
    FullDelete(&'a [Cell<'a>]),
    Truncate,
}

impl Maker {
    pub(crate) fn new() -> Self {
        let source = Source {
            system_id: SystemId(7),
            timeline: Timeline(1),
            database: "source".into(),
            slot: "slot".into(),
        };
        Self { source: Arc::new(source), lsn: 0x1000 }
    }

    /// One transaction, whole.
    pub(crate) fn batch(&mut self, changes: &[(&Arc<Relation>, Does<'_>)]) -> Batch {
        self.lsn += 0x100;
        let commit_lsn = Lsn(self.lsn);
        let transaction = Arc::new(Transaction {
            xid: 9,
            commit_lsn,
            commit_time: Timestamp(800_000_000_000_000),
            ..Transaction::default()
        });
        let make = |(ordinal, (table, does)): (usize, &(&Arc<Relation>, Does<'_>))| {
            Arc::new(self.change(&transaction, ordinal as u64, table, does))
        };
        let changes = changes.iter().enumerate().map(make).collect();
        Batch { changes, position: Some(Position { commit_lsn, changes: u64::MAX }) }
    }

    pub(crate) fn position(&self) -> Position {
        Position { commit_lsn: Lsn(self.lsn), changes: u64::MAX }
    }

    fn change(
        &self,
        transaction: &Arc<Transaction>,
        ordinal: u64,
        table: &Arc<Relation>,
        does: &Does<'_>,
    ) -> Change {
        let (mut new, mut old) = (TupleWriter::default(), TupleWriter::default());
        let body = match does {
            Does::Insert(row) => Body::Insert { table, new: write(&mut new, row) },
            Does::Read(row) => Body::Read { table, new: write(&mut new, row) },
            Does::Update(row) => Body::Update { table, old: None, new: write(&mut new, row) },
            Does::Move(key, row) => Body::Update {
                table,
                old: Some(Old::Key(write(&mut old, key))),
                new: write(&mut new, row),
            },
            Does::FullUpdate(before, row) => Body::Update {
                table,
                old: Some(Old::Full(write(&mut old, before))),
                new: write(&mut new, row),
            },
            Does::Delete(key) => Body::Delete { table, old: Old::Key(write(&mut old, key)) },
            Does::FullDelete(row) => Body::Delete { table, old: Old::Full(write(&mut old, row)) },
            Does::Truncate => Body::Truncate {
                tables: std::slice::from_ref(table),
                cascade: false,
                restart_identity: true,
            },
        };
        let lsn = Lsn(self.lsn + ordinal);
        ChangeRef { source: &self.source, transaction, ordinal, lsn, body }.into()
    }
}

fn write<'w>(writer: &'w mut TupleWriter, row: &[Cell<'_>]) -> herdsman_wal::decode::Tuple<'w> {
    for cell in row {
        writer.push(match *cell {
            None => Field::Null,
            cell if cell == TOAST => Field::Unchanged,
            Some(text) => Field::Text(text.as_bytes()),
        });
    }
    writer.tuple()
}

/// Delivers as the engine does: opens again where that is asked for, until it is done. Returns which changes were
/// rejected.
pub(crate) async fn deliver(sink: &PostgresSink, batch: &Batch) -> Vec<usize> {
    let delivering = async {
        loop {
            match sink.deliver(batch).await {
                Ok(()) => return Vec::new(),
                Err(DeliveryError::Partly(left)) => {
                    return left.iter().map(|change| change.index).collect();
                }
                Err(DeliveryError::Unavailable(error)) => {
                    while error.reopen && sink.open().await.is_err() {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, delivering).await.expect("the batch is delivered")
}
