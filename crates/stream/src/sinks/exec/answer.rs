//! What the command has said of a batch. Pure: lines in, what is left out.

use std::collections::BTreeMap;

/// Which changes of one batch are acknowledged, refused or open.
#[derive(Debug)]
pub(super) struct Tally {
    /// Offset of the first line fed.
    first: u64,
    /// For each line fed, its change's place in the batch.
    fed: Vec<usize>,
    /// Changes that were not fed: too long.
    long: Vec<usize>,
    /// Offsets that were refused, and why.
    failed: BTreeMap<u64, String>,
    /// Everything below is acknowledged or refused.
    open_from: u64,
    heard: bool,
}

/// Most characters of a reason that are kept.
const REASON: usize = 500;

impl Tally {
    pub(super) fn starting_at(first: u64) -> Self {
        let (fed, long, failed) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { first, fed, long, failed, open_from: first, heard: false }
    }

    /// The next change of the batch is fed.
    pub(super) fn fed(&mut self) {
        self.fed.push(self.fed.len() + self.long.len());
    }

    /// The next change of the batch cannot be fed.
    pub(super) fn too_long(&mut self) {
        self.long.push(self.fed.len() + self.long.len());
    }

    /// Takes a line that the command printed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn take(&mut self, line: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(line);
        let wrong = |why: &str| Err(format!("it said `{}`, {why}", cut(&text, 60)));
        let mut words = text.trim_end().splitn(3, ' ');
        let word = words.next().unwrap_or_default();
        let Some(offset) = words.next().and_then(|number| number.parse::<u64>().ok()) else {
            return wrong("which is no answer");
        };
        if offset >= self.end() {
            return wrong("but was not fed that many lines");
        }
        match (word, words.next()) {
            // Of an earlier batch: said twice.
            ("ok", None) if offset < self.open_from => {}
            ("ok", None) => {
                self.heard = true;
                self.open_from = offset + 1;
            }
            ("fail", _) if offset < self.open_from && !self.failed.contains_key(&offset) => {
                return wrong("but had acknowledged it before");
            }
            ("fail", reason) => {
                self.heard = true;
                let reason = reason.filter(|reason| !reason.trim().is_empty());
                let reason = cut(reason.unwrap_or("it gave no reason").trim(), REASON);
                self.failed.entry(offset).or_insert(reason);
            }
            _ => return wrong("which is no answer"),
        }
        while self.failed.contains_key(&self.open_from) {
            self.open_from += 1;
        }
        Ok(())
    }

    /// Whether all that was fed is acknowledged or refused.
    pub(super) fn is_complete(&self) -> bool {
        self.open_from >= self.end()
    }

    /// Whether the command has acknowledged or refused anything.
    pub(super) fn progressed(&self) -> bool {
        self.heard
    }

    /// Places in the batch of what was refused, in order; no reason where it was too long to be fed.
    pub(super) fn refused(&self) -> impl Iterator<Item = (usize, Option<&str>)> {
        let failed = self
            .failed
            .iter()
            .filter_map(|(offset, reason)| Some((self.place(*offset)?, Some(reason.as_str()))));
        let mut all: Vec<_> = failed.chain(self.long.iter().map(|index| (*index, None))).collect();
        all.sort_unstable();
        all.into_iter()
    }

    /// Places in the batch of what is open, in order.
    pub(super) fn pending(&self) -> impl Iterator<Item = usize> {
        let open = self.open_from..self.end();
        open.filter(|offset| !self.failed.contains_key(offset)).filter_map(|o| self.place(o))
    }

    fn place(&self, offset: u64) -> Option<usize> {
        let line = usize::try_from(offset.checked_sub(self.first)?).ok()?;
        self.fed.get(line).copied()
    }

    fn end(&self) -> u64 {
        self.first + u64::try_from(self.fed.len()).unwrap_or(u64::MAX)
    }
}

fn cut(text: &str, most: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(lines: &[&str]) -> Result<Tally, String> {
        let mut tally = Tally::starting_at(10);
        // Offsets 10, 11, 12, 13 at the places 0, 1, 3, 4.
        for index in 0..5 {
            if index == 2 { tally.too_long() } else { tally.fed() }
        }
        for line in lines {
            tally.take(line.as_bytes())?;
        }
        Ok(tally)
    }

    #[test]
    fn answers_are_added_up() {
        for (lines, complete, refused, pending) in [
            (&[][..], false, &[2][..], &[0, 1, 3, 4][..]),
            (&["ok 13"], true, &[2], &[]),
            (&["ok 13\r\n"], true, &[2], &[]),
            (&["ok 10", "ok 12"], false, &[2], &[4]),
            (&["ok 12", "ok 10", "ok 3"], false, &[2], &[4]),
            (&["fail 13 why", "ok 12"], true, &[2, 4], &[]),
            (&["fail 10 a", "fail 11", "ok 13"], true, &[0, 1, 2], &[]),
            (&["fail 12 a"], false, &[2, 3], &[0, 1, 4]),
            (&["fail 11 a", "fail 11 a", "ok 13"], true, &[1, 2], &[]),
        ] {
            let tally = tally(lines).unwrap();
            assert_eq!(tally.is_complete(), complete, "{lines:?}");
            assert_eq!(tally.refused().map(|(i, _)| i).collect::<Vec<_>>(), refused, "{lines:?}");
            assert_eq!(tally.pending().collect::<Vec<_>>(), pending, "{lines:?}");
        }
    }

    #[test]
    fn nonsense_is_told_from_answers() {
        for (line, expected) in [
            ("", "no answer"),
            ("ok", "no answer"),
            ("ok ten", "no answer"),
            ("ok 10 now", "no answer"),
            ("OK 10", "no answer"),
            ("hello 11", "no answer"),
            ("ok 14", "was not fed that many lines"),
            ("fail 14 x", "was not fed that many lines"),
            ("fail 9 x", "had acknowledged it before"),
        ] {
            assert!(tally(&[line]).unwrap_err().contains(expected), "{line}");
        }
        assert!(tally(&["ok 11", "fail 11 x"]).unwrap_err().contains("had acknowledged it before"));
    }

    #[test]
    fn reasons_are_kept_short_and_on_one_line() {
        let tally = tally(&[&format!("fail 10 a\u{7}{}", "b".repeat(9000))]).unwrap();
        let (_, reason) = tally.refused().next().unwrap();
        assert_eq!(reason.unwrap(), format!("a{}", "b".repeat(REASON - 1)));
    }
}
