//! Snapshots of real servers.

mod incremental;
mod receiver;
mod shapes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use herdsman_node::{SystemId, Timeline, Tls};
use herdsman_sandbox::{Sandbox, on_each_version};
use herdsman_wal::snapshot::{
    Copying, Exported, HeldSnapshot, Snapshot, SnapshotConnection, SnapshotError, SnapshotEvent,
    SnapshotProgress, SnapshotTable,
};
use herdsman_wal::{CreateSlot, Replication, SlotName, SlotSnapshot, Source, StreamOptions};
use receiver::Receiver;
use tokio_postgres::Client;

use crate::common::{LIMIT, STOP, conninfo, sandbox, sql, stream};

pub(super) fn source() -> Arc<Source> {
    let (system_id, timeline) = (SystemId(1), Timeline(1));
    Arc::new(Source { system_id, timeline, database: "postgres".into(), slot: "s".into() })
}

pub(super) async fn connection(sandbox: &Sandbox, limit: Duration) -> SnapshotConnection {
    let info = conninfo(sandbox);
    SnapshotConnection::open(&info, &Tls::new(&info).unwrap(), limit).await.unwrap()
}

/// Makes slot `s`, and keeps the connection that its snapshot lives on.
pub(super) async fn exported(sandbox: &Sandbox) -> (Replication, Exported) {
    let mut replication = crate::common::connect(sandbox).await;
    let options = CreateSlot { snapshot: SlotSnapshot::Export, ..CreateSlot::default() };
    let slot = SlotName::new("s").unwrap();
    let created = replication.create_slot(&slot, &options).await.unwrap();
    let (name, consistent_point) = (created.snapshot.unwrap(), created.consistent_point);
    (replication, Exported { name, consistent_point })
}

pub(super) fn of(tables: Vec<SnapshotTable>) -> Snapshot {
    Snapshot { tables, parallel: 3, chunk_bytes: 64 << 10, limit: LIMIT }
}

pub(super) async fn start(
    sandbox: &Sandbox,
    snapshot: &Snapshot,
    exported: &Exported,
    progress: SnapshotProgress,
) -> Result<Copying, SnapshotError> {
    let info = conninfo(sandbox);
    snapshot.start(&info, &Tls::new(&info).unwrap(), exported, source(), progress).await
}

pub(super) async fn next(copying: &mut Copying) -> Result<Option<SnapshotEvent>, SnapshotError> {
    tokio::time::timeout(LIMIT, copying.next()).await.unwrap()
}

fn t() -> Vec<SnapshotTable> {
    vec![SnapshotTable::new("public", "t")]
}

async fn texts(client: &Client, sql: &str) -> Vec<Vec<Option<String>>> {
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (0..row.len()).map(|column| row.get(column)).collect()).collect()
}

