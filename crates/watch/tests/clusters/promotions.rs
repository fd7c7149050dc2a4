//! Promotions while the old primary lives, dies, or comes back: held where it must hold, resolved where proof exists.

use std::time::Duration;

use herdsman_node::{NodeName, Role};
use herdsman_sandbox::RejoinBy;
use herdsman_watch::{Pin, Proof, SplitBrain, Topology, Verdict, Why};

use crate::herd::{Herd, never_for, on_each_version, proof, setup, until, watch};

fn split(topology: &Topology) -> bool {
    matches!(topology.verdict, Verdict::SplitBrain { .. })
}

fn names(topology: &Topology, node: &str) -> bool {
    topology.primary().is_some_and(|n| n.as_str() == node)
}

on_each_version! {
    async fn scenario_b_a_witnessed_promotion_is_followed_while_the_old_primary_lives(version: u32) {
        let herd = Herd::start(version, 2).await;
        herd.sandbox.promote("n2").await.unwrap();
        let topology = herd.until_primary("n2").await;
        assert_eq!(proof(&topology), Some(Proof::WitnessedPromotion));
        assert!(topology.verdict.reason().contains("its history shows"), "{}", topology.verdict);
        let n1 = &topology.nodes["n1"];
        assert!(n1.fenced && n1.role == Role::Unavailable && !n1.readable, "{n1:#?}");
        let watch_on = herd.watch();
        never_for(&watch_on, Duration::from_secs(2), "the old primary came back", |t| names(t, "n1")).await;

        // Whoever did not see it happen has no proof while n3 still follows n1.
        let stranger = watch(&herd.sandbox, "herdsman", |_| {});
        until(&stranger.watch(), "split brain for a fresh watcher", split).await;

        // Scenario D: with every standby behind the newest timeline there is proof for everybody.
        herd.sandbox.rejoin_from("n3", "n2", RejoinBy::RewindElseCopy).await.unwrap();
        let resolved = until(&stranger.watch(), "n2 for the fresh watcher", |t| names(t, "n2")).await;
        // The moment it is accepted it is also attested; either may be the first to be seen here.
        assert!(matches!(proof(&resolved), Some(Proof::Unanimous | Proof::Attested)), "{resolved:#?}");
        assert!(resolved.nodes["n1"].fenced);
        stranger.stop().await;
    }

    async fn scenario_e_a_zombie_that_restarts_and_writes_on_convinces_nobody(version: u32) {
        let herd = Herd::start(version, 2).await;
        herd.sandbox.kill("n1").await.unwrap();
        herd.until_none(Why::NoClaimant).await;
        herd.sandbox.promote("n2").await.unwrap();
        herd.until_primary("n2").await;
        herd.sandbox.follow("n3", "n2").await.unwrap();
        herd.sandbox.wait_streaming("n3").await.unwrap();
        herd.sandbox.start("n1").await.unwrap();
        let zombie = herd.sandbox.sql("n1", "app").await.unwrap();
        zombie.batch_execute("create table z as select generate_series(1, 200000) i").await.unwrap();
        let watch_on = herd.watch();
        never_for(&watch_on, Duration::from_secs(2), "anyone but n2 was named", |t| !names(t, "n2")).await;
        let topology = herd.until("n1 fenced", |t| t.nodes["n1"].fenced).await;
        assert!(topology.nodes["n1"].lsn > topology.nodes["n2"].lsn, "the zombie must be ahead for this to prove much");

        // Rebuilt as a standby it is welcome again, and the fence is gone.
        herd.sandbox.rejoin("n1").await.unwrap();
        let back = herd.until("n1 readable", |t| t.readers().any(|n| n.as_str() == "n1")).await;
        assert!(!back.nodes["n1"].fenced && names(&back, "n2"), "{back:#?}");
    }

    async fn scenario_j_two_promotions_at_once_are_held_until_the_operator_speaks(version: u32) {
        let mut herd = Herd::start(version, 2).await;
        let (a, b) = tokio::join!(herd.sandbox.promote("n2"), herd.sandbox.promote("n3"));
        a.unwrap();
        b.unwrap();
        herd.until("split brain", split).await;
        let watch_on = herd.watch();
        never_for(&watch_on, Duration::from_secs(3), "somebody was guessed", |t| t.primary().is_some()).await;

        let pinned = setup(&herd.sandbox, "herdsman", |config| {
            let node = NodeName::new("n3").unwrap();
            config.pin = Some(Pin { node, system_id: None, min_timeline: None, until: None });
        });
        herd.watcher.reload(pinned).await.unwrap();
        let topology = herd.until_primary("n3").await;
        assert_eq!(proof(&topology), Some(Proof::Pinned));
        // The pin is needed once: its fences remain when it is taken away.
        herd.watcher.reload(setup(&herd.sandbox, "herdsman", |_| {})).await.unwrap();
        let watch_on = herd.watch();
        never_for(&watch_on, Duration::from_secs(2), "another than n3 was named", |t| {
            t.primary().is_some_and(|n| n.as_str() != "n3")
        }).await;
        herd.until_primary("n3").await;
    }

    async fn a_planned_switchover_and_back_needs_no_fence(version: u32) {
        let herd = Herd::start(version, 2).await;
        herd.sandbox.stop("n1").await.unwrap();
        herd.until_none(Why::NoClaimant).await;
        herd.sandbox.promote("n2").await.unwrap();
        let first = herd.until_primary("n2").await;
        herd.sandbox.follow("n3", "n2").await.unwrap();
        herd.sandbox.rejoin("n1").await.unwrap();
        herd.until("both standbys are attached", |t| {
            ["n1", "n3"].iter().all(|s| t.nodes[*s].follows.as_ref().is_some_and(|n| n.as_str() == "n2"))
        }).await;
        herd.sandbox.stop("n2").await.unwrap();
        herd.sandbox.promote("n1").await.unwrap();
        let second = herd.until_primary("n1").await;
        assert!(second.term > first.term);
    }

    async fn a_promotion_behind_a_blackholed_primary_is_followed(version: u32) {
        let herd = Herd::start(version, 2).await;
        herd.sandbox.cut_off("n1").unwrap();
        herd.until_none(Why::NoClaimant).await;
        herd.sandbox.promote("n2").await.unwrap();
        herd.until_primary("n2").await;
        herd.sandbox.reconnect("n1").unwrap();
        let topology = herd.until("n1 is back and fenced", |t| t.nodes["n1"].fenced && t.nodes["n1"].error.is_none()).await;
        assert!(names(&topology, "n2"), "{topology:#?}");
    }

    async fn the_predecessors_rule_hands_nobody_out_while_two_claim(version: u32) {
        let herd = Herd::with(version, 2, |config| config.split_brain = SplitBrain::None).await;
        herd.sandbox.promote("n2").await.unwrap();
        let topology = herd.until("split brain", split).await;
        let primaries: Vec<_> = topology.with_role(Role::Primary).map(|n| n.as_str()).collect();
        assert_eq!(primaries, ["n1", "n2"]);
        herd.sandbox.rejoin("n1").await.unwrap();
        herd.sandbox.rejoin("n3").await.unwrap();
        herd.until_primary("n2").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fences_survive_a_restart_of_the_watcher() {
    let folder = std::env::temp_dir().join(format!("herdsman-state-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("state.json");
    let remembering =
        |config: &mut herdsman_watch::WatchConfig| config.state_file = Some(file.clone());
    let Herd { sandbox, watcher, .. } = Herd::with(15, 2, remembering).await;
    sandbox.promote("n2").await.unwrap();
    until(&watcher.watch(), "n2 is primary", |t| names(t, "n2")).await;
    let saved = async {
        while !std::fs::read_to_string(&file).unwrap_or_default().contains("\"n1\": 1") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::herd::PATIENCE, saved).await.expect("the fence was never saved");
    watcher.stop().await;
    sandbox.kill("n2").await.unwrap();

    let again = watch(&sandbox, "herdsman", remembering);
    let topology =
        until(&again.watch(), "only the fenced n1 claims", |t| t.nodes["n1"].fenced).await;
    assert!(
        matches!(topology.verdict, Verdict::None { why: Why::Fenced, .. }),
        "{}",
        topology.verdict
    );
    let forgetful = watch(&sandbox, "herdsman", |_| {});
    until(&forgetful.watch(), "without the file n1 is taken for the primary", |t| names(t, "n1"))
        .await;
    std::fs::remove_dir_all(&folder).unwrap();
}
