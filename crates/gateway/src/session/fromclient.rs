//! What a client says, on its way to the server it has.

mod extended;

use herdsman::policy::Want;

use super::batch::seen;
use super::expect::{Expect, Of};
use super::guard::may_commit;
use super::local::{QUERY, is_extended};
use super::{Context, Fed, Held, Outputs, Session, Tx};
use crate::effects::Effect;
use crate::wire::backend::{self, Status};
use crate::wire::error::code;
use crate::wire::{HEADER, Header, Malformed, Problem, frontend, header};

/// No names in a message are longer together.
const NAMES: usize = 64 << 10;

/// The server connection that a session has, and what goes with every message on its way there.
#[derive(Debug)]
pub(super) struct Leased<'a> {
    pub(super) held: Held<'a>,
    pub(super) cx: &'a Context<'a>,
    pub(super) out: &'a mut Outputs,
}

/// How one message was taken.
enum Taken {
    /// This many bytes of it; what is left of it is passed or discarded as noted.
    Bytes(usize),
    Stop(Fed),
}

impl Session {
    /// Takes bytes of the client; returns how many, and what comes next. `held` is the server connection it has, if any.
    pub(crate) fn feed(
        &mut self,
        input: &[u8],
        held: Option<Held<'_>>,
        cx: &Context<'_>,
        out: &mut Outputs,
    ) -> (usize, Fed) {
        let outcome = match held {
            None => self.unleased(input, cx, &mut out.to_client),
            Some(held) => self.leased(input, &mut Leased { held, cx, out }),
        };
        outcome.unwrap_or_else(|malformed| {
            let problem = Problem::new(code::PROTOCOL_VIOLATION, malformed.to_string());
            (0, Fed::End(problem))
        })
    }

    fn leased(&mut self, input: &[u8], lease: &mut Leased<'_>) -> Result<(usize, Fed), Malformed> {
        let mut at = 0;
        self.checked = false;
        loop {
            let rest = input.get(at..).unwrap_or_default();
            let through = self.pass.min(rest.len());
            if through > 0 {
                lease.out.to_server.extend_from_slice(rest.get(..through).unwrap_or_default());
                self.pass -= through;
                at += through;
                continue;
            }
            let nowhere = self.discard.min(rest.len());
            if nowhere > 0 {
                self.discard -= nowhere;
                at += nowhere;
                continue;
            }
            if self.pass > 0 || self.discard > 0 {
                return Ok((at, Fed::More));
            }
            let Some(head) = header(rest)? else { return Ok((at, Fed::More)) };
            if self.must_wait(head.tag) {
                return Ok((at, Fed::Wait));
            }
            if let Some(fed) = self.look_ahead(head, rest, lease.cx)? {
                return Ok((at, fed));
            }
            match self.one(head, rest, lease)? {
                Taken::Bytes(bytes) => at += bytes,
                Taken::Stop(fed) => return Ok((at, fed)),
            }
        }
    }

    /// A new batch behind one that was sent to a reader: where it goes is decided once the reader is done.
    fn must_wait(&self, tag: u8) -> bool {
        !self.fresh
            && tag != frontend::TERMINATE
            && (self.batch.needs.want == Want::Read || self.guarded)
            && self.pinned().is_none()
            && !self.unsynced
            && !self.skipping
            && !self.copying
            && self.status == Status::Idle
            && self.tx == Tx::AtServer
    }

