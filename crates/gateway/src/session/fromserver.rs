//! What a server says, on its way to the client.

use super::expect::{Expect, Of};
use super::pins::{PREPARED, UNKNOWN};
use super::{Elsewhere, Held, Outputs, Received, Session, Told};
use crate::effects::Effect;
use crate::settings::Settings;
use crate::wire::backend::{self, Status};
use crate::wire::error::code;
use crate::wire::{HEADER, Malformed, Problem, header};

/// An error or notice longer than this is passed on without being looked into.
const LOOKED_INTO: usize = 64 << 10;

/// What follows one message.
enum Next {
    /// It goes to the client.
    Show,
    /// It goes nowhere.
    Hide,
    /// It goes to the client, and the server is done.
    ShowAndDone,
    /// It goes nowhere, and the server is done.
    HideAndDone,
    Stop(Received),
}

impl Session {
    /// Takes bytes of the server; returns how many, and what comes next.
    pub(crate) fn receive(
        &mut self,
        input: &[u8],
        held: &mut Held<'_>,
        out: &mut Outputs,
    ) -> (usize, Received) {
        // Everything between `run` and `at` goes to the client as it is.
        let (mut at, mut run) = (0, 0);
        let received = loop {
            let rest = input.get(at..).unwrap_or_default();
            if self.server_pass > 0 {
                let take = self.server_pass.min(rest.len());
                self.server_pass -= take;
                at += take;
                if self.server_pass > 0 {
                    break Received::More;
                }
                continue;
            }
            if self.server_discard > 0 {
                show(input, run, at, out);
                let take = self.server_discard.min(rest.len());
                self.server_discard -= take;
                at += take;
                run = at;
                if self.server_discard > 0 {
                    break Received::More;
                }
                continue;
            }
            let head = match header(rest) {
                Ok(Some(head)) => head,
                Ok(None) => break Received::More,
                Err(malformed) => break Received::Nonsense(malformed),
            };
            if matches!(head.tag, backend::DATA_ROW | backend::COPY_DATA) {
                if self.visible() {
                    self.shown = true;
                    self.server_pass = head.len;
                } else {
                    self.server_discard = head.len;
                }
                continue;
            }
            let body = rest.get(HEADER..head.len);
            if body.is_none() && head.len <= LOOKED_INTO {
                break Received::More;
            }
            let next = self.control(head.tag, body, held);
            let done = matches!(next, Next::ShowAndDone | Next::HideAndDone);
            let take = head.len.min(rest.len());
            match next {
                Next::Show | Next::ShowAndDone => self.server_pass = head.len - take,
                Next::Hide | Next::HideAndDone => {
                    show(input, run, at, out);
                    self.server_discard = head.len - take;
                    run = at + take;
                }
                Next::Stop(received) => break received,
            }
            at += take;
            if self.due() || self.replaces() {
                show(input, run, at, out);
                run = at;
                self.say_what_is_due(&mut out.to_client);
            }
            if done || self.is_done() {
                break Received::Done;
            }
        };
        show(input, run, at, out);
        (at, received)
    }

    /// Whether what comes now is for the client.
    fn visible(&self) -> bool {
        !self.muted && self.expects.front().is_none_or(Expect::shown)
    }

    fn is_done(&self) -> bool {
        self.expects.is_empty()
            && !self.unsynced
            && !self.skipping
            && !self.copying
            && self.pass == 0
            && self.status == Status::Idle
            && !self.fresh
    }

    /// Whether something of ours is due now.
    fn due(&self) -> bool {
        matches!(self.expects.front(), Some(Expect::Parsed { .. } | Expect::Closed))
    }

    /// Whether an error of ours takes the place of a success.
    fn replaces(&self) -> bool {
        self.unconfirmed && self.muted || self.refused_commit || !self.instead.is_empty()
    }

