//! What a client's statement may be: read word by word, in its engine's ways of quoting, before the engine sees it.
//!
//! Only rows of the ledger's tables can be changed, and nothing that capturing hangs on. Whatever is not understood is
//! refused: the reading errs on that side only.

mod tokens;
mod values;

use super::{Engine, dialect::Failure};
use crate::table::Catalogue;
use tokens::{Token, tokens};
pub(super) use values::place;

/// What could be told of a statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Statement {
    /// The ledger's tables that it names, for whatever purpose.
    pub(super) named: Vec<String>,
    /// What it calls like a function, in small letters, with a point before what is of a schema.
    pub(super) calls: Vec<String>,
}

/// Whether a client's statement is one that reads rows, or changes those of the ledger's tables. Anything else could
/// end the transaction that is to be rolled back, change what the log knows nothing of, or switch capturing off.
pub(super) fn check(
    sql: &str,
    engine: Engine,
    catalogue: &Catalogue,
) -> Result<Statement, Failure> {
    const ALLOWED: [&str; 7] = ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "VALUES", "TABLE"];
    let all = tokens(sql, engine).map_err(refused)?;
    if !all.first().is_some_and(|first| ALLOWED.iter().any(|it| first.is(it))) {
        return Err(refused(
            "only SELECT, INSERT, UPDATE, DELETE, WITH, VALUES and TABLE can be run in a ledger's transaction",
        ));
    }
    let reading = Reading { all: &all, engine, catalogue };
    let mut into = None;
    for (at, token) in all.iter().enumerate() {
        match token {
            Token::Word(word) => reading.word(at, &word.to_ascii_uppercase(), &mut into)?,
            Token::Name(name) => reading.name(name)?,
            _ => {}
        }
    }
    let named = catalogue.0.keys().filter(|name| all.iter().any(|it| reading.names(it, name)));
    let calls = (0..all.len()).filter_map(|at| match all.get(at..at + 2)? {
        [Token::Word(name) | Token::Name(name), Token::Sign('(')] => {
            let of = at.checked_sub(1).and_then(|before| all.get(before));
            let of = if of == Some(&Token::Sign('.')) { "." } else { "" };
            Some(format!("{of}{}", name.to_lowercase()))
        }
        _ => None,
    });
    Ok(Statement { named: named.cloned().collect(), calls: calls.collect() })
}

struct Reading<'r> {
    all: &'r [Token],
    engine: Engine,
    catalogue: &'r Catalogue,
}

impl Reading<'_> {
    /// `into` is where the `INTO` of an `INSERT` is; there is no other.
    fn word(&self, at: usize, word: &str, into: &mut Option<usize>) -> Result<(), Failure> {
        self.name(word)?;
        let call = matches!(self.all.get(at + 1), Some(Token::Sign('(')));
        match word {
            // A function of that name.
            "INSERT" | "REPLACE" | "MERGE" if call && self.engine != Engine::Postgres => Ok(()),
            "INSERT" => {
                let to = self
                    .past(at + 1, &["LOW_PRIORITY", "HIGH_PRIORITY", "DELAYED", "IGNORE", "OR"]);
                if !self.is(to, "INTO") {
                    return Err(refused("INSERT is written with INTO, and then its one table"));
                }
                *into = Some(to);
                self.target(to + 1)
            }
            "UPDATE" => {
                let before = at.checked_sub(1);
                let clause = ["FOR", "KEY", "DO"];
                if before.is_some_and(|it| clause.iter().any(|word| self.is(it, word))) {
                    // FOR UPDATE, FOR NO KEY UPDATE, ON DUPLICATE KEY UPDATE, DO UPDATE: not a statement's beginning.
                    return Ok(());
                }
                let table = self.past(at + 1, &["LOW_PRIORITY", "IGNORE", "ONLY", "OR"]);
                self.target(table)?;
                self.one_table_until_set(table + 1)
            }
            "DELETE" => {
                let from = self.past(at + 1, &["LOW_PRIORITY", "QUICK", "IGNORE"]);
                if !self.is(from, "FROM") {
                    return Err(refused("DELETE is written with FROM, and then its one table"));
                }
                let table = self.past(from + 1, &["ONLY"]);
                self.target(table)
            }
            "INTO" if *into != Some(at) => {
                Err(refused("rows go INTO a table of the ledger by INSERT, and nowhere else"))
            }
            "REPLACE" if !at.checked_sub(1).is_some_and(|it| self.is(it, "OR")) && !call => {
                Err(refused("REPLACE is not for a ledger; write INSERT or UPDATE"))
            }
            "MERGE" if matches!(self.all.get(at + 1), Some(Token::Word(_))) => {
                Err(refused("MERGE is not for a ledger; write INSERT, UPDATE or DELETE"))
            }
            _ => Ok(()),
        }
    }

    /// A word or name that a statement may not have at all.
    fn name(&self, name: &str) -> Result<(), Failure> {
        if self.engine == Engine::Postgres && name.eq_ignore_ascii_case("set_config") {
            return Err(refused(
                "set_config could switch capturing off, and is not for a ledger's transaction",
            ));
        }
        Ok(())
    }

    /// The place after these words; `OR` takes the next one with it, as in SQLite's `OR IGNORE`.
    fn past(&self, mut at: usize, words: &[&str]) -> usize {
        while let Some(word) = words.iter().find(|it| self.is(at, it)) {
            at += if *word == "OR" { 2 } else { 1 };
        }
        at
    }

    fn is(&self, at: usize, word: &str) -> bool {
        self.all.get(at).is_some_and(|it| it.is(word))
    }

    /// What is changed must be a table of the ledger, by its bare name: another schema's could be of the same name.
    fn target(&self, at: usize) -> Result<(), Failure> {
        let known = self
            .all
            .get(at)
            .is_some_and(|token| self.catalogue.0.keys().any(|table| self.names(token, table)));
        let alone = !matches!(self.all.get(at + 1), Some(Token::Sign('.' | ',' | '*' | '&')));
        if known && alone {
            return Ok(());
        }
        let name = match self.all.get(at) {
            Some(Token::Word(name) | Token::Name(name)) if alone => format!(" {name:?}"),
            _ => String::new(),
        };
        Err(refused(&format!(
            "the statement would change{name} what is not one table of the ledger, by its bare name; only the ledger's own can be changed through it, one at a time"
        )))
    }

    /// Between the table and `SET` there is nothing but another name for it: no second table.
    fn one_table_until_set(&self, from: usize) -> Result<(), Failure> {
        let other = if self.is(from, "AS") { from + 2 } else { from + 1 };
        let name = matches!(self.all.get(other - 1), Some(Token::Word(_) | Token::Name(_)));
        if self.is(from, "SET") || (name && self.is(other, "SET")) {
            return Ok(());
        }
        Err(refused("UPDATE is written with its one table, another name for it at most, and SET"))
    }

    /// Whether the engine takes a token for this table's name, which has small letters only.
    fn names(&self, token: &Token, table: &str) -> bool {
        match (token, self.engine) {
            (Token::Word(word), Engine::Postgres)
            | (Token::Word(word) | Token::Name(word), Engine::Sqlite) => {
                word.eq_ignore_ascii_case(table)
            }
            (Token::Word(name) | Token::Name(name), _) => name == table,
            _ => false,
        }
    }
}

fn refused(why: &str) -> Failure {
    Failure::refused("0A000", why)
}

#[cfg(test)]
mod tests;
