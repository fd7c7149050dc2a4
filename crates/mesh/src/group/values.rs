//! The values of one column of many rows, in the form an array parameter takes them.

use bytes::{BufMut, BytesMut};
use herdsman_wal::decode::Field;

/// Values of one column, one behind the other: a length of four bytes, -1 for NULL, and the text. That is how the
/// elements of an array go over the wire, so they are written once, when they arrive.
#[derive(Clone, Debug, Default)]
pub struct Values {
    bytes: Vec<u8>,
    starts: Vec<usize>,
    nulls: bool,
}

impl Values {
    /// Adds a value; `false`: it is no text and no NULL, or longer than any value may be.
    pub(super) fn push(&mut self, field: Field<'_>) -> bool {
        let (length, text) = match field {
            Field::Null => (-1, [].as_slice()),
            Field::Text(text) => match i32::try_from(text.len()) {
                Ok(length) => (length, text),
                Err(_) => return false,
            },
            Field::Unchanged | Field::Binary(_) => return false,
        };
        self.nulls |= length < 0;
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(text);
        true
    }

    /// Takes the last value away again.
    pub(super) fn pop(&mut self) {
        if let Some(start) = self.starts.pop() {
            self.bytes.truncate(start);
        }
    }

    /// The value of this row; `None` for NULL.
    #[must_use]
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        let element = self.element(row)?;
        let (length, text) = element.split_first_chunk::<4>()?;
        (i32::from_be_bytes(*length) >= 0).then_some(text)
    }

    fn element(&self, row: usize) -> Option<&[u8]> {
        let start = *self.starts.get(row)?;
        let end = self.starts.get(row + 1).copied().unwrap_or(self.bytes.len());
        self.bytes.get(start..end)
    }

    /// Whether there is a NULL among them.
    #[must_use]
    pub fn nulls(&self) -> bool {
        self.nulls
    }

    /// Writes the elements, of these rows only where they are named.
    pub(crate) fn write(&self, out: &mut BytesMut, rows: Option<&[u32]>) {
        let Some(rows) = rows else { return out.put_slice(&self.bytes) };
        for row in rows {
            out.put_slice(self.element(index(*row)).unwrap_or_default());
        }
    }
}

/// A row's number as an index.
#[must_use]
pub(crate) fn index(row: u32) -> usize {
    usize::try_from(row).unwrap_or(usize::MAX)
}
