//! The set itself: the handle applications hold, and what all handles share.

mod causal;
mod choose;
mod connect;
mod transactions;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub(crate) use choose::{Answered, writing};

use arc_swap::ArcSwap;
use herdsman_watch::{Watch, Watcher};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::Error;
use crate::classify::Classifier;
use crate::config::{Balance, Fallback};
use crate::member::Member;
use crate::policy::{Plan, Rules, Want};
use crate::pulse::Pulse;
use crate::statistics::Statistics;
use crate::{catalogue, keeper};

/// One write node, many read nodes, behind what looks like one `sqlx::PgPool`.
///
/// `&ReplicaSet` is a [`sqlx::Executor`] and [`sqlx::Acquire`]: every statement is looked at and sent to a reader if it
/// is proven to be a plain read, and to the writer if not. It is cheap to clone; all clones are one set. Nothing is
/// connected before it is asked for. When the last handle is dropped, its tasks end and its connections close.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use herdsman::ReplicaSet;
///
/// let db = ReplicaSet::builder()
///     .writer("postgres://app@db1/shop")
///     .reader("postgres://app@db2/shop")
///     .reader("postgres://app@db3/shop")
///     .build()?;
///
/// sqlx::query("INSERT INTO orders (item) VALUES ($1)").bind("hay").execute(&db).await?; // db1
/// let count: i64 = sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(&db).await?; // db2 or db3
/// # Ok(())
/// # }
/// ```
///
/// # Cancel safety
/// A statement whose future is dropped takes its connection out of the pool if it does not come to rest in time; it
/// never leaves a half-read result to the next user.
#[derive(Clone)]
pub struct ReplicaSet {
    pub(crate) inner: Arc<Inner>,
    pub(crate) hand: Hand,
}

/// What the caller has chosen by hand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hand {
    /// Every statement goes to such a node, whatever it is.
    pub(crate) node: Option<Want>,
    /// Writes of one key go to one writer.
    pub(crate) key: Option<u64>,
    /// Statements may be repeated.
    pub(crate) idempotent: bool,
}

/// What all handles of one set share.
pub(crate) struct Inner {
    /// The group's name; empty for the whole set.
    #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "a label of metrics"))]
    pub(crate) name: String,
    pub(crate) members: Vec<Arc<Member>>,
    /// Which of them were given as (writer, reader); empty where roles are discovered.
    pub(crate) roles: Vec<(bool, bool)>,
    pub(crate) rules: Rules,
    pub(crate) settings: Settings,
    pub(crate) classifier: Arc<Classifier>,
    pub(crate) plan: ArcSwap<Plan>,
    replanned: watch::Sender<u64>,
    turn: AtomicU64,
    pub(crate) groups: BTreeMap<String, ReplicaSet>,
    /// Whether a unit of work of this group commits each statement by itself.
    pub(crate) autocommit: bool,
    herd: Arc<Herd>,
    started: OnceLock<()>,
    pub(crate) stop: CancellationToken,
    /// What every statement looks at; to ask `stop` takes a lock.
    closed: AtomicBool,
}

/// What does not change while a set lives.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) balance: Balance,
    pub(crate) fallback: Fallback,
    pub(crate) causal_wait: Duration,
    pub(crate) writer_wait: Duration,
    pub(crate) retries: u32,
}

/// What the groups of one set share: the nodes' pulses and the news of their roles.
pub(crate) struct Herd {
    pub(crate) pulses: Vec<Arc<Pulse>>,
    pub(crate) source: Source,
    pub(crate) stir: watch::Sender<()>,
    started: OnceLock<Option<Watch>>,
    stop: CancellationToken,
    _stop_with_the_last_set: DropGuard,
}

/// Where the roles come from.
pub(crate) enum Source {
    /// They were given.
    Given,
    /// A watcher in this process; begun with the first statement.
    Watcher(Box<herdsman_watch::Setup>, OnceLock<Watcher>),
    /// Somebody else's watch.
    Watch(Watch),
    /// Another process's API.
    Remote(crate::remote::Remote),
}

impl Herd {
    pub(crate) fn new(pulses: Vec<Arc<Pulse>>, source: Source) -> Self {
        let stop = CancellationToken::new();
        Self {
            pulses,
            source,
            stir: watch::channel(()).0,
            started: OnceLock::new(),
            _stop_with_the_last_set: stop.clone().drop_guard(),
            stop,
        }
    }

    /// Begins to look at the nodes, once. Returns the topology where roles are discovered.
    fn start(&self, runtime: &Handle) -> Option<Watch> {
        self.started
            .get_or_init(|| {
                for pulse in &self.pulses {
                    let (pulse, stop, stir) =
                        (Arc::clone(pulse), self.stop.clone(), self.stir.clone());
                    drop(runtime.spawn(pulse.run(stop, stir)));
                }
                match &self.source {
                    Source::Given => None,
                    Source::Watch(watch) => Some(watch.clone()),
                    Source::Remote(remote) => Some(remote.start(runtime, self.stop.clone())),
                    Source::Watcher(setup, running) => match Watcher::start((**setup).clone()) {
                        Ok(watcher) => {
                            let watch = watcher.watch();
                            drop(running.set(watcher));
                            Some(watch)
                        }
                        Err(error) => Some(nobody(&error)),
                    },
                }
            })
            .clone()
    }
}

