//! What was written, by those who wrote it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::TABLE;
use crate::proof::{Mesh, Version};

/// A version of a key that somebody wrote.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// Its place in [`TABLE`].
    pub(crate) table: usize,
    pub(crate) key: String,
    pub(crate) stamp: Version,
    /// What was there, as its writer saw it under a lock.
    pub(crate) seen: Option<Version>,
    /// The row's `val`; `None` for a deletion.
    pub(crate) val: Option<String>,
    /// Whether its writer saw no row there.
    pub(crate) inserted: bool,
}

/// A TRUNCATE.
#[derive(Clone, Debug)]
pub(crate) struct Truncated {
    pub(crate) table: usize,
    pub(crate) stamp: Version,
    /// Up to when its writer had what the others wrote.
    pub(crate) knew: BTreeMap<i16, i64>,
}

impl Truncated {
    /// Whether it removes this on purpose: its writer had it.
    pub(crate) fn takes(&self, stamp: Version) -> bool {
        let knew = self.knew.get(&stamp.1);
        self.stamp > stamp && (self.stamp.1 == stamp.1 || knew.is_some_and(|knew| *knew >= stamp.0))
    }
}

/// All that was written in a run.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Acknowledged.
    pub(crate) acked: Mutex<Vec<Written>>,
    /// Sent, with the answer lost.
    pub(crate) maybe: Mutex<Vec<Written>>,
    pub(crate) truncated: Mutex<Vec<Truncated>>,
    /// Versions that were there before, with `val`.
    pub(crate) before: Mutex<BTreeMap<(usize, String), (Version, String)>>,
    /// Rows of `herdsman.conflicts` before, by node.
    pub(crate) recorded_before: Mutex<BTreeMap<String, i64>>,
    pub(crate) transactions: AtomicU64,
    pub(crate) failed: AtomicU64,
    next: AtomicU64,
}

impl Ledger {
    /// Notes what is there.
    pub(crate) async fn begin(&self, mesh: &Mesh) {
        let client = mesh.root(&mesh.nodes()[0]).await;
        for (place, table) in TABLE.iter().enumerate() {
            for row in rows(&client, table).await {
                self.before.lock().unwrap().insert((place, row.0), (row.1, row.2));
            }
        }
        for node in mesh.nodes() {
            let last = mesh.ask(&node, "SELECT coalesce(max(id), 0) FROM herdsman.conflicts").await;
            self.recorded_before.lock().unwrap().insert(node, last.unwrap().parse().unwrap());
        }
    }

    /// A value nobody else writes.
    pub(crate) fn value(&self, node: &str) -> String {
        format!("{node}-{}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn acknowledged(&self, written: Vec<Written>) {
        self.transactions.fetch_add(1, Ordering::Relaxed);
        self.acked.lock().unwrap().extend(written);
    }

    pub(crate) fn unknown(&self, written: Vec<Written>) {
        self.maybe.lock().unwrap().extend(written);
    }
}

/// Key, stamp and `val` of every row of a table.
pub(super) async fn rows(
    client: &tokio_postgres::Client,
    table: &super::Table,
) -> Vec<(String, Version, String)> {
    let question = format!(
        "SELECT ({})::text, _herdsman_stamp, _herdsman_node, val FROM {}",
        table.shown, table.name
    );
    let rows = client.query(&question, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)), row.get(3))).collect()
}
