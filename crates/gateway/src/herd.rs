//! Who may be used for what right now: the newest topology as plans that every checkout reads without a lock.
//!
//! The decisions are pure (`state`, `choose`, `tide`, `guard`); around them stand the keeper, which follows the watcher,
//! and one line to each node, which looks at positions when somebody wants to read what they wrote.

mod choose;
mod guard;
mod keep;
mod line;
mod state;
#[cfg(test)]
mod tests;
mod tide;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use herdsman::policy::balance::Load;
use herdsman::policy::{Plan, Want};
use herdsman::session::SessionToken;
use herdsman_node::{Conninfo, NodeName};
use herdsman_watch::{Moment, Topology, Verdict, Watch};
use tokio::sync::watch;

pub(crate) use choose::Ask;
#[allow(unused_imports, reason = "the relay sends them ahead of writes")]
pub(crate) use guard::{DEADLINE_SQL, FOLLOWERS_SQL};
pub(crate) use state::State;

use crate::config::{GatewayConfig, Target, WriteGuard};
use crate::wire::Problem;
use crate::wire::error::code;
pub(crate) use keep::Guard;
use keep::{Intake, Running};
use line::Bell;
use tide::Water;

/// How many looks are told of after a guard has failed: about a second of them.
const DOUBTS: u32 = 10;

/// One node as the gateway sees it. Its place in the list never changes; a node that left the configuration keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) name: NodeName,
    pub(crate) conninfo: Arc<Conninfo>,
}

/// What a session has written, as far as its reads are concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Causal {
    /// Number of the first sample of the writer's position that is sure to cover the last write; 0: nothing was written.
    pub(crate) after_sample: u64,
    /// Where that sample was, once it is there.
    pub(crate) token: Option<SessionToken>,
    /// A write was acknowledged before it was flushed (`synchronous_commit = off`): the insert position counts.
    pub(crate) early: bool,
}

/// Where a transaction goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// To this node.
    Node {
        node: usize,
        /// To write there: it was the proven primary at `epoch`.
        writer: bool,
        epoch: u64,
    },
    /// Nowhere yet: wait for `Herd::changes`, as long as `hold` says.
    Wait,
    /// Nowhere.
    Refuse,
}

/// What a guard needs to know (`write_guard`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GuardValue {
    /// Microseconds since 2000-01-01 UTC on the server's own clock, after which a write is not to happen.
    Deadline(i64),
    /// That, and who follows: what a server has not noticed yet, its clock tells.
    Followers {
        /// As with a deadline alone.
        until: i64,
        /// Process ids of the WAL senders, sorted.
        pids: Vec<i32>,
    },
}

/// What of a node is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// All of it: it does not answer, or is not to be used for anything. Every connection there is to be cut.
    Node,
    /// That it is the proven primary. Connections leased to write are to be cut, and no others.
    Role,
}

/// Cuts connections, so that those who wait for an answer there wake up. [`Pools`](crate::pool::Pools) does.
pub(crate) trait Sever: fmt::Debug + Send + Sync {
    /// Called after the state without the node is in force: nobody is sent there again.
    fn sever(&self, node: usize, loss: Loss, why: &str);
}

/// What of the configuration is the herd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) read_in_split_brain: bool,
    pub(crate) write_guard: WriteGuard,
    pub(crate) guard_lease: Duration,
}

impl Options {
    pub(crate) const fn of(config: &GatewayConfig) -> Self {
        Self {
            read_in_split_brain: config.read_in_split_brain,
            write_guard: config.write_guard,
            guard_lease: config.guard_lease,
        }
    }
}

/// Everything that is known of the nodes, for every worker. Reading takes no lock.
#[derive(Debug)]
pub(crate) struct Herd {
    watch: Watch,
    state: ArcSwap<State>,
    /// Counts what those who wait may wait for.
    changed: watch::Sender<u64>,
    intake: Mutex<Intake>,
    options: ArcSwap<Options>,
    /// Who waits for `changed`.
    waiting: AtomicUsize,
    /// Samples that have begun.
    samples: AtomicU64,
    /// Somebody wants to read what they wrote and cannot yet.
    thirst: AtomicBool,
    water: ArcSwap<Water>,
    guard: ArcSwapOption<Guard>,
    /// Looks whose end those who wait are to hear of whatever they find: a guard has failed.
    doubts: AtomicU32,
    bells: ArcSwap<Vec<Arc<Bell>>>,
    running: OnceLock<Running>,
}

