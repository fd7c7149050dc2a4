//! Reading a table while the stream goes on.

use std::time::Duration;

use herdsman_node::Lsn;
use herdsman_sandbox::{Sandbox, on_each_version};
use herdsman_wal::decode::Field;
use herdsman_wal::snapshot::{
    ChunkQuery, ChunkRead, Incremental, IncrementalProgress, SnapshotConnection, SnapshotError,
    SnapshotTable,
};
use herdsman_wal::{Body, Event, Stream, StreamOptions};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::receiver::Receiver;
use super::{connection, source};
use crate::common::{LIMIT, STOP, make_slot, sandbox, sql, stream};

/// A stream, its receiver, and a table that is read beside it.
struct Both {
    stream: Stream,
    receiver: Receiver,
    incremental: Option<Incremental>,
    /// Rows that were handed on beside the stream, one word for each.
    emitted: Vec<String>,
    stopped: bool,
    /// Whether what was delivered need not come again.
    acknowledges: bool,
}

impl Both {
    async fn new(sandbox: &Sandbox) -> Self {
        let stream = stream(sandbox, Lsn(0), StreamOptions::default()).await;
        Self {
            stream,
            receiver: Receiver::default(),
            incremental: None,
            emitted: Vec::new(),
            stopped: false,
            acknowledges: false,
        }
    }

    async fn observe(&mut self, sandbox: &Sandbox, page: u32, progress: IncrementalProgress) {
        let connection = connection(sandbox, LIMIT).await;
        let table = SnapshotTable::new("public", "t");
        let made = Incremental::new(&connection, table, source(), page, progress).await;
        self.incremental = Some(made.unwrap());
    }

    fn incremental(&mut self) -> &mut Incremental {
        self.incremental.as_mut().unwrap()
    }

    /// One event of the stream.
    async fn step(&mut self) {
        let event = tokio::time::timeout(LIMIT, self.stream.next()).await.unwrap().unwrap();
        let incremental = self.incremental.as_mut();
        match event {
            Event::Begin(transaction) => {
                if let Some(incremental) = incremental {
                    incremental.begin(transaction.xid);
                }
            }
            Event::Change(change) => {
                self.stopped |= matches!(change.body, Body::Message { prefix: "stop", .. });
                self.receiver.take(&change);
                if let Some(incremental) = incremental {
                    incremental.change(&change).unwrap();
                }
            }
            Event::Commit { end_lsn, .. } => {
                if self.acknowledges {
                    self.stream.feedback().handled(end_lsn);
                }
                if let Some(incremental) = incremental {
                    incremental.commit(end_lsn);
                }
            }
            Event::Idle { wal_end } => {
                if let Some(incremental) = incremental {
                    incremental.passed(wal_end);
                }
            }
            _ => {}
        }
        self.emit();
    }

    fn emit(&mut self) {
        let Some(incremental) = &mut self.incremental else { return };
        while let Some(rows) = incremental.emit() {
            for change in rows.iter() {
                self.receiver.take(&change);
                let row = change.new_row().unwrap();
                let word = |field: Field<'_>| match field {
                    Field::Unchanged => "-".to_owned(),
                    field => field.text().unwrap_or("NULL").chars().take(12).collect(),
                };
                let words: Vec<String> = row.iter().map(|(_, field)| word(field)).collect();
                self.emitted.push(words.join(" "));
            }
        }
    }

    /// Reads the chunk that is due, while nothing is taken from the stream.
    async fn read(&mut self, connection: &SnapshotConnection) -> Result<(), SnapshotError> {
        let query = self.incremental().wanted().unwrap();
        let read = query.run(connection).await?;
        self.incremental().accept(read)
    }

    /// Reads beside the stream until the table is done.
    async fn finish(&mut self, connection: SnapshotConnection) {
        let mut connection = Some(connection);
        let mut reading: Option<
            JoinHandle<(SnapshotConnection, Result<ChunkRead, SnapshotError>)>,
        > = None;
        while !self.incremental().is_done() {
            if reading.is_none()
                && let Some(query) = self.incremental().wanted()
            {
                let own = connection.take().unwrap();
                reading = Some(tokio::spawn(run(query, own)));
            }
            if reading.as_ref().is_some_and(JoinHandle::is_finished) {
                let (own, read) = reading.take().unwrap().await.unwrap();
                connection = Some(own);
                self.incremental().accept(read.unwrap()).unwrap();
                self.emit();
            } else if reading.is_some() {
                // The stream goes on while the chunk is read; it may have nothing to tell.
                let _nothing = tokio::time::timeout(Duration::from_millis(20), self.step()).await;
            } else {
                self.step().await;
            }
        }
    }

    async fn until(&mut self, reached: impl Fn(&Self) -> bool) {
        while !reached(self) {
            self.step().await;
        }
    }
}

