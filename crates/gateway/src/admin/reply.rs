//! What the console answers with: tables, and their form on the wire.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::wire::{backend, message};

/// A column's name and type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `text`
    Text,
    /// `int8`
    Int,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Null,
    Text(Cow<'static, str>),
    Shared(Arc<str>),
    Int(i64),
}

pub(super) type Row = Vec<Cell>;

/// Rows are made one by one while they are sent.
pub(super) struct Table {
    pub(super) columns: &'static [Column],
    pub(super) rows: Box<dyn Iterator<Item = Row> + Send>,
}

/// How a client wants the columns of a result: none, one for all, or one for each; 0 is text, 1 binary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Formats(pub(super) Vec<i16>);

impl Column {
    pub(super) const fn text(name: &'static str) -> Self {
        Self { name, kind: Kind::Text }
    }

    pub(super) const fn int(name: &'static str) -> Self {
        Self { name, kind: Kind::Int }
    }
}

impl Kind {
    /// The type's number in `pg_type`, and its length.
    const fn oid(self) -> (i32, i16) {
        match self {
            Self::Text => (25, -1),
            Self::Int => (20, 8),
        }
    }
}

impl Cell {
    /// Whether it fits into a column.
    #[cfg(test)]
    pub(super) fn is(&self, kind: Kind) -> bool {
        match self {
            Self::Null => true,
            Self::Int(_) => kind == Kind::Int,
            Self::Text(_) | Self::Shared(_) => kind == Kind::Text,
        }
    }

    fn put(&self, out: &mut Vec<u8>, binary: bool) {
        let mut value = |bytes: &[u8]| {
            out.extend_from_slice(&i32::try_from(bytes.len()).unwrap_or(i32::MAX).to_be_bytes());
            out.extend_from_slice(bytes);
        };
        match self {
            Self::Null => out.extend_from_slice(&(-1_i32).to_be_bytes()),
            Self::Text(text) => value(text.as_bytes()),
            Self::Shared(text) => value(text.as_bytes()),
            Self::Int(number) if binary => value(&number.to_be_bytes()),
            Self::Int(number) => value(number.to_string().as_bytes()),
        }
    }
}

impl From<&'static str> for Cell {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<&Arc<str>> for Cell {
    fn from(text: &Arc<str>) -> Self {
        Self::Shared(Arc::clone(text))
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Cell {
    fn from(number: usize) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<f64> for Cell {
    /// Rounded down to a whole number, as PgBouncer shows averages.
    fn from(number: f64) -> Self {
        // There is no conversion from a float that cannot fail; its text has one.
        Self::Int(format!("{:.0}", number.floor()).parse().unwrap_or(0))
    }
}

impl From<&Option<Arc<str>>> for Cell {
    fn from(text: &Option<Arc<str>>) -> Self {
        text.as_ref().map_or(Self::Null, Self::from)
    }
}

impl From<u16> for Cell {
    fn from(number: u16) -> Self {
        Self::Int(number.into())
    }
}

impl From<bool> for Cell {
    fn from(yes: bool) -> Self {
        Self::Int(yes.into())
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Text(text) => f.write_str(text),
            Self::Shared(text) => f.write_str(text),
            Self::Int(number) => write!(f, "{number}"),
        }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("columns", &self.columns).finish_non_exhaustive()
    }
}

impl Table {
    pub(super) fn new(
        columns: &'static [Column],
        rows: impl IntoIterator<Item = Row, IntoIter: Send + 'static>,
    ) -> Self {
        Self { columns, rows: Box::new(rows.into_iter()) }
    }
}

impl Formats {
    fn of(&self, column: usize) -> i16 {
        match *self.0 {
            [] => 0,
            [all] => all,
            ref each => each.get(column).copied().unwrap_or(0),
        }
    }
}

/// Appends `RowDescription`.
pub(super) fn put_columns(out: &mut Vec<u8>, columns: &[Column], formats: &Formats) {
    message(out, backend::ROW_DESCRIPTION, |out| {
        put_count(out, columns.len());
        for (index, column) in columns.iter().enumerate() {
            let (oid, length) = column.kind.oid();
            out.extend_from_slice(column.name.as_bytes());
            // The name's end, no table, no column of it.
            out.extend_from_slice(&[0; 7]);
            out.extend_from_slice(&oid.to_be_bytes());
            out.extend_from_slice(&length.to_be_bytes());
            // No modifier.
            out.extend_from_slice(&(-1_i32).to_be_bytes());
            out.extend_from_slice(&formats.of(index).to_be_bytes());
        }
    });
}

/// Appends `DataRow`.
pub(super) fn put_row(out: &mut Vec<u8>, row: &Row, formats: &Formats) {
    message(out, backend::DATA_ROW, |out| {
        put_count(out, row.len());
        for (index, cell) in row.iter().enumerate() {
            cell.put(out, formats.of(index) == 1);
        }
    });
}

/// Appends a notice.
pub(super) fn put_notice(out: &mut Vec<u8>, text: &str) {
    message(out, backend::NOTICE, |out| {
        for (letter, value) in [(b'S', "NOTICE"), (b'V', "NOTICE"), (b'C', "00000"), (b'M', text)] {
            out.push(letter);
            out.extend(value.bytes().filter(|&byte| byte != 0));
            out.push(0);
        }
        out.push(0);
    });
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes());
}
