//! What a transaction changed, and what others may therefore not have changed meanwhile.

use std::collections::BTreeMap;

use crate::{
    codec::{Malformed, Reader, Writer},
    identity::sha256_half,
    table::{Catalogue, Table, TableChange},
    value::encode::{decode_row, encode_row},
    value::{Unfit, Value},
};

/// One row's change, with the whole row before and after it. One of the two is there, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowChange {
    /// The table.
    pub table: String,
    /// The row as it was; `None` for a new one.
    pub before: Option<Vec<Value>>,
    /// The row as it became; `None` for a deleted one.
    pub after: Option<Vec<Value>>,
}

/// How a key takes part in certification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Nobody else may have written it after our snapshot, and we do.
    Write,
    /// Nobody else may have written it after our snapshot.
    Read,
    /// We write it, and do not mind who else does.
    Touch,
}

/// What a key is called in certification: a hash of the table, which key it is, and its values. Two keys that collide
/// would cost a needless conflict, never a wrong result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub [u8; 16]);

/// A key and how it takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    /// How.
    pub mode: Mode,
    /// Which.
    pub key: KeyHash,
}

impl KeyHash {
    /// A row, by its key: the primary one (0) or a further unique one (1, 2, …).
    fn of_row(table: &str, which: usize, values: &[&Value]) -> Self {
        Self::of_key(0, table, which, values)
    }

    /// That a row with this key went, or has another key since.
    fn of_gone(table: &str, which: usize, values: &[&Value]) -> Self {
        Self::of_key(3, table, which, values)
    }

    /// That somebody refers to the row with this key since.
    fn of_referred(table: &str, which: usize, values: &[&Value]) -> Self {
        Self::of_key(4, table, which, values)
    }

    fn of_key(tag: u8, table: &str, which: usize, values: &[&Value]) -> Self {
        let mut writer = Writer::default();
        writer.byte(tag);
        writer.bytes(table.as_bytes());
        writer.length(which);
        for value in values {
            value.encode(&mut writer);
        }
        Self(sha256_half(&writer.0))
    }

    /// Any row of a table: what a transaction that scanned it has read.
    #[must_use]
    pub fn of_table(table: &str) -> Self {
        Self::of_name(1, table)
    }

    /// How a table looks.
    #[must_use]
    pub fn of_schema(table: &str) -> Self {
        Self::of_name(2, table)
    }

    fn of_name(tag: u8, table: &str) -> Self {
        let mut writer = Writer::default();
        writer.byte(tag);
        writer.bytes(table.as_bytes());
        Self(sha256_half(&writer.0))
    }
}

/// Makes one change per row of what was captured, in the order of tables and keys. What came to nothing is left out.
///
/// # Errors
/// A row is of no known table, or not what every engine can hold.
pub fn fold(captured: Vec<RowChange>, catalogue: &Catalogue) -> Result<Vec<RowChange>, Unfit> {
    type Net = (Option<Vec<Value>>, Option<Vec<Value>>);
    let mut net: BTreeMap<(String, Vec<Value>), Net> = BTreeMap::new();
    for change in captured {
        let table = known(catalogue, &change.table)?;
        let key = |row: &[Value]| -> (String, Vec<Value>) {
            (table.name.clone(), table.key_of(row).into_iter().cloned().collect())
        };
        if let Some(before) = change.before {
            let slot = net.entry(key(&before)).or_insert_with(|| (Some(before), None));
            slot.1 = None;
        }
        if let Some(after) = change.after {
            table.fits(&after)?;
            let slot = net.entry(key(&after)).or_insert((None, None));
            slot.1 = Some(after);
        }
    }
    let changes = net.into_iter().filter(|(_, (before, after))| before != after);
    Ok(changes.map(|((table, _), (before, after))| RowChange { table, before, after }).collect())
}

/// What certification is to look at for these changes, sorted, each once. `scanned` are tables that a SERIALIZABLE
/// transaction read.
///
/// Unique keys count as keys: two transactions that give one e-mail to two rows conflict here rather than break the
/// second's application. Only values a row newly takes matter: whoever was to take an older one failed at its origin.
///
/// Who newly refers to a row has read that it is there, and says that it is referred to; who takes a row away, or its key,
/// has read that nobody refers to it, and says that it went. So of two that would leave a reference to nothing the second
/// one conflicts, while any number may refer to one row at the same time.
///
/// # Errors
/// A row is of no known table.
pub fn claims(
    changes: &[RowChange],
    scanned: &[String],
    catalogue: &Catalogue,
) -> Result<Vec<Claim>, Unfit> {
    let mut claims: Vec<Claim> = Vec::with_capacity(changes.len());
    for change in changes {
        let table = known(catalogue, &change.table)?;
        claims.push(Claim { mode: Mode::Read, key: KeyHash::of_schema(&table.name) });
        claims.push(Claim { mode: Mode::Touch, key: KeyHash::of_table(&table.name) });
        for row in change.before.iter().chain(&change.after) {
            let key = KeyHash::of_row(&table.name, 0, &table.key_of(row));
            claims.push(Claim { mode: Mode::Write, key });
        }
        claim_references(change, table, catalogue, &mut claims)?;
        let Some(after) = &change.after else { continue };
        for (i, unique) in table.uniques.iter().enumerate() {
            let values = |row: &'_ Vec<Value>| -> Vec<Value> {
                unique.iter().filter_map(|at| row.get(*at).cloned()).collect()
            };
            let taken = values(after);
            let had_it = change.before.as_ref().is_some_and(|before| values(before) == taken);
            if !had_it && !taken.iter().any(Value::is_null) {
                let key = KeyHash::of_row(&table.name, i + 1, &taken.iter().collect::<Vec<_>>());
                claims.push(Claim { mode: Mode::Write, key });
            }
        }
    }
    for table in scanned {
        known(catalogue, table)?;
        claims.push(Claim { mode: Mode::Read, key: KeyHash::of_table(table) });
        claims.push(Claim { mode: Mode::Read, key: KeyHash::of_schema(table) });
    }
    claims.sort_unstable();
    claims.dedup();
    Ok(claims)
}

