//! Messages of the extended protocol: statements under names of the client's own, which servers know by others.

use std::sync::Arc;

use super::super::expect::{Expect, Of};
use super::super::{Outputs, Session, Unnamed};
use super::{Fed, Leased, NAMES, Taken, more};
use crate::effects::{self, Effect};
use crate::statements::{self, Statement};
use crate::wire::backend::Status;
use crate::wire::frontend::Named;
use crate::wire::{HEADER, Header, Malformed, Problem, frontend};

/// No text to prepare is longer.
const PARSE: usize = 16 << 20;
/// A name no client's statement has on a server: to use it is the error that PostgreSQL gives for an unknown one.
const NOBODY: &[u8] = b"hm_none";

/// The same for one that `session_state: refuse` does not let pass; the server's error names it.
const REFUSED: &[u8] = b"(it needs a session of its own: session_state is refuse)";

impl Session {
    pub(super) fn parse(
        &mut self,
        head: Header,
        rest: &[u8],
        lease: &mut Leased<'_>,
    ) -> Result<Taken, Malformed> {
        let Some(message) = rest.get(..head.len) else { return more(head.len, PARSE) };
        let body = message.get(HEADER..).unwrap_or_default();
        self.go_ahead(lease);
        let parse = frontend::parse(body)?;
        self.guard_batch(lease);
        self.unsynced = true;
        self.prepared.client_parses += 1;
        if parse.name.is_empty() {
            self.prepared.server_parses += 1;
            self.unnamed.set(parse.query, parse.types);
            match self.stand_in() {
                Some((query, types)) => {
                    frontend::put_parse(&mut lease.out.to_server, b"", query, types);
                }
                None => lease.out.to_server.extend_from_slice(message),
            }
            self.expects.push(Expect::Parse { shown: true, id: 0 });
            return Ok(Taken::Bytes(head.len));
        }
        let statement = statements::intern(parse.query, parse.types);
        if self.names.contains_key(parse.name) {
            // A second one of that name: the server says so, about its own name of it.
            self.ensure(&statement, lease);
            let Statement { name, query, types, .. } = &*statement;
            frontend::put_parse(&mut lease.out.to_server, name, query, types);
            self.prepared.server_parses += 1;
            self.expects.push(Expect::Parse { shown: true, id: 0 });
            return Ok(Taken::Bytes(head.len));
        }
        self.names.insert(parse.name.into(), Arc::clone(&statement));
        self.added.push((parse.name.into(), statement.id));
        if lease.held.statements.touch(statement.id) {
            self.expects.push(Expect::Parsed { id: statement.id });
            self.say_what_is_due(&mut lease.out.to_client);
        } else {
            self.make_room(statement.id, lease.cx.prepared, lease);
            frontend::put_parse(
                &mut lease.out.to_server,
                &statement.name,
                parse.query,
                parse.types,
            );
            self.prepared.server_parses += 1;
            self.expects.push(Expect::Parse { shown: true, id: statement.id });
        }
        Ok(Taken::Bytes(head.len))
    }

    pub(super) fn bind(
        &mut self,
        head: Header,
        rest: &[u8],
        lease: &mut Leased<'_>,
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
        let refused = self.adopt(&effect, lease.cx);
        if let Some(problem) = &refused
            && self.expects.is_empty()
            && self.status == Status::Idle
        {
            return Ok(self.refused_batch(problem, lease.out));
        }
        self.go_ahead(lease);
        if self.status != Status::Transaction {
            self.guard_batch(lease);
        } else if lease.cx.guard.is_some() {
            let text = match &statement {
                Some(statement) => statement.query.to_vec(),
                None => self.unnamed.query().to_vec(),
            };
            self.guard_commit(&text, lease);
        }
        self.unsynced = true;
        let name = match refused {
            // What came before it in the batch is with the server already, so the server is to fail it.
            Some(_) => REFUSED,
            None => self.use_statement(bind.statement, statement.as_deref(), lease),
        };
        if name == bind.statement {
            lease.out.to_server.extend_from_slice(rest.get(..there).unwrap_or_default());
        } else {
            let len = head.len - 1 - bind.statement.len() + name.len();
            let len =
                i32::try_from(len).map_err(|_| Malformed("it is longer than a message can be"))?;
            lease.out.to_server.push(frontend::BIND);
            lease.out.to_server.extend_from_slice(&len.to_be_bytes());
            lease.out.to_server.extend_from_slice(bind.portal);
            lease.out.to_server.push(0);
            lease.out.to_server.extend_from_slice(name);
            lease.out.to_server.push(0);
            lease.out.to_server.extend_from_slice(bind.rest);
        }
        self.prepared.binds += 1;
        self.expects.push(Expect::Bind { shown: true });
        if bind.portal.is_empty() {
            self.bound = effect;
        } else if let Some(statement) = statement {
            self.portals.push((bind.portal.into(), statement));
        }
        self.pass = head.len - there;
        Ok(Taken::Bytes(there))
    }

