//! Columns that are kept in parts: whether they can be, and where.

use std::collections::BTreeSet;

use super::Planning;
use crate::config::PolicyConfig;
use crate::install::found::{Found, FoundTable};
use crate::install::{Step, ddl, layout};
use crate::names;
use crate::parts::{self, Kept, Parts};
use crate::table::TableName;

impl Planning<'_> {
    /// Makes the tables of parts where they are missing. Returns the names of all.
    pub(super) fn parts(&mut self, names: &BTreeSet<TableName>) -> BTreeSet<TableName> {
        let mut made = BTreeSet::new();
        for name in names.iter().filter(|name| *name.schema != *names::PARTS) {
            let policies = &self.setup.config.policies;
            let policy =
                parts::named(policies, name).map(|(exact, policy)| (exact, policy.clone()));
            for node in self.order() {
                let Some(found) = self.nodes.get(&node) else { continue };
                let Some(table) = found.tables.iter().find(|table| table.table_name() == *name)
                else {
                    continue;
                };
                let problems = problems(table, found, policy.as_ref());
                let shown = table.table();
                let kept = Parts::of(&shown, policy.as_ref().map(|(_, policy)| policy));
                let own = names::parts(name);
                let there = found.tables.iter().any(|table| table.table_name() == own);
                if !problems.is_empty() {
                    for problem in problems {
                        self.problem(format!("node `{node}`, table {name}: {problem}"));
                    }
                } else if !kept.is_empty() && !there {
                    let model = layout::parts::table(table, &found.facts.role);
                    let creation = ddl::create(&model, &node, &node, found);
                    let what = format!("make a table for the parts of columns of {name}");
                    self.plan.steps.push(Step::new(&node, what, creation.sql));
                    if let Some(found) = self.nodes.get_mut(&node) {
                        found.schemas.insert(model.schema.clone());
                        found.tables.push(model);
                    }
                }
                if !kept.is_empty() || there {
                    made.insert(own);
                }
            }
        }
        made
    }
}

/// Why columns of a table cannot be kept as a policy says. One that means many tables may name columns that some lack.
fn problems(
    table: &FoundTable,
    found: &Found,
    policy: Option<&(bool, PolicyConfig)>,
) -> Vec<String> {
    let shown = table.table();
    let kept = Parts::of(&shown, policy.map(|(_, policy)| policy));
    let mut problems = Vec::new();
    let there = |exact: bool, name: &String| exact || table.column(name).is_some();
    let named = policy
        .iter()
        .flat_map(|(exact, policy)| policy.delta.iter().filter(move |name| there(*exact, name)));
    for name in named {
        problems.extend(no_sum(table, name).map(|why| {
            format!("`delta` names \"{name}\", {why}; take it out of `delta`, or change the column")
        }));
    }
    let own = names::parts(&table.table_name());
    let was = Kept::read(found.functions.get(&format!("{}.{}", own.schema, own.name)));
    let now = Kept::of(&shown, &kept);
    let lost = was.lost(&now, &shown);
    if !lost.is_empty() {
        problems.push(format!(
            "its policy kept {} apart, and without that the members would each go on with what they happen to show; give the policy back, or take the table out with `exclude`, `herdsman mesh up`, and in again",
            lost.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
        ));
    }
    if kept.is_empty() {
        return problems;
    }
    if let Some(index) = table.indexes.iter().find(|index| index.unique && !index.primary) {
        problems.push(format!(
            "unique \"{}\" and a policy by column cannot go together: a row that waits for a value would not be seen to change; drop one of them",
            index.name
        ));
    }
    let place = |number: &i16| table.user_columns().position(|column| column.number == *number);
    for check in table.constraints.iter().filter(|constraint| constraint.kind == "c") {
        let columns: Vec<usize> = check.columns.iter().filter_map(place).collect();
        let sum = columns.iter().any(|at| kept.sums.contains(at));
        let cells = columns.len() > 1 && columns.iter().any(|at| kept.cells.contains(at));
        if sum || cells {
            let why = if sum {
                "two members may each keep to it and their changes together not"
            } else {
                "its columns may come from two members"
            };
            problems.push(format!(
                "check \"{}\" cannot be kept to with this policy: {why}; drop it, or take another policy",
                check.name
            ));
        }
    }
    problems
}