/// What certification is to look at for a change of a table: nobody may have changed it since, and whoever wrote to it
/// as it was conflicts.
///
/// Whoever changed a table as it was before another one referred to it conflicts, too: it did not look for references.
#[must_use]
pub fn claims_of_change(change: &TableChange) -> Vec<Claim> {
    let mut claims = vec![
        Claim { mode: Mode::Write, key: KeyHash::of_schema(change.table()) },
        Claim { mode: Mode::Touch, key: KeyHash::of_table(change.table()) },
    ];
    if let TableChange::Create(table) = change {
        let parents = table.references.iter().filter(|it| it.parent != table.name);
        claims.extend(
            parents.map(|it| Claim { mode: Mode::Touch, key: KeyHash::of_schema(&it.parent) }),
        );
        claims.sort_unstable();
        claims.dedup();
    }
    claims
}

/// What a change means to the rows that its row refers to, and to those that refer to it.
fn claim_references(
    change: &RowChange,
    table: &Table,
    catalogue: &Catalogue,
    claims: &mut Vec<Claim>,
) -> Result<(), Unfit> {
    for reference in &table.references {
        let parent = known(catalogue, &reference.parent)?;
        let Some(which) = parent.key_named(&reference.key) else { continue };
        let columns = &reference.columns;
        if let Some(values) = newly(columns, change.before.as_deref(), change.after.as_deref()) {
            let gone = KeyHash::of_gone(&parent.name, which, &values);
            claims.push(Claim { mode: Mode::Read, key: gone });
            let referred = KeyHash::of_referred(&parent.name, which, &values);
            claims.push(Claim { mode: Mode::Touch, key: referred });
        }
    }
    let mut keys: Vec<usize> = catalogue
        .referring_to(&table.name)
        .filter_map(|(_, reference)| table.key_named(&reference.key))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    for which in keys {
        let columns = table.key_at(which).unwrap_or_default();
        if let Some(values) = newly(columns, change.after.as_deref(), change.before.as_deref()) {
            let gone = KeyHash::of_gone(&table.name, which, &values);
            claims.push(Claim { mode: Mode::Touch, key: gone });
            let referred = KeyHash::of_referred(&table.name, which, &values);
            claims.push(Claim { mode: Mode::Read, key: referred });
        }
    }
    Ok(())
}

/// The values of these columns in `row`, unless one is null or they are the same in `other`.
fn newly<'r>(
    columns: &[usize],
    other: Option<&[Value]>,
    row: Option<&'r [Value]>,
) -> Option<Vec<&'r Value>> {
    let values: Vec<&Value> = columns.iter().filter_map(|at| row?.get(*at)).collect();
    let same =
        |other: &[Value]| columns.iter().filter_map(|at| other.get(*at)).eq(values.iter().copied());
    let new =
        !values.is_empty() && !values.iter().any(|it| it.is_null()) && !other.is_some_and(same);
    new.then_some(values)
}

fn known<'c>(catalogue: &'c Catalogue, table: &str) -> Result<&'c Table, Unfit> {
    catalogue
        .0
        .get(table)
        .ok_or_else(|| Unfit::new(format!("table {table:?} is not in the ledger")))
}

impl RowChange {
    pub(crate) fn encode(&self, to: &mut Writer) {
        to.bytes(self.table.as_bytes());
        for row in [&self.before, &self.after] {
            to.byte(u8::from(row.is_some()));
            if let Some(row) = row {
                encode_row(row, to);
            }
        }
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let table = from.text()?.to_owned();
        let mut row = || from.flag()?.then(|| decode_row(from)).transpose();
        let (before, after) = (row()?, row()?);
        if before.is_none() && after.is_none() {
            return Err(Malformed("a change has neither a row before nor one after it"));
        }
        Ok(Self { table, before, after })
    }
}

impl Claim {
    pub(crate) fn encode(self, to: &mut Writer) {
        to.byte(match self.mode {
            Mode::Write => 0,
            Mode::Read => 1,
            Mode::Touch => 2,
        });
        to.raw(&self.key.0);
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mode = match from.byte()? {
            0 => Mode::Write,
            1 => Mode::Read,
            2 => Mode::Touch,
            _ => return Err(Malformed("a key takes part in no known way")),
        };
        Ok(Self { mode, key: KeyHash(from.array()?) })
    }
}

#[cfg(test)]
mod tests;
