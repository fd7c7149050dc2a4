//! Your own code as a sink: handlers for all changes or for those of some tables.

mod groups;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::join_all;
use herdsman_wal::{Body, Change, Glob, InvalidGlob};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::FromChange;
use crate::lanes::Behind;
use crate::sink::{Batch, DeliveryError, Order, Sink, SinkError, Undelivered, Why};

/// What a handler says when it cannot: any error.
pub type HandlerError = Box<dyn Error + Send + Sync>;

/// How long one call may take, if nothing else is said.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Calls at the same time, if nothing else is said.
const PARALLEL: usize = 8;

/// Code that is called with each change.
///
/// A change counts as delivered when all its handlers have returned `Ok`. An error, a panic and a call that takes too
/// long are failures: the change is tried again later – all its handlers are – and no later change of the same row is
/// handled before it. So a handler should do no harm when it is called twice with the same change
/// ([`ChangeRef::id`](herdsman_wal::ChangeRef::id) tells).
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Handles a change.
    ///
    /// # Errors
    /// Any error has the change tried again.
    async fn handle(&self, change: &Change) -> Result<(), HandlerError>;

    /// As [`Handler::handle`], for what keeps the change.
    ///
    /// # Errors
    /// As [`Handler::handle`].
    async fn handle_shared(&self, change: &Arc<Change>) -> Result<(), HandlerError> {
        self.handle(change).await
    }
}

/// A closure as a [`Handler`].
///
/// ```
/// use herdsman_stream::{Handlers, handler_fn};
///
/// let handlers = Handlers::new().all(handler_fn(|change| async move {
///     println!("{} {:?}", change.kind().name(), change.view().id());
///     Ok(())
/// }));
/// ```
pub fn handler_fn<F, Fut>(handle: F) -> HandlerFn<F>
where
    F: Fn(Arc<Change>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), HandlerError>> + Send,
{
    HandlerFn(handle)
}

/// See [`handler_fn`].
#[derive(Clone, Copy)]
pub struct HandlerFn<F>(F);

/// Handlers, for all changes or for those of some tables: a [`Sink`] that calls your code.
///
/// ```
/// use async_trait::async_trait;
/// use herdsman_stream::{FromChange, Handler, HandlerError, Handlers};
/// use herdsman_wal::Change;
///
/// struct Audit;
///
/// #[async_trait]
/// impl Handler for Audit {
///     async fn handle(&self, change: &Change) -> Result<(), HandlerError> {
///         println!("{}", change.kind().name());
///         Ok(())
///     }
/// }
///
/// #[derive(FromChange)]
/// #[change(table = "public.users")]
/// struct User {
///     id: i64,
///     #[change(default)] // a row that is gone tells its key only
///     name: String,
/// }
///
/// # fn main() -> Result<(), herdsman_wal::InvalidGlob> {
/// let handlers = Handlers::new()
///     .all(Audit)
///     .table("shop_*.orders", Audit)?
///     .table_of(|user: User, _change| async move {
///         println!("{} is called {}", user.id, user.name);
///         Ok(())
///     })
///     .on_error(|change, problem| eprintln!("{}: {problem}", change.kind().name()));
/// # Ok(())
/// # }
/// ```
pub struct Handlers {
    entries: Vec<Entry>,
    on_error: Vec<OnError>,
    on_log: Vec<OnLog>,
    timeout: Duration,
    parallel: usize,
    permits: Semaphore,
}

type OnError = Box<dyn Fn(&Change, &str) + Send + Sync>;
type OnLog = Box<dyn Fn(&str) + Send + Sync>;

struct Entry {
    tables: Tables,
    handler: Box<dyn Handler>,
}

enum Tables {
    All,
    Matching(Glob),
    Named(Option<(&'static str, &'static str)>),
}

impl Default for Handlers {
    fn default() -> Self {
        Self::new()
    }
}

