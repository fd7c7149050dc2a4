//! A planned change of the primary without an error for anybody: hold what writes, let what runs end, have the standby
//! replay everything, promote it, go on there.
//!
//! The order, and what follows from each failure, is pure (`machine`); `hands` carries it out.

mod ask;
mod command;
mod hands;
mod machine;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use herdsman_node::NodeName;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::shared::Shared;
use hands::Hands;
use machine::{Act, Ending, Machine};

/// A switchover that goes on whether anybody listens or not.
#[derive(Debug)]
pub(crate) struct Switchover {
    /// What it does, in words, as it does it.
    pub(crate) steps: mpsc::UnboundedReceiver<String>,
    /// How it ended.
    pub(crate) outcome: JoinHandle<Result<Success, String>>,
}

/// A switchover that worked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Success {
    /// In words, with what is left to do.
    pub(crate) text: String,
    /// How long no transaction that writes could begin.
    pub(crate) pause: Duration,
}

/// Begins to make `target` the primary. Must be called inside a tokio runtime. `forced`: transactions that do not end within
/// `switchover.drain` are cut off, rather than the switchover given up.
///
/// # Errors
/// Why it cannot even begin; nothing has been touched then.
pub(crate) fn begin(
    shared: &Arc<Shared>,
    target: &NodeName,
    forced: bool,
) -> Result<Switchover, String> {
    let (tell, steps) = mpsc::unbounded_channel();
    let hands = Hands::new(shared, target, tell)?;
    let outcome = tokio::spawn(Box::pin(carry_out(hands, forced)));
    Ok(Switchover { steps, outcome })
}

async fn carry_out(mut hands: Hands, forced: bool) -> Result<Success, String> {
    let mut machine = Machine::new(forced);
    let mut held: Option<Instant> = None;
    let mut pause = Duration::ZERO;
    loop {
        let act = machine.act();
        match act {
            Act::Hold => held = Some(Instant::now()),
            Act::Resume => pause = held.map(|since| since.elapsed()).unwrap_or_default(),
            _ => {}
        }
        if act == Act::End {
            break;
        }
        let outcome = Box::pin(hands.act(act)).await;
        if let Err(why) = &outcome {
            hands.say(format!("failed: {why}"));
        }
        machine.step(outcome);
    }
    let (old, new) = (&hands.old.name, &hands.new.name);
    let why = machine.failure().map(|(_, why)| why.to_owned()).unwrap_or_default();
    match machine.ending() {
        Ending::Done => Ok(Success {
            text: format!("{new} is the primary; writes paused for {pause:.0?}"),
            pause,
        }),
        Ending::DoneButFollowers => Ok(Success {
            text: format!(
                "{new} is the primary; writes paused for {pause:.0?}; but {why}: see to it that every other node follows {new}"
            ),
            pause,
        }),
        Ending::Unchanged => Err(format!("{old} stays the primary: {why}")),
        Ending::Nobody => Err(format!(
            "nobody is known to be the primary now: {why}; if {old} is down, start it again: it has every write, and is \
             then the primary as before; promote {new} by hand only if {old} cannot come back"
        )),
    }
}
