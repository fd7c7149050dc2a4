//! Many transactions are on their way at once, and are applied in their order all the same.

use std::sync::Arc;

use herdsman_mesh::status::Status;
use tokio::time::timeout;

use super::start;
use crate::proof::{DEADLINE, three_of};

const HELD: &str = "SELECT string_agg(id || v, ' ' ORDER BY id) FROM t";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_behind_a_transaction_that_is_refused_waits_for_it() {
    let Some(majors) = three_of(18).or_else(|| three_of(15)) else { return };
    let majors = majors.into_iter().take(2).collect();
    let mesh = start(majors, "CREATE TABLE t (id int PRIMARY KEY, v text NOT NULL)").await;
    mesh.settle().await;
    let refuse = "ALTER TABLE t ADD CONSTRAINT nothing_bad CHECK (v <> 'bad')";
    mesh.on("n2", refuse).await;
    mesh.hold("n1", "n2");
    for (id, v) in [(1, "a"), (2, "b"), (3, "bad"), (4, "d"), (5, "e")] {
        mesh.on("n1", &format!("INSERT INTO t VALUES ({id}, '{v}')")).await;
    }
    mesh.on("n1", "UPDATE t SET v = 'A' WHERE id = 1").await;
    mesh.release("n1", "n2");
    let told = |now: &Arc<Status>| {
        let problem = now.targets.get("n2").and_then(|target| target.problem.clone());
        problem.is_some_and(|problem| problem.contains("nothing_bad"))
    };
    let mut status = mesh.status();
    timeout(DEADLINE, status.wait_for(told)).await.expect("the status tells it").unwrap();
    assert_eq!(mesh.ask("n2", HELD).await.as_deref(), Some("1a 2b"));

    mesh.on("n2", "ALTER TABLE t DROP CONSTRAINT nothing_bad").await;
    mesh.settle().await;
    assert_eq!(mesh.ask("n2", HELD).await.as_deref(), Some("1A 2b 3bad 4d 5e"));
    assert_eq!(mesh.differences("t", "id").await, Vec::<String>::new());
    mesh.stop_engine().await;
}
