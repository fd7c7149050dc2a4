//! Policies by column: changes that add up, and columns of which each keeps the value written last.

use std::collections::BTreeMap;
use std::sync::Arc;

use herdsman_mesh::config::{ConflictPolicy, PolicyConfig};
use herdsman_mesh::{MeshConfig, install};
use tokio_postgres::error::SqlState;

use crate::proof::{Mesh, mixed_in_full, seed, setup, three_of, up};

const TABLES: &str = "
CREATE TABLE stock (id int PRIMARY KEY, amount int NOT NULL, price numeric(8,2) NOT NULL, place text);
CREATE TABLE person (id int, part text, name text, city text, born date, tags text[], seen timestamptz, picture bytea,
  long text GENERATED ALWAYS AS (name || ' of ' || city) STORED, PRIMARY KEY (part, id));
CREATE TABLE account (id int PRIMARY KEY, balance numeric NOT NULL, owner text, note text)";

fn policies(config: &mut MeshConfig) {
    let delta = |columns: &[&str]| PolicyConfig {
        delta: columns.iter().map(|column| (*column).to_owned()).collect(),
        ..PolicyConfig::default()
    };
    let by_column = |of: PolicyConfig| PolicyConfig { conflict: ConflictPolicy::ColumnWise, ..of };
    config.policies = BTreeMap::from([
        ("public.stock".to_owned(), delta(&["amount", "price"])),
        ("public.person".to_owned(), by_column(PolicyConfig::default())),
        ("public.account".to_owned(), by_column(delta(&["balance"]))),
    ]);
}

/// What every node says, once all have everything.
async fn all(mesh: &Mesh, question: &str) -> String {
    mesh.settle().await;
    let mut said = Vec::new();
    for node in mesh.nodes() {
        said.push(mesh.ask(&node, question).await.unwrap_or_default());
    }
    said.dedup();
    assert_eq!(said.len(), 1, "{question}: {said:?}");
    said.remove(0)
}

async fn equal(mesh: &Mesh) {
    let mut differing = Vec::new();
    for (table, key) in [
        ("stock", "id"),
        ("person", "(part, id)"),
        ("account", "id"),
        ("herdsman_parts.\"public.stock\"", "(id, _herdsman_column, _herdsman_of)"),
        ("herdsman_parts.\"public.person\"", "(part, id, _herdsman_column, _herdsman_of)"),
        ("herdsman_parts.\"public.account\"", "(id, _herdsman_column, _herdsman_of)"),
    ] {
        differing.extend(mesh.differences(table, key).await);
    }
    assert!(differing.is_empty(), "{differing:#?}");
}

