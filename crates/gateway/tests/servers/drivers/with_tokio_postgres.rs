//! tokio-postgres: pipelined, binary, statements `s0`, `s1`, … that every connection counts together.

use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use futures_util::{SinkExt as _, StreamExt as _, TryStreamExt as _, pin_mut, stream};
use tokio::time::{sleep, timeout};
use tokio_postgres::binary_copy::{BinaryCopyInWriter, BinaryCopyOutStream};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Client, Error, IsolationLevel, NoTls};

const CLIENTS: i32 = 6;
const REPEAT: i32 = 100;
const BIG: usize = 10 * 1024 * 1024;
const MANY: i32 = 100_000;
const COPIED: i32 = 40_000;
const WITHIN: Duration = Duration::from_secs(30);

/// Everything, one after the other.
pub(crate) async fn checks(conninfo: &str) {
    let c = conninfo;
    tables(c).await;
    parameters(c).await;
    prepared(c).await;
    pipelined(c).await;
    at_once(c).await;
    transactions(c).await;
    portals(c).await;
    copies(c).await;
    broken_copies(c).await;
    cancelled(c).await;
    abandoned(c).await;
    notifications(c).await;
    mistakes(c).await;
    sizes(c).await;
    forgetting(c).await;
    several_in_one(c).await;
}

async fn connect(conninfo: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(conninfo, NoTls).await.unwrap();
    tokio::spawn(async move {
        // How it ended shows in the client.
        let _ended = connection.await;
    });
    client
}

async fn clients(conninfo: &str) -> Vec<Client> {
    join_all(
        (0..CLIENTS).map(async |n| {
            connect(&format!("{conninfo} application_name='tokio-postgres {n}'")).await
        }),
    )
    .await
}

