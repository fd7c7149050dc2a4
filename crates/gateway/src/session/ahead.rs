//! What is sent ahead of a client's first bytes on a server: its settings and the `BEGIN` it was already answered.

use super::expect::{Expect, Of};
use super::fromclient::Leased;
use super::{Outputs, Session, Tx};
use crate::statements::{self, Statement};
use crate::wire::backend::Status;
use crate::wire::frontend;

impl Session {
    /// Sends ahead what has to be, if this is the first message on this server.
    pub(super) fn go_ahead(&mut self, lease: &mut Leased<'_>) {
        let fresh = std::mem::take(&mut self.fresh);
        // After a RESET of the client's the server is back at its own beginning, which is not the client's.
        let astray = lease.held.settings.id != self.settings.id;
        if astray && (fresh || self.is_quiet() && self.status != Status::Failed) {
            let change = self.settings.change_from(lease.held.settings);
            if !change.is_empty() {
                frontend::put_query(&mut lease.out.to_server, change.as_bytes());
                self.expects.push(Expect::Query { of: Of::Ahead, effect: false });
            }
            *lease.held.settings = self.settings.clone();
        }
        if !fresh {
            return;
        }
        if let Tx::Ahead { begin, .. } = &self.tx {
            frontend::put_query(&mut lease.out.to_server, begin);
            self.expects.push(Expect::Query { of: Of::Ahead, effect: false });
            self.tx = Tx::AtServer;
        }
    }

    /// Makes sure that the server has a statement, parsing it ahead of its use where it has not.
    pub(super) fn ensure(&mut self, statement: &Statement, lease: &mut Leased<'_>) {
        if lease.held.statements.touch(statement.id) {
            return;
        }
        self.make_room(statement.id, lease.cx.prepared, lease);
        let Statement { name, query, types, .. } = statement;
        frontend::put_parse(&mut lease.out.to_server, name, query, types);
        self.prepared.server_parses += 1;
        self.expects.push(Expect::Parse { shown: false, id: statement.id });
    }

    /// Counts a statement in; the one that has to go for it is closed.
    pub(super) fn make_room(&mut self, id: u64, most: usize, lease: &mut Leased<'_>) {
        if let Some(evicted) = lease.held.statements.add(id, most) {
            let name = statements::server_name(evicted);
            frontend::put_statement(&mut lease.out.to_server, frontend::CLOSE, &name);
            self.expects.push(Expect::Close { shown: false, evicted });
        }
    }

    /// The same for the unnamed statement, which another client may have replaced.
    pub(super) fn ensure_unnamed(&mut self, out: &mut Outputs) {
        if self.unnamed.known && !self.unnamed.at_server {
            let (query, types) = (self.unnamed.query(), self.unnamed.type_bytes());
            frontend::put_parse(&mut out.to_server, b"", query, types);
            self.prepared.server_parses += 1;
            self.expects.push(Expect::Parse { shown: false, id: 0 });
            self.unnamed.at_server = true;
        }
    }
}
