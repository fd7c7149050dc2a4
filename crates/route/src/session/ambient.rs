use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::futures::TaskLocalFuture;

use super::state::{End, Ending, State};
use super::{Mark, Needs, SessionToken};

tokio::task_local! {
    static CURRENT: Session;
}

/// What one user of the database has written, so that it reads it back. Cheap to clone; clones are the same session.
///
/// Used as the ambient session of a task through [`session`] or [`Session::scope`], and usually as long as one request.
/// A longer life is harmless, but a session in which a transaction was handed out reads from the writer until its end.
#[derive(Clone, Default)]
pub struct Session {
    /// Held for a few instructions, and of this session only.
    state: Arc<Mutex<State>>,
}

/// Runs the future in a session: its reads see its own writes.
///
/// Inside another session this is that same session: what is written on either side is seen on the other, at once and
/// even if the future is dropped half-way. For one that shares nothing, use [`Session::new`] and [`Session::scope`].
pub async fn session<F: Future>(future: F) -> F::Output {
    Session::current().unwrap_or_default().scope(future).await
}

impl Session {
    /// A session that has written nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A session that goes on where another, or another process, left off.
    #[must_use]
    pub fn with_token(token: SessionToken) -> Self {
        let session = Self::new();
        session.observe(token);
        session
    }

    /// The session the running task is in, if any.
    ///
    /// A spawned task is in none, until it is given one:
    ///
    /// ```
    /// # use herdsman::session::{Session, session};
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(session(async {
    /// let session = Session::current().unwrap_or_default();
    /// tokio::spawn(session.scope(async { assert!(Session::current().is_some()) })).await.unwrap();
    /// tokio::spawn(async { assert!(Session::current().is_none()) }).await.unwrap();
    /// # }));
    /// ```
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Runs the future with this as the ambient session, whatever session is around.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        self.around(future).await
    }

    /// From now on the session's reads see what the token stands for, too.
    pub fn observe(&self, token: SessionToken) {
        self.state().observe(token);
    }

    /// What stands for everything this session has written and observed; nothing if that is nothing, or if the writer
    /// would have to be asked.
    #[must_use]
    pub fn token(&self) -> Option<SessionToken> {
        match self.ending() {
            Ending::Token(token) => Some(token),
            Ending::Nothing | Ending::Ask | Ending::Unfinished => None,
        }
    }

    /// An autocommitted write was *answered* by the writer: the token is out of date.
    ///
    /// Not before the answer: a read beside it could ask for the position between this call and the commit, and take it
    /// for one that stands for the write. [`Session::writing`] gets this right by itself.
    pub(crate) fn wrote(&self) {
        self.state().wrote();
    }

    /// An autocommitted write is about to be sent.
    pub(crate) fn writing(&self) -> WriteMark {
        self.state().sent();
        WriteMark { session: self.clone(), answered: false }
    }

    /// A transaction was handed out whose commit we cannot see: all reads go to the writer from now on.
    pub(crate) fn began(&self) {
        self.state().began();
    }

    /// A transaction was begun on the writer whose end we shall see: all reads go to the writer until then.
    pub(crate) fn transaction(&self) -> TransactionMark {
        self.state().opened();
        TransactionMark { session: self.clone(), end: End::RolledBack }
    }

    /// What a read must respect now.
    pub(crate) fn needs(&self) -> Needs {
        self.state().needs()
    }

    /// The moment to hand to [`Session::settle`], if the writer's position is to be asked. Take it before asking.
    pub(crate) fn pending(&self) -> Option<Mark> {
        self.state().pending()
    }

    /// The writer's position, asked after `mark`.
    pub(crate) fn settle(&self, mark: Mark, token: SessionToken) {
        self.state().settle(mark, token);
    }

    pub(super) fn ending(&self) -> Ending {
        self.state().ending()
    }

    /// As [`Session::scope`], with a type that can be named.
    pub(super) fn around<F: Future>(self, future: F) -> TaskLocalFuture<Self, F> {
        CURRENT.scope(self, future)
    }

    /// Runs a function with this as the ambient session.
    #[cfg(feature = "tower")]
    pub(super) fn enter<T>(&self, f: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), f)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing can panic half-way through a change, so the state is whole even then.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = *self.state();
        f.debug_struct("Session").field("state", &state).finish()
    }
}

/// An autocommitted write under way. Dropped without an answer, nobody knows whether and when it is committed: the
/// session's reads go to the writer from then on.
#[derive(Debug)]
#[must_use = "dropped at once, it says that the answer was never seen"]
pub(crate) struct WriteMark {
    session: Session,
    answered: bool,
}

impl WriteMark {
    /// The server has answered, with success or with an error of its own.
    pub(crate) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for WriteMark {
    fn drop(&mut self) {
        self.session.state().answered(self.answered);
    }
}

/// A transaction under way. Dropped before [`TransactionMark::committing`] it was rolled back; dropped after it, nobody
/// knows: the session's reads go to the writer from then on.
#[derive(Debug)]
#[must_use = "dropped at once, it says that the transaction was rolled back"]
pub(crate) struct TransactionMark {
    session: Session,
    end: End,
}

impl TransactionMark {
    /// `COMMIT` is about to be sent.
    pub(crate) const fn committing(&mut self) {
        self.end = End::Unknown;
    }

    /// `COMMIT` was acknowledged.
    pub(crate) fn committed(mut self) {
        self.end = End::Committed;
    }

    /// The transaction is rolled back, also where the server has answered `COMMIT` with an error.
    pub(crate) fn rolled_back(mut self) {
        self.end = End::RolledBack;
    }
}

impl Drop for TransactionMark {
    fn drop(&mut self) {
        self.session.state().closed(self.end);
    }
}

#[cfg(test)]
mod tests;
