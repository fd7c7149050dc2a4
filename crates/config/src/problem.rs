//! A problem in the file, shown the way compilers show theirs, and never with a secret.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::places::{At, Kind, Places};

/// One thing that is wrong in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    file: PathBuf,
    at: Option<At>,
    message: String,
    snippet: Option<String>,
}

/// What the problems of one file are written with: its name, its lines, and which of them hold secrets.
pub(crate) struct Page<'a> {
    file: &'a Path,
    text: &'a str,
    secret_lines: BTreeSet<u64>,
}

/// Longest piece of a line shown, in characters.
const SNIPPET_WIDTH: usize = 90;

/// Longest value repeated in a message, in characters.
const VALUE_WIDTH: usize = 60;

impl Problem {
    /// A problem of the file as a whole.
    pub(crate) fn of_file(file: &Path, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), at: None, message: message.into(), snippet: None }
    }

    /// Where in the file it is; `None` for the file as a whole.
    #[must_use]
    pub fn position(&self) -> Option<At> {
        self.at
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(at) = self.at {
            write!(f, "{}:{}:", at.line, at.column)?;
        }
        write!(f, " {}", self.message)?;
        if let Some(snippet) = &self.snippet {
            write!(f, "\n{snippet}")?;
        }
        Ok(())
    }
}

impl<'a> Page<'a> {
    pub(crate) fn new(file: &'a Path, text: &'a str) -> Self {
        Self { file, text, secret_lines: BTreeSet::new() }
    }

    /// Learns from the structure of the file which lines must not be shown.
    pub(crate) fn learn_secrets(&mut self, places: &Places) {
        for place in places.iter().filter(|place| place.kind == Kind::Scalar) {
            if is_secret(&place.path) {
                self.secret_lines.extend(place.value.line..=place.last_line);
            }
        }
    }

    /// A problem at this spot, with the line it is on where that may be shown.
    pub(crate) fn problem(&self, at: At, message: impl Into<String>) -> Problem {
        Problem {
            file: self.file.to_owned(),
            at: Some(at),
            message: message.into(),
            snippet: self.snippet(at),
        }
    }

    /// A problem of the file as a whole.
    pub(crate) fn of_file(&self, message: impl Into<String>) -> Problem {
        Problem::of_file(self.file, message)
    }

    /// What is written at this spot, up to the end of the line or of the value; nothing where it may be a secret.
    pub(crate) fn value_at(&self, at: At) -> Option<String> {
        self.line(at.line).filter(|_| !self.hidden(at.line))?;
        self.scalar_at(at)
    }

    /// As [`Page::value_at`], also where it must not be shown.
    pub(crate) fn scalar_at(&self, at: At) -> Option<String> {
        let line = self.line(at.line)?;
        let rest: String = line.chars().skip(column_index(at)).collect();
        let rest = match rest.chars().next()? {
            quote @ ('"' | '\'') => {
                rest.chars().skip(1).take_while(|&c| c != quote).collect::<String>()
            }
            _ => {
                let end = rest.find(" #").unwrap_or(rest.len());
                let end = rest.find(['{', '}', '[', ']', ',']).unwrap_or(end).min(end);
                rest.get(..end).unwrap_or_default().trim_end().to_owned()
            }
        };
        (!rest.is_empty()).then_some(rest)
    }

    fn snippet(&self, at: At) -> Option<String> {
        let line = self.line(at.line).filter(|_| !self.hidden(at.line))?;
        let column = column_index(at);
        // A caret far to the right gets the piece of the line around it.
        let start = if column < SNIPPET_WIDTH - 10 { 0 } else { column - SNIPPET_WIDTH / 2 };
        let shown: String = line
            .chars()
            .skip(start)
            .take(SNIPPET_WIDTH)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let number = at.line.to_string();
        let margin = " ".repeat(number.len());
        let caret = " ".repeat(column - start);
        Some(format!(
            " {margin} |\n {number} | {shown}\n {margin} | {caret}^",
            shown = shown.trim_end()
        ))
    }

