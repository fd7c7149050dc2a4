//! Servers that look right and are not ours.

use std::time::Duration;

use herdsman_node::Role;
use herdsman_watch::{Proof, Why};

use crate::herd::{Herd, never_for, on_each_version, until, watch};

on_each_version! {
    async fn scenario_g_a_new_cluster_at_an_old_address_is_foreign(version: u32) {
        let herd = Herd::start(version, 2).await;
        herd.sandbox.kill("n1").await.unwrap();
        herd.sandbox.promote("n2").await.unwrap();
        herd.until_primary("n2").await;
        herd.sandbox.follow("n3", "n2").await.unwrap();
        herd.sandbox.freshly_initdb("n1").await.unwrap();
        let topology = herd.until("n1 is foreign", |t| t.nodes["n1"].foreign).await;
        assert_eq!(topology.nodes["n1"].role, Role::Unavailable);
        assert!(topology.nodes["n1"].reasons[0].contains("another cluster"), "{topology:#?}");
        let watching = herd.watch();
        never_for(&watching, Duration::from_secs(1), "anyone but n2 was named", |t| {
            t.primary().is_none_or(|n| n.as_str() != "n2")
        }).await;
        // A watcher that starts now goes by the majority.
        let fresh = watch(&herd.sandbox, "herdsman", |_| {});
        until(&fresh.watch(), "n2 is primary and n1 foreign", |t| {
            t.primary().is_some_and(|n| n.as_str() == "n2") && t.nodes["n1"].foreign
        }).await;
    }

    async fn scenario_h_a_restored_copy_that_promoted_itself_is_refused(version: u32) {
        let Herd { sandbox, watcher, .. } = &Herd::start(version, 2).await;
        let _quiet = watcher;
        sandbox.stop("n3").await.unwrap();
        // A copy is known for one when it turns up after the primary's followers have all been known for a while.
        let brief = |config: &mut herdsman_watch::WatchConfig| config.witness_window = Duration::from_secs(1);
        let watcher = watch(sandbox, "herdsman", brief);
        until(&watcher.watch(), "n1 is primary", |t| t.primary().is_some_and(|n| n.as_str() == "n1")).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        sandbox.clone_promoted("n3").await.unwrap();
        let topology = until(&watcher.watch(), "the copy is fenced", |t| t.nodes["n3"].fenced).await;
        assert!(topology.nodes["n3"].timeline > topology.nodes["n1"].timeline, "the copy must be on a newer timeline");
        assert_eq!(topology.primary().map(|n| n.as_str()), Some("n1"), "{topology:#?}");
        // Without having seen n1 before there is no telling, and nobody is guessed.
        let fresh = watch(sandbox, "herdsman", |_| {});
        until(&fresh.watch(), "split brain", |t| {
            matches!(t.verdict, herdsman_watch::Verdict::SplitBrain { .. })
        }).await;
    }

    async fn scenario_i_a_primary_that_refuses_writes_is_not_handed_out(version: u32) {
        let herd = Herd::start(version, 1).await;
        let admin = herd.sandbox.sql("n1", "postgres").await.unwrap();
        admin.batch_execute("alter system set default_transaction_read_only = on").await.unwrap();
        admin.batch_execute("select pg_reload_conf()").await.unwrap();
        let topology = herd.until_none(Why::ReadOnly).await;
        assert_eq!(topology.readers().count(), 1);
        admin.batch_execute("set default_transaction_read_only = off").await.unwrap();
        admin.batch_execute("alter system reset default_transaction_read_only").await.unwrap();
        admin.batch_execute("select pg_reload_conf()").await.unwrap();
        let topology = herd.until_primary("n1").await;
        assert!(matches!(crate::herd::proof(&topology), Some(Proof::Attested | Proof::Incumbent)));
    }
}
