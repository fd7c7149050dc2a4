//! How rows of one relation get into one table there: which columns, by which key, in which words. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use herdsman_wal::{Relation, ReplicaIdentity, quote_identifier};

/// A table at the target as its catalogue describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TargetTable {
    /// Its name as SQL takes it.
    pub(super) name: String,
    /// Whether it is partitioned.
    pub(super) partitioned: bool,
    /// Its columns.
    pub(super) columns: Vec<TargetColumn>,
    /// The columns of its primary key.
    pub(super) primary: Vec<String>,
    /// The columns of each unique index that a conflict can be found by.
    pub(super) unique: Vec<Vec<String>>,
}

/// A column at the target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TargetColumn {
    /// Its name.
    pub(super) name: String,
    /// Its type as SQL takes it, without a modifier: with one, a cast would cut values silently.
    pub(super) data_type: String,
    /// Whether a row must give it a value.
    pub(super) needed: bool,
    /// Whether it is `GENERATED ALWAYS AS IDENTITY`: may be inserted, never updated.
    pub(super) identity_always: bool,
    /// Whether the target computes it.
    pub(super) generated: bool,
    /// The schema of its type's `=`, as SQL takes it.
    pub(super) equality: String,
}

/// How rows of one relation get into one table.
#[derive(Debug)]
pub(super) struct Plan {
    /// Tells it from every other.
    pub(super) id: u64,
    /// The table at the target as SQL takes it.
    pub(super) table: String,
    partitioned: bool,
    /// What is written.
    pub(super) columns: Vec<PlanColumn>,
    /// What is compared where there is no key.
    pub(super) compared: Vec<PlanColumn>,
    /// What rows are found by; empty where only the whole row tells.
    pub(super) key: Vec<PlanColumn>,
    /// What a conflict is found by.
    pub(super) arbiter: Vec<PlanColumn>,
    /// Whether an update that tells the whole row may be written as an insert with a conflict: same result, and more
    /// changes fit one statement.
    pub(super) upsert_updates: bool,
}

/// A column of both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlanColumn {
    /// Its place in the relation's rows.
    pub(super) index: usize,
    name: String,
    data_type: String,
    equality: String,
    identity_always: bool,
}

/// The form of a statement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    /// Inserts rows, or overwrites them.
    Upsert,
    /// Writes these of [`Plan::columns`], found by the key.
    Update(Box<[bool]>),
    /// Deletes, found by the key.
    Delete,
    /// Writes these of [`Plan::columns`], in one row that looks as the old one did.
    UpdateWhole(Box<[bool]>),
    /// Deletes one row that looks as the old one did.
    DeleteWhole,
}

impl Shape {
    /// Whether the statement takes one row as plain parameters, rather than many as lists.
    pub(super) fn is_single(&self) -> bool {
        matches!(self, Self::UpdateWhole(_) | Self::DeleteWhole)
    }

    /// Whether every row given must have been found.
    pub(super) fn must_find(&self) -> bool {
        matches!(self, Self::Update(_) | Self::UpdateWhole(_))
    }
}

