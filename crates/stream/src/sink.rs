//! Where changes go: one trait, one file below [`sinks`](crate::sinks) for each kind.

use std::sync::Arc;

use async_trait::async_trait;
use herdsman_node::Lsn;
use herdsman_wal::Change;

/// A place that changes are delivered to.
///
/// # Contract
/// - The engine calls [`Sink::open`] before anything else, and again after [`DeliveryError::Unavailable`] where the
///   sink asks for it by failing with [`SinkError::reopen`] set.
/// - What [`Sink::deliver`] returned `Ok` for is **durable** to the degree the sink's page in the documentation says; only
///   then is it acknowledged to PostgreSQL, and after that it never comes again.
/// - Delivery is at least once: after a crash, whole transactions come again, with the same
///   [ids](herdsman_wal::ChangeRef::id). A sink that returns a [`Position`] from `open` is not given anything up to it.
/// - With [`Order::Total`] there is one `deliver` at a time, and batches come in the order of commits. With
///   [`Order::PerKey`] several run at once; two that hold changes of the same key never do.
/// - `deliver` may be dropped while it runs (a shutdown whose grace is over): nothing may be half acknowledged by that.
/// - A sink bounds every network step it takes by a timeout of its own.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// Makes ready for deliveries. A sink that keeps the position itself, together with the data, returns it.
    ///
    /// # Errors
    /// [`SinkError`]; the engine tries again with growing pauses.
    async fn open(&self) -> Result<Option<Position>, SinkError> {
        Ok(None)
    }

    /// Delivers a batch. See the contract above.
    ///
    /// # Errors
    /// [`DeliveryError`] says what of it has not been delivered.
    async fn deliver(&self, batch: &Batch) -> Result<(), DeliveryError>;

    /// Lets go of what is open, after the last delivery. Whatever was delivered is durable already.
    async fn close(&self) {}

    /// Which order it needs.
    fn order(&self) -> Order {
        Order::Total
    }
}

/// Which order a sink needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// All changes in the order of their commits, one batch at a time.
    Total,
    /// Changes of one key in their order; different keys side by side, this many batches at once.
    PerKey {
        /// Batches under way at the same time, at least 1.
        parallel: usize,
    },
}

/// Changes that are delivered together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The changes, in their order. Never empty.
    pub changes: Vec<Arc<Change>>,
    /// Where the stream stands when all of this is delivered. Only with [`Order::Total`].
    pub position: Option<Position>,
}

/// How far a sink is: everything up to and with this change has been delivered to it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Position {
    /// The commit position of the last transaction of which something was delivered.
    pub commit_lsn: Lsn,
    /// How many changes of it were delivered; [`u64::MAX`] for all of it.
    pub changes: u64,
}

/// A batch was not delivered, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The sink cannot take anything: nothing of the batch counts as delivered, all of it is tried again.
    #[error(transparent)]
    Unavailable(SinkError),
    /// All of the batch is delivered but these, in the order of the batch.
    #[error("{} of the batch's changes were not delivered", .0.len())]
    Partly(Vec<Undelivered>),
}

/// A change of a batch that was not delivered.
#[derive(Debug)]
pub struct Undelivered {
    /// Its place in the batch.
    pub index: usize,
    /// Why not.
    pub why: Why,
}

/// Why a change was not delivered.
#[derive(Debug)]
pub enum Why {
    /// It failed and may succeed later: it is tried again, and then a dead letter. Its key waits.
    Failed(SinkError),
    /// It will never be taken: it becomes a dead letter at once.
    Rejected(SinkError),
    /// It was not tried, because an earlier change of the same key was not delivered.
    Behind,
}

/// What a sink says when it cannot. Never holds a secret or a row's content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to {what} {target}: {problem}; {advice}")]
pub struct SinkError {
    /// What was tried, as in "post to".
    pub what: &'static str,
    /// Where, without credentials.
    pub target: String,
    /// What went wrong.
    pub problem: String,
    /// What to do about it.
    pub advice: &'static str,
    /// Whether [`Sink::open`] has to be called before the next try.
    pub reopen: bool,
}
