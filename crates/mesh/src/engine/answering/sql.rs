//! The SQL of answers. Rows go from JSON to the table's types the way PostgreSQL itself takes them.

use herdsman_wal::quote_identifier;

use crate::names::{self, NODE, SEEN, SEEN_NODE, STAMP};
use crate::table::{Column, Table};

/// Up to when all other members were heard of.
const HEARD: &str = "(SELECT min(p.heartbeat) FROM herdsman.progress AS p JOIN herdsman.members AS m ON m.node = p.source
    WHERE m.state <> 'gone' AND p.source <> (SELECT node FROM herdsman.mesh))";

/// The next conflict in which the member's own version lost for sure, with whether all others were heard of since.
pub(super) fn next() -> String {
    format!("
SELECT c.id, c.rel, c.key::text AS key, c.kind, c.winner = 'arriving' AS arriving_won, c.held::text AS held, c.held_stamp,
  c.held_node, c.arriving::text AS arriving, c.arriving_stamp, c.arriving_node,
  coalesce(greatest(c.held_stamp, c.arriving_stamp) < {HEARD}, false) AS settled
FROM herdsman.conflicts AS c
WHERE c.id > coalesce((SELECT last FROM herdsman.answers), 0) AND c.rel = ANY ($1) AND c.kind <> 'truncate'
  AND c.held_stamp IS NOT NULL AND c.arriving_stamp IS NOT NULL
  AND CASE c.winner WHEN 'arriving' THEN c.held_node ELSE c.arriving_node END = (SELECT node FROM herdsman.mesh)
  AND c.held_node <> c.arriving_node
  AND (c.winner <> 'arriving' OR c.arriving_seen IS NULL
    OR (c.arriving_seen, c.arriving_seen_node) < (c.held_stamp, c.held_node))
ORDER BY c.id LIMIT 1")
}

/// Whether the version that is held now (`$3`, `$4`), which is not the one the conflict (of `$1`, `$2`) was with, did not
/// know the loser (`$5`, `$6`) either; whether all others were heard of since; and whether there is an insertion that none
/// of them knew, earlier than the loser. The winner is `$7` and `$8`.
pub(super) fn standing() -> String {
    format!(
        "SELECT EXISTS (SELECT FROM herdsman.conflicts AS c WHERE c.rel = $1 AND c.key = $2::text::jsonb AND c.winner = 'arriving'
    AND (c.arriving_stamp, c.arriving_node) = ($3::bigint, $4::smallint)
    AND (c.arriving_seen, c.arriving_seen_node) < ($5::bigint, $6::smallint)) AS unknowing,
  coalesce($3::bigint < {HEARD}, false) AS settled,
  EXISTS (SELECT FROM herdsman.conflicts AS c
    CROSS JOIN LATERAL (VALUES (c.held_stamp, c.held_node, c.arriving_stamp, c.arriving_node),
      (c.arriving_stamp, c.arriving_node, c.held_stamp, c.held_node)) AS s (stamp, node, other, other_node)
    WHERE c.rel = $1 AND c.key = $2::text::jsonb AND c.kind = 'insert_insert'
      AND (s.stamp, s.node) IN (($3::bigint, $4::smallint), ($5::bigint, $6::smallint), ($7::bigint, $8::smallint))
      AND (s.other, s.other_node) < ($5::bigint, $6::smallint)) AS earlier"
    )
}

/// How far it is, for nobody else until the transaction ends.
pub(super) const TAKE: &str = "
INSERT INTO herdsman.answers AS a (one, last) VALUES (true, 0) ON CONFLICT (one) DO UPDATE SET last = a.last RETURNING last";

/// This far now.
pub(super) const DONE: &str = "UPDATE herdsman.answers SET last = $1";

/// What a function makes of the older and the newer row. Its name is two plain words (the configuration sees to that).
pub(super) fn handler(name: &str) -> String {
    let name: Vec<String> = name.split('.').map(quote_identifier).collect();
    format!("SELECT made::text FROM {}($1::text::jsonb, $2::text::jsonb) AS made", name.join("."))
}

/// Statements for one table. `$1` is the key, `$2` a row.
pub(super) struct Statements<'a> {
    table: &'a Table,
    name: String,
}

impl<'a> Statements<'a> {
    pub(super) fn new(table: &'a Table) -> Self {
        Self { table, name: table.name.quoted() }
    }

    fn key(&self) -> String {
        format!("jsonb_populate_record(NULL::{}, $1::text::jsonb) AS k", self.name)
    }

    fn row(&self) -> String {
        format!(
            "jsonb_populate_record(NULL::{}, $2::text::jsonb || $1::text::jsonb) AS r",
            self.name
        )
    }

    fn same(&self, of: &str) -> String {
        let equal = |column: &Column| {
            let name = quote_identifier(&column.name);
            format!("{of}.{name} = k.{name}")
        };
        self.table.key_columns().map(equal).collect::<Vec<_>>().join(" AND ")
    }

    fn list(&self, fits: impl Fn(usize, &Column) -> bool, text: impl Fn(&str) -> String) -> String {
        let columns = self.table.written().filter(|(at, column)| fits(*at, column));
        columns.map(|(_, c)| text(&quote_identifier(&c.name))).collect::<Vec<_>>().join(", ")
    }

    /// What is held of the key, locked; and whether a tombstone says that the loser (`$2`, `$3`) was known and deleted.
    pub(super) fn held(&self) -> String {
        let gone = names::gone(&self.table.name);
        format!(
            "SELECT (to_jsonb(t) - '{{{STAMP},{NODE}}}'::text[])::text AS row, t.{STAMP} AS stamp, t.{NODE} AS node,
  EXISTS (SELECT FROM {gone} AS g WHERE {} AND (g.{SEEN}, g.{SEEN_NODE}) = ($2::bigint, $3::smallint)) AS deleted
FROM {}, {} AS t WHERE {} FOR UPDATE OF t",
            self.same("g"),
            self.key(),
            self.name,
            self.same("t")
        )
    }

    /// The tombstone of the key.
    pub(super) fn gone(&self) -> String {
        format!(
            "SELECT g.{STAMP} AS stamp, g.{NODE} AS node FROM {}, {} AS g WHERE {}",
            self.key(),
            names::gone(&self.table.name),
            self.same("g")
        )
    }

    pub(super) fn update(&self) -> String {
        // What adds up is nobody's to take back.
        let free = |at: usize, column: &Column| {
            !self.table.key.contains(&at)
                && !column.identity_always
                && !self.table.parts.contains(at)
        };
        let set = self.list(free, |name| format!("{name} = r.{name}"));
        // A table of keys only: that it is written counts.
        let set = if set.is_empty() { format!("{STAMP} = t.{STAMP}") } else { set };
        format!(
            "UPDATE {} AS t SET {set} FROM {}, {} WHERE {}",
            self.name,
            self.key(),
            self.row(),
            self.same("t")
        )
    }

    pub(super) fn insert(&self) -> String {
        let columns = self.list(|_, _| true, str::to_owned);
        let values = self.list(|_, _| true, |name| format!("r.{name}"));
        format!(
            "INSERT INTO {} ({columns}) OVERRIDING SYSTEM VALUE SELECT {values} FROM {}",
            self.name,
            self.row()
        )
    }

    pub(super) fn delete(&self) -> String {
        format!("DELETE FROM {} AS t USING {} WHERE {}", self.name, self.key(), self.same("t"))
    }
}
