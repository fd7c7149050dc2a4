//! Clients that have nothing but Kafka, on a real broker.

mod client;
mod values;

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use herdsman_ledger::{
    engine::{Ledger, request::random_request},
    log::kafka::{KafkaLog, KafkaLogConfig},
    node::{Node, sqlite::sqlite},
    requests::{RequestTopics, Requests},
    table::TableChange,
};
use herdsman_sandbox::Kafka;
use serde_json::{Value, json};

use crate::{
    herd::{Herd, NODES, PATIENCE, all_follow},
    lockstep::settings,
};
use client::Client;

/// What the program that is killed is told by.
const CHILD: &str = "HERDSMAN_TEST_REQUESTS_CHILD";

fn topics(bootstrap: &str) -> RequestTopics {
    RequestTopics {
        kafka: KafkaLogConfig::new(bootstrap, "ALL"),
        one: "ONE".to_owned(),
        response: "RESPONSE".to_owned(),
        group: "herdsman".to_owned(),
        partitions: 4,
    }
}

async fn start(bootstrap: &str, nodes: Vec<Box<dyn Node>>) -> (Ledger, Requests) {
    let log = KafkaLog::open(topics(bootstrap).kafka).await.unwrap();
    let ledger = Ledger::start(Arc::new(log), nodes, settings()).await.unwrap();
    let requests = Requests::start(ledger.clone(), topics(bootstrap), settings());
    (ledger, requests)
}

const TABLE: &str = "CREATE TABLE thing (id bigint PRIMARY KEY, flag boolean, small integer, price numeric(8,2), part double precision, \
                     name varchar(20), note text, raw bytea, day date, at timestamptz, code uuid, doc jsonb)";
/// In words that all three engines know, but for bytes.
const ROW: &str = "(9007199254740993, TRUE, 7, 12.50, 0.5, 'Ada', 'é', RAW, '2026-02-03', '2026-02-03 04:05:06.000007', \
                   '00112233-4455-6677-8899-aabbccddeeff', '{\"a\": 1}')";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_nothing_but_kafka_writes_and_reads_typed_rows() {
    let (herd, kafka) = tokio::join!(Herd::start(18), Kafka::builder().start());
    let kafka = kafka.unwrap();
    let (ledger, requests) = start(&kafka.bootstrap(), herd.nodes()).await;
    all_follow(&ledger).await;
    let mut client = Client::connect(&kafka.bootstrap()).await;

    let made = client.all("make", json!({"sqlString": TABLE})).await;
    assert_eq!(
        (&made["resultCode"], &made["requestTopic"]),
        (&json!("OK"), &json!("ALL")),
        "{made}"
    );
    let insert = |id: u32, raw: &str| {
        let row = ROW.replace("RAW", raw).replace("9007199254740993", &id.to_string());
        format!("INSERT INTO thing VALUES {row}")
    };
    let big = format!("INSERT INTO thing VALUES {}", ROW.replace("RAW", "'\\x00ff'"));
    let both = json!({"statements": [insert(1, "'\\x00ff'"), big], "node": "pg"});
    let written = client.all("write", both.clone()).await;
    assert_eq!(
        (&written["rowsChanged"], &written["nodeId"]),
        (&json!(2), &json!("pg")),
        "{written}"
    );
    assert_eq!(written["results"], json!([{"rowsChanged": 1}, {"rowsChanged": 1}]));
    let offset = written["offset"].as_u64().unwrap();

    // The same message once more: done once, and told so.
    let again = client.all("write", both).await;
    let said = (&again["resultCode"], &again["duplicate"], &again["offset"]);
    assert_eq!(said, (&json!("OK"), &json!(true), &json!(offset)), "{again}");

    typed_rows_of_each_engine(&mut client, offset).await;
    values::values_are_bound_at_every_engine(&mut client).await;
    values::reads_beyond_an_answer_are_stopped(&herd, &mut client).await;
    refusals(&mut client, offset).await;

    // What is no request has no effect and no answer, and what comes after it has.
    client.send("ALL", b"{\"messageId\": \"broken\", \"sqlString\": ").await;
    client.send("ALL", b"{\"sqlString\": \"DELETE FROM thing\"}").await;
    client.send("ONE", b"nonsense").await;
    let gone = client.all("gone", json!({"sqlString": "DELETE FROM thing WHERE id = 1"})).await;
    assert_eq!(gone["rowsChanged"], json!(1), "{gone}");
    let nothing =
        client.all("nothing", json!({"sqlString": "DELETE FROM thing WHERE id = 1"})).await;
    assert_eq!((&nothing["resultCode"], &nothing["rowsChanged"]), (&json!("OK"), &json!(0)));
    let verified = ledger.verify(PATIENCE).await.unwrap();
    assert!(verified.alike() && verified.absent.is_empty(), "{verified:?}");
    assert_eq!(requests.counts().read().unreadable, 3);
    requests.stop().await;
}

