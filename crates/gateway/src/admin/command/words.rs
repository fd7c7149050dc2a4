//! A text taken apart into statements and words.

use crate::wire::Problem;
use crate::wire::error::code;

/// A word of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    text: String,
    /// It stood in quotes: it is a name or a value, never a keyword.
    quoted: bool,
}

/// The words of one statement, read from the front.
#[derive(Debug)]
pub(super) struct Words {
    words: Vec<Word>,
    next: usize,
}

impl Words {
    pub(super) fn new(words: Vec<Word>) -> Self {
        Self { words, next: 0 }
    }

    /// The next word if it may be a keyword, in lower case.
    pub(super) fn keyword(&mut self) -> Option<String> {
        let word = self.words.get(self.next).filter(|word| !word.quoted)?;
        self.next += 1;
        Some(word.text.to_ascii_lowercase())
    }

    /// The next word, as it was written: names of databases and nodes are not folded.
    pub(super) fn name(&mut self) -> Option<String> {
        let word = self.words.get(self.next)?;
        self.next += 1;
        Some(word.text.clone())
    }

    /// Goes past the next word if it is this keyword.
    pub(super) fn skip(&mut self, keyword: &str) -> bool {
        let next = self.words.get(self.next);
        let found =
            next.is_some_and(|word| !word.quoted && word.text.eq_ignore_ascii_case(keyword));
        self.next += usize::from(found);
        found
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> Option<String> {
        let rest = self.words.get(self.next..).filter(|rest| !rest.is_empty())?;
        Some(joined(rest))
    }

    /// The whole statement.
    pub(super) fn all(&self) -> String {
        joined(&self.words)
    }
}

fn joined(words: &[Word]) -> String {
    words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ")
}

/// The statements of a text, each as its words. Empty ones are left out.
pub(super) fn statements(text: &str) -> impl Iterator<Item = Result<Vec<Word>, Problem>> {
    let mut scan = Scan { rest: text };
    std::iter::from_fn(move || {
        loop {
            match scan.statement() {
                Ok(None) => return None,
                Ok(Some(words)) if words.is_empty() => {}
                Ok(Some(words)) => return Some(Ok(words)),
                Err(problem) => {
                    scan.rest = "";
                    return Some(Err(problem));
                }
            }
        }
    })
}

struct Scan<'a> {
    rest: &'a str,
}

impl Scan<'_> {
    /// The words up to the next `;`, or `None` at the end.
    fn statement(&mut self) -> Result<Option<Vec<Word>>, Problem> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let mut words = Vec::new();
        loop {
            self.skip_blank()?;
            let Some(first) = self.rest.chars().next() else { return Ok(Some(words)) };
            match first {
                ';' => {
                    self.take(1);
                    return Ok(Some(words));
                }
                '"' | '\'' => words.push(Word { text: self.quoted(first)?, quoted: true }),
                // Punctuation is a word of its own: it belongs to nothing but `SET`.
                '=' | ',' | '(' | ')' => {
                    self.take(1);
                    words.push(Word { text: first.to_string(), quoted: true });
                }
                _ => words.push(Word { text: self.bare(), quoted: false }),
            }
        }
    }

    fn take(&mut self, bytes: usize) -> &str {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    fn bare(&mut self) -> String {
        let ends =
            |c: char| c.is_whitespace() || matches!(c, ';' | '"' | '\'' | '=' | ',' | '(' | ')');
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        // A comment may follow without a blank between.
        let word = self.rest.get(..end).unwrap_or_default();
        let comment = [word.find("--"), word.find("/*")].into_iter().flatten().min();
        self.take(comment.unwrap_or(end)).to_owned()
    }

    /// What stands between two `quote`s, where two in a row mean one.
    fn quoted(&mut self, quote: char) -> Result<String, Problem> {
        self.take(1);
        let mut text = String::new();
        loop {
            let Some(end) = self.rest.find(quote) else { return Err(unfinished("a quoted name")) };
            text.push_str(self.take(end));
            self.take(1);
            if !self.rest.starts_with(quote) {
                return Ok(text);
            }
            self.take(1);
            text.push(quote);
        }
    }

    /// Goes past blanks and comments.
    fn skip_blank(&mut self) -> Result<(), Problem> {
        loop {
            self.rest = self.rest.trim_start();
            if self.rest.starts_with("--") {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                self.take(end);
            } else if self.rest.starts_with("/*") {
                self.skip_comment()?;
            } else {
                return Ok(());
            }
        }
    }

    /// Goes past a comment, which may hold others.
    fn skip_comment(&mut self) -> Result<(), Problem> {
        let mut depth = 0_usize;
        loop {
            let opens = self.rest.find("/*");
            let closes = self.rest.find("*/").ok_or_else(|| unfinished("a comment"))?;
            match opens {
                Some(opens) if opens < closes => {
                    depth += 1;
                    self.take(opens + 2);
                }
                _ => {
                    depth -= 1;
                    self.take(closes + 2);
                    if depth == 0 {
                        return Ok(());
                    }
                }
            }
        }
    }
}

fn unfinished(what: &str) -> Problem {
    Problem::new(code::SYNTAX, format!("{what} does not end"))
}
