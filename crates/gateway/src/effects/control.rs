//! Transactions: where they begin and end.

use herdsman::classify::TokenKind;

use super::Effect;
use super::words::Words;

/// `BEGIN [WORK | TRANSACTION] [mode [, …]]`, after its first word.
pub(super) fn begin(mut words: Words<'_, '_>) -> Effect {
    words.eat_any(&["work", "transaction"]);
    modes(words)
}

/// `START TRANSACTION [mode [, …]]`, after its first word.
pub(super) fn start(mut words: Words<'_, '_>) -> Effect {
    if words.eat("transaction") { modes(words) } else { Effect::Unknown }
}

fn modes(mut words: Words<'_, '_>) -> Effect {
    let (mut only, mut write, mut serializable) = (false, false, false);
    let mut first = true;
    while !words.is_over() {
        // Commas between them are optional.
        let comma = words.eat_kind(TokenKind::Comma).is_some();
        if comma && first {
            return Effect::Unknown;
        }
        first = false;
        match mode(&mut words) {
            Some(Mode::ReadOnly) => only = true,
            Some(Mode::ReadWrite) => write = true,
            Some(Mode::Isolation("serializable")) => serializable = true,
            Some(Mode::Isolation(_) | Mode::Deferrable(_)) => {}
            None => return Effect::Unknown,
        }
    }
    if only && write {
        return Effect::Unknown;
    }
    Effect::Begin { read_only: only && !serializable }
}

/// One transaction mode.
pub(super) enum Mode {
    ReadOnly,
    ReadWrite,
    Isolation(&'static str),
    Deferrable(bool),
}

pub(super) fn mode(words: &mut Words<'_, '_>) -> Option<Mode> {
    const LEVELS: [(&[&str], &str); 4] = [
        (&["read", "committed"], "read committed"),
        (&["read", "uncommitted"], "read uncommitted"),
        (&["repeatable", "read"], "repeatable read"),
        (&["serializable"], "serializable"),
    ];
    if words.eat_all(&["read", "only"]) {
        return Some(Mode::ReadOnly);
    }
    if words.eat_all(&["read", "write"]) {
        return Some(Mode::ReadWrite);
    }
    if words.eat_all(&["isolation", "level"]) {
        let (_, level) = LEVELS.iter().find(|(level, _)| words.eat_all(level))?;
        return Some(Mode::Isolation(level));
    }
    if words.eat_all(&["not", "deferrable"]) {
        return Some(Mode::Deferrable(false));
    }
    words.eat("deferrable").then_some(Mode::Deferrable(true))
}

/// `COMMIT`, `END`, `ROLLBACK`, `ABORT` after their first word; `ends` is what they do when nothing else is said.
///
/// `AND CHAIN` begins another transaction in the same breath: unknown. `COMMIT PREPARED` ends one that is no session's.
pub(super) fn end(mut words: Words<'_, '_>, ends: Effect) -> Effect {
    if words.eat("prepared") {
        return Effect::Uses;
    }
    words.eat_any(&["work", "transaction"]);
    if ends == Effect::Rollback && words.eat("to") {
        words.eat("savepoint");
        return over(words.name().is_some(), words, Effect::RollbackTo);
    }
    let chains = words.peek().is_some() && !words.eat_all(&["and", "no", "chain"]);
    over(!chains, words, ends)
}

/// The effect, if the statement is over and was well-formed.
pub(super) fn over(well_formed: bool, words: Words<'_, '_>, effect: Effect) -> Effect {
    if well_formed && words.is_over() { effect } else { Effect::Unknown }
}
