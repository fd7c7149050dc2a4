//! sqlx's traits for `&ReplicaSet`: everything that takes a `&PgPool` through them takes a `&ReplicaSet`.

use async_stream::try_stream;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Acquire, Either, Execute, Executor, Postgres, SqlStr, Transaction};
use tokio::time::Instant;

use crate::ReplicaSet;
use crate::attempt::Phase;
use crate::operation::{Describe, FetchAll, FetchOptional, Prepare, Routed, Run};
use crate::set::{Answered, writing};

impl<'p> Executor<'p> for &'_ ReplicaSet {
    type Database = Postgres;

    fn execute<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<PgQueryResult, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let (set, query) = (self.clone(), Routed::new(query));
        Box::pin(async move { set.run(&Run, query?).await })
    }

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        stream(self.clone(), Routed::new(query))
    }

    fn fetch_all<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Vec<PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let (set, query) = (self.clone(), Routed::new(query));
        Box::pin(async move { set.run(&FetchAll, query?).await })
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let (set, query) = (self.clone(), Routed::new(query));
        Box::pin(async move { set.run(&FetchOptional, query?).await })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'p: 'e,
    {
        let set = self.clone();
        Box::pin(async move { set.run(&Prepare(parameters), Routed::text_only(sql)).await })
    }

    #[doc(hidden)]
    fn describe<'e>(
        self,
        sql: SqlStr,
    ) -> BoxFuture<'e, Result<sqlx::Describe<Postgres>, sqlx::Error>>
    where
        'p: 'e,
    {
        let set = self.clone();
        Box::pin(async move { set.run(&Describe, Routed::text_only(sql)).await })
    }
}

impl<'a> Acquire<'a> for &'_ ReplicaSet {
    type Database = Postgres;

    type Connection = PoolConnection<Postgres>;

    fn acquire(self) -> BoxFuture<'a, Result<Self::Connection, sqlx::Error>> {
        let set = self.clone();
        Box::pin(async move { ReplicaSet::acquire(&set).await })
    }

    fn begin(self) -> BoxFuture<'a, Result<Transaction<'a, Postgres>, sqlx::Error>> {
        let set = self.clone();
        Box::pin(async move { ReplicaSet::begin(&set).await })
    }
}

/// The results one by one. What fails before the first is tried again as a whole statement is; afterwards never.
pub(crate) fn stream<'e>(
    set: ReplicaSet,
    query: Result<Routed, sqlx::Error>,
) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>> {
    try_stream! {
        let query = query?;
        let mut attempt = set.attempt_at(query.text());
        'attempts: loop {
            let mut lease = set.lease(&mut attempt).await?;
            let mut mark = writing(&attempt);
            let begun = Instant::now();
            lease.sent();
            let mut phase = Phase::Sent;
            let gone = lease.epoch().until_gone();
            tokio::pin!(gone);
            let failure = {
                let mut results = lease.connection()?.fetch_many(query.clone());
                loop {
                    let next = tokio::select! {
                        biased;
                        next = results.try_next() => next,
                        error = &mut gone => Err(error),
                    };
                    match next {
                        Ok(Some(result)) => {
                            phase = Phase::Yielded;
                            yield result;
                        }
                        Ok(None) => break None,
                        Err(error) => break Some(error),
                    }
                }
            };
            let Some(error) = failure else {
                mark.take().inspect_answer();
                lease.finished(begun);
                break 'attempts;
            };
            lease.failed(&error);
            set.after_error(&mut attempt, error, phase, mark.take(), Some(query.text()))?;
        }
    }
    .boxed()
}
