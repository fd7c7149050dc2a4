//! What came of it.

use std::collections::BTreeMap;

use super::compare::{Held, Key};

/// What came of it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Report {
    /// The worst of the tables' verdicts.
    pub verdict: Verdict,
    /// The members that were compared.
    pub members: Vec<String>,
    /// By table.
    pub tables: Vec<TableReport>,
    /// How long it took.
    pub seconds: f64,
}

/// What came of one table.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct TableReport {
    /// Its name, as `schema.table`.
    pub table: String,
    /// Whether it is the same on all members.
    pub verdict: Verdict,
    /// Rows by member.
    pub rows: BTreeMap<String, u64>,
    /// Bytes of rows that were looked at, of all members together.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// Keys that differ for good.
    pub differing: u64,
    /// The first of them.
    pub keys: Vec<KeyReport>,
    /// Keys of which nothing can be said: they are written all the time, or changes of theirs are still on the way.
    pub uncertain: u64,
    /// Links that did not pass in time, as `source to target`: paused, or nothing applies there.
    pub behind: Vec<String>,
    /// By member, rows that wait in `herdsman.evicted` for the value of a unique constraint.
    pub evicted: BTreeMap<String, u64>,
    /// Keys that were put right.
    pub repaired: u64,
    /// Rows that could not be put in, as another row has their value of a unique constraint.
    pub clashes: u64,
}

/// A key that differs.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct KeyReport {
    /// Its columns, as text.
    pub key: Key,
    /// What each member holds.
    pub held: BTreeMap<String, Held>,
}

/// Whether members hold the same.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// They do.
    #[default]
    Equal,
    /// They did not, and do now.
    Repaired,
    /// It cannot be said.
    Uncertain,
    /// They do not.
    Differs,
}

impl TableReport {
    pub(super) fn judge(&self) -> Verdict {
        if self.differing > self.repaired {
            Verdict::Differs
        } else if self.uncertain > 0 {
            Verdict::Uncertain
        } else if self.repaired > 0 {
            Verdict::Repaired
        } else {
            Verdict::Equal
        }
    }
}
