//! The target is killed while it is written to, again and again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use herdsman_sandbox::on_each_version;
use herdsman_stream::Sink;
use herdsman_wal::ReplicaIdentity::{Default as ByKey, Full};
use serde_json::json;
use tokio::time::timeout;

use super::fixture::{Does, INT8, Maker, TEXT, Target, deliver, table};

/// `short` runs that leave something to chance are `long` in the full proof.
fn proof(short: u32, long: u32) -> u32 {
    if std::env::var("HERDSMAN_SOAK").is_ok_and(|v| !v.is_empty() && v != "0") {
        long
    } else {
        short
    }
}

on_each_version! {
    async fn rows_and_position_never_disagree_however_often_the_target_is_killed(version: u32) {
        let target = Target::start(
            version,
            "CREATE TABLE list (n int8); CREATE TABLE kept (id int8 PRIMARY KEY, n int8, note varchar(9))",
        )
        .await;
        let sink = Arc::new(target.opened(json!({"connect_timeout": "2s"})).await);
        // Without a key, a row that is written twice is there twice.
        let list = table("list", Full, &[("n", INT8, false)]);
        let kept = table("kept", ByKey, &[("id", INT8, true), ("n", INT8, false), ("note", TEXT, false)]);
        let kills = proof(10, 50);
        let killed = Arc::new(AtomicBool::new(false));
        let writer = {
            let (sink, killed) = (Arc::clone(&sink), Arc::clone(&killed));
            tokio::spawn(async move {
                let (mut maker, mut n, mut rejected) = (Maker::new(), 0_u64, 0_u64);
                let mut model = BTreeMap::new();
                while !killed.load(Ordering::Acquire) {
                    let numbers: Vec<(String, String)> =
                        (0..40).map(|k| ((n + k).to_string(), ((n + k) % 17).to_string())).collect();
                    let rows: Vec<_> = numbers
                        .iter()
                        .map(|(n, id)| ([Some(n.as_str())], [Some(id.as_str()), Some(n.as_str()), None]))
                        .collect();
                    let mut changes = Vec::new();
                    for (place, (one, row)) in rows.iter().enumerate() {
                        changes.push((&list, Does::Insert(one)));
                        // One that will never be taken, in every seventh transaction.
                        let poison = place == 20 && (n / 40) % 7 == 0;
                        if poison {
                            changes.push((&kept, Does::Insert(&[Some("1000"), None, Some("much too long")])));
                        }
                        changes.push((&kept, Does::Update(row)));
                    }
                    let batch = maker.batch(&changes);
                    let left = deliver(&sink, &batch).await;
                    assert_eq!(left, if (n / 40) % 7 == 0 { vec![41] } else { vec![] });
                    rejected += left.len() as u64;
                    model.extend(numbers.iter().map(|(n, id)| (id.clone(), n.clone())));
                    n += 40;
                }
                (maker, n, rejected, model)
            })
        };
        for _ in 0..kills {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..200))).await;
            target.sandbox.kill("n1").await.unwrap();
            target.sandbox.start("n1").await.unwrap();
            // A few more are written between two kills.
            tokio::time::sleep(Duration::from_millis(fastrand::u64(50..300))).await;
        }
        killed.store(true, Ordering::Release);
        let (maker, n, rejected, model) = writer.await.unwrap();
        let target = Target { admin: target.sandbox.sql("n1", "postgres").await.unwrap(), ..target };
        assert_eq!(
            target.text("SELECT concat_ws(' ', count(*), count(DISTINCT n), max(n)) FROM list").await,
            format!("{n} {n} {}", n - 1),
        );
        let rows: BTreeMap<String, String> = target
            .admin
            .query("SELECT id::text, n::text FROM kept", &[])
            .await
            .unwrap()
            .iter()
            .map(|row| (row.get(0), row.get(1)))
            .collect();
        assert_eq!(rows, model);
        let kept_back = target.text("SELECT count(*)::text FROM herdsman_stream.rejected").await;
        assert_eq!(kept_back, rejected.to_string());
        assert!(rejected > 0, "some were rejected");
        sink.open().await.unwrap();
        assert_eq!(sink.open().await.unwrap(), Some(maker.position()));
    }

    async fn a_delivery_that_is_dropped_midway_is_done_once_and_told(version: u32) {
        // Commits take a while, and go on after the client has gone: nobody knows their outcome then.
        let schema = "CREATE TABLE list (n int8);
            CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.01); RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON list DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION dawdle();
            ALTER TABLE list ENABLE ALWAYS TRIGGER dawdle";
        let target = Target::start(version, schema).await;
        let sink = target.opened(json!({})).await;
        let list = table("list", Full, &[("n", INT8, false)]);
        let mut maker = Maker::new();
        for n in 0..u64::from(proof(100, 1000)) {
            let text = n.to_string();
            let (row, poison) = ([Some(text.as_str())], [Some("x")]);
            let mut changes = vec![(&list, Does::Insert(&row))];
            let poisoned = n % 2 == 0;
            if poisoned {
                changes.push((&list, Does::Insert(&poison)));
            }
            let batch = maker.batch(&changes);
            let limit = Duration::from_micros(fastrand::u64(0..30_000));
            let first = timeout(limit, deliver(&sink, &batch)).await.unwrap_or_default();
            let told = [first, deliver(&sink, &batch).await].concat();
            assert_eq!(told, if poisoned { vec![1] } else { vec![] }, "batch {n}");
            let all = target.text("SELECT count(*) || ' ' || count(DISTINCT n) FROM list").await;
            assert_eq!(all, format!("{0} {0}", n + 1));
        }
    }
}