async fn text(client: &Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[track_caller]
fn refused<T>(result: Result<T, Error>, state: &SqlState) {
    let error = result.err().expect("is refused");
    assert_eq!(error.code(), Some(state), "{error:?}");
}

async fn tables(conninfo: &str) {
    let client = connect(conninfo).await;
    let tables =
        "DROP TABLE IF EXISTS tp_t, tp_copy; CREATE TABLE tp_t (id int PRIMARY KEY, v text);
                  CREATE TABLE tp_copy (id int PRIMARY KEY, v text)";
    client.batch_execute(tables).await.unwrap();
    client.batch_execute("SELECT settle()").await.unwrap();
}

async fn parameters(conninfo: &str) {
    let all = clients(conninfo).await;
    for (n, client) in all.iter().enumerate() {
        client.batch_execute(&format!("SET TimeZone TO 'Etc/GMT+{n}'")).await.unwrap();
        client.execute(&format!("SET search_path TO schema_{n}, public"), &[]).await.unwrap();
    }
    for _ in 0..5 {
        for (n, client) in all.iter().enumerate() {
            assert_eq!(text(client, "SHOW TimeZone").await, format!("Etc/GMT+{n}"));
            assert_eq!(text(client, "SHOW search_path").await, format!("schema_{n}, public"));
            assert_eq!(text(client, "SHOW application_name").await, format!("tokio-postgres {n}"));
        }
    }
}

async fn prepared(conninfo: &str) {
    let all = clients(conninfo).await;
    let mut statements = Vec::new();
    for (n, client) in all.iter().enumerate() {
        let sum = client.prepare("SELECT $1::int * 1000 + $2::int").await.unwrap();
        let who = client.prepare(&format!("SELECT 'client {n} ' || $1::text")).await.unwrap();
        let typed = client.prepare_typed("SELECT $1", &[Type::INT8]).await.unwrap();
        statements.push((sum, who, typed));
    }
    for n in 0..REPEAT {
        for ((m, client), (sum, who, typed)) in (0..).zip(&all).zip(&statements) {
            let row = client.query_one(sum, &[&n, &m]).await.unwrap();
            assert_eq!(row.get::<_, i32>(0), n * 1000 + m);
            let row = client.query_one(who, &[&n.to_string()]).await.unwrap();
            assert_eq!(row.get::<_, String>(0), format!("client {m} {n}"));
            let row = client.query_one(typed, &[&i64::from(n)]).await.unwrap();
            assert_eq!(row.get::<_, i64>(0), i64::from(n));
        }
    }
    // Closed as they are dropped; the client goes on.
    drop(statements);
    for client in &all {
        assert_eq!(text(client, "SELECT 'works'").await, "works");
    }
}

async fn pipelined(conninfo: &str) {
    let all = clients(conninfo).await;
    for (m, client) in (0..).zip(&all) {
        let sum = client.prepare("SELECT $1::int * 1000 + $2::int").await.unwrap();
        let (client, sum) = (client, &sum);
        // Every other one is refused; the rest are none the worse.
        let answers = join_all((0..REPEAT).map(async |n| {
            if n % 2 == 0 {
                let row = client.query_one(sum, &[&n, &m]).await.unwrap();
                assert_eq!(row.get::<_, i32>(0), n * 1000 + m);
            } else {
                let refusal = client.query_one("SELECT 1 / $1::int", &[&0_i32]).await;
                refused(refusal, &SqlState::DIVISION_BY_ZERO);
            }
        }));
        answers.await;
    }
}

async fn at_once(conninfo: &str) {
    let work = |m: i32| async move {
        let mut client = connect(conninfo).await;
        for n in 0..REPEAT {
            let row = client.query_one("SELECT $1::int * 1000 + $2::int", &[&n, &m]).await.unwrap();
            assert_eq!(row.get::<_, i32>(0), n * 1000 + m);
            let transaction = client.transaction().await.unwrap();
            let who = transaction.query_one(&format!("SELECT 'client {m}'"), &[]).await.unwrap();
            assert_eq!(who.get::<_, String>(0), format!("client {m}"));
            transaction.commit().await.unwrap();
        }
    };
    timeout(2 * WITHIN, join_all((0..CLIENTS).map(work))).await.expect("nobody waits for ever");
}

async fn transactions(conninfo: &str) {
    const INSERT: &str = "INSERT INTO tp_t VALUES ($1, $2)";
    let mut client = connect(conninfo).await;
    let transaction = client.transaction().await.unwrap();
    transaction.execute(INSERT, &[&1, &"committed"]).await.unwrap();
    transaction.commit().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    transaction.execute(INSERT, &[&2, &"rolled back"]).await.unwrap();
    // Dropped is rolled back.
    drop(transaction);
    let mut transaction = client.transaction().await.unwrap();
    transaction.execute(INSERT, &[&3, &"kept"]).await.unwrap();
    let savepoint = transaction.savepoint("s").await.unwrap();
    refused(savepoint.execute(INSERT, &[&1, &"again"]).await, &SqlState::UNIQUE_VIOLATION);
    refused(savepoint.query("SELECT 1", &[]).await, &SqlState::IN_FAILED_SQL_TRANSACTION);
    savepoint.rollback().await.unwrap();
    transaction.execute(INSERT, &[&4, &"kept too"]).await.unwrap();
    transaction.commit().await.unwrap();
    let ids = client.query_one("SELECT array_agg(id ORDER BY id) FROM tp_t", &[]).await.unwrap();
    assert_eq!(ids.get::<_, Vec<i32>>(0), [1, 3, 4]);
    let transaction = client.build_transaction().read_only(true).start().await.unwrap();
    let count = transaction.query_one("SELECT count(*) FROM tp_t", &[]).await.unwrap();
    assert_eq!(count.get::<_, i64>(0), 3);
    let write = transaction.execute(INSERT, &[&5, &"no"]).await;
    refused(write, &SqlState::READ_ONLY_SQL_TRANSACTION);
    transaction.rollback().await.unwrap();
    let strict = client.build_transaction().isolation_level(IsolationLevel::Serializable);
    let transaction = strict.start().await.unwrap();
    let level = transaction.query_one("SHOW transaction_isolation", &[]).await.unwrap();
    assert_eq!(level.get::<_, String>(0), "serializable");
    transaction.commit().await.unwrap();
}

async fn portals(conninfo: &str) {
    let mut client = connect(conninfo).await;
    let transaction = client.transaction().await.unwrap();
    let series = "SELECT n FROM generate_series(1, $1::int) n";
    let first = transaction.bind(series, &[&5000_i32]).await.unwrap();
    let second = transaction.bind(series, &[&10_i32]).await.unwrap();
    let mut total = 0_i64;
    loop {
        let rows = transaction.query_portal(&first, 100).await.unwrap();
        if rows.is_empty() {
            break;
        }
        total += rows.iter().map(|row| i64::from(row.get::<_, i32>(0))).sum::<i64>();
    }
    assert_eq!(total, 5000 * 5001 / 2);
    assert_eq!(transaction.query_portal(&second, 0).await.unwrap().len(), 10);
    transaction.commit().await.unwrap();
}

async fn copies(conninfo: &str) {
    let client = connect(conninfo).await;
    let filler = "copied ".repeat(13);
    let sink = client.copy_in("COPY tp_copy FROM STDIN (FORMAT binary)").await.unwrap();
    let writer = BinaryCopyInWriter::new(sink, &[Type::INT4, Type::TEXT]);
    pin_mut!(writer);
    for n in 0..COPIED {
        writer.as_mut().write(&[&n, &filler]).await.unwrap();
    }
    assert_eq!(writer.finish().await.unwrap(), u64::try_from(COPIED).unwrap());
    let out = "COPY (SELECT * FROM tp_copy ORDER BY id) TO STDOUT";
    let rows = client.copy_out(&format!("{out} (FORMAT binary)")).await.unwrap();
    let rows = BinaryCopyOutStream::new(rows, &[Type::INT4, Type::TEXT]);
    let rows: Vec<_> = rows.try_collect().await.unwrap();
    assert_eq!(rows.len(), usize::try_from(COPIED).unwrap());
    assert!(
        (0..).zip(&rows).all(|(n, row)| row.get::<i32>(0) == n && row.get::<&str>(1) == filler)
    );
    let chunks: Vec<_> = client.copy_out(out).await.unwrap().try_collect().await.unwrap();
    let expected: String = (0..COPIED).map(|n| format!("{n}\t{filler}\n")).collect();
    assert!(chunks.concat() == expected.as_bytes());
}

async fn broken_copies(conninfo: &str) {
    let client = connect(conninfo).await;
    // A row is refused; what the client still sends is thrown away.
    let sink = client.copy_in("COPY tp_copy FROM STDIN").await.unwrap();
    pin_mut!(sink);
    let mut rows = vec![bytes::Bytes::from_static(b"700000\tfine\nnot a number\t\n")];
    rows.extend((0..50_000).map(|_| bytes::Bytes::from_static(b"800000\tx\n")));
    let sent = sink.send_all(&mut stream::iter(rows).map(Ok)).await;
    let refusal = match sent {
        Ok(()) => sink.finish().await.map(|_| ()),
        Err(error) => Err(error),
    };
    assert!(refusal.is_err(), "something else than numbers was accepted");
    assert_eq!(text(&client, "SELECT 'works'").await, "works");
    // The client gives up: dropped, the sink sends CopyFail.
    let sink = client.copy_in("COPY tp_copy FROM STDIN").await.unwrap();
    let mut sink = Box::pin(sink);
    sink.send(bytes::Bytes::from_static(b"700000\tfine\n")).await.unwrap();
    drop(sink);
    let count = client.query_one("SELECT count(*) FROM tp_copy WHERE id >= 700000", &[]).await;
    assert_eq!(count.unwrap().get::<_, i64>(0), 0);
}

async fn cancelled(conninfo: &str) {
    let (client, other) = (connect(conninfo).await, connect(conninfo).await);
    for _ in 0..3 {
        let token = client.cancel_token();
        let cancel = async {
            sleep(Duration::from_millis(300)).await;
            token.cancel_query(NoTls).await.unwrap();
        };
        let both = futures_util::future::join(client.batch_execute("SELECT pg_sleep(60)"), cancel);
        let (slept, ()) = timeout(WITHIN, both).await.expect("the query is cancelled");
        refused(slept, &SqlState::QUERY_CANCELED);
        // With nothing to cancel it hits nobody else.
        token.cancel_query(NoTls).await.unwrap();
        other.query("SELECT 1", &[]).await.unwrap();
    }
}

/// A query whose caller does not wait for the rest.
async fn abandoned(conninfo: &str) {
    let client = connect(conninfo).await;
    for n in 0..20 {
        let none: [i32; 0] = [];
        let rows =
            client.query_raw("SELECT n, repeat('x', 1000) FROM generate_series(1, 2000) n", none);
        let mut rows = Box::pin(rows.await.unwrap());
        assert_eq!(rows.next().await.unwrap().unwrap().get::<_, i32>(0), 1);
        drop(rows);
        // Those rows come before this answer.
        let next = client.query_one("SELECT $1::int", &[&n]).await.unwrap();
        assert_eq!(next.get::<_, i32>(0), n);
    }
}

async fn notifications(conninfo: &str) {
    let (listener, mut connection) = tokio_postgres::connect(conninfo, NoTls).await.unwrap();
    let (sender, mut received) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(notification) = message {
                sender.send(notification.payload().to_owned()).unwrap();
            }
        }
    });
    let other = connect(conninfo).await;
    listener.batch_execute("LISTEN tp_channel").await.unwrap();
    for n in 0..20 {
        other
            .execute("SELECT pg_notify('tp_channel', $1)", &[&format!("number {n}")])
            .await
            .unwrap();
    }
    for n in 0..20 {
        let payload = timeout(WITHIN, received.recv()).await.expect("is notified");
        assert_eq!(payload, Some(format!("number {n}")));
    }
    assert_eq!(text(&listener, "SELECT 'works'").await, "works");
}

