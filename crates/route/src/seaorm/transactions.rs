//! SeaORM's transactions, begun on the right node.

use std::fmt::{Debug, Display};
use std::future::Future;
use std::pin::Pin;

use sea_orm::entity::prelude::async_trait;
use sea_orm::{
    AccessMode, DatabaseTransaction, DbErr, IsolationLevel, TransactionError, TransactionOptions,
    TransactionTrait,
};

use super::begin::{Begun, lost};
use crate::session::{Session, TransactionMark};
use crate::{Error, ReplicaSet};

/// Transactions begin on the writer, read-only ones on a reader. Beginning is tried again elsewhere, within the usual
/// bounds; nothing in a transaction is looked at, counted, repeated or sent elsewhere.
///
/// `db.begin()` is [`ReplicaSet::begin`], which gives a transaction of sqlx; that of [`ReplicaSet::sea_orm`] gives one of
/// SeaORM, and so do `db.begin_with_config(None, None)` and `db.transaction(…)`.
///
/// Within a [`session`](crate::session()) prefer [`transaction`](TransactionTrait::transaction): its commit is seen, so
/// that later reads of the session go to readers again. After any other transaction they stay with the writer.
#[async_trait::async_trait]
impl TransactionTrait for ReplicaSet {
    type Transaction = DatabaseTransaction;

    async fn begin(&self) -> Result<DatabaseTransaction, DbErr> {
        self.begin_with_options(TransactionOptions::default()).await
    }

    async fn begin_with_config(
        &self,
        isolation_level: Option<IsolationLevel>,
        access_mode: Option<AccessMode>,
    ) -> Result<DatabaseTransaction, DbErr> {
        self.begin_with_options(options(isolation_level, access_mode)).await
    }

    async fn begin_with_options(
        &self,
        options: TransactionOptions,
    ) -> Result<DatabaseTransaction, DbErr> {
        let begun = self.begin_somewhere(options).await?;
        if begun.writes
            && let Some(session) = Session::current()
        {
            session.began();
        }
        Ok(begun.transaction)
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
        self.transaction_with_config(callback, None, None).await
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
        let begun = self.begin_somewhere(options(isolation_level, access_mode)).await;
        let Begun { transaction, node, writes } = begun.map_err(TransactionError::Connection)?;
        // Dropped before the commit is sent, it says that everything was rolled back.
        let mut mark = writes.then(Session::current).flatten().map(|session| session.transaction());

        let done = tokio::select! {
            biased;
            done = callback(&transaction) => done,
            error = node.until_gone() => return Err(TransactionError::Connection(lost(&node, error))),
        };
        let value = match done {
            Ok(value) => value,
            Err(error) => {
                let end = self.end(&node, false, transaction.rollback()).await;
                end.map_err(TransactionError::Connection)?;
                return Err(TransactionError::Transaction(error));
            }
        };

        mark.as_mut().map(TransactionMark::committing);
        let end = self.end(&node, writes, transaction.commit()).await;
        judge(mark, &end);
        end.map(|()| value).map_err(TransactionError::Connection)
    }
}

const fn options(
    isolation_level: Option<IsolationLevel>,
    access_mode: Option<AccessMode>,
) -> TransactionOptions {
    TransactionOptions { isolation_level, access_mode, sqlite_transaction_mode: None }
}

/// Tells the session what became of a commit.
fn judge(mark: Option<TransactionMark>, end: &Result<(), DbErr>) {
    let Some(mark) = mark else { return };
    match end {
        Ok(()) => mark.committed(),
        // Dropped as it is, it says that nobody knows.
        Err(error) if matches!(Error::of_db_err(error), Some(Error::OutcomeUnknown { .. })) => {}
        // A server that says no has rolled it back.
        Err(_) => mark.rolled_back(),
    }
}
