//! Several transactions at once, where they have nothing in common.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use herdsman_mesh::MeshConfig;
use herdsman_mesh::apply::Applier;
use herdsman_mesh::group::Group;
use herdsman_mesh::resolve::{Verdict, Version, join};
use herdsman_sandbox::on_each_version;
use tokio::time::sleep;

use super::crash::END;
use super::maker::{Maker, wrote};
use super::pump::{Pump, applier, end_of_log, info, member};
use super::{TABLES, assert_same};
use crate::proof::{Mesh, report, seed};

const LANES: usize = 3;

fn lanes(config: &mut MeshConfig) {
    config.lanes = LANES;
}

/// Sessions of the mesh's on the second node.
const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'herdsman mesh' AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')";
const HELD: &str = "SELECT string_agg(id || '=' || v, ' ' ORDER BY id) FROM t";
/// What lanes have noted and not their member itself.
const NOTED: &str = "SELECT count(*) FROM herdsman.lanes AS l JOIN herdsman.progress AS p ON p.source = l.source AND p.lsn < l.lsn";

async fn counted(mesh: &Mesh) -> String {
    mesh.ask("n2", "SELECT transactions || ' ' || rows FROM herdsman.progress WHERE source = 1")
        .await
        .unwrap()
}

/// A lot of one transaction with these rows, of node 1.
fn lot(maker: &mut Maker, keys: &[i32], text: &str) -> Vec<Group> {
    let version = |key: &i32| wrote(*key, (1_000 + i64::from(*key), 1), None, Some(text));
    let versions: Vec<_> = keys.iter().map(version).collect();
    vec![maker.group(1, &versions)]
}

