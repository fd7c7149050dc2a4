//! Columns whose values are not simply the ones of the greatest version of their row.
//!
//! A table whose policy says so has a second table beside it, `herdsman_parts."schema.name"`, in which a trigger writes down
//! what users do with single columns; that table is in the mesh like any other, so that every member comes to hold the same
//! of it, and each works out from it what its rows show. What is shown is a function of what all hold alike, and therefore
//! alike too, in whatever order anything came.
//!
//! - **Sums** (`delta`: balances, stocks, counters): for each member one register, which only that member writes: what all
//!   its changes of the column come to. The column shows the sum of the registers. Whoever inserts a row sets its own
//!   register so that the sum is what it inserted; member 0 stands for what was there before the policy was.
//! - **Cells** (`column_wise`): the column's value and when it was written, the later one winning. The column shows it.
//!
//! Neither is ever deleted with its row: a member that had not heard of the deletion might still be adding to them. The next
//! insertion under that key takes them over.

use std::collections::BTreeSet;

use crate::config::{ConflictPolicy, PolicyConfig};
use crate::table::{Column, Table, TableName};

/// Which columns of a table are kept in parts: their places in [`Table::columns`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Those whose changes add up.
    pub sums: Vec<usize>,
    /// Those of which each keeps the value written last.
    pub cells: Vec<usize>,
}

impl Parts {
    /// What a policy means for a table. Columns that it names and the table lacks are left out: who plans says so.
    #[must_use]
    pub fn of(table: &Table, policy: Option<&PolicyConfig>) -> Self {
        let Some(policy) = policy else { return Self::default() };
        let named = |column: &Column| policy.delta.iter().any(|name| **name == *column.name);
        let free = |at: &usize, column: &Column| {
            !table.key.contains(at) && !column.generated && !column.identity_always
        };
        let places = |fits: &dyn Fn(&Column) -> bool| {
            let columns = table.columns.iter().enumerate();
            columns
                .filter(|(at, column)| free(at, column) && fits(column))
                .map(|(at, _)| at)
                .collect()
        };
        let by_column = policy.conflict == ConflictPolicy::ColumnWise;
        Self { sums: places(&named), cells: places(&|column| by_column && !named(column)) }
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.sums.is_empty() && self.cells.is_empty()
    }

    /// Whether a column is kept in parts.
    #[must_use]
    pub fn contains(&self, at: usize) -> bool {
        self.sums.contains(&at) || self.cells.contains(&at)
    }
}

/// What of a table is kept in parts, by name, as the function that writes the parts notes it: what has been kept so cannot be
/// kept otherwise later, since every member would begin with what it happens to show.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Kept {
    sums: BTreeSet<Box<str>>,
    cells: BTreeSet<Box<str>>,
}

impl Kept {
    /// What these come to.
    pub(crate) fn of(table: &Table, parts: &Parts) -> Self {
        let named = |places: &[usize]| {
            places.iter().filter_map(|at| table.columns.get(*at)).map(|c| c.name.clone()).collect()
        };
        Self { sums: named(&parts.sums), cells: named(&parts.cells) }
    }

    /// As a line of the function.
    pub(crate) fn noted(&self) -> String {
        format!("-- kept: {}", serde_json::to_string(self).unwrap_or_default())
    }

    /// What a function's text notes; nothing where there is none.
    pub(crate) fn read(body: Option<&String>) -> Self {
        let line =
            body.and_then(|body| body.lines().find_map(|l| l.trim().strip_prefix("-- kept: ")));
        line.and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default()
    }

    /// Columns that `now` would keep otherwise. A column that was dropped is nobody's loss.
    pub(crate) fn lost<'a>(&'a self, now: &'a Self, table: &'a Table) -> Vec<&'a str> {
        let there = |name: &&str| table.columns.iter().any(|column| *column.name == **name);
        let sums = self.sums.difference(&now.sums);
        let cells = self.cells.difference(&now.cells);
        sums.chain(cells).map(|name| &**name).filter(there).collect()
    }
}

/// The least and the greatest value of a type whose values can be added, as SQL; empty where there are none. `None` for other
/// types.
pub(crate) fn bounds(sql_type: &str) -> Option<(String, String)> {
    let both = |most: &str, least: &str| Some((least.to_owned(), most.to_owned()));
    match sql_type {
        "smallint" => both("32767", "-32768"),
        "integer" => both("2147483647", "-2147483648"),
        "bigint" => both("9223372036854775807", "-9223372036854775808"),
        "numeric" => both("", ""),
        _ => {
            let (digits, scale) =
                sql_type.strip_prefix("numeric(")?.strip_suffix(')')?.split_once(',')?;
            let (digits, scale): (usize, usize) = (digits.parse().ok()?, scale.parse().ok()?);
            let whole = digits.checked_sub(scale)?;
            let most = format!("{}.{}", "9".repeat(whole.max(1)), "9".repeat(scale));
            let most = if whole == 0 { most.replacen('9', "0", 1) } else { most };
            let most = most.trim_end_matches('.');
            both(most, &format!("-{most}"))
        }
    }
}

