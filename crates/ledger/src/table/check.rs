//! What every engine can hold.

use super::{Column, OnDelete, Reference, Table};
use crate::value::{Decimal, Kind, Unfit};

/// PostgreSQL's names end after 63 bytes, and ours get prefixes.
const NAME_MOST: usize = 40;
/// MariaDB keeps 40 bytes of every column in a page of 8 kB, and a capture table has each column twice.
const COLUMNS_MOST: usize = 90;
/// The same page.
const UNIQUES_MOST: usize = 8;
/// As many as unique keys.
const REFERENCES_MOST: usize = 8;
/// PostgreSQL's index entries end after 2704 bytes.
const KEY_BYTES_MOST: u32 = 2600;
/// Longer texts have no length but `text`.
const LENGTH_MOST: u32 = 1_000_000;
/// MariaDB's.
const SCALE_MOST: u8 = 30;

impl Table {
    /// Whether every engine can hold the table.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), Unfit> {
        let bad = |why: String| Err(Unfit::new(format!("table {:?}: {why}", self.name)));
        if !is_name(&self.name) {
            return bad(format!(
                "a name has small letters, digits and underscores, at most {NAME_MOST}, and does not begin with a digit or _ledger"
            ));
        }
        if self.columns.is_empty() || self.columns.len() > COLUMNS_MOST {
            return bad(format!("a table has 1 to {COLUMNS_MOST} columns"));
        }
        for (i, column) in self.columns.iter().enumerate() {
            if self.columns.iter().take(i).any(|other| other.name == column.name) {
                return bad(format!("column {:?} is there twice", column.name));
            }
            if let Err(why) = column.check() {
                return bad(format!("column {:?}: {why}", column.name));
            }
        }
        if self.uniques.len() > UNIQUES_MOST {
            return bad(format!("a table has at most {UNIQUES_MOST} unique keys"));
        }
        for unique in std::iter::once(&self.key).chain(&self.uniques) {
            if let Err(why) = self.check_key(unique) {
                return bad(why);
            }
        }
        if self.references.len() > REFERENCES_MOST {
            return bad(format!("a table has at most {REFERENCES_MOST} foreign keys"));
        }
        for reference in &self.references {
            if let Err(why) = self.check_reference(reference) {
                return bad(why);
            }
        }
        let nullable = |at: &usize| self.columns.get(*at).is_none_or(|column| column.nullable);
        if self.key.iter().any(nullable) {
            return bad("a column of the primary key may not be null".to_owned());
        }
        Ok(())
    }

    fn check_key(&self, key: &[usize]) -> Result<(), String> {
        if key.is_empty() {
            return Err(
                "a key has columns; a table without a primary key cannot be kept alike".to_owned()
            );
        }
        let mut bytes = 0_u32;
        for (i, at) in key.iter().enumerate() {
            let column = self.columns.get(*at).ok_or("a key names a column that is not there")?;
            if key.iter().take(i).any(|other| other == at) {
                return Err(format!("a key has column {:?} twice", column.name));
            }
            let length = key_bytes(column.kind).ok_or_else(|| {
                format!("{} cannot be in a key: column {:?}", column.kind, column.name)
            })?;
            bytes = bytes.saturating_add(length);
        }
        if bytes > KEY_BYTES_MOST {
            return Err(format!(
                "a key may have {bytes} bytes; every engine can do with {KEY_BYTES_MOST}"
            ));
        }
        Ok(())
    }

    /// What can be told without the table that is referred to.
    fn check_reference(&self, reference: &Reference) -> Result<(), String> {
        self.check_key(&reference.columns)?;
        let Reference { columns, parent, key, on_delete } = reference;
        if !is_name(parent) || !key.iter().all(|name| is_name(name)) {
            return Err("a foreign key names what is no name".to_owned());
        }
        if *on_delete != OnDelete::Refuse && *parent == self.name {
            // MariaDB cannot change the table whose rows it is deleting.
            return Err(
                "a foreign key to the same table cannot be ON DELETE CASCADE or SET NULL: not every engine does that"
                    .to_owned(),
            );
        }
        let filled = |at: &usize| self.columns.get(*at).is_none_or(|column| !column.nullable);
        if *on_delete == OnDelete::SetNull && columns.iter().any(filled) {
            return Err("ON DELETE SET NULL is for columns that may be null".to_owned());
        }
        Ok(())
    }

    /// Whether the column is in some key: engines then want its length.
    pub(crate) fn is_in_a_key(&self, at: usize) -> bool {
        let referring = self.references.iter().map(|it| &it.columns);
        std::iter::once(&self.key)
            .chain(&self.uniques)
            .chain(referring)
            .any(|key| key.contains(&at))
    }
}

impl Column {
    fn check(&self) -> Result<(), String> {
        if !is_name(&self.name) {
            return Err("is no name for a column".to_owned());
        }
        let fits = match self.kind {
            Kind::Decimal { precision, scale } => {
                (1..=Decimal::MOST_DIGITS).contains(&precision)
                    && scale <= precision.min(SCALE_MOST)
            }
            Kind::Text { max: Some(max) } | Kind::Bytes { max: Some(max) } => {
                (1..=LENGTH_MOST).contains(&max)
            }
            _ => true,
        };
        fits.then_some(()).ok_or_else(|| format!("{} is not what every engine has", self.kind))
    }
}

/// How long the kind may be in a key; `None` if it cannot be in one. Equality of floating numbers and of JSON is not the
/// same everywhere, and without a limit MariaDB would index a part.
fn key_bytes(kind: Kind) -> Option<u32> {
    match kind {
        Kind::Bool => Some(1),
        Kind::Int32 | Kind::Date => Some(4),
        Kind::Int64 | Kind::Timestamp => Some(8),
        Kind::Decimal { .. } | Kind::Uuid => Some(20),
        Kind::Text { max } => max?.checked_mul(4),
        Kind::Bytes { max } => max,
        Kind::Float | Kind::Json => None,
    }
}

fn is_name(name: &str) -> bool {
    let ours = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.len() <= NAME_MOST
        && name.bytes().all(ours)
        && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
        && !name.starts_with("_ledger")
}
