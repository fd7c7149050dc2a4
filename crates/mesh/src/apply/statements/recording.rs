//! Conflicts: which there are, and what is recorded of them.

use herdsman_wal::quote_identifier;

use super::columns::cast;
use super::{Kind, LEAST, Statements};
use crate::names::{self, NODE, SEEN, SEEN_NODE, STAMP};

impl Statements<'_> {
    /// Conflicts of rows: with rows, with tombstones where there is no row, with a TRUNCATE that did not know them.
    pub(super) fn clash(&self) -> String {
        let kind = Kind::Clash;
        let (t, g, v) = (self.name(), self.gone(), self.source(kind, true));
        let (at_t, at_g) = (self.same_key(kind, "t"), self.same_key(kind, "g"));
        let truncate = self.truncate();
        let (time, node) = self.truncate_parts();
        let truncates = names::own("truncates");
        let (rel, own) = (self.rel(), self.own);
        let (ts, tn, tv) = self.held();
        // Whatever comes to who truncated after it did is not what it knew.
        let unknown = self.unknown_to_truncate("v.s", "v.n");
        let inserted = format!("v.b = {LEAST}");
        self.record(&format!(
            "SELECT v.*, {} AS held, {ts} AS hs, {tn} AS hno,
    CASE WHEN {inserted} THEN 'insert_insert' ELSE 'update_update' END AS kind
  FROM {v} JOIN {t} AS t ON {at_t} WHERE {}{}
  UNION ALL
  SELECT v.*, NULL, g.{STAMP}, g.{NODE}, 'update_delete'
  FROM {v} JOIN {g} AS g ON {at_g}
  WHERE EXISTS (SELECT FROM {g}) AND g.{NODE} <> v.n
    AND CASE WHEN (g.{STAMP}, g.{NODE}) < (v.s, v.n) THEN {} AND NOT {inserted}
      ELSE (g.{SEEN}, g.{SEEN_NODE}) <> (v.s, v.n) AND NOT ((g.{SEEN}, g.{SEEN_NODE}) > (v.s, v.n) AND g.{SEEN_NODE} = v.n) END
    AND NOT EXISTS (SELECT FROM {t} AS t WHERE {at_t} AND {tv} <> (v.s, v.n))
  UNION ALL
  SELECT v.*, NULL, {time}, {node}, 'truncate'
  FROM {v}
  WHERE EXISTS (SELECT FROM {truncates} WHERE rel = {rel}) AND (v.s, v.n) < {truncate}
    AND CASE WHEN {node} = {own} THEN v.n <> {own} ELSE {unknown} END",
            row("t"),
            self.unseen("t"),
            self.differs(),
            self.unseen("g"),
        ), kind)
    }

    /// That something but what is kept in parts differs: of parts nothing is lost, or their own table says what.
    fn differs(&self) -> String {
        if self.table.parts.is_empty() {
            return String::new();
        }
        let columns = self.columns.iter().enumerate().filter_map(|(at, column)| {
            let place = self.table.columns.iter().position(|known| known.name == column.name)?;
            let counts = !self.table.parts.contains(place) && !self.table.key.contains(&place);
            let name = quote_identifier(&column.name);
            counts.then(|| format!("t.{name}::text IS DISTINCT FROM v.c{at}::text"))
        });
        let columns: Vec<String> = columns.collect();
        let any = if columns.is_empty() { "false".to_owned() } else { columns.join(" OR ") };
        format!(" AND ({any})")
    }

    /// That `other` and `v` are of two writers, and the later of them is not known to have known the earlier.
    pub(super) fn unseen(&self, other: &str) -> String {
        if self.table.untouched {
            return self.unseen_image(other);
        }
        let held = format!("({other}.{STAMP}, {other}.{NODE})");
        format!(
            "{other}.{NODE} <> v.n AND (v.b, v.bn) <> {held} AND NOT ({held} < (v.s, v.n) AND (v.b, v.bn) > {held} AND v.bn = {other}.{NODE})"
        )
    }

    /// `found`: `v.*`, held, hs, hno, kind and, where there are no rows to make it of, arriving.
    pub(super) fn record(&self, found: &str, kind: Kind) -> String {
        let arriving = if kind.whole() {
            let values = self.columns.iter().enumerate().map(|(at, column)| {
                let (cast, name) = (cast(&column.sql_type), quote_identifier(&column.name));
                format!("(${})[v.i]::{cast} AS {name}", at + 1)
            });
            let values: Vec<String> = values.collect();
            format!("(SELECT to_jsonb(r) FROM (SELECT {}) AS r)", values.join(", "))
        } else {
            "v.arriving".to_owned()
        };
        let seen = match kind {
            Kind::Recheck => "NULL::bigint, NULL::smallint",
            _ => "v.b, v.bn",
        };
        format!(
            "INSERT INTO {} (rel, key, kind, winner, why, held, held_stamp, held_node, arriving, arriving_stamp, arriving_node, arriving_seen, arriving_seen_node)
SELECT {}, {}, v.kind,
  CASE WHEN (v.hs, v.hno) < (v.s, v.n) THEN 'arriving' ELSE 'held' END,
  CASE WHEN v.hs = v.s THEN 'same microsecond, greater node' ELSE concat('written later (' || abs(v.s - v.hs) || ' µs)') END,
  v.held, v.hs, v.hno, {arriving}, v.s, v.n, {seen}
FROM (
  {found}
) AS v",
            names::own("conflicts"),
            self.rel(),
            self.key_json(kind),
        )
    }
}

/// That `other` is just what the writer of `v` replaced, or deleted, by something later.
pub(super) fn seen(other: &str) -> String {
    format!(
        "{other}.{STAMP} = v.b AND {other}.{NODE} = v.bn AND ({other}.{STAMP}, {other}.{NODE}) < (v.s, v.n)"
    )
}

/// A row as JSON, without the mesh's columns.
pub(super) fn row(alias: &str) -> String {
    format!("to_jsonb({alias}) - '{{{STAMP},{NODE}}}'::text[]")
}
