//! How a transaction of SeaORM gets its connection, and how one ends whose node is lost.
//!
//! SeaORM makes a transaction only from a pool, not from a connection, so a connection chosen as for any statement is
//! given back to the pool first and SeaORM takes it from there.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sea_orm::{
    AccessMode, DatabaseTransaction, DbErr, IsolationLevel, SqlxPostgresConnector,
    TransactionOptions, TransactionTrait,
};
use tokio::time::sleep;

use super::failure::{querying, unwrapped};
use crate::attempt::{Fault, Phase, fault};
use crate::lease::{Epoch, Lease};
use crate::policy::Want;
use crate::{Error, ReplicaSet};

/// How long a transaction waits silently for a connection. Usually it is there at once; later than this, statements
/// that keep theirs between them must be told that somebody waits.
const UNHEARD: Duration = Duration::from_millis(20);

/// A transaction that has begun.
pub(super) struct Begun {
    pub(super) transaction: DatabaseTransaction,
    /// Where.
    pub(super) node: Arc<Epoch>,
    /// Whether it may write.
    pub(super) writes: bool,
}

impl ReplicaSet {
    /// Begins a transaction on the node it belongs on. Beginning changes nothing, so it is tried again on another like
    /// anything that was not sent.
    pub(super) async fn begin_somewhere(
        &self,
        options: TransactionOptions,
    ) -> Result<Begun, DbErr> {
        let mut attempt = self.attempt(self.hand.node.unwrap_or(wanted(&options)));
        loop {
            let lease = self.lease(&mut attempt).await.map_err(|error| querying(error.into()))?;
            let node = Arc::clone(lease.epoch());
            let error = match begin_on(&node, lease, options).await {
                Ok(transaction) => {
                    let read_only = options.access_mode == Some(AccessMode::ReadOnly);
                    let writes = !read_only && !node.read_only;
                    return Ok(Begun { transaction, node, writes });
                }
                Err(error) => unwrapped(error)?,
            };
            self.after_error(&mut attempt, error, Phase::Acquiring, None, None)
                .map_err(querying)?;
            if self.is_closed() {
                return Err(querying(Error::Closed.into()));
            }
        }
    }

    /// Waits for a transaction to end, but not longer than its node is there. `unknown` is whether it may have taken
    /// effect if no answer comes.
    pub(super) async fn end(
        &self,
        node: &Epoch,
        unknown: bool,
        end: impl Future<Output = Result<(), DbErr>>,
    ) -> Result<(), DbErr> {
        let ended = tokio::select! {
            biased;
            ended = end => ended,
            error = node.until_gone() => Err(querying(error)),
        };
        let Err(error) = ended else { return Ok(()) };
        let error = unwrapped(error)?;
        if fault(&error) != Fault::Connection {
            return Err(querying(error));
        }
        self.hold_loss_against(node, &error);
        if !unknown {
            return Err(lost(node, error));
        }
        let (node, source) = (node.node.clone(), Box::new(error));
        Err(querying(Error::OutcomeUnknown { node, source }.into()))
    }

    /// Counts a lost connection and has the node's pulse felt now.
    fn hold_loss_against(&self, node: &Epoch, error: &sqlx::Error) {
        node.counters.errors.fetch_add(1, Ordering::Relaxed);
        node.counters.connection_errors.fetch_add(1, Ordering::Relaxed);
        node.counters.note(error);
        if let Some(member) = self.inner.members.iter().find(|member| member.name == node.node) {
            member.pulse.look_now();
        }
    }
}

/// The error of a transaction whose node was lost before its end.
pub(super) fn lost(node: &Epoch, error: sqlx::Error) -> DbErr {
    querying(Error::Lost { node: node.node.clone(), source: Box::new(error) }.into())
}

/// A standby cannot do serializable transactions, not even read-only ones.
fn wanted(options: &TransactionOptions) -> Want {
    let serializable = options.isolation_level == Some(IsolationLevel::Serializable);
    match options.access_mode {
        Some(AccessMode::ReadOnly) if !serializable => Want::Read,
        _ => Want::Write,
    }
}

/// Gives the lease's connection back to the pool and begins a transaction through the pool.
async fn begin_on(
    node: &Arc<Epoch>,
    lease: Lease,
    options: TransactionOptions,
) -> Result<DatabaseTransaction, DbErr> {
    let begin = async {
        // Waited for: otherwise the pool would open another one meanwhile.
        lease.into_inner().map_err(querying)?.return_to_pool().await;
        let pool = SqlxPostgresConnector::from_sqlx_postgres_pool(node.pool.clone());
        let begin = pool.begin_with_options(options);
        tokio::pin!(begin);
        loop {
            tokio::select! {
                biased;
                begun = &mut begin => return begun,
                () = sleep(UNHEARD) => {}
            }
            // Somebody else took it. A lease is heard by those who keep connections from the pool, and is behind us in
            // the pool's queue; what it gets is for us.
            tokio::select! {
                biased;
                begun = &mut begin => return begun,
                lease = Arc::clone(node).lease() => drop(lease.and_then(Lease::into_inner)),
            }
        }
    };
    tokio::select! {
        biased;
        begun = begin => begun,
        error = node.until_gone() => Err(querying(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_gets_only_transactions_that_a_standby_can_do() {
        let options = |isolation_level, access_mode| TransactionOptions {
            isolation_level,
            access_mode,
            sqlite_transaction_mode: None,
        };
        use {AccessMode::*, IsolationLevel::*};
        for level in [None, Some(ReadCommitted), Some(RepeatableRead), Some(ReadUncommitted)] {
            assert_eq!(wanted(&options(level, Some(ReadOnly))), Want::Read);
            assert_eq!(wanted(&options(level, Some(ReadWrite))), Want::Write);
            assert_eq!(wanted(&options(level, None)), Want::Write);
        }
        assert_eq!(wanted(&options(Some(Serializable), Some(ReadOnly))), Want::Write);
    }
}
