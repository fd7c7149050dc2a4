//! The SQL that applies a batch of one table. Pure.
//!
//! A batch comes as one array for each column, taken apart by `unnest` in the select list (which, unlike `unnest` in
//! FROM, stores nothing in between) and cast from text to the column's type, so that every type goes the same way that
//! its own input goes. Behind the columns come always the stamps, their nodes, and what the writers had seen.

mod columns;
mod deleting;
mod evicting;
mod mending;
mod recording;
mod taking;
mod untouched;

use herdsman_wal::{quote_identifier, quote_literal};

use crate::names::{self, KNEW, NODE, STAMP};
use crate::stamp::NodeId;
use crate::table::{Column, Table};
pub(crate) use columns::{Missing, cast, taken};
use columns::{list, looks_differ};
pub(crate) use mending::mend_all;

/// What a statement does with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Rows: records conflicts, and puts in what is greater. For a snapshot that lasts all the transaction.
    Take,
    /// Rows: puts in what is greater, and records nothing.
    Put,
    /// Tombstones: records conflicts, deletes what is less, and keeps the tombstones.
    Bury,
    /// The member's own rows and tombstones, come back to it: deletes (and records) what should not be there.
    Recheck,
    /// Changed rows: puts them in the place of just what their writers replaced.
    Plain,
    /// Tombstones: deletes just what their writers deleted.
    Drop,
    /// Tombstones: keeps them.
    Keep,
    /// Rows: puts in those whose keys are free.
    Fresh,
    /// Rows and tombstones: finds what is held of their keys whose commit time the server has forgotten.
    Forgotten,
    /// Rows and tombstones: locks what is held of their keys.
    Lock,
    /// Rows: records conflicts.
    Clash,
    /// Rows: puts in what is greater, whatever others do meanwhile.
    Upsert,
    /// Rows: deletes what is less than they are, to make room for them.
    Clear,
    /// Rows: finds those that claim a value of a unique constraint which a row with another key has.
    Rivals,
    /// Rows: puts them where evicted rows wait.
    Evict,
    /// Rows and tombstones: those that wait and are less go.
    Forget,
    /// Rows: locks those of the same keys in the table whose columns are kept in parts.
    LockMended,
    /// Rows: has those show what their parts come to.
    Mend,
}

impl Kind {
    /// Whether it takes all columns, or those of the key only.
    pub(crate) const fn whole(self) -> bool {
        !matches!(
            self,
            Self::Bury
                | Self::Drop
                | Self::Keep
                | Self::Forgotten
                | Self::Recheck
                | Self::Lock
                | Self::Clear
                | Self::Forget
                | Self::LockMended
                | Self::Mend
        )
    }

    /// Whether it records conflicts of what it takes in.
    pub(crate) const fn records(self) -> bool {
        matches!(self, Self::Take | Self::Clash | Self::Bury)
    }

    /// How many times with their nodes it takes, of those that a version has: its own, what its writer had seen, and what is
    /// held and known to have seen it.
    pub(crate) const fn pairs(self) -> usize {
        match self {
            Self::Bury => 3,
            _ => 2,
        }
    }

    /// What it does, for errors: completes "failed to …".
    pub(crate) const fn what(self) -> &'static str {
        match self {
            Self::Take | Self::Put | Self::Plain | Self::Fresh | Self::Upsert => "apply rows",
            Self::Bury | Self::Drop | Self::Keep => "apply deletions",
            Self::Forgotten => "look for forgotten commit times",
            Self::Recheck => "check its own rows",
            Self::Lock | Self::LockMended => "lock rows",
            Self::Mend => "put the parts of columns together",
            Self::Clash => "record conflicts",
            Self::Clear => "make room for rows",
            Self::Rivals | Self::Evict | Self::Forget => "settle who has unique values",
        }
    }
}

/// The statements for batches of these columns of a table.
#[derive(Clone, Debug)]
pub(crate) struct Statements<'a> {
    table: &'a Table,
    /// What the batch brings and the table takes.
    columns: Vec<&'a Column>,
    own: NodeId,
    /// The table whose columns' parts the batch has, or is of.
    mended: Option<&'a Table>,
}