    /// Says what we answer ourselves, as far as it is due.
    pub(super) fn say_what_is_due(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.instead);
        if std::mem::take(&mut self.refused_commit) {
            Problem::new(
                code::TRY_AGAIN,
                "the transaction was not committed: its node is not certain to be the primary still",
            )
            .hint("roll back, and try the transaction again")
            .put(out);
        }
        if self.unconfirmed && self.muted {
            self.unconfirmed = false;
            Problem::new(
                code::OUTCOME_UNKNOWN,
                "the transaction is committed, but waiting for its replication was cancelled: it may be lost with this node",
            )
            .hint("look whether the change is there before making it again")
            .put(out);
        }
        loop {
            match self.expects.front() {
                Some(Expect::Parsed { .. }) if self.muted => {}
                Some(Expect::Parsed { .. }) => backend::put_empty(out, backend::PARSE_COMPLETE),
                Some(Expect::Closed) if self.muted => {}
                Some(Expect::Closed) => backend::put_empty(out, backend::CLOSE_COMPLETE),
                _ => return,
            }
            self.expects.pop();
        }
    }

    fn control(&mut self, tag: u8, body: Option<&[u8]>, held: &mut Held<'_>) -> Next {
        let front = self.expects.front();
        let visible = self.visible();
        let by_visibility = if visible { Next::Show } else { Next::Hide };
        match tag {
            backend::READY => return self.ready(body.unwrap_or_default(), held),
            backend::ERROR => return self.error(body.unwrap_or_default(), held),
            backend::NOTICE => return self.notice(body.unwrap_or_default(), visible),
            backend::PARAMETER_STATUS => {
                return self.parameter(body.unwrap_or_default(), held, visible);
            }
            backend::NOTIFICATION => {
                return if self.pinned().is_some() { Next::Show } else { Next::Hide };
            }
            backend::COMPLETE => return self.complete(body.unwrap_or_default(), held),
            backend::PARSE_COMPLETE | backend::BIND_COMPLETE | backend::CLOSE_COMPLETE => {
                let fits = matches!(
                    (tag, front),
                    (backend::PARSE_COMPLETE, Some(Expect::Parse { .. }))
                        | (backend::BIND_COMPLETE, Some(Expect::Bind { .. }))
                        | (backend::CLOSE_COMPLETE, Some(Expect::Close { .. }))
                );
                if !fits {
                    return nonsense("an answer to nothing");
                }
                if let Some(Expect::Parse { id, .. }) = front {
                    self.was_taken(id);
                }
                self.expects.pop();
            }
            backend::ROW_DESCRIPTION | backend::NO_DATA if front == Some(Expect::Describe) => {
                self.expects.pop();
            }
            backend::EMPTY_QUERY | backend::SUSPENDED => {
                self.shown |= visible;
                if let Some(Expect::Execute { effect, .. }) = front {
                    if effect {
                        self.effects.pop_front();
                    }
                    self.expects.pop();
                }
                self.queries += 1;
            }
            backend::COPY_IN | backend::COPY_BOTH => {
                self.copying = true;
                self.shown = true;
                self.expects.forget_syncs();
                self.unsynced |= matches!(front, Some(Expect::Execute { .. }));
            }
            backend::COPY_OUT | backend::FUNCTION_RESULT => self.shown = true,
            _ => {}
        }
        by_visibility
    }

    fn complete(&mut self, tag: &[u8], held: &mut Held<'_>) -> Next {
        if self.expects.front() == Some(Expect::Guard) {
            self.expects.pop();
            self.guarded = false;
            return Next::Hide;
        }
        let visible = self.visible();
        self.rolled_back = tag.starts_with(b"ROLLBACK");
        self.copying = false;
        let effect = match self.expects.front_mut() {
            Some(Expect::Execute { effect, .. } | Expect::Query { effect, .. }) => {
                std::mem::take(effect)
            }
            _ => return nonsense("the end of a statement that was not begun"),
        };
        if effect && let Some(effect) = self.effects.pop_front() {
            self.apply(effect, held);
        }
        if let Some(Expect::Execute { .. }) = self.expects.front() {
            self.expects.pop();
        }
        if !visible {
            return Next::Hide;
        }
        self.shown = true;
        self.queries += 1;
        if self.unconfirmed {
            // Said by `say_what_is_due`, in place of this.
            self.muted = true;
            return Next::Hide;
        }
        Next::Show
    }

    fn ready(&mut self, body: &[u8], held: &mut Held<'_>) -> Next {
        let status = match Status::read(body) {
            Ok(status) => status,
            Err(malformed) => return Next::Stop(Received::Nonsense(malformed)),
        };
        let shown = loop {
            match self.expects.pop() {
                Some(expect @ (Expect::Sync { .. } | Expect::Query { .. })) => {
                    break expect.shown();
                }
                Some(_) => {}
                None => return nonsense("it is ready, and was asked nothing"),
            }
        };
        self.copying = false;
        self.prefix = 0;
        if shown {
            self.shown = true;
            self.muted = false;
            self.unconfirmed = false;
            self.added.clear();
            self.status = status;
            if status == Status::Idle {
                if std::mem::take(&mut self.rolled_back) {
                    self.undo_settings(held);
                }
                self.ended();
            }
        } else if self.expects.is_empty() && !matches!(self.tx, super::Tx::Ahead { .. }) {
            // The end of a Sync that stood for a Flush: this is all there is to be shown.
            self.shown = true;
            self.status = status;
        }
        let done = self.is_done();
        match (shown, done) {
            (true, true) => Next::ShowAndDone,
            (true, false) => Next::Show,
            (false, true) => Next::HideAndDone,
            (false, false) => Next::Hide,
        }
    }

    /// A transaction is over.
    fn ended(&mut self) {
        self.portals.clear();
        self.commits = false;
        self.guarded = false;
        if std::mem::take(&mut self.unsure) {
            self.tainted = true;
            self.pin("settings that a partial rollback took back");
        }
        self.before = None;
    }

    fn error(&mut self, body: &[u8], held: &mut Held<'_>) -> Next {
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
        let refused = matches!(state, super::guard::REFUSED | super::guard::FORGOTTEN);
        if refused && self.guarded && self.holds_state().is_none() {
            return Next::Stop(Received::Guarded);
        }
        self.guarded = false;
        self.undo_settings(held);
        let simple = self.expects.iter().any(|e| matches!(e, Expect::Query { of: Of::Client, .. }));
        if simple {
            self.expects.pop();
            self.fail(held);
        } else {
            self.fail(held);
        }
        if state == super::guard::FORGOTTEN {
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
    fn was_taken(&self, id: u64) {
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

    fn notice(&mut self, body: &[u8], visible: bool) -> Next {
        // The routine's name is the same in every language.
        if backend::field(body, b'R') == Some(b"SyncRepWaitForLSN") {
            self.unconfirmed = true;
        }
        let asked = !self.expects.is_empty() || self.pinned().is_some();
        if visible && asked { Next::Show } else { Next::Hide }
    }

    fn parameter(&mut self, body: &[u8], held: &mut Held<'_>, visible: bool) -> Next {
        let Ok((name, value)) = backend::parameter(body) else {
            return nonsense("a parameter without a value");
        };
        let name = String::from_utf8_lossy(name);
        let value = String::from_utf8_lossy(value);
        match held.reported.iter_mut().find(|(known, _)| **known == *name) {
            Some((_, known)) => *known = value.as_ref().into(),
            None => held.reported.push((name.as_ref().into(), value.as_ref().into())),
        }
        // Which node answers is no affair of the client's; what changed in nobody's name neither.
        let its = visible && name != "in_hot_standby" && !self.expects.is_empty();
        if its { Next::Show } else { Next::Hide }
    }

    /// A statement with an effect has succeeded.
    fn apply(&mut self, effect: Effect, held: &mut Held<'_>) {
        let now = match effect {
            Effect::Several(effects) => {
                for effect in effects {
                    self.apply(effect, held);
                }
                return;
            }
            Effect::Set { name, value } => self.settings.with(&name, Some(&value)),
            Effect::Reset(name) => {
                let first = self.startup.get(&name).map(str::to_owned);
                if first.is_some() {
                    // The server went back to what its connection began with, the client's own is another.
                    let server = held.settings.with(&name, None);
                    self.remember(held);
                    *held.settings = server;
                    self.settings = self.settings.with(&name, first.as_deref());
                    return;
                }
                self.settings.with(&name, None)
            }
            Effect::ResetAll => {
                self.remember(held);
                // Who one is stays.
                *held.settings = held.settings.after_reset_all(&Settings::default());
                self.settings = self.settings.after_reset_all(&self.startup);
                return;
            }
            Effect::DiscardAll => {
                *held.settings = Settings::default();
                self.settings = self.startup.clone();
                held.statements.clear();
                self.names.clear();
                self.unnamed.known = false;
                self.let_go(|_| true);
                self.tainted = false;
                return;
            }
            Effect::DeallocateAll => {
                self.let_go(|why| why == PREPARED);
                held.statements.clear();
                self.names.clear();
                return;
            }
            Effect::Deallocate(name) => {
                self.names.remove(name.as_bytes());
                return;
            }
            Effect::Sticky(what) => return self.pin(what),
            Effect::Prepare(_) | Effect::Execute(_) => return self.pin(PREPARED),
            Effect::Unknown => return self.pin(UNKNOWN),
            Effect::Releases(what) => {
                self.let_go(|why| what.contains(&why));
                return;
            }
            Effect::RollbackTo => {
                self.unsure |= self.before.is_some();
                return;
            }
            _ => return,
        };
        self.remember(held);
        if now == self.settings && now.is_full() {
            // No more than so many are kept apart from the connection.
            self.pin("more settings than the gateway keeps");
        }
        *held.settings = now.clone();
        self.settings = now;
    }

    /// Keeps what the settings were, in case the transaction does not come about.
    fn remember(&mut self, held: &Held<'_>) {
        if self.before.is_none() {
            self.before = Some((self.settings.clone(), held.settings.clone()));
        }
    }

    /// The transaction that changed settings has failed: they are what they were.
    fn undo_settings(&mut self, held: &mut Held<'_>) {
        if let Some((client, server)) = self.before.take() {
            self.settings = client;
            *held.settings = server;
        }
    }
}

fn show(input: &[u8], from: usize, to: usize, out: &mut Outputs) {
    if to > from {
        out.to_client.extend_from_slice(input.get(from..to).unwrap_or_default());
    }
}

const fn nonsense(why: &'static str) -> Next {
    Next::Stop(Received::Nonsense(Malformed(why)))
}
