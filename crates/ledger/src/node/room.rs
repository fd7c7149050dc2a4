//! How much of what statements return is kept.

use super::{Answer, dialect::Failure};

/// What a cell takes beside its text, about.
const CELL_BYTES: usize = 4;

/// How much of what the statements of a transaction return is kept: so much of all of them together.
///
/// ```
/// use herdsman_ledger::node::Room;
/// let room = Room::stopping_at(10_000, 4 * 1024 * 1024);
/// assert!(!room.is_full());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    rows_most: usize,
    bytes_most: usize,
    rows: usize,
    bytes: usize,
    stops: bool,
    full: bool,
}

impl Room {
    /// Everything is kept.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self::of(usize::MAX, usize::MAX, true)
    }

    /// At most so many rows, and bytes of their texts. A statement that returns more fails with SQLSTATE 54000 as soon as
    /// that is seen, and its engine is not read any further.
    #[must_use]
    pub const fn stopping_at(rows: usize, bytes: usize) -> Self {
        Self::of(rows, bytes, true)
    }

    /// As [`Room::stopping_at`], for what changes data: a statement that returns more is done to its end, and what there is
    /// no room for is but counted, as [`Answer::beyond`].
    #[must_use]
    pub const fn keeping(rows: usize, bytes: usize) -> Self {
        Self::of(rows, bytes, false)
    }

    const fn of(rows_most: usize, bytes_most: usize, stops: bool) -> Self {
        Self { rows_most, bytes_most, rows: 0, bytes: 0, stops, full: false }
    }

    /// Whether there was more than there was room for.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Takes one more row into an answer. What fails is not to be read on.
    pub(super) fn take(
        &mut self,
        answer: &mut Answer,
        row: Vec<Option<String>>,
    ) -> Result<(), Failure> {
        let cell = |it: &Option<String>| it.as_ref().map_or(0, String::len) + CELL_BYTES;
        self.rows = self.rows.saturating_add(1);
        self.bytes = self.bytes.saturating_add(row.iter().map(cell).sum());
        let (rows, bytes) = (self.rows > self.rows_most, self.bytes > self.bytes_most);
        if !rows && !bytes && !self.full {
            answer.rows.push(row);
            return Ok(());
        }
        self.full = true;
        if self.stops {
            let most = if rows {
                format!("{} rows", self.rows_most)
            } else {
                format!("{} bytes", self.bytes_most)
            };
            return Err(Failure::refused("54000", format!("the result has more than {most}")));
        }
        answer.beyond = answer.beyond.saturating_add(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &str) -> Vec<Option<String>> {
        vec![Some(text.to_owned()), None]
    }

    #[test]
    fn what_there_is_no_room_for_ends_a_read_and_is_counted_of_a_write() {
        // Rows, bytes; how many of five rows of eleven bytes are kept, and what is said of the next one.
        for (rows, bytes, kept, said) in [
            (usize::MAX, usize::MAX, 5, None),
            (5, 55, 5, None),
            (3, 100, 3, Some("more than 3 rows")),
            (10, 50, 4, Some("more than 50 bytes")),
            (0, 100, 0, Some("more than 0 rows")),
        ] {
            let (mut answer, mut room) = (Answer::default(), Room::stopping_at(rows, bytes));
            let failed = (0..5).find_map(|_| room.take(&mut answer, row("abc")).err());
            assert_eq!((answer.rows.len(), room.is_full()), (kept, said.is_some()));
            match (failed, said) {
                (None, None) => {}
                (Some(Failure::Refused { state, message }), Some(said)) => {
                    assert!(state == "54000" && message.contains(said), "{message}");
                }
                other => panic!("{other:?}"),
            }
            let (mut answer, mut room) = (Answer::default(), Room::keeping(rows, bytes));
            for _ in 0..5 {
                room.take(&mut answer, row("abc")).unwrap();
            }
            assert_eq!((answer.rows.len(), answer.beyond), (kept, 5 - kept as u64));
        }
    }

    #[test]
    fn room_is_of_all_statements_and_nothing_comes_after_what_was_left_out() {
        let mut room = Room::keeping(10, 30);
        let mut answers = [Answer::default(), Answer::default()];
        room.take(&mut answers[0], row("a")).unwrap();
        room.take(&mut answers[0], row("far too long for what is left")).unwrap();
        room.take(&mut answers[1], row("b")).unwrap();
        let left_out = answers.each_ref().map(|it| (it.rows.len(), it.beyond));
        assert_eq!(left_out, [(1, 1), (0, 1)]);
    }
}