/// A topology without nodes that says why: the watcher could not begin.
fn nobody(error: &herdsman_watch::StartError) -> Watch {
    let verdict = herdsman_watch::Verdict::None {
        why: herdsman_watch::Why::Starting,
        reason: format!("the watcher could not begin: {error}"),
    };
    let topology = herdsman_watch::Topology { verdict, ..Default::default() };
    Watch::detached(watch::channel(Arc::new(topology)).1)
}

/// The parts of a set, as the builder has put them together.
pub(crate) struct Parts {
    pub(crate) name: String,
    pub(crate) members: Vec<Arc<Member>>,
    pub(crate) roles: Vec<(bool, bool)>,
    pub(crate) rules: Rules,
    pub(crate) settings: Settings,
    pub(crate) classifier: Arc<Classifier>,
    pub(crate) groups: BTreeMap<String, ReplicaSet>,
    pub(crate) autocommit: bool,
    pub(crate) herd: Arc<Herd>,
    pub(crate) hand: Hand,
}

impl From<Parts> for ReplicaSet {
    fn from(parts: Parts) -> Self {
        let stop = CancellationToken::new();
        let inner = Inner {
            name: parts.name,
            members: parts.members,
            roles: parts.roles,
            rules: parts.rules,
            settings: parts.settings,
            classifier: parts.classifier,
            plan: ArcSwap::default(),
            replanned: watch::channel(0).0,
            turn: AtomicU64::new(0),
            groups: parts.groups,
            autocommit: parts.autocommit,
            herd: parts.herd,
            started: OnceLock::new(),
            stop,
            closed: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner), hand: parts.hand }
    }
}

impl Inner {
    /// Whether this member was given as a writer, as a reader.
    pub(crate) fn given(&self, index: usize) -> (bool, bool) {
        self.roles.get(index).copied().unwrap_or((false, false))
    }

    /// Takes a new plan into use.
    pub(crate) fn publish(&self, plan: Plan) {
        if **self.plan.load() != plan {
            tracing::debug!(writers = ?plan.writers, readers = ?plan.readers, "new plan");
            self.plan.store(Arc::new(plan));
            self.replanned.send_modify(|version| *version += 1);
        }
    }

    /// Begins the set's tasks, once, and opens its pools. Every statement comes through here.
    fn start(self: &Arc<Self>) -> Result<(), Error> {
        if self.started.get().is_some() {
            return if self.closed.load(Relaxed) { Err(Error::Closed) } else { Ok(()) };
        }
        let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        self.started.get_or_init(|| {
            for (index, member) in self.members.iter().enumerate() {
                member.renew(!self.given(index).0, false);
            }
            let watch = self.herd.start(&runtime);
            let stir = self.herd.stir.subscribe();
            let topology = watch.map(|watch| watch.subscribe());
            keeper::first_round(self, topology.as_ref());
            drop(runtime.spawn(keeper::keep(
                Arc::downgrade(self),
                stir,
                topology,
                self.stop.clone(),
            )));
            drop(runtime.spawn(catalogue::learn(Arc::downgrade(self), self.stop.clone())));
        });
        Ok(())
    }

    pub(crate) fn member(&self, index: usize) -> Option<&Arc<Member>> {
        self.members.get(index)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
        for member in &self.members {
            drop(member.close());
        }
    }
}

impl ReplicaSet {
    /// The same set with every statement sent to the writer.
    #[must_use]
    pub fn writer(&self) -> Self {
        Self { hand: Hand { node: Some(Want::Write), ..self.hand }, ..self.clone() }
    }

    /// The same set with every statement sent to a reader, also one that does not look like a plain read: the server
    /// refuses those that write, and they are then sent to the writer.
    #[must_use]
    pub fn reader(&self) -> Self {
        Self { hand: Hand { node: Some(Want::Read), ..self.hand }, ..self.clone() }
    }

    /// The same set with writes of this key sent to one and the same writer, for as long as that one is there: where
    /// several nodes take writes, conflicts between them stay away from rows of one key.
    #[must_use]
    pub fn sticky(&self, key: &impl std::hash::Hash) -> Self {
        use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
        let key = BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
        Self { hand: Hand { key: Some(key), ..self.hand }, ..self.clone() }
    }

    /// The same set, told that statements sent through this handle may be carried out twice without harm: a write
    /// whose connection was lost is then repeated, as reads are.
    #[must_use]
    pub fn idempotent(&self) -> Self {
        Self { hand: Hand { idempotent: true, ..self.hand }, ..self.clone() }
    }

    /// The named group: a set of its own over some of the same nodes, with pools of its own.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<Self> {
        self.inner.groups.get(name).cloned()
    }

    /// What each node has done and how it is.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        Statistics::of(&self.inner)
    }

    /// Ends the set's tasks and closes its pools, waiting a few seconds at most for connections in use. Statements
    /// sent afterwards fail with [`Error::Closed`].
    pub async fn close(&self) {
        self.inner.started.get_or_init(|| ());
        self.inner.closed.store(true, Relaxed);
        self.inner.stop.cancel();
        let pools = self.inner.members.iter().filter_map(|member| member.close());
        let closing = pools.map(|epoch| async move { epoch.farewell().await });
        futures_util::future::join_all(closing).await;
        for group in self.inner.groups.values() {
            Box::pin(group.close()).await;
        }
    }

    /// Whether the set was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.closed.load(Relaxed)
    }
}

impl fmt::Debug for ReplicaSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<_> = self.inner.members.iter().map(|member| &member.name).collect();
        f.debug_struct("ReplicaSet")
            .field("nodes", &nodes)
            .field("hand", &self.hand)
            .finish_non_exhaustive()
    }
}