async fn run(
    query: ChunkQuery,
    own: SnapshotConnection,
) -> (SnapshotConnection, Result<ChunkRead, SnapshotError>) {
    let read = query.run(&own).await;
    (own, read)
}

/// Commits that wait for a standby that does not exist.
async fn nobody_answers(sandbox: &Sandbox) {
    let client = sandbox.sql("n1", "postgres").await.unwrap();
    client.batch_execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await.unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    until_sql(&client, "SELECT current_setting('synchronous_standby_names') = 'nobody'").await;
}

async fn until_sql(client: &Client, condition: &str) {
    let waiting = async {
        while !client.query_one(condition, &[]).await.unwrap().get::<_, bool>(0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.unwrap();
}

/// An update that is in the log and not yet visible, delivered by the stream.
async fn update_that_waits(
    sandbox: &Sandbox,
    both: &mut Both,
) -> JoinHandle<Result<(), tokio_postgres::Error>> {
    let writer = sandbox.sql("n1", "postgres").await.unwrap();
    let waiting =
        tokio::spawn(
            async move { writer.batch_execute("UPDATE t SET v = 'new' WHERE id = 2").await },
        );
    both.until(|both| {
        both.receiver.rows.get("2").is_some_and(|row| row[1] == Some(Some("new".to_owned())))
    })
    .await;
    // To the end of the transaction.
    both.step().await;
    waiting
}

async fn let_go(sandbox: &Sandbox, waiting: JoinHandle<Result<(), tokio_postgres::Error>>) {
    let client = sandbox.sql("n1", "postgres").await.unwrap();
    client.batch_execute("ALTER SYSTEM RESET synchronous_standby_names").await.unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    tokio::time::timeout(LIMIT, waiting).await.unwrap().unwrap().unwrap();
}

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text, large text); \
    ALTER TABLE t ALTER large SET STORAGE EXTERNAL; CREATE PUBLICATION p FOR TABLE t; \
    INSERT INTO t SELECT i, 'old', repeat(md5(i::text), 100) FROM generate_series(1, 3) i";

on_each_version! {
    async fn a_row_whose_commit_waits_for_a_standby_does_not_come_back_old(version: u32) {
        let sandbox = sandbox(version).await;
        sql(&sandbox, TABLE).await;
        make_slot(&sandbox).await;
        let own = connection(&sandbox, LIMIT).await;
        let mut both = Both::new(&sandbox).await;
        both.observe(&sandbox, 1, IncrementalProgress::default()).await;
        both.read(&own).await.unwrap();
        both.until(|both| both.emitted.len() == 1).await;

        nobody_answers(&sandbox).await;
        let waiting = update_that_waits(&sandbox, &mut both).await;
        // The pitfall: whoever reads after the stream has told of the update, still reads what was before.
        let client = sandbox.sql("n1", "postgres").await.unwrap();
        let read: String = client.query_one("SELECT v FROM t WHERE id = 2", &[]).await.unwrap().get(0);
        assert_eq!(read, "old");

        both.finish(own).await;
        // Only what the update did not tell is handed on: its large value.
        assert_eq!(both.emitted, ["1 old c4ca4238a0b9", "2 - c81e728d9d4c", "3 old eccbc87e4b5c"]);
        assert_eq!(both.receiver.rows["2"][1], Some(Some("new".to_owned())));
        let_go(&sandbox, waiting).await;
        both.receiver.must_be(&client, "SELECT id::text, v, large FROM t").await;
    }

    async fn what_was_told_before_observing_began_is_waited_for(version: u32) {
        let sandbox = sandbox(version).await;
        sql(&sandbox, TABLE).await;
        make_slot(&sandbox).await;
        let mut both = Both::new(&sandbox).await;
        nobody_answers(&sandbox).await;
        let waiting = update_that_waits(&sandbox, &mut both).await;
        both.observe(&sandbox, 10, IncrementalProgress::default()).await;
        let impatient = connection(&sandbox, Duration::from_millis(500)).await;
        let error = both.read(&impatient).await.unwrap_err();
        assert!(matches!(error, SnapshotError::Writers { .. }) && error.to_string().contains("PID "), "{error}");
        let_go(&sandbox, waiting).await;
        both.finish(impatient).await;
        assert!(both.emitted.iter().any(|row| row.starts_with("2 new ")), "{:?}", both.emitted);
        let client = sandbox.sql("n1", "postgres").await.unwrap();
        both.receiver.must_be(&client, "SELECT id::text, v, large FROM t").await;
    }

    async fn a_table_under_load_is_read_beside_the_stream_also_after_an_interruption(version: u32) {
        let sandbox = sandbox(version).await;
        sql(&sandbox, TABLE).await;
        sql(&sandbox, "INSERT INTO t SELECT i, 'old', repeat(md5(i::text), 100) FROM generate_series(4, 1500) i").await;
        make_slot(&sandbox).await;
        let writer = sandbox.sql("n1", "postgres").await.unwrap();
        let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
        let writing = tokio::spawn(async move {
            for round in 0_i32.. {
                let id = round.wrapping_mul(7919).rem_euclid(1500);
                let sql = format!("BEGIN; UPDATE t SET v = '{round}' WHERE id = {id}; SAVEPOINT s; DELETE FROM t WHERE id = {id} + 1; \
                    ROLLBACK TO s; UPDATE t SET large = '{round}' WHERE id = {id} + 3; COMMIT; \
                    UPDATE t SET id = 1000000 + {round} WHERE id = {id} + 40 AND {round} % 5 = 0; \
                    UPDATE t SET id = -1000000 - {round} WHERE id = {id} + 80 AND {round} % 5 = 0; \
                    DELETE FROM t WHERE id = {id} + 9 AND {round} % 3 = 0; \
                    INSERT INTO t VALUES (-100000 - {round}, 'n', 'n'), (100000 + {round}, 'n', repeat('n', 3000))");
                writer.batch_execute(&sql).await.unwrap();
                // The slot keeps only so much of the log.
                tokio::time::sleep(Duration::from_millis(5)).await;
                if stopped.try_recv().is_ok() {
                    writer.batch_execute(STOP).await.unwrap();
                    return;
                }
            }
        });
        let mut both = Both::new(&sandbox).await;
        both.observe(&sandbox, 50, IncrementalProgress::default()).await;
        let own = connection(&sandbox, LIMIT).await;
        for _ in 0..10 {
            both.read(&own).await.unwrap();
            let before = both.incremental().progress().after;
            both.until(|both| both.incremental.as_ref().unwrap().progress().after != before).await;
        }
        // As after a restart: the stream goes on from where it was, which is in the past of what was read.
        let progress = serde_json::to_string(&both.incremental().progress()).unwrap();
        let Both { stream, receiver, .. } = both;
        stream.close().await;
        let mut both = Both { receiver, acknowledges: true, ..Both::new(&sandbox).await };
        both.observe(&sandbox, 50, serde_json::from_str(&progress).unwrap()).await;
        both.finish(own).await;
        stop.send(()).unwrap();
        both.until(|both| both.stopped).await;
        writing.await.unwrap();
        let client = sandbox.sql("n1", "postgres").await.unwrap();
        both.receiver.must_be(&client, "SELECT id::text, v, large FROM t").await;
        assert!(both.incremental().progress().rows > 500);
    }

    async fn a_table_whose_rows_the_stream_cannot_tell_apart_is_refused(version: u32) {
        let sandbox = sandbox(version).await;
        sql(&sandbox, "CREATE TABLE t (id int); CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id); \
            CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (10)").await;
        let own = connection(&sandbox, LIMIT).await;
        for (name, problem) in [("t", "no primary key"), ("parted", "partitions' names")] {
            let table = SnapshotTable::new("public", name);
            let made = Incremental::new(&own, table, source(), 1, IncrementalProgress::default()).await;
            let error = made.unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