async fn mistakes(conninfo: &str) {
    let client = connect(conninfo).await;
    let insert = "INSERT INTO tp_t VALUES (1, 'again')";
    for _ in 0..5 {
        for (sql, state) in [
            ("SELEC 1", SqlState::SYNTAX_ERROR),
            (insert, SqlState::UNIQUE_VIOLATION),
            ("SELECT 1 / 0", SqlState::DIVISION_BY_ZERO),
            ("EXECUTE nobody_prepared_this", SqlState::INVALID_SQL_STATEMENT_NAME),
            ("SELECT * FROM no_such_table", SqlState::UNDEFINED_TABLE),
        ] {
            refused(client.query(sql, &[]).await, &state);
            assert_eq!(text(&client, "SELECT 'works'").await, "works");
            refused(client.batch_execute(sql).await, &state);
            assert_eq!(text(&client, "SELECT 'works'").await, "works");
        }
    }
}

async fn sizes(conninfo: &str) {
    let client = connect(conninfo).await;
    let big = "x".repeat(BIG);
    let row = client.query_one("SELECT $1::text, NULL::text, ''", &[&big]).await.unwrap();
    assert!(row.get::<_, &str>(0) == big);
    assert_eq!((row.get::<_, Option<&str>>(1), row.get::<_, &str>(2)), (None, ""));
    let sql = "SELECT n, NULL::text, 'row ' || n FROM generate_series(1, $1::int) n";
    let rows = client.query(sql, &[&MANY]).await.unwrap();
    assert_eq!(rows.len(), usize::try_from(MANY).unwrap());
    assert!((1..).zip(&rows).all(|(n, row)| row.get::<_, i32>(0) == n));
    assert!(client.query("SELECT 1 WHERE $1", &[&false]).await.unwrap().is_empty());
    // A statement for each of many texts, more than are kept on a server connection.
    let prepare = async |n: i32| client.prepare(&format!("SELECT {n}")).await;
    let texts = try_join_all((0..1200).map(prepare)).await.unwrap();
    for (n, statement) in (0..).zip(&texts) {
        assert_eq!(client.query_one(statement, &[]).await.unwrap().get::<_, i32>(0), n);
    }
}

