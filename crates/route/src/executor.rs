//! sqlx's traits for `&ReplicaSet`: everything that takes a `&PgPool` through them takes a `&ReplicaSet`.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_stream::try_stream;
use futures_core::future::BoxFuture;
use futures_core::stream::{BoxStream, Stream};
use futures_util::{StreamExt, TryStreamExt};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Acquire, Either, Execute, Executor, Postgres, SqlStr, Transaction};
use tokio::runtime::Handle;
use tokio::task::consume_budget;
use tokio::time::{Instant, timeout_at};

use crate::ReplicaSet;
use crate::attempt::Phase;
use crate::lease::SETTLE;
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

/// One result of a statement: how many rows a part of it has touched, or a row.
type Outcome = Result<Either<PgQueryResult, PgRow>, sqlx::Error>;

/// The results one by one. What fails before the first is tried again as a whole statement is; afterwards never.
pub(crate) fn stream<'e>(
    set: ReplicaSet,
    query: Result<Routed, sqlx::Error>,
) -> BoxStream<'e, Outcome> {
    Outcomes { rest: outcomes(set, query), midway: false }.boxed()
}

/// Results on their way to the caller.
///
/// Dropped before its end, what is still to come is read past in the background, so that the connection can be used
/// again, but not for longer than an abandoned statement may take: then the connection is closed. It is done here, result
/// by result, because sqlx does not pause, nor look at a clock, while it finds something to read.
struct Outcomes {
    rest: BoxStream<'static, Outcome>,
    midway: bool,
}

impl Stream for Outcomes {
    type Item = Outcome;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Outcome>> {
        let next = ready!(self.rest.as_mut().poll_next(context));
        self.midway = matches!(next, Some(Ok(_)));
        Poll::Ready(next)
    }
}

impl Drop for Outcomes {
    fn drop(&mut self) {
        if let (true, Ok(runtime)) = (self.midway, Handle::try_current()) {
            let rest = std::mem::replace(&mut self.rest, futures_util::stream::empty().boxed());
            runtime.spawn(read_past(rest));
        }
    }
}

async fn read_past(mut rest: BoxStream<'static, Outcome>) {
    let deadline = Instant::now() + SETTLE;
    let reading = async {
        while let Some(Ok(_)) = rest.next().await
            && Instant::now() < deadline
        {
            consume_budget().await;
        }
    };
    drop(timeout_at(deadline, reading).await);
}

fn outcomes(set: ReplicaSet, query: Result<Routed, sqlx::Error>) -> BoxStream<'static, Outcome> {
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
            lease.streaming(true);
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
            lease.streaming(false);
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
