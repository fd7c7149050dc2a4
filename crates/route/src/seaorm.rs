//! SeaORM's traits for [`ReplicaSet`]: everything that takes a connection through them takes a `&ReplicaSet`.
//!
//! Statements go the same way as sqlx's: their text is looked at, a node is chosen, and what may be repeated is. Only
//! transactions are SeaORM's own, on a connection of the right node's pool.

mod begin;
mod failure;
mod handle;
mod transactions;

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;

use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use sea_orm::entity::prelude::async_trait;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult,
    SqlxPostgresConnector, Statement, StreamTrait,
};
use sea_query_sqlx::SqlxValues;
use sqlx::{AssertSqlSafe, Either};

use crate::ReplicaSet;
use crate::executor::stream;
use crate::operation::{FetchAll, FetchOptional, Routed, Run};
use failure::{executing, querying};

pub use handle::SeaOrm;

impl ReplicaSet {
    /// A SeaORM connection to the writer of now, for functions that want a `&DatabaseConnection` and nothing else –
    /// migrations among them:
    ///
    /// ```no_run
    /// # use sea_orm_migration::MigratorTrait;
    /// # async fn example<Migrator: MigratorTrait>(db: &herdsman::ReplicaSet) -> Result<(), sea_orm::DbErr> {
    /// Migrator::up(&db.sea_orm_writer().await?, None).await
    /// # }
    /// ```
    ///
    /// It stays with that node, whatever becomes of it: ask anew for each piece of work. What is sent through it is
    /// neither counted nor repeated, and a [`session`](crate::session()) that has asked for one reads from the writer
    /// from then on, since what is written through it is not seen.
    ///
    /// # Errors
    /// [`DbErr::Conn`] when there is no writer, or it cannot be connected to.
    pub async fn sea_orm_writer(&self) -> Result<DatabaseConnection, DbErr> {
        let pool = self.writer().pool().await.map_err(querying)?;
        Ok(SqlxPostgresConnector::from_sqlx_postgres_pool(pool))
    }
}

/// Reads go to a reader and everything else to the writer, by the statement's text: `User::find().all(&db)` reads from
/// a reader, `user.insert(&db)` and `User::find().lock_exclusive()` go to the writer.
#[async_trait::async_trait]
impl ConnectionTrait for ReplicaSet {
    fn get_database_backend(&self) -> DbBackend {
        DbBackend::Postgres
    }

    async fn execute_raw(&self, stmt: Statement) -> Result<ExecResult, DbErr> {
        let query = routed(stmt).map_err(executing)?;
        self.run(&Run, query).await.map(ExecResult::from).map_err(executing)
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        // Bare text, without arguments: the one form in which a server takes several statements at once.
        let query = Routed::new(AssertSqlSafe(sql.to_owned())).map_err(executing)?;
        self.run(&Run, query).await.map(ExecResult::from).map_err(executing)
    }

    async fn query_one_raw(&self, stmt: Statement) -> Result<Option<QueryResult>, DbErr> {
        let query = routed(stmt).map_err(querying)?;
        let row = self.run(&FetchOptional, query).await.map_err(querying)?;
        Ok(row.map(QueryResult::from))
    }

    async fn query_all_raw(&self, stmt: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let query = routed(stmt).map_err(querying)?;
        let rows = self.run(&FetchAll, query).await.map_err(querying)?;
        Ok(rows.into_iter().map(QueryResult::from).collect())
    }
}

/// Nothing is sent before the stream is polled, so what goes wrong with connecting is the stream's first item.
impl StreamTrait for ReplicaSet {
    type Stream<'a> = BoxStream<'a, Result<QueryResult, DbErr>>;

    fn get_database_backend(&self) -> DbBackend {
        DbBackend::Postgres
    }

    fn stream_raw<'a>(
        &'a self,
        stmt: Statement,
    ) -> Pin<Box<dyn Future<Output = Result<Self::Stream<'a>, DbErr>> + 'a + Send>> {
        let rows = stream(self.clone(), routed(stmt)).filter_map(|result| {
            ready(match result {
                Ok(Either::Right(row)) => Some(Ok(row.into())),
                Ok(Either::Left(_)) => None,
                Err(error) => Some(Err(querying(error))),
            })
        });
        Box::pin(ready(Ok(rows.boxed())))
    }
}

/// SeaORM's statement as one of ours, which can be sent more than once: its text is shared, not copied.
fn routed(stmt: Statement) -> Result<Routed, sqlx::Error> {
    let values = stmt.values.unwrap_or_else(|| sea_orm::Values(Vec::new()));
    Routed::new(sqlx::query_with(AssertSqlSafe(Arc::new(stmt.sql)), SqlxValues(values)))
}
