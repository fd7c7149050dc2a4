//! What a client's next statements need, before they have a server: a simple query, or extended messages up to `Sync`.

use std::sync::Arc;

use herdsman::classify::{Class, Why};
use herdsman::policy::Want;

use super::{Context, Session, Tx};
use crate::config::Target;
use crate::effects::{self, Effect, Hint};
use crate::wire::{Malformed, frontend, header};

/// Extended messages are collected up to this many bytes to see what they need; longer ones go to the writer.
pub(super) const BATCH: usize = 256 << 10;

/// What a batch needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) want: Want,
    /// Another target than the database's, by a comment in the statement.
    pub(crate) target: Option<Target>,
}

/// A batch on its way to a server.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) needs: Needs,
    /// How far it has been looked at.
    scanned: usize,
    /// Something in it is carried out.
    runs: bool,
    /// It begins with a `BEGIN READ ONLY` of its own.
    read_only: bool,
    /// Texts prepared in it, by name.
    parsed: Vec<(Box<[u8]>, Look)>,
    /// What the simple query it is leaves behind.
    pub(super) effect: Option<Effect>,
}

/// What one text is to the choice of a server.
#[derive(Clone, Debug)]
struct Look {
    read: bool,
    read_only: bool,
    target: Option<Target>,
}

/// How far a batch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// It is not all there.
    Partial,
    /// It is all there, or as much of it as is waited for.
    Whole,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            needs: Needs { want: Want::Write, target: None },
            scanned: 0,
            runs: false,
            read_only: false,
            parsed: Vec::new(),
            effect: None,
        }
    }
}

impl Batch {
    pub(super) fn reset(&mut self) {
        self.scanned = 0;
        self.runs = false;
        self.read_only = false;
        self.parsed.clear();
        self.effect = None;
        self.needs = Needs { want: Want::Read, target: None };
    }

    /// For what cannot be looked at.
    pub(super) fn unknown(&mut self) {
        self.reset();
        self.needs.want = Want::Write;
    }

    fn add(&mut self, look: &Look) {
        let first = !self.runs;
        self.runs = true;
        if first && look.read_only {
            self.read_only = true;
        }
        if !look.read && !self.read_only {
            self.needs.want = Want::Write;
        }
        if self.needs.target.is_none() {
            self.needs.target.clone_from(&look.target);
        }
    }
}

impl Session {
    /// What a simple query needs.
    pub(super) fn need_of(&mut self, sql: &[u8], seen: Seen) {
        self.batch.reset();
        self.batch.add(&Look {
            read: seen.read && !is_show(sql),
            read_only: matches!(seen.effect, Effect::Begin { read_only: true }),
            target: if seen.plain { None } else { target(sql) },
        });
        self.in_begun_transaction();
        self.batch.effect = Some(seen.effect);
    }

    /// Looks at extended messages up to `Sync` or `Flush`.
    pub(super) fn scan(&mut self, input: &[u8], cx: &Context<'_>) -> Result<Reach, Malformed> {
        if self.batch.scanned == 0 {
            self.batch.reset();
        }
        loop {
            let rest = input.get(self.batch.scanned..).unwrap_or_default();
            let Some(head) = header(rest)? else { break };
            let Some(body) = rest.get(crate::wire::HEADER..head.len) else { break };
            match head.tag {
                frontend::PARSE => {
                    let parse = frontend::parse(body)?;
                    let look = look(parse.query, None, cx);
                    if !look.read && !look.read_only {
                        // Even only to be prepared: what it is must not depend on which node it is asked on.
                        self.batch.needs.want = Want::Write;
                    }
                    self.batch.parsed.retain(|(name, _)| **name != *parse.name);
                    self.batch.parsed.push((parse.name.into(), look));
                }
                frontend::BIND => self.scan_use(frontend::bind(body)?.statement, true, cx),
                frontend::DESCRIBE => {
                    if let frontend::Named::Statement(name) = frontend::named(body)? {
                        self.scan_use(name, false, cx);
                    }
                }
                frontend::EXECUTE | frontend::CLOSE => {}
                frontend::SYNC | frontend::FLUSH => {
                    if head.tag == frontend::FLUSH && self.batch.runs && !self.batch.read_only {
                        // More may follow in the same implicit transaction.
                        self.batch.needs.want = Want::Write;
                    }
                    self.in_begun_transaction();
                    self.batch.scanned = 0;
                    return Ok(Reach::Whole);
                }
                // Nothing else belongs into a batch; whoever carries it out will say so.
                _ => {
                    self.batch.unknown();
                    return Ok(Reach::Whole);
                }
            }
            self.batch.scanned += head.len;
        }
        if input.len() > BATCH {
            self.batch.unknown();
            self.in_begun_transaction();
            return Ok(Reach::Whole);
        }
        Ok(Reach::Partial)
    }

