//! A session reads what it wrote, wherever it reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use herdsman::session::Resolve;
use herdsman::{Balance, Builder, ReplicaSet, Session, SessionToken, session};
use tokio::task::JoinSet;

use crate::herd::{Herd, on_each_version, sent, until};
use crate::promotions::tell;

const TASKS: i64 = 8;
/// No value is written twice, so a read that finds an older one is stale whatever came before.
static VALUES: AtomicI64 = AtomicI64::new(1);

/// How many write-then-read pairs a test makes; `HERDSMAN_SOAK` asks for the whole hundred thousand.
fn pairs() -> i64 {
    if std::env::var_os("HERDSMAN_SOAK").is_some() { 100_000 } else { 3_000 }
}

/// What came of many pairs.
#[derive(Debug, Default, PartialEq)]
struct Found {
    stale: u64,
    by_writer: u64,
    by_readers: u64,
}

async fn shepherd(herd: &Herd) {
    herd.notes().await;
    let admin = herd.sandbox.sql("n1", "postgres").await.unwrap();
    let sql = "INSERT INTO notes (id, text) SELECT id, '0' FROM generate_series(0, 20) AS id";
    admin.batch_execute(sql).await.unwrap();
    herd.sandbox.wait_replayed().await.unwrap();
}

async fn admin(herd: &Herd, node: &str, sql: &str) {
    herd.sandbox.sql(node, "postgres").await.unwrap().batch_execute(sql).await.unwrap();
}

async fn pause(herd: &Herd, node: &str) {
    admin(herd, node, "SELECT pg_wal_replay_pause()").await;
}

async fn resume(herd: &Herd, node: &str) {
    admin(herd, node, "SELECT pg_wal_replay_resume()").await;
}

async fn write(db: &ReplicaSet, row: i64, value: i64) {
    let sql = "UPDATE notes SET text = $2 WHERE id = $1";
    let done = sqlx::query(sql).bind(row).bind(value.to_string()).execute(db).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
}

async fn read(db: &ReplicaSet, row: i64) -> i64 {
    let sql = "SELECT text FROM notes WHERE id = $1";
    sqlx::query_scalar::<_, String>(sql).bind(row).fetch_one(db).await.unwrap().parse().unwrap()
}

/// How one task writes a value to its row, and then reads it back.
trait Pair: Send + Sync + 'static {
    fn pair(&self, db: &ReplicaSet, row: i64, value: i64) -> impl Future<Output = i64> + Send;
}

/// Write, then read: two statements on their own.
struct Plain;

impl Pair for Plain {
    async fn pair(&self, db: &ReplicaSet, row: i64, value: i64) -> i64 {
        write(db, row, value).await;
        read(db, row).await
    }
}

/// The write in a transaction that is handed out.
struct Transaction;

impl Pair for Transaction {
    async fn pair(&self, db: &ReplicaSet, row: i64, value: i64) -> i64 {
        let text = value.to_string();
        let mut transaction = db.begin().await.unwrap();
        sqlx::query("UPDATE notes SET text = $2 WHERE id = $1")
            .bind(row)
            .bind(text)
            .execute(&mut *transaction)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        read(db, row).await
    }
}

/// Makes `count` pairs in parallel tasks, each with a row and, if `in_session`, a session of its own.
async fn make(db: &ReplicaSet, count: i64, in_session: bool, how: impl Pair) -> Found {
    let stale = Arc::new(AtomicU64::new(0));
    let before = reads_at(db);
    let how = Arc::new(how);
    let mut tasks = JoinSet::new();
    for row in 0..TASKS {
        let (db, stale, how) = (db.clone(), Arc::clone(&stale), Arc::clone(&how));
        let work = async move {
            for _ in 0..count / TASKS {
                let value = VALUES.fetch_add(1, Ordering::Relaxed);
                let found = how.pair(&db, row, value).await;
                stale.fetch_add(u64::from(found < value), Ordering::Relaxed);
            }
        };
        if in_session {
            tasks.spawn(session(work));
        } else {
            tasks.spawn(work);
        }
    }
    tasks.join_all().await;
    let after = reads_at(db);
    let writes = u64::try_from(count / TASKS * TASKS).unwrap();
    Found {
        stale: stale.load(Ordering::Relaxed),
        by_writer: (after.0 - before.0).saturating_sub(writes),
        by_readers: after.1 - before.1,
    }
}

/// A set whose readers take turns and may lag as they like: nothing but sessions keeps a read from an old row.
fn patient(herd: &Herd) -> Builder {
    herd.given().balance(Balance::RoundRobin).max_lag(None, None)
}

/// How many statements the writer and the readers were sent.
fn reads_at(db: &ReplicaSet) -> (u64, u64) {
    (sent(db, "write"), sent(db, "read0") + sent(db, "read1"))
}

