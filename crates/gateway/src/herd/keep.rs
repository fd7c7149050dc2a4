//! The edge: topologies, holds, suspicions and looks go in, one state after the other comes out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use herdsman_node::{Conninfo, NodeName};
use herdsman_watch::{Moment, Topology, Verdict};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::guard::{self, Followers};
use super::line::{Line, Sight};
use super::state::{Circumstances, Standing, standings};
use super::tide::Mark;
use super::{GuardValue, Herd, Loss, Options, Seat, Sever, State};
use crate::config::WriteGuard;

/// What the next state is made from, changed under one lock.
#[derive(Debug, Default)]
pub(super) struct Intake {
    topology: Arc<Topology>,
    seats: Vec<Seat>,
    /// Which seats are still configured.
    here: Vec<bool>,
    standings: Vec<Standing>,
    epochs: Vec<u64>,
    /// Nodes that have failed somebody, and when.
    pub(super) suspects: BTreeMap<usize, Moment>,
    /// Holds of operators.
    pub(super) holds: usize,
    /// A switchover is under way.
    switchover: bool,
    /// It holds writes.
    switching: bool,
    followers: Option<(usize, u64, Followers)>,
}

/// With a guard on, the writer is looked at at least so often, however long the lease …
const LATE: Duration = Duration::from_millis(250);
/// … and that often where its followers are wanted too.
const SENDERS: Duration = Duration::from_millis(100);
/// And not more often, however short it is.
const SOON: Duration = Duration::from_millis(20);

/// The newest guard, and of whom.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(super) node: usize,
    pub(super) epoch: u64,
    pub(crate) value: GuardValue,
    /// The same as the text of the check's parameter.
    pub(crate) text: String,
    /// When the look began that it stands for.
    pub(crate) began: Instant,
}

impl Guard {
    /// Whether it says nothing any more: its deadline is over.
    pub(super) fn is_over(&self, lease: Duration) -> bool {
        self.began.elapsed() >= lease
    }
}

/// A sample of the writer that has begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    number: u64,
    epoch: u64,
    at: Instant,
}

/// What runs since [`Herd::start`].
#[derive(Debug)]
pub(super) struct Running {
    sever: Arc<dyn Sever>,
    stop: CancellationToken,
    lines: std::sync::Mutex<BTreeMap<usize, (Arc<Conninfo>, CancellationToken)>>,
}

impl Herd {
    /// Begins to follow the watcher, and to look at nodes, until `stop`. Must be called inside a tokio runtime, once.
    pub(crate) fn start(self: &Arc<Self>, sever: Arc<dyn Sever>, stop: &CancellationToken) {
        let running = Running { sever, stop: stop.clone(), lines: std::sync::Mutex::default() };
        if self.running.set(running).is_err() {
            return;
        }
        self.lay_lines();
        let herd = Arc::clone(self);
        let topologies = self.watch.subscribe();
        let stop = stop.clone();
        tokio::spawn(async move {
            stop.run_until_cancelled(herd.keep(topologies)).await;
        });
    }

    /// Goes on with another configuration.
    pub(crate) fn reload(self: &Arc<Self>, nodes: &BTreeMap<NodeName, Conninfo>, options: Options) {
        self.options.store(Arc::new(options));
        self.seat(nodes);
        self.lay_lines();
    }

    /// Holds writes for a switchover, or ends that.
    pub(crate) fn switching(&self, begins: bool) {
        self.change(|intake| intake.switching = begins);
    }

    /// Takes the place of the one switchover there may be. Whether it was free.
    pub(crate) fn begin_switching(&self) -> bool {
        let mut intake = self.lock();
        !std::mem::replace(&mut intake.switchover, true)
    }

    /// Gives that place back, and ends the hold if it is still there.
    pub(crate) fn end_switching(&self) {
        self.change(|intake| (intake.switchover, intake.switching) = (false, false));
    }

