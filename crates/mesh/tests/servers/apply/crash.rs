//! Sessions that are ended in the middle, and large transactions.

use std::time::Duration;

use herdsman_sandbox::on_each_version;

use super::maker::{Maker, wrote};
use super::pump::{Pump, applier, end_of_log};
use super::{TABLES, assert_same};
use crate::proof::Mesh;

pub(super) const END: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'herdsman mesh' AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')";

on_each_version! {
    async fn a_session_that_is_ended_anywhere_loses_and_doubles_nothing(version: u32) {
        let tables = format!("{TABLES} CREATE TABLE log (id bigserial PRIMARY KEY, n int);");
        let mesh = Mesh::prepared(vec![version; 2], &tables, |_| {}).await;
        for round in 0..40 {
            mesh.on("n1", &format!("INSERT INTO log (n) SELECT {round} FROM generate_series(1, 25); INSERT INTO t VALUES ({}, '{round}') ON CONFLICT (id) DO UPDATE SET v = excluded.v; DELETE FROM log WHERE id % 7 = {round} % 7", round % 5)).await;
        }
        let mut random = fastrand::Rng::with_seed(7);
        let killer = mesh.root("n2").await;
        let mut deaths = 0;
        let until = end_of_log(&mesh, "n1").await;
        loop {
            let mut at = applier(&mesh, "n2").await;
            let mut pump = Pump::start(&mesh, "n1", &at).await;
            let fate = Duration::from_micros(random.u64(0..20_000));
            let carrying = async {
                while let Some(group) = pump.next(until, 30).await {
                    at.apply(&[group], false).await?;
                }
                Ok::<_, herdsman_mesh::MeshError>(())
            };
            let killing = async {
                tokio::time::sleep(fate).await;
                if deaths < 12 {
                    killer.batch_execute(END).await.unwrap();
                }
            };
            let (carried, ()) = tokio::join!(carrying, killing);
            pump.close().await;
            drop(at);
            match carried {
                Ok(()) if deaths >= 3 => break,
                Ok(()) => deaths += 1,
                Err(error) => {
                    assert!(error.is_transient(), "{error}");
                    deaths += 1;
                }
            }
        }
        assert_same(&mesh, "t", "id").await;
        assert_same(&mesh, "log", "id").await;
        // Each transaction was counted once.
        let counted = "SELECT transactions FROM herdsman.progress WHERE source = 1";
        let own = mesh.ask("n2", counted).await.unwrap();
        assert_eq!(mesh.ask("n2", "SELECT count(*) FROM herdsman.conflicts").await.unwrap(), "0");
        assert_eq!(own, "40");
    }

    async fn a_transaction_in_parts_is_seen_whole_or_not_at_all(version: u32) {
        let mesh = Mesh::prepared(vec![version; 2], TABLES, |_| {}).await;
        let mut at = applier(&mesh, "n2").await;
        let mut maker = Maker::new();
        let rows = |from: i32| -> Vec<_> {
            (from..from + 500).map(|key| version_of(key, 1000 + i64::from(key))).collect()
        };
        let count = "SELECT count(*) FROM t";
        for part in 0..3 {
            let group = maker.part(1, &rows(part * 500));
            let applied = at.apply(&[group], true).await.unwrap();
            assert_eq!((applied.rows, applied.durable), (0, false));
            assert_eq!(mesh.ask("n2", count).await.unwrap(), "0");
        }
        let last = maker.group(1, &rows(1500));
        let applied = at.apply(&[last], true).await.unwrap();
        assert_eq!((applied.rows, applied.durable), (2000, true));
        assert_eq!(mesh.ask("n2", count).await.unwrap(), "2000");
        let progress = "SELECT rows || ' ' || transactions FROM herdsman.progress WHERE source = 1";
        assert_eq!(mesh.ask("n2", progress).await.unwrap(), "2000 1");
        // Given up half way: as if it had never begun.
        let group = maker.part(1, &rows(5000));
        at.apply(&[group], false).await.unwrap();
        drop(at);
        let mut at = applier(&mesh, "n2").await;
        assert_eq!(mesh.ask("n2", count).await.unwrap(), "2000");
        // Dropped while it waits: of no further use.
        mesh.on("n2", "INSERT INTO t VALUES (-1, 'locked')").await;
        let blocker = mesh.app("n2").await;
        blocker.batch_execute("BEGIN; UPDATE t SET v = 'x' WHERE id = -1").await.unwrap();
        let group = [maker.group(1, &[wrote(-1, (i64::MAX - 1, 1), None, Some("y"))])];
        let waiting = tokio::time::timeout(Duration::from_millis(300), at.apply(&group, false)).await;
        assert!(waiting.is_err());
        blocker.batch_execute("ROLLBACK").await.unwrap();
        assert!(at.apply(&group, false).await.unwrap_err().to_string().contains("given up"));
    }
}

fn version_of(key: i32, micros: i64) -> super::maker::Keyed {
    wrote(key, (micros, 1), None, Some("row"))
}
