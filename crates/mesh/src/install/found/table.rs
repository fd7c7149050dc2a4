//! A table as it was found.

use serde::Deserialize;

use crate::parts::Parts;
use crate::table::{Column, ForeignKey, Table, TableName, Unique};

/// A table, with all that bears on whether it can be in a mesh and what it takes to make it elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct FoundTable {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `r`: it has rows; `p`: it has partitions.
    pub kind: String,
    /// `p`: it is logged; `u`: it is not.
    pub persistence: String,
    /// Whether it is a partition.
    pub partition: bool,
    /// Whether it inherits or is inherited from.
    pub inherits: bool,
    /// Whether it was made `OF` a type.
    pub typed: bool,
    /// Whether it has rules.
    pub rules: bool,
    /// Replica identity: `d`, `n`, `f` or `i`.
    pub identity: String,
    /// The index of that.
    pub identity_index: Option<String>,
    /// Its owner.
    pub owner: String,
    /// Whether our role is as good as its owner.
    pub owned: bool,
    /// Whether row security holds for our role.
    pub row_security: bool,
    /// Whether it has policies.
    pub policies: bool,
    /// Its columns, all of them.
    pub columns: Vec<FoundColumn>,
    /// Its indexes.
    pub indexes: Vec<FoundIndex>,
    /// Its check constraints and foreign keys.
    pub constraints: Vec<Constraint>,
    /// Its triggers, without internal ones.
    pub triggers: Vec<FoundTrigger>,
    /// Sequences that belong to columns of it.
    pub sequences: Vec<OwnedSequence>,
    /// Who else may do what with it: role and privilege.
    pub grants: Vec<(String, String)>,
    /// Types, functions and sequences of the user's that it is made of.
    pub needs: Vec<String>,
    /// Whether it has rows.
    pub has_rows: bool,
}

/// A column.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct FoundColumn {
    /// Its number.
    pub number: i16,
    /// Its name.
    pub name: String,
    /// Its type with modifier, as SQL takes it.
    #[serde(rename = "type")]
    pub sql_type: String,
    /// What that is at bottom, past domains and arrays, as `schema.name`.
    pub base: String,
    /// Whether that is a composite.
    pub composite: bool,
    /// Whether it may not be NULL.
    pub not_null: bool,
    /// Empty, or `s` and `v` for what is computed from other columns.
    pub generated: String,
    /// Empty, `a` (GENERATED ALWAYS AS IDENTITY) or `d` (BY DEFAULT).
    pub identity: String,
    /// Its default, or what computes it.
    pub default: Option<String>,
    /// Its collation, where that is not its type's.
    pub collation: Option<String>,
    /// Whether equal texts are equal bytes.
    pub deterministic: bool,
}

/// An index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct FoundIndex {
    /// Its name.
    pub name: String,
    /// Numbers of its key columns; 0 for expressions.
    pub columns: Vec<i16>,
    /// Whether it is unique.
    pub unique: bool,
    /// Whether it is the primary key's.
    pub primary: bool,
    /// Whether it is checked at once.
    pub immediate: bool,
    /// Whether it is complete.
    pub valid: bool,
    /// Whether it holds for some rows only.
    pub partial: bool,
    /// Whether it is an exclusion constraint's.
    pub exclusion: bool,
    /// Whether two NULLs are the same for it.
    pub nulls_alike: bool,
    /// The statement that makes it.
    pub definition: String,
    /// The constraint it is for.
    pub constraint: Option<String>,
    /// The definition of that.
    pub constraint_definition: Option<String>,
}

/// A check constraint or foreign key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Constraint {
    /// Its name.
    pub name: String,
    /// `c` or `f`.
    pub kind: String,
    /// What it says.
    pub definition: String,
    /// Numbers of its columns.
    pub columns: Vec<i16>,
    /// Of a foreign key, where it points.
    pub to_schema: Option<String>,
    /// Of a foreign key, where it points.
    pub to_name: Option<String>,
    /// Of a foreign key, where it points.
    pub to_columns: Vec<String>,
}

/// A trigger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct FoundTrigger {
    /// Its name.
    pub name: String,
    /// When it fires, as the catalogue's bits.
    pub kind: i16,
    /// `O`: not for what is applied.
    pub enabled: String,
    /// Its function, as `schema.name`.
    pub function: String,
}

/// A sequence that belongs to a column.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct OwnedSequence {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The column.
    pub column: String,
    /// `i`: an identity column's; `a`: another's.
    pub kind: String,
    /// Its type.
    #[serde(rename = "type")]
    pub sql_type: String,
    /// Who else may do what with it: role and privilege.
    pub grants: Vec<(String, String)>,
}