/// A stamp that is below all others, as SQL.
const LEAST: &str = "(-9223372036854775808)";

impl<'a> Statements<'a> {
    /// For a table as its member has it, and columns of a batch that it takes ([`taken`]), in the batch's order.
    pub(crate) fn new(table: &'a Table, columns: &[usize], own: NodeId) -> Self {
        let columns = columns.iter().filter_map(|at| table.columns.get(*at)).collect();
        Self { table, columns, own, mended: None }
    }

    /// With the table whose columns' parts the batch has, or is of.
    pub(crate) fn mending(self, mended: Option<&'a Table>) -> Self {
        Self { mended, ..self }
    }

    /// The text of a statement. Its parameters: an array for each column (of the key: in its order), times, nodes, times
    /// seen, nodes seen; of [`Kind::Bury`] then the times and nodes of held rows that are known to have seen them.
    pub(crate) fn text(&self, kind: Kind) -> String {
        match kind {
            Kind::Take => format!("WITH clash AS (\n{}\n)\n{}", self.clash(), self.put()),
            Kind::Put => self.put(),
            Kind::Plain => self.plain(),
            Kind::Drop => self.drop_seen(),
            Kind::Keep => self.keep(Kind::Keep),
            Kind::Bury => self.bury(),
            Kind::Forgotten => self.forgotten(),
            Kind::Recheck => self.recheck(),
            Kind::Fresh => format!("{}\nON CONFLICT ({}) DO NOTHING", self.insert(), self.key()),
            Kind::Lock => self.lock(),
            Kind::Clash => self.clash(),
            Kind::Upsert => self.upsert(),
            Kind::Clear => self.clear(),
            Kind::Rivals => self.rivals(),
            Kind::Evict => self.evict(),
            Kind::Forget => self.forget(),
            Kind::LockMended => self.mended.map(|of| self.lock_mended(of)).unwrap_or_default(),
            Kind::Mend => self.mended.map(|of| self.mend(of)).unwrap_or_default(),
        }
    }

    fn name(&self) -> String {
        self.table.name.quoted()
    }

    fn gone(&self) -> String {
        names::gone(&self.table.name)
    }

    fn rel(&self) -> String {
        quote_literal(&self.table.name.to_string())
    }

    fn key(&self) -> String {
        list(self.table.key_columns(), |column| quote_identifier(&column.name))
    }

    /// The batch as `v`: columns `c0`…, time `s`, node `n`, seen `b` and `bn`; for tombstones also held `h` and `hn`.
    fn source(&self, kind: Kind, numbered: bool) -> String {
        let columns: Vec<&Column> =
            if kind.whole() { self.columns.clone() } else { self.table.key_columns().collect() };
        let mut parts: Vec<String> = columns
            .iter()
            .enumerate()
            .map(|(at, column)| format!("unnest(${})::{} AS c{at}", at + 1, cast(&column.sql_type)))
            .collect();
        let names = ["s", "n", "b", "bn", "h", "hn"];
        for (at, name) in names.iter().take(kind.pairs() * 2).enumerate() {
            parts.push(format!("unnest(${}) AS {name}", columns.len() + at + 1));
        }
        if self.has_images(kind) {
            parts.push(format!("unnest(${}) AS o", columns.len() + kind.pairs() * 2 + 1));
        }
        if numbered {
            parts.push(format!("generate_subscripts(${}, 1) AS i", columns.len() + 1));
        }
        format!("(SELECT {}) AS v", parts.join(", "))
    }

    /// That `v` and `other` have the same key.
    fn same_key(&self, kind: Kind, other: &str) -> String {
        let columns = self.table.key_columns().enumerate().map(|(place, column)| {
            let at = if kind.whole() {
                self.columns.iter().position(|known| known.name == column.name).unwrap_or(place)
            } else {
                place
            };
            format!("{other}.{} = v.c{at}", quote_identifier(&column.name))
        });
        columns.collect::<Vec<_>>().join(" AND ")
    }