    fn one(
        &mut self,
        head: Header,
        rest: &[u8],
        lease: &mut Leased<'_>,
    ) -> Result<Taken, Malformed> {
        let body = rest.get(HEADER..head.len);
        if self.skipping && (is_extended(head.tag) || head.tag == frontend::FLUSH) {
            self.discard = head.len;
            return Ok(Taken::Bytes(0));
        }
        match head.tag {
            frontend::TERMINATE => return Ok(Taken::Stop(Fed::Goodbye)),
            frontend::QUERY => return self.simple(head, body, lease),
            frontend::PARSE => return self.parse(head, rest, lease),
            frontend::BIND => return self.bind(head, rest, lease),
            frontend::DESCRIBE | frontend::CLOSE => {
                let Some(body) = body else { return more(head.len, NAMES) };
                let message = rest.get(..head.len).unwrap_or_default();
                self.named(message, body, lease)?;
            }
            frontend::EXECUTE => {
                let Some(body) = body else { return more(head.len, NAMES) };
                let message = rest.get(..head.len).unwrap_or_default();
                self.execute(message, body, lease)?;
            }
            frontend::SYNC => self.sync(lease),
            frontend::FLUSH if !self.batch_runs() => {
                // What only prepares is complete in itself: with a Sync of ours the server is free again at once.
                self.go_ahead(lease);
                lease.out.to_server.extend_from_slice(&frontend::SYNC_MESSAGE);
                self.expects.push(Expect::Sync { shown: false });
                self.unsynced = false;
            }
            frontend::FLUSH => {
                // The client waits for what there is so far.
                self.retractable = false;
                lease.out.to_server.extend_from_slice(rest.get(..head.len).unwrap_or_default());
            }
            frontend::COPY_DATA | frontend::COPY_DONE | frontend::COPY_FAIL => {
                // Some drivers do not wait to be asked. Where it was no COPY, the server throws them away itself.
                if self.copying || !self.expects.is_empty() {
                    self.pass = head.len;
                } else {
                    self.discard = head.len;
                }
                return Ok(Taken::Bytes(0));
            }
            frontend::FUNCTION_CALL => {
                self.go_ahead(lease);
                self.expects.push(Expect::Query { of: Of::Client, effect: false });
                self.may_change(&Effect::None);
                self.pass = head.len;
                return Ok(Taken::Bytes(0));
            }
            frontend::PASSWORD => return Err(Malformed("a password after the login")),
            _ => return Err(Malformed("a message that no client sends")),
        }
        Ok(Taken::Bytes(head.len))
    }

    fn simple(
        &mut self,
        head: Header,
        body: Option<&[u8]>,
        lease: &mut Leased<'_>,
    ) -> Result<Taken, Malformed> {
        let Some(body) = body else {
            if head.len <= QUERY {
                return Ok(Taken::Stop(Fed::More));
            }
            // Too long to look at: whatever it leaves behind is nobody else's.
            self.go_ahead(lease);
            self.tainted = true;
            self.may_change(&Effect::Commit);
            self.put_text(head, true, lease)?;
            self.expects.push(Expect::Query { of: Of::Client, effect: false });
            self.pass = head.len - HEADER;
            return Ok(Taken::Bytes(HEADER));
        };
        let sql = frontend::query(body)?;
        let effect = match self.batch.effect.take().filter(|_| self.fresh) {
            Some(effect) => effect,
            None => seen(sql, lease.cx).effect,
        };
        if let Effect::Deallocate(name) = &effect
            && self.names.contains_key(name.as_bytes())
        {
            if !self.is_quiet() {
                return Ok(Taken::Stop(Fed::Wait));
            }
            self.names.remove(name.as_bytes());
            backend::put_complete(&mut lease.out.to_client, "DEALLOCATE");
            backend::put_ready(&mut lease.out.to_client, self.status);
            return Ok(Taken::Bytes(head.len));
        }
        if let Some(problem) = self.adopt(&effect, lease.cx) {
            if !self.is_quiet() {
                return Ok(Taken::Stop(Fed::Wait));
            }
            return Ok(self.refused(head, &problem, lease.out));
        }
        self.go_ahead(lease);
        let ends = lease.cx.guard.is_some() && may_commit(sql);
        self.put_text(head, ends, lease)?;
        self.unnamed.known = false;
        self.may_change(&effect);
        let noted = self.note(effect);
        self.expects.push(Expect::Query { of: Of::Client, effect: noted });
        let message = body.len() + HEADER;
        lease.out.to_server.extend_from_slice(body);
        Ok(Taken::Bytes(message))
    }

    /// A simple query that is not sent. The server knows nothing of it: a transaction that it stands in goes on.
    fn refused(&mut self, head: Header, problem: &Problem, out: &mut Outputs) -> Taken {
        problem.put(&mut out.to_client);
        backend::put_ready(&mut out.to_client, self.status);
        self.discard = head.len;
        Taken::Bytes(0)
    }
}

/// The rest of a message is needed, if it is no longer than `most`.
fn more(len: usize, most: usize) -> Result<Taken, Malformed> {
    if len > most {
        return Err(Malformed("it is longer than the gateway takes"));
    }
    Ok(Taken::Stop(Fed::More))
}
