//! Policies that answer: the member whose version lost writes it, or what a function makes of both, over the winner.

use std::collections::BTreeMap;
use std::time::Duration;

use herdsman_mesh::MeshConfig;
use herdsman_mesh::config::{ConflictPolicy, PolicyConfig};
use tokio::time::{Instant, sleep};

use crate::proof::{DEADLINE, Mesh, mixed_in_full, name, three_of};

const TABLES: &str = "
CREATE TABLE seat (id int PRIMARY KEY, who text);
CREATE TABLE price (id int, part text, amount numeric(8,2), note text, seen timestamptz DEFAULT '2020-01-01', PRIMARY KEY (part, id));
CREATE TABLE basket (id int PRIMARY KEY, items text[], total int NOT NULL);
CREATE TABLE broken (id int PRIMARY KEY, v text)";

fn policies(config: &mut MeshConfig) {
    let of = |conflict| PolicyConfig { conflict, ..PolicyConfig::default() };
    let handled = |function: &str| PolicyConfig {
        handler: Some(function.to_owned()),
        ..of(ConflictPolicy::Handler)
    };
    config.policies = BTreeMap::from([
        ("public.seat".to_owned(), of(ConflictPolicy::FirstInsertWins)),
        (
            "public.price".to_owned(),
            PolicyConfig {
                priority: vec![name("n2"), name("n1")],
                ..of(ConflictPolicy::NodePriority)
            },
        ),
        ("public.basket".to_owned(), handled("public.both")),
        ("public.broken".to_owned(), handled("public.fails")),
    ]);
}

