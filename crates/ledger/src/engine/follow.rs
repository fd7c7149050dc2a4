//! One node, from where it is to wherever the log goes.

use std::{sync::Arc, time::Duration};

use tracing::Instrument as _;

use super::{Condition, Member, Shared};
use crate::{
    ChainHash, Offset,
    entry::Entry,
    log::{ReadError, Reader, Record},
    node::NodeError,
    replica::{Fence, Replica, Step},
};

/// How many entries share one local transaction, and with it one sync of the node's disk.
const TOGETHER: usize = 256;
/// How many bytes of entries, unless one has more: they are all held in memory, some times over.
const TOGETHER_BYTES: usize = 4 * 1024 * 1024;
/// How soon something that failed is tried again, first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// Why a node is not followed any further, for now or for good.
enum Stop {
    /// It will be tried again.
    Trouble(String),
    /// Another program drives it; it will be tried again.
    Driven(String),
    /// It may not go on; `written` says that the node is to write it down.
    Fenced { why: String, written: bool },
}

impl From<NodeError> for Stop {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::Diverged(why) => Self::Fenced { why, written: true },
            NodeError::Driven { .. } => Self::Driven(error.to_string()),
            NodeError::Environmental(_) | NodeError::Moved { .. } => {
                Self::Trouble(error.to_string())
            }
        }
    }
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable(_) => Self::Trouble(error.to_string()),
            // The node's data are not to blame.
            other => Self::Fenced { why: other.to_string(), written: false },
        }
    }
}

impl From<Fence> for Stop {
    fn from(fence: Fence) -> Self {
        let written = matches!(fence, Fence::SkippedTooLate { .. } | Fence::Diverged(_));
        Self::Fenced { why: fence.to_string(), written }
    }
}

/// Follows until the task is ended. A node that is fenced waits until an operator has brought it back.
pub(super) async fn forever(shared: Arc<Shared>, at: usize) {
    let Some(member) = shared.members.get(at) else { return };
    let mut pause = AGAIN.0;
    loop {
        let before = member.status.borrow().applied;
        let Err(stop) = follow(&shared, member).await else { return };
        let driven = matches!(stop, Stop::Driven(_));
        match stop {
            Stop::Trouble(why) | Stop::Driven(why) => {
                tracing::warn!(
                    node = member.node.name(),
                    why,
                    "the node cannot follow the log for now"
                );
                member.status.send_modify(|status| {
                    status.condition = Condition::Troubled(why);
                    status.driven = driven;
                });
                let moved = member.status.borrow().applied > before;
                pause = if moved { AGAIN.0 } else { (pause * 2).min(AGAIN.1) };
                tokio::time::sleep(pause).await;
            }
            Stop::Fenced { why, written } => {
                tracing::error!(node = member.node.name(), why, "the node is fenced");
                if written && let Err(error) = member.node.fence(&why).await {
                    tracing::warn!(node = member.node.name(), %error, "it could not write down that it is fenced");
                }
                member.set(Condition::Fenced(why));
                member.again.notified().await;
                member.set(Condition::Starting);
                pause = AGAIN.0;
            }
        }
    }
}

impl Member {
    pub(super) fn set(&self, condition: Condition) {
        self.status.send_modify(|status| status.condition = condition);
    }
}

/// Ends only in trouble.
async fn follow(shared: &Shared, member: &Member) -> Result<(), Stop> {
    let unavailable = |error: crate::log::Unavailable| Stop::Trouble(error.to_string());
    let genesis = &shared.genesis;
    let first = ChainHash::default().after(Offset::GENESIS, &shared.genesis_entry);
    member.node.install(genesis, first).await?;
    let durable = member.node.durable().await?;
    let end = shared.log.end().await.map_err(unavailable)?;
    if end <= durable.applied {
        return Err(ReadError::Short { wanted: durable.applied }.into());
    }
    let mut reader = shared.log.read(durable.tail_from()).await.map_err(unavailable)?;
    let mut tail = Vec::new();
    let mut ahead: Vec<Record> = Vec::new();
    if durable.applied >= durable.tail_from() {
        while ahead.is_empty() && tail.last().is_none_or(|(at, _)| *at < durable.applied) {
            for record in reader.next().await? {
                if record.at <= durable.applied {
                    tail.push((record.at, record.body));
                } else {
                    ahead.push(record);
                }
            }
        }
    }
    let mut replica = Replica::resume(&durable, &tail)?;
    drop(tail);
    member.status.send_modify(|status| {
        status.applied = durable.applied;
        status.condition = Condition::Following;
        status.driven = false;
    });
    let mut records = ahead;
    loop {
        let mut rest = records.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(together(rest));
            take(shared, member, &mut replica, now).await?;
            rest = later;
        }
        records = read(&mut *reader, member).await?;
    }
}

