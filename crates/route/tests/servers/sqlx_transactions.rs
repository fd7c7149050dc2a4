//! sqlx's transactions on a `ReplicaSet`: whole, on one node, and on the right one.

use herdsman::ReplicaSet;
use sqlx::Connection;

use crate::herd::{Herd, on_newest_version, until_online};
use crate::sqlx_patterns::{add, on_a_standby, shepherd};

on_newest_version! {
    async fn transactions_stay_whole_on_one_node(version: u32) {
        let herd = Herd::start(version, 2).await;
        let db = shepherd(&herd).await;

        let mut transaction = db.begin().await.unwrap();
        let id = add(&mut *transaction, "seen inside").await.unwrap();
        let inside: i64 = sqlx::query_scalar("SELECT count(*) FROM notes").fetch_one(&mut *transaction).await.unwrap();
        let outside: i64 = sqlx::query_scalar("SELECT count(*) FROM notes").fetch_one(&db.writer()).await.unwrap();
        assert_eq!((id, inside, outside), (1, 1, 0));
        // A transaction in a transaction is a savepoint.
        let mut nested = transaction.begin().await.unwrap();
        add(&mut *nested, "undone").await.unwrap();
        nested.rollback().await.unwrap();
        let mut nested = transaction.begin().await.unwrap();
        add(&mut *nested, "kept").await.unwrap();
        nested.commit().await.unwrap();
        transaction.commit().await.unwrap();

        // Left alone, it is rolled back, and its connection is of use again.
        for _ in 0..25 {
            let mut transaction = db.begin().await.unwrap();
            add(&mut *transaction, "forgotten").await.unwrap();
        }
        let texts: Vec<String> =
            sqlx::query_scalar("SELECT text FROM notes ORDER BY id").fetch_all(&db.writer()).await.unwrap();
        assert_eq!(texts, ["seen inside", "kept"]);

        let moved: Result<(), sqlx::Error> = async {
            let mut connection = db.acquire().await?;
            connection.transaction(|transaction| Box::pin(async move {
                add(&mut **transaction, "in a closure").await?;
                Err(sqlx::Error::RowNotFound)
            })).await
        }.await;
        assert!(matches!(moved, Err(sqlx::Error::RowNotFound)));
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM notes").fetch_one(&db.writer()).await.unwrap();
        assert_eq!(count, 2);
    }

    async fn a_transaction_that_says_read_only_is_a_readers(version: u32) {
        let herd = Herd::start(version, 2).await;
        let db = shepherd(&herd).await;
        for statement in ["BEGIN READ ONLY", "START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"] {
            let mut transaction = db.begin_with(statement).await.unwrap();
            assert!(on_a_standby(&mut *transaction).await, "{statement}");
            transaction.commit().await.unwrap();
        }
        for statement in ["BEGIN", "BEGIN ISOLATION LEVEL SERIALIZABLE", "BEGIN READ WRITE"] {
            let mut transaction = db.begin_with(statement).await.unwrap();
            assert!(!on_a_standby(&mut *transaction).await, "{statement}");
            add(&mut *transaction, statement).await.unwrap();
            transaction.commit().await.unwrap();
        }
        let mut transaction = db.begin_read_only().await.unwrap();
        assert!(on_a_standby(&mut *transaction).await);
        let refused = add(&mut *transaction, "refused").await.unwrap_err();
        assert_eq!(refused.as_database_error().unwrap().code().unwrap(), "25006");
        drop(transaction);
        let mut transaction = db.reader().begin().await.unwrap();
        assert!(on_a_standby(&mut *transaction).await);
        drop(transaction);

        // Also with no reader left, where the writer stands in: what was to be a read stays one.
        for (node, name) in [("n2", "read0"), ("n3", "read1")] {
            herd.sandbox.kill(node).await.unwrap();
            until_online(&db, name, false).await;
        }
        for mut transaction in [db.begin_read_only().await.unwrap(), db.reader().begin().await.unwrap()] {
            assert!(!on_a_standby(&mut *transaction).await);
            let refused = add(&mut *transaction, "refused").await.unwrap_err();
            assert_eq!(refused.as_database_error().unwrap().code().unwrap(), "25006");
        }
        // A statement that is no beginning is an error, and the connection is not left in a strange state.
        let error = db.begin_with("SELECT 1").await.unwrap_err();
        assert!(matches!(error, sqlx::Error::BeginFailed), "{error}");
        add(&db, "still well").await.unwrap();
    }

    async fn a_unit_of_work_is_one_transaction_or_one_connection(version: u32) {
        let herd = Herd::start(version, 2).await;
        herd.notes().await;
        let group = |nodes: &[&str], autocommit| herdsman::GroupConfig {
            nodes: nodes.iter().map(|name| name.parse().unwrap()).collect(),
            autocommit,
            ..Default::default()
        };
        let db = herd.given()
            .group("writers", group(&["write"], false))
            .group("loose", group(&["write"], true))
            .build().unwrap();
        let fail = async |db: &ReplicaSet, text: &str| {
            let failed: Result<(), sqlx::Error> = db.unit_of_work(async |connection| {
                add(&mut *connection, text).await?;
                Err(sqlx::Error::RowNotFound)
            }).await;
            assert!(matches!(failed, Err(sqlx::Error::RowNotFound)));
        };
        fail(&db, "undone").await;
        fail(&db.group("writers").unwrap(), "undone").await;
        fail(&db.group("loose").unwrap(), "kept").await;
        let id = db.group("writers").unwrap().unit_of_work(async |connection| {
            add(&mut *connection, "one").await?;
            add(&mut *connection, "two").await
        }).await.unwrap();
        assert!(id > 0);
        let texts: Vec<String> =
            sqlx::query_scalar("SELECT text FROM notes ORDER BY id").fetch_all(&db.writer()).await.unwrap();
        assert_eq!(texts, ["kept", "one", "two"]);
        // A reader's unit of work is a reader's.
        let there: Result<bool, sqlx::Error> = db.reader().unit_of_work(async |connection| {
            Ok(on_a_standby(&mut *connection).await)
        }).await;
        assert!(there.unwrap());
    }
}
