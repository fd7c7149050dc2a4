//! Facts about every node → who may be used for what, and why not.

use std::time::Duration;

use herdsman_node::NodeName;
use tokio::time::Instant;

use super::health::{Health, share};
use super::{Plan, Rules, Seat};

/// What is known of one node when a plan is made.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its name, for the reasons.
    pub name: NodeName,
    /// Whether it answers.
    pub health: Health,
    /// What the node last said about itself, if it is offline.
    pub error: Option<String>,
    /// What it is there for.
    pub part: Part,
    /// Whether it replays another server's WAL, if it has answered.
    pub in_recovery: Option<bool>,
    /// How far it is behind, if that is known.
    pub lag: Option<Lag>,
    /// Its share of the reads, relative to the others.
    pub weight: u32,
    /// Whether it stands in our zone.
    pub near: bool,
}

/// The part a node plays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// As the builder was told.
    Given {
        /// It was given as a writer.
        writer: bool,
        /// It was given as a reader.
        reader: bool,
    },
    /// As the watcher sees it.
    Seen {
        /// It is the proven primary.
        primary: bool,
        /// It is a standby that may be read.
        readable: bool,
        /// Why it is neither.
        reason: String,
    },
}

/// How far a node is behind the primary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lag {
    /// Log bytes it has not replayed.
    pub bytes: u64,
    /// Age of the oldest of them.
    pub time: Duration,
}

/// Makes the plan for these nodes, whose indices are their places in `facts`.
#[must_use]
pub fn plan(facts: &[Facts], rules: &Rules, now: Instant) -> Plan {
    let mut plan = Plan::default();
    let (mut near, mut far) = (Vec::new(), Vec::new());
    for (node, fact) in facts.iter().enumerate() {
        let seat = Seat { node, share: seat_share(fact, rules, now) };
        match may_write(fact) {
            Ok(()) => plan.writers.push(seat),
            Err(why) => note(&mut plan.no_writer, fact, &why),
        }
        match may_read(fact, rules) {
            Ok(()) if fact.near => near.push(seat),
            Ok(()) => far.push(seat),
            Err(why) => note(&mut plan.no_reader, fact, &why),
        }
    }
    plan.near = if near.is_empty() { far.len() } else { near.len() };
    near.append(&mut far);
    plan.readers = near;
    plan
}

fn may_write(fact: &Facts) -> Result<(), String> {
    match &fact.part {
        Part::Given { writer: false, .. } => return Err("is no writer".to_owned()),
        Part::Given { writer: true, .. } if fact.in_recovery == Some(true) => {
            return Err("is given as a writer, but is a standby".to_owned());
        }
        Part::Seen { primary: false, reason, .. } => return Err(reason.clone()),
        Part::Given { .. } | Part::Seen { .. } => {}
    }
    online(fact)
}

fn may_read(fact: &Facts, rules: &Rules) -> Result<(), String> {
    match &fact.part {
        Part::Given { reader: false, .. } => return Err("is no reader".to_owned()),
        Part::Seen { primary: true, .. } => return Err("is the primary".to_owned()),
        Part::Seen { readable: false, reason, .. } => return Err(reason.clone()),
        Part::Given { .. } | Part::Seen { .. } => {}
    }
    online(fact)?;
    late(fact, rules)
}

fn online(fact: &Facts) -> Result<(), String> {
    match fact.health {
        Health::Unknown | Health::Online { .. } => Ok(()),
        Health::Offline { .. } => {
            Err(format!("is offline: {}", fact.error.as_deref().unwrap_or("it does not answer")))
        }
    }
}

/// A node that is too late is out. One whose lag nobody knows – the primary has never answered – is in: a bound on lag is
/// no reason to read nowhere.
fn late(fact: &Facts, rules: &Rules) -> Result<(), String> {
    let bound = &rules.max_lag;
    let Some(lag) = fact.lag else { return Ok(()) };
    if let Some(max) = bound.bytes.filter(|&max| lag.bytes > max) {
        return Err(format!("is {} bytes behind, max_lag is {max}", lag.bytes));
    }
    if let Some(max) = bound.time.filter(|&max| lag.time > max) {
        return Err(format!("is {:?} behind, max_lag is {max:?}", lag.time));
    }
    Ok(())
}

fn seat_share(fact: &Facts, rules: &Rules, now: Instant) -> u32 {
    let started = match fact.health {
        Health::Online { returned: Some(at) } => {
            share(now.saturating_duration_since(at), rules.slow_start)
        }
        Health::Online { returned: None } | Health::Unknown | Health::Offline { .. } => 100,
    };
    fact.weight.saturating_mul(started).max(1)
}

fn note(reasons: &mut String, fact: &Facts, why: &str) {
    if !reasons.is_empty() {
        reasons.push_str("; ");
    }
    reasons.push_str(fact.name.as_str());
    reasons.push(' ');
    reasons.push_str(why);
}
