//! What is recorded.

use herdsman_sandbox::on_each_version;

use super::TABLES;
use super::maker::{Maker, wrote};
use super::pump::{Pump, applier};
use crate::proof::Mesh;

/// Conflicts of table `t` at a node in short: key, kind, whether the arriving version won.
async fn recorded(mesh: &Mesh, node: &str) -> Vec<(String, String, bool)> {
    let all = mesh.conflicts("t").await;
    let here = all.into_iter().filter(|conflict| conflict.node == node);
    here.map(|conflict| (conflict.key, conflict.kind, conflict.arriving_won)).collect()
}

fn found(key: i32, kind: &str, arriving_won: bool) -> (String, String, bool) {
    (format!("{{\"id\": {key}}}"), kind.to_owned(), arriving_won)
}

/// What both nodes hold of their keys, together.
const HELD: &str = "SELECT string_agg(id || '=' || v, ' ' ORDER BY id) FROM t";

on_each_version! {
    async fn conflicts_of_all_kinds_are_recorded_once_with_both_rows(version: u32) {
        let mesh = Mesh::prepared(vec![version; 2], TABLES, |_| {}).await;
        let mut at = applier(&mesh, "n2").await;
        let mut pump = Pump::start(&mesh, "n1", &at).await;
        mesh.on("n1", "INSERT INTO t SELECT i, 'first' FROM generate_series(1, 6) AS i").await;
        pump.carry(&mesh, "n1", &mut at, 100).await.unwrap();
        // 1, 2: both change it; 3: changed here, deleted there, later; 4: deleted here, changed there, later; 5: deleted
        // by both; 7, 8: both insert it.
        mesh.on("n1", "UPDATE t SET v = 'n1' WHERE id = 1; INSERT INTO t VALUES (7, 'n1')").await;
        mesh.on("n2", "UPDATE t SET v = 'n2' WHERE id IN (1, 2, 3); DELETE FROM t WHERE id IN (4, 5); INSERT INTO t VALUES (7, 'n2'), (8, 'n2')").await;
        mesh.on("n1", "UPDATE t SET v = 'n1' WHERE id IN (2, 4); DELETE FROM t WHERE id IN (3, 5); INSERT INTO t VALUES (8, 'n1')").await;
        let applied = pump.carry(&mesh, "n1", &mut at, 100).await.unwrap();
        assert_eq!(mesh.ask("n2", HELD).await.unwrap(), "1=n2 2=n1 4=n1 6=first 7=n2 8=n1");
        let mut expected = vec![
            found(1, "update_update", false),
            found(2, "update_update", true),
            found(3, "update_delete", true),
            found(4, "update_delete", true),
            found(7, "insert_insert", false),
            found(8, "insert_insert", true),
        ];
        let mut all = recorded(&mesh, "n2").await;
        all.sort();
        expected.sort();
        assert_eq!(all, expected);
        assert_eq!(applied.conflicts, 6);
        let one = mesh.conflicts("t").await.into_iter().find(|conflict| conflict.key.contains('2')).unwrap();
        assert_eq!(one.held, Some(serde_json::json!({"id": 2, "v": "n2"})));
        assert_eq!(one.arriving, Some(serde_json::json!({"id": 2, "v": "n1"})));
        assert!(one.held_stamp.unwrap() < one.arriving_stamp.unwrap());
    }

    async fn a_truncate_is_a_conflict_with_rows_it_did_not_know(version: u32) {
        let mesh = Mesh::prepared(vec![version; 2], TABLES, |_| {}).await;
        let mut at = applier(&mesh, "n2").await;
        let mut pump = Pump::start(&mesh, "n1", &at).await;
        mesh.on("n1", "INSERT INTO t VALUES (1, 'known')").await;
        // As the engine gives signs of life.
        let alive = "INSERT INTO herdsman.heartbeats SELECT node, herdsman.stamp() FROM herdsman.mesh";
        mesh.root("n1").await.batch_execute(alive).await.unwrap();
        pump.carry(&mesh, "n1", &mut at, 100).await.unwrap();
        mesh.on("n1", "INSERT INTO t VALUES (2, 'late')").await;
        mesh.on("n2", "TRUNCATE t; INSERT INTO t VALUES (3, 'after')").await;
        pump.carry(&mesh, "n1", &mut at, 100).await.unwrap();
        assert_eq!(mesh.ask("n2", HELD).await.unwrap(), "3=after");
        assert_eq!(recorded(&mesh, "n2").await, [found(2, "truncate", false)]);
        // The other way round: a row that is here when the TRUNCATE comes.
        let mut there = applier(&mesh, "n1").await;
        let mut back = Pump::start(&mesh, "n2", &there).await;
        back.carry(&mesh, "n2", &mut there, 100).await.unwrap();
        assert_eq!(mesh.ask("n1", HELD).await.unwrap(), "3=after");
        assert_eq!(recorded(&mesh, "n1").await, [found(2, "truncate", true)]);
    }

    async fn what_was_overtaken_by_who_knew_it_is_no_conflict(version: u32) {
        let mesh = Mesh::prepared(vec![version; 3], TABLES, |_| {}).await;
        let mut at = applier(&mesh, "n3").await;
        let mut maker = Maker::new();
        // Node 2 changed what node 1 wrote, and is heard first.
        let (one, two) = (version_of(1, 10, None, "one"), wrote(1, (20, 2), Some((10, 1)), Some("two")));
        // Node 2 deleted what node 1 wrote; and did not know another.
        let (three, four) = (version_of(2, 10, None, "three"), wrote(2, (20, 2), Some((10, 1)), None));
        let (five, six) = (version_of(3, 15, None, "five"), wrote(3, (20, 2), Some((7, 2)), None));
        // A key that node 1 deletes and makes again where node 2's deletion is known.
        let seven = wrote(4, (20, 2), Some((10, 1)), None);
        let eight = version_of(4, 30, None, "eight");
        let second = maker.group(2, &[two, four, six, seven]);
        let first = maker.group(1, &[one, three, five, eight]);
        assert_eq!(at.apply(&[second], false).await.unwrap().conflicts, 0);
        assert_eq!(at.apply(&[first], false).await.unwrap().conflicts, 1);
        assert_eq!(mesh.ask("n3", HELD).await.unwrap(), "1=two 4=eight");
        assert_eq!(recorded(&mesh, "n3").await, [found(3, "update_delete", false)]);
    }
}

/// A row that node 1 wrote.
fn version_of(key: i32, micros: i64, seen: Option<(i64, i16)>, row: &str) -> super::maker::Keyed {
    wrote(key, (micros, 1), seen, Some(row))
}
