//! Which rules hold for which table.

use std::collections::BTreeMap;
use std::sync::Arc;

use herdsman_wal::{Column, DataType, Glob, Relation, ReplicaIdentity, TypeKind};

use super::FilterError;
use super::table::{Step, Table};
use crate::config::{Mask, StreamConfig, TransformConfig};

/// All rules.
#[derive(Debug)]
pub(super) struct Rules {
    tables: Vec<Glob>,
    exclude: Vec<Glob>,
    transform: Vec<(Glob, TransformConfig)>,
}

/// The rules for one table, from all patterns that it matches.
#[derive(Debug, Default)]
struct Merged<'r> {
    columns: Vec<&'r [String]>,
    drop: Vec<&'r str>,
    mask: BTreeMap<&'r str, Mask>,
    rename: BTreeMap<&'r str, &'r str>,
    table: Option<&'r str>,
    /// Columns that a rule for this very table names and that must therefore be there.
    expected: Vec<&'r str>,
}

impl Rules {
    pub(super) fn new(config: &StreamConfig) -> Result<Self, FilterError> {
        let globs = |patterns: &[String]| -> Result<Vec<Glob>, FilterError> {
            patterns.iter().map(|pattern| Ok(Glob::new(pattern)?)).collect()
        };
        let mut transform = Vec::new();
        for (pattern, rule) in &config.transform {
            let glob = Glob::new(pattern)?;
            check(&glob, rule)
                .map_err(|problem| FilterError::Rule { table: glob.to_string(), problem })?;
            transform.push((glob, rule.clone()));
        }
        Ok(Self { tables: globs(&config.tables)?, exclude: globs(&config.exclude)?, transform })
    }

    pub(super) fn select(&self, schema: &str, table: &str) -> bool {
        let among = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(schema, table));
        among(&self.tables) && !among(&self.exclude)
    }

    pub(super) fn hash(&self) -> bool {
        let mut masks = self.transform.iter().flat_map(|(_, rule)| rule.mask.values());
        masks.any(|mask| *mask == Mask::Hash)
    }

    /// The rules for a table. `strict`: they have to fit it.
    pub(super) fn table(
        &self,
        relation: &Arc<Relation>,
        strict: bool,
    ) -> Result<Table, FilterError> {
        if !self.select(&relation.schema, &relation.name) {
            return Ok(Table::left_out(relation));
        }
        let wrong = |problem: String| FilterError::Rule { table: relation.to_string(), problem };
        let merged = self.merged(relation).map_err(wrong)?;
        if strict {
            merged.fits(relation).map_err(wrong)?;
        }
        let mut derived = Vec::with_capacity(relation.columns.len());
        let mut steps = Vec::with_capacity(relation.columns.len());
        for column in &relation.columns {
            if !merged.keeps(relation, column) {
                steps.push(Step::Drop);
                continue;
            }
            let mask = merged.mask.get(&*column.name).copied();
            derived.push(merged.derive(column, mask));
            steps.push(mask.map_or(Step::Keep, Step::Mask));
        }
        let names: Vec<_> = derived.iter().map(|column| &column.name).collect();
        if let Some(twice) = names
            .iter()
            .enumerate()
            .find(|(n, name)| names.iter().take(*n).any(|before| before == *name))
        {
            return Err(wrong(format!("two columns would be called `{}`", twice.1)));
        }
        let target = merged.table.and_then(|name| name.split_once('.'));
        let (schema, name) = target.unwrap_or((&relation.schema, &relation.name));
        let (schema, name) = (schema.into(), name.into());
        let derived = Relation { schema, name, columns: derived, ..(**relation).clone() };
        Ok(Table::new(relation, derived, steps))
    }

    fn merged(&self, relation: &Relation) -> Result<Merged<'_>, String> {
        let mut merged = Merged::default();
        let matching = self
            .transform
            .iter()
            .filter(|(glob, _)| glob.matches(&relation.schema, &relation.name));
        for (glob, rule) in matching {
            if !rule.columns.is_empty() {
                merged.columns.push(&rule.columns);
            }
            merged.drop.extend(rule.drop.iter().map(String::as_str));
            for (column, mask) in &rule.mask {
                let before = merged.mask.insert(column, *mask);
                if before.is_some_and(|before| before != *mask) {
                    return Err(format!("two rules mask `{column}`, each in another way"));
                }
            }
            for (column, name) in &rule.rename {
                let before = merged.rename.insert(column, name);
                if before.is_some_and(|before| before != name) {
                    return Err(format!("two rules give `{column}` another name"));
                }
            }
            if let Some(name) = &rule.table {
                let before = merged.table.replace(name);
                if before.is_some_and(|before| before != name) {
                    return Err("two rules give it another name".to_owned());
                }
            }
            if glob.is_exact() {
                let hidden = rule.drop.iter().chain(rule.mask.keys());
                merged.expected.extend(hidden.map(String::as_str));
            }
        }
        Ok(merged)
    }
}