    /// The time and node of the table's last TRUNCATE.
    fn truncate(&self) -> String {
        let (time, node) = self.truncate_parts();
        format!("(coalesce({time}, {LEAST}::bigint), coalesce({node}, (-32768)::smallint))")
    }

    fn truncate_parts(&self) -> (String, String) {
        (self.truncate_part(STAMP), self.truncate_part(NODE))
    }

    fn truncate_part(&self, column: &str) -> String {
        let (truncates, rel) = (names::own("truncates"), self.rel());
        format!("(SELECT {column} FROM {truncates} WHERE rel = {rel})")
    }

    /// That who wrote the table's last TRUNCATE did not have what `other` wrote at `time`, as far as signs of life tell: of
    /// what a member wrote after its last one some may have come all the same.
    fn unknown_to_truncate(&self, time: &str, other: &str) -> String {
        if self.table.untouched {
            return self.late_for_truncate(time, other);
        }
        let (node, knew) = (self.truncate_part(NODE), self.truncate_part(KNEW));
        format!(
            "{other} <> {node} AND {knew} IS NOT NULL AND {time} > coalesce(({knew} ->> {other}::text)::bigint, 0)"
        )
    }

    /// That nothing says that the row in `v` is gone.
    fn alive(&self, kind: Kind) -> String {
        format!(
            "NOT EXISTS (SELECT FROM {} AS g WHERE {} AND (g.{STAMP}, g.{NODE}) > (v.s, v.n))\n  AND (v.s, v.n) >= {}",
            self.gone(),
            self.same_key(kind, "g"),
            self.truncate()
        )
    }

    fn columns_list(&self) -> String {
        let columns = list(self.columns.iter().copied(), |column| quote_identifier(&column.name));
        if self.table.untouched { columns } else { format!("{columns}, {STAMP}, {NODE}") }
    }

    fn values_list(&self) -> String {
        let values: Vec<String> = (0..self.columns.len()).map(|at| format!("v.c{at}")).collect();
        let values = values.join(", ");
        if self.table.untouched { values } else { format!("{values}, v.s, v.n") }
    }

    /// What an update sets. A key is equal already, and set only where equal values may look different.
    fn set(&self, from: impl Fn(usize, &Column) -> String, stamp: &str) -> String {
        let key: Vec<&str> = self.table.key_columns().map(|column| &*column.name).collect();
        let set = self.columns.iter().enumerate().filter(|(_, column)| {
            let in_key = key.contains(&&*column.name);
            !column.identity_always && (!in_key || looks_differ(&column.sql_type))
        });
        let set: Vec<String> = set
            .map(|(at, column)| {
                format!("{} = {}, ", quote_identifier(&column.name), from(at, column))
            })
            .collect();
        // What rows of an older form lack is what the column was filled with where they were written.
        let lacking = self.table.written().filter(|(_, column)| {
            !column.identity_always
                && !key.contains(&&*column.name)
                && !self.columns.iter().any(|known| known.name == column.name)
        });
        let lacking: Vec<String> = lacking
            .map(|(_, column)| format!("{} = DEFAULT, ", quote_identifier(&column.name)))
            .collect();
        let set = format!("{}{}", set.concat(), lacking.concat());
        match (self.table.untouched, set.strip_suffix(", ")) {
            (false, _) => format!("{set}{stamp}"),
            (true, Some(set)) => set.to_owned(),
            // All of it is key: it is written all the same, so as to be of this version.
            (true, None) => {
                let first = self.columns.iter().enumerate().find(|(_, c)| key.contains(&&*c.name));
                first.map_or_else(String::new, |(at, column)| {
                    format!("{} = {}", quote_identifier(&column.name), from(at, column))
                })
            }
        }
    }

    /// The key in `v` as JSON.
    fn key_json(&self, kind: Kind) -> String {
        let key = self.table.key_columns().enumerate().map(|(place, column)| {
            let of = |known: &&Column| known.name == column.name;
            let whole = self.columns.iter().position(of).unwrap_or(place);
            let at = if kind.whole() { whole } else { place };
            format!("v.c{at} AS {}", quote_identifier(&column.name))
        });
        format!("(SELECT to_jsonb(r) FROM (SELECT {}) AS r)", key.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests;