impl Herd {
    /// A herd of these nodes under the watcher's newest topology. It follows the next ones from [`Herd::start`] on.
    pub(crate) fn new(
        nodes: &BTreeMap<NodeName, Conninfo>,
        watch: Watch,
        options: Options,
    ) -> Arc<Self> {
        let herd = Self {
            watch,
            state: ArcSwap::default(),
            changed: watch::Sender::new(0),
            intake: Mutex::default(),
            options: ArcSwap::from_pointee(options),
            waiting: AtomicUsize::new(0),
            samples: AtomicU64::new(0),
            thirst: AtomicBool::new(false),
            water: ArcSwap::default(),
            guard: ArcSwapOption::empty(),
            doubts: AtomicU32::new(0),
            bells: ArcSwap::default(),
            running: OnceLock::new(),
        };
        herd.seat(nodes);
        Arc::new(herd)
    }

    /// The nodes by index.
    pub(crate) fn seats(&self) -> Arc<[Seat]> {
        Arc::clone(&self.state.load().seats)
    }

    /// The newest topology, as the plan in force was made from it.
    pub(crate) fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.state.load().topology)
    }

    /// Changes each time the node begins or ceases to be the proven primary, and when a switchover takes the role from it.
    /// A connection taken to write may be used only while this is what it was; a transaction that has sent nothing yet
    /// goes back to the checkout then. A hold alone does not change it: transactions that run may end.
    #[inline]
    pub(crate) fn epoch(&self, node: usize) -> u64 {
        self.state.load().epochs.get(node).copied().unwrap_or_default()
    }

    /// Whether no transaction that writes may begin now, also on a connection that the client has kept.
    #[inline]
    pub(crate) fn is_held(&self) -> bool {
        self.state.load().held.is_some()
    }

    /// Where a transaction goes. `load` tells how busy each node is.
    #[inline]
    pub(crate) fn choose(
        &self,
        want: Want,
        target: &Target,
        group: Option<&Arc<[NodeName]>>,
        causal: &mut Causal,
        tried: &[usize],
        load: impl Fn(usize) -> Load,
    ) -> Choice {
        let state = self.state.load();
        let random = fastrand::u64(..);
        if !causal.needs() {
            let ask = Ask { want, target, group, causal, tried };
            return choose::choose(&state, None, &ask, load, random);
        }
        let water = self.water.load();
        water.settle(causal);
        let ask = Ask { want, target, group, causal, tried };
        let choice = choose::choose(&state, Some(&water), &ask, load, random);
        let at_reader = matches!(choice, Choice::Node { node, .. } if !state.is_primary(node));
        if want == Want::Read && !at_reader && !state.plan.readers.is_empty() {
            self.ring();
        }
        choice
    }

    /// Why [`Herd::choose`] says that there is nowhere to go, for the client.
    pub(crate) fn problem(
        &self,
        want: Want,
        target: &Target,
        group: Option<&Arc<[NodeName]>>,
        causal: &Causal,
    ) -> Problem {
        let state = self.state.load();
        let (what, reasons) = match (want, target) {
            (_, Target::Node(name)) => ("this node cannot be used now", state.why_not(name)),
            (_, Target::Writers) => {
                ("no node of the group can be used now", state.topology.verdict.to_string())
            }
            (Want::Write, Target::Split | Target::Writer) | (Want::Read, Target::Writer) => (
                "nobody may be written to now",
                state.plan_of(group, |plan| plan.no_writer.clone()),
            ),
            (_, Target::Reader | Target::Split) => {
                let late = if causal.needs() {
                    "no standby is known to have what this session wrote; "
                } else {
                    ""
                };
                let reasons =
                    |plan: &Plan| format!("{late}{}", once([&plan.no_writer, &plan.no_reader]));
                ("nobody may be read now", state.plan_of(group, reasons))
            }
        };
        let kind = match (&state.topology.verdict, state.held) {
            (_, Some(_)) => "held",
            (Verdict::SplitBrain { .. }, None) => "split brain",
            (Verdict::None { .. }, None) => "no primary",
            (Verdict::Primary { .. }, None) => "not usable",
        };
        Problem::new(code::CANNOT_CONNECT_NOW, format!("{what}: {reasons}"))
            .detail(format!("state: {kind}, topology version {}", state.topology.version))
            .hint("try again; `herdsman status` shows every node")
    }

    /// Changes when [`Herd::choose`] may say something else.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// How many wait for a change.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Takes a place among those who wait, of which there are at most `most`; `None` where all are taken. Dropping it
    /// gives it back.
    pub(crate) fn queue(&self, most: usize) -> Option<Place<'_>> {
        let place = Place(self);
        (self.waiting.fetch_add(1, Ordering::AcqRel) < most).then_some(place)
    }

    /// Marks a write acknowledged now.
    #[inline]
    pub(crate) fn wrote(&self, causal: &mut Causal, early: bool) {
        causal.write(self.samples.load(Ordering::SeqCst), early);
        if !self.state.load().plan.readers.is_empty() {
            self.thirst.store(true, Ordering::Release);
            for bell in self.bells.load().iter() {
                bell.later.notify_one();
            }
        }
    }

    /// Whether a connection to this node, chosen at `epoch`, may still be used for a transaction that has not begun.
    #[inline]
    pub(crate) fn is_still(&self, node: usize, writer: bool, epoch: u64) -> bool {
        let state = self.state.load();
        let held = state.held.is_some();
        if writer {
            return !held && state.epochs.get(node) == Some(&epoch);
        }
        // Who reads on a primary that is about to be stopped would be cut off there.
        !(held && state.is_primary(node))
    }

    /// What the guard of a write on `node` is, if that is known.
    pub(crate) fn guard(&self, node: usize) -> Option<Arc<Guard>> {
        let guard = self.guard.load_full().filter(|guard| guard.node == node)?;
        let over = guard.is_over(self.options.load().guard_lease);
        (!over && guard.epoch == self.epoch(node)).then_some(guard)
    }

    /// A guard has refused a write (22012), so nothing was done: looks at the node at once. Those who wait for
    /// [`Herd::changes`] hear of this look and the next few, whether there is another value or not: it may have come
    /// before they began to wait.
    pub(crate) fn guard_failed(&self, node: usize) {
        self.doubts.store(DOUBTS, Ordering::Release);
        if let Some(bell) = self.bells.load().get(node) {
            bell.now.notify_one();
        }
    }

    /// No transaction that writes begins from now on, until as many [`Herd::resume`]. Returns how many holds there are.
    pub(crate) fn hold(&self) -> usize {
        self.change(|intake| {
            intake.holds = intake.holds.saturating_add(1);
            intake.holds
        })
    }

    /// Takes one hold back. Returns how many are left.
    pub(crate) fn resume(&self) -> usize {
        self.change(|intake| {
            intake.holds = intake.holds.saturating_sub(1);
            intake.holds
        })
    }

    /// Evidence from the data path: a connection to the node could not be made, broke, or the server said that it is
    /// shutting down, read-only, or no longer in recovery. Nothing new is sent there until the watcher has seen it well
    /// since, or a new connection of our own shows at once that it is.
    pub(crate) fn suspect(&self, node: usize) {
        let at = self.moment();
        self.change(|intake| intake.suspects.insert(node, at));
        if let Some(bell) = self.bells.load().get(node) {
            bell.knock.notify_one();
        }
    }

    /// Has every node's position looked at soon.
    fn ring(&self) {
        self.thirst.store(true, Ordering::Release);
        for bell in self.bells.load().iter() {
            bell.look.notify_one();
        }
    }

    fn moment(&self) -> Moment {
        self.watch.now()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Intake> {
        // What panicked inside did not leave it half changed.
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reasons of two lists, each once: a node that can neither be written to nor read is in both.
fn once(lists: [&str; 2]) -> String {
    let mut said: Vec<&str> = Vec::new();
    for reason in lists.into_iter().flat_map(|list| list.split("; ")) {
        if !reason.is_empty() && !said.contains(&reason) {
            said.push(reason);
        }
    }
    said.join("; ")
}

/// A place among those who wait for a change.
#[derive(Debug)]
pub(crate) struct Place<'a>(&'a Herd);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}
