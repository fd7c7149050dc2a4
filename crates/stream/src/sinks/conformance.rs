//! What every sink must do, as a check for whoever writes one.
//!
//! [`check`] drives a sink as the engine does and compares what arrived with what was handed over. It knows nothing of
//! where that is: the caller reads it back, one [`Seen`] per arrival, in the order of arrival.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use herdsman_node::{Lsn, SystemId, Timeline};
use herdsman_wal::decode::{Field, TupleWriter};
use herdsman_wal::{Body, Change, ChangeRef, Column, Relation, ReplicaIdentity};
use herdsman_wal::{Source, Transaction, TypeBook};

use crate::sink::{Batch, DeliveryError, Sink};

/// A change that has arrived: the number it was made with, and its row's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// Its ordinal.
    pub ordinal: u64,
    /// The column `id` of its row.
    pub id: u64,
}

/// Rounds of batches, changes in each, and keys they are spread over.
const ROUNDS: u64 = 4;
const CHANGES: u64 = 25;
const KEYS: u64 = 7;

/// Checks that a sink takes batches, that all of them arrive, that changes of one key arrive in their order (first
/// arrivals; a change may come twice), that opening and closing more than once is harmless, and that what was delivered
/// before a reopening is still there.
///
/// `read` reads back everything that has arrived so far.
///
/// # Errors
/// What the sink did that it must not.
pub async fn check<R>(sink: &dyn Sink, mut read: R) -> Result<(), String>
where
    R: AsyncFnMut() -> Vec<Seen>,
{
    sink.open().await.map_err(|error| format!("it does not open: {error}"))?;
    let mut sent = Vec::new();
    for round in 0..ROUNDS {
        let ordinals = round * CHANGES..(round + 1) * CHANGES;
        let seen: Vec<Seen> =
            ordinals.map(|ordinal| Seen { ordinal, id: ordinal % KEYS }).collect();
        let changes = seen.iter().map(|seen| keyed(seen.ordinal, seen.id, "é\n\"'\\")).collect();
        match sink.deliver(&batch(changes)).await {
            Ok(()) => sent.extend(seen),
            Err(DeliveryError::Unavailable(error)) => return Err(format!("it failed: {error}")),
            Err(DeliveryError::Partly(left)) => {
                return Err(format!("it did not take all: {left:?}"));
            }
        }
        compare(&sent, &read().await)?;
        if round + 2 == ROUNDS {
            sink.close().await;
            sink.open().await.map_err(|error| format!("it does not open again: {error}"))?;
            compare(&sent, &read().await).map_err(|error| format!("after a reopening {error}"))?;
        }
    }
    sink.close().await;
    sink.close().await;
    compare(&sent, &read().await).map_err(|error| format!("after the end {error}"))
}

fn compare(sent: &[Seen], arrived: &[Seen]) -> Result<(), String> {
    let known: BTreeSet<Seen> = arrived.iter().copied().collect();
    if let Some(missing) = sent.iter().find(|seen| !known.contains(seen)) {
        return Err(format!("{missing:?} is missing though it was delivered"));
    }
    let all: BTreeSet<Seen> = sent.iter().copied().collect();
    if let Some(strange) = known.iter().find(|seen| !all.contains(seen)) {
        return Err(format!("{strange:?} arrived but was not delivered"));
    }
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    let mut before = BTreeSet::new();
    for seen in arrived.iter().filter(|seen| before.insert(**seen)) {
        if last.insert(seen.id, seen.ordinal).is_some_and(|last| last > seen.ordinal) {
            return Err(format!("{seen:?} arrived after a later change of the same key"));
        }
    }
    Ok(())
}

/// The insert of a row of `public.orders` whose id is its ordinal.
#[must_use]
pub fn row(ordinal: u64, note: &str) -> Change {
    keyed(ordinal, ordinal, note)
}

/// The insert of a row with this id.
#[must_use]
pub fn keyed(ordinal: u64, id: u64, note: &str) -> Change {
    let mut tuple = TupleWriter::default();
    tuple.push(Field::Text(id.to_string().as_bytes()));
    tuple.push(Field::Text(note.as_bytes()));
    let source = Arc::new(Source {
        system_id: SystemId(1),
        timeline: Timeline(1),
        database: "app".into(),
        slot: "herdsman".into(),
    });
    let transaction =
        Transaction { xid: 7, commit_lsn: Lsn(0x1_0000_0100), ..Transaction::default() };
    Change::from(ChangeRef {
        source: &source,
        transaction: &Arc::new(transaction),
        ordinal,
        lsn: Lsn(0x1_0000_0000 + ordinal),
        body: Body::Insert { table: &orders(), new: tuple.tuple() },
    })
}

/// These changes as one batch.
#[must_use]
pub fn batch(changes: Vec<Change>) -> Batch {
    Batch { changes: changes.into_iter().map(Arc::new).collect(), position: None }
}

/// What a change's JSON in our own shape says of it.
#[must_use]
pub fn seen(json: &serde_json::Value) -> Option<Seen> {
    let id = json.get("new")?.get("id")?;
    let id = id.as_u64().or_else(|| id.as_str()?.parse().ok())?;
    let ordinal = json.get("ordinal").or_else(|| json.get("transaction")?.get("ordinal"));
    Some(Seen { ordinal: ordinal?.as_u64()?, id })
}

/// The table `public.orders(id int8 primary key, note text)`.
fn orders() -> Arc<Relation> {
    let types = TypeBook::default();
    let column = |name: &str, oid, key| Column {
        name: name.into(),
        data_type: types.get(oid),
        type_modifier: -1,
        key,
        primary: key,
    };
    Arc::new(Relation {
        oid: 16_384,
        schema: "public".into(),
        name: "orders".into(),
        identity: ReplicaIdentity::Default,
        columns: vec![column("id", 20, true), column("note", 25, false)],
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;

    /// Keeps what it is given, but for what its fault makes it lose or turn round.
    struct Faulty {
        fault: &'static str,
        kept: Mutex<Vec<Seen>>,
    }

    #[async_trait]
    impl Sink for Faulty {
        async fn deliver(&self, batch: &Batch) -> Result<(), DeliveryError> {
            let mut kept = self.kept.lock().unwrap();
            for change in &batch.changes {
                let seen = Seen { ordinal: change.ordinal, id: change.ordinal % KEYS };
                match self.fault {
                    "loses" if seen.ordinal == 13 => {}
                    "turns" => kept.insert(0, seen),
                    "doubles" => kept.extend([seen, seen]),
                    _ => kept.push(seen),
                }
            }
            Ok(())
        }

        async fn close(&self) {
            if self.fault == "forgets" {
                self.kept.lock().unwrap().clear();
            }
        }
    }

    #[tokio::test]
    async fn a_sink_that_loses_or_turns_changes_round_is_found_out() {
        for (fault, expected) in [
            ("none", Ok(())),
            ("doubles", Ok(())),
            ("loses", Err("ordinal: 13, id: 6 } is missing")),
            ("turns", Err("arrived after a later change")),
            ("forgets", Err("after a reopening")),
        ] {
            let sink = Faulty { fault, kept: Mutex::default() };
            let found = check(&sink, async || sink.kept.lock().unwrap().clone()).await;
            match (found, expected) {
                (Ok(()), Ok(())) => {}
                (Err(found), Err(part)) if found.contains(part) => {}
                (found, _) => panic!("{fault}: {found:?}"),
            }
        }
    }
}
