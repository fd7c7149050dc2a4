//! A server refuses something: what that undoes, and what is skipped for it.

use super::super::expect::{Expect, Of};
use super::super::guard::{FORGOTTEN, REFUSED};
use super::super::{Elsewhere, Held, Received, Session, Told};
use super::Next;
use crate::statements;
use crate::wire::backend::{self, Status};

/// How a server says that what it has prepared does not hold any more ("cached plan must not change result type"), and the
/// part of it that does, whatever the language of the message.
const OUTDATED: &[u8] = b"0A000";
const REVALIDATION: &[u8] = b"RevalidateCachedQuery";

impl Session {
    pub(super) fn error(&mut self, body: &[u8], held: &mut Held<'_>) -> Next {
        let state = backend::field(body, b'C').unwrap_or_default();
        let severity = backend::field(body, b'V').or_else(|| backend::field(body, b'S'));
        self.copying = false;
        if matches!(severity, Some(b"FATAL" | b"PANIC")) {
            return Next::Stop(Received::Lost(Told {
                code: Some(String::from_utf8_lossy(state).into_owned()),
                words: backend::field(body, b'M')
                    .map(|words| String::from_utf8_lossy(words).into_owned())
                    .unwrap_or_default(),
                unsent: false,
            }));
        }
        if let Some(Expect::Query { of: Of::Ahead, .. }) = self.expects.front() {
            return Next::Stop(Received::Poisoned);
        }
        let check = matches!(
            self.expects.front(),
            Some(
                Expect::Guard | Expect::Bind { shown: false } | Expect::Parse { id: u64::MAX, .. }
            )
        );
        if check {
            return self.check_failed(state, held);
        }
        if self.may_go_elsewhere() {
            match state {
                b"25006" => return Next::Stop(Received::Elsewhere(Elsewhere::Writes)),
                // A lone read on a standby fails to serialise only when replay is in its way.
                b"40001" | b"40P01" => return Next::Stop(Received::Elsewhere(Elsewhere::Conflict)),
                _ => {}
            }
        }
        if state == OUTDATED && backend::field(body, b'R') == Some(REVALIDATION) {
            // Which of them it is about, the error does not say; to prepare one too often costs little.
            self.names.values().for_each(|statement| statements::outdate(statement));
        }
        if self.before.is_some() || self.status == Status::Idle {
            self.undo_settings(held);
        }
        let visible = self.visible();
        self.fail(held);
        if visible {
            self.shown = true;
            self.queries += 1;
            // The client counts from the beginning of its own text.
            if backend::put_moved(&mut self.instead, body, self.prefix) {
                return Next::Hide;
            }
            Next::Show
        } else {
            // An error about something sent ahead of the client's own, within the same batch, is the batch's error.
            Next::Show
        }
    }

    /// A check has failed, or did not come about: what it went with was not done.
    fn check_failed(&mut self, state: &[u8], held: &mut Held<'_>) -> Next {
        // Anything else, such as a cancellation, is not about the node.
        let refused = matches!(state, REFUSED | FORGOTTEN);
        if refused && self.guarded && self.holds_state().is_none() {
            return Next::Stop(Received::Guarded);
        }
        self.guarded = false;
        self.undo_settings(held);
        let simple = self.expects.iter().any(|e| matches!(e, Expect::Query { of: Of::Client, .. }));
        if simple {
            self.expects.pop();
        }
        self.fail(held);
        if state == FORGOTTEN {
            held.statements.remove(u64::MAX);
        }
        self.refused_commit = refused;
        if refused { Next::Hide } else { Next::Show }
    }

    /// Everything the server skips after an error.
    fn fail(&mut self, held: &mut Held<'_>) {
        if let Some(Expect::Query { effect, .. }) = self.expects.front_mut() {
            if std::mem::take(effect) {
                self.effects.pop_front();
            }
            return;
        }
        while let Some(front) = self.expects.front() {
            match front {
                Expect::Sync { shown } => {
                    if !shown {
                        // Our Sync in place of a Flush: the client still has its own to send.
                        self.skipping = true;
                    }
                    break;
                }
                Expect::Query { .. } => break,
                Expect::Parse { id, .. } => {
                    if id == 0 {
                        self.unnamed.at_server = false;
                        self.unnamed.known = false;
                    }
                    held.statements.remove(id);
                    self.name_undone(id);
                }
                Expect::Parsed { id } => self.name_undone(id),
                Expect::Close { evicted, .. } if evicted != 0 => held.statements.restore(evicted),
                Expect::Execute { effect: true, .. } => {
                    self.effects.pop_front();
                }
                _ => {}
            }
            self.expects.pop();
        }
        if self.expects.is_empty() && self.unsynced {
            self.skipping = true;
        }
    }

    /// A server has taken the statement with this id.
    pub(super) fn was_taken(&self, id: u64) {
        let named = self.added.iter().find(|(_, added)| *added == id);
        if let Some(statement) = named.and_then(|(name, _)| self.names.get(name)) {
            statement.was_taken();
        }
    }

    fn name_undone(&mut self, id: u64) {
        if let Some(place) = self.added.iter().position(|(_, added)| *added == id) {
            let (name, _) = self.added.swap_remove(place);
            self.names.remove(&name);
        }
    }
}
