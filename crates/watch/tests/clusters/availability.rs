//! The heartbeat behind availability: written on the proven primary only, and only when somebody wants it.

use std::time::Duration;

use herdsman_watch::{AvailabilityConfig, Heartbeat, HeartbeatSchedule, Topology, Watcher};

use crate::herd::{Herd, on_each_version, setup, until};

fn beats(topology: &Topology, node: &str) -> bool {
    matches!(topology.nodes[node].heartbeat, Heartbeat::Beat(_))
}

async fn table_exists(herd: &Herd) -> bool {
    let admin = herd.sandbox.sql("n1", "postgres").await.unwrap();
    admin.query_one("select to_regclass('public.pgr66_avc') is not null", &[]).await.unwrap().get(0)
}

on_each_version! {
    async fn nothing_is_written_until_somebody_asks_then_every_node_shows_the_beat(version: u32) {
        let herd = Herd::start(version, 1).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!table_exists(&herd).await, "a table was made that nobody asked for");
        herd.watch().availability_wanted();
        herd.until("both nodes show the beat", |t| beats(t, "n1") && beats(t, "n2")).await;
        assert!(table_exists(&herd).await);
        let watch = herd.watch();
        let age = |t: &Topology| match t.nodes["n2"].heartbeat {
            Heartbeat::Beat(at) => watch.now().since(at),
            _ => Duration::MAX,
        };
        herd.sandbox.kill("n1").await.unwrap();
        herd.until("the beat on the standby grows old", |t| age(t) > Duration::from_secs(3) && age(t) < Duration::MAX).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_that_is_switched_off_is_never_written_and_its_absence_is_told() {
    let herd = Herd::start(15, 1).await;
    let availability =
        AvailabilityConfig { heartbeat: HeartbeatSchedule::Never, ..AvailabilityConfig::default() };
    let watcher = Watcher::start(herdsman_watch::Setup {
        availability,
        ..setup(&herd.sandbox, "herdsman", |_| {})
    })
    .unwrap();
    watcher.watch().availability_wanted();
    until(&watcher.watch(), "the table is missing", |t| {
        t.nodes["n1"].heartbeat == Heartbeat::Missing
    })
    .await;
    assert!(!table_exists(&herd).await);
}
