//! The classifier's lexer for others: tokens of a text, and the hints in its comments.

use std::iter::FusedIterator;

use super::scan::{Kind, Scanner};

/// What a [`Token`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// An unquoted identifier or keyword.
    Word,
    /// A quoted identifier, with its quotes.
    Quoted,
    /// A string constant of any form: `'…'`, `E'…'`, `U&'…'`, `B'…'`, `X'…'`, `N'…'`, `$tag$…$tag$`.
    Text,
    /// A number, without its sign.
    Number,
    /// `$1`.
    Parameter,
    /// `(`
    Open,
    /// `)`
    Close,
    /// `.`
    Dot,
    /// `,`
    Comma,
    /// `;`
    Semicolon,
    /// `::`
    Cast,
    /// One byte of an operator, a bracket or a colon.
    Other,
    /// Unterminated, or its extent depends on the version or the settings of the server. Nothing follows it.
    Unclear,
}

/// A token and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: TokenKind,
    /// As written, quotes included. Of what is [`Unclear`](TokenKind::Unclear): the rest of the text.
    pub text: &'a str,
    /// Where `text` begins, in bytes.
    pub start: usize,
}

impl Token<'_> {
    /// Whether it is this keyword, whatever its case.
    #[must_use]
    pub fn is(&self, keyword: &str) -> bool {
        self.kind == TokenKind::Word && self.text.eq_ignore_ascii_case(keyword)
    }

    /// Where `text` ends, in bytes.
    #[must_use]
    pub fn end(&self) -> usize {
        self.start + self.text.len()
    }
}

/// The tokens of a text by PostgreSQL's rules, one after the other; blanks and comments are left out.
///
/// ```
/// use herdsman::classify::{TokenKind, Tokens};
///
/// let kinds: Vec<_> = Tokens::of("SELECT $$;$$ -- ;\n;").map(|token| token.kind).collect();
/// assert_eq!(kinds, [TokenKind::Word, TokenKind::Text, TokenKind::Semicolon]);
/// ```
#[derive(Clone)]
pub struct Tokens<'a> {
    sql: &'a str,
    scan: Scanner<'a>,
    over: bool,
}

impl<'a> Tokens<'a> {
    /// Of this text.
    #[must_use]
    pub fn of(sql: &'a str) -> Self {
        Self { sql, scan: Scanner::new(sql), over: false }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        if self.over {
            return None;
        }
        let token = self.scan.next();
        let (mut start, mut end) = (token.start, token.end);
        let kind = match token.kind {
            Kind::Word => TokenKind::Word,
            Kind::Quoted => {
                (start, end) = (start.saturating_sub(1), end + 1);
                TokenKind::Quoted
            }
            Kind::Text => TokenKind::Text,
            Kind::Number => TokenKind::Number,
            Kind::Parameter => TokenKind::Parameter,
            Kind::Open => TokenKind::Open,
            Kind::Close => TokenKind::Close,
            Kind::Dot => TokenKind::Dot,
            Kind::Comma => TokenKind::Comma,
            Kind::Semicolon => TokenKind::Semicolon,
            Kind::Cast => TokenKind::Cast,
            Kind::Other => TokenKind::Other,
            Kind::End => {
                self.over = true;
                return None;
            }
            Kind::Start | Kind::Unclear => {
                self.over = true;
                end = self.sql.len();
                TokenKind::Unclear
            }
        };
        // A token begins and ends beside ASCII, or at an end of the text: this never fails.
        let text = self.sql.get(start..end).unwrap_or_default();
        Some(Token { kind, text, start })
    }
}

impl FusedIterator for Tokens<'_> {}

/// What a comment `/* herdsman: … */` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hint<'a> {
    /// `writer`.
    Writer,
    /// `reader`: [`classify`](super::classify) says what it may lift.
    Reader,
    /// `target=NAME`: the name of a node, or another word that means something to whoever asks.
    Target(&'a str),
}

/// The hint in a text, if there is one: of several the first target, else `writer`, else `reader`. Texts without a comment
/// cost next to nothing.
///
/// ```
/// use herdsman::classify::{Hint, hint};
///
/// assert_eq!(hint("/* herdsman: target=east */ SELECT 1"), Some(Hint::Target("east")));
/// assert_eq!(hint("SELECT '/* herdsman: writer */'"), None);
/// ```
#[must_use]
pub fn hint(sql: &str) -> Option<Hint<'_>> {
    if !sql.contains("/*") {
        return None;
    }
    let mut tokens = Tokens::of(sql);
    tokens.by_ref().for_each(drop);
    let scan = tokens.scan;
    match scan.target_hint.map(str::from_utf8) {
        Some(Ok(name)) => Some(Hint::Target(name)),
        _ if scan.writer_hint => Some(Hint::Writer),
        _ if scan.reader_hint => Some(Hint::Reader),
        _ => None,
    }
}