    /// What a statement of the client is called on this server, which has it afterwards.
    fn use_statement<'a>(
        &mut self,
        name: &'a [u8],
        statement: Option<&'a Statement>,
        lease: &mut Leased<'_>,
    ) -> &'a [u8] {
        match statement {
            Some(statement) => {
                self.ensure(statement, lease);
                &statement.name
            }
            None if name.is_empty() => {
                self.ensure_unnamed(lease.out);
                if self.unnamed.known { name } else { NOBODY }
            }
            // One that the client has prepared in SQL has its own name; the names of others are no business of its.
            None if name.starts_with(b"hm_") => NOBODY,
            None => name,
        }
    }

    pub(super) fn named(
        &mut self,
        message: &[u8],
        body: &[u8],
        lease: &mut Leased<'_>,
    ) -> Result<(), Malformed> {
        self.go_ahead(lease);
        self.guard_batch(lease);
        self.unsynced = true;
        let tag = message.first().copied().unwrap_or_default();
        match (frontend::named(body)?, tag) {
            (Named::Statement(name), frontend::DESCRIBE) => {
                let statement = self.names.get(name).map(Arc::clone);
                let name = self.use_statement(name, statement.as_deref(), lease);
                frontend::put_statement(&mut lease.out.to_server, frontend::DESCRIBE, name);
                self.expects.push(Expect::Describe);
            }
            (Named::Statement(name), _) => {
                // The server keeps it: others use it, too.
                self.names.remove(name);
                if name.is_empty() {
                    self.unnamed.known = false;
                }
                self.expects.push(Expect::Closed);
                self.say_what_is_due(&mut lease.out.to_client);
            }
            (Named::Portal(name), tag) => {
                lease.out.to_server.extend_from_slice(message);
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

    pub(super) fn execute(
        &mut self,
        message: &[u8],
        body: &[u8],
        lease: &mut Leased<'_>,
    ) -> Result<(), Malformed> {
        self.go_ahead(lease);
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
        lease.out.to_server.extend_from_slice(message);
        self.expects.push(Expect::Execute { shown: true, effect });
        Ok(())
    }

    pub(super) fn sync(&mut self, lease: &mut Leased<'_>) {
        self.go_ahead(lease);
        self.guard_late(lease);
        lease.out.to_server.extend_from_slice(&frontend::SYNC_MESSAGE);
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

    pub(super) fn batch_runs(&self) -> bool {
        let runs = |expect: &Expect| {
            matches!(
                expect,
                Expect::Bind { .. } | Expect::Execute { .. } | Expect::Query { of: Of::Client, .. }
            )
        };
        self.expects.iter().any(runs) || self.pinned().is_some()
    }
}

impl Unnamed {
    fn set(&mut self, query: &[u8], types: &[u8]) {
        // Many clients send the same text again and again.
        if self.effect.is_none() || self.query() != query {
            self.effect = Some(str::from_utf8(query).map_or(Effect::Unknown, effects::effect));
        }
        self.text.clear();
        self.text.extend_from_slice(query);
        self.text.extend_from_slice(types);
        self.types = query.len();
        self.known = true;
        self.at_server = true;
    }

    fn effect(&self) -> Effect {
        self.effect.clone().filter(|_| self.known).unwrap_or(Effect::None)
    }
}
