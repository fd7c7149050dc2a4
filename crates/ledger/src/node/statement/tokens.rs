//! A statement's words, in each engine's ways of quoting.

use std::ops::Range;

use crate::node::Engine;

/// A piece of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Not quoted: a keyword or a name.
    Word(String),
    /// A quoted name.
    Name(String),
    /// A text or a number.
    Literal,
    /// `$1`: the digits.
    Parameter(String),
    /// Anything else, one character each.
    Sign(char),
}

impl Token {
    /// Whether it is this keyword.
    pub(super) fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }
}

/// Takes a statement apart.
pub(super) fn tokens(sql: &str, engine: Engine) -> Result<Vec<Token>, &'static str> {
    Ok(placed(sql, engine)?.into_iter().map(|(token, _)| token).collect())
}

/// The same with the bytes where each piece is.
pub(super) fn placed(
    sql: &str,
    engine: Engine,
) -> Result<Vec<(Token, Range<usize>)>, &'static str> {
    let mut from = Text { rest: sql, engine };
    let mut all = Vec::new();
    while let Some(first) = from.rest.chars().next() {
        if first.is_whitespace() {
            from.skip(first.len_utf8());
        } else if !from.comment(first)? {
            let start = sql.len() - from.rest.len();
            let token = from.token(first)?;
            all.push((token, start..sql.len() - from.rest.len()));
        }
    }
    Ok(all)
}

struct Text<'s> {
    rest: &'s str,
    engine: Engine,
}

impl<'s> Text<'s> {
    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    /// Takes what satisfies `of` from the front.
    fn take(&mut self, of: impl Fn(char) -> bool) -> &'s str {
        let end = self.rest.find(|it| !of(it)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn comment(&mut self, first: char) -> Result<bool, &'static str> {
        let blank = |at: Option<char>| at.is_none_or(|it| it.is_whitespace() || it.is_control());
        // MariaDB reads `5--1` as five minus minus one.
        let dashes = self
            .rest
            .strip_prefix("--")
            .is_some_and(|rest| self.engine != Engine::MariaDb || blank(rest.chars().next()));
        if dashes || (first == '#' && self.engine == Engine::MariaDb) {
            self.take(|it| it != '\n');
            return Ok(true);
        }
        if !self.rest.starts_with("/*") {
            return Ok(false);
        }
        self.skip(2);
        if self.engine == Engine::MariaDb
            && (self.rest.starts_with('!') || self.rest.starts_with("M!"))
        {
            return Err("a comment that MariaDB runs is not for a ledger");
        }
        let mut depth = 1_u32;
        while depth > 0 {
            if self.rest.starts_with("*/") {
                depth -= 1;
                self.skip(2);
            } else if self.engine == Engine::Postgres && self.rest.starts_with("/*") {
                depth = depth.saturating_add(1);
                self.skip(2);
            } else {
                let one = self.rest.chars().next().ok_or("a comment does not end")?;
                self.skip(one.len_utf8());
            }
        }
        Ok(true)
    }

    fn token(&mut self, first: char) -> Result<Token, &'static str> {
        match (first, self.engine) {
            ('\'', _) => self.quoted('\'', false).map(|_| Token::Literal),
            ('"', _) | ('`', Engine::MariaDb | Engine::Sqlite) => {
                self.quoted(first, false).map(Token::Name)
            }
            ('[', Engine::Sqlite) => {
                self.skip(1);
                let name = self.take(|it| it != ']').to_owned();
                if self.rest.is_empty() {
                    return Err("a name does not end");
                }
                self.skip(1);
                Ok(Token::Name(name))
            }
            ('$', _) if self.rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit) => {
                self.parameter()
            }
            ('$', Engine::Postgres) => self.dollar(),
            ('@', Engine::MariaDb) => {
                Err("a variable could switch capturing off, and is not for a ledger's transaction")
            }
            ('\0', _) => Err("a statement with a NUL is none"),
            _ if first.is_ascii_digit() => self.number(),
            _ if is_word(first) => self.word(),
            _ => {
                self.skip(first.len_utf8());
                Ok(Token::Sign(first))
            }
        }
    }

    fn word(&mut self) -> Result<Token, &'static str> {
        let word = self.take(|it| is_word(it) || it.is_ascii_digit() || it == '$');
        if self.engine == Engine::Postgres {
            if word.eq_ignore_ascii_case("e") && self.rest.starts_with('\'') {
                return self.quoted('\'', true).map(|_| Token::Literal);
            }
            let unicode = self.rest.starts_with("&'") || self.rest.starts_with("&\"");
            if word.eq_ignore_ascii_case("u") && unicode {
                return Err("names and texts with U& are not for a ledger");
            }
        }
        Ok(Token::Word(word.to_owned()))
    }

    fn number(&mut self) -> Result<Token, &'static str> {
        let taken = self.take(|it| it.is_ascii_digit() || it == '.');
        let hex = taken == "0" && self.rest.starts_with(['x', 'X']);
        if hex {
            self.skip(1);
            self.take(|it| it.is_ascii_hexdigit());
        } else if self.rest.starts_with(['e', 'E']) {
            self.skip(1);
            if self.rest.starts_with(['+', '-']) {
                self.skip(1);
            }
            self.take(|it| it.is_ascii_digit());
        }
        self.ends_before_a_word().map(|()| Token::Literal)
    }

    /// `$1`, on every engine.
    fn parameter(&mut self) -> Result<Token, &'static str> {
        self.skip(1);
        let digits = self.take(|it| it.is_ascii_digit()).to_owned();
        self.ends_before_a_word().map(|()| Token::Parameter(digits))
    }

    fn ends_before_a_word(&self) -> Result<(), &'static str> {
        if self.rest.starts_with(is_word) {
            return Err("a number runs into a word; put a blank between them");
        }
        Ok(())
    }

    /// To its end, where the quote is not doubled.
    fn quoted(&mut self, quote: char, backslashes: bool) -> Result<String, &'static str> {
        self.skip(quote.len_utf8());
        let mut inside = String::new();
        loop {
            let one = self.rest.chars().next().ok_or("a quote does not end")?;
            self.skip(one.len_utf8());
            if one == '\\' && backslashes {
                let next = self.rest.chars().next().ok_or("a quote does not end")?;
                self.skip(next.len_utf8());
            } else if one == quote {
                if !self.rest.starts_with(quote) {
                    return Ok(inside);
                }
                self.skip(quote.len_utf8());
                inside.push(quote);
            } else {
                inside.push(one);
            }
        }
    }

    /// `$tag$ … $tag$`; any other dollar is a sign.
    fn dollar(&mut self) -> Result<Token, &'static str> {
        self.skip(1);
        let end = self.rest.find(|it: char| !is_word(it) && !it.is_ascii_digit());
        let tag = end.and_then(|end| self.rest.split_at_checked(end));
        match tag {
            Some((tag, rest)) if rest.starts_with('$') => {
                let close = format!("${tag}$");
                let body = rest.get(1..).unwrap_or_default();
                let end = body.find(&close).ok_or("a quote does not end")?;
                self.rest = body.get(end + close.len()..).unwrap_or_default();
                Ok(Token::Literal)
            }
            _ => Ok(Token::Sign('$')),
        }
    }
}

fn is_word(it: char) -> bool {
    it.is_ascii_alphabetic() || it == '_' || !it.is_ascii()
}
