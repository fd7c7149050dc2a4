//! `SET`, `RESET` and their kin.

use herdsman::classify::{Token, TokenKind};

use super::calls::SEED;
use super::control::{Mode, mode, over};
use super::words::{Words, name, plain};
use super::{Effect, names_temporary_schema};
use crate::settings::{is_name, literal, quote};

/// Settings of the transaction that runs, by whatever statement they are made.
const OF_THE_TRANSACTION: [&str; 3] =
    ["transaction_isolation", "transaction_read_only", "transaction_deferrable"];
const TEMPORARY_PATH: &str = "a search_path with pg_temp";
const AUTHORIZATION: &str = "session_authorization";

/// `SET …`, after its first word.
pub(super) fn set(mut words: Words<'_, '_>) -> Effect {
    // `CREATE TABLE` then makes temporary ones, and nothing in its text says so.
    if words.rest().iter().any(|token| names_temporary_schema(token.text)) {
        return Effect::Sticky(TEMPORARY_PATH);
    }
    if names_setting(words) {
        return assignment(words);
    }
    if words.eat_any(&["local", "transaction", "constraints"]) {
        return Effect::Local;
    }
    if words.eat_all(&["session", "characteristics", "as", "transaction"]) {
        return characteristics(words);
    }
    if words.peek().is_some_and(|word| word.is("session"))
        && !words.rest().get(1).is_some_and(|word| word.is("authorization"))
    {
        words.next();
        if names_setting(words) {
            return assignment(words);
        }
    }
    if words.eat_all(&["session", "authorization"]) {
        return value(AUTHORIZATION, words);
    }
    if words.eat_all(&["time", "zone"]) {
        return zone(words);
    }
    if words.eat("names") {
        // Without a name it is the default.
        return if words.is_over() {
            Effect::Reset("client_encoding".to_owned())
        } else {
            value("client_encoding", words)
        };
    }
    if words.eat("schema") {
        return value("search_path", words);
    }
    if words.eat("role") {
        return value("role", words);
    }
    if words.eat_all(&["xml", "option"]) {
        return value("xmloption", words);
    }
    Effect::Unknown
}

/// Whether the next word is the name of a setting, which may be any: `SET local.a = 1` is no `SET LOCAL`.
fn names_setting(words: Words<'_, '_>) -> bool {
    words.rest().get(1).is_some_and(|token| {
        token.kind == TokenKind::Dot
            || token.is("to")
            || token.kind == TokenKind::Other && token.text == "="
    })
}

/// `name {TO | =} value`.
fn assignment(mut words: Words<'_, '_>) -> Effect {
    let Some(name) = setting(&mut words) else { return Effect::Unknown };
    if words.eat("to") || words.eat_sign("=") { value(&name, words) } else { Effect::Unknown }
}

/// `RESET …`, after its first word.
pub(super) fn reset(mut words: Words<'_, '_>) -> Effect {
    if words.eat("all") {
        return over(true, words, Effect::ResetAll);
    }
    if words.eat_all(&["transaction", "isolation", "level"]) {
        return over(true, words, Effect::Local);
    }
    let name = if words.eat_all(&["time", "zone"]) {
        Some("timezone".to_owned())
    } else if words.eat_all(&["session", "authorization"]) {
        Some(AUTHORIZATION.to_owned())
    } else {
        setting(&mut words)
    };
    match name {
        Some(name) if OF_THE_TRANSACTION.contains(&name.as_str()) => Effect::Local,
        Some(name) => over(true, words, Effect::Reset(name)),
        None => Effect::Unknown,
    }
}

/// `SELECT set_config('name', 'value', false)` and nothing else, after `SELECT`.
pub(super) fn by_function(mut words: Words<'_, '_>) -> Option<Effect> {
    if words.eat("pg_catalog") {
        words.eat_kind(TokenKind::Dot)?;
    }
    if !words.eat("set_config") {
        return None;
    }
    words.eat_kind(TokenKind::Open)?;
    let name = plain(words.next()?)?.to_ascii_lowercase();
    words.eat_kind(TokenKind::Comma)?;
    let text = plain(words.next()?)?;
    words.eat_kind(TokenKind::Comma)?;
    let local = super::calls::truth(words.next()?)?;
    words.eat_kind(TokenKind::Close)?;
    if words.eat("as") {
        words.name()?;
    }
    if local || !words.is_over() || !is_name(&name) || names_temporary_schema(&text) {
        return None;
    }
    let value = literal(&name, &text)?;
    Some(made(&name, value))
}