/// Why changes of a column cannot add up.
fn no_sum(table: &FoundTable, name: &str) -> Option<String> {
    let Some(column) = table.user_columns().find(|column| column.name == name) else {
        return Some("which there is not".to_owned());
    };
    if table.key().iter().any(|key| key.name == name) {
        Some("which is part of the primary key".to_owned())
    } else if !column.generated.is_empty() || !column.identity.is_empty() {
        Some("which is not for anybody to write".to_owned())
    } else if parts::bounds(&column.sql_type).is_none() {
        Some(format!("which is {}, not smallint, integer, bigint or numeric", column.sql_type))
    } else if !column.not_null {
        Some("which may be NULL, and NULL plus something is nothing".to_owned())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConflictPolicy;
    use crate::install::found::{Constraint, FoundColumn, FoundIndex};
    use crate::stamp::NodeId;

    fn column(number: i16, name: &str, sql_type: &str) -> FoundColumn {
        FoundColumn {
            number,
            name: name.into(),
            sql_type: sql_type.into(),
            not_null: name != "maybe",
            ..FoundColumn::default()
        }
    }

    fn table() -> FoundTable {
        let columns =
            [("id", "integer"), ("amount", "bigint"), ("maybe", "integer"), ("note", "text")];
        let columns = (1..).zip(columns).map(|(number, (name, kind))| column(number, name, kind));
        let primary =
            FoundIndex { columns: vec![1], unique: true, primary: true, ..FoundIndex::default() };
        FoundTable {
            schema: "public".into(),
            name: "t".into(),
            columns: columns.collect(),
            indexes: vec![primary],
            ..FoundTable::default()
        }
    }

    fn delta(columns: &[&str]) -> PolicyConfig {
        let delta = columns.iter().map(|column| (*column).to_owned()).collect();
        PolicyConfig { delta, ..PolicyConfig::default() }
    }

    fn by_column() -> PolicyConfig {
        PolicyConfig { conflict: ConflictPolicy::ColumnWise, ..PolicyConfig::default() }
    }

    fn told(table: &FoundTable, exact: bool, policy: PolicyConfig) -> String {
        problems(table, &Found::default(), Some(&(exact, policy))).join("; ")
    }

    #[test]
    fn only_numbers_that_are_never_null_add_up() {
        assert_eq!(told(&table(), true, delta(&["amount"])), "");
        for (name, why) in [
            ("id", "part of the primary key"),
            ("maybe", "may be NULL"),
            ("note", "is text"),
            ("amuont", "there is not"),
        ] {
            assert!(told(&table(), true, delta(&[name])).contains(why), "{name}");
        }
        assert_eq!(told(&table(), false, delta(&["amuont"])), "", "for another of its tables");
    }

    #[test]
    fn what_columns_from_two_members_could_break_is_refused() {
        let mut unique = table();
        let index = FoundIndex { name: "one".into(), unique: true, ..FoundIndex::default() };
        unique.indexes.push(index);
        assert!(told(&unique, true, by_column()).contains("unique \"one\""));
        let with = |columns: &[i16]| {
            let (kind, columns) = ("c".into(), columns.to_vec());
            let check = Constraint { name: "c".into(), kind, columns, ..Constraint::default() };
            FoundTable { constraints: vec![check], ..table() }
        };
        assert!(told(&with(&[2]), true, delta(&["amount"])).contains("check \"c\""));
        assert_eq!(told(&with(&[4]), true, delta(&["amount"])), "");
        assert!(told(&with(&[2, 4]), true, by_column()).contains("check \"c\""));
        assert_eq!(told(&with(&[4]), true, by_column()), "");
    }

    #[test]
    fn what_was_kept_apart_stays_so() {
        let kept = Parts::of(&table().table(), Some(&by_column()));
        let function = layout::parts::function(&table().table(), &kept, NodeId(1));
        let functions = [(function.name, function.body)].into();
        let found = Found { functions, ..Found::default() };
        assert_eq!(problems(&table(), &found, Some(&(true, by_column()))), Vec::<String>::new());
        let gone = problems(&table(), &found, None).join("; ");
        assert!(gone.contains("kept \"amount\", \"maybe\", \"note\" apart"), "{gone}");
    }
}