    /// Whether a switchover holds writes.
    pub(crate) fn is_switching(&self) -> bool {
        self.lock().switching
    }

    /// Has nothing more sent on connections leased to write on this node: it is about to be no primary any more.
    pub(crate) fn retire(&self, node: usize) {
        self.change(|intake| {
            if let Some(epoch) = intake.epochs.get_mut(node) {
                *epoch = epoch.wrapping_add(1);
            }
        });
    }

    /// Gives every configured node a seat.
    pub(super) fn seat(&self, nodes: &BTreeMap<NodeName, Conninfo>) {
        let topology = self.watch.topology();
        self.change(|intake| {
            intake.here = vec![false; intake.seats.len()];
            for (name, conninfo) in nodes {
                let known = intake.seats.iter().position(|seat| seat.name == *name);
                match known {
                    Some(node) => {
                        if let Some(here) = intake.here.get_mut(node) {
                            *here = true;
                        }
                        // Secrets cannot be compared: a reload connects anew.
                        if let Some(seat) = intake.seats.get_mut(node) {
                            seat.conninfo = Arc::new(conninfo.clone());
                        }
                    }
                    None => {
                        let conninfo = Arc::new(conninfo.clone());
                        intake.seats.push(Seat { name: name.clone(), conninfo });
                        intake.here.push(true);
                    }
                }
            }
        });
        self.take(topology);
    }

    async fn keep(&self, mut topologies: watch::Receiver<Arc<Topology>>) {
        loop {
            let topology = Arc::clone(&topologies.borrow_and_update());
            self.take(topology);
            if topologies.changed().await.is_err() {
                return;
            }
        }
    }

    /// Puts a topology in force, then cuts the connections that are lost by it.
    fn take(&self, topology: Arc<Topology>) {
        let why = topology.verdict.to_string();
        let losses = self.change(|intake| {
            let before = std::mem::take(&mut intake.standings);
            intake.standings = standings(&intake.seats, &intake.here, &topology);
            intake.epochs.resize(intake.seats.len(), 1);
            intake.suspects.retain(|node, since| {
                let name = intake.seats.get(*node).map(|seat| &seat.name);
                let seen = name.and_then(|name| topology.nodes.get(name));
                seen.and_then(|view| view.evidence_at).is_none_or(|at| at <= *since)
            });
            intake.topology = topology;
            let mut losses = Vec::new();
            for (node, (old, new)) in before.iter().zip(&intake.standings).enumerate() {
                if old.primary != new.primary
                    && let Some(epoch) = intake.epochs.get_mut(node)
                {
                    *epoch = epoch.wrapping_add(1);
                }
                if old.there && !new.there {
                    losses.push((node, Loss::Node));
                } else if old.primary.is_some() && old.primary != new.primary {
                    losses.push((node, Loss::Role));
                }
            }
            losses
        });
        if self.options.load().write_guard != WriteGuard::Off {
            // Its line goes on by itself once it is there.
            let state = self.state.load();
            let bells = self.bells.load();
            let primary = (0..state.seats.len()).find(|node| state.is_primary(*node));
            if let Some(bell) = primary.and_then(|node| bells.get(node)) {
                bell.look.notify_one();
            }
        }
        let Some(running) = self.running.get() else { return };
        for (node, loss) in losses {
            running.sever.sever(node, loss, &why);
        }
    }

    /// Changes what the state is made from, and puts the next state in force before it returns.
    pub(super) fn change<T>(&self, what: impl FnOnce(&mut Intake) -> T) -> T {
        let mut intake = self.lock();
        let result = what(&mut intake);
        let old = self.state.load();
        let new = intake.state(self.options.load().read_in_split_brain);
        let same = old.plan.writers == new.plan.writers
            && old.plan.readers == new.plan.readers
            && old.epochs == new.epochs
            && old.held == new.held
            && old.seats.len() == new.seats.len()
            && same_verdict(&old.topology, &new.topology);
        self.state.store(Arc::new(new));
        drop(intake);
        if !same {
            self.changed.send_modify(|count| *count = count.wrapping_add(1));
        }
        result
    }

