//! A server is lost: what that means for what was under way, and what the client is told.

use super::{Outputs, Session, Tx};
use crate::wire::Problem;
use crate::wire::backend::{self, Status};
use crate::wire::error::code;

/// What is known of a loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Its SQLSTATE, where the server said something.
    pub(crate) code: Option<String>,
    /// In words.
    pub(crate) words: String,
    /// Nothing that is unanswered had been sent.
    pub(crate) unsent: bool,
}

/// What becomes of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// It goes on.
    GoesOn,
    /// It has lost state that cannot be made again: it is sent away.
    SentAway,
}

impl Session {
    /// The server on `node` is lost with what was under way. Tells the client, in the protocol's order: the error, and
    /// one `ReadyForQuery` for each that it waits for.
    pub(crate) fn lose(&mut self, node: &str, told: &Told, out: &mut Outputs) -> After {
        let problem = self.loss(node, told);
        let pinned = self.holds_state();
        let waiting = self.expects.readies();
        let asked = waiting > 0 || self.unsynced || self.copying || self.pass > 0;
        let within = self.server_pass > 0;
        let in_block = self.status != Status::Idle;
        let rest = self.pass;
        let unsynced = self.unsynced || self.skipping;
        self.forget_server();
        self.names_undone();
        // What is left of a message the client is in the midst of.
        self.discard = rest;
        self.commits = false;
        if within {
            // In the midst of a message nothing can be said.
            return After::SentAway;
        }
        if pinned.is_some() {
            problem.put_fatal(&mut out.to_client);
            return After::SentAway;
        }
        if let Some((settings, _)) = self.before.take() {
            self.settings = settings;
        }
        if !asked && !in_block {
            // Nobody is waiting for anything.
            self.tx = Tx::AtServer;
            return After::GoesOn;
        }
        let broken = in_block && problem.code != code::OUTCOME_UNKNOWN;
        (self.tx, self.status) =
            if broken { (Tx::Broken, Status::Failed) } else { (Tx::AtServer, Status::Idle) };
        if !asked {
            // It is thinking: it will be told with its next statement.
            self.owed = Some(problem);
            return After::GoesOn;
        }
        problem.put(&mut out.to_client);
        for _ in 0..waiting {
            backend::put_ready(&mut out.to_client, self.status);
        }
        self.skipping = unsynced && waiting == 0;
        After::GoesOn
    }

    /// What a statement that could not be sent anywhere comes to: its batch is answered with the problem.
    pub(crate) fn refuse(&mut self, problem: &Problem, input: &[u8], out: &mut Outputs) {
        problem.put(&mut out.to_client);
        if self.status != Status::Idle {
            (self.tx, self.status) = (Tx::Broken, Status::Failed);
        }
        self.fresh = false;
        match crate::wire::header(input) {
            Ok(Some(head)) if super::local::is_extended(head.tag) => self.skipping = true,
            Ok(Some(head)) => {
                self.discard = head.len;
                backend::put_ready(&mut out.to_client, self.status);
            }
            _ => {}
        }
    }

    fn loss(&self, node: &str, told: &Told) -> Problem {
        let words = &told.words;
        if let Some(why) = self.holds_state() {
            return Problem::new(
                code::SHUTDOWN,
                format!("the connection to node {node} is lost, and with it {why}: {words}"),
            )
            .hint("connect again");
        }
        // A server that ends a session by name (57P01) has not committed what it was doing.
        let unsaid = told.code.as_deref() != Some(code::SHUTDOWN);
        if self.commits && self.writes && unsaid && !told.unsent && !self.expects.is_empty() {
            return Problem::new(
                code::OUTCOME_UNKNOWN,
                format!("node {node} was lost while it was writing; whether the change is there is unknown: {words}"),
            )
            .hint("look whether the change is there before making it again");
        }
        if self.status != Status::Idle {
            return Problem::new(
                code::CONNECTION_FAILURE,
                format!("node {node} was lost, and the transaction with it; nothing of it was committed: {words}"),
            )
            .hint("roll back, and begin the transaction again");
        }
        Problem::new(
            code::CONNECTION_FAILURE,
            format!("node {node} was lost before it had answered: {words}"),
        )
        .hint("the statement may be tried again")
    }
}