macro_rules! on_each {
    ($($name:ident: $run:path;)*) => {$(
        mod $name {
            use super::*;

            async fn on(majors: Option<Vec<u32>>) {
                if let Some(majors) = majors {
                    Box::pin($run(majors)).await;
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_15() {
                on(three_of(15)).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_18() {
                on(three_of(18)).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_all() {
                on(mixed_in_full()).await;
            }
        }
    )*};
}

on_each! {
    changes_made_apart_are_all_kept: made_apart;
    a_policy_that_comes_later_begins_with_what_is_there: comes_later;
    whatever_is_written_all_members_show_the_same: random;
}

async fn made_apart(majors: Vec<u32>) {
    let mesh = Mesh::start_with(majors, TABLES, policies).await;
    let nodes = mesh.nodes();
    let (a, b, c) = (&nodes[0], &nodes[1], &nodes[2]);
    mesh.on(a, "INSERT INTO stock VALUES (1, 100, 9.99, 'A'), (2, 5, 1, 'A'), (3, 1, 1, 'A')")
        .await;
    mesh.on(
        a,
        "INSERT INTO person VALUES (1, 'x', 'Ann', 'Leeds', '1990-02-01', '{a}', now(), '\\x00ff')",
    )
    .await;
    mesh.on(a, "INSERT INTO account VALUES (1, 10.5, 'Ann', 'new')").await;
    mesh.settle().await;

    for (one, other) in [(a, b), (a, c), (b, c)] {
        mesh.apart(one, other);
    }
    mesh.on(a, "UPDATE stock SET amount = amount - 30 WHERE id = 1").await;
    mesh.on(b, "UPDATE stock SET amount = amount + 5, price = price + 0.02 WHERE id = 1").await;
    mesh.on(c, "UPDATE stock SET amount = amount - 7, place = 'C' WHERE id = 1").await;
    mesh.on(c, "UPDATE stock SET amount = amount - 1 WHERE id = 1").await;
    // Of one that is deleted and inserted anew what was added elsewhere meanwhile is kept.
    mesh.on(a, "DELETE FROM stock WHERE id = 2; INSERT INTO stock VALUES (2, 50, 2, 'A')").await;
    mesh.on(b, "UPDATE stock SET amount = amount + 4 WHERE id = 2").await;
    // Inserted twice, each counts.
    mesh.on(a, "INSERT INTO stock VALUES (9, 10, 1, 'A')").await;
    mesh.on(b, "INSERT INTO stock VALUES (9, 20, 2, 'B')").await;
    // A key that changes takes its amount along.
    mesh.on(c, "UPDATE stock SET id = 30, amount = amount + 1 WHERE id = 3").await;
    // Beyond what the type can hold it stays at that.
    mesh.on(a, "INSERT INTO stock VALUES (8, 2000000000, 1, 'A')").await;
    mesh.on(b, "INSERT INTO stock VALUES (8, 2000000000, 1, 'B')").await;

    mesh.on(a, "UPDATE person SET name = 'Anna', tags = tags || text 'b' WHERE id = 1").await;
    mesh.on(b, "SET DateStyle = 'SQL, DMY'; SET bytea_output = 'escape'; UPDATE person SET city = 'York', born = '1991-02-03', picture = '\\x01fe' WHERE id = 1; RESET DateStyle; RESET bytea_output").await;
    mesh.on(c, "UPDATE person SET tags = NULL WHERE id = 1").await;
    mesh.on(a, "UPDATE account SET balance = balance + 1 WHERE id = 1").await;
    mesh.on(b, "UPDATE account SET owner = 'Bob' WHERE id = 1").await;
    mesh.on(c, "UPDATE account SET balance = balance * 2, note = 'twice' WHERE id = 1").await;

    assert_eq!(
        all(&mesh, "SELECT amount || ' ' || price || ' ' || place FROM stock WHERE id = 1").await,
        "67 10.01 C"
    );
    assert_eq!(all(&mesh, "SELECT amount FROM stock WHERE id = 2").await, "54");
    assert_eq!(all(&mesh, "SELECT amount FROM stock WHERE id = 9").await, "30");
    assert_eq!(all(&mesh, "SELECT amount || ' ' || (SELECT count(*) FROM stock WHERE id = 3) FROM stock WHERE id = 30").await, "2 0");
    assert_eq!(all(&mesh, "SELECT amount FROM stock WHERE id = 8").await, "2147483647");
    assert_eq!(
        all(&mesh, "SELECT concat_ws(' ', name, city, born, coalesce(tags::text, 'none'), encode(picture, 'hex'), long) FROM person").await,
        "Anna York 1991-02-03 none 01fe Anna of York"
    );
    assert_eq!(
        all(&mesh, "SELECT concat_ws(' ', balance, owner, note) FROM account").await,
        "22.0 Bob twice"
    );
    equal(&mesh).await;

    // Nothing of person 1 was lost but one of two values of `tags`, and no sum at all.
    let of_person = mesh.conflicts("person").await;
    assert!(of_person.is_empty(), "{of_person:#?}");
    let cells =
        "SELECT string_agg(DISTINCT key ->> '_herdsman_column', ' ') FROM herdsman.conflicts
        WHERE rel = 'herdsman_parts.\"public.person\"'";
    assert_eq!(mesh.ask(a, cells).await.as_deref(), Some("tags"));
    // Row 2 was written over by an update that did not know its second life; row 1 by another `place`.
    let conflicts = mesh.conflicts("stock").await;
    let keys: Vec<&str> = conflicts.iter().map(|conflict| conflict.key.as_str()).collect();
    assert!(keys.contains(&"{\"id\": 1}"), "{conflicts:#?}");
    assert!(!keys.contains(&"{\"id\": 30}"), "{conflicts:#?}");
    mesh.stop_engine().await;
}

/// Enabled in a mesh that has rows, while somebody writes.
async fn comes_later(majors: Vec<u32>) {
    let mut mesh = Mesh::start(majors, TABLES).await;
    let nodes = mesh.nodes();
    mesh.on(&nodes[0], "INSERT INTO stock VALUES (1, 100, 1, 'A'), (2, 7, 1, 'A')").await;
    mesh.on(&nodes[0], "INSERT INTO account VALUES (1, 10, 'Ann', 'new')").await;
    mesh.settle().await;
    mesh.apart(&nodes[0], &nodes[1]);
    // Not everybody has this when the policy comes.
    mesh.on(&nodes[0], "UPDATE stock SET amount = 110 WHERE id = 1").await;
    mesh.stop_engine().await;
    mesh.setup = setup(&mesh.sandbox, policies);
    up(&mesh.setup).await;
    mesh.start_engine();
    mesh.on(&nodes[0], "UPDATE stock SET amount = amount + 1 WHERE id = 1").await;
    mesh.on(&nodes[1], "UPDATE stock SET amount = amount + 20 WHERE id = 1").await;
    mesh.on(&nodes[1], "UPDATE account SET balance = balance - 3 WHERE id = 1").await;
    mesh.on(&nodes[2], "UPDATE account SET owner = 'Bob' WHERE id = 1").await;
    assert_eq!(all(&mesh, "SELECT amount FROM stock WHERE id = 1").await, "131");
    assert_eq!(all(&mesh, "SELECT amount FROM stock WHERE id = 2").await, "7");
    assert_eq!(all(&mesh, "SELECT concat_ws(' ', balance, owner) FROM account").await, "7 Bob");
    equal(&mesh).await;

    // Planned again there is nothing to do; taken back it is refused; the user may not write what it keeps.
    let again = Arc::new(mesh.setup.clone());
    let found = install::survey(&again).await.unwrap();
    assert_eq!(install::plan(&again, &found).steps, Vec::new());
    let without = Arc::new(setup(&mesh.sandbox, |_| {}));
    let problems = install::plan(&without, &found).problems;
    assert!(
        problems.iter().any(|problem| problem.contains("kept \"amount\", \"price\" apart")),
        "{problems:#?}"
    );
    let app = mesh.app(&nodes[0]).await;
    let denied =
        app.batch_execute("UPDATE herdsman_parts.\"public.stock\" SET _herdsman_sum = 0").await;
    assert_eq!(denied.unwrap_err().code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    mesh.stop_engine().await;
}

async fn random(majors: Vec<u32>) {
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let mesh = Mesh::start_with(majors, TABLES, policies).await;
    let nodes = mesh.nodes();
    // Of these keys no row is ever deleted: every addition counts.
    let mut sums: BTreeMap<i32, i64> = (1..=4).map(|id| (id, 1000)).collect();
    for id in sums.keys() {
        mesh.on(&nodes[0], &format!("INSERT INTO account VALUES ({id}, 1000, 'o', 'n')")).await;
    }
    mesh.settle().await;
    for round in 0..25 {
        for (at, one) in nodes.iter().enumerate() {
            for other in &nodes[at + 1..] {
                if random.u8(..3) == 0 {
                    mesh.apart(one, other);
                }
            }
        }
        for node in &nodes {
            let mut statements = String::new();
            for _ in 0..random.usize(1..4) {
                let (id, by) = (random.i32(1..=4), random.i64(-20..20));
                *sums.get_mut(&id).unwrap() += by;
                statements += &format!(
                    "UPDATE account SET balance = balance + {by}, {} = 'r{round}' WHERE id = {id};",
                    if random.bool() { "owner" } else { "note" }
                );
            }
            let id = random.i32(1..=3);
            statements += &match random.u8(..6) {
                0 => format!("DELETE FROM stock WHERE id = {id};"),
                1 => format!(
                    "INSERT INTO stock VALUES ({id}, {round}, 1, 'i') ON CONFLICT DO NOTHING;"
                ),
                2 => format!(
                    "INSERT INTO stock VALUES ({id}, {round}, 1, 'i') ON CONFLICT (id) DO UPDATE SET amount = stock.amount + 1;"
                ),
                3 => format!(
                    "UPDATE stock SET id = {} WHERE id = {id} AND NOT EXISTS (SELECT FROM stock WHERE id = {});",
                    id + 3,
                    id + 3
                ),
                4 => format!("UPDATE stock SET amount = amount + 2 WHERE id = {};", id + 3),
                _ => format!(
                    "UPDATE stock SET amount = amount - 1, place = '{node}' WHERE id = {id};"
                ),
            };
            statements += &match random.u8(..4) {
                0 => format!("DELETE FROM person WHERE id = {id};"),
                1 => format!(
                    "INSERT INTO person VALUES ({id}, 'p', '{node}', 'r{round}') ON CONFLICT DO NOTHING;"
                ),
                2 => format!("UPDATE person SET name = '{node} {round}' WHERE id = {id};"),
                _ => format!(
                    "UPDATE person SET city = '{node} {round}', tags = ARRAY['{round}'] WHERE id = {id};"
                ),
            };
            // Rows that another transaction of the mesh has in hand make one of the two give way: that one is tried again.
            let app = mesh.app(node).await;
            let mut tries = 0;
            while let Err(error) = app.batch_execute(&statements).await {
                let code = error.code().cloned();
                tries += 1;
                assert!(
                    tries < 20 && code == Some(SqlState::T_R_DEADLOCK_DETECTED),
                    "{node}: {error:?}"
                );
            }
        }
        if random.u8(..3) == 0 {
            mesh.release_all();
        }
        if round == 20 && random.bool() {
            mesh.drop_engine();
            mesh.start_engine();
        }
    }
    mesh.settle().await;
    // What was put right by looking at its own changes has no mark to wait for.
    mesh.settle().await;
    equal(&mesh).await;
    for (id, sum) in sums {
        let balance = all(&mesh, &format!("SELECT balance FROM account WHERE id = {id}")).await;
        assert_eq!(balance, sum.to_string(), "HERDSMAN_SEED={seed}, account {id}");
    }
    mesh.stop_engine().await;
}
