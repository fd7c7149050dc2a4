//! Local writers at the same rows at the same moment.

use std::time::Duration;

use herdsman_sandbox::on_each_version;

use super::pump::{Both, Pump, applier};
use super::{TABLES, assert_same};
use crate::proof::Mesh;

const HELD: &str = "SELECT string_agg(id || '=' || v, ' ' ORDER BY id) FROM t";

on_each_version! {
    async fn a_local_writer_in_the_way_is_waited_for_and_nothing_is_lost(version: u32) {
        let mesh = Mesh::prepared(vec![version; 2], TABLES, |_| {}).await;
        let mut at = applier(&mesh, "n2").await;
        let mut pump = Pump::start(&mesh, "n1", &at).await;
        mesh.on("n1", "INSERT INTO t SELECT i, 'first' FROM generate_series(1, 4) AS i").await;
        pump.carry(&mesh, "n1", &mut at, 100).await.unwrap();
        // Changed, deleted and inserted here, not committed, when the others' versions come: later ones, and an earlier.
        mesh.on("n1", "UPDATE t SET v = 'early' WHERE id = 4").await;
        let local = mesh.app("n2").await;
        local.batch_execute("BEGIN; UPDATE t SET v = 'local' WHERE id IN (1, 4); DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (9, 'local')").await.unwrap();
        mesh.on("n1", "UPDATE t SET v = 'remote' WHERE id IN (1, 2, 3); INSERT INTO t VALUES (9, 'remote')").await;
        let committing = async {
            tokio::time::sleep(Duration::from_millis(700)).await;
            local.batch_execute("COMMIT").await.unwrap();
        };
        let (applied, ()) = tokio::join!(pump.carry(&mesh, "n1", &mut at, 100), committing);
        assert_eq!(applied.unwrap().conflicts, 4);
        assert_eq!(mesh.ask("n2", HELD).await.unwrap(), "1=remote 2=remote 3=remote 4=local 9=remote");
        let kinds = "SELECT string_agg((key ->> 'id') || ' ' || kind || ' ' || winner, ', ' ORDER BY key) FROM herdsman.conflicts";
        assert_eq!(
            mesh.ask("n2", kinds).await.unwrap(),
            "1 update_update arriving, 2 update_delete arriving, 4 update_update held, 9 insert_insert arriving"
        );
        // The self-stream finds nothing to do.
        let mut own = Pump::start(&mesh, "n2", &at).await;
        own.carry(&mesh, "n2", &mut at, 100).await.unwrap();
        assert_eq!(mesh.ask("n2", HELD).await.unwrap(), "1=remote 2=remote 3=remote 4=local 9=remote");
    }

    async fn a_row_that_was_stamped_before_a_deletion_came_and_committed_after_goes_by_the_self_stream(version: u32) {
        let mesh = Mesh::prepared(vec![version; 2], TABLES, |_| {}).await;
        let mut at = applier(&mesh, "n2").await;
        let mut pump = Pump::start(&mesh, "n1", &at).await;
        let local = mesh.app("n2").await;
        local.batch_execute("BEGIN; INSERT INTO t VALUES (1, 'local')").await.unwrap();
        mesh.on("n1", "INSERT INTO t VALUES (1, 'x'), (2, 'y')").await;
        mesh.on("n1", "DELETE FROM t WHERE id = 1").await;
        pump.carry(&mesh, "n1", &mut at, 100).await.unwrap();
        local.batch_execute("COMMIT").await.unwrap();
        assert_eq!(mesh.ask("n2", HELD).await.unwrap(), "1=local 2=y");
        let mut own = Pump::start(&mesh, "n2", &at).await;
        own.carry(&mesh, "n2", &mut at, 100).await.unwrap();
        assert_eq!(mesh.ask("n2", HELD).await.unwrap(), "2=y");
        let kinds = "SELECT string_agg(kind || ' ' || winner || ' ' || (arriving ->> 'v'), ', ') FROM herdsman.conflicts";
        assert_eq!(mesh.ask("n2", kinds).await.unwrap(), "update_delete held local");
    }

    async fn many_local_writers_and_one_that_applies_come_to_the_same_as_one_after_the_other(version: u32) {
        let mesh = Mesh::prepared(vec![version; 2], TABLES, |_| {}).await;
        let mut both = Both::start(&mesh).await;
        let writers = ["n1", "n2", "n1", "n2"].map(|node| {
            let client = mesh.app(node);
            async move {
                let client = client.await;
                let mut random = fastrand::Rng::new();
                for round in 0..120 {
                    let (one, two) = (random.u32(0..15), random.u32(0..15));
                    let statement = match random.u32(0..6) {
                        0 => format!("DELETE FROM t WHERE id = {one}"),
                        1 => format!("UPDATE t SET id = {two} WHERE id = {one}"),
                        2 => format!("BEGIN; DELETE FROM t WHERE id = {one}; INSERT INTO t VALUES ({one}, '{round}'); COMMIT"),
                        3 if random.u32(0..10) == 0 => "TRUNCATE t".to_owned(),
                        _ => format!("INSERT INTO t VALUES ({one}, '{node} {round}') ON CONFLICT (id) DO UPDATE SET v = excluded.v"),
                    };
                    if client.batch_execute(&statement).await.is_err() {
                        client.batch_execute("ROLLBACK").await.unwrap();
                    }
                }
            }
        });
        let writing = async { futures_util::future::join_all(writers).await };
        tokio::join!(writing, both.carry(&mesh, 12));
        both.carry(&mesh, 2).await;
        assert_same(&mesh, "t", "id").await;
    }
}