    fn line(&self, number: u64) -> Option<&'a str> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        self.text.lines().nth(index)
    }

    /// Whether a line holds a secret, or the reader got lost so that it might.
    fn hidden(&self, number: u64) -> bool {
        if self.secret_lines.contains(&number) {
            return true;
        }
        // Where the structure is unknown, a line belongs to the last key above it.
        let mut above = (1..=number).rev().filter_map(|n| self.line(n));
        let mut sensitive = false;
        for line in above.by_ref() {
            sensitive |= looks_secret(line);
            let key = line.trim_start().trim_start_matches("- ");
            let named = key.split_once(':').is_some_and(|(key, rest)| {
                !key.contains(char::is_whitespace) && (rest.is_empty() || rest.starts_with(' '))
            });
            if sensitive || named || line.trim().is_empty() {
                break;
            }
        }
        sensitive
    }
}

/// A value as messages show it: between backticks, short, without control characters.
pub fn quoted(value: &str) -> String {
    let mut shown: String = value
        .chars()
        .take(VALUE_WIDTH)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if value.chars().count() > VALUE_WIDTH {
        shown.push('…');
    }
    format!("`{shown}`")
}

fn column_index(at: At) -> usize {
    usize::try_from(at.column.saturating_sub(1)).unwrap_or(0)
}

/// Whether the value at this path must not be shown.
fn is_secret(path: &[String]) -> bool {
    match path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        // A connection string may hold a password anywhere.
        ["hosts", _] | ["route", "application"] => true,
        ["hosts", _, key]
        | ["route", "application", key]
        | ["stream" | "mesh", "login", key]
        | ["mesh", "control", key]
        | ["api", "tokens", _, key] => looks_secret(key),
        // Settings of a sink or a hook: whatever looks like a secret is one, at any depth; URLs and commands may hold one.
        ["stream", "sinks", _, _, keys @ ..] | ["hooks", _, _, keys @ ..] => {
            keys.iter().any(|key| may_hold_secret(key))
        }
        ["ssl", ..] => true,
        _ => false,
    }
}

/// Keys that name the place of a secret; they show nothing themselves.
const PLACES: [&str; 11] = [
    "password_file",
    "password_env",
    "password_command",
    "password_encoding",
    "passfile",
    "secret_file",
    "secret_env",
    "secret_command",
    "token_file",
    "token_env",
    "token_command",
];

/// Keys of sinks and hooks whose values may hold a secret among other things.
fn may_hold_secret(key: &str) -> bool {
    looks_secret(key) || matches!(key, "url" | "headers" | "env")
}

/// Whether this is, or names, a secret.
pub(crate) fn looks_secret(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let text = PLACES.iter().fold(text, |text, harmless| text.replace(harmless, ""));
    ["pass", "pwd", "secret", "b64", "://", "-----", "token"].iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_may_hold_a_secret_is_not_shown() {
        let text = "hosts:\n  a:\n    password: |\n      hunter\n      two\n    port: x\n";
        let page = Page::new(Path::new("f"), text);
        for line in 3..=5 {
            assert_eq!(
                page.problem(At { line, column: 7 }, "m").to_string(),
                format!("f:{line}:7: m")
            );
        }
        let shown = page.problem(At { line: 6, column: 11 }, "m").to_string();
        assert_eq!(shown, "f:6:11: m\n   |\n 6 |     port: x\n   |           ^");
    }

    #[test]
    fn the_snippet_of_a_long_line_keeps_the_caret_in_sight() {
        let text = format!("{}HERE", "x".repeat(500));
        let page = Page::new(Path::new("f"), &text);
        let shown = page.problem(At { line: 1, column: 501 }, "m").to_string();
        assert!(shown.lines().all(|line| line.len() < 100), "{shown}");
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines[2].find("HERE"), lines[3].find('^'));
    }
}