    /// Sees to it that each configured node has a line, with the login it has now.
    fn lay_lines(self: &Arc<Self>) {
        let Some(running) = self.running.get() else { return };
        let Ok(mut lines) = running.lines.lock() else { return };
        let (seats, here) = {
            let intake = self.lock();
            (intake.seats.clone(), intake.here.clone())
        };
        let mut bells = Vec::clone(&self.bells.load());
        bells.resize_with(seats.len(), Arc::default);
        self.bells.store(Arc::new(bells.clone()));
        for (node, ((seat, here), bell)) in seats.iter().zip(here).zip(bells).enumerate() {
            if let Some((info, stop)) = lines.get(&node)
                && (!here || !Arc::ptr_eq(info, &seat.conninfo))
            {
                stop.cancel();
                lines.remove(&node);
            }
            if here && !lines.contains_key(&node) {
                let (info, stop) = (Arc::clone(&seat.conninfo), running.stop.child_token());
                lines.insert(node, (Arc::clone(&info), stop.clone()));
                let line = Line { herd: Arc::clone(self), node, info, bell, stop };
                tokio::spawn(line.run());
            }
        }
    }

    /// Begins a sample of the writer, if the node is it. The number is given out before anything is asked.
    pub(super) fn begin_sample(&self, node: usize) -> Option<Begun> {
        if !self.state.load().is_primary(node) {
            return None;
        }
        let number = self.samples.fetch_add(1, Ordering::SeqCst) + 1;
        // Read after the number was given out: whoever writes elsewhere by a newer state waits for a later number.
        let state = self.state.load();
        let epoch = state.epochs.get(node).copied().filter(|_| state.is_primary(node))?;
        Some(Begun { number, epoch, at: Instant::now() })
    }

    /// Takes in what a look at a node found.
    pub(super) fn seen(&self, node: usize, sample: Option<Begun>, sight: &Sight) {
        let replayed = sight.in_recovery.then(|| sight.replayed());
        let mark = sample.filter(|sample| self.agrees(node, sample.epoch, sight));
        let mark_at = mark.and_then(|sample| {
            Some(Mark {
                number: sample.number,
                system_id: sight.system_id?,
                timeline: sight.timeline?,
                flushed: sight.lsn,
                inserted: sight.inserted?,
            })
        });
        self.water.rcu(|water| {
            let mut water = (**water).clone();
            water.replayed(node, replayed);
            if let Some(mark) = mark_at {
                water.mark(mark);
            }
            water
        });
        let Some(sample) = mark else { return };
        if self.lately_wanted(node) {
            // Readers are asked after the writer: so they have come as far as they could.
            for (other, bell) in self.bells.load().iter().enumerate() {
                if other != node {
                    bell.now.notify_one();
                }
            }
        }
        self.take_guard(node, sample, sight);
    }

    /// What is known of a node's position does not hold any more.
    pub(super) fn forget(&self, node: usize) {
        self.water.rcu(|water| {
            let mut water = (**water).clone();
            water.replayed(node, None);
            water
        });
    }

    /// A new connection of our own, wanted since `since`, was answered: the node is not to be suspected of anything older.
    pub(super) fn opened(&self, node: usize, since: Moment, in_recovery: bool) {
        let expected = self.state.load().is_standby(node);
        if expected == in_recovery {
            self.change(|intake| {
                if intake.suspects.get(&node).is_some_and(|at| *at <= since) {
                    intake.suspects.remove(&node);
                }
            });
        }
    }

