//! Connections and transactions in the caller's hands.

use std::sync::Arc;

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres, SqlSafeStr, SqlStr, Transaction};

use super::ReplicaSet;
use crate::attempt::{Fault, Phase, fault};
use crate::lease::Epoch;
use crate::policy::Want;
use crate::session::Session;
use crate::{Error, session::TransactionMark};

impl ReplicaSet {
    /// Begins a transaction on the writer. Through [`reader`](Self::reader) it is a read-only one on a reader.
    ///
    /// Everything sent through it stays on one connection; nothing in it is looked at, repeated or sent elsewhere. Within
    /// a [`session`](crate::session()), whose reads must see what is committed here unseen, they go to the writer from
    /// now on; [`unit_of_work`](Self::unit_of_work) leaves them with the readers.
    ///
    /// # Errors
    /// When no node could be connected to, or the server refuses.
    pub async fn begin(&self) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        if self.hand.node == Some(Want::Read) {
            return self.begin_read_only().await;
        }
        self.begin_on(Want::Write, None).await
    }

    /// Begins a read-only transaction on a reader.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub async fn begin_read_only(&self) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        let statement = SqlSafeStr::into_sql_str("BEGIN READ ONLY");
        self.begin_on(self.hand.node.unwrap_or(Want::Read), Some(statement)).await
    }

    /// Begins a transaction with this statement, on a reader if it says `READ ONLY`, else on the writer.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub async fn begin_with(
        &self,
        statement: impl SqlSafeStr,
    ) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        let statement = statement.into_sql_str();
        let want = if begins_read_only(statement.as_str()) { Want::Read } else { Want::Write };
        self.begin_on(self.hand.node.unwrap_or(want), Some(statement)).await
    }

    /// Takes a connection to the writer (or where [`reader`](Self::reader) points) out of the pool.
    ///
    /// # Errors
    /// When no node could be connected to.
    pub async fn acquire(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        let want = self.hand.node.unwrap_or(Want::Write);
        let mut attempt = self.attempt(want);
        let lease = self.lease(&mut attempt).await?;
        self.unseen(want);
        lease.into_inner()
    }

    /// The pool of the node that would be written to now (or of a reader, through [`reader`](Self::reader)), for code
    /// that wants a `PgPool` and nothing else. It stays with that node, whatever becomes of it.
    ///
    /// # Errors
    /// When no node could be connected to.
    pub async fn pool(&self) -> Result<PgPool, sqlx::Error> {
        let want = self.hand.node.unwrap_or(Want::Write);
        let mut attempt = self.attempt(want);
        let lease = self.lease(&mut attempt).await?;
        let pool = lease.epoch().pool.clone();
        lease.done();
        self.unseen(want);
        Ok(pool)
    }

    /// A unit of work on one connection. In a group without `autocommit` it is one transaction: committed if `work`
    /// succeeds, rolled back if it fails. With `autocommit` each statement commits by itself. Through
    /// [`reader`](Self::reader) the transaction is read-only and on a reader.
    ///
    /// Within a [`session`](crate::session()) it is read back like any other write, unless `work` itself turns
    /// `synchronous_commit` off: that is not seen from here. Set it for the role, or use [`begin`](Self::begin).
    ///
    /// ```no_run
    /// # async fn example(db: &herdsman::ReplicaSet) -> Result<(), sqlx::Error> {
    /// let writers = db.group("writers").unwrap_or_else(|| db.writer());
    /// writers
    ///     .unit_of_work(async |connection| {
    ///         sqlx::query("UPDATE stock SET pieces = pieces - 1 WHERE item = 'hay'").execute(&mut *connection).await?;
    ///         sqlx::query("INSERT INTO orders (item) VALUES ('hay')").execute(&mut *connection).await
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The error of `work`, or of taking the connection, or of the commit.
    pub async fn unit_of_work<T, E: From<sqlx::Error>>(
        &self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
    ) -> Result<T, E> {
        if self.inner.autocommit {
            let mut connection = self.acquire().await?;
            return work(&mut connection).await;
        }
        let want = self.hand.node.unwrap_or(Want::Write);
        let statement = (want == Want::Read).then(|| SqlSafeStr::into_sql_str("BEGIN READ ONLY"));
        let (mut transaction, epoch) = self.begin_quietly(want, statement).await?;
        let mark =
            Session::current().filter(|_| want == Want::Write).map(|session| session.transaction());
        let done = work(&mut transaction).await?;
        commit(transaction, mark, &epoch).await?;
        Ok(done)
    }

    async fn begin_on(
        &self,
        want: Want,
        statement: Option<SqlStr>,
    ) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        let (transaction, _) = self.begin_quietly(want, statement).await?;
        self.unseen(want);
        Ok(transaction)
    }

    /// What is written from here on through something handed to the caller is not seen by the session.
    fn unseen(&self, want: Want) {
        if want == Want::Write
            && let Some(session) = Session::current()
        {
            session.began();
        }
    }

    /// Beginning changes nothing, so it may be tried again on another node like anything that was not sent.
    async fn begin_quietly(
        &self,
        want: Want,
        statement: Option<SqlStr>,
    ) -> Result<(Transaction<'static, Postgres>, Arc<Epoch>), sqlx::Error> {
        let mut attempt = self.attempt(want);
        loop {
            let lease = self.lease(&mut attempt).await?;
            let epoch = Arc::clone(lease.epoch());
            let gone = epoch.until_gone();
            let connection = lease.into_inner()?;
            let begun = tokio::select! {
                biased;
                begun = Transaction::begin(connection, statement.clone()) => begun,
                error = gone => Err(error),
            };
            match begun {
                Ok(transaction) => return Ok((transaction, epoch)),
                Err(error) => {
                    self.after_error(&mut attempt, error, Phase::Acquiring, None, None)?;
                }
            }
            if self.is_closed() {
                return Err(Error::Closed.into());
            }
        }
    }
}

