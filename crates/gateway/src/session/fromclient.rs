//! What a client says, on its way to the server it has.

use std::sync::Arc;

use herdsman::policy::Want;

use super::batch::seen;
use super::expect::{Expect, Of};
use super::guard::may_commit;
use super::local::{QUERY, is_extended};
use super::{Context, Fed, Held, Outputs, Session, Tx};
use crate::effects::{self, Effect};
use crate::statements::{self, Statement};
use crate::wire::backend::{self, Status};
use crate::wire::error::code;
use crate::wire::frontend::Named;
use crate::wire::{HEADER, Header, Malformed, Problem, frontend, header};

/// No text to prepare is longer.
const PARSE: usize = 16 << 20;
/// No names in a message are longer together.
const NAMES: usize = 64 << 10;
/// A name no client's statement has on a server: to use it is the error that PostgreSQL gives for an unknown one.
const NOBODY: &[u8] = b"hm_none";

/// The same for one that `session_state: refuse` does not let pass; the server's error names it.
const REFUSED: &[u8] = b"(it needs a session of its own: session_state is refuse)";

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
            Some(mut held) => self.leased(input, &mut held, cx, out),
        };
        outcome.unwrap_or_else(|malformed| {
            let problem = Problem::new(code::PROTOCOL_VIOLATION, malformed.to_string());
            (0, Fed::End(problem))
        })
    }

    fn leased(
        &mut self,
        input: &[u8],
        held: &mut Held<'_>,
        cx: &Context<'_>,
        out: &mut Outputs,
    ) -> Result<(usize, Fed), Malformed> {
        let mut at = 0;
        self.checked = false;
        loop {
            let rest = input.get(at..).unwrap_or_default();
            let through = self.pass.min(rest.len());
            if through > 0 {
                out.to_server.extend_from_slice(rest.get(..through).unwrap_or_default());
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
            if let Some(fed) = self.look_ahead(head, rest, cx)? {
                return Ok((at, fed));
            }
            match self.one(head, rest, held, cx, out)? {
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
        held: &mut Held<'_>,
        cx: &Context<'_>,
        out: &mut Outputs,
    ) -> Result<Taken, Malformed> {
        let body = rest.get(HEADER..head.len);
        if self.skipping && (is_extended(head.tag) || head.tag == frontend::FLUSH) {
            self.discard = head.len;
            return Ok(Taken::Bytes(0));
        }
        match head.tag {
            frontend::TERMINATE => return Ok(Taken::Stop(Fed::Goodbye)),
            frontend::QUERY => return self.simple(head, body, held, cx, out),
            frontend::PARSE => return self.parse(head, body, held, cx, out),
            frontend::BIND => return self.bind(head, rest, held, cx, out),
            frontend::DESCRIBE | frontend::CLOSE => {
                let Some(body) = body else { return more(head.len, NAMES) };
                self.named(head, body, held, cx, out)?;
            }
            frontend::EXECUTE => {
                let Some(body) = body else { return more(head.len, NAMES) };
                self.execute(head, body, held, out)?;
            }
            frontend::SYNC => self.sync(held, cx, out),
            frontend::FLUSH if !self.batch_runs() => {
                // What only prepares is complete in itself: with a Sync of ours the server is free again at once.
                self.go_ahead(held, out);
                out.to_server.extend_from_slice(&frontend::SYNC_MESSAGE);
                self.expects.push(Expect::Sync { shown: false });
                self.unsynced = false;
            }
            frontend::FLUSH => {
                // The client waits for what there is so far.
                self.retractable = false;
                out.to_server.extend_from_slice(rest.get(..head.len).unwrap_or_default());
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
                self.go_ahead(held, out);
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
        held: &mut Held<'_>,
        cx: &Context<'_>,
        out: &mut Outputs,
    ) -> Result<Taken, Malformed> {
        let Some(body) = body else {
            if head.len <= QUERY {
                return Ok(Taken::Stop(Fed::More));
            }
            // Too long to look at: whatever it leaves behind is nobody else's.
            self.go_ahead(held, out);
            self.tainted = true;
            self.may_change(&Effect::Commit);
            self.put_text(head, true, cx, out)?;
            self.expects.push(Expect::Query { of: Of::Client, effect: false });
            self.pass = head.len - HEADER;
            return Ok(Taken::Bytes(HEADER));
        };
        let sql = frontend::query(body)?;
        let effect = match self.batch.effect.take().filter(|_| self.fresh) {
            Some(effect) => effect,
            None => seen(sql, cx).effect,
        };
        if let Effect::Deallocate(name) = &effect
            && self.names.contains_key(name.as_bytes())
        {
            if !self.is_quiet() {
                return Ok(Taken::Stop(Fed::Wait));
            }
            self.names.remove(name.as_bytes());
            backend::put_complete(&mut out.to_client, "DEALLOCATE");
            backend::put_ready(&mut out.to_client, self.status);
            return Ok(Taken::Bytes(head.len));
        }
        if let Some(problem) = self.adopt(&effect, cx) {
            if !self.is_quiet() {
                return Ok(Taken::Stop(Fed::Wait));
            }
            return Ok(self.refused(head, &problem, out));
        }
        self.go_ahead(held, out);
        let ends = cx.guard.is_some() && may_commit(sql);
        self.put_text(head, ends, cx, out)?;
        self.unnamed.known = false;
        self.may_change(&effect);
        let noted = self.note(effect);
        self.expects.push(Expect::Query { of: Of::Client, effect: noted });
        let message = body.len() + HEADER;
        out.to_server.extend_from_slice(body);
        Ok(Taken::Bytes(message))
    }

    /// A simple query that is not sent. The server knows nothing of it: a transaction that it stands in goes on.
    fn refused(&mut self, head: Header, problem: &Problem, out: &mut Outputs) -> Taken {
        problem.put(&mut out.to_client);
        backend::put_ready(&mut out.to_client, self.status);
        self.discard = head.len;
        Taken::Bytes(0)
    }

    fn parse(
        &mut self,
        head: Header,
        body: Option<&[u8]>,
        held: &mut Held<'_>,
        cx: &Context<'_>,
        out: &mut Outputs,
    ) -> Result<Taken, Malformed> {
        let Some(body) = body else { return more(head.len, PARSE) };
        self.go_ahead(held, out);
        let parse = frontend::parse(body)?;
        self.guard_batch(held, cx, out);
        self.unsynced = true;
        self.prepared.client_parses += 1;
        if parse.name.is_empty() {
            self.prepared.server_parses += 1;
            self.unnamed.set(parse.query, parse.types);
            let (query, types) = self.stand_in().unwrap_or((parse.query, parse.types));
            frontend::put_parse(&mut out.to_server, b"", query, types);
            self.expects.push(Expect::Parse { shown: true, id: 0 });
            return Ok(Taken::Bytes(head.len));
        }
        let statement = statements::intern(parse.query, parse.types);
        if self.names.contains_key(parse.name) {
            // A second one of that name: the server says so, about its own name of it.
            self.ensure(&statement, cx.prepared, held, out);
            let Statement { name, query, types, .. } = &*statement;
            frontend::put_parse(&mut out.to_server, name, query, types);
            self.prepared.server_parses += 1;
            self.expects.push(Expect::Parse { shown: true, id: 0 });
            return Ok(Taken::Bytes(head.len));
        }
        self.names.insert(parse.name.into(), Arc::clone(&statement));
        self.added.push((parse.name.into(), statement.id));
        if held.statements.touch(statement.id) {
            self.expects.push(Expect::Parsed { id: statement.id });
            self.say_what_is_due(&mut out.to_client);
        } else {
            self.make_room(statement.id, cx.prepared, held, out);
            frontend::put_parse(&mut out.to_server, &statement.name, parse.query, parse.types);
            self.prepared.server_parses += 1;
            self.expects.push(Expect::Parse { shown: true, id: statement.id });
        }
        Ok(Taken::Bytes(head.len))
    }

    fn bind(
        &mut self,
        head: Header,
        rest: &[u8],
        held: &mut Held<'_>,
        cx: &Context<'_>,
        out: &mut Outputs,
    ) -> Result<Taken, Malformed> {
        let there = rest.len().min(head.len);
        let body = rest.get(HEADER..there).unwrap_or_default();
        let bind = match frontend::bind(body) {
            Ok(bind) => bind,
            Err(_) if there < head.len && there < NAMES => return Ok(Taken::Stop(Fed::More)),
            Err(malformed) => return Err(malformed),
        };
        let statement = self.names.get(bind.statement).map(Arc::clone);
        let effect = match &statement {
            Some(statement) => statement.effect.clone(),
            None if bind.statement.is_empty() => self.unnamed.effect(),
            None => Effect::None,
        };
        let refused = self.adopt(&effect, cx);
        if let Some(problem) = &refused
            && self.expects.is_empty()
            && self.status == Status::Idle
        {
            return Ok(self.refused_batch(problem, out));
        }
        self.go_ahead(held, out);
        if self.status != Status::Transaction {
            self.guard_batch(held, cx, out);
        } else if cx.guard.is_some() {
            let text = match &statement {
                Some(statement) => statement.query.to_vec(),
                None => self.unnamed.query().to_vec(),
            };
            self.guard_commit(&text, held, cx, out);
        }
        self.unsynced = true;
        let name = match refused {
            // What came before it in the batch is with the server already, so the server is to fail it.
            Some(_) => REFUSED,
            None => self.use_statement(bind.statement, statement.as_deref(), cx, held, out),
        };
        let shorter = bind.statement.len();
        let len = head.len - 1 - shorter + name.len();
        let len =
            i32::try_from(len).map_err(|_| Malformed("it is longer than a message can be"))?;
        out.to_server.push(frontend::BIND);
        out.to_server.extend_from_slice(&len.to_be_bytes());
        out.to_server.extend_from_slice(bind.portal);
        out.to_server.push(0);
        out.to_server.extend_from_slice(name);
        out.to_server.push(0);
        self.prepared.binds += 1;
        self.expects.push(Expect::Bind { shown: true });
        if bind.portal.is_empty() {
            self.bound = effect;
        } else if let Some(statement) = statement {
            self.portals.push((bind.portal.into(), statement));
        }
        self.pass = bind.rest.len() + (head.len - there);
        Ok(Taken::Bytes(there - bind.rest.len()))
    }

    /// What a statement of the client is called on this server, which has it afterwards.
    fn use_statement<'a>(
        &mut self,
        name: &'a [u8],
        statement: Option<&'a Statement>,
        cx: &Context<'_>,
        held: &mut Held<'_>,
        out: &mut Outputs,
    ) -> &'a [u8] {
        match statement {
            Some(statement) => {
                self.ensure(statement, cx.prepared, held, out);
                &statement.name
            }
            None if name.is_empty() => {
                self.ensure_unnamed(out);
                if self.unnamed.known { name } else { NOBODY }
            }
            // One that the client has prepared in SQL has its own name; the names of others are no business of its.
            None if name.starts_with(b"hm_") => NOBODY,
            None => name,
        }
    }

    fn named(
        &mut self,
        head: Header,
        body: &[u8],
        held: &mut Held<'_>,
        cx: &Context<'_>,
        out: &mut Outputs,
    ) -> Result<(), Malformed> {
        self.go_ahead(held, out);
        self.guard_batch(held, cx, out);
        self.unsynced = true;
        match (frontend::named(body)?, head.tag) {
            (Named::Statement(name), frontend::DESCRIBE) => {
                let statement = self.names.get(name).map(Arc::clone);
                let name = self.use_statement(name, statement.as_deref(), cx, held, out);
                frontend::put_statement(&mut out.to_server, frontend::DESCRIBE, name);
                self.expects.push(Expect::Describe);
            }
            (Named::Statement(name), _) => {
                // The server keeps it: others use it, too.
                self.names.remove(name);
                if name.is_empty() {
                    self.unnamed.known = false;
                }
                self.expects.push(Expect::Closed);
                self.say_what_is_due(&mut out.to_client);
            }
            (Named::Portal(name), tag) => {
                crate::wire::message(&mut out.to_server, tag, |out| out.extend_from_slice(body));
                self.expects.push(if tag == frontend::DESCRIBE {
                    Expect::Describe
                } else {
                    self.portals.retain(|(portal, _)| **portal != *name);
                    Expect::Close { shown: true, evicted: 0 }
                });
            }
        }
        Ok(())
    }

    fn execute(
        &mut self,
        head: Header,
        body: &[u8],
        held: &mut Held<'_>,
        out: &mut Outputs,
    ) -> Result<(), Malformed> {
        self.go_ahead(held, out);
        self.unsynced = true;
        let portal = frontend::execute(body)?;
        let effect = if portal.is_empty() {
            self.bound.clone()
        } else {
            let known = self.portals.iter().rev().find(|(name, _)| **name == *portal);
            known.map_or(Effect::None, |(_, statement)| statement.effect.clone())
        };
        self.may_change(&effect);
        let effect = self.note(effect);
        crate::wire::message(&mut out.to_server, head.tag, |out| out.extend_from_slice(body));
        self.expects.push(Expect::Execute { shown: true, effect });
        Ok(())
    }

    fn sync(&mut self, held: &mut Held<'_>, cx: &Context<'_>, out: &mut Outputs) {
        self.go_ahead(held, out);
        self.guard_late(held, cx, out);
        out.to_server.extend_from_slice(&frontend::SYNC_MESSAGE);
        self.expects.push(Expect::Sync { shown: true });
        self.unsynced = false;
        self.skipping = false;
    }

    /// A refusal of the first of extended messages: the rest up to `Sync` is skipped, as a server does.
    fn refused_batch(&mut self, problem: &Problem, out: &mut Outputs) -> Taken {
        problem.put(&mut out.to_client);
        self.skipping = true;
        self.fresh = false;
        Taken::Bytes(0)
    }

    /// What is sent in place of the unnamed statement where that only concerns names kept here: a text and its types.
    fn stand_in(&self) -> Option<(&'static [u8], &'static [u8])> {
        match &self.unnamed.effect {
            Some(Effect::Deallocate(name)) if self.names.contains_key(name.as_bytes()) => {
                // Answers with no rows and changes nothing.
                Some((b"DISCARD PLANS", &[0, 0]))
            }
            _ => None,
        }
    }

    fn batch_runs(&self) -> bool {
        let runs = |expect: &Expect| {
            matches!(
                expect,
                Expect::Bind { .. } | Expect::Execute { .. } | Expect::Query { of: Of::Client, .. }
            )
        };
        self.expects.iter().any(runs) || self.pinned().is_some()
    }
}

impl super::Unnamed {
    fn set(&mut self, query: &[u8], types: &[u8]) {
        self.text.clear();
        self.text.extend_from_slice(query);
        self.text.extend_from_slice(types);
        self.types = query.len();
        self.known = true;
        self.at_server = true;
        self.effect = Some(str::from_utf8(query).map_or(Effect::Unknown, effects::effect));
    }

    fn effect(&self) -> Effect {
        self.effect.clone().filter(|_| self.known).unwrap_or(Effect::None)
    }
}

/// The rest of a message is needed, if it is no longer than `most`.
fn more(len: usize, most: usize) -> Result<Taken, Malformed> {
    if len > most {
        return Err(Malformed("it is longer than the gateway takes"));
    }
    Ok(Taken::Stop(Fed::More))
}