    /// How often a node is looked at without being asked to.
    pub(super) fn rhythm(&self, node: usize) -> Option<Duration> {
        let options = self.options.load();
        if !self.state.load().is_primary(node) {
            return None;
        }
        match options.write_guard {
            WriteGuard::Off => None,
            WriteGuard::Deadline => Some((options.guard_lease / 5).clamp(SOON, LATE)),
            WriteGuard::Followers => Some((options.guard_lease / 5).clamp(SOON, SENDERS)),
        }
    }

    /// Whether the node is still what it was when the look began, by its own word and by the verdict of now.
    fn agrees(&self, node: usize, epoch: u64, sight: &Sight) -> bool {
        let state = self.state.load();
        let Verdict::Primary { node: name, timeline, .. } = &state.topology.verdict else {
            return false;
        };
        state.seats.get(node).is_some_and(|seat| seat.name == *name)
            && state.epochs.get(node) == Some(&epoch)
            && !sight.in_recovery
            && sight.timeline == Some(*timeline)
            && state.topology.system_id.is_none_or(|id| sight.system_id == Some(id))
    }

    /// With a guard on, the writer is looked at all the time, which is nothing to the readers.
    fn lately_wanted(&self, node: usize) -> bool {
        self.rhythm(node).is_none() || self.thirst.swap(false, Ordering::AcqRel)
    }

    fn take_guard(&self, node: usize, sample: Begun, sight: &Sight) {
        let options = self.options.load();
        let until = guard::deadline(sight.clock, options.guard_lease);
        let value = match options.write_guard {
            WriteGuard::Off => None,
            WriteGuard::Deadline => Some(GuardValue::Deadline(until)),
            WriteGuard::Followers => self
                .take_followers(node, sample.epoch, sight)
                .map(|pids| GuardValue::Followers { until, pids }),
        };
        let old = self.guard(node);
        // A deadline moves all the time; whoever waits for one waits for the first.
        let news = match (old.as_ref().map(|guard| &guard.value), &value) {
            (
                Some(GuardValue::Followers { pids: old, .. }),
                Some(GuardValue::Followers { pids, .. }),
            ) => old != pids,
            (old, new) => old.is_some() != new.is_some(),
        };
        let (epoch, began) = (sample.epoch, sample.at);
        let guard = value.map(|value| {
            let text = guard::text(&value);
            Arc::new(Guard { node, epoch, value, text, began })
        });
        self.guard.store(guard);
        let doubted = self
            .doubts
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |left| left.checked_sub(1));
        if news || doubted.is_ok() {
            self.changed.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    fn take_followers(&self, node: usize, epoch: u64, sight: &Sight) -> Option<Vec<i32>> {
        let now = self.moment();
        let mut intake = self.lock();
        let topology = Arc::clone(&intake.topology);
        let name = intake.seats.get(node).map(|seat| seat.name.clone())?;
        let mut followers = match intake.followers.take() {
            Some((of, at, followers)) if (of, at) == (node, epoch) => followers,
            _ => Followers::default(),
        };
        let loss = guard::Loss { at: now, version: topology.version };
        followers
            .look(&sight.senders, loss, |loss| guard::confirms(&topology, name.as_str(), loss));
        let value = followers.value();
        intake.followers = Some((node, epoch, followers));
        value
    }
}

impl Intake {
    fn state(&self, read_in_split_brain: bool) -> State {
        let suspects: Vec<usize> = self.suspects.keys().copied().collect();
        let held = if self.switching {
            Some("a switchover is under way")
        } else if self.holds > 0 {
            Some("writes are held by an operator; `herdsman resume` ends that")
        } else {
            None
        };
        State::new(
            self.seats.as_slice().into(),
            &self.here,
            &suspects,
            &self.epochs,
            Arc::clone(&self.topology),
            Circumstances { read_in_split_brain, held },
            Instant::now(),
        )
    }
}

fn same_verdict(old: &Topology, new: &Topology) -> bool {
    std::mem::discriminant(&old.verdict) == std::mem::discriminant(&new.verdict)
        && old.primary() == new.primary()
}
