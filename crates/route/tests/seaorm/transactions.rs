//! Transactions of SeaORM: committed, rolled back, nested, read-only, abandoned.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use sea_orm::{
    AccessMode, ActiveModelTrait, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr,
    EntityTrait, IsolationLevel, PaginatorTrait, Statement, TransactionError, TransactionTrait,
};

use crate::entities::shepherd;
use crate::farm::{Farm, named};
use crate::herd::on_newest_version;

/// What the server says in one column.
async fn says(transaction: &DatabaseTransaction, what: &str) -> String {
    let sql = format!("SELECT ({what})::text AS said");
    let row = transaction.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await;
    row.unwrap().unwrap().try_get("", "said").unwrap()
}

async fn shepherds(farm: &Farm) -> u64 {
    shepherd::Entity::find().count(&farm.db.writer()).await.unwrap()
}

on_newest_version! {
    async fn they_commit_and_roll_back_on_the_writer(version: u32) {
        let farm = Farm::start(version).await;
        let db = &farm.db;
        let name = db
            .transaction::<_, String, DbErr>(|transaction| {
                Box::pin(async move {
                    assert_eq!(says(transaction, "pg_is_in_recovery()").await, "false");
                    Ok(named("Ann").insert(transaction).await?.name)
                })
            })
            .await;
        assert_eq!((name.unwrap().as_str(), shepherds(&farm).await), ("Ann", 1));

        let refused = db
            .transaction::<_, (), DbErr>(|transaction| {
                Box::pin(async move {
                    named("Bob").insert(transaction).await?;
                    named("Bob").insert(transaction).await.map(drop)
                })
            })
            .await
            .unwrap_err();
        let TransactionError::Transaction(error) = refused else { panic!("{refused:?}") };
        assert!(error.sql_err().is_some(), "{error:?}");
        assert_eq!(shepherds(&farm).await, 1);

        let transaction = TransactionTrait::begin(db).await.unwrap();
        named("Cid").insert(&transaction).await.unwrap();
        transaction.rollback().await.unwrap();
        let transaction = db.begin_with_config(None, None).await.unwrap();
        named("Di").insert(&transaction).await.unwrap();
        transaction.commit().await.unwrap();
        drop(named("Eve").insert(&TransactionTrait::begin(db).await.unwrap()).await.unwrap());
        assert_eq!(shepherds(&farm).await, 2);
    }

    async fn a_nested_one_can_be_rolled_back_by_itself(version: u32) {
        let farm = Farm::start(version).await;
        let outer = TransactionTrait::begin(&farm.db).await.unwrap();
        named("Ann").insert(&outer).await.unwrap();
        let inner = outer.begin().await.unwrap();
        named("Bob").insert(&inner).await.unwrap();
        inner.rollback().await.unwrap();
        let third = outer.begin().await.unwrap();
        named("Cid").insert(&third).await.unwrap();
        third.commit().await.unwrap();
        outer.commit().await.unwrap();
        let names: Vec<_> = shepherd::Entity::find().all(&farm.db.writer()).await.unwrap();
        assert_eq!(names.iter().map(|each| each.name.as_str()).collect::<Vec<_>>(), ["Ann", "Cid"]);
    }

    async fn a_read_only_one_is_on_a_reader_if_a_standby_can_do_it(version: u32) {
        let farm = Farm::start(version).await;
        use {AccessMode::ReadOnly, IsolationLevel::*};
        for (level, name, standby) in [
            (None, "read committed", "true"),
            (Some(RepeatableRead), "repeatable read", "true"),
            (Some(Serializable), "serializable", "false"),
        ] {
            let transaction = farm.db.begin_with_config(level, Some(ReadOnly)).await.unwrap();
            assert_eq!(says(&transaction, "pg_is_in_recovery()").await, standby, "{level:?}");
            let setting = |name| format!("current_setting('transaction_{name}')");
            assert_eq!(says(&transaction, &setting("isolation")).await, name);
            assert_eq!(says(&transaction, &setting("read_only")).await, "on");
            transaction.commit().await.unwrap();
        }
        let transaction = farm.db.begin_with_config(Some(Serializable), None).await.unwrap();
        assert_eq!(says(&transaction, "pg_is_in_recovery()").await, "false");
        let on_reader = TransactionTrait::begin(&farm.db.reader()).await.unwrap();
        assert_eq!(says(&on_reader, "pg_is_in_recovery()").await, "true");
        assert!(named("Ann").insert(&on_reader).await.is_err());
    }

    async fn abandoned_ones_give_their_connections_back(version: u32) {
        let farm = Farm::start_with(version, 1, |builder| builder.max_connections(4)).await;
        let db = &farm.db;
        for _ in 0..5 {
            join_all((0..4).map(|_| async {
                let transaction = TransactionTrait::begin(db).await.unwrap();
                named("Ann").insert(&transaction).await.ok();
                drop(transaction);
                let reading = db.begin_with_config(None, Some(AccessMode::ReadOnly)).await.unwrap();
                shepherd::Entity::find().all(&reading).await.unwrap();
            }))
            .await;
        }
        let all = join_all((0..4).map(|_| TransactionTrait::begin(db))).await;
        assert!(all.iter().all(Result::is_ok), "{all:?}");
        drop(all);
        assert_eq!(shepherds(&farm).await, 0);
    }

    async fn one_gets_its_connection_although_statements_keep_all_of_them_busy(version: u32) {
        let farm = Farm::start_with(version, 1, |builder| builder.max_connections(4)).await;
        let stop = Arc::new(AtomicBool::new(false));
        let busy: Vec<_> = (0..4)
            .map(|_| {
                let (db, stop) = (farm.db.writer(), Arc::clone(&stop));
                tokio::spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        shepherd::Entity::find().all(&db).await.unwrap();
                    }
                })
            })
            .collect();
        for n in 0..20 {
            let transaction = TransactionTrait::begin(&farm.db).await.unwrap();
            named(&format!("shepherd {n}")).insert(&transaction).await.unwrap();
            transaction.commit().await.unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        join_all(busy).await.into_iter().for_each(Result::unwrap);
        assert_eq!(shepherds(&farm).await, 20);
    }
}
