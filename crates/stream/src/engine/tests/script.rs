//! A server that only exists on paper.

use std::sync::{Arc, Mutex};

use herdsman_node::Lsn;
use herdsman_wal::{Change, Event, Source, Transaction, WalError};
use tokio::sync::Notify;

use crate::engine::Events;
use crate::lanes::fixture::source;

/// Transactions with their changes, in the order of their commits.
pub(super) type Story = Vec<(Arc<Transaction>, Vec<Arc<Change>>)>;

type Hook = Box<dyn Fn(Lsn) + Send>;

/// What the server has, and what it was told. A clone is the same server.
#[derive(Clone)]
pub(super) struct Server {
    transactions: Arc<Story>,
    inner: Arc<Mutex<Inner>>,
    told: Arc<Notify>,
}

#[derive(Default)]
struct Inner {
    acknowledged: Lsn,
    idle: Option<Lsn>,
    message: Option<(Lsn, &'static str)>,
    cut: Option<usize>,
    hook: Option<Hook>,
}

/// A connection to it.
pub(super) struct Script {
    server: Server,
    source: Arc<Source>,
    steps: std::vec::IntoIter<Step>,
    current: Option<Step>,
    ends: bool,
    /// The connection breaks after so many events.
    breaks_after: Option<usize>,
}

enum Step {
    Begin(usize),
    Change(usize, usize),
    Commit(usize),
    Message(Lsn, &'static str),
    Idle(Lsn),
}

pub(super) fn end_of(transaction: &Transaction) -> Lsn {
    Lsn(transaction.commit_lsn.0 + 10)
}

impl Server {
    pub(super) fn new(transactions: Story) -> Self {
        Self {
            transactions: Arc::new(transactions),
            inner: Arc::default(),
            told: Arc::new(Notify::new()),
        }
    }

    pub(super) fn acknowledged(&self) -> Lsn {
        self.inner.lock().unwrap().acknowledged
    }

    /// Says at the end that it has nothing before this position.
    pub(super) fn idle_at(&self, lsn: Lsn) {
        self.inner.lock().unwrap().idle = Some(lsn);
    }

    /// Sends a message of no transaction at the end.
    pub(super) fn message_at(&self, lsn: Lsn, prefix: &'static str) {
        self.inner.lock().unwrap().message = Some((lsn, prefix));
    }

    /// Sends so many events and then nothing.
    pub(super) fn cut_after_events(&self, count: usize) {
        self.inner.lock().unwrap().cut = Some(count);
    }

    /// Calls this with each position that is acknowledged.
    pub(super) fn on_acknowledge(&self, hook: impl Fn(Lsn) + Send + 'static) {
        self.inner.lock().unwrap().hook = Some(Box::new(hook));
    }

    fn last(&self) -> Lsn {
        let inner = self.inner.lock().unwrap();
        let ends = self.transactions.iter().map(|(transaction, _)| end_of(transaction));
        ends.chain(inner.idle).chain(inner.message.map(|(lsn, _)| lsn)).max().unwrap_or_default()
    }

    pub(super) async fn wait_for_all(&self) {
        let last = self.last();
        loop {
            let told = self.told.notified();
            if self.acknowledged() >= last {
                return;
            }
            told.await;
        }
    }
}

impl Script {
    /// Connects: everything comes that was not acknowledged.
    pub(super) fn new(server: &Server) -> Self {
        let inner = server.inner.lock().unwrap();
        let mut steps = Vec::new();
        for (index, (transaction, changes)) in server.transactions.iter().enumerate() {
            if end_of(transaction) <= inner.acknowledged {
                continue;
            }
            steps.push(Step::Begin(index));
            steps.extend((0..changes.len()).map(|change| Step::Change(index, change)));
            steps.push(Step::Commit(index));
        }
        steps.extend(inner.message.map(|(lsn, prefix)| Step::Message(lsn, prefix)));
        steps.extend(inner.idle.map(Step::Idle));
        steps.truncate(inner.cut.unwrap_or(usize::MAX));
        drop(inner);
        Self {
            server: server.clone(),
            source: source(),
            steps: steps.into_iter(),
            current: None,
            ends: false,
            breaks_after: None,
        }
    }

    pub(super) fn ends_by_itself(&mut self) {
        self.ends = true;
    }

    pub(super) fn breaks_after(&mut self, events: usize) {
        self.breaks_after = Some(events);
    }

    pub(super) fn comes_from(&mut self, source: Source) {
        self.source = Arc::new(source);
    }
}

impl Events for Script {
    async fn next(&mut self) -> Result<Event<'_>, WalError> {
        if let Some(left) = &mut self.breaks_after {
            let Some(fewer) = left.checked_sub(1) else {
                let (endpoint, problem) = ("paper:5432".to_owned(), "torn".to_owned());
                return Err(WalError::Lost { endpoint, problem });
            };
            *left = fewer;
        }
        self.current = self.steps.next();
        let transactions = &self.server.transactions;
        match &self.current {
            None => std::future::pending().await,
            Some(Step::Begin(at)) => Ok(Event::Begin(&transactions[*at].0)),
            Some(Step::Change(at, change)) => {
                Ok(Event::Change(transactions[*at].1[*change].view()))
            }
            Some(Step::Commit(at)) => {
                let transaction = &transactions[*at].0;
                Ok(Event::Commit { transaction, end_lsn: end_of(transaction) })
            }
            Some(Step::Message(lsn, prefix)) => {
                Ok(Event::Message { lsn: *lsn, prefix, content: b"text" })
            }
            Some(Step::Idle(lsn)) => Ok(Event::Idle { wal_end: *lsn }),
        }
    }

    fn handled(&self, lsn: Lsn) {
        let mut inner = self.server.inner.lock().unwrap();
        if let Some(hook) = &inner.hook {
            hook(lsn);
        }
        inner.acknowledged = inner.acknowledged.max(lsn);
        self.server.told.notify_waiters();
    }

    fn source(&self) -> &Arc<Source> {
        &self.source
    }

    fn is_finished(&self) -> bool {
        self.ends && self.steps.len() == 0
    }
}
