//! What is known of the nodes at one moment, made from the newest topology. Pure.

use std::sync::Arc;

use arc_swap::ArcSwap;
use herdsman::policy::{self, Facts, Health, Part, Plan, Rules};
use herdsman_node::{NodeName, Role};
use herdsman_watch::{NodeView, Topology, Verdict};
use tokio::time::Instant;

use super::Seat;

/// Everything a checkout looks at, replaced as a whole on every change.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) seats: Arc<[Seat]>,
    /// For the whole herd.
    pub(crate) plan: Plan,
    /// By node: see [`Herd::epoch`](super::Herd::epoch).
    pub(crate) epochs: Box<[u64]>,
    pub(crate) topology: Arc<Topology>,
    /// Why nothing may be written now although there is a primary, in words.
    pub(crate) held: Option<&'static str>,
    facts: Vec<Facts>,
    read_in_split_brain: bool,
    groups: ArcSwap<Vec<Group>>,
}

/// A plan for some of the nodes, made when it was first asked for.
#[derive(Clone, Debug)]
struct Group {
    names: Arc<[NodeName]>,
    plan: Arc<Plan>,
}

/// What beside the topology decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances {
    pub(super) read_in_split_brain: bool,
    pub(super) held: Option<&'static str>,
}

/// What one node is, as far as epochs and lost connections are concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// The term in which it is the proven primary.
    pub(super) primary: Option<u64>,
    /// It can be used for something.
    pub(super) there: bool,
}

impl State {
    /// The state under `topology`. `here` says which seats are still configured, `suspects` which nodes have failed
    /// somebody since they were last seen to be well; `now` is the time.
    pub(super) fn new(
        seats: Arc<[Seat]>,
        here: &[bool],
        suspects: &[usize],
        epochs: &[u64],
        topology: Arc<Topology>,
        circumstances: Circumstances,
        now: Instant,
    ) -> Self {
        let facts: Vec<Facts> = seats
            .iter()
            .enumerate()
            .map(|(node, seat)| {
                let here = here.get(node).copied().unwrap_or_default();
                facts(seat, here, suspects.contains(&node), &topology, now)
            })
            .collect();
        let mut state = Self {
            seats,
            plan: Plan::default(),
            epochs: epochs.into(),
            topology,
            held: circumstances.held,
            facts,
            read_in_split_brain: circumstances.read_in_split_brain,
            groups: ArcSwap::default(),
        };
        state.plan = state.plan_for(None, now);
        state
    }

    /// The plan for a group of nodes; `None`: for all of them.
    pub(crate) fn plan_of<T>(
        &self,
        group: Option<&Arc<[NodeName]>>,
        use_it: impl FnOnce(&Plan) -> T,
    ) -> T {
        let Some(names) = group else { return use_it(&self.plan) };
        let same = |group: &&Group| Arc::ptr_eq(&group.names, names) || group.names == *names;
        let groups = self.groups.load();
        if let Some(found) = groups.iter().find(same) {
            return use_it(&found.plan);
        }
        // Without slow starts, the time does not matter.
        let plan = Arc::new(self.plan_for(Some(names), Instant::now()));
        self.groups.rcu(|groups| {
            let mut groups = Vec::clone(groups);
            groups.push(Group { names: Arc::clone(names), plan: Arc::clone(&plan) });
            groups
        });
        use_it(&plan)
    }

    /// Whether this node is the proven primary, held or not.
    pub(crate) fn is_primary(&self, node: usize) -> bool {
        self.seats.get(node).is_some_and(|seat| self.topology.primary() == Some(&seat.name))
    }

    /// The node of that name.
    pub(crate) fn index_of(&self, name: &NodeName) -> Option<usize> {
        self.seats.iter().position(|seat| seat.name == *name)
    }

    /// Whether the node has failed somebody since it was last seen to be well.
    pub(crate) fn is_suspect(&self, node: usize) -> bool {
        self.facts.get(node).is_some_and(|fact| matches!(fact.health, Health::Offline { .. }))
    }

    /// Whether the node is known to be a standby.
    pub(crate) fn is_standby(&self, node: usize) -> bool {
        self.view(node).is_some_and(|view| view.role == Role::Standby)
    }

