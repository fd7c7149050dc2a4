//! Rows: what is greater comes in, and makes room for itself.

use herdsman_wal::quote_identifier;

use super::columns::list;
use super::recording::seen;
use super::{Kind, Statements};
use crate::names::{NODE, STAMP};

impl Statements<'_> {
    /// Puts in what is greater. For a snapshot that lasts all the transaction.
    pub(super) fn put(&self) -> String {
        // MERGE knows no more of a row than its columns.
        if self.table.untouched { self.upsert() } else { self.merge() }
    }

    fn merge(&self) -> String {
        let kind = Kind::Take;
        format!(
            "MERGE INTO {} AS t USING (SELECT v.* FROM {} WHERE {}) AS v ON {}
WHEN MATCHED AND (t.{STAMP}, t.{NODE}) < (v.s, v.n) THEN UPDATE SET {}
WHEN NOT MATCHED THEN INSERT ({}) OVERRIDING SYSTEM VALUE VALUES ({})",
            self.name(),
            self.source(kind, false),
            self.alive(kind),
            self.same_key(kind, "t"),
            self.set(|at, _| format!("v.c{at}"), &format!("{STAMP} = v.s, {NODE} = v.n")),
            self.columns_list(),
            self.values_list(),
        )
    }

    /// Rows in the place of just what their writers replaced. Where all of them are, there is no conflict to record, and
    /// no tombstone or TRUNCATE that they would have to give way to: what they replace had not.
    pub(super) fn plain(&self) -> String {
        let kind = Kind::Plain;
        format!(
            "UPDATE {} AS t SET {} FROM {} WHERE {} AND {}",
            self.name(),
            self.set(|at, _| format!("v.c{at}"), &format!("{STAMP} = v.s, {NODE} = v.n")),
            self.source(kind, false),
            self.same_key(kind, "t"),
            seen("t"),
        )
    }

    pub(super) fn insert(&self) -> String {
        // Like every one that puts in rows with all their columns.
        let kind = Kind::Upsert;
        format!(
            "INSERT INTO {} AS t ({}) OVERRIDING SYSTEM VALUE\nSELECT {} FROM {}\nWHERE {}\n  AND {}",
            self.name(),
            self.columns_list(),
            self.values_list(),
            self.source(kind, false),
            self.alive(kind),
            self.not_evicted(kind),
        )
    }

    pub(super) fn upsert(&self) -> String {
        let set = self.set(
            |_, column| format!("excluded.{}", quote_identifier(&column.name)),
            &format!("{STAMP} = excluded.{STAMP}, {NODE} = excluded.{NODE}"),
        );
        let less = match self.table.untouched {
            true => self.gives_way(),
            false => {
                format!("(t.{STAMP}, t.{NODE}) < (excluded.{STAMP}, excluded.{NODE})")
            }
        };
        format!("{}\nON CONFLICT ({}) DO UPDATE SET {set}\nWHERE {less}", self.insert(), self.key(),)
    }

    pub(super) fn clear(&self) -> String {
        format!(
            "DELETE FROM {} AS t USING {} WHERE {} AND {} {} (v.s, v.n)",
            self.name(),
            self.source(Kind::Clear, false),
            self.same_key(Kind::Clear, "t"),
            self.table.version_of("t"),
            self.less(),
        )
    }

    pub(super) fn lock(&self) -> String {
        // In one order, whoever else does the same.
        let order = list(self.table.key_columns(), |c| format!("t.{}", quote_identifier(&c.name)));
        format!(
            "SELECT FROM {} JOIN {} AS t ON {} ORDER BY {order} FOR UPDATE OF t",
            self.source(Kind::Lock, false),
            self.name(),
            self.same_key(Kind::Lock, "t"),
        )
    }
}
