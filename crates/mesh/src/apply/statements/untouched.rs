//! What is different where nothing is added to a table: a row's version is its transaction's commit time and origin.
//!
//! All rows of a batch are of one transaction then, and so of one version. What a writer had replaced is told by the row's
//! old image, which comes as a JSON object of texts: a held row that looks like it was known.

use herdsman_wal::{quote_identifier, quote_literal};

use super::{Kind, Statements};
use crate::names;

/// Microseconds after which a change has come everywhere, if nothing is wrong.
const LATE: i64 = 60_000_000;

impl Statements<'_> {
    /// The held row `t`: its time, its node, both.
    pub(super) fn held(&self) -> (String, String, String) {
        (self.table.time_of("t"), self.table.node_of("t"), self.table.version_of("t"))
    }

    /// How a held version compares with the one that takes its place. Of two transactions of one node and one microsecond
    /// the one that comes later in its log is the later.
    pub(super) fn less(&self) -> &'static str {
        if self.table.untouched { "<=" } else { "<" }
    }

    /// Whether a batch for this comes with what its writers had replaced.
    pub(crate) fn has_images(&self, kind: Kind) -> bool {
        self.table.untouched && kind.records()
    }

    /// That the held row `t` gives way to the batch. What the member wrote itself never does to what comes back to it from
    /// its own log: it is that, or later.
    pub(super) fn gives_way(&self) -> String {
        let at = self.columns.len();
        let (time, node) = (format!("(${})[1]", at + 1), format!("(${})[1]", at + 2));
        let version = self.table.version_of("t");
        let local = names::own("local");
        format!("{version} <= ({time}, {node}) AND ({node} <> {} OR NOT {local}(t.xmin))", self.own)
    }

    /// That it is known when the held row `t` was written: what it wrote itself is not deleted on a guess.
    pub(super) fn known(&self) -> String {
        match self.table.untouched {
            true => format!(" AND {} > 0", self.table.time_of("t")),
            false => String::new(),
        }
    }

    /// That a deletion of the member's own, come back to it, leaves what it wrote itself: that is later. What this very
    /// transaction wrote is others'.
    pub(super) fn spared(&self) -> String {
        let node = self.table.node_of("t");
        match self.table.untouched {
            true => format!(
                " AND (v.n <> {} OR NOT {}(t.xmin) OR {node} IS NULL)",
                self.own,
                names::own("local")
            ),
            false => String::new(),
        }
    }

    /// That a row (`t`), or a deletion (`g`), is of another writer than the batch, who had not seen it. A row that this very
    /// transaction wrote has no node yet.
    pub(super) fn unseen_image(&self, other: &str) -> String {
        if other != "t" {
            return format!("{other}.{} <> v.n", names::NODE);
        }
        let columns = self.table.written().map(|(_, column)| {
            let name = quote_identifier(&column.name);
            let text = format!("CASE WHEN t.{name} IS NOT NULL THEN format('%s', t.{name}) END");
            format!("{}, {text}", quote_literal(&column.name))
        });
        // An object of many columns is put together from several: a function takes 100 arguments.
        let columns: Vec<String> = columns.collect();
        let objects =
            columns.chunks(40).map(|some| format!("jsonb_build_object({})", some.join(", ")));
        let image = objects.collect::<Vec<_>>().join(" || ");
        format!(
            "CASE WHEN {} <> v.n THEN v.o IS NULL OR NOT v.o::jsonb @> ({image}) ELSE false END",
            self.table.node_of("t")
        )
    }

    /// That `other` wrote something so shortly before the table's last TRUNCATE that whoever truncated may not have had it.
    pub(super) fn late_for_truncate(&self, time: &str, other: &str) -> String {
        let (emptied, node) = self.truncate_parts();
        format!("{other} <> {node} AND {time} > {emptied} - {LATE}")
    }

    /// Held rows whose commit time the server has forgotten, but for those that this transaction wrote.
    pub(super) fn forgotten(&self) -> String {
        let kind = Kind::Forgotten;
        format!(
            "SELECT FROM {} JOIN {} AS t ON {} WHERE pg_xact_commit_timestamp(t.xmin) IS NULL AND {} IS NOT NULL FOR UPDATE OF t",
            self.source(kind, false),
            self.name(),
            self.same_key(kind, "t"),
            self.table.node_of("t"),
        )
    }
}
