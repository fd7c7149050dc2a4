//! Reading what was written, while the reader is late.

use herdsman::session;
use herdsman_sandbox::Sandbox;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DbErr, EntityTrait, IntoActiveModel,
    PaginatorTrait, QueryFilter, TransactionTrait,
};

use crate::entities::{sheep, shepherd};
use crate::farm::{Farm, named, sheep_of, to_reader, to_writer};
use crate::herd::{on_newest_version, sent, until};

/// Stops replay on the reader; what it receives from now on cannot be read there.
async fn pause_replay(sandbox: &Sandbox) {
    let admin = sandbox.sql("n2", "postgres").await.unwrap();
    admin.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
    until("replay is paused", async || {
        let row = admin.query_one("SELECT pg_get_wal_replay_pause_state()", &[]).await.unwrap();
        row.get::<_, &str>(0) == "paused"
    })
    .await;
}

async fn resume_replay(sandbox: &Sandbox) {
    let admin = sandbox.sql("n2", "postgres").await.unwrap();
    admin.batch_execute("SELECT pg_wal_replay_resume()").await.unwrap();
    sandbox.wait_replayed().await.unwrap();
}

on_newest_version! {
    async fn a_session_never_reads_less_than_it_wrote(version: u32) {
        let causal_wait = std::time::Duration::from_millis(5);
        let farm = Farm::start_with(version, 1, |builder| builder.causal_wait(causal_wait)).await;
        let db = &farm.db;
        let ann = farm.shepherd("Ann").await;
        let dolly = sheep_of(ann.id, "Dolly", 0).insert(db).await.unwrap();
        farm.herd.sandbox.wait_replayed().await.unwrap();
        pause_replay(&farm.herd.sandbox).await;

        for wool in 1..=200 {
            session(async {
                let mut grown = dolly.clone().into_active_model();
                grown.wool = Set(wool);
                grown.update(db).await.unwrap();
                let found = sheep::Entity::find_by_id(dolly.id).one(db).await.unwrap().unwrap();
                assert_eq!(found.wool, wool);
            })
            .await;
        }
        let stale = to_reader(db, 1, sheep::Entity::find_by_id(dolly.id).one(db)).await.unwrap();
        assert_eq!(stale.wool, 0, "without a session a late reader is read as it is");

        resume_replay(&farm.herd.sandbox).await;
        let before = sent(db, "read0");
        session(async {
            // On a busy machine it often takes longer than `causal_wait` to hear how far the reader is.
            for n in 0..500 {
                let name = format!("shepherd {n}");
                named(&name).insert(db).await.unwrap();
                farm.herd.sandbox.wait_replayed().await.unwrap();
                let one = shepherd::Entity::find().filter(shepherd::Column::Name.eq(name)).one(db);
                assert!(one.await.unwrap().is_some());
                if sent(db, "read0") - before > 10 {
                    break;
                }
            }
        })
        .await;
        assert!(sent(db, "read0") - before > 10, "a reader that has come far enough is read");
    }

    async fn a_transaction_whose_commit_is_seen_lets_the_session_read_from_readers_again(version: u32) {
        let farm = Farm::start(version).await;
        let db = &farm.db;
        session(async {
            pause_replay(&farm.herd.sandbox).await;
            db.transaction::<_, (), DbErr>(|transaction| {
                Box::pin(async move { named("Ann").insert(transaction).await.map(drop) })
            })
            .await
            .unwrap();
            assert_eq!(shepherd::Entity::find().count(db).await.unwrap(), 1);
            resume_replay(&farm.herd.sandbox).await;
            assert_eq!(to_reader(db, 1, shepherd::Entity::find().count(db)).await, 1);

            db.transaction::<_, (), DbErr>(|transaction| {
                Box::pin(async move {
                    named("Bob").insert(transaction).await?;
                    Err(DbErr::Custom("no".to_owned()))
                })
            })
            .await
            .unwrap_err();
            assert_eq!(to_reader(db, 1, shepherd::Entity::find().count(db)).await, 1);
        })
        .await;
    }

    async fn a_transaction_whose_commit_is_not_seen_keeps_the_session_on_the_writer(version: u32) {
        let farm = Farm::start(version).await;
        let db = &farm.db;
        session(async {
            let transaction = TransactionTrait::begin(db).await.unwrap();
            named("Ann").insert(&transaction).await.unwrap();
            transaction.commit().await.unwrap();
            assert_eq!(to_writer(db, 1, shepherd::Entity::find().count(db)).await, 1);
        })
        .await;
        session(async {
            let writer = db.sea_orm_writer().await.unwrap();
            named("Bob").insert(&writer).await.unwrap();
            assert_eq!(to_writer(db, 1, shepherd::Entity::find().count(db)).await, 2);
        })
        .await;
    }
}