on_each_version! {
    async fn a_session_never_reads_what_it_has_overwritten(version: u32) {
        let herd = Herd::start(version, 2).await;
        shepherd(&herd).await;
        let db = patient(&herd).build().unwrap();
        pause(&herd, "n2").await;
        let (count, behind) = (pairs(), sent(&db, "read0"));
        let found = make(&db, count, true, Plain).await;
        tell(&format!("{count} pairs in sessions, one of two readers paused, PostgreSQL {version}: {found:?}"));
        assert_eq!(found.stale, 0);
        assert_eq!(sent(&db, "read0"), behind, "the reader that has not replayed was read");
        assert!(found.by_readers > 0, "{found:?}");

        // The same without sessions finds old rows: so there was something to be found.
        let careless = make(&db, 800, false, Plain).await;
        tell(&format!("  800 without sessions: {careless:?}"));
        assert!(careless.stale > 0);
    }

    async fn with_every_reader_behind_the_writer_is_read(version: u32) {
        let herd = Herd::start(version, 2).await;
        shepherd(&herd).await;
        let db = patient(&herd).causal_wait(Duration::from_millis(5)).build().unwrap();
        pause(&herd, "n2").await;
        pause(&herd, "n3").await;
        let found = make(&db, 400, true, Plain).await;
        assert_eq!(found, Found { stale: 0, by_writer: 400, by_readers: 0 });
        // Once they go on, they are read again.
        resume(&herd, "n2").await;
        resume(&herd, "n3").await;
        until("readers are read", async || make(&db, 80, true, Plain).await.by_readers > 0).await;
    }

    async fn a_commit_that_does_not_wait_for_the_disk_is_read_back_too(version: u32) {
        let herd = Herd::start(version, 2).await;
        shepherd(&herd).await;
        admin(&herd, "n1", "ALTER ROLE app SET synchronous_commit = off").await;
        let db = patient(&herd).build().unwrap();
        let found = make(&db, 400, true, Plain).await;
        tell(&format!("synchronous_commit = off, PostgreSQL {version}: {found:?}"));
        assert_eq!(found.stale, 0);
        assert!(make(&db, 400, false, Plain).await.stale > 0);
    }

    async fn a_transaction_is_read_back(version: u32) {
        let herd = Herd::start(version, 2).await;
        shepherd(&herd).await;
        let db = patient(&herd).build().unwrap();
        pause(&herd, "n2").await;
        // One that was handed out may be committed unseen, so its session reads from the writer.
        let found = make(&db, 400, true, Transaction).await;
        assert_eq!((found.stale, found.by_readers), (0, 0));
        assert!(make(&db, 400, false, Transaction).await.stale > 0);

        // A unit of work is seen from begin to end.
        let before = reads_at(&db);
        let unit = async |value: i64, keep: bool| -> Result<(), sqlx::Error> {
            db.unit_of_work(async |connection| {
                let sql = "UPDATE notes SET text = $1 WHERE id = 0";
                sqlx::query(sql).bind(value.to_string()).execute(&mut *connection).await?;
                if keep { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
            }).await
        };
        session(async {
            for value in 1000..1100 {
                unit(value, true).await.unwrap();
                assert_eq!(read(&db, 0).await, value);
                unit(0, false).await.unwrap_err();
                assert_eq!(read(&db, 0).await, value);
            }
        }).await;
        assert!(reads_at(&db).1 > before.1, "no reader was read");
    }

    async fn a_token_carries_a_session_to_another_process(version: u32) {
        let herd = Herd::start(version, 2).await;
        shepherd(&herd).await;
        let here = herd.given().build().unwrap();
        let there = patient(&herd).build().unwrap();
        pause(&herd, "n2").await;
        for value in 1..=100 {
            // As a header carries it: the text of what the session has written.
            let session = Session::new();
            session.clone().scope(write(&here, 1, value)).await;
            let text = here.resolve(&session).await.unwrap().to_string();
            let token: SessionToken = text.parse().unwrap();
            assert_eq!(Session::with_token(token).scope(read(&there, 1)).await, value);
            // Or one that is asked for.
            write(&here, 2, value).await;
            let token = here.token().await.unwrap();
            assert_eq!(Session::with_token(token).scope(read(&there, 2)).await, value);
        }
        assert_eq!(sent(&there, "read0"), 0);
        assert!(sent(&there, "read1") > 0);
    }

    async fn a_token_of_another_cluster_heals(version: u32) {
        let herd = Herd::start(version, 2).await;
        shepherd(&herd).await;
        let db = herd.given().build().unwrap();
        let ours = db.token().await.unwrap();
        db.connect_readers().await.unwrap();
        let foreign: SessionToken = "1.7-99-FFFF/0".parse().unwrap();
        let session = Session::with_token(foreign);
        until("the foreign token is replaced", async || {
            assert_eq!(session.clone().scope(read(&db, 3)).await, 0);
            session.token().is_some_and(|token| token.system_id == ours.system_id)
        }).await;
        let before = reads_at(&db);
        for _ in 0..20 {
            session.clone().scope(read(&db, 3)).await;
        }
        assert!(reads_at(&db).1 > before.1, "no reader was read");
    }

    async fn tokens_of_before_a_promotion_are_good_after_it_and_new_ones_soon(version: u32) {
        let herd = Herd::start(version, 2).await;
        shepherd(&herd).await;
        let db = herd.discovered().build().unwrap();
        let old = Session::new();
        old.clone().scope(write(&db, 4, 7)).await;
        assert_eq!(old.clone().scope(read(&db, 4)).await, 7);
        let token = old.token().unwrap();
        herd.sandbox.wait_replayed().await.unwrap();
        herd.sandbox.kill("n1").await.unwrap();
        herd.sandbox.promote("n2").await.unwrap();
        herd.sandbox.follow("n3", "n2").await.unwrap();
        let by_reader = |session: &Session, value: i64| {
            let (db, session) = (db.clone(), session.clone());
            async move {
                let before = sent(&db, "n3");
                assert_eq!(session.scope(read(&db, 4)).await, value);
                sent(&db, "n3") > before
            }
        };
        until("the new writer is found", async || db.token().await.is_ok()).await;
        let carried = Session::with_token(token);
        until("an old token is good for the reader", async || by_reader(&carried, 7).await).await;
        // Of the new timeline, which the reader knows of as soon as it receives it.
        carried.clone().scope(write(&db, 4, 8)).await;
        until("a new token is good for the reader", async || by_reader(&carried, 8).await).await;
        assert_eq!(carried.token().unwrap().timeline.0, 2);
    }
}
