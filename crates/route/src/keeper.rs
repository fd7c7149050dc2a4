//! The one task of a set that turns news – a pulse, a new topology, time passing – into a new plan and new pools.

use std::sync::{Arc, Weak};
use std::time::Duration;

use herdsman_node::Role;
use herdsman_watch::{NodeView, Topology};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::health::Health;
use crate::member::Member;
use crate::policy::{Facts, Lag, Part, Plan, plan};
use crate::pulse::Seen;
use crate::set::Inner;
use crate::trail::Trail;

/// How often slow starts advance and warm connections cool when nothing else happens.
const TICK: Duration = Duration::from_millis(500);

/// What the keeper remembers between two rounds.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    trail: Trail,
    nodes: Vec<Known>,
    /// Leaves the counting of changes to the keeper that comes after.
    quiet: bool,
}

/// A member as it was at the last round.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    losses: u64,
    offline: bool,
    queries: u64,
}

/// Keeps the set's plan current until `stop`, or until the set is gone.
pub(crate) async fn keep(
    set: Weak<Inner>,
    mut stir: watch::Receiver<()>,
    mut topology: Option<watch::Receiver<Arc<Topology>>>,
    stop: CancellationToken,
) {
    let mut keeper = Keeper::default();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ticked = false;
    #[cfg(feature = "metrics")]
    crate::metrics::describe();
    loop {
        let Some(inner) = set.upgrade() else { return };
        let seen = topology.as_mut().map(|topology| Arc::clone(&topology.borrow_and_update()));
        keeper.round(&inner, seen.as_deref());
        if ticked {
            #[cfg(feature = "metrics")]
            crate::metrics::publish(&inner);
            keeper.pass_time(&inner);
        }
        drop(inner);
        let news = async {
            match &mut topology {
                Some(topology) => {
                    tokio::select! { one = stir.changed() => one.is_ok(), one = topology.changed() => one.is_ok() }
                }
                None => stir.changed().await.is_ok(),
            }
        };
        ticked = tokio::select! {
            () = stop.cancelled() => return,
            alive = news => {
                if !alive {
                    return;
                }
                false
            }
            _ = tick.tick() => true,
        };
    }
}

/// The first plan, made before the first statement is routed: nothing is known yet but the roles given.
pub(crate) fn first_round(inner: &Inner, topology: Option<&watch::Receiver<Arc<Topology>>>) {
    let seen = topology.map(|topology| Arc::clone(&topology.borrow()));
    Keeper { quiet: true, ..Keeper::default() }.round(inner, seen.as_deref());
}

impl Keeper {
    /// Looks at everything once, renews the pools that need it and publishes the plan if it is another one.
    fn round(&mut self, inner: &Inner, topology: Option<&Topology>) {
        let now = Instant::now();
        let seen: Vec<Seen> = inner.members.iter().map(|member| member.pulse.seen()).collect();
        self.follow_writer(inner, &seen, now);
        let facts: Vec<Facts> = inner
            .members
            .iter()
            .zip(&seen)
            .enumerate()
            .map(|(index, (member, seen))| self.facts(inner, index, member, seen, topology, now))
            .collect();
        let mut plan = plan(&facts, &inner.rules, now);
        if let Some(topology) = topology.filter(|topology| topology.primary().is_none()) {
            plan.no_writer = format!("{}; {}", topology.verdict, plan.no_writer);
        }
        let after = self.renew(inner, &plan, &seen, topology);
        inner.publish(plan);
        for act in after {
            act();
        }
    }

    /// Warm connections go back to their pools, pools are filled to their minimum, and what is known of a node that was
    /// sent nothing fades.
    fn pass_time(&mut self, inner: &Inner) {
        for (member, known) in inner.members.iter().zip(&mut self.nodes) {
            if let Some(epoch) = member.epoch() {
                epoch.cool();
            }
            if member.pulse.read(|seen| matches!(seen.health, Health::Online { .. })) {
                member.fill();
            }
            let queries = member.counters.queries.load(std::sync::atomic::Ordering::Relaxed);
            if queries == known.queries {
                member.counters.fade();
            }
            known.queries = queries;
        }
    }