impl Plan {
    /// Plans; columns that the target lacks are left out.
    pub(super) fn new(id: u64, relation: &Relation, target: &TargetTable) -> Self {
        let find = |name: &str| target.columns.iter().find(|column| column.name == name);
        let both = |index: usize| {
            let column = relation.columns.get(index)?;
            find(&column.name).map(|there| (PlanColumn::new(index, there), there))
        };
        let all: Vec<_> = (0..relation.columns.len()).filter_map(both).collect();
        let pick = |indexes: &[usize]| -> Vec<PlanColumn> {
            indexes.iter().filter_map(|&index| both(index)).map(|(column, _)| column).collect()
        };
        let named = |names: &[String]| -> Option<Vec<usize>> {
            names.iter().map(|name| relation.column(name).map(|(index, _)| index)).collect()
        };
        let primary = named(&target.primary).filter(|columns| !columns.is_empty());
        let key = key_of(relation, primary.as_deref());
        let is_unique = |columns: &[usize]| {
            let wanted: BTreeSet<usize> = columns.iter().copied().collect();
            target.unique.iter().any(|unique| {
                named(unique)
                    .is_some_and(|unique| unique.into_iter().collect::<BTreeSet<_>>() == wanted)
            })
        };
        let key = if pick(&key).len() == key.len() { key } else { Vec::new() };
        let arbiter = if !key.is_empty() && is_unique(&key) {
            key.clone()
        } else {
            primary.unwrap_or_default()
        };
        let needed_elsewhere = target
            .columns
            .iter()
            .any(|column| column.needed && relation.column(&column.name).is_none());
        Self {
            id,
            table: target.name.clone(),
            partitioned: target.partitioned,
            upsert_updates: !key.is_empty() && arbiter == key && !needed_elsewhere,
            columns: all
                .iter()
                .filter(|(_, there)| !there.generated)
                .map(|(column, _)| column.clone())
                .collect(),
            compared: all.into_iter().map(|(column, _)| column).collect(),
            key: pick(&key),
            arbiter: pick(&arbiter),
        }
    }

    /// Whether inserts, updates and deletes all tell rows apart by the same columns.
    pub(super) fn has_one_key(&self) -> bool {
        !self.key.is_empty() && self.key == self.arbiter
    }

    /// Whether a column belongs to the key.
    pub(super) fn is_key(&self, column: &PlanColumn) -> bool {
        self.key.iter().any(|key| key.index == column.index)
    }

    /// The statement of this form.
    pub(super) fn sql(&self, shape: &Shape) -> String {
        match shape {
            Shape::Upsert => self.upsert(),
            Shape::Update(set) => self.update(set),
            Shape::Delete => self.delete(),
            Shape::UpdateWhole(set) => self.update_whole(set),
            Shape::DeleteWhole => self.delete_whole(),
        }
    }

    fn upsert(&self) -> String {
        let columns: Vec<&str> = self.columns.iter().map(|c| c.name.as_str()).collect();
        let mut sql = format!(
            "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}",
            self.table,
            columns.join(", "),
            numbered(&self.columns, 0, |n, column| format!("v.c{n}::{}", column.data_type)),
            lists(self.columns.len()),
        );
        if self.arbiter.is_empty() {
            return sql;
        }
        let is_arbiter = |c: &PlanColumn| self.arbiter.iter().any(|a| a.index == c.index);
        let set: Vec<String> = self
            .columns
            .iter()
            .filter(|column| !is_arbiter(column) && !column.identity_always)
            .map(|column| format!("{0} = excluded.{0}", column.name))
            .collect();
        let arbiter: Vec<&str> = self.arbiter.iter().map(|c| c.name.as_str()).collect();
        let action = if set.is_empty() {
            "NOTHING".to_owned()
        } else {
            format!("UPDATE SET {}", set.join(", "))
        };
        sql.push_str(&format!(" ON CONFLICT ({}) DO {action}", arbiter.join(", ")));
        sql
    }

    fn update(&self, set: &[bool]) -> String {
        let set = self.chosen(set);
        format!(
            "UPDATE {} AS t SET {} FROM {} WHERE {}",
            self.table,
            numbered(&set, 0, |n, c| format!("{} = v.c{n}::{}", c.name, c.data_type)),
            lists(set.len() + self.key.len()),
            self.by_key(set.len()),
        )
    }

    fn delete(&self) -> String {
        let lists = lists(self.key.len());
        format!("DELETE FROM {} AS t USING {lists} WHERE {}", self.table, self.by_key(0))
    }

    fn update_whole(&self, set: &[bool]) -> String {
        let set = self.chosen(set);
        let parameter =
            |n: usize, c: &PlanColumn| format!("{} = ${}::text::{}", c.name, n + 1, c.data_type);
        format!(
            "UPDATE {} AS t SET {} WHERE {}",
            self.table,
            numbered(&set, 0, parameter),
            self.by_whole_row(set.len()),
        )
    }

