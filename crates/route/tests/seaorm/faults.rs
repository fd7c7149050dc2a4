//! Nodes that go away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use herdsman::Error;
use sea_orm::{
    AccessMode, ActiveModelTrait, DbErr, EntityTrait, PaginatorTrait, TransactionError,
    TransactionTrait,
};

use crate::entities::shepherd;
use crate::farm::{Farm, named};
use crate::herd::{on_each_version, until, until_online};

on_each_version! {
    async fn no_find_fails_when_a_reader_is_killed(version: u32) {
        let farm = Farm::start_with(version, 2, |builder| builder).await;
        farm.shepherd("Ann").await;
        let done = Arc::new(AtomicU32::new(0));
        let tasks: Vec<_> = (0..10)
            .map(|_| {
                let (db, done) = (farm.db.clone(), Arc::clone(&done));
                tokio::spawn(async move {
                    for n in 0..100 {
                        let found = if n % 10 == 0 {
                            let read = db.begin_with_config(None, Some(AccessMode::ReadOnly)).await;
                            drop(read.unwrap());
                            shepherd::Entity::find().count(&db).await.unwrap()
                        } else {
                            shepherd::Entity::find().all(&db).await.unwrap().len() as u64
                        };
                        assert_eq!(found, 1);
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        until("some are done", async || done.load(Ordering::Relaxed) >= 200).await;
        farm.herd.sandbox.kill("n2").await.unwrap();
        assert!(done.load(Ordering::Relaxed) < 1000, "it was killed too late to show anything");
        join_all(tasks).await.into_iter().for_each(Result::unwrap);
        assert_eq!(done.load(Ordering::Relaxed), 1000);
    }

    async fn a_commit_to_a_writer_that_falls_silent_is_told_to_be_unknown(version: u32) {
        let farm = Arc::new(Farm::start(version).await);
        let freezing = Arc::clone(&farm);
        let error = farm
            .db
            .transaction::<_, (), DbErr>(move |transaction| {
                Box::pin(async move {
                    named("Ann").insert(transaction).await?;
                    freezing.herd.sandbox.freeze("n1").await.unwrap();
                    Ok(())
                })
            })
            .await
            .unwrap_err();
        let TransactionError::Connection(error) = error else { panic!("{error:?}") };
        let ours = Error::of_db_err(&error);
        assert!(matches!(ours, Some(Error::OutcomeUnknown { node, .. }) if node.as_str() == "write"), "{error:?}");
        assert!(farm.db.statistics().nodes["write"].connection_error_count > 0);
        farm.herd.sandbox.thaw("n1").await.unwrap();
    }

    async fn a_lost_writer_fails_in_words_and_comes_back(version: u32) {
        let farm = Farm::start_with(version, 1, |builder| builder.writer_wait(Duration::ZERO)).await;
        let db = &farm.db;
        farm.herd.sandbox.kill("n1").await.unwrap();
        until_online(db, "write", false).await;
        let insert = named("Ann").insert(db).await.unwrap_err();
        assert!(matches!(insert, DbErr::Conn(_)), "{insert:?}");
        assert!(Error::of_db_err(&insert).unwrap().nothing_happened(), "{insert:?}");
        let begin = TransactionTrait::begin(db).await.unwrap_err();
        assert!(Error::of_db_err(&begin).unwrap().nothing_happened(), "{begin:?}");
        assert!(Error::of_db_err(&db.sea_orm_writer().await.unwrap_err()).is_some());
        assert_eq!(shepherd::Entity::find().count(db).await.unwrap(), 0);

        farm.herd.sandbox.start("n1").await.unwrap();
        until_online(db, "write", true).await;
        named("Ann").insert(db).await.unwrap();

        db.close().await;
        let closed = shepherd::Entity::find().all(db).await.unwrap_err();
        assert!(matches!(Error::of_db_err(&closed), Some(Error::Closed)), "{closed:?}");
        let closed = TransactionTrait::begin(db).await.unwrap_err();
        assert!(matches!(Error::of_db_err(&closed), Some(Error::Closed)), "{closed:?}");
    }
}
