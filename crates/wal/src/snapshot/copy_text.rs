//! From `COPY … TO STDOUT` in its text format to rows. Pure; allocates nothing per row once its buffers have grown.

use crate::decode::{Field, Tuple, TupleWriter};

/// The text is not what `COPY` writes. Never shows what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CopyTextError {
    #[error("a row has {found} columns instead of {expected}")]
    Columns { found: usize, expected: usize },
    #[error("a row breaks off in the middle")]
    BreaksOff,
}

/// Reads rows from pieces of text that may be cut anywhere.
#[derive(Debug)]
pub(crate) struct CopyText {
    columns: usize,
    /// A row of which the rest has not come.
    partial: Vec<u8>,
    /// A value without its escapes.
    plain: Vec<u8>,
    row: TupleWriter,
}

impl CopyText {
    /// For rows of this many columns.
    pub(crate) fn new(columns: usize) -> Self {
        Self { columns, partial: Vec::new(), plain: Vec::new(), row: TupleWriter::default() }
    }

    /// Takes more text and hands each row that is complete to `each`.
    pub(crate) fn push(
        &mut self,
        mut text: &[u8],
        mut each: impl FnMut(Tuple<'_>),
    ) -> Result<(), CopyTextError> {
        // A newline within a value is written as an escape, so each one ends a row.
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = text.split_at_checked(end).unwrap_or_default();
            text = rest.get(1..).unwrap_or_default();
            if self.partial.is_empty() {
                self.read(line)?;
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                let read = self.read(&whole);
                whole.clear();
                self.partial = whole;
                read?;
            }
            each(self.row.tuple());
        }
        self.partial.extend_from_slice(text);
        Ok(())
    }

    /// The text is over.
    pub(crate) fn end(&self) -> Result<(), CopyTextError> {
        if self.partial.is_empty() { Ok(()) } else { Err(CopyTextError::BreaksOff) }
    }

    fn read(&mut self, line: &[u8]) -> Result<(), CopyTextError> {
        self.row.clear();
        let mut found = 0;
        // A table without columns has rows all the same: empty lines, like those of one column that is empty.
        if self.columns > 0 || !line.is_empty() {
            for value in line.split(|byte| *byte == b'\t') {
                found += 1;
                if value == b"\\N" {
                    self.row.push(Field::Null);
                } else if value.contains(&b'\\') {
                    self.plain.clear();
                    unescape(value, &mut self.plain);
                    self.row.push(Field::Text(&self.plain));
                } else {
                    self.row.push(Field::Text(value));
                }
            }
        }
        if found == self.columns {
            Ok(())
        } else {
            Err(CopyTextError::Columns { found, expected: self.columns })
        }
    }
}

/// Undoes the escapes of `COPY`'s text format: all that a server may write, and those it only reads.
fn unescape(value: &[u8], plain: &mut Vec<u8>) {
    let mut rest = value;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            plain.push(byte);
            continue;
        }
        let Some((&escape, after)) = rest.split_first() else { return plain.push(b'\\') };
        rest = after;
        plain.push(match escape {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            b'0'..=b'7' => number(escape - b'0', 8, &mut rest),
            b'x' => {
                match rest.split_first().and_then(|(&byte, after)| Some((digit(byte, 16)?, after)))
                {
                    Some((first, after)) => {
                        rest = after;
                        number(first, 16, &mut rest)
                    }
                    None => b'x',
                }
            }
            other => other,
        });
    }
}

/// A character by its number: one digit, and in base 8 up to two, in base 16 up to one more.
fn number(first: u8, base: u8, rest: &mut &[u8]) -> u8 {
    let mut number = first;
    for _ in 0..if base == 8 { 2 } else { 1 } {
        let next = rest.split_first().and_then(|(&byte, after)| Some((digit(byte, base)?, after)));
        let Some((digit, after)) = next else { break };
        *rest = after;
        // As the server does it: eight bits are kept.
        number = number.wrapping_mul(base).wrapping_add(digit);
    }
    number
}