/// What the keys of a table's column come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct FoundSequence {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Schema of the table whose column takes from it.
    pub table_schema: String,
    /// The table.
    pub table_name: String,
    /// The column.
    pub column: String,
    /// `smallint`, `integer` or `bigint`: the smaller of the sequence's and the column's.
    #[serde(rename = "type")]
    pub sql_type: String,
    /// Whether the column is an identity column.
    pub identity: bool,
    /// Whether the column's values come from `herdsman.id()` instead.
    pub snowflake: bool,
    /// Whether our role is as good as its owner.
    pub owned: bool,
    /// What it begins with.
    pub start: i64,
    /// The least it gives.
    pub min: i64,
    /// The greatest it gives.
    pub max: i64,
    /// The step between.
    pub increment: i64,
    /// Values each session takes in advance.
    pub cache: i64,
    /// Whether it begins anew at its end.
    pub cycle: bool,
    /// The value it gives next.
    pub next: i64,
    /// Whether an index tells quickly what is in the column.
    pub indexed: bool,
    /// The greatest value in the column of each range of its type's width, the greatest first; none where no index tells.
    pub used: Vec<i64>,
}

impl FoundTable {
    /// Its name.
    #[must_use]
    pub fn table_name(&self) -> TableName {
        TableName::new(&self.schema, &self.name)
    }

    /// Its columns without the mesh's own.
    pub fn user_columns(&self) -> impl Iterator<Item = &FoundColumn> {
        self.columns.iter().filter(|column| !is_own(&column.name))
    }

    /// A column by its name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&FoundColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The index of its primary key.
    #[must_use]
    pub fn primary(&self) -> Option<&FoundIndex> {
        self.indexes.iter().find(|index| index.primary)
    }

    /// The columns of its primary key, in the key's order.
    #[must_use]
    pub fn key(&self) -> Vec<&FoundColumn> {
        self.primary().map(|index| self.numbered(&index.columns)).unwrap_or_default()
    }

    /// The columns of these numbers.
    #[must_use]
    pub fn numbered(&self, numbers: &[i16]) -> Vec<&FoundColumn> {
        let by_number = |number: &i16| self.columns.iter().find(|column| column.number == *number);
        numbers.iter().filter_map(by_number).collect()
    }

    /// Whether it has the mesh's two columns.
    #[must_use]
    pub fn stamped(&self) -> bool {
        self.column(crate::names::STAMP).is_some() && self.column(crate::names::NODE).is_some()
    }

    /// As the rest of the mesh sees it.
    #[must_use]
    pub fn table(&self) -> Table {
        let place = |number: &i16| self.user_columns().position(|column| column.number == *number);
        let places = |numbers: &[i16]| numbers.iter().filter_map(place).collect::<Vec<usize>>();
        let column = |column: &FoundColumn| Column {
            name: column.name.as_str().into(),
            sql_type: column.sql_type.as_str().into(),
            nullable: !column.not_null,
            generated: !column.generated.is_empty(),
            identity_always: column.identity == "a",
        };
        let unique = |index: &FoundIndex| Unique {
            name: index.name.as_str().into(),
            columns: if index.columns.contains(&0) { Vec::new() } else { places(&index.columns) },
            plain: index.is_plain(),
        };
        let foreign_key = |constraint: &Constraint| {
            Some(ForeignKey {
                name: constraint.name.as_str().into(),
                columns: places(&constraint.columns),
                to: TableName::new(
                    constraint.to_schema.as_deref()?,
                    constraint.to_name.as_deref()?,
                ),
                to_columns: constraint.to_columns.iter().map(|name| name.as_str().into()).collect(),
            })
        };
        let foreign = self.constraints.iter().filter(|constraint| constraint.kind == "f");
        Table {
            name: self.table_name(),
            columns: self.user_columns().map(column).collect(),
            key: self.primary().map(|index| places(&index.columns)).unwrap_or_default(),
            uniques: self
                .indexes
                .iter()
                .filter(|index| !index.primary && (index.unique || index.exclusion))
                .map(unique)
                .collect(),
            foreign_keys: foreign.filter_map(foreign_key).collect(),
            stamped: self.stamped(),
            full_identity: self.identity == "f",
            parts: Parts::default(),
            untouched: false,
        }
    }
}

impl FoundIndex {
    /// Whether it is unique, at once, over plain columns, for all rows.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.unique
            && self.immediate
            && self.valid
            && !self.partial
            && !self.exclusion
            && !self.nulls_alike
            && !self.columns.contains(&0)
    }
}

fn is_own(column: &str) -> bool {
    column == crate::names::STAMP || column == crate::names::NODE
}
