//! A handle whose `begin` is SeaORM's.

use std::fmt::{Debug, Display};
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;

use sea_orm::entity::prelude::async_trait;
use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, ExecResult, IsolationLevel,
    QueryResult, Statement, StreamTrait, TransactionError, TransactionOptions, TransactionTrait,
};

use crate::ReplicaSet;

/// A [`ReplicaSet`] for programs on SeaORM: the same set, but its `begin()` is SeaORM's, as with a
/// `DatabaseConnection`. A `ReplicaSet`'s own `begin()` gives a transaction of sqlx.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use sea_orm::TransactionTrait;
///
/// let db = herdsman::ReplicaSet::from_hosts("host=db1,db2,db3 dbname=shop user=app")?.sea_orm();
/// let transaction: sea_orm::DatabaseTransaction = db.begin().await?;
/// transaction.commit().await?;
/// println!("{}", db.statistics());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SeaOrm(ReplicaSet);

impl ReplicaSet {
    /// This set as SeaORM's connection.
    #[must_use]
    pub fn sea_orm(&self) -> SeaOrm {
        SeaOrm(self.clone())
    }
}

/// Everything else the set can do.
impl Deref for SeaOrm {
    type Target = ReplicaSet;

    fn deref(&self) -> &ReplicaSet {
        &self.0
    }
}

#[async_trait::async_trait]
impl ConnectionTrait for SeaOrm {
    fn get_database_backend(&self) -> DbBackend {
        DbBackend::Postgres
    }

    async fn execute_raw(&self, stmt: Statement) -> Result<ExecResult, DbErr> {
        self.0.execute_raw(stmt).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.0.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, stmt: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.0.query_one_raw(stmt).await
    }

    async fn query_all_raw(&self, stmt: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.0.query_all_raw(stmt).await
    }
}

impl StreamTrait for SeaOrm {
    type Stream<'a> = <ReplicaSet as StreamTrait>::Stream<'a>;

    fn get_database_backend(&self) -> DbBackend {
        DbBackend::Postgres
    }

    fn stream_raw<'a>(
        &'a self,
        stmt: Statement,
    ) -> Pin<Box<dyn Future<Output = Result<Self::Stream<'a>, DbErr>> + 'a + Send>> {
        self.0.stream_raw(stmt)
    }
}

#[async_trait::async_trait]
impl TransactionTrait for SeaOrm {
    type Transaction = DatabaseTransaction;

    async fn begin(&self) -> Result<DatabaseTransaction, DbErr> {
        TransactionTrait::begin(&self.0).await
    }

    async fn begin_with_config(
        &self,
        isolation_level: Option<IsolationLevel>,
        access_mode: Option<AccessMode>,
    ) -> Result<DatabaseTransaction, DbErr> {
        self.0.begin_with_config(isolation_level, access_mode).await
    }

    async fn begin_with_options(
        &self,
        options: TransactionOptions,
    ) -> Result<DatabaseTransaction, DbErr> {
        self.0.begin_with_options(options).await
    }

    async fn transaction<F, T, E>(&self, callback: F) -> Result<T, TransactionError<E>>
    where
        F: for<'c> FnOnce(
                &'c DatabaseTransaction,
            ) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>>
            + Send,
        T: Send,
        E: Display + Debug + Send,
    {
        self.0.transaction(callback).await
    }

    async fn transaction_with_config<F, T, E>(
        &self,
        callback: F,
        isolation_level: Option<IsolationLevel>,
        access_mode: Option<AccessMode>,
    ) -> Result<T, TransactionError<E>>
    where
        F: for<'c> FnOnce(
                &'c DatabaseTransaction,
            ) -> Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'c>>
            + Send,
        T: Send,
        E: Display + Debug + Send,
    {
        self.0.transaction_with_config(callback, isolation_level, access_mode).await
    }
}