/// Both baskets in one, unless one was thrown away; and one that cannot.
const HANDLERS: &str = "
CREATE FUNCTION public.both(older jsonb, newer jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN older IS NULL OR newer IS NULL THEN NULL ELSE newer || jsonb_build_object(
    'items', (SELECT jsonb_agg(DISTINCT item ORDER BY item) FROM jsonb_array_elements(older -> 'items' || (newer -> 'items')) AS item),
    'total', (older ->> 'total')::int + (newer ->> 'total')::int) END $$;
CREATE FUNCTION public.fails(older jsonb, newer jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
  BEGIN RAISE EXCEPTION 'no idea'; END $$";

/// Waits until every node says this.
async fn until(mesh: &Mesh, question: &str, expected: &str) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        mesh.settle().await;
        let mut said = Vec::new();
        for node in mesh.nodes() {
            said.push(mesh.ask(&node, question).await.unwrap_or_else(|| "-".to_owned()));
        }
        if said.iter().all(|said| said == expected) {
            return;
        }
        assert!(Instant::now() < deadline, "{question}: {said:?}, expected {expected}");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn run(majors: Option<Vec<u32>>) {
    let Some(majors) = majors else { return };
    let mesh = Mesh::start_with(majors, TABLES, policies).await;
    let nodes = mesh.nodes();
    let (a, b, c) = (&nodes[0], &nodes[1], &nodes[2]);
    for node in &nodes {
        mesh.on(node, HANDLERS).await;
    }
    mesh.on(a, "INSERT INTO price VALUES (1, 'x', 1, 'all'), (2, 'x', 1, 'all'), (3, 'x', 1, 'all'), (4, 'x', 1, 'all')").await;
    mesh.on(a, "INSERT INTO basket VALUES (1, '{}', 0), (2, '{}', 0)").await;
    mesh.on(a, "INSERT INTO broken VALUES (1, 'all'); INSERT INTO seat VALUES (5, 'all')").await;
    mesh.settle().await;

    for (one, other) in [(a, b), (a, c), (b, c)] {
        mesh.apart(one, other);
    }
    mesh.on(a, "INSERT INTO seat VALUES (1, 'Ann')").await;
    mesh.on(b, "INSERT INTO seat VALUES (1, 'Bob')").await;
    mesh.on(c, "INSERT INTO seat VALUES (1, 'Cid')").await;
    mesh.on(a, "UPDATE seat SET who = 'Ann' WHERE id = 5").await;
    mesh.on(b, "UPDATE seat SET who = 'Bob' WHERE id = 5").await;
    // Of the three the second node's counts most, whenever it is written.
    mesh.on(b, "UPDATE price SET amount = 22.20, seen = '2024-02-29 12:00:00.123456+02' WHERE id IN (1, 2)").await;
    mesh.on(c, "UPDATE price SET amount = 33 WHERE id IN (1, 3)").await;
    mesh.on(a, "UPDATE price SET amount = 11 WHERE id IN (1, 3)").await;
    mesh.on(c, "DELETE FROM price WHERE id = 2").await;
    mesh.on(b, "DELETE FROM price WHERE id = 4").await;
    mesh.on(c, "UPDATE price SET note = 'kept?' WHERE id = 4").await;
    mesh.on(a, "UPDATE basket SET items = '{apple}', total = 3 WHERE id = 1").await;
    mesh.on(b, "UPDATE basket SET items = '{pear,apple}', total = 4 WHERE id = 1").await;
    mesh.on(a, "UPDATE basket SET items = '{apple}' WHERE id = 2").await;
    mesh.on(b, "DELETE FROM basket WHERE id = 2").await;
    mesh.on(a, "UPDATE broken SET v = 'a'").await;
    mesh.on(b, "UPDATE broken SET v = 'b'").await;

    until(&mesh, "SELECT who FROM seat WHERE id = 1", "Ann").await;
    until(&mesh, "SELECT who FROM seat WHERE id = 5", "Bob").await;
    until(&mesh, "SELECT amount FROM price WHERE id = 1", "22.20").await;
    until(
        &mesh,
        "SELECT amount || ' ' || (seen = '2024-02-29 12:00:00.123456+02') FROM price WHERE id = 2",
        "22.20 true",
    )
    .await;
    until(&mesh, "SELECT amount FROM price WHERE id = 3", "11.00").await;
    until(&mesh, "SELECT count(*) FROM price WHERE id = 4", "0").await;
    until(&mesh, "SELECT items::text || total FROM basket WHERE id = 1", "{apple,pear}7").await;
    until(&mesh, "SELECT count(*) FROM basket WHERE id = 2", "0").await;
    // A function that fails leaves things as they are, and is not asked again for ever.
    until(&mesh, "SELECT v FROM broken", "b").await;
    let pending =
        "SELECT count(*) FROM herdsman.conflicts c, herdsman.mesh m WHERE c.kind <> 'truncate'
        AND c.rel LIKE 'public.%' AND c.winner = 'arriving' AND c.held_node = m.node
        AND (c.arriving_seen, c.arriving_seen_node) < (c.held_stamp, c.held_node)
        AND c.id > coalesce((SELECT last FROM herdsman.answers), 0)";
    until(&mesh, pending, "0").await;
    for (table, key) in
        [("seat", "id"), ("price", "(part, id)"), ("basket", "id"), ("broken", "id")]
    {
        let differing = mesh.differences(table, key).await;
        assert!(differing.is_empty(), "{differing:#?}");
    }
    mesh.stop_engine().await;
}

/// Whoever answers may be killed at any moment and at work twice: each conflict is answered once.
async fn counted(majors: Option<Vec<u32>>) {
    let Some(majors) = majors else { return };
    let mesh = Mesh::start_with(majors, TABLES, policies).await;
    let nodes = mesh.nodes();
    for node in &nodes {
        mesh.on(node, HANDLERS).await;
    }
    let rows = 60;
    mesh.on(
        &nodes[0],
        &format!("INSERT INTO basket SELECT i, '{{}}', 0 FROM generate_series(1, {rows}) i"),
    )
    .await;
    mesh.settle().await;
    mesh.apart(&nodes[0], &nodes[1]);
    for (node, item) in [(&nodes[0], "a"), (&nodes[1], "b")] {
        for id in 1..=rows {
            mesh.on(
                node,
                &format!("UPDATE basket SET items = '{{{item}}}', total = 1 WHERE id = {id}"),
            )
            .await;
        }
    }
    // A second process beside the first; both are killed again and again.
    let other = herdsman_mesh::engine::Engine::start(mesh.setup.clone()).unwrap();
    mesh.release_all();
    for _ in 0..4 {
        sleep(Duration::from_millis(700)).await;
        mesh.drop_engine();
        mesh.start_engine();
    }
    until(
        &mesh,
        "SELECT count(*) || ' ' || sum(total) FROM basket WHERE items = '{a,b}'",
        &format!("{rows} {}", 2 * rows),
    )
    .await;
    other.stop().await;
    mesh.stop_engine().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_that_answer_end_where_they_say_on_15() {
    Box::pin(run(three_of(15))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_that_answer_end_where_they_say_on_18() {
    Box::pin(run(three_of(18))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_that_answer_end_where_they_say_on_all() {
    Box::pin(run(mixed_in_full())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_is_answered_once_whoever_is_killed() {
    Box::pin(counted(three_of(18).or_else(|| three_of(15)))).await;
}
