//! What the predecessor's own test asked, and what it promised in words.

use futures_util::future::join_all;
use herdsman::ReplicaSet;

use crate::herd::{Herd, on_each_version, sent, until_online};

/// A hundred concurrent reads; returns how many each node was sent.
async fn hundred_reads(db: &ReplicaSet) -> [u64; 3] {
    let nodes = ["write", "read0", "read1"];
    let before = nodes.map(|node| sent(db, node));
    let reads = (0..100).map(|_| async { sqlx::query("SELECT 1 AS one").fetch_one(db).await });
    for read in join_all(reads).await {
        read.unwrap();
    }
    let after = nodes.map(|node| sent(db, node));
    std::array::from_fn(|index| after[index] - before[index])
}

on_each_version! {
    async fn reads_are_shared_move_to_the_survivor_and_then_to_the_writer(version: u32) {
        let herd = Herd::start(version, 2).await;
        let db = herd.given().build().unwrap();
        db.connect_writer().await.unwrap();
        db.connect_readers().await.unwrap();

        let [write, read0, read1] = hundred_reads(&db).await;
        assert!(write == 0 && read0 < 70 && read1 < 70, "{write} {read0} {read1}");

        herd.sandbox.kill("n2").await.unwrap();
        until_online(&db, "read0", false).await;
        assert_eq!(hundred_reads(&db).await, [0, 0, 100]);

        herd.sandbox.kill("n3").await.unwrap();
        until_online(&db, "read1", false).await;
        assert_eq!(hundred_reads(&db).await, [100, 0, 0]);

        herd.sandbox.start("n2").await.unwrap();
        herd.sandbox.start("n3").await.unwrap();
        until_online(&db, "read0", true).await;
        until_online(&db, "read1", true).await;
        let [write, read0, read1] = hundred_reads(&db).await;
        assert!(write == 0 && read0 > 0 && read1 > 0, "{write} {read0} {read1}");
    }
}
