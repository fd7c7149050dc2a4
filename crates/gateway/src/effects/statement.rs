//! One statement.

use herdsman::classify::{Token, TokenKind, Tokens};

use super::calls::{self, TEMPORARY};
use super::control::over;
use super::words::{Words, plain};
use super::{Effect, control, set};

/// First words of statements that leave nothing in the session by themselves.
const PLAIN: [&str; 28] = [
    "select",
    "with",
    "values",
    "table",
    "show",
    "insert",
    "update",
    "delete",
    "merge",
    "copy",
    "call",
    "alter",
    "drop",
    "truncate",
    "comment",
    "grant",
    "revoke",
    "vacuum",
    "analyze",
    "analyse",
    "cluster",
    "reindex",
    "refresh",
    "reassign",
    "checkpoint",
    "security",
    "import",
    "create",
];

/// Whether a statement that begins with this word, in lower case, leaves nothing behind unless something in it does.
pub(super) fn is_plain(head: &str) -> bool {
    PLAIN.contains(&head)
}

/// What one statement, without its semicolon, leaves behind.
pub(super) fn effect(tokens: &[Token<'_>]) -> Effect {
    let mut words = Words::of(tokens);
    let Some(head) = words.head() else {
        return if words.is_over() { Effect::None } else { Effect::Unknown };
    };
    // Nothing but a query stands in parentheses. `(END` is the server's to refuse, and is not answered in its place.
    if tokens.first().is_some_and(|token| token.kind == TokenKind::Open) && !is_plain(&head) {
        return Effect::Unknown;
    }
    if head == "explain" && !executes(words) {
        return explain(words);
    }
    let itself = match head.as_str() {
        "select" if unlocks(words.rest()) => Effect::Releases(&[calls::LOCK]),
        "select" => {
            if let Some(effect) = set::by_function(words) {
                return effect;
            }
            query(words)
        }
        "with" | "values" | "table" => query(words),
        "create" => create(words),
        "begin" => control::begin(words),
        "start" => control::start(words),
        "commit" | "end" => control::end(words, Effect::Commit),
        "rollback" | "abort" => control::end(words, Effect::Rollback),
        "set" => set::set(words),
        "reset" => set::reset(words),
        "discard" => discard(words),
        "deallocate" => deallocate(words),
        "prepare" => prepare(words),
        "execute" => execute(words),
        "explain" => explain(words),
        "declare" => declare(words),
        "listen" => Effect::Sticky("LISTEN"),
        "load" => Effect::Sticky("LOAD"),
        "do" => block(words),
        "unlisten" if matches!(words.rest(), [all] if all.kind == TokenKind::Other) => {
            Effect::Releases(&["LISTEN"])
        }
        "close" if matches!(words.rest(), [all] if all.is("all")) => {
            Effect::Releases(&["a cursor WITH HOLD"])
        }
        "savepoint" | "release" | "unlisten" | "notify" | "fetch" | "move" | "close" | "lock" => {
            Effect::Uses
        }
        head if is_plain(head) => Effect::None,
        _ => Effect::Unknown,
    };
    let called = calls::effect(tokens, head == "create");
    match (&itself, &called) {
        (Effect::Sticky(_) | Effect::Unknown, _) | (_, Effect::None) => itself,
        (_, Effect::Sticky(_)) | (Effect::None, _) => called,
        // `EXECUTE p(set_config(…, true))`: what `itself` says is more.
        _ => itself,
    }
}

/// Whether a query does nothing but let go of every session lock.
fn unlocks(rest: &[Token<'_>]) -> bool {
    matches!(rest, [name, open, close]
        if name.is("pg_advisory_unlock_all")
            && (open.kind, close.kind) == (TokenKind::Open, TokenKind::Close))
}

/// A query makes a temporary table with `INTO TEMP`.
fn query(words: Words<'_, '_>) -> Effect {
    let rest = words.rest();
    for (at, _) in rest.iter().enumerate().filter(|(_, token)| token.is("into")) {
        let inserts = at.checked_sub(1).and_then(|at| rest.get(at));
        let mut target = Words::of(rest.get(at + 1..).unwrap_or_default());
        target.eat_any(&["local", "global"]);
        if target.eat_any(&["temp", "temporary"])
            && !inserts.is_some_and(|word| word.is("insert") || word.is("merge"))
        {
            return Effect::Sticky(TEMPORARY);
        }
    }
    Effect::None
}

/// `CREATE [OR REPLACE] [LOCAL | GLOBAL] TEMP …`, `CREATE TABLE … AS EXECUTE …`.
fn create(mut words: Words<'_, '_>) -> Effect {
    words.eat_all(&["or", "replace"]);
    words.eat_any(&["local", "global"]);
    if words.eat_any(&["temp", "temporary"]) {
        let is_table = words.peek().is_some_and(|token| token.is("table"));
        // Such a table ends with the transaction.
        return if is_table && drops_on_commit(words) {
            Effect::Local
        } else {
            Effect::Sticky(TEMPORARY)
        };
    }
    let mut rest = words;
    while let Some(token) = rest.next() {
        if token.is("as") && rest.eat("execute") {
            return execute(rest);
        }
    }
    Effect::None
}

fn drops_on_commit(mut words: Words<'_, '_>) -> bool {
    let mut depth = 0_u32;
    while let Some(token) = words.next() {
        match token.kind {
            TokenKind::Open => depth += 1,
            TokenKind::Close => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            _ if token.is("as") => return false,
            _ if token.is("on") && words.eat_all(&["commit", "drop"]) => return true,
            _ => {}
        }
    }
    false
}

fn discard(mut words: Words<'_, '_>) -> Effect {
    if words.eat("all") {
        return over(true, words, Effect::DiscardAll);
    }
    let known = words.eat_any(&["plans", "sequences", "temp", "temporary"]);
    over(known, words, Effect::Discard)
}

fn deallocate(mut words: Words<'_, '_>) -> Effect {
    // `DEALLOCATE prepare` is about a statement of that name.
    if words.rest().len() > 1 {
        words.eat("prepare");
    }
    if words.eat("all") {
        return over(true, words, Effect::DeallocateAll);
    }
    match words.name() {
        Some(name) => over(true, words, Effect::Deallocate(name)),
        None => Effect::Unknown,
    }
}

/// `PREPARE TRANSACTION` ends a transaction, which is then no session's.
fn prepare(mut words: Words<'_, '_>) -> Effect {
    let second = words.rest().get(1);
    if words.peek().is_some_and(|word| word.is("transaction"))
        && second.is_some_and(|token| token.kind == TokenKind::Text)
    {
        return Effect::Uses;
    }
    words.name().map_or(Effect::Unknown, Effect::Prepare)
}

fn execute(mut words: Words<'_, '_>) -> Effect {
    words.name().map_or(Effect::Unknown, Effect::Execute)
}

/// Whether an `EXPLAIN` carries out what it explains; on the careful side.
fn executes(words: Words<'_, '_>) -> bool {
    let is_query = |token: &Token<'_>| {
        ["select", "with", "values", "table", "insert", "update", "delete", "merge"]
            .iter()
            .any(|word| token.is(word))
    };
    let options = words.rest().iter().take_while(|token| !is_query(token));
    let may_say = |token: &Token<'_>| {
        token.is("analyze") || token.is("analyse") || token.kind == TokenKind::Quoted
    };
    options.into_iter().any(may_say)
}