    fn scan_use(&mut self, name: &[u8], runs: bool, cx: &Context<'_>) {
        let here = self.batch.parsed.iter().find(|(known, _)| **known == *name);
        let look = match here {
            Some((_, look)) => look.clone(),
            None if name.is_empty() && self.unnamed.known => {
                look(self.unnamed.query(), self.unnamed.effect.as_ref(), cx)
            }
            None => match self.names.get(name) {
                Some(statement) => {
                    let statement = Arc::clone(statement);
                    look(&statement.query, Some(&statement.effect), cx)
                }
                None => Look { read: false, read_only: false, target: None },
            },
        };
        if runs {
            self.batch.add(&look);
        } else if !look.read && !look.read_only {
            self.batch.needs.want = Want::Write;
        }
    }

    /// The first statement of a transaction that was begun without a server.
    fn in_begun_transaction(&mut self) {
        if let Tx::Ahead { read_only, .. } = &self.tx {
            self.batch.needs.want = if *read_only { Want::Read } else { Want::Write };
        }
        if self.to_writer || self.settings.needs_writer() {
            self.batch.needs.want = Want::Write;
        }
    }
}

impl super::Unnamed {
    pub(super) fn query(&self) -> &[u8] {
        self.text.get(..self.types).unwrap_or_default()
    }

    pub(super) fn type_bytes(&self) -> &[u8] {
        self.text.get(self.types..).unwrap_or_default()
    }
}

/// What a simple query is.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    read: bool,
    /// It has no comment.
    plain: bool,
    pub(super) effect: Effect,
    /// More than one statement.
    pub(super) several: bool,
}

pub(super) fn seen(sql: &[u8], cx: &Context<'_>) -> Seen {
    if cx.classifier.classify_plain(sql).is_some_and(Class::is_read) {
        // What only reads leaves nothing behind.
        return Seen { read: true, plain: true, effect: Effect::None, several: false };
    }
    let Ok(text) = str::from_utf8(sql) else {
        return Seen { read: false, plain: false, effect: Effect::Unknown, several: false };
    };
    let class = cx.classifier.classify(text);
    let effect =
        if effects::needs_look(&class, text) { effects::effect(text) } else { Effect::None };
    let several = class.why == Why::SeveralStatements;
    Seen { read: class.is_read(), plain: false, effect, several }
}

/// What one text is; `effect`, where it is known already.
fn look(sql: &[u8], effect: Option<&Effect>, cx: &Context<'_>) -> Look {
    if cx.classifier.classify_plain(sql).is_some_and(Class::is_read) {
        // It has no comment, and what only reads begins nothing.
        return Look { read: !is_show(sql), read_only: false, target: None };
    }
    let Ok(text) = str::from_utf8(sql) else {
        return Look { read: false, read_only: false, target: None };
    };
    let class = cx.classifier.classify(text);
    let begins_read_only = |effect: &Effect| matches!(effect, Effect::Begin { read_only: true });
    let read_only = !class.is_read()
        && match effect {
            Some(effect) => begins_read_only(effect),
            None => effects::needs_look(&class, text) && begins_read_only(&effects::effect(text)),
        };
    Look { read: class.is_read() && !is_show(sql), read_only, target: target(sql) }
}

/// Where a comment sends a statement.
fn target(sql: &[u8]) -> Option<Target> {
    match effects::hint(str::from_utf8(sql).ok()?)? {
        Hint::Node(name) => Some(Target::Node(name)),
        Hint::Reader => Some(Target::Reader),
        // Said by the class already.
        Hint::Writer => None,
    }
}

/// `SHOW` may tell the nodes apart (`transaction_read_only`, `in_hot_standby`): drivers ask so whether this is the primary.
fn is_show(sql: &[u8]) -> bool {
    let start = sql.trim_ascii_start();
    start.get(..4).is_some_and(|word| word.eq_ignore_ascii_case(b"show"))
}