    /// Why this node is not used, in words.
    pub(crate) fn why_not(&self, name: &NodeName) -> String {
        let Some(node) = self.index_of(name) else {
            return format!("{name} is no node of this herd");
        };
        let seen = self.view(node).map(|view| view.reasons.join(", ")).unwrap_or_default();
        format!("{name}: {seen}; {}", self.plan.no_writer)
    }

    /// What the topology says of the node.
    pub(crate) fn view(&self, node: usize) -> Option<&NodeView> {
        self.topology.nodes.get(&self.seats.get(node)?.name)
    }

    fn plan_for(&self, group: Option<&[NodeName]>, now: Instant) -> Plan {
        let (places, facts): (Vec<usize>, Vec<Facts>) = self
            .facts
            .iter()
            .enumerate()
            .filter(|(_, fact)| group.is_none_or(|names| names.contains(&fact.name)))
            .map(|(node, fact)| (node, fact.clone()))
            .unzip();
        let mut plan = policy::plan(&facts, &Rules::default(), now);
        for seat in plan.writers.iter_mut().chain(&mut plan.readers) {
            seat.node = places.get(seat.node).copied().unwrap_or(seat.node);
        }
        self.add_verdict(&mut plan, group);
        plan
    }

    /// What the verdict as a whole means to the plan.
    fn add_verdict(&self, plan: &mut Plan, group: Option<&[NodeName]>) {
        let member = |name: &NodeName| group.is_none_or(|names| names.contains(name));
        let first = |reason: &str, rest: &mut String| {
            *rest = if rest.is_empty() { reason.to_owned() } else { format!("{reason}; {rest}") };
        };
        match &self.topology.verdict {
            Verdict::Primary { node, .. } if !member(node) => {
                first(&format!("the primary {node} is not in this group"), &mut plan.no_writer);
            }
            Verdict::Primary { .. } => {}
            verdict => first(&verdict.to_string(), &mut plan.no_writer),
        }
        if let Some(why) = self.held {
            plan.writers.clear();
            first(why, &mut plan.no_writer);
        }
        if !self.read_in_split_brain
            && let verdict @ Verdict::SplitBrain { .. } = &self.topology.verdict
        {
            plan.readers.clear();
            plan.near = 0;
            first(&verdict.to_string(), &mut plan.no_reader);
        }
    }
}

/// Each node's standing under a topology.
pub(super) fn standings(seats: &[Seat], here: &[bool], topology: &Topology) -> Vec<Standing> {
    let one = |(seat, here): (&Seat, &bool)| {
        let view = topology.nodes.get(&seat.name).filter(|_| *here);
        let primary = view.is_some() && topology.primary() == Some(&seat.name);
        Standing {
            primary: primary.then_some(topology.term),
            there: view.is_some_and(|view| view.role != Role::Unavailable),
        }
    };
    seats.iter().zip(here).map(one).collect()
}

fn facts(seat: &Seat, here: bool, suspect: bool, topology: &Topology, now: Instant) -> Facts {
    let view = topology.nodes.get(&seat.name).filter(|_| here);
    let primary = here && topology.primary() == Some(&seat.name);
    let (readable, reason) = match view {
        None => (false, "is not configured any more".to_owned()),
        Some(view) => {
            let reason = match (view.role, view.reasons.is_empty()) {
                (Role::Standby, true) => "is a standby".to_owned(),
                (role, true) => format!("is {}", role.as_str()),
                (role, false) => format!("is {} ({})", role.as_str(), view.reasons.join(", ")),
            };
            (view.readable && view.role == Role::Standby, reason)
        }
    };
    let (health, error) = if suspect {
        let error = "it failed a connection and has not been seen to be well since";
        (Health::Offline { since: now }, Some(error.to_owned()))
    } else {
        (Health::Unknown, None)
    };
    Facts {
        name: seat.name.clone(),
        health,
        error,
        part: Part::Seen { primary, readable, reason },
        in_recovery: view.map(|view| view.role == Role::Standby),
        // How late a reader may be is the watcher's business (`watch.max_lag`).
        lag: None,
        weight: 1,
        near: true,
    }
}