/// What is explained is not done, but a statement must be prepared to be explained: `EXPLAIN EXECUTE …`.
fn explain(mut words: Words<'_, '_>) -> Effect {
    let mut depth = 0_u32;
    while let Some(token) = words.next() {
        match token.kind {
            TokenKind::Open => depth += 1,
            TokenKind::Close => depth = depth.saturating_sub(1),
            TokenKind::Word if depth == 0 && token.is("execute") => return execute(words),
            _ => {}
        }
    }
    Effect::None
}

/// A cursor without `HOLD` ends with the transaction.
fn declare(words: Words<'_, '_>) -> Effect {
    let rest = words.rest();
    let held = rest.windows(2).any(|pair| {
        pair.first().is_some_and(|word| word.is("with"))
            && pair.last().is_some_and(|word| word.is("hold"))
    });
    if held { Effect::Sticky("a cursor WITH HOLD") } else { Effect::Uses }
}

/// `DO`: what its body does is looked at where it is in PL/pgSQL and can be read.
fn block(mut words: Words<'_, '_>) -> Effect {
    let mut body = None;
    while let Some(token) = words.next() {
        match token.kind {
            TokenKind::Text if body.is_none() => body = plain(token),
            TokenKind::Word if token.is("language") && words.eat("plpgsql") => {}
            _ => return Effect::Unknown,
        }
    }
    let Some(body) = body else { return Effect::Unknown };
    let tokens: Vec<_> = Tokens::of(&body).collect();
    let understood = |(at, token): (usize, &Token<'_>)| {
        let before = at.checked_sub(1).and_then(|at| tokens.get(at));
        let begins = before.is_none_or(|token| {
            let words = ["begin", "then", "else", "loop", "declare"];
            matches!(token.kind, TokenKind::Semicolon | TokenKind::Other)
                || words.iter().any(|word| token.is(word))
        });
        let about_session = ["set", "reset", "listen", "load", "discard", "prepare", "deallocate"];
        let local = tokens.get(at + 1).is_some_and(|next| next.is("local"));
        match token.kind {
            TokenKind::Unclear => false,
            TokenKind::Word if begins && about_session.iter().any(|word| token.is(word)) => local,
            // What is put together at run time may be anything.
            TokenKind::Word => !["execute", "temp", "temporary"].iter().any(|word| token.is(word)),
            _ => true,
        }
    };
    if tokens.iter().enumerate().all(understood) {
        calls::effect(&tokens, false)
    } else {
        Effect::Unknown
    }
}
