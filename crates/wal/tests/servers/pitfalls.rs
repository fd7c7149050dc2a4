//! What others stumble over, each by a test of its own, on real servers.

use std::time::Duration;

use herdsman_node::{Lsn, Tls};
use herdsman_sandbox::on_each_version;
use herdsman_wal::decode::Field;
use herdsman_wal::{Body, Catalogue, Event, Kind, Progress, Stream, StreamOptions, WalError, json};

use crate::common::{
    LIMIT, STOP, connect, conninfo, make_slot, sandbox, sql, start, stream, words,
};

/// The changes up to the message that ends all, as `look` sees them.
async fn seen(
    stream: &mut Stream,
    look: impl Fn(&herdsman_wal::ChangeRef<'_>) -> String,
) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        match tokio::time::timeout(LIMIT, stream.next()).await.unwrap().unwrap() {
            Event::Change(change) if change.kind() == Kind::Message => return seen,
            Event::Change(change) => seen.push(look(&change)),
            _ => {}
        }
    }
}

/// The fields of the new row, NULL and unchanged told apart.
fn fields(change: &herdsman_wal::ChangeRef<'_>) -> String {
    let row = change.new_row().or_else(|| change.old_row()).unwrap();
    let shown = row.iter().map(|(_, field)| match field {
        Field::Null => "NULL".to_owned(),
        Field::Unchanged => "unchanged".to_owned(),
        other => {
            let text = other.text().unwrap();
            if text.len() > 40 { format!("{} bytes", text.len()) } else { text.to_owned() }
        }
    });
    format!("{} {}", change.kind().name(), shown.collect::<Vec<_>>().join(" "))
}

