//! A member whose clock is behind waits for it, and refuses what is too far ahead.

use std::time::Duration;

use herdsman_mesh::status::Status;
use tokio::time::{sleep, timeout};

use super::start;
use crate::proof::{DEADLINE, Mesh, three_of};

/// Has a server tell a time that is so many seconds behind. Its commits are still at the time of the machine.
async fn behind(mesh: &Mesh, node: &str, seconds: u32) {
    // What is planned is inlined; a server's own function is otherwise called whatever its row says.
    let sql = format!(
        "CREATE OR REPLACE FUNCTION pg_catalog.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
         AS 'SELECT pg_catalog.statement_timestamp() - interval ''{seconds} s'''"
    );
    mesh.root(node).await.batch_execute(&sql).await.unwrap();
}

/// What a member's status says is wrong.
fn told(status: &Status, node: &str) -> String {
    status.targets.get(node).and_then(|target| target.problem.clone()).unwrap_or_default()
}

async fn until_told(mesh: &Mesh, node: &str, what: &str) {
    let mut status = mesh.status();
    let waiting = status.wait_for(|status| told(status, node).contains(what));
    timeout(DEADLINE, waiting).await.expect("the status tells it").unwrap();
}

const COUNT: &str = "SELECT count(*) FROM t";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_waits_until_the_members_clock_is_past_it() {
    let Some(majors) = three_of(18).or_else(|| three_of(15)) else { return };
    let majors = majors.into_iter().take(2).collect();
    let mesh = start(majors, "CREATE TABLE t (id int PRIMARY KEY, v text)").await;
    mesh.on("n1", "INSERT INTO t VALUES (1, 'before')").await;
    mesh.settle().await;

    // Far behind: refused, and told.
    mesh.drop_engine();
    behind(&mesh, "n2", 3600).await;
    mesh.start_engine();
    mesh.on("n1", "INSERT INTO t VALUES (2, 'too far')").await;
    until_told(&mesh, "n2", "too far to wait for").await;
    assert_eq!(mesh.ask("n2", COUNT).await.as_deref(), Some("1"));

    // So far behind that it is waited for: nothing is seen meanwhile, and who waits is told.
    mesh.drop_engine();
    behind(&mesh, "n2", 40).await;
    mesh.start_engine();
    until_told(&mesh, "n2", "its clock is behind that of `n1`").await;
    assert_eq!(mesh.ask("n2", COUNT).await.as_deref(), Some("1"));
    // The other way nothing waits.
    mesh.on("n2", "INSERT INTO t VALUES (3, 'n2')").await;
    let arrived = async {
        while mesh.ask("n1", COUNT).await.as_deref() != Some("3") {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(DEADLINE, arrived).await.expect("who is ahead does not wait");

    // Its clock gets there by itself.
    mesh.settle().await;
    assert_eq!(mesh.ask("n2", COUNT).await.as_deref(), Some("3"));
    assert_eq!(mesh.differences("t", "id").await, Vec::<String>::new());
    let mut status = mesh.status();
    let well = status.wait_for(|status| told(status, "n2").is_empty());
    timeout(DEADLINE, well).await.expect("nothing is told any more").unwrap();
    mesh.stop_engine().await;
}