    /// With given roles, the positions of the one writer are what readers are compared with.
    fn follow_writer(&mut self, inner: &Inner, seen: &[Seen], now: Instant) {
        let mut writers =
            inner.members.iter().enumerate().filter(|(index, _)| inner.given(*index).0);
        if let (Some((writer, _)), None) = (writers.next(), writers.next())
            && let Some(seen) = seen.get(writer).filter(|seen| seen.in_recovery == Some(false))
            && let Some(position) = seen.position
        {
            self.trail.step(now, position.lsn);
        }
    }

    fn facts(
        &self,
        inner: &Inner,
        index: usize,
        member: &Member,
        seen: &Seen,
        topology: Option<&Topology>,
        now: Instant,
    ) -> Facts {
        let view = topology.map(|topology| (topology, topology.nodes.get(&member.name)));
        let (part, lag) = match view {
            Some((topology, view)) => {
                (part_seen(topology, member, view), view.and_then(|view| view.lag).map(lag_seen))
            }
            None => {
                let (writer, reader) = inner.given(index);
                let standby = seen.in_recovery == Some(true);
                let position = seen.position.filter(|_| standby);
                (
                    Part::Given { writer, reader },
                    position.and_then(|at| self.trail.lag(now, at.lsn)),
                )
            }
        };
        Facts {
            name: member.name.clone(),
            health: seen.health,
            error: seen.error.clone(),
            part,
            in_recovery: seen.in_recovery,
            lag,
            weight: member.weight,
            near: member.near,
        }
    }

    /// Pools are renewed when the node came back, when its connections were lost (so that no statement meets a dead one),
    /// and when it begins or ceases to be a writer: before the plan that sends statements to them is published.
    ///
    /// A node that went offline is cut off, and so is one in whose place another was proven primary: what it still
    /// acknowledges is lost. That is what the returned steps do, after the plan without it is published: whoever is let
    /// go must not be sent there again.
    fn renew<'a>(
        &mut self,
        inner: &'a Inner,
        plan: &Plan,
        seen: &[Seen],
        topology: Option<&Topology>,
    ) -> Vec<Box<dyn FnOnce() + Send + 'a>> {
        let primary = topology.and_then(Topology::primary);
        let mut after: Vec<Box<dyn FnOnce() + Send + 'a>> = Vec::new();
        self.nodes.resize(inner.members.len(), Known::default());
        for (index, ((member, seen), known)) in
            inner.members.iter().zip(seen).zip(&mut self.nodes).enumerate()
        {
            let Some(epoch) = member.epoch() else { continue };
            let read_only = !plan.writes(index) && !inner.given(index).0;
            let offline = matches!(seen.health, Health::Offline { .. });
            let replaced =
                !epoch.read_only && primary.is_some_and(|primary| *primary != member.name);
            let turned = read_only != epoch.read_only;
            if offline && !known.offline {
                after.push(Box::new(|| member.cut()));
            } else if !offline && (known.offline || turned || seen.losses != known.losses) {
                if replaced {
                    after.push(Box::new(move || member.renew(read_only, true)));
                } else {
                    member.renew(read_only, false);
                }
            }
            if offline != known.offline && !self.quiet {
                member.counters.state_changes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if let Some(error) = seen.error.as_ref().filter(|_| offline) {
                    member.counters.note(error);
                }
            }
            (known.losses, known.offline) = (seen.losses, offline);
        }
        after
    }
}

fn part_seen(topology: &Topology, member: &Member, view: Option<&NodeView>) -> Part {
    let primary = topology.primary() == Some(&member.name);
    let Some(view) = view else {
        return Part::Seen {
            primary,
            readable: false,
            reason: "is unknown to the watcher".to_owned(),
        };
    };
    let reason = match (view.role, view.reasons.is_empty()) {
        (Role::Standby, true) => "is a standby".to_owned(),
        (role, true) => format!("is {}", role.as_str()),
        (role, false) => format!("is {} ({})", role.as_str(), view.reasons.join(", ")),
    };
    Part::Seen { primary, readable: view.readable && view.role == Role::Standby, reason }
}

fn lag_seen(lag: herdsman_watch::Lag) -> Lag {
    let time = Duration::try_from_secs_f64(lag.seconds).unwrap_or(Duration::MAX);
    Lag { bytes: lag.bytes, time }
}
