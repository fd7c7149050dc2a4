//! Rows that claim a value which another row has, and such as wait for one.

use herdsman_wal::{quote_identifier, quote_literal};

use super::columns::list;
use super::{Kind, Statements};
use crate::names::{self, NODE, STAMP};

impl Statements<'_> {
    /// That no later version waits in `herdsman.evicted`.
    pub(super) fn not_evicted(&self, kind: Kind) -> String {
        format!(
            "NOT EXISTS (SELECT FROM {} AS e WHERE e.rel = {} AND e.key = {} AND (e.{STAMP}, e.{NODE}) >= (v.s, v.n))",
            names::own("evicted"),
            self.rel(),
            self.key_json(kind)
        )
    }

    pub(super) fn rivals(&self) -> String {
        let kind = Kind::Rivals;
        let (t, source) = (self.name(), self.source(kind, true));
        let same = self.same_key(kind, "t");
        let own = list(self.table.key_columns(), |column| {
            let name = quote_identifier(&column.name);
            format!("t.{name} AS {name}")
        });
        let each = self.table.uniques.iter().filter(|unique| unique.plain).map(|unique| {
            let columns = unique.columns.iter().filter_map(|at| self.table.columns.get(*at));
            let equal: Vec<String> = columns
                .filter_map(|column| {
                    let at = self.columns.iter().position(|known| known.name == column.name)?;
                    Some(format!("t.{} = v.c{at}", quote_identifier(&column.name)))
                })
                .collect();
            format!(
                "SELECT v.i, {}, {}::text, (SELECT to_jsonb(r) FROM (SELECT {own}) AS r)::text
FROM {source} JOIN {t} AS t ON {} AND NOT ({same})
WHERE {}\n  AND {}\n  AND NOT EXISTS (SELECT FROM {t} AS t WHERE {same})",
                quote_literal(&unique.name),
                self.key_json(kind),
                equal.join(" AND "),
                self.alive(kind),
                self.not_evicted(kind),
            )
        });
        each.collect::<Vec<_>>().join("\nUNION ALL\n")
    }

    pub(super) fn evict(&self) -> String {
        let kind = Kind::Evict;
        let texts = self.columns.iter().enumerate().map(|(at, column)| {
            format!("(${})[v.i] AS {}", at + 1, quote_identifier(&column.name))
        });
        let texts: Vec<String> = texts.collect();
        format!(
            "INSERT INTO {} AS e (rel, key, row, {STAMP}, {NODE}, clash)
SELECT {}, {}, (SELECT to_jsonb(r) FROM (SELECT {}) AS r), v.s, v.n, '' FROM {}
WHERE {}
ON CONFLICT (rel, key) DO UPDATE SET row = excluded.row, {STAMP} = excluded.{STAMP}, {NODE} = excluded.{NODE}, clash = '', at = excluded.at
WHERE (e.{STAMP}, e.{NODE}) < (excluded.{STAMP}, excluded.{NODE})",
            names::own("evicted"),
            self.rel(),
            self.key_json(kind),
            texts.join(", "),
            self.source(kind, true),
            self.alive(kind),
        )
    }

    pub(super) fn forget(&self) -> String {
        let kind = Kind::Forget;
        format!(
            "DELETE FROM {} AS e USING {} WHERE e.rel = {} AND e.key = {} AND (e.{STAMP}, e.{NODE}) < (v.s, v.n)",
            names::own("evicted"),
            self.source(kind, false),
            self.rel(),
            self.key_json(kind)
        )
    }
}
