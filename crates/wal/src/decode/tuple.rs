//! One row as it came over the wire, looked at where it lies.

use crate::decode::Malformed;
use crate::decode::cursor::Cursor;

/// The columns of one row, in the order of its [`Relation`](crate::Relation), borrowed from the receive buffer.
///
/// Checked once when it is decoded; walking it later cannot fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple<'a> {
    count: u16,
    bytes: &'a [u8],
}

/// One column's value on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// SQL's NULL.
    Null,
    /// A large value kept out of line that this change did not touch and the server therefore did not send. Not NULL:
    /// the value is whatever it was.
    Unchanged,
    /// The value in PostgreSQL's text form.
    Text(&'a [u8]),
    /// The value in PostgreSQL's binary form, where that was asked for.
    Binary(&'a [u8]),
}

impl<'a> Field<'a> {
    /// The value's bytes, in either form.
    #[must_use]
    pub fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Text(bytes) | Self::Binary(bytes) => Some(bytes),
            Self::Null | Self::Unchanged => None,
        }
    }

    /// The value as text; `None` for what is no text.
    #[must_use]
    pub fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }
}

impl<'a> Tuple<'a> {
    /// No columns at all.
    pub const EMPTY: Tuple<'static> = Tuple { count: 0, bytes: &[] };

    /// Reads and checks the row that begins where `cursor` stands.
    #[inline]
    pub(crate) fn read(cursor: &mut Cursor<'a>) -> Result<Self, Malformed> {
        let count = cursor.u16()?;
        let from = cursor.rest();
        check(cursor, count)?;
        let length = from.len() - cursor.rest().len();
        Ok(Self { count, bytes: from.get(..length).unwrap_or_default() })
    }

    /// Reads and checks a row from its bytes, as [`Tuple::bytes`] gave them.
    ///
    /// # Errors
    /// [`Malformed`] where these are not the bytes of one row of `count` columns.
    pub fn from_bytes(count: u16, bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(b'N', bytes);
        check(&mut cursor, count)?;
        cursor.end()?;
        Ok(Self { count, bytes })
    }

    /// A row that was checked before, when it was read from the wire.
    pub(crate) fn checked_before(count: u16, bytes: &'a [u8]) -> Self {
        Self { count, bytes }
    }

    /// How many columns it has.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether it has no columns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The number of columns as it is on the wire.
    #[must_use]
    pub fn count(&self) -> u16 {
        self.count
    }

    /// The row's bytes, without the number of columns.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The column at this position.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Field<'a>> {
        self.iter().nth(index)
    }

    /// All columns in order.
    #[must_use]
    pub fn iter(&self) -> Fields<'a> {
        Fields { left: self.count, rest: self.bytes }
    }
}

/// Walks the columns of one row.
#[inline]
fn check(cursor: &mut Cursor<'_>, count: u16) -> Result<(), Malformed> {
    for _ in 0..count {
        match cursor.u8()? {
            b'n' | b'u' => {}
            b't' | b'b' => {
                let length = cursor.length()?;
                cursor.take(length)?;
            }
            _ => return Err(cursor.wrong("a column is of no known kind")),
        }
    }
    Ok(())
}

impl<'a> IntoIterator for Tuple<'a> {
    type Item = Field<'a>;
    type IntoIter = Fields<'a>;

    fn into_iter(self) -> Fields<'a> {
        self.iter()
    }
}

/// Walks the columns of a [`Tuple`].
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    left: u16,
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    #[inline]
    fn next(&mut self) -> Option<Field<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (&kind, rest) = self.rest.split_first()?;
        self.rest = rest;
        match kind {
            b'n' => Some(Field::Null),
            b'u' => Some(Field::Unchanged),
            _ => {
                let (length, rest) = rest.split_first_chunk::<4>()?;
                let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
                let (value, rest) = rest.split_at_checked(length)?;
                self.rest = rest;
                Some(if kind == b'b' { Field::Binary(value) } else { Field::Text(value) })
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for Fields<'_> {}

/// Writes rows in the wire's form: for snapshots, whose rows come in another, and for tests.
#[derive(Clone, Debug, Default)]
pub struct TupleWriter {
    count: u16,
    bytes: Vec<u8>,
}

impl TupleWriter {
    /// Begins a new row in the same memory.
    pub fn clear(&mut self) {
        self.count = 0;
        self.bytes.clear();
    }

    /// Adds one column. More columns than a table can have (1,600), or a value over 2 GiB, are left out.
    pub fn push(&mut self, field: Field<'_>) {
        let Some(count) = self.count.checked_add(1) else { return };
        let (kind, value) = match field {
            Field::Null => (b'n', None),
            Field::Unchanged => (b'u', None),
            Field::Text(value) => (b't', Some(value)),
            Field::Binary(value) => (b'b', Some(value)),
        };
        let Some(value) = value else {
            self.count = count;
            return self.bytes.push(kind);
        };
        let Ok(length) = i32::try_from(value.len()) else { return };
        self.count = count;
        self.bytes.push(kind);
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(value);
    }

    /// The row so far.
    #[must_use]
    pub fn tuple(&self) -> Tuple<'_> {
        Tuple { count: self.count, bytes: &self.bytes }
    }
}
