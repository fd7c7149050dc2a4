//! Walks through the tokens of one statement.

use herdsman::classify::{Token, TokenKind};

/// What is left of a statement.
#[derive(Clone, Copy)]
pub(super) struct Words<'t, 'a> {
    tokens: &'t [Token<'a>],
}

impl<'t, 'a> Words<'t, 'a> {
    pub(super) fn of(tokens: &'t [Token<'a>]) -> Self {
        Self { tokens }
    }

    pub(super) fn peek(&self) -> Option<&'t Token<'a>> {
        self.tokens.first()
    }

    pub(super) fn next(&mut self) -> Option<&'t Token<'a>> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first)
    }

    pub(super) fn rest(&self) -> &'t [Token<'a>] {
        self.tokens
    }

    pub(super) fn is_over(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Takes a keyword, if it comes next.
    pub(super) fn eat(&mut self, keyword: &str) -> bool {
        let there = self.peek().is_some_and(|token| token.is(keyword));
        if there {
            self.next();
        }
        there
    }

    /// Takes all of these keywords, if they come next one after the other.
    pub(super) fn eat_all(&mut self, keywords: &[&str]) -> bool {
        let mut ahead = *self;
        let there = keywords.iter().all(|keyword| ahead.eat(keyword));
        if there {
            *self = ahead;
        }
        there
    }

    /// Takes one of these keywords, if one comes next.
    pub(super) fn eat_any(&mut self, keywords: &[&str]) -> bool {
        keywords.iter().any(|keyword| self.eat(keyword))
    }

    /// Takes a token of this kind, if it comes next.
    pub(super) fn eat_kind(&mut self, kind: TokenKind) -> Option<&'t Token<'a>> {
        if self.peek()?.kind == kind { self.next() } else { None }
    }

    /// Takes an operator of one byte, if it comes next.
    pub(super) fn eat_sign(&mut self, sign: &str) -> bool {
        let there =
            self.peek().is_some_and(|token| token.kind == TokenKind::Other && token.text == sign);
        if there {
            self.next();
        }
        there
    }

    /// The first keyword in lower case, behind any parentheses.
    pub(super) fn head(&mut self) -> Option<String> {
        while self.eat_kind(TokenKind::Open).is_some() {}
        let word = self.eat_kind(TokenKind::Word)?;
        Some(word.text.to_ascii_lowercase())
    }

    /// Takes a name, folded or with its quotes taken off.
    pub(super) fn name(&mut self) -> Option<String> {
        let name = name(self.peek()?)?;
        self.next();
        Some(name)
    }
}

/// What a token names, folded or with its quotes taken off.
pub(super) fn name(token: &Token<'_>) -> Option<String> {
    match token.kind {
        TokenKind::Word => Some(token.text.to_ascii_lowercase()),
        TokenKind::Quoted => {
            let inside = token.text.strip_prefix('"')?.strip_suffix('"')?;
            Some(inside.replace("\"\"", "\""))
        }
        _ => None,
    }
}

/// What a string constant says, where that does not depend on settings.
pub(super) fn plain(token: &Token<'_>) -> Option<String> {
    if token.kind != TokenKind::Text {
        return None;
    }
    if let Some(inside) = token.text.strip_prefix('\'') {
        let inside = inside.strip_suffix('\'')?;
        return (!inside.contains('\\')).then(|| inside.replace("''", "'"));
    }
    let (tag, _) = token.text.strip_prefix('$')?.split_once('$')?;
    let delimiter = format!("${tag}$");
    let inside = token.text.strip_prefix(&delimiter)?.strip_suffix(&delimiter)?;
    Some(inside.to_owned())
}
