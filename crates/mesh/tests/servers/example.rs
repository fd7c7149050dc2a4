//! What the python example does, with its table, its ranges of keys and its load tests, on three nodes: everything is
//! the same everywhere.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::proof::{Mesh, three_of};

/// As the example makes it, with its trigger for `modified_ts` (but not the one that compares it, which loses writes).
const TABLE: &str = r#"
    CREATE TABLE table1 (id bigserial PRIMARY KEY, col1 varchar DEFAULT 'default-value', col2 varchar,
        created_ts timestamp DEFAULT CURRENT_TIMESTAMP, modified_ts timestamp DEFAULT CURRENT_TIMESTAMP);
    CREATE FUNCTION upd_ts() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.modified_ts := current_timestamp; RETURN NEW; END $$;
    CREATE TRIGGER "00_upd_ts_trigger_table1" BEFORE UPDATE ON table1 FOR EACH ROW EXECUTE FUNCTION upd_ts()
"#;

async fn example(majors: Option<Vec<u32>>) {
    let Some(majors) = majors else { return };
    let mesh = Arc::new(Mesh::start(majors, TABLE).await);
    insert(&mesh).await;
    alike(&mesh, 800, "INSERT").await;
    let ranges = "SELECT count(DISTINCT id >> 32) FROM table1";
    let split = mesh.ask(&mesh.nodes()[0], ranges).await.unwrap();
    assert!(split.parse::<u32>().unwrap() >= 2, "every node gave out keys of the same range");
    update(&mesh).await;
    alike(&mesh, 804, "UPDATE").await;
    let question = "SELECT col1 FROM table1 WHERE id = 1235433221";
    let last = mesh.ask(&mesh.nodes()[0], question).await.unwrap();
    // The slowest thread writes last.
    assert_eq!(last, "update1-new-t3-14");
    select(&mesh).await;
    delete(&mesh).await;
    alike(&mesh, 804 - 201, "DELETE").await;
}

/// 200 rounds of two insertions through group `writer1` and two through `writer2`.
async fn insert(mesh: &Arc<Mesh>) {
    let writers = groups(mesh, 4).await;
    for round in 0..200 {
        for (number, writer) in writers.iter().enumerate() {
            let statement = format!(
                "INSERT INTO table1 (col1, col2) VALUES ('test-{number}-{round}', 'data-{round}')"
            );
            writer.batch_execute(&statement).await.unwrap();
        }
    }
}

/// Four keys of the example's own, then three threads that update one of them.
async fn update(mesh: &Arc<Mesh>) {
    mesh.on(
        &mesh.nodes()[0],
        "INSERT INTO table1 (id, col1) VALUES (1235433221, 'u'), (1235433241, 'u'), (1235433261, 'u'), (1235433281, 'u')",
    )
    .await;
    mesh.settle().await;
    let mut threads = JoinSet::new();
    for (thread, times, every) in [(1, 20, 100), (2, 40, 200), (3, 15, 800)] {
        let mesh = Arc::clone(mesh);
        threads.spawn(async move {
            // `writer1` and `writer2` go to different nodes.
            let nodes = mesh.nodes();
            let writer = mesh.app(&nodes[thread % nodes.len()]).await;
            for number in 0..times {
                let statement = format!(
                    "UPDATE table1 SET col1 = 'update1-new-t{thread}-{number}' WHERE id = 1235433221"
                );
                assert_eq!(writer.execute(&statement, &[]).await.unwrap(), 1);
                sleep(Duration::from_millis(every)).await;
            }
        });
    }
    while let Some(ended) = threads.join_next().await {
        ended.unwrap();
    }
}

/// The reader groups' statements; every node answers alike.
async fn select(mesh: &Arc<Mesh>) {
    for question in ["id BETWEEN 1 AND 100000", "id > 100000", "true"] {
        let question = format!(
            "SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM table1 t WHERE {question}"
        );
        let mut answers = Vec::new();
        for node in mesh.nodes() {
            answers.push(mesh.ask(&node, &question).await);
        }
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{question}: {answers:?}");
    }
}

/// A quarter of the rows, some of them on two nodes at once, and one of the four.
async fn delete(mesh: &Arc<Mesh>) {
    let nodes = mesh.nodes();
    for node in nodes.iter().take(2) {
        mesh.on(node, "DELETE FROM table1 WHERE col1 LIKE 'test-0-%'").await;
    }
    mesh.on(&nodes[2], "DELETE FROM table1 WHERE id = 1235433241").await;
}

async fn alike(mesh: &Arc<Mesh>, rows: usize, after: &str) {
    mesh.settle().await;
    let differences = mesh.differences("table1", "id").await;
    assert_eq!(differences, Vec::<String>::new(), "after {after}");
    for (node, held) in mesh.rows("table1", "id").await {
        assert_eq!(held.len(), rows, "{node} after {after}");
    }
}

/// Sessions, one after another on the nodes.
async fn groups(mesh: &Arc<Mesh>, count: usize) -> Vec<tokio_postgres::Client> {
    let nodes = mesh.nodes();
    let mut all = Vec::new();
    for number in 0..count {
        all.push(mesh.app(&nodes[number % nodes.len()]).await);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_ends_alike_on_15() {
    example(three_of(15)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_ends_alike_on_18() {
    example(three_of(18)).await;
}