/// The policy of a table: of the patterns that mean it an exact name, or else the longest.
pub(crate) fn policy<'a>(
    policies: impl IntoIterator<Item = (&'a String, &'a PolicyConfig)>,
    table: &TableName,
) -> Option<&'a PolicyConfig> {
    named(policies, table).map(|(_, policy)| policy)
}

/// The same, and whether it is for this table by name.
pub(crate) fn named<'a>(
    policies: impl IntoIterator<Item = (&'a String, &'a PolicyConfig)>,
    table: &TableName,
) -> Option<(bool, &'a PolicyConfig)> {
    let meant = policies.into_iter().filter_map(|(pattern, policy)| {
        let glob = herdsman_wal::Glob::new(pattern).ok()?;
        let letters = pattern.chars().filter(|c| !"*?".contains(*c)).count();
        let rank = (glob.is_exact(), letters);
        glob.matches(&table.schema, &table.name).then_some((rank, policy))
    });
    meant.max_by_key(|(rank, _)| *rank).map(|((exact, _), policy)| (exact, policy))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn column(name: &str) -> Column {
        Column {
            name: name.into(),
            sql_type: "integer".into(),
            nullable: false,
            generated: name == "computed",
            identity_always: false,
        }
    }

    fn table() -> Table {
        Table {
            name: TableName::new("public", "stock"),
            columns: ["id", "amount", "place", "computed"].map(column).to_vec(),
            key: vec![0],
            uniques: Vec::new(),
            foreign_keys: Vec::new(),
            stamped: true,
            full_identity: true,
            parts: Parts::default(),
            untouched: false,
        }
    }

    #[test]
    fn a_policy_says_which_columns_add_up_and_which_are_kept_one_by_one() {
        let delta = PolicyConfig { delta: vec!["amount".into()], ..PolicyConfig::default() };
        let both = PolicyConfig { conflict: ConflictPolicy::ColumnWise, ..delta.clone() };
        let plain = PolicyConfig::default();
        let of = |policy: &PolicyConfig| Parts::of(&table(), Some(policy));
        assert_eq!(of(&delta), Parts { sums: vec![1], cells: vec![] });
        assert_eq!(of(&both), Parts { sums: vec![1], cells: vec![2] });
        assert!(of(&plain).is_empty());
        assert!(Parts::of(&table(), None).is_empty());
    }

    #[test]
    fn what_was_kept_is_read_back_from_the_function_and_must_stay_so() {
        let table = table();
        let kept = |sums: &[usize], cells: &[usize]| {
            Kept::of(&table, &Parts { sums: sums.to_vec(), cells: cells.to_vec() })
        };
        let body = format!("\nBEGIN\n  {}\nEND", kept(&[1], &[2]).noted());
        let was = Kept::read(Some(&body));
        assert_eq!(was, kept(&[1], &[2]));
        assert_eq!(Kept::read(None), Kept::default());
        assert!(was.lost(&kept(&[1], &[2]), &table).is_empty());
        assert_eq!(was.lost(&kept(&[1], &[]), &table), ["place"]);
        assert_eq!(was.lost(&kept(&[], &[1, 2]), &table), ["amount"]);
        let more = kept(&[1], &[]);
        assert!(more.lost(&kept(&[1, 2], &[]), &table).is_empty(), "more may be");
    }

    #[test]
    fn a_sum_is_kept_within_what_its_type_can_hold() {
        let most = |sql_type| bounds(sql_type).map(|(_, most)| most);
        assert_eq!(most("smallint").as_deref(), Some("32767"));
        assert_eq!(most("numeric(5,2)").as_deref(), Some("999.99"));
        assert_eq!(most("numeric(3,3)").as_deref(), Some("0.999"));
        assert_eq!(most("numeric(4,0)").as_deref(), Some("9999"));
        assert_eq!(most("numeric").as_deref(), Some(""));
        for other in ["text", "integer[]", "double precision", "money", "numeric(2,-3)"] {
            assert_eq!(most(other), None, "{other}");
        }
    }

    #[test]
    fn an_exact_name_wins_over_a_pattern_and_a_longer_pattern_over_a_shorter_one() {
        let named =
            |name: &str| PolicyConfig { delta: vec![name.into()], ..PolicyConfig::default() };
        let patterns = ["*.*", "public.*", "public.st*", "public.stock"];
        let mut policies: BTreeMap<String, PolicyConfig> =
            patterns.iter().map(|pattern| ((*pattern).to_owned(), named(pattern))).collect();
        for expected in patterns.iter().rev() {
            let found = policy(&policies, &table().name).map(|policy| policy.delta[0].as_str());
            assert_eq!(found, Some(*expected));
            policies.remove(*expected);
        }
        assert_eq!(policy(&policies, &table().name), None);
    }
}
