//! Words and calls that leave something behind in the session, wherever they stand in a statement.

use herdsman::classify::{Token, TokenKind};

use super::Effect;
use super::words::{name, plain};

pub(super) const LOCK: &str = "a session advisory lock";
pub(super) const TEMPORARY: &str = "a temporary table";
pub(super) const SEED: &str = "a random seed";
const SETTING: &str = "a setting made by a function";

const SET_CONFIG: &str = "set_config";

/// Functions, and what of the session they leave behind.
const STICKY: [(&str, &str); 10] = [
    ("pg_advisory_lock", LOCK),
    ("pg_advisory_lock_shared", LOCK),
    ("pg_try_advisory_lock", LOCK),
    ("pg_try_advisory_lock_shared", LOCK),
    (SET_CONFIG, SETTING),
    ("set_limit", SETTING),
    ("setseed", SEED),
    ("dblink_connect", "a dblink connection"),
    ("dblink_connect_u", "a dblink connection"),
    ("pg_replication_origin_session_setup", "a replication origin"),
];

/// Whether one of them may be called in a text, or it has a temporary table, or it is more than one statement. Looks at
/// bytes: what stands in strings and comments counts too.
pub(super) fn may_matter(sql: &str) -> bool {
    let mut rest = sql.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b';' {
            // Nothing but its end may follow.
            return after
                .iter()
                .any(|&byte| byte != b';' && !byte.is_ascii_whitespace() && byte != 0x0b);
        }
        if !continues(byte) {
            rest = after;
            continue;
        }
        let length = rest.iter().position(|&byte| !continues(byte)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(length);
        rest = after;
        // U&"…" spells a name in escapes.
        if matters(word) || matches!(word, b"u" | b"U") && after.starts_with(b"&\"") {
            return true;
        }
    }
    false
}

fn continues(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

fn matters(word: &[u8]) -> bool {
    match word.first() {
        Some(b's' | b'S' | b'd' | b'D') => is_sticky(word),
        Some(b't' | b'T') => {
            word.eq_ignore_ascii_case(b"temp") || word.eq_ignore_ascii_case(b"temporary")
        }
        Some(b'p' | b'P') => is_temporary_schema(word) || is_sticky(word),
        _ => false,
    }
}

fn is_sticky(word: &[u8]) -> bool {
    STICKY.iter().any(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()))
}

/// Whether this names a schema that one session has for itself.
fn is_temporary_schema(name: &[u8]) -> bool {
    let begins = |prefix: &[u8]| {
        name.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
    };
    name.eq_ignore_ascii_case(b"pg_temp") || begins(b"pg_temp_") || begins(b"pg_toast_temp_")
}

/// What calls and temporary schemas in a statement do; `creates`: it makes what it names.
pub(super) fn effect(tokens: &[Token<'_>], creates: bool) -> Effect {
    let (mut local, mut uses) = (false, false);
    for (at, token) in tokens.iter().enumerate() {
        if !matches!(token.kind, TokenKind::Word | TokenKind::Quoted) {
            continue;
        }
        let Some(name) = name(token) else { continue };
        let next = at + 1;
        if is_temporary_schema(name.as_bytes()) {
            if creates || is_target(tokens.get(..at).unwrap_or_default()) {
                return Effect::Sticky(TEMPORARY);
            }
            uses = true;
        }
        if !tokens.get(next).is_some_and(|token| token.kind == TokenKind::Open) {
            continue;
        }
        let Some((_, what)) = STICKY.iter().find(|(known, _)| name.eq_ignore_ascii_case(known))
        else {
            continue;
        };
        if name.eq_ignore_ascii_case(SET_CONFIG)
            && is_local(tokens.get(next + 1..).unwrap_or_default())
        {
            local = true;
        } else {
            return Effect::Sticky(what);
        }
    }
    match (uses, local) {
        (true, _) => Effect::Uses,
        (false, true) => Effect::Local,
        (false, false) => Effect::None,
    }
}

/// Whether what follows these is what `SELECT … INTO` makes.
fn is_target(before: &[Token<'_>]) -> bool {
    let mut words = before.iter().rev().peekable();
    if words.peek().is_some_and(|word| word.is("table")) {
        words.next();
    }
    let into = words.next().is_some_and(|word| word.is("into"));
    into && !words.next().is_some_and(|word| word.is("insert") || word.is("merge"))
}

/// Whether the third argument is a plain `true`.
fn is_local(arguments: &[Token<'_>]) -> bool {
    let (mut depth, mut commas) = (0_u32, 0);
    let mut third = Vec::new();
    for token in arguments {
        match token.kind {
            TokenKind::Open => depth += 1,
            TokenKind::Close if depth == 0 => break,
            TokenKind::Close => depth -= 1,
            TokenKind::Comma if depth == 0 => {
                commas += 1;
                continue;
            }
            _ => {}
        }
        if commas == 2 {
            third.push(token);
        }
    }
    let [only] = third.as_slice() else { return false };
    commas == 2 && truth(only) == Some(true)
}

/// What a token says as a boolean, where it is one beyond doubt.
pub(super) fn truth(token: &Token<'_>) -> Option<bool> {
    if token.is("true") {
        return Some(true);
    }
    if token.is("false") {
        return Some(false);
    }
    match plain(token)?.as_str() {
        "t" | "true" => Some(true),
        "f" | "false" => Some(false),
        _ => None,
    }
}