async fn typed_rows_of_each_engine(client: &mut Client, offset: u64) {
    let sql = "SELECT id, flag, small, price, part, name, note, raw, code FROM thing ORDER BY id";
    for node in NODES {
        let ask = json!({"sqlString": sql, "node": node, "after": offset});
        let read = client.one(&format!("read {node}"), ask).await;
        let flag = if node == "lite" { json!(1) } else { json!(true) };
        let row = |id| {
            json!([
                id,
                flag,
                7,
                "12.50",
                0.5,
                "Ada",
                "é",
                "00ff",
                "00112233-4455-6677-8899-aabbccddeeff"
            ])
        };
        assert_eq!(
            read["rows"],
            json!([row(json!(1)), row(json!("9007199254740993"))]),
            "{node}: {read}"
        );
        assert_eq!(read["result"][0]["name"], "Ada");
        let types: Vec<_> =
            read["columns"].as_array().unwrap().iter().map(|it| &it["type"]).collect();
        assert_eq!(
            (types[0], types[4], types[7]),
            (&json!("bigint"), &json!("double precision"), &json!("bytea")),
            "{read}"
        );
        assert!(read["offset"].as_u64().unwrap() >= offset, "{read}");
        assert_eq!(read["requestTopic"], "ONE");
    }
    let moments = json!({"sqlString": "SELECT day, at FROM thing WHERE id = 1", "node": "maria"});
    let read = client.one("moments", moments).await;
    assert_eq!(read["rows"], json!([["2026-02-03", "2026-02-03 04:05:06.000007"]]), "{read}");
    for level in ["eventual", "session", "linearizable"] {
        let ask = json!({"sqlString": "SELECT count(*) AS n FROM thing", "read": level});
        let read = client.one(level, ask).await;
        assert_eq!(read["rows"], json!([[2]]), "{level}: {read}");
        assert_eq!(read["columns"], json!([{"name": "n", "type": "bigint"}]));
    }
    // A read in the log sees all that is before it there.
    let ask = json!({"statements": ["SELECT 1 AS a", "SELECT name FROM thing WHERE id = 2"]});
    let read = client.all("read in the log", ask).await;
    assert_eq!(read["results"][0]["rows"], json!([[1]]), "{read}");
    assert_eq!(
        (&read["results"][1]["rows"], &read["results"][1]["columns"][0]["name"]),
        (&json!([]), &json!("name"))
    );
}

async fn refusals(client: &mut Client, offset: u64) {
    let insert = "INSERT INTO thing (id) VALUES (1)";
    let cases = [
        ("ALL", json!({"sqlString": insert}), "23505"),
        ("ONE", json!({"sqlString": insert.replace('1', "5")}), "25006"),
        ("ONE", json!({"sqlString": "DROP TABLE thing"}), "25006"),
        ("ALL", json!({"sqlString": "TRUNCATE thing"}), "0A000"),
        ("ALL", json!({"sqlString": "CREATE TABLE thing (id bigint PRIMARY KEY)"}), "42P07"),
        ("ONE", json!({"sqlString": "SELECT nonsense"}), "42703"),
        ("ONE", json!({"sqlString": "SELECT 1", "node": "nobody"}), "42704"),
        ("ONE", json!({"sqlString": "SELECT 1", "after": offset + 1_000_000}), "22023"),
        ("ONE", json!({"sqlString": "SELECT 1", "topic": "other"}), "08P01"),
        ("ONE", json!({}), "08P01"),
        ("ONE", json!({"sqlString": "SELECT repeat('x', 1000000)"}), "54000"),
    ];
    for (number, (topic, ask, state)) in cases.into_iter().enumerate() {
        let told = client.ask(topic, &format!("refused {number}"), ask.clone()).await;
        assert_eq!(told["sqlstate"], state, "{ask}: {told}");
        assert!(told["resultCode"].as_str().unwrap().starts_with("ERR: "), "{told}");
    }
    // What has failed stays failed, whoever tries it again.
    let told = client.all("refused 0", json!({"sqlString": insert.replace('1', "6")})).await;
    assert_eq!(told["sqlstate"], "57014", "{told}");
}

