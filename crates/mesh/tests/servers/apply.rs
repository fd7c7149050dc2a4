//! What one member writes, applied at another.

mod conflicts;
mod crash;
mod differential;
mod lanes;
mod maker;
mod pump;
mod race;
mod speed;
mod types;
mod unique;

use herdsman_mesh::MeshError;
use herdsman_mesh::apply::Applier;
use herdsman_sandbox::on_each_version;
use std::sync::Arc;

use crate::proof::Mesh;
use pump::{Pump, applier, info, member};

const TABLES: &str = "CREATE TABLE t (id int PRIMARY KEY, v text);";

/// That two nodes hold the same, stamps included.
async fn assert_same(mesh: &Mesh, table: &str, key: &str) {
    assert_eq!(mesh.differences(table, key).await, [""; 0]);
}

on_each_version! {
    async fn rows_arrive_as_they_were_written(version: u32) {
        let mesh = Mesh::prepared(vec![version; 2], TABLES, |_| {}).await;
        mesh.on("n1", "INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 100) AS i").await;
        mesh.on("n1", "UPDATE t SET v = 'changed' WHERE id % 10 = 0; UPDATE t SET id = id + 1000 WHERE id % 10 = 1").await;
        mesh.on("n1", "DELETE FROM t WHERE id % 10 = 2; INSERT INTO t VALUES (2, 'again')").await;
        let mut at = applier(&mesh, "n2").await;
        let mut pump = Pump::start(&mesh, "n1", &at).await;
        let applied = pump.carry(&mesh, "n1", &mut at, 1000).await.unwrap();
        assert_eq!(applied.conflicts, 0);
        assert_same(&mesh, "t", "id").await;
        assert_eq!(mesh.ask("n2", "SELECT count(*) FROM t").await.unwrap(), "91");
        // TRUNCATE, and rows behind it.
        mesh.on("n1", "TRUNCATE t; INSERT INTO t VALUES (1, 'after')").await;
        pump.carry(&mesh, "n1", &mut at, 1000).await.unwrap();
        assert_same(&mesh, "t", "id").await;
        assert_eq!(mesh.ask("n2", "SELECT string_agg(v, ',') FROM t").await.unwrap(), "after");
        // What was applied is no change of the member's own, and the floor is above it.
        let mut own = Pump::start(&mesh, "n2", &at).await;
        let applied = own.carry(&mesh, "n2", &mut at, 1000).await.unwrap();
        assert_eq!((applied.rows, applied.conflicts), (0, 0));
        let above = "SELECT last_value >= (SELECT max(_herdsman_stamp) FROM t) FROM herdsman.floor";
        assert_eq!(mesh.ask("n2", above).await.unwrap(), "t");
    }

    async fn only_one_process_applies_and_the_next_one_goes_on(version: u32) {
        let mesh = Mesh::prepared(vec![version; 2], TABLES, |_| {}).await;
        let mut first = applier(&mesh, "n2").await;
        assert!(first.apply(&[], true).await.unwrap().durable);
        let setup = Arc::new(mesh.setup.clone());
        let (who, how) = (member(&mesh, "n2").await, info(&mesh, "n2"));
        let second = Applier::open(&setup, &who, &how).await;
        let holder = format!("process {}", std::process::id());
        assert!(matches!(&second, Err(MeshError::LeaseHeld { holder: found, .. }) if found.contains(&holder)), "{second:?}");
        drop(first);
        let mut second = loop {
            match Applier::open(&setup, &who, &how).await {
                Ok(second) => break second,
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        mesh.on("n1", "INSERT INTO t VALUES (1, 'a')").await;
        let mut pump = Pump::start(&mesh, "n1", &second).await;
        pump.carry(&mesh, "n1", &mut second, 10).await.unwrap();
        assert_same(&mesh, "t", "id").await;
        // A member that is not what it is taken for is left alone.
        let other = info(&mesh, "n1");
        let wrong = Applier::open(&setup, &who, &other).await;
        assert!(matches!(&wrong, Err(MeshError::Refused { .. })), "{wrong:?}");
    }
}
