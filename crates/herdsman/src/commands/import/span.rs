//! Times and numbers of others, within the ranges of ours.

use super::draft::Entry;

/// What a zero means there, in our words.
#[derive(Clone, Copy)]
pub(super) enum Zero {
    /// There is none, which is `never` here.
    Never,
    /// There is none; here there always is one.
    Longest,
    /// At once.
    Allowed,
}

/// How a time is written here.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) key: &'static str,
    /// Milliseconds.
    pub(super) least: u64,
    /// Milliseconds.
    pub(super) most: u64,
    pub(super) zero: Zero,
}

pub(super) const HOUR: u64 = 3_600_000;
pub(super) const MONTH: u64 = 30 * 24 * HOUR;

impl Span {
    /// The key with this many milliseconds, and what had to be changed about it.
    pub(super) fn entry(self, millis: u64) -> Entry {
        match (millis, self.zero) {
            (0, Zero::Never) => Entry::new(self.key, "never"),
            (0, Zero::Allowed) => Entry::new(self.key, "0s"),
            (0, Zero::Longest) => Entry::new(self.key, written(self.most))
                .noted("0 there, for no limit: the longest that there is here."),
            _ if millis > self.most => Entry::new(self.key, written(self.most))
                .noted("Longer there: the longest that there is here."),
            _ if millis < self.least => Entry::new(self.key, written(self.least))
                .noted("Shorter there: the shortest that there is here."),
            _ => Entry::new(self.key, written(millis)),
        }
    }
}

/// A number, within its range.
pub(super) fn number(key: &str, value: u64, least: u64, most: u64) -> Entry {
    let entry = Entry::new(key, value.clamp(least, most).to_string());
    if (least..=most).contains(&value) {
        return entry;
    }
    entry.noted(format!("{value} there; here it is from {least} to {most}."))
}

fn written(millis: u64) -> String {
    if millis.is_multiple_of(1000) { format!("{}s", millis / 1000) } else { format!("{millis}ms") }
}

/// Seconds as PgBouncer has them, which may have a fraction, in milliseconds.
pub(super) fn seconds(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let thousandths: String = fraction.chars().chain("000".chars()).take(3).collect();
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(thousandths.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_may_have_a_fraction() {
        for (text, expected) in [
            ("120", Some(120_000)),
            ("0", Some(0)),
            ("1.5", Some(1500)),
            ("0.0005", Some(0)),
            ("", None),
            ("-1", None),
            ("1s", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