/// How many of these records share a local transaction; all that are there, up to a point: whoever waits for the first of
/// them waits for one sync in any case.
fn together(records: &[Record]) -> usize {
    let mut bytes = 0_usize;
    let fit = |record: &&Record| {
        bytes = bytes.saturating_add(record.body.len());
        bytes <= TOGETHER_BYTES
    };
    records.iter().take(TOGETHER).take_while(fit).count().max(1).min(records.len())
}

/// The next records; a log that is away is waited for.
async fn read(reader: &mut dyn Reader, member: &Member) -> Result<Vec<Record>, Stop> {
    loop {
        match reader.next().await {
            Ok(records) => {
                if matches!(member.status.borrow().condition, Condition::Troubled(_)) {
                    member.set(Condition::Following);
                }
                return Ok(records);
            }
            Err(ReadError::Unavailable(why)) => {
                member.set(Condition::Troubled(why.to_string()));
                tokio::time::sleep(AGAIN.0).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Decides about some records, and does what was decided.
async fn take(
    shared: &Shared,
    member: &Member,
    replica: &mut Replica,
    records: &[Record],
) -> Result<(), Stop> {
    let mut steps: Vec<Step> = Vec::with_capacity(records.len());
    for record in records {
        if may_not_go_on_to(shared, record.at) {
            apply(shared, member, &mut steps).await?;
            wait_while_held(shared, member, record.at).await;
        }
        loop {
            match replica.take(record.at, &record.body) {
                Ok(step) => break steps.push(step),
                Err(fence) => {
                    // What is before it is sound.
                    apply(shared, member, &mut steps).await?;
                    let Fence::Unreadable { at, .. } = fence else { return Err(fence.into()) };
                    tracing::error!(node = member.node.name(), %fence, "waiting for an operator's word to skip it");
                    let why = format!("{fence}; `skip {at}` passes it over on every node");
                    member.status.send_modify(|status| {
                        status.condition = Condition::Fenced(why);
                        status.waits_for_skip = true;
                    });
                    let skipped = await_skip(shared, at).await;
                    member.status.send_modify(|status| status.waits_for_skip = false);
                    skipped?;
                    replica.excuse(at);
                    member.set(Condition::Following);
                }
            }
        }
    }
    apply(shared, member, &mut steps).await
}

/// Reads on in the log until it has the operator's word to skip an entry.
async fn await_skip(shared: &Shared, target: Offset) -> Result<(), Stop> {
    let unavailable = |error: crate::log::Unavailable| Stop::Trouble(error.to_string());
    let mut reader = shared.log.read(target.next()).await.map_err(unavailable)?;
    loop {
        for record in reader.next().await? {
            if Entry::decode(&record.body, shared.genesis.log) == Ok(Entry::Skip { target }) {
                return Ok(());
            }
        }
    }
}

/// Does the steps, however long the node's own trouble takes, and tells who waits.
async fn apply(shared: &Shared, member: &Member, steps: &mut Vec<Step>) -> Result<(), Stop> {
    let Some(last) = steps.last().map(|step| step.at) else { return Ok(()) };
    let mut pause = AGAIN.0;
    loop {
        let span = tracing::debug_span!(
            target: "otel",
            "ledger apply",
            otel.kind = "consumer",
            herdsman.node = member.node.name(),
            herdsman.entries = steps.len(),
            herdsman.offset = %last,
        );
        match member.node.apply(steps).instrument(span).await {
            Ok(()) => break,
            Err(NodeError::Environmental(why)) => {
                tracing::debug!(node = member.node.name(), why, "the node cannot apply for now");
                member.set(Condition::Troubled(why));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(AGAIN.1);
            }
            Err(error) => return Err(error.into()),
        }
    }
    for step in steps.drain(..) {
        member.tally.count(step.outcome);
        shared.waiting.tell(&step);
    }
    member.status.send_modify(|status| {
        status.applied = last;
        status.condition = Condition::Following;
    });
    Ok(())
}

fn may_not_go_on_to(shared: &Shared, at: Offset) -> bool {
    shared.hold.borrow().is_some_and(|most| at > most)
}

async fn wait_while_held(shared: &Shared, member: &Member, at: Offset) {
    member.status.send_modify(|status| status.held = true);
    // The sender is in `shared`.
    drop(shared.hold.subscribe().wait_for(|hold| hold.is_none_or(|most| at <= most)).await);
    member.status.send_modify(|status| status.held = false);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_share_a_transaction_up_to_so_many_and_so_much() {
        let of = |sizes: &[usize]| {
            let record = |size: &usize| Record { at: Offset(0), body: vec![0; *size] };
            together(&sizes.iter().map(record).collect::<Vec<_>>())
        };
        let half = TOGETHER_BYTES / 2;
        assert_eq!(of(&[1; 3]), 3);
        assert_eq!(of(&[1; TOGETHER + 1]), TOGETHER);
        assert_eq!(of(&[half, half, 1]), 2);
        assert_eq!(of(&[2 * TOGETHER_BYTES, 1]), 1, "an entry is never left out");
        assert_eq!(of(&[]), 0);
    }
}
