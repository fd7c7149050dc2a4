//! Nodes that die, freeze, vanish and come back, without anybody being promoted.

use std::time::Duration;

use herdsman_node::Role;
use herdsman_sandbox::Fault;
use herdsman_watch::{Proof, Verdict, Why};

use crate::herd::{Herd, never_for, on_each_version, proof, until, watch};

on_each_version! {
    async fn a_healthy_cluster_is_named_with_proof_lag_and_who_follows_whom(version: u32) {
        let herd = Herd::start(version, 2).await;
        let topology = herd.until("attested, with lag", |t| {
            proof(t) == Some(Proof::Attested) && t.nodes["n2"].lag.is_some() && t.nodes["n3"].lag.is_some()
        }).await;
        assert_eq!(topology.readers().map(|n| n.as_str()).collect::<Vec<_>>(), ["n2", "n3"]);
        for standby in ["n2", "n3"] {
            assert_eq!(topology.nodes[standby].follows.as_ref().unwrap().as_str(), "n1");
        }
        assert!(topology.system_id.is_some());
        assert_eq!(topology.nodes["n1"].server_version.unwrap() / 10000, version);
    }

    async fn a_killed_primary_is_withdrawn_its_standbys_stay_readable_and_it_comes_back(version: u32) {
        let herd = Herd::start(version, 2).await;
        herd.sandbox.kill("n1").await.unwrap();
        let topology = herd.until_none(Why::NoClaimant).await;
        assert_eq!(topology.readers().count(), 2, "{topology:#?}");
        let error = topology.nodes["n1"].error.clone().unwrap();
        assert!(error.contains("check that"), "{error}");
        herd.sandbox.start("n1").await.unwrap();
        let back = herd.until_primary("n1").await;
        assert_eq!(back.term, topology.term, "the same primary on the same timeline is no new term");
    }

    async fn a_frozen_primary_is_withdrawn_and_delays_nobody_elses_news(version: u32) {
        let herd = Herd::start(version, 2).await;
        herd.sandbox.freeze("n1").await.unwrap();
        herd.until_none(Why::NoClaimant).await;
        let watch = herd.watch();
        never_for(&watch.clone(), Duration::from_secs(3), "n2's evidence grows old because n1 is frozen", |t| {
            let age = t.nodes["n2"].evidence_at.map(|at| watch.now().since(at));
            age.is_none_or(|age| age > Duration::from_millis(1500)) || t.nodes["n2"].role != Role::Standby
        }).await;
        herd.sandbox.thaw("n1").await.unwrap();
        herd.until_primary("n1").await;
    }

    async fn a_blackholed_primary_is_withdrawn_until_it_is_heard_again(version: u32) {
        let herd = Herd::start(version, 1).await;
        herd.sandbox.client_proxy("n1").unwrap().set(Fault::Stall);
        herd.until_none(Why::NoClaimant).await;
        herd.sandbox.client_proxy("n1").unwrap().set(Fault::Pass);
        herd.until_primary("n1").await;
    }

    async fn a_primary_that_is_cut_off_is_withdrawn_until_it_is_heard_again(version: u32) {
        let herd = Herd::start(version, 1).await;
        herd.sandbox.client_proxy("n1").unwrap().set(Fault::Cut);
        herd.until_none(Why::NoClaimant).await;
        herd.sandbox.client_proxy("n1").unwrap().set(Fault::Pass);
        herd.until_primary("n1").await;
    }

    async fn a_standby_that_fails_in_any_way_takes_nothing_with_it(version: u32) {
        let herd = Herd::start(version, 2).await;
        let gone = |t: &herdsman_watch::Topology| t.nodes["n2"].role == Role::Unavailable;
        let watch = herd.watch();
        let mut changes = watch.subscribe();
        let steady = tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                let topology = changes.borrow_and_update().clone();
                assert_eq!(topology.primary().map(|n| n.as_str()), Some("n1"), "{topology:#?}");
                assert!(topology.readers().any(|n| n.as_str() == "n3"), "{topology:#?}");
            }
        });
        herd.sandbox.freeze("n2").await.unwrap();
        herd.until("n2 frozen", gone).await;
        herd.sandbox.thaw("n2").await.unwrap();
        herd.until_role("n2", Role::Standby).await;
        herd.sandbox.client_proxy("n2").unwrap().set(Fault::Stall);
        herd.until("n2 blackholed", gone).await;
        herd.sandbox.client_proxy("n2").unwrap().set(Fault::Cut);
        herd.until("n2 cut off", gone).await;
        herd.sandbox.client_proxy("n2").unwrap().set(Fault::Pass);
        herd.until_role("n2", Role::Standby).await;
        herd.sandbox.kill("n2").await.unwrap();
        herd.until("n2 killed", gone).await;
        herd.sandbox.start("n2").await.unwrap();
        herd.until("n2 readable", |t| t.readers().any(|n| n.as_str() == "n2")).await;
        assert!(!steady.is_finished(), "the primary or n3 flickered: {:?}", steady.await);
    }

    async fn closing_the_watchers_own_connection_changes_no_verdict(version: u32) {
        let herd = Herd::start(version, 1).await;
        let admin = herd.sandbox.sql("n1", "postgres").await.unwrap();
        let watch = herd.watch();
        let killing = async {
            for _ in 0..5 {
                admin.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'herdsman'", &[],
                ).await.unwrap();
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let steady = never_for(&watch, Duration::from_secs(2), "the verdict flickered", |t| t.primary().is_none());
        tokio::join!(killing, steady);
    }

    async fn a_stopped_postmaster_is_found_out_although_old_connections_still_answer(version: u32) {
        let herd = Herd::with(version, 1, |config| {
            config.fresh_connect_interval = Duration::from_millis(500);
        }).await;
        herd.sandbox.freeze_postmaster("n1").await.unwrap();
        let topology = herd.until_role("n1", Role::Unavailable).await;
        assert_eq!(topology.primary(), None);
        herd.sandbox.thaw("n1").await.unwrap();
        herd.until_primary("n1").await;
    }

    async fn everything_down_and_back_heals_by_itself(version: u32) {
        let herd = Herd::start(version, 2).await;
        for node in ["n1", "n2", "n3"] {
            herd.sandbox.kill(node).await.unwrap();
        }
        herd.until("nothing answers", |t| t.nodes.values().all(|n| n.role == Role::Unavailable)).await;
        for node in ["n3", "n2", "n1"] {
            herd.sandbox.start(node).await.unwrap();
        }
        herd.until_primary("n1").await;
        herd.until("both standbys are back", |t| t.readers().count() == 2).await;
    }

    async fn without_pg_monitor_the_primary_is_still_named_and_the_missing_grant_is_told(version: u32) {
        let herd = Herd::start(version, 2).await;
        let plain = watch(&herd.sandbox, "plain", |_| {});
        let topology = until(&plain.watch(), "n1 named by a blind watcher", |t| {
            t.primary().is_some_and(|n| n.as_str() == "n1")
        }).await;
        assert!(topology.verdict.reason().contains("without pg_monitor"), "{}", topology.verdict);
        assert!(topology.nodes["n2"].reasons.iter().any(|r| r.contains("GRANT pg_monitor")), "{topology:#?}");
        plain.stop().await;
    }

    async fn stopping_the_watcher_closes_its_connections(version: u32) {
        let Herd { sandbox, watcher, .. } = Herd::start(version, 1).await;
        watcher.stop().await;
        let admin = sandbox.sql("n1", "postgres").await.unwrap();
        let count = "select count(*) from pg_stat_activity where usename = 'herdsman'";
        let deadline = tokio::time::Instant::now() + crate::herd::PATIENCE;
        while admin.query_one(count, &[]).await.unwrap().get::<_, i64>(0) > 0 {
            assert!(tokio::time::Instant::now() < deadline, "connections stay open");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told_without_telling_the_password() {
    let herd = Herd::start(15, 1).await;
    let mut setup = crate::herd::setup(&herd.sandbox, "herdsman", |_| {});
    for (name, info) in &mut setup.nodes {
        let mut pairs = herd.sandbox.conninfo(name.as_str(), "herdsman").unwrap();
        pairs.insert("password".to_owned(), "hunter2-planted".to_owned());
        *info = herdsman_node::Conninfo::from_pairs(pairs).unwrap();
    }
    let locked_out = herdsman_watch::Watcher::start(setup).unwrap();
    let topology = until(&locked_out.watch(), "both refuse us", |t| {
        t.nodes.values().all(|n| n.error.as_ref().is_some_and(|e| e.contains("28P01")))
    })
    .await;
    assert!(
        matches!(&topology.verdict, Verdict::None { why: Why::NoClaimant, .. }),
        "{}",
        topology.verdict
    );
    let told = format!("{topology:?}");
    assert!(told.contains("check user, password and database"), "{told}");
    assert!(!told.contains("hunter2-planted"), "{told}");
}
