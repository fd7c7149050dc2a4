//! A stream from a real server: what it yields, in which order, and what it remembers.

use std::time::Duration;

use herdsman_node::Lsn;
use herdsman_sandbox::{Sandbox, on_each_version};
use herdsman_wal::{Event, StreamOptions};

use crate::common::{STOP, make_slot, sandbox, sql, stream, words};

on_each_version! {
    async fn changes_come_in_the_order_of_their_transactions(version: u32) {
        let sandbox = sandbox(version).await;
        sql(&sandbox, "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE PUBLICATION p FOR TABLE t").await;
        make_slot(&sandbox).await;
        sql(&sandbox, "BEGIN; INSERT INTO t VALUES (1), (2); UPDATE t SET v = 'x' WHERE id = 2; COMMIT").await;
        sql(&sandbox, "DELETE FROM t WHERE id = 1; TRUNCATE t").await;
        sql(&sandbox, STOP).await;
        let mut stream = stream(&sandbox, Lsn(0), StreamOptions::default()).await;
        let expected = "begin,insert 1,insert 2,update 2,commit,begin,delete 1,truncate -,commit,begin";
        assert_eq!(words(&mut stream).await.join(","), expected);
        stream.close().await;
    }

    async fn a_large_transaction_comes_while_it_runs_and_is_yielded_when_it_commits(version: u32) {
        let sandbox = sandbox(version).await;
        sql(&sandbox, "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE PUBLICATION p FOR TABLE t").await;
        make_slot(&sandbox).await;
        let options = StreamOptions {
            decoding_memory: Some(64 << 10),
            spill_after: 100_000,
            ..StreamOptions::default()
        };
        let mut stream = stream(&sandbox, Lsn(0), options).await;
        sql(&sandbox, "BEGIN; INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 3000) i; \
            SAVEPOINT a; INSERT INTO t SELECT i, repeat('y', 100) FROM generate_series(3001, 6000) i; ROLLBACK TO a; \
            INSERT INTO t SELECT i, repeat('z', 100) FROM generate_series(6001, 9000) i; COMMIT").await;
        sql(&sandbox, "BEGIN; INSERT INTO t SELECT i, repeat('n', 100) FROM generate_series(10001, 13000) i; ROLLBACK").await;
        sql(&sandbox, STOP).await;
        let seen = words(&mut stream).await;
        let mut expected = vec!["begin".to_owned()];
        expected.extend((1..=3000).chain(6001..=9000).map(|id| format!("insert {id}")));
        expected.extend(["commit".to_owned(), "begin".to_owned()]);
        assert_eq!(seen, expected);
        assert_eq!(stream.spooled_bytes(), (0, 0));
        stream.close().await;
    }

    async fn a_reader_that_can_undo_gets_changes_while_their_transaction_runs(version: u32) {
        let sandbox = sandbox(version).await;
        sql(&sandbox, "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE PUBLICATION p FOR TABLE t").await;
        make_slot(&sandbox).await;
        let options =
            StreamOptions { decoding_memory: Some(64 << 10), early: true, ..StreamOptions::default() };
        let mut stream = stream(&sandbox, Lsn(0), options).await;
        let rows = |from, to| format!("INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series({from}, {to}) i");
        let one = sandbox.sql("n1", "postgres").await.unwrap();
        let two = sandbox.sql("n1", "postgres").await.unwrap();
        one.batch_execute(&format!("BEGIN; ALTER TABLE t ADD COLUMN w int; {}; SAVEPOINT a; {}; ROLLBACK TO a; {}", rows(1, 2000), rows(2001, 4000), rows(4001, 6000))).await.unwrap();
        let mut alive = std::collections::BTreeMap::<u32, Vec<i32>>::new();
        let (mut committed, mut columns) = (Vec::new(), 0);
        let mut began = false;
        loop {
            let event = tokio::time::timeout(crate::common::LIMIT, stream.next()).await.unwrap().unwrap();
            match event {
                Event::Early { subxid, change } => {
                    let row = change.new_row().unwrap();
                    columns = row.relation().columns.len();
                    alive.entry(subxid).or_default().push(row.get("id").unwrap());
                    // Its first rows are here, and it has not been committed: only now it is, behind another that is not.
                    if !began {
                        began = true;
                        one.batch_execute("COMMIT").await.unwrap();
                        two.batch_execute(&format!("BEGIN; {}; ROLLBACK", rows(7001, 9000))).await.unwrap();
                        sql(&sandbox, STOP).await;
                    }
                }
                Event::EarlyAbort { xid, subxid } if xid == subxid => alive.clear(),
                Event::EarlyAbort { subxid, .. } => drop(alive.remove(&subxid)),
                Event::EarlyCommit { transaction, .. } => {
                    assert!(transaction.commit_lsn > transaction.begin_lsn);
                    committed.extend(std::mem::take(&mut alive).into_values().flatten());
                }
                Event::Change(_) => break,
                _ => {}
            }
        }
        committed.sort_unstable();
        let expected: Vec<i32> = (1..=2000).chain(4001..=6000).collect();
        assert_eq!((committed, columns), (expected, 3));
    }

    async fn what_is_acknowledged_does_not_come_again_and_the_rest_does(version: u32) {
        let sandbox = sandbox(version).await;
        sql(&sandbox, "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t").await;
        make_slot(&sandbox).await;
        sql(&sandbox, "INSERT INTO t VALUES (1)").await;
        sql(&sandbox, "INSERT INTO t VALUES (2)").await;
        sql(&sandbox, STOP).await;
        let mut first = stream(&sandbox, Lsn(0), StreamOptions::default()).await;
        let end = loop {
            if let Event::Commit { end_lsn, .. } = first.next().await.unwrap() {
                break end_lsn;
            }
        };
        first.feedback().handled(end);
        first.close().await;
        let mut second = stream(&sandbox, Lsn(0), StreamOptions::default()).await;
        assert_eq!(words(&mut second).await.join(","), "begin,insert 2,commit,begin");
    }

    async fn a_stream_that_is_not_read_stays_alive(version: u32) {
        let sandbox = Sandbox::builder().pg_version(version).setting("wal_sender_timeout", "2s").start().await.unwrap();
        sql(&sandbox, "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE PUBLICATION p FOR TABLE t").await;
        make_slot(&sandbox).await;
        let mut stream = stream(&sandbox, Lsn(0), StreamOptions::default()).await;
        sql(&sandbox, "INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 20000) i").await;
        sql(&sandbox, STOP).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(words(&mut stream).await.len(), 20_003);
    }
}