/// Commits, and tells the session what became of it. Once `COMMIT` was sent, a lost connection leaves that open.
async fn commit(
    transaction: Transaction<'static, Postgres>,
    mut mark: Option<TransactionMark>,
    epoch: &Epoch,
) -> Result<(), sqlx::Error> {
    if let Some(mark) = &mut mark {
        mark.committing();
    }
    let committed = tokio::select! {
        biased;
        committed = transaction.commit() => committed,
        error = epoch.until_gone() => Err(error),
    };
    match committed {
        Ok(()) => {
            if let Some(mark) = mark {
                mark.committed();
            }
            Ok(())
        }
        Err(error) if fault(&error) == Fault::Connection => {
            epoch.counters.connection_failed(&error);
            Err(Error::OutcomeUnknown { node: epoch.node.clone(), source: Box::new(error) }.into())
        }
        Err(error) => {
            // A server that says no has rolled it back.
            if let Some(mark) = mark {
                mark.rolled_back();
            }
            Err(error)
        }
    }
}

/// Whether a statement that begins a transaction says `READ ONLY`, and a standby can do what else it says.
fn begins_read_only(statement: &str) -> bool {
    let words: Vec<String> = statement
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_uppercase)
        .collect();
    let says = |pair: [&str; 2]| words.windows(2).any(|two| two == pair);
    // A standby knows no serializable transactions.
    let serializable = words.iter().any(|word| word == "SERIALIZABLE");
    says(["READ", "ONLY"]) && !says(["READ", "WRITE"]) && !serializable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_transaction_that_says_so_is_read_only() {
        for yes in
            ["BEGIN READ ONLY", "start transaction isolation level repeatable read, read  only"]
        {
            assert!(begins_read_only(yes), "{yes}");
        }
        for no in [
            "BEGIN",
            "BEGIN READ WRITE",
            "BEGIN READ ONLY, READ WRITE",
            "BEGIN /* readonly */",
            "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY",
            "",
        ] {
            assert!(!begins_read_only(no), "{no}");
        }
    }
}
