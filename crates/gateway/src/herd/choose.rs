//! Which node a transaction goes to, by the state of this moment. Pure, and without allocating.

use std::sync::Arc;

use herdsman::Balance;
use herdsman::Fallback;
use herdsman::policy::balance::{Load, pick};
use herdsman::policy::{self, Plan, Want};
use herdsman_node::{NodeName, Role};

use super::tide::Water;
use super::{Causal, Choice, State};
use crate::config::Target;

/// What a transaction asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) want: Want,
    pub(crate) target: &'a Target,
    /// The nodes the database is on; `None`: all.
    pub(crate) group: Option<&'a Arc<[NodeName]>>,
    /// What its session has written.
    pub(crate) causal: &'a Causal,
    /// Nodes that have failed it already.
    pub(crate) tried: &'a [usize],
}

/// Chooses. `load` tells how busy a node is, `random` is a fresh random number.
pub(super) fn choose(
    state: &State,
    water: Option<&Water>,
    ask: &Ask<'_>,
    load: impl Fn(usize) -> Load,
    random: u64,
) -> Choice {
    let pick = |seats: &[policy::Seat]| pick(seats, Balance::TwoChoices, random, random, &load);
    match ask.target {
        Target::Split if ask.want == Want::Write => write(state, ask, pick),
        Target::Writer if ask.want == Want::Write => write(state, ask, pick),
        // On the primary, but nothing that must not happen elsewhere: no epoch is needed for it.
        Target::Writer => match write(state, ask, pick) {
            Choice::Node { node, epoch, .. } => Choice::Node { node, writer: false, epoch },
            other => other,
        },
        Target::Split => read(state, water, ask, Fallback::Writer, pick),
        // A standby refuses what writes; the primary would not, and is no place for it.
        Target::Reader if ask.want == Want::Write => read(state, water, ask, Fallback::Wait, pick),
        Target::Reader => read(state, water, ask, Fallback::Writer, pick),
        Target::Writers => any_writer(state, ask, pick),
        Target::Node(name) => named(state, ask, name),
    }
}

fn write(state: &State, ask: &Ask<'_>, pick: impl FnMut(&[policy::Seat]) -> usize) -> Choice {
    let choose = |plan: &Plan| plan.choose(Want::Write, Fallback::Error, ask.tried, None, pick);
    match state.plan_of(ask.group, choose) {
        policy::Choice::Writer(node) => to(state, node, true),
        _ => Choice::Wait,
    }
}

fn read(
    state: &State,
    water: Option<&Water>,
    ask: &Ask<'_>,
    fallback: Fallback,
    pick: impl FnMut(&[policy::Seat]) -> usize,
) -> Choice {
    let covers = |node: usize| water.is_some_and(|water| water.covers(node, ask.causal));
    let fit: Option<&dyn Fn(usize) -> bool> = if ask.causal.needs() { Some(&covers) } else { None };
    let choose = |plan: &Plan| plan.choose(Want::Read, fallback, ask.tried, fit, pick);
    match state.plan_of(ask.group, choose) {
        policy::Choice::Reader(node) | policy::Choice::Writer(node) => to(state, node, false),
        policy::Choice::Wait => Choice::Wait,
        policy::Choice::Refuse => Choice::Refuse,
    }
}

/// Any node of the group that is there and no standby. Each is a primary of its own, so there is nothing to prove.
fn any_writer(
    state: &State,
    ask: &Ask<'_>,
    mut pick: impl FnMut(&[policy::Seat]) -> usize,
) -> Choice {
    if state.held.is_some() && ask.want == Want::Write {
        return Choice::Wait;
    }
    let open = |node: usize, again: bool| {
        let seat = state.seats.get(node)?;
        let member = ask.group.is_none_or(|names| names.contains(&seat.name));
        let view = state.view(node)?;
        let there = view.error.is_none() && view.evidence_at.is_some() && !state.is_suspect(node);
        let fits = member && there && view.role != Role::Standby && !view.fenced;
        (fits && (again || !ask.tried.contains(&node))).then_some(node)
    };
    for again in [false, true] {
        // At most so many are looked at: a mesh is small.
        let mut seats = [policy::Seat { node: 0, share: 100 }; 32];
        let mut count = 0;
        let nodes = (0..state.seats.len()).filter_map(|node| open(node, again));
        for (place, node) in seats.iter_mut().zip(nodes) {
            place.node = node;
            count += 1;
        }
        if let Some(some @ [_, ..]) = seats.get(..count) {
            return to(state, pick(some), false);
        }
    }
    Choice::Wait
}

/// One node, whatever its role. To write on one that says it is a primary takes the same proof as everywhere.
fn named(state: &State, ask: &Ask<'_>, name: &NodeName) -> Choice {
    let Some(node) = state.index_of(name) else { return Choice::Refuse };
    // A member of a mesh is a primary of its own.
    let proves = !state.view(node).is_some_and(|view| view.member);
    if ask.want == Want::Write && proves && !state.is_standby(node) {
        return if state.plan.writes(node) { to(state, node, true) } else { Choice::Wait };
    }
    let usable = state.view(node).is_some_and(|view| view.error.is_none() && !view.foreign);
    if usable && !state.is_suspect(node) { to(state, node, false) } else { Choice::Wait }
}

fn to(state: &State, node: usize, writer: bool) -> Choice {
    Choice::Node { node, writer, epoch: state.epochs.get(node).copied().unwrap_or_default() }
}