impl Merged<'_> {
    /// Whether the rules fit the table as it is.
    fn fits(&self, relation: &Relation) -> Result<(), String> {
        let missing = self.expected.iter().find(|name| relation.column(name).is_none());
        if let Some(name) = missing {
            // It may have been renamed, and would now be seen.
            return Err(format!(
                "there is no column `{name}` to hide; if it has another name now, hide that, else remove the rule"
            ));
        }
        for column in relation.columns.iter().filter(|column| is_key(relation, column)) {
            let name = &*column.name;
            if self.drop.contains(&name) {
                return Err(format!("`{name}` belongs to the key and cannot be dropped"));
            }
            if let Some(Mask::Null | Mask::Stars) = self.mask.get(name) {
                return Err(format!(
                    "`{name}` belongs to the key and would be the same in every row; mask it by `hash`"
                ));
            }
        }
        Ok(())
    }

    fn keeps(&self, relation: &Relation, column: &Column) -> bool {
        let name = &*column.name;
        let listed = |columns: &&[String]| columns.iter().any(|listed| listed == name);
        !self.drop.contains(&name) && (is_key(relation, column) || self.columns.iter().all(listed))
    }

    fn derive(&self, column: &Column, mask: Option<Mask>) -> Column {
        let name = self.rename.get(&*column.name).copied().unwrap_or(&column.name);
        let mut derived = Column { name: name.into(), ..column.clone() };
        if matches!(mask, Some(Mask::Stars | Mask::Hash)) {
            derived.data_type = text();
            derived.type_modifier = -1;
        }
        derived
    }
}

/// What is wrong with a rule whatever its tables look like.
fn check(glob: &Glob, rule: &TransformConfig) -> Result<(), String> {
    if let Some(name) = &rule.table {
        if Glob::new(name).map_or(true, |name| !name.is_exact()) {
            return Err(format!("`table: {name}` is not `schema.table`"));
        }
        if !glob.is_exact() {
            return Err("several tables would get one name; name one table to rename".to_owned());
        }
    }
    if let Some(name) = rule.mask.keys().find(|name| rule.drop.contains(name)) {
        return Err(format!("`{name}` is both masked and dropped"));
    }
    if let Some(empty) = rule.rename.iter().find(|(_, name)| name.is_empty()) {
        return Err(format!("`{}` is to have an empty name", empty.0));
    }
    Ok(())
}

/// Whether rows are told apart by this column. Where the whole row tells them apart, no single column does.
fn is_key(relation: &Relation, column: &Column) -> bool {
    column.primary || (column.key && relation.identity != ReplicaIdentity::Full)
}

fn text() -> Arc<DataType> {
    let (schema, name) = ("pg_catalog".into(), "text".into());
    Arc::new(DataType { oid: 25, schema, name, kind: TypeKind::Base })
}