const ADD: &str = "UPDATE counter SET n = n + 1 WHERE id = 1";

/// The first one is killed with requests in work, in the log and not yet taken; another one, at another node, goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_program_leaves_is_done_once_by_the_next_one() {
    const REQUESTS: usize = 60;
    if let Some(told) = std::env::var_os(CHILD) {
        let (bootstrap, file) = told.to_str().unwrap().split_once('\n').unwrap();
        let _program = start(bootstrap, vec![sqlite("first", Path::new(file))]).await;
        return tokio::time::sleep(PATIENCE * 2).await;
    }
    let kafka = Kafka::builder().start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    // Somebody has to have begun the log before a client writes to it.
    let log = KafkaLog::open(topics(&kafka.bootstrap()).kafka).await.unwrap();
    let nodes = vec![sqlite("second", &folder.path().join("second.db"))];
    let ledger = Ledger::start(Arc::new(log), nodes, settings()).await.unwrap();
    let table = "CREATE TABLE counter (id bigint PRIMARY KEY, n bigint NOT NULL)";
    let follows = ledger.reached("second", herdsman_ledger::Offset(0), PATIENCE);
    follows.await.unwrap();
    while ledger
        .status()
        .iter()
        .any(|(.., it)| it.condition != herdsman_ledger::engine::Condition::Following)
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let change = TableChange::of_sql(table).unwrap().unwrap();
    ledger.define("second", random_request(), change).await.unwrap();
    let insert = "INSERT INTO counter VALUES (1, 0)";
    ledger.execute("second", random_request(), &[insert], &[]).await.unwrap();

    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    let name = "requests::what_a_killed_program_leaves_is_done_once_by_the_next_one";
    child.args(["--exact", name, "--nocapture"]).stdout(std::process::Stdio::null());
    let file = folder.path().join("first.db");
    let told = format!("{}\n{}", kafka.bootstrap(), file.display());
    let mut child = child.env(CHILD, told).kill_on_drop(true).spawn().unwrap();
    let mut client = Client::connect(&kafka.bootstrap()).await;
    for number in 0..REQUESTS {
        // Of several clients, so that several are in work.
        let ask = json!({"messageId": number.to_string(), "clientId": (number % 5).to_string(), "sqlString": ADD});
        client.send("ALL", ask.to_string().as_bytes()).await;
    }
    let mut answered = BTreeSet::new();
    while answered.len() < 5 {
        note(&mut answered, &client.next().await, "first");
    }
    child.kill().await.unwrap();
    let requests = Requests::start(ledger.clone(), topics(&kafka.bootstrap()), settings());
    while answered.len() < REQUESTS {
        note(&mut answered, &client.next().await, "");
    }
    let ask = json!({"sqlString": "SELECT n FROM counter", "read": "linearizable"});
    let read = client.one("sum", ask).await;
    assert_eq!(
        (&read["rows"], &read["nodeId"]),
        (&json!([[REQUESTS]]), &json!("second")),
        "{read}"
    );
    requests.stop().await;
}

fn note(answered: &mut BTreeSet<String>, answer: &Value, node: &str) {
    assert_eq!(answer["resultCode"], "OK", "{answer}");
    assert!(node.is_empty() || answer["nodeId"] == node, "{answer}");
    answered.insert(answer["requestId"].as_str().unwrap().to_owned());
}