impl Handlers {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            entries: Vec::new(),
            on_error: Vec::new(),
            on_log: Vec::new(),
            timeout: TIMEOUT,
            parallel: PARALLEL,
            permits: Semaphore::new(PARALLEL),
        }
    }

    /// Adds a handler for all changes, messages included.
    #[must_use]
    pub fn all(self, handler: impl Handler) -> Self {
        self.add(Tables::All, handler)
    }

    /// Adds a handler for the changes of these tables: `schema.table`, with `*` and `?` in either.
    ///
    /// # Errors
    /// [`InvalidGlob`] where the schema or the table is missing.
    pub fn table(self, tables: &str, handler: impl Handler) -> Result<Self, InvalidGlob> {
        Ok(self.add(Tables::Matching(Glob::new(tables)?), handler))
    }

    /// Adds a handler for the rows of one table, read as `T`: the row as it is now, or as it was where it is gone. A row
    /// that cannot be read as `T` is a failure: of a row that is gone only the key is told, so mark the other fields with
    /// `#[change(default)]`, or set `REPLICA IDENTITY FULL` on the table. For changes of no single row, use [`Handlers::table`].
    #[must_use]
    pub fn table_of<T, F, Fut>(self, handle: F) -> Self
    where
        T: FromChange + Send + 'static,
        F: Fn(T, Arc<Change>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        self.add(Tables::Named(T::TABLE), Typed { handle, of: PhantomData::<fn() -> T> })
    }

    /// Bounds one call of a handler; a minute, if nothing is said.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// How many changes of different rows are handled at the same time; 8, if nothing is said.
    #[must_use]
    pub fn parallel(mut self, parallel: usize) -> Self {
        self.parallel = parallel.clamp(1, Semaphore::MAX_PERMITS);
        self.permits = Semaphore::new(self.parallel);
        self
    }

    /// Calls this whenever a handler fails, with the change and what is wrong.
    #[must_use]
    pub fn on_error(mut self, hook: impl Fn(&Change, &str) + Send + Sync + 'static) -> Self {
        self.on_error.push(Box::new(hook));
        self
    }

    /// Calls this with a line for each change that has been handled or has failed.
    #[must_use]
    pub fn on_log(mut self, hook: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.on_log.push(Box::new(hook));
        self
    }

    fn add(mut self, tables: Tables, handler: impl Handler) -> Self {
        self.entries.push(Entry { tables, handler: Box::new(handler) });
        self
    }

    /// Goes through changes that have an order among them.
    async fn go_through(&self, batch: &Batch, indices: Vec<usize>) -> Vec<Undelivered> {
        let mut behind = Behind::default();
        let mut undelivered = Vec::new();
        for index in indices {
            let Some(change) = batch.changes.get(index) else { continue };
            if behind.holds_back(change) {
                behind.add(change);
                undelivered.push(Undelivered { index, why: Why::Behind });
                continue;
            }
            if let Err(problem) = self.call(change).await {
                behind.add(change);
                self.tell(change, &problem);
                let why = Why::Failed(failure(change, problem));
                undelivered.push(Undelivered { index, why });
            }
        }
        undelivered
    }

    /// Calls all handlers of a change, in the order in which they were added.
    async fn call(&self, change: &Arc<Change>) -> Result<(), String> {
        let handlers = self.entries.iter().filter(|entry| entry.tables.matches(change));
        for entry in handlers {
            // Never closed.
            let _permit = self.permits.acquire().await;
            let handling = AssertUnwindSafe(entry.handler.handle_shared(change)).catch_unwind();
            match timeout(self.timeout, handling).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(error))) => return Err(error.to_string()),
                Ok(Err(panic)) => return Err(format!("the handler panicked: {}", said(&*panic))),
                Err(_) => {
                    return Err(format!("the handler took longer than {:?}", self.timeout));
                }
            }
        }
        self.log(|| format!("handled {}", title(change)));
        Ok(())
    }

    fn tell(&self, change: &Change, problem: &str) {
        self.on_error.iter().for_each(|hook| hook(change, problem));
        self.log(|| format!("failed to handle {}: {problem}", title(change)));
    }

    fn log(&self, line: impl FnOnce() -> String) {
        if !self.on_log.is_empty() {
            let line = line();
            self.on_log.iter().for_each(|hook| hook(&line));
        }
    }
}

#[async_trait]
impl Sink for Handlers {
    async fn deliver(&self, batch: &Batch) -> Result<(), DeliveryError> {
        // What has no order within the batch goes side by side.
        let groups = groups::split(&batch.changes);
        let runs = groups.into_iter().map(|indices| self.go_through(batch, indices));
        let mut undelivered: Vec<_> = join_all(runs).await.into_iter().flatten().collect();
        if undelivered.is_empty() {
            return Ok(());
        }
        undelivered.sort_unstable_by_key(|one| one.index);
        Err(DeliveryError::Partly(undelivered))
    }

    fn order(&self) -> Order {
        Order::PerKey { parallel: self.parallel }
    }
}

#[async_trait]
impl<F, Fut> Handler for HandlerFn<F>
where
    F: Fn(Arc<Change>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), HandlerError>> + Send,
{
    async fn handle(&self, change: &Change) -> Result<(), HandlerError> {
        (self.0)(Arc::new(change.clone())).await
    }

    async fn handle_shared(&self, change: &Arc<Change>) -> Result<(), HandlerError> {
        (self.0)(Arc::clone(change)).await
    }
}

/// A closure that takes rows as a struct.
struct Typed<T, F> {
    handle: F,
    of: PhantomData<fn() -> T>,
}

#[async_trait]
impl<T, F, Fut> Handler for Typed<T, F>
where
    T: FromChange + Send + 'static,
    F: Fn(T, Arc<Change>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    async fn handle(&self, change: &Change) -> Result<(), HandlerError> {
        self.handle_shared(&Arc::new(change.clone())).await
    }

    async fn handle_shared(&self, change: &Arc<Change>) -> Result<(), HandlerError> {
        let handling = {
            let view = change.view();
            let Some(row) = T::new_of(&view).or_else(|| T::old_of(&view)) else { return Ok(()) };
            (self.handle)(row?, Arc::clone(change))
        };
        handling.await
    }
}

impl Tables {
    /// Schema and table both have to match.
    fn matches(&self, change: &Change) -> bool {
        let named = |schema: &str, table: &str| match self {
            Self::All => true,
            Self::Matching(glob) => glob.matches(schema, table),
            Self::Named(name) => name.is_none_or(|name| name == (schema, table)),
        };
        match change.view().body {
            Body::Truncate { tables, .. } => tables.iter().any(|t| named(&t.schema, &t.name)),
            _ => match change.table() {
                Some(table) => named(&table.schema, &table.name),
                None => matches!(self, Self::All),
            },
        }
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handlers")
            .field("handlers", &self.entries.len())
            .field("timeout", &self.timeout)
            .field("parallel", &self.parallel)
            .finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for HandlerFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandlerFn")
    }
}

fn failure(change: &Change, problem: String) -> SinkError {
    SinkError {
        what: "handle",
        target: title(change),
        problem,
        advice: "correct the handler, then replay the change if it has become a dead letter",
        reopen: false,
    }
}

/// Names a change for people, without its content.
fn title(change: &Change) -> String {
    let (commit_lsn, ordinal) = change.view().id();
    let kind = change.kind().name();
    match change.table() {
        Some(table) => format!("{kind} of {table} ({commit_lsn}, change {ordinal})"),
        None => format!("{kind} ({commit_lsn}, change {ordinal})"),
    }
}

/// What a panic said.
fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