on_each_version! {
    async fn each_row_is_told_once_by_parallel_pieces_while_it_is_written(version: u32) {
        let sandbox = sandbox(version).await;
        sql(&sandbox, "CREATE TABLE t (id int PRIMARY KEY, v text); \
            INSERT INTO t SELECT i, repeat('x', 90) FROM generate_series(1, 12000) i").await;
        let (replication, exported) = exported(&sandbox).await;
        let reference = sandbox.sql("n1", "postgres").await.unwrap();
        let begin = format!("BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '{}'", exported.name);
        reference.batch_execute(&begin).await.unwrap();
        let writer = sandbox.sql("n1", "postgres").await.unwrap();
        let writing = tokio::spawn(async move {
            for round in 0.. {
                let sql = format!("UPDATE t SET v = 'y' || v WHERE id % 13 = {round} % 13; DELETE FROM t WHERE id % 97 = {round} % 97; \
                    INSERT INTO t SELECT 100000 + {round} * 100 + i FROM generate_series(1, 100) i");
                writer.batch_execute(&sql).await.unwrap();
            }
        });
        let mut copying = start(&sandbox, &of(t()), &exported, SnapshotProgress::default()).await.unwrap();
        // Every reader has the snapshot: who exported it may go.
        drop(replication);
        let (mut rows, mut ordinals, mut done, mut tables) = (BTreeMap::new(), Vec::new(), 0, 0);
        while let Some(event) = next(&mut copying).await.unwrap() {
            match event {
                SnapshotEvent::Rows(batch) => for change in batch.iter() {
                    let row = change.new_row().unwrap();
                    let id: i32 = row.field("id").unwrap().text().unwrap().parse().unwrap();
                    let before = rows.insert(id, row.field("v").unwrap().text().map(str::to_owned));
                    assert_eq!(before, None, "row {id} came twice");
                    ordinals.push(change.ordinal);
                },
                SnapshotEvent::ChunkDone { .. } => done += 1,
                SnapshotEvent::TableDone(_) => tables += 1,
                SnapshotEvent::Done => {}
            }
        }
        writing.abort();
        let expected = texts(&reference, "SELECT id::text, v FROM t").await;
        let expected: BTreeMap<i32, Option<String>> = expected.into_iter()
            .map(|row| (row[0].as_ref().unwrap().parse().unwrap(), row[1].clone())).collect();
        assert!(rows == expected, "{} rows instead of {}", rows.len(), expected.len());
        ordinals.sort_unstable();
        assert!(ordinals.into_iter().eq(0..12000));
        let total = copying.stats().total;
        assert_eq!((total.rows, total.chunks_done, total.chunks, tables), (12000, done, done, 1));
        assert!(done > 10 && total.bytes > 12000 * 90 && total.disk_done == total.disk, "{total:?}");
    }

    async fn values_are_as_they_are_whatever_they_are_made_of(version: u32) {
        let sandbox = sandbox(version).await;
        let client = sandbox.sql("n1", "postgres").await.unwrap();
        client.batch_execute(r"CREATE TABLE t (id int PRIMARY KEY, v text, b bytea, a text[]);
            INSERT INTO t (id, v) SELECT i, 'a' || chr(i) || 'b' FROM generate_series(1, 1000) i;
            INSERT INTO t (id, v) VALUES (2001, NULL), (2002, ''), (2003, '\N'), (2004, E'\t'), (2005, E'\n'),
                (2006, E'\\'), (2007, '\.'), (2008, '\t\n\\N'), (2009, E'\r\n'), (2010, 'żółw 🐢 日本'), (2011, 'NULL'),
                (2012, E'\\\n'), (2013, '\x41'), (2014, '\101'), (2015, E'\b\f\v'), (2016, E'\N');
            INSERT INTO t SELECT 3000, v, decode('00ff0a5c0d09', 'hex'), ARRAY[NULL, '', 'NULL', E'\t\\', 'a,b']
                FROM t WHERE id = 2008").await.unwrap();
        // Whatever others set: a value's text is that of the stream.
        client.batch_execute("ALTER DATABASE postgres SET bytea_output = 'escape'; ALTER DATABASE postgres SET client_encoding = 'LATIN1'").await.unwrap();
        let expected = texts(&client, "SELECT id::text, v, b::text, a::text FROM t ORDER BY t.id").await;
        let (_replication, exported) = exported(&sandbox).await;
        let mut copying = start(&sandbox, &of(t()), &exported, SnapshotProgress::default()).await.unwrap();
        let mut seen = Vec::new();
        while let Some(event) = next(&mut copying).await.unwrap() {
            if let SnapshotEvent::Rows(batch) = event {
                seen.extend(batch.iter().map(|change| {
                    let row = change.new_row().unwrap();
                    row.iter().map(|(_, field)| field.text().map(str::to_owned)).collect::<Vec<_>>()
                }));
            }
        }
        seen.sort_by_key(|row| row[0].as_ref().unwrap().parse::<i32>().unwrap());
        assert_eq!(seen.len(), expected.len());
        for (seen, expected) in seen.iter().zip(&expected) {
            assert_eq!(seen, expected);
        }
    }

    async fn a_snapshot_that_has_ended_is_named_with_the_reason(version: u32) {
        let sandbox = sandbox(version).await;
        sql(&sandbox, "CREATE TABLE t (id int PRIMARY KEY)").await;
        let (mut replication, exported) = exported(&sandbox).await;
        replication.identify().await.unwrap();
        let error = start(&sandbox, &of(t()), &exported, SnapshotProgress::default()).await.unwrap_err();
        assert!(matches!(error, SnapshotError::Gone { .. }) && error.is_transient(), "{error}");
        assert!(error.to_string().contains(&format!("no snapshot `{}`", exported.name)), "{error}");
    }

    async fn a_table_that_was_rewritten_after_the_snapshot_is_refused_and_cannot_be_while_it_is_read(version: u32) {
        let sandbox = sandbox(version).await;
        sql(&sandbox, "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY); \
            INSERT INTO t SELECT generate_series(1, 100); INSERT INTO u SELECT generate_series(1, 100)").await;
        let (_replication, exported) = exported(&sandbox).await;
        sql(&sandbox, "ALTER TABLE u ALTER id TYPE bigint").await;
        let u = vec![SnapshotTable::new("public", "u")];
        let error = start(&sandbox, &of(u), &exported, SnapshotProgress::default()).await.unwrap_err();
        assert!(matches!(error, SnapshotError::Rewritten { .. }), "{error}");

        let mut copying = start(&sandbox, &of(t()), &exported, SnapshotProgress::default()).await.unwrap();
        let rewriter = sandbox.sql("n1", "postgres").await.unwrap();
        let refused = rewriter.batch_execute("SET lock_timeout = 200; ALTER TABLE t ALTER id TYPE bigint").await;
        assert_eq!(refused.unwrap_err().code().unwrap().code(), "55P03");
        while next(&mut copying).await.unwrap().is_some() {}
        assert_eq!(copying.stats().total.rows, 100);
        rewriter.batch_execute("SET lock_timeout = '20s'; ALTER TABLE t ALTER id TYPE bigint").await.unwrap();
    }

    async fn policies_that_would_hide_rows_are_told_and_not_obeyed(version: u32) {
        let sandbox = sandbox(version).await;
        sql(&sandbox, "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); ALTER TABLE t ENABLE ROW LEVEL SECURITY; \
            GRANT SELECT ON t TO app").await;
        let (_replication, exported) = exported(&sandbox).await;
        let info = herdsman_node::Conninfo::from_pairs(sandbox.conninfo("n1", "app").unwrap()).unwrap();
        let tls = Tls::new(&info).unwrap();
        let mut copying = of(t()).start(&info, &tls, &exported, source(), SnapshotProgress::default()).await.unwrap();
        let error = loop {
            if let Err(error) = next(&mut copying).await {
                break error;
            }
        };
        assert!(matches!(&error, SnapshotError::Refused { sqlstate, .. } if sqlstate == "42501"), "{error}");
    }

    async fn a_copy_that_died_goes_on_under_a_new_snapshot_and_ends_right(version: u32) {
        go_on(version).await;
    }
}

/// A copy is ended in the middle; rows then move between pieces, change and go; a new snapshot and the stream make it right.
async fn go_on(version: u32) {
    let sandbox = sandbox(version).await;
    let client = sandbox.sql("n1", "postgres").await.unwrap();
    client.batch_execute("CREATE TABLE t (id int PRIMARY KEY, v text, large text); \
        ALTER TABLE t ALTER large SET STORAGE EXTERNAL; CREATE PUBLICATION p FOR TABLE t; \
        INSERT INTO t SELECT i, repeat('v', 60), repeat(md5(i::text), 80) FROM generate_series(1, 4000) i").await.unwrap();
    let (replication, first) = exported(&sandbox).await;
    let mut snapshot = of(t());
    snapshot.parallel = 1;
    let mut copying =
        start(&sandbox, &snapshot, &first, SnapshotProgress::default()).await.unwrap();
    drop(replication);
    let mut progress = copying.progress().clone();
    let mut receiver = Receiver::default();
    let mut killed = false;
    let error = loop {
        match next(&mut copying).await {
            Ok(Some(SnapshotEvent::Rows(rows))) => {
                rows.iter().for_each(|change| receiver.take(&change));
            }
            Ok(Some(SnapshotEvent::ChunkDone { chunk, oldest })) => progress.record(chunk, oldest),
            Ok(event) => assert!(
                !matches!(event, None | Some(SnapshotEvent::Done)),
                "it was not interrupted"
            ),
            Err(error) => break error,
        }
        if !killed && progress.tables.values().any(|table| table.done.len() >= 2) {
            killed = true;
            client.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY%' OR \
                (state LIKE 'idle in%' AND pid <> pg_backend_pid())", &[]).await.unwrap();
        }
    };
    assert!(matches!(error, SnapshotError::Lost { .. }) && error.is_transient(), "{error}");
    let done = progress.tables.values().next().unwrap().done.len();
    // As it would be read from a file.
    let progress: SnapshotProgress =
        serde_json::from_str(&serde_json::to_string(&progress).unwrap()).unwrap();
    drop(copying);

    // Room in the pages that were read, filled by rows from those that were not, whose large values are not sent.
    client.batch_execute("DELETE FROM t WHERE id <= 300").await.unwrap();
    client.batch_execute("VACUUM t").await.unwrap();
    client
        .batch_execute("UPDATE t SET v = 'moved' || id WHERE id BETWEEN 3701 AND 3900")
        .await
        .unwrap();
    client.batch_execute("UPDATE t SET large = 'x' WHERE id % 50 = 0; UPDATE t SET id = id + 10000 WHERE id % 70 = 0; \
        INSERT INTO t VALUES (90000, 'n', 'n')").await.unwrap();
    let there = "SELECT count(*)::text FROM t WHERE v LIKE 'moved%' AND ctid < '(16,0)'";
    assert_ne!(
        texts(&client, there).await[0][0].as_deref(),
        Some("0"),
        "nothing moved to where it was read"
    );

    let info = conninfo(&sandbox);
    let tls = Tls::new(&info).unwrap();
    let name = SlotName::new("again").unwrap();
    let held = HeldSnapshot::take(&info, &tls, &name, LIMIT).await.unwrap();
    let second = held.exported().clone();
    let mut copying = start(&sandbox, &snapshot, &second, progress).await.unwrap();
    drop(held);
    client.batch_execute("UPDATE t SET v = 'late' WHERE id % 90 = 0; UPDATE t SET id = id - 10000 WHERE id % 140 = 60").await.unwrap();
    client.batch_execute(STOP).await.unwrap();
    let mut stream = stream(&sandbox, first.consistent_point, StreamOptions::default()).await;
    receiver.follow_to(&mut stream, second.consistent_point).await;
    while let Some(event) = next(&mut copying).await.unwrap() {
        if let SnapshotEvent::Rows(rows) = event {
            for change in rows.iter() {
                assert!(change.transaction.commit_lsn < second.consistent_point);
                receiver.take(&change);
            }
        }
    }
    let read = copying.stats().total.rows;
    assert!(done > 0 && read < 3700, "{read} rows were read after {done} pieces had been");
    receiver.follow(&mut stream).await;
    stream.close().await;
    receiver.must_be(&client, "SELECT id::text, v, large FROM t").await;
}
