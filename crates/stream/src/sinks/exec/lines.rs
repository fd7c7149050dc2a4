//! Lines of a bounded length.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// Reads lines; a longer one comes in pieces.
#[derive(Debug)]
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    longest: usize,
    line: Vec<u8>,
}

/// One line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) bytes: Vec<u8>,
    /// Whether its end was there.
    pub(super) whole: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(reader: R, longest: usize) -> Self {
        Self { reader: BufReader::new(reader), longest, line: Vec::new() }
    }

    /// The next line; none at the end.
    pub(super) async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let buffer = self.reader.fill_buf().await?;
            if buffer.is_empty() {
                let bytes = std::mem::take(&mut self.line);
                return Ok((!bytes.is_empty()).then_some(Line { bytes, whole: false }));
            }
            let room = self.longest.saturating_sub(self.line.len()).max(1);
            let end = buffer.iter().take(room).position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(buffer.len().min(room));
            self.line.extend(buffer.iter().take(taken));
            self.reader.consume(taken + usize::from(end.is_some()));
            if end.is_some() || self.line.len() >= self.longest {
                let bytes = std::mem::take(&mut self.line);
                return Ok(Some(Line { bytes, whole: end.is_some() }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_end_at_their_end_at_the_bound_or_with_the_input() {
        let mut lines = Lines::new(&b"a\n\nabcdef\nxyz"[..], 4);
        let mut found = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            found.push((String::from_utf8(line.bytes).unwrap(), line.whole));
        }
        let expected = [("a", true), ("", true), ("abcd", false), ("ef", true), ("xyz", false)];
        assert_eq!(found, expected.map(|(text, whole)| (text.to_owned(), whole)));
    }
}
