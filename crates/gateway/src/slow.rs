//! The slow-query log: statements without what might be secret in them.

use herdsman::classify::{Token, TokenKind, Tokens};

#[cfg(test)]
mod tests;

const LITERAL: &str = "?";
const SEVERAL: &str = "(?…)";

/// The statement with every literal replaced by `?`, lists of them by `(?…)`, comments left out and blanks collapsed, cut to
/// `max` bytes. What cannot be read with certainty ends it.
pub(crate) fn normalise(sql: &str, max: usize) -> String {
    let mut text = String::with_capacity(sql.len().min(max));
    let (mut tokens, mut end) = (Tokens::of(sql).peekable(), None);
    while let Some(token) = tokens.next() {
        if end.is_some_and(|end| end < token.start) {
            text.push(' ');
        }
        end = Some(token.end());
        match token.kind {
            TokenKind::Text | TokenKind::Number => text.push_str(LITERAL),
            TokenKind::Unclear => {
                text.push('…');
                break;
            }
            TokenKind::Open => {
                let mut ahead = tokens.clone();
                match list(&mut ahead) {
                    Some(last) => {
                        end = Some(last);
                        tokens = ahead;
                        text.push_str(SEVERAL);
                    }
                    None => text.push_str(token.text),
                }
            }
            _ => text.push_str(token.text),
        }
        if text.len() > max {
            break;
        }
    }
    text.truncate(text.floor_char_boundary(max));
    text
}

/// After `(`: two or more literals, and nothing else, to the `)`. Where that ends.
fn list<'a>(tokens: &mut impl Iterator<Item = Token<'a>>) -> Option<usize> {
    let mut literals = 0_u32;
    loop {
        let mut token = tokens.next()?;
        // A sign in front.
        if token.kind == TokenKind::Other && matches!(token.text, "-" | "+") {
            token = tokens.next()?;
        }
        if !matches!(token.kind, TokenKind::Text | TokenKind::Number) {
            return None;
        }
        literals = literals.saturating_add(1);
        let after = tokens.next()?;
        match after.kind {
            TokenKind::Comma => {}
            TokenKind::Close if literals > 1 => return Some(after.end()),
            _ => return None,
        }
    }
}