fn digit(byte: u8, base: u8) -> Option<u8> {
    char::from(byte).to_digit(u32::from(base)).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Value = Option<Vec<u8>>;

    fn rows(columns: usize, pieces: &[&[u8]]) -> Result<Vec<Vec<Value>>, CopyTextError> {
        let mut text = CopyText::new(columns);
        let mut rows = Vec::new();
        for piece in pieces {
            text.push(piece, |row| {
                rows.push(row.iter().map(|field| field.bytes().map(<[u8]>::to_vec)).collect());
            })?;
        }
        text.end().map(|()| rows)
    }

    fn one(value: &[u8]) -> Value {
        rows(1, &[value, b"\n"]).unwrap().concat().pop().unwrap()
    }

    #[test]
    fn every_escape_means_one_byte() {
        assert_eq!(one(br"\\\b\f\n\r\t\v\.").unwrap(), b"\\\x08\x0c\n\r\t\x0b.");
        assert_eq!(one(br"\101\7\0008\x41g\x4z\xg").unwrap(), b"A\x07\x008Ag\x04zxg");
        assert_eq!(one(br"a\").unwrap(), br"a\");
    }

    #[test]
    fn null_is_neither_the_word_for_it_nor_nothing() {
        assert_eq!(one(br"\N"), None);
        assert_eq!(one(br"\\N").unwrap(), br"\N");
        assert_eq!(one(br"\Nx").unwrap(), b"Nx");
        assert_eq!(one(b"").unwrap(), b"");
    }

    #[test]
    fn a_table_without_columns_has_rows() {
        assert_eq!(rows(0, &[b"\n\n"]).unwrap().len(), 2);
        assert!(rows(0, &[b"x\n"]).is_err());
    }

    #[test]
    fn rows_that_are_not_whole_are_refused() {
        assert_eq!(rows(2, &[b"a\n"]), Err(CopyTextError::Columns { found: 1, expected: 2 }));
        assert_eq!(rows(1, &[b"a\tb\n"]), Err(CopyTextError::Columns { found: 2, expected: 1 }));
        assert_eq!(rows(1, &[b"a\nb"]), Err(CopyTextError::BreaksOff));
    }

    /// As `CopyAttributeOutText` writes it.
    fn written(rows: &[Vec<Value>]) -> Vec<u8> {
        let mut text = Vec::new();
        for row in rows {
            for (index, value) in row.iter().enumerate() {
                if index > 0 {
                    text.push(b'\t');
                }
                let Some(value) = value else {
                    text.extend_from_slice(br"\N");
                    continue;
                };
                for byte in value {
                    match byte {
                        8 => text.extend_from_slice(br"\b"),
                        12 => text.extend_from_slice(br"\f"),
                        b'\n' => text.extend_from_slice(br"\n"),
                        b'\r' => text.extend_from_slice(br"\r"),
                        b'\t' => text.extend_from_slice(br"\t"),
                        11 => text.extend_from_slice(br"\v"),
                        b'\\' => text.extend_from_slice(br"\\"),
                        byte => text.push(*byte),
                    }
                }
            }
            text.push(b'\n');
        }
        text
    }

    fn value() -> impl Strategy<Value = Value> {
        let nasty = prop::sample::select(&b"\\\\\\NN\t\n\r\x08\x0b\x0c.x1 a"[..]);
        prop::option::of(prop::collection::vec(prop_oneof![nasty, any::<u8>()], 0..12))
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_wherever_it_is_cut(
            rows_in in prop::collection::vec(prop::collection::vec(value(), 3), 0..6),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let text = written(&rows_in);
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
            at.extend([0, text.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|w| &text[w[0]..w[1]]).collect();
            prop_assert_eq!(rows(3, &pieces), Ok(rows_in));
        }
    }
}
