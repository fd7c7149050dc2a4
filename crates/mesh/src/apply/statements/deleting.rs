//! Tombstones and truncations: what is less goes.

use herdsman_wal::quote_identifier;

use super::recording::{row, seen};
use super::{Kind, Statements};
use crate::names::{self, NODE, SEEN, SEEN_NODE, STAMP};
use crate::stamp::Stamp;

impl Statements<'_> {
    pub(super) fn bury(&self) -> String {
        let kind = Kind::Bury;
        let (t, v) = (self.name(), self.source(kind, false));
        let (ts, tn, tv) = self.held();
        let (less, spared) = (self.less(), self.spared());
        let clash = self.record(&format!(
            "SELECT v.*, {} AS held, {ts} AS hs, {tn} AS hno, 'update_delete' AS kind, NULL::jsonb AS arriving
  FROM {v} JOIN {t} AS t ON {} WHERE {} AND {tv} <> (v.h, v.hn)",
            row("t"),
            self.same_key(kind, "t"),
            self.unseen("t"),
        ), kind);
        format!(
            "WITH clash AS (\n{clash}\n), dead AS (
DELETE FROM {t} AS t USING {v} WHERE {} AND {tv} {less} (v.s, v.n){spared}
)
{}",
            self.same_key(kind, "t"),
            self.keep(kind),
        )
    }

    /// Deletes rows that are what the writers of the tombstones deleted. Where all are, there is no conflict to record.
    pub(super) fn drop_seen(&self) -> String {
        let kind = Kind::Drop;
        format!(
            "DELETE FROM {} AS t USING {} WHERE {} AND {}",
            self.name(),
            self.source(kind, false),
            self.same_key(kind, "t"),
            seen("t"),
        )
    }

    /// Keeps tombstones.
    pub(super) fn keep(&self, kind: Kind) -> String {
        let key: Vec<String> = (0..self.table.key.len()).map(|at| format!("v.c{at}")).collect();
        format!(
            "INSERT INTO {} AS g ({}, {STAMP}, {NODE}, {SEEN}, {SEEN_NODE})
SELECT {}, v.s, v.n, v.b, v.bn FROM {}
ON CONFLICT ({}) DO UPDATE SET {STAMP} = excluded.{STAMP}, {NODE} = excluded.{NODE}, {SEEN} = excluded.{SEEN}, {SEEN_NODE} = excluded.{SEEN_NODE}
WHERE (g.{STAMP}, g.{NODE}) < (excluded.{STAMP}, excluded.{NODE})",
            self.gone(),
            self.key(),
            key.join(", "),
            self.source(kind, false),
            self.key(),
        )
    }

    pub(super) fn recheck(&self) -> String {
        let kind = Kind::Recheck;
        let (t, g, v) = (self.name(), self.gone(), self.source(kind, false));
        let (at_t, at_g) = (self.same_key(kind, "t"), self.same_key(kind, "g"));
        let truncates = names::own("truncates");
        let (rel, truncate) = (self.rel(), self.truncate());
        let keys = self.table.key.len();
        let key: Vec<String> = (0..keys).map(|at| format!("v.c{at}")).collect();
        let (key, row) = (key.join(", "), row("t"));
        let (ts, tn, tv) = self.held();
        let known = self.known();
        let late = self.gone_of_late(kind);
        let lost = self.record(
            "SELECT l.*, NULL::jsonb AS held, 'update_delete' AS kind FROM lost AS l
  UNION ALL SELECT l.*, NULL, 'truncate' FROM emptied AS l",
            kind,
        );
        format!(
            "WITH lost AS (
DELETE FROM {t} AS t USING {v} JOIN {g} AS g ON {at_g}
WHERE {late} AND {at_t} AND {tv} < (g.{STAMP}, g.{NODE}){known}
RETURNING {key}, {row} AS arriving, {ts} AS s, {tn} AS n, g.{STAMP} AS hs, g.{NODE} AS hno
), emptied AS (
DELETE FROM {t} AS t USING {v}
WHERE EXISTS (SELECT FROM {truncates} WHERE rel = {rel}) AND {at_t} AND {tv} < {truncate}{known}
RETURNING {key}, {row} AS arriving, {ts} AS s, {tn} AS n, NULL::bigint AS hs, NULL::smallint AS hno
)
{lost}"
        )
    }

    /// That there is a tombstone that is not older than all that a batch brings.
    pub(super) fn gone_of_late(&self, kind: Kind) -> String {
        let columns = if kind.whole() { self.columns.len() } else { self.table.key.len() };
        format!(
            "EXISTS (SELECT FROM {} WHERE {STAMP} >= (SELECT min(s) FROM unnest(${}) AS s))",
            self.gone(),
            columns + 1
        )
    }

    /// What a TRUNCATE does: deletes rows that are older than the last one, all over the table. Those are recorded that
    /// its writer did not know. `own`: it is the member's own, and whatever is still there slipped in meanwhile.
    ///
    /// `arriving` is the one to be done now, which need not be the last. Rows of just its stamp came before it in its
    /// writer's log, if stamps are those of transactions; rows of the last one's may have come with that.
    pub(crate) fn empty(&self, own: bool, arriving: Stamp) -> String {
        let (time, node) = self.truncate_parts();
        let (ts, tn, tv) = self.held();
        let same = if self.table.untouched && !own {
            format!(" OR {tv} = ({}, {})", arriving.micros, arriving.node.0)
        } else {
            String::new()
        };
        let lost = if own { "true".to_owned() } else { self.unknown_to_truncate(&ts, &tn) };
        let keys = self.table.key_columns().enumerate();
        let keys: Vec<String> = keys
            .map(|(at, column)| format!("t.{} AS c{at}", quote_identifier(&column.name)))
            .collect();
        let found = format!(
            "SELECT l.*, NULL::jsonb AS arriving, {time} AS s, {node} AS n, 'truncate' AS kind FROM lost AS l WHERE l.held IS NOT NULL"
        );
        format!(
            "WITH lost AS (
DELETE FROM {} AS t WHERE {tv} < {}{same}
RETURNING {}, CASE WHEN {lost} THEN {} END AS held, {ts} AS hs, {tn} AS hno
)
{}",
            self.name(),
            self.truncate(),
            keys.join(", "),
            row("t"),
            self.record(&found, Kind::Recheck)
        )
    }
}