async fn forgetting(conninfo: &str) {
    let (client, other) = (connect(conninfo).await, connect(conninfo).await);
    let mine = client.prepare("SELECT 'mine'").await.unwrap();
    let theirs = other.prepare("SELECT 'mine'").await.unwrap();
    for forget in ["DEALLOCATE ALL", "DISCARD ALL"] {
        let again = client.prepare("SELECT 'again'").await.unwrap();
        client.query_one(&again, &[]).await.unwrap();
        client.batch_execute(forget).await.unwrap();
        refused(client.query(&again, &[]).await, &SqlState::INVALID_SQL_STATEMENT_NAME);
        refused(client.query(&mine, &[]).await, &SqlState::INVALID_SQL_STATEMENT_NAME);
        assert_eq!(other.query_one(&theirs, &[]).await.unwrap().get::<_, &str>(0), "mine");
    }
}

async fn several_in_one(conninfo: &str) {
    let client = connect(conninfo).await;
    client.batch_execute("SELECT 1; INSERT INTO tp_t VALUES (61, ''); SELECT 3").await.unwrap();
    let twice = "INSERT INTO tp_t VALUES (60, ''); INSERT INTO tp_t VALUES (61, '')";
    refused(client.batch_execute(twice).await, &SqlState::UNIQUE_VIOLATION);
    let count = client.query_one("SELECT count(*) FROM tp_t WHERE id = 60", &[]).await.unwrap();
    assert_eq!(count.get::<_, i64>(0), 0);
    assert_eq!(client.simple_query("").await.unwrap().len(), 1);
}