/// Once the one before has let go.
async fn applier_in_time(mesh: &Mesh) -> Applier {
    let (setup, who) = (Arc::new(mesh.setup.clone()), member(mesh, "n2").await);
    let info = info(mesh, "n2");
    loop {
        match Applier::open(&setup, &who, &info).await {
            Ok(next) => return next,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

on_each_version! {
    async fn what_has_nothing_in_common_goes_at_once_and_is_committed_in_its_order(version: u32) {
        let mesh = Mesh::prepared(vec![version; 2], TABLES, lanes).await;
        let (mut at, mut maker) = (applier(&mesh, "n2").await, Maker::new());
        let lots = [[1, 2], [3, 4], [5, 6]].map(|keys| lot(&mut maker, &keys, "x"));
        let applied = at.apply_lots(&lots, true).await.unwrap();
        assert_eq!((applied.rows, applied.conflicts, applied.durable), (6, 0, true));
        assert_eq!(mesh.ask("n2", SESSIONS).await.unwrap(), LANES.to_string());
        assert_eq!(mesh.ask("n2", HELD).await.unwrap(), "1=x 2=x 3=x 4=x 5=x 6=x");
        // Each is a transaction, in the order they came: so are their numbers, for all rows of one are written first.
        let transactions = "SELECT count(DISTINCT xmin::text) FROM t";
        assert_eq!(mesh.ask("n2", transactions).await.unwrap(), "3");
        assert_eq!(mesh.ask("n2", "SELECT count(*) FROM herdsman.lanes").await.unwrap(), "2");
        assert_eq!(mesh.ask("n2", NOTED).await.unwrap(), "0");
        assert_eq!(counted(&mesh).await, "3 6");
        // The same keys again: one behind the other.
        let lots = ["y", "z"].map(|text| lot(&mut maker, &[1], text));
        assert_eq!(at.apply_lots(&lots, false).await.unwrap().rows, 0, "of the same stamp");
        assert_eq!(counted(&mesh).await, "5 8");
    }

    async fn a_local_writer_in_the_way_of_two_lanes_is_waited_for_and_nothing_is_lost(version: u32) {
        let mesh = Mesh::prepared(vec![version; 2], TABLES, lanes).await;
        mesh.on("n2", "INSERT INTO t VALUES (1, 'local'), (3, 'local')").await;
        let (mut at, mut maker) = (applier(&mesh, "n2").await, Maker::new());
        let far = 1 << 60;
        let later = |maker: &mut Maker, key| vec![maker.group(1, &[wrote(key, (far, 1), None, Some("x"))])];
        let lots = [1, 3, 5].map(|key| later(&mut maker, key));
        let (one, two) = (mesh.app("n2").await, mesh.app("n2").await);
        // It has the first lot's row, and wants the second's, which a lane then has that waits for the first lot.
        one.batch_execute("BEGIN; UPDATE t SET v = 'held' WHERE id = 1").await.unwrap();
        let writing = async {
            let waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'herdsman mesh'";
            while mesh.ask("n2", waits).await.unwrap() != "t" {
                sleep(Duration::from_millis(20)).await;
            }
            // Whoever the server ends: the writer, or what is applied, which is then done again.
            let ended = one.batch_execute("UPDATE t SET v = 'held' WHERE id = 3; COMMIT").await;
            if ended.is_err() {
                one.batch_execute("ROLLBACK").await.unwrap();
            }
            two.batch_execute("INSERT INTO t VALUES (7, 'other')").await.unwrap();
        };
        let (applied, ()) = tokio::join!(at.apply_lots(&lots, false), writing);
        applied.unwrap();
        assert_eq!(mesh.ask("n2", HELD).await.unwrap(), "1=x 3=x 5=x 7=other");
        assert!(counted(&mesh).await.starts_with("3 "));
        assert_eq!(mesh.ask("n2", NOTED).await.unwrap(), "0");
    }

    async fn a_session_that_ends_between_the_commits_of_two_lanes_is_gone_on_with_behind_the_first(version: u32) {
        let mesh = Mesh::prepared(vec![version; 2], TABLES, lanes).await;
        mesh.on("n2", "INSERT INTO t VALUES (5, 'local')").await;
        let (mut at, mut maker) = (applier(&mesh, "n2").await, Maker::new());
        let far = 1 << 60;
        let later = |maker: &mut Maker, key| vec![maker.group(1, &[wrote(key, (far, 1), None, Some("x"))])];
        let lots = [1, 3, 5].map(|key| later(&mut maker, key));
        // The last one, which notes all of them for good, waits.
        let local = mesh.app("n2").await;
        local.batch_execute("BEGIN; UPDATE t SET v = 'held' WHERE id = 5").await.unwrap();
        let ending = async {
            while mesh.ask("n2", NOTED).await.unwrap() != "2" {
                sleep(Duration::from_millis(10)).await;
            }
            mesh.root("n2").await.batch_execute("SELECT pg_terminate_backend(pid) FROM herdsman.lease").await.unwrap();
        };
        let (applied, ()) = tokio::join!(at.apply_lots(&lots, false), ending);
        assert!(applied.unwrap_err().is_transient());
        assert!(counted(&mesh).await.starts_with("0 "));
        drop(at);
        local.batch_execute("ROLLBACK").await.unwrap();
        let mut at = applier_in_time(&mesh).await;
        assert_eq!(counted(&mesh).await, "2 2");
        assert_eq!(mesh.ask("n2", HELD).await.unwrap(), "1=x 3=x 5=local");
        assert_eq!(mesh.ask("n2", "SELECT count(*) FROM herdsman.lanes").await.unwrap(), "0");
        at.apply_lots(&lots[2..], true).await.unwrap();
        assert_eq!(counted(&mesh).await, "3 3");
        assert_eq!(mesh.ask("n2", HELD).await.unwrap(), "1=x 3=x 5=x");
    }

    async fn sessions_that_are_ended_in_the_middle_of_several_transactions_lose_and_double_nothing(version: u32) {
        let tables = format!("{TABLES} CREATE TABLE log (id bigserial PRIMARY KEY, n int);");
        let mesh = Mesh::prepared(vec![version; 2], &tables, lanes).await;
        for round in 0..60 {
            mesh.on("n1", &format!("INSERT INTO log (n) SELECT {round} FROM generate_series(1, 25); INSERT INTO t VALUES ({}, '{round}') ON CONFLICT (id) DO UPDATE SET v = excluded.v; DELETE FROM log WHERE n = {round} - 5 AND id % 7 = 0", round % 20)).await;
        }
        let seed = seed();
        report(&format!("HERDSMAN_SEED={seed}"));
        let mut random = fastrand::Rng::with_seed(seed);
        let killer = mesh.root("n2").await;
        let until = end_of_log(&mesh, "n1").await;
        let (mut deaths, mut between) = (0, 0);
        loop {
            let mut at = applier(&mesh, "n2").await;
            assert_eq!(mesh.ask("n2", NOTED).await.unwrap(), "0", "what is noted is gathered");
            let mut pump = Pump::start(&mesh, "n1", &at).await;
            let fate = Duration::from_micros(random.u64(0..30_000));
            let carrying = async {
                loop {
                    let mut lots = Vec::new();
                    while lots.len() < LANES + 1 && let Some(group) = pump.next(until, 30).await {
                        lots.push(vec![group]);
                    }
                    if lots.is_empty() {
                        return Ok::<_, herdsman_mesh::MeshError>(());
                    }
                    at.apply_lots(&lots, false).await?;
                }
            };
            let killing = async {
                sleep(fate).await;
                if deaths < 15 {
                    killer.batch_execute(END).await.unwrap();
                }
            };
            let (carried, ()) = tokio::join!(carrying, killing);
            pump.close().await;
            drop(at);
            between += usize::from(mesh.ask("n2", NOTED).await.unwrap() != "0");
            deaths += 1;
            match carried {
                Ok(()) if deaths > 3 => break,
                Ok(()) => {}
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
        }
        report(&format!("{deaths} times ended, {between} of them between two commits"));
        assert_same(&mesh, "t", "id").await;
        assert_same(&mesh, "log", "id").await;
        // Each transaction was counted once.
        assert!(counted(&mesh).await.starts_with("60 "), "{}", counted(&mesh).await);
        assert_eq!(mesh.ask("n2", "SELECT count(*) FROM herdsman.conflicts").await.unwrap(), "0");
    }

    async fn lanes_keep_what_the_rule_keeps(version: u32) {
        let seed = seed();
        report(&format!("HERDSMAN_SEED={seed}"));
        let mesh = Mesh::prepared(vec![version; 3], TABLES, lanes).await;
        let (mut at, mut maker) = (applier(&mesh, "n3").await, Maker::new());
        let mut random = fastrand::Rng::with_seed(seed);
        let mut model: BTreeMap<i32, Version<String>> = BTreeMap::new();
        for round in 0..60_i32 {
            let mut lots = Vec::new();
            for step in 0..random.i32(2..6) {
                // Of two members at once, with keys that few have in common.
                let source = random.i16(1..=2);
                let mut last: BTreeMap<i32, (i64, i16)> = BTreeMap::new();
                let mut versions = Vec::new();
                for _ in 0..random.u32(1..6) {
                    let key = random.i32(0..40);
                    let stamp = (random.i64(0..40) + i64::from(round * 10 + step), source);
                    if last.get(&key).is_some_and(|last| *last >= stamp) {
                        continue;
                    }
                    let row = random.bool().then(|| format!("{round} {source} {step}"));
                    let seen = last.insert(key, stamp).or_else(|| random.bool().then_some((round.into(), 2)));
                    versions.push(wrote(key, stamp, seen, row.as_deref()));
                }
                for (key, version) in &versions {
                    if join(model.get(key), version) == Verdict::Apply {
                        model.insert(*key, version.clone());
                    }
                }
                lots.push(vec![maker.group(source, &versions)]);
            }
            at.apply_lots(&lots, round % 10 == 0).await.unwrap();
        }
        let held = mesh.root("n3").await.query("SELECT id, _herdsman_stamp, _herdsman_node, v FROM t", &[]).await.unwrap();
        let held: BTreeMap<i32, (i64, i16, String)> =
            held.iter().map(|row| (row.get(0), (row.get(1), row.get(2), row.get(3)))).collect();
        let expected = model.into_iter().filter_map(|(key, version)| {
            Some((key, (version.stamp.micros, version.stamp.node.0, version.row?)))
        });
        assert_eq!(held, expected.collect());
        assert_ne!(mesh.ask("n3", "SELECT count(*) FROM herdsman.lanes").await.unwrap(), "0");
    }

    async fn who_takes_the_lease_ends_the_lanes_of_who_had_it_before(version: u32) {
        let mesh = Mesh::prepared(vec![version; 2], TABLES, lanes).await;
        let (mut at, mut maker) = (applier(&mesh, "n2").await, Maker::new());
        let lots = [1, 2].map(|key| lot(&mut maker, &[key], "x"));
        at.apply_lots(&lots, false).await.unwrap();
        // One that nobody has told that its holder is gone, in the middle of a transaction.
        let left = mesh.app("n2").await;
        let busy = "BEGIN; SELECT pg_advisory_lock_shared(hashtextextended('herdsman mesh lanes mesh', 0)); INSERT INTO t VALUES (9, 'late')";
        left.batch_execute(busy).await.unwrap();
        drop(at);
        let _next = applier_in_time(&mesh).await;
        assert!(left.batch_execute("COMMIT").await.is_err(), "it is still there");
        assert_eq!(mesh.ask("n2", HELD).await.unwrap(), "1=x 2=x");
        assert_eq!(mesh.ask("n2", SESSIONS).await.unwrap(), "1");
    }
}