    fn delete_whole(&self) -> String {
        format!("DELETE FROM {} AS t WHERE {}", self.table, self.by_whole_row(0))
    }

    fn chosen(&self, set: &[bool]) -> Vec<PlanColumn> {
        let chosen = self.columns.iter().zip(set).filter(|(_, chosen)| **chosen);
        chosen.map(|(column, _)| column.clone()).collect()
    }

    fn by_key(&self, from: usize) -> String {
        let equal = |n: usize, c: &PlanColumn| {
            format!("t.{} OPERATOR({}.=) v.c{n}::{}", c.name, c.equality, c.data_type)
        };
        let conditions: Vec<String> =
            self.key.iter().enumerate().map(|(n, column)| equal(from + n, column)).collect();
        conditions.join(" AND ")
    }

    /// One row that looks like this. As text: every type has it, and numbers that are equal may still look different.
    fn by_whole_row(&self, from: usize) -> String {
        let same = |n: usize, c: &PlanColumn| {
            format!(
                "s.{}::text IS NOT DISTINCT FROM ${}::text::{}::text",
                c.name,
                from + n + 1,
                c.data_type
            )
        };
        let conditions: Vec<String> =
            self.compared.iter().enumerate().map(|(n, column)| same(n, column)).collect();
        let (table, conditions) = (&self.table, conditions.join(" AND "));
        if self.partitioned {
            // Places are numbered in each partition anew.
            return format!(
                "(t.tableoid, t.ctid) = (SELECT s.tableoid, s.ctid FROM {table} AS s WHERE {conditions} LIMIT 1)"
            );
        }
        format!("t.ctid = (SELECT s.ctid FROM {table} AS s WHERE {conditions} LIMIT 1)")
    }
}

impl PlanColumn {
    fn new(index: usize, there: &TargetColumn) -> Self {
        Self {
            index,
            name: quote_identifier(&there.name),
            data_type: there.data_type.clone(),
            equality: there.equality.clone(),
            identity_always: there.identity_always,
        }
    }

    /// Whether an update may write it.
    pub(super) fn is_settable(&self) -> bool {
        !self.identity_always
    }
}

/// The columns that updates and deletes find rows by: they must be told of the old row.
fn key_of(relation: &Relation, target_primary: Option<&[usize]>) -> Vec<usize> {
    let columns = || relation.columns.iter().enumerate();
    let primary: Vec<usize> = columns().filter(|(_, c)| c.primary).map(|(n, _)| n).collect();
    if relation.identity == ReplicaIdentity::Full {
        return if primary.is_empty() {
            target_primary.map(<[usize]>::to_vec).unwrap_or_default()
        } else {
            primary
        };
    }
    // Under the identity of another index, the primary key is not told of old rows.
    let told = |&index: &usize| relation.columns.get(index).is_some_and(|column| column.key);
    if !primary.is_empty() && primary.iter().all(told) {
        return primary;
    }
    columns().filter(|(_, column)| column.key).map(|(n, _)| n).collect()
}

/// `unnest` of as many lists, as `v(c0, c1, …)`.
fn lists(count: usize) -> String {
    let join = |name: &dyn Fn(usize) -> String| (0..count).map(name).collect::<Vec<_>>().join(", ");
    let parameters = join(&|n| format!("${}::text[]", n + 1));
    format!("unnest({parameters}) AS v({})", join(&|n| format!("c{n}")))
}

fn numbered(
    columns: &[PlanColumn],
    from: usize,
    text: impl Fn(usize, &PlanColumn) -> String,
) -> String {
    let texts: Vec<String> =
        columns.iter().enumerate().map(|(n, column)| text(from + n, column)).collect();
    texts.join(", ")
}

/// A plan in the hands of several statements.
pub(super) type SharedPlan = Arc<Plan>;

#[cfg(test)]
mod tests;
