//! Rows that refer to rows of another table.
//!
//! Whether a reference holds is asked where a transaction runs, by that node's engine, of the data as they were there. What
//! others did since is asked in certification, by keys of the row that is referred to (see
//! [`claims`](crate::writes::claims)). No engine asks again when the log is applied.

use super::{Catalogue, Refused, Table};

/// What becomes of rows that refer to one that goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDelete {
    /// It may not go: `NO ACTION` and `RESTRICT`.
    #[default]
    Refuse,
    /// They go, too.
    Cascade,
    /// They refer to nothing any more.
    SetNull,
}

/// A foreign key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The columns that refer, by place. A row with a null in one of them refers to nothing.
    pub columns: Vec<usize>,
    /// The table that is referred to; it may be the same.
    pub parent: String,
    /// The names of its primary key's or a unique key's columns, in that key's order. None stand for the primary key.
    pub key: Vec<String>,
    /// What becomes of the row when the one it refers to goes.
    pub on_delete: OnDelete,
}

impl Table {
    /// Which key has these columns in this order: 0 the primary one, which no names stand for, too; 1, 2, … the unique ones.
    #[must_use]
    pub fn key_named(&self, names: &[String]) -> Option<usize> {
        if names.is_empty() {
            return Some(0);
        }
        std::iter::once(&self.key).chain(&self.uniques).position(|key| {
            key.len() == names.len()
                && key.iter().zip(names).all(|(at, name)| {
                    self.columns.get(*at).is_some_and(|column| column.name == *name)
                })
        })
    }

    /// The columns of a key, by place; counted as [`Table::key_named`] does.
    #[must_use]
    pub fn key_at(&self, which: usize) -> Option<&[usize]> {
        match which.checked_sub(1) {
            None => Some(&self.key),
            Some(unique) => self.uniques.get(unique).map(Vec::as_slice),
        }
    }
}

impl Catalogue {
    /// Who refers to a table, and how; the table itself, too.
    pub fn referring_to<'c>(
        &'c self,
        parent: &'c str,
    ) -> impl Iterator<Item = (&'c Table, &'c Reference)> {
        self.0.values().flat_map(move |child| {
            let of_it = child.references.iter().filter(move |it| it.parent == parent);
            of_it.map(move |reference| (child, reference))
        })
    }

    /// All tables, each after those that it refers to.
    #[must_use]
    pub fn parents_first(&self) -> Vec<&Table> {
        let mut waiting: Vec<&Table> = self.0.values().collect();
        let mut all: Vec<&Table> = Vec::with_capacity(waiting.len());
        while !waiting.is_empty() {
            let waits = |it: &&Table| {
                let mut parents = it.references.iter().map(|reference| &reference.parent);
                parents
                    .any(|parent| *parent != it.name && waiting.iter().any(|it| it.name == *parent))
            };
            let (later, now): (Vec<_>, Vec<_>) = waiting.iter().copied().partition(waits);
            if now.is_empty() {
                // Tables only ever refer to older ones.
                all.extend(later);
                break;
            }
            all.extend(now);
            waiting = later;
        }
        all
    }

    /// Whether what a new table refers to is there, and of the same kinds.
    pub(super) fn check_references(&self, table: &Table) -> Result<(), Refused> {
        for reference in &table.references {
            let parent = if reference.parent == table.name {
                table
            } else {
                self.0.get(&reference.parent).ok_or(Refused("42P01"))?
            };
            let key = parent.key_named(&reference.key).and_then(|which| parent.key_at(which));
            let key = key.filter(|key| key.len() == reference.columns.len());
            let key = key.ok_or(Refused("42830"))?;
            let kind = |table: &Table, at: &usize| table.columns.get(*at).map(|it| it.kind);
            let alike = |(own, theirs)| kind(table, own) == kind(parent, theirs);
            if !reference.columns.iter().zip(key).all(alike) {
                return Err(Refused("42804"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Kind,
        table::{Column, TableChange, tests::account},
    };

    /// `name (id bigint primary key, other bigint null references parent)`.
    pub(crate) fn child(name: &str, parent: &str, on_delete: OnDelete) -> Table {
        let column =
            |name: &str, nullable| Column { name: name.to_owned(), kind: Kind::Int64, nullable };
        let parent = parent.to_owned();
        Table {
            name: name.to_owned(),
            columns: vec![column("id", false), column("other", true)],
            key: vec![0],
            uniques: Vec::new(),
            references: vec![Reference { columns: vec![1], parent, key: Vec::new(), on_delete }],
        }
    }

    #[test]
    fn a_table_refers_to_a_key_that_is_there_and_of_the_same_kind() {
        let mut catalogue = Catalogue::default();
        TableChange::Create(account()).apply(&mut catalogue).unwrap();
        let with = |key: &[&str], parent: &str| {
            let mut table = child("child", parent, OnDelete::Cascade);
            table.references[0].key = key.iter().map(|it| (*it).to_owned()).collect();
            TableChange::Create(table).apply(&mut catalogue.clone())
        };
        assert_eq!(with(&[], "account"), Ok(()));
        assert_eq!(with(&["id"], "account"), Ok(()));
        assert_eq!(with(&["mail"], "account"), Err(Refused("42804")));
        assert_eq!(with(&["balance"], "account"), Err(Refused("42830")));
        assert_eq!(with(&["id", "mail"], "account"), Err(Refused("42830")));
        assert_eq!(with(&[], "nobody"), Err(Refused("42P01")));
        let own = TableChange::Create(child("child", "child", OnDelete::Refuse));
        assert_eq!(own.apply(&mut catalogue.clone()), Ok(()));
        for beyond in [OnDelete::Cascade, OnDelete::SetNull] {
            let own = TableChange::Create(child("child", "child", beyond));
            assert_eq!(own.apply(&mut catalogue.clone()), Err(Refused("42P16")));
        }
        let mut full = child("child", "account", OnDelete::SetNull);
        full.columns[1].nullable = false;
        assert!(full.check().is_err(), "what may not be null cannot be set so");
    }

    #[test]
    fn a_table_that_others_refer_to_stays_and_comes_before_them() {
        let mut catalogue = Catalogue::default();
        for table in [
            account(),
            child("b", "account", OnDelete::Refuse),
            child("a", "b", OnDelete::Cascade),
            child("c", "c", OnDelete::Refuse),
        ] {
            TableChange::Create(table).apply(&mut catalogue).unwrap();
        }
        let order: Vec<&str> =
            catalogue.parents_first().iter().map(|it| it.name.as_str()).collect();
        let place = |name: &str| order.iter().position(|it| *it == name).unwrap();
        assert_eq!(order.len(), 4);
        assert!(place("account") < place("b") && place("b") < place("a"), "{order:?}");
        let drop = |table: &str| TableChange::Drop { table: table.to_owned() };
        assert_eq!(drop("b").apply(&mut catalogue), Err(Refused("2BP01")));
        assert_eq!(drop("c").apply(&mut catalogue), Ok(()), "nobody else refers to it");
        assert_eq!(drop("a").apply(&mut catalogue), Ok(()));
        assert_eq!(drop("b").apply(&mut catalogue), Ok(()));
    }
}
