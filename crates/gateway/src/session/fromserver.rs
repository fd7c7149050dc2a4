//! What a server says, on its way to the client.

mod failure;
mod ordinary;

use super::expect::Expect;
use super::{Held, Outputs, Received, Session};
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
        if self.receive_ordinary(input, out) {
            return (input.len(), Received::Done);
        }
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
}

fn show(input: &[u8], from: usize, to: usize, out: &mut Outputs) {
    if to > from {
        out.to_client.extend_from_slice(input.get(from..to).unwrap_or_default());
    }
}

#[cold]
const fn nonsense(why: &'static str) -> Next {
    Next::Stop(Received::Nonsense(Malformed(why)))
}