/// `SET SESSION CHARACTERISTICS AS TRANSACTION mode`.
fn characteristics(mut words: Words<'_, '_>) -> Effect {
    let (name, value) = match mode(&mut words) {
        Some(Mode::ReadOnly) => ("default_transaction_read_only", "on"),
        Some(Mode::ReadWrite) => ("default_transaction_read_only", "off"),
        Some(Mode::Isolation(level)) => ("default_transaction_isolation", level),
        Some(Mode::Deferrable(true)) => ("default_transaction_deferrable", "on"),
        Some(Mode::Deferrable(false)) => ("default_transaction_deferrable", "off"),
        None => return Effect::Unknown,
    };
    // Several are several settings.
    over(true, words, made(name, quote(value)))
}

/// `SET TIME ZONE …`: a value of `timezone`, or `LOCAL`, or an interval, which no other setting takes.
fn zone(mut words: Words<'_, '_>) -> Effect {
    if words.eat("local") {
        return over(true, words, Effect::Reset("timezone".to_owned()));
    }
    if !words.eat("interval") {
        return value("timezone", words);
    }
    let mut interval = vec!["INTERVAL".to_owned()];
    for token in words.rest() {
        match token.kind {
            TokenKind::Text if is_constant(token) => interval.push(token.text.to_owned()),
            TokenKind::Word if ["hour", "to", "minute"].iter().any(|word| token.is(word)) => {
                interval.push(token.text.to_ascii_uppercase());
            }
            _ => return Effect::Unknown,
        }
    }
    made("timezone", interval.join(" "))
}

/// The name of a setting, perhaps qualified.
fn setting(words: &mut Words<'_, '_>) -> Option<String> {
    let mut name = words.name()?;
    while words.eat_kind(TokenKind::Dot).is_some() {
        name.push('.');
        name.push_str(&words.name()?);
    }
    // PostgreSQL finds settings whatever their case, even in quotes.
    let name = name.to_ascii_lowercase();
    is_name(&name).then_some(name)
}

/// The values, to the end of the statement.
fn value(name: &str, mut words: Words<'_, '_>) -> Effect {
    if words.eat("default") {
        return over(true, words, reset_of(name));
    }
    let mut values = Vec::new();
    loop {
        match one(&mut words) {
            Some(value) => values.push(value),
            None => return Effect::Unknown,
        }
        if words.is_over() {
            return made(name, values.join(", "));
        }
        if words.eat_kind(TokenKind::Comma).is_none() {
            return Effect::Unknown;
        }
    }
}

fn reset_of(name: &str) -> Effect {
    if OF_THE_TRANSACTION.contains(&name) {
        return Effect::Local;
    }
    Effect::Reset(name.to_owned())
}

/// One value, as a constant.
fn one(words: &mut Words<'_, '_>) -> Option<String> {
    let sign = if words.eat_sign("-") {
        "-"
    } else if words.eat_sign("+") {
        "+"
    } else {
        ""
    };
    let token = words.next()?;
    match token.kind {
        TokenKind::Number => Some(format!("{sign}{}", token.text)),
        _ if !sign.is_empty() => None,
        TokenKind::Text if is_constant(token) => {
            Some(plain(token).map_or_else(|| token.text.to_owned(), |text| quote(&text)))
        }
        // How other letters are folded depends on the database.
        TokenKind::Word if token.text.is_ascii() => Some(quote(&token.text.to_ascii_lowercase())),
        TokenKind::Quoted => name(token).map(|name| quote(&name)),
        _ => None,
    }
}

/// Whether a string constant means the same on every connection: `'…'` without a backslash, `E'…'`, `$$…$$`.
fn is_constant(token: &Token<'_>) -> bool {
    plain(token).is_some() || token.text.starts_with("E'") || token.text.starts_with("e'")
}

fn made(name: &str, value: String) -> Effect {
    if OF_THE_TRANSACTION.contains(&name) {
        return Effect::Local;
    }
    let hides_name = name == "search_path" && value.contains('\\');
    if name == "seed" {
        Effect::Sticky(SEED)
    } else if value.len() > crate::settings::LONGEST || value.contains('\0') || hides_name {
        Effect::Unknown
    } else {
        Effect::Set { name: name.to_owned(), value }
    }
}