on_each_version! {
    async fn an_unchanged_large_value_is_never_null(version: u32) {
        let sandbox = sandbox(version).await;
        sql(&sandbox, "CREATE TABLE d (id int PRIMARY KEY, big text, n int); CREATE TABLE f (LIKE d INCLUDING ALL); \
            ALTER TABLE d ALTER big SET STORAGE EXTERNAL; ALTER TABLE f ALTER big SET STORAGE EXTERNAL; \
            ALTER TABLE f REPLICA IDENTITY FULL; CREATE PUBLICATION p FOR TABLE d, f; \
            INSERT INTO d VALUES (1, repeat('x', 9000)); INSERT INTO f SELECT * FROM d").await;
        make_slot(&sandbox).await;
        sql(&sandbox, "UPDATE d SET n = 1").await;
        sql(&sandbox, "UPDATE f SET n = 1").await;
        sql(&sandbox, "UPDATE f SET big = NULL").await;
        sql(&sandbox, STOP).await;
        let mut stream = stream(&sandbox, Lsn(0), StreamOptions::default()).await;
        let expected = ["update 1 unchanged 1", "update 1 9000 bytes 1", "update 1 NULL 1"];
        assert_eq!(seen(&mut stream, fields).await, expected);
    }

    async fn an_altered_table_is_announced_before_its_first_row_even_within_a_transaction(version: u32) {
        let sandbox = sandbox(version).await;
        sql(&sandbox, "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t").await;
        make_slot(&sandbox).await;
        sql(&sandbox, "BEGIN; INSERT INTO t VALUES (1); ALTER TABLE t ADD COLUMN v text DEFAULT 'd'; \
            INSERT INTO t VALUES (2, 'x'); COMMIT").await;
        sql(&sandbox, "ALTER TABLE t DROP COLUMN v").await;
        sql(&sandbox, "ALTER TABLE t ADD COLUMN v int").await;
        sql(&sandbox, "INSERT INTO t VALUES (3, 4)").await;
        sql(&sandbox, STOP).await;
        let mut stream = stream(&sandbox, Lsn(0), StreamOptions::default()).await;
        let look = |change: &herdsman_wal::ChangeRef<'_>| match change.body {
            Body::Schema { table, previous } => format!("{} -> {} columns at {}", previous.columns.len(), table.columns.len(), change.ordinal),
            _ => format!("{} at {}", fields(change), change.ordinal),
        };
        // A default that is added rewrites no row as far as the stream is concerned: the reader asks for a snapshot.
        let expected = ["insert 1 at 0", "1 -> 2 columns at 1", "insert 2 x at 1", "2 -> 2 columns at 0", "insert 3 4 at 0"];
        assert_eq!(seen(&mut stream, look).await, expected);
    }

    async fn a_message_that_is_not_transactional_comes_even_from_what_was_rolled_back(version: u32) {
        let sandbox = sandbox(version).await;
        sql(&sandbox, "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t").await;
        make_slot(&sandbox).await;
        sql(&sandbox, "BEGIN; SELECT pg_logical_emit_message(false, 'now', 'a'), pg_logical_emit_message(true, 'never', 'b'); ROLLBACK").await;
        sql(&sandbox, STOP).await;
        let mut stream = stream(&sandbox, Lsn(0), StreamOptions::default()).await;
        let mut told = Vec::new();
        loop {
            match tokio::time::timeout(LIMIT, stream.next()).await.unwrap().unwrap() {
                Event::Message { prefix, content, .. } => {
                    told.push(format!("{prefix} {}", String::from_utf8_lossy(content)));
                }
                Event::Change(_) => break,
                _ => {}
            }
        }
        assert_eq!(told, ["now a"]);
    }

    async fn changes_applied_from_elsewhere_carry_their_origin_and_can_be_left_out(version: u32) {
        let sandbox = sandbox(version).await;
        sql(&sandbox, "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t; \
            SELECT pg_replication_origin_create('far')").await;
        make_slot(&sandbox).await;
        sql(&sandbox, "SELECT pg_replication_origin_session_setup('far'); BEGIN; \
            SELECT pg_replication_origin_xact_setup('0/1', now()); INSERT INTO t VALUES (1); COMMIT").await;
        sql(&sandbox, "INSERT INTO t VALUES (2)").await;
        sql(&sandbox, STOP).await;
        let look = |change: &herdsman_wal::ChangeRef<'_>| {
            format!("{} {}", fields(change), change.transaction.origin.as_deref().unwrap_or("here"))
        };
        let mut all = stream(&sandbox, Lsn(0), StreamOptions::default()).await;
        assert_eq!(seen(&mut all, look).await, ["insert 1 far", "insert 2 here"]);
        all.close().await;
        let options = StreamOptions { local_only: true, ..StreamOptions::default() };
        let mut local = stream(&sandbox, Lsn(0), options).await;
        assert_eq!(seen(&mut local, look).await, ["insert 2 here"]);
    }

    async fn a_second_reader_is_told_who_holds_the_slot(version: u32) {
        let sandbox = sandbox(version).await;
        sql(&sandbox, "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t").await;
        make_slot(&sandbox).await;
        let first = stream(&sandbox, Lsn(0), StreamOptions::default()).await;
        let row = sandbox.sql("n1", "postgres").await.unwrap();
        let holder: i32 = row.query_one("SELECT active_pid FROM pg_replication_slots", &[]).await.unwrap().get(0);
        let second = connect(&sandbox).await.start(start(Lsn(0), StreamOptions::default())).await;
        match second.unwrap_err() {
            error @ WalError::SlotActive { pid, .. } => {
                assert_eq!(i64::from(pid), i64::from(holder));
                assert!(error.is_transient());
            }
            other => panic!("{other}"),
        }
        first.close().await;
        // Released: the next one gets it.
        stream(&sandbox, Lsn(0), StreamOptions::default()).await.close().await;
    }

    async fn an_idle_slot_does_not_hold_the_log_back(version: u32) {
        let sandbox = sandbox(version).await;
        sql(&sandbox, "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE other (v text); CREATE PUBLICATION p FOR TABLE t").await;
        make_slot(&sandbox).await;
        let mut stream = stream(&sandbox, Lsn(0), StreamOptions::default()).await;
        sql(&sandbox, "INSERT INTO other SELECT repeat('x', 1000) FROM generate_series(1, 3000)").await;
        let client = sandbox.sql("n1", "postgres").await.unwrap();
        let written: String = client.query_one("SELECT pg_current_wal_lsn()::text", &[]).await.unwrap().get(0);
        let (feedback, mut progress) = (stream.feedback(), Progress::new());
        let caught_up = async {
            loop {
                let ticket = match stream.next().await.unwrap() {
                    Event::Idle { wal_end } => { progress.idle(wal_end); None }
                    Event::Begin(_) => Some(progress.begin()),
                    _ => None,
                };
                assert!(ticket.is_none(), "nothing published was written");
                feedback.handled(progress.safe());
                let behind = "SELECT confirmed_flush_lsn < $1::text::pg_lsn FROM pg_replication_slots";
                if !client.query_one(behind, &[&written]).await.unwrap().get::<_, bool>(0) {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), caught_up).await.unwrap();
    }

    async fn values_look_the_same_whatever_the_server_is_set_to(version: u32) {
        let sandbox = sandbox(version).await;
        sql(&sandbox, "CREATE TABLE t (id int PRIMARY KEY, d timestamptz, i interval, f float8, b bytea); \
            CREATE PUBLICATION p FOR TABLE t; ALTER ROLE postgres SET datestyle = 'German, DMY'; \
            ALTER ROLE postgres SET intervalstyle = 'iso_8601'; ALTER ROLE postgres SET extra_float_digits = -10; \
            ALTER ROLE postgres SET bytea_output = 'escape'; ALTER ROLE postgres SET timezone = 'Asia/Tokyo'").await;
        make_slot(&sandbox).await;
        sql(&sandbox, "INSERT INTO t VALUES (1, '2026-11-21 12:00:00.5+00', '1 day 2 hours', 0.1::float8 + 0.2, '\\x00ff')").await;
        sql(&sandbox, STOP).await;
        let mut stream = stream(&sandbox, Lsn(0), StreamOptions::default()).await;
        let expected = ["insert 1 2026-11-21 12:00:00.5+00 1 day 02:00:00 0.30000000000000004 \\x00ff"];
        assert_eq!(seen(&mut stream, fields).await, expected);
    }

    async fn rows_look_as_the_publication_says(version: u32) {
        let sandbox = sandbox(version).await;
        sql(&sandbox, "CREATE TABLE a (x int, y int, secret text, PRIMARY KEY (x, y)); \
            CREATE TABLE g (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED); \
            CREATE TABLE part (id int PRIMARY KEY) PARTITION BY RANGE (id); \
            CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10); \
            CREATE PUBLICATION p FOR TABLE a (x, y), g, part WITH (publish_via_partition_root = true)").await;
        make_slot(&sandbox).await;
        sql(&sandbox, "INSERT INTO a VALUES (1, 2, 's'); INSERT INTO g VALUES (1); INSERT INTO part VALUES (5)").await;
        sql(&sandbox, "UPDATE a SET y = 3; DELETE FROM a; TRUNCATE a, g CASCADE").await;
        sql(&sandbox, STOP).await;
        let mut stream = stream(&sandbox, Lsn(0), StreamOptions::default()).await;
        let look = |change: &herdsman_wal::ChangeRef<'_>| match change.body {
            Body::Truncate { tables, cascade, .. } => format!("truncate {} {cascade}", tables.len()),
            _ => format!("{} {}", change.table().unwrap().name, fields(change)),
        };
        let expected = ["a insert 1 2", "g insert 1", "part insert 5", "a update 1 3", "a delete 1 3", "truncate 2 true"];
        assert_eq!(seen(&mut stream, look).await, expected);
    }

    async fn rows_of_a_table_with_an_index_as_identity_go_by_that_index_throughout(version: u32) {
        let sandbox = sandbox(version).await;
        sql(&sandbox, "CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL UNIQUE, v int); \
            ALTER TABLE t REPLICA IDENTITY USING INDEX t_code_key; CREATE PUBLICATION p FOR TABLE t").await;
        make_slot(&sandbox).await;
        sql(&sandbox, "INSERT INTO t VALUES (1, 'a', 0); UPDATE t SET v = 1; DELETE FROM t").await;
        sql(&sandbox, STOP).await;
        let info = conninfo(&sandbox);
        let catalogue = Catalogue::new(info.clone(), Tls::new(&info).unwrap(), LIMIT);
        let stream = stream(&sandbox, Lsn(0), StreamOptions::default()).await;
        let look = |change: &herdsman_wal::ChangeRef<'_>| {
            let mut key = Vec::new();
            json::key(&change.key_row().unwrap(), &mut key);
            String::from_utf8(key).unwrap()
        };
        assert_eq!(seen(&mut stream.with_catalogue(catalogue), look).await, [r#"{"code":"a"}"#; 3]);
    }

    async fn a_start_ahead_of_the_slot_silently_leaves_changes_out_so_positions_are_compared_first(version: u32) {
        let sandbox = sandbox(version).await;
        sql(&sandbox, "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t").await;
        make_slot(&sandbox).await;
        sql(&sandbox, "INSERT INTO t VALUES (1)").await;
        let client = sandbox.sql("n1", "postgres").await.unwrap();
        let ahead: String = client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await.unwrap().get(0);
        sql(&sandbox, "INSERT INTO t VALUES (2)").await;
        sql(&sandbox, STOP).await;
        // What the server does with such a start; `slot::may_start` is where ours is decided.
        let mut stream = stream(&sandbox, ahead.parse().unwrap(), StreamOptions::default()).await;
        assert_eq!(words(&mut stream).await.join(","), "begin,insert 2,commit,begin");
    }

    async fn a_prepared_transaction_comes_when_it_is_prepared_and_its_fate_later(version: u32) {
        let sandbox = herdsman_sandbox::Sandbox::builder().pg_version(version)
            .setting("max_prepared_transactions", "4").start().await.unwrap();
        sql(&sandbox, "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE PUBLICATION p FOR TABLE t").await;
        let options = herdsman_wal::CreateSlot { two_phase: true, ..herdsman_wal::CreateSlot::default() };
        connect(&sandbox).await.create_slot(&"s".parse().unwrap(), &options).await.unwrap();
        sql(&sandbox, "BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'kept'").await;
        sql(&sandbox, "BEGIN; INSERT INTO t SELECT i, repeat('x', 200) FROM generate_series(2, 2000) i; PREPARE TRANSACTION 'undone'").await;
        let options = StreamOptions { two_phase: true, decoding_memory: Some(64 << 10), ..StreamOptions::default() };
        let mut stream = stream(&sandbox, Lsn(0), options).await;
        let (mut told, mut rows) = (Vec::new(), 0);
        loop {
            match tokio::time::timeout(LIMIT, stream.next()).await.unwrap().unwrap() {
                Event::Prepare { transaction, .. } => {
                    told.push(format!("prepare {} {rows}", transaction.gid.as_deref().unwrap()));
                    rows = 0;
                    // Only now: of a transaction that is rolled back already, the server leaves out what it can.
                    if told.len() == 2 {
                        sql(&sandbox, "COMMIT PREPARED 'kept'").await;
                        sql(&sandbox, "ROLLBACK PREPARED 'undone'").await;
                        sql(&sandbox, STOP).await;
                    }
                }
                Event::CommitPrepared { gid, .. } => told.push(format!("commit {gid}")),
                Event::RollbackPrepared { gid, .. } => told.push(format!("rollback {gid}")),
                Event::Change(change) if change.kind() == Kind::Message => break,
                Event::Change(_) => rows += 1,
                _ => {}
            }
        }
        assert_eq!(told, ["prepare kept 1", "prepare undone 1999", "commit kept", "rollback undone"]);
    }
}
