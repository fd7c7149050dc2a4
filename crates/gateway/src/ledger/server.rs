//! The client's connection to a node, and what goes to and fro on it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use herdsman_ledger::node::{Native, SqlError};
use tokio::io::AsyncReadExt;

use super::LedgerDoor;
use super::fault::{Fault, Trouble};
use super::session::{AHEAD, READ, Session, Tx, leave};
use super::step::{Prepared, Step};
use crate::pool::ServerIdentity;
use crate::wire::backend::{self, COMPLETE};
use crate::wire::frontend;

/// The connection's own name to its server, which clients do not change: by it the log finds who holds it up.
pub(super) const APPLICATION: &str = "application_name";
/// Asks for the answers so far, whole.
const FLUSH: [u8; 5] = [frontend::FLUSH, 0, 0, 0, 4];

/// How long a server may take to prepare a statement again.
const PREPARE: Duration = Duration::from_secs(30);

/// A connection to a node.
pub(super) struct Server {
    pub(super) native: Box<dyn Native>,
    pub(super) node: String,
}

impl Server {
    /// Connects to a node, with the settings and the prepared statements that the client has.
    async fn connect(
        door: &LedgerDoor,
        settings: &[(String, String)],
        statements: &HashMap<Vec<u8>, Prepared>,
    ) -> Result<Self, Fault> {
        let node = door.node()?;
        let mut native = door.ledger.native(&node).await?;
        for (_, sql) in settings {
            native.command(sql).await?;
        }
        let mut server = Self { native, node };
        for statement in statements.values() {
            if let Prepared::There { message, .. } = statement {
                server.prepare(message).await?;
            }
        }
        Ok(server)
    }

    /// Prepares a statement as the client did. If that fails now, its use will say so.
    async fn prepare(&mut self, message: &[u8]) -> Result<(), Fault> {
        let gone = || Fault::new("57P03", "the connection to the node is gone");
        let wire = self.native.wire().ok_or_else(gone)?;
        let mut out = BytesMut::from(message);
        out.extend_from_slice(&frontend::SYNC_MESSAGE);
        let ready = async {
            while wire.exchange(&mut out).await?.first() != Some(&backend::READY) {}
            std::io::Result::Ok(())
        };
        let answered = tokio::time::timeout(PREPARE, ready).await;
        answered.ok().and_then(Result::ok).ok_or_else(gone)
    }
}

impl Session {
    /// The connection; made if there is none.
    pub(super) async fn server(&mut self) -> Result<&mut Server, Fault> {
        let there = match self.server.take() {
            Some(mut server) => server.native.wire().is_some().then_some(server),
            None => None,
        };
        let server = match there {
            Some(server) => server,
            None => {
                let mut server =
                    Server::connect(&self.door, &self.settings, &self.statements).await?;
                if let Some(wire) = server.native.wire() {
                    let identity = ServerIdentity::new(
                        self.card.id,
                        0,
                        wire.backend(),
                        Arc::clone(wire.info()),
                    );
                    self.card.cancel.set(Some(Arc::new(identity)));
                }
                server
            }
        };
        Ok(self.server.insert(server))
    }

    /// Has no connection from now on.
    pub(super) fn drop_server(&mut self) {
        self.card.cancel.set(None);
        self.server = None;
    }

    /// Says something of ours to the server, in the transaction where there is one.
    pub(super) async fn command(&mut self, sql: &str) -> Result<(), Trouble> {
        match self.server().await?.native.command(sql).await {
            Err(SqlError::Node(error)) => Err(self.lost(&error.to_string())),
            done => Ok(done?),
        }
    }

    /// The server's next message.
    async fn receive(&mut self, out: &mut BytesMut) -> Result<BytesMut, Trouble> {
        let wire = self.server.as_mut().and_then(|server| server.native.wire());
        let Some(wire) = wire else { return Err(self.lost("it is gone")) };
        let said = loop {
            let room = self.unread.len() < AHEAD;
            self.unread.reserve(READ);
            tokio::select! {
                said = wire.exchange(out) => break said,
                read = self.stream.read_buf(&mut self.unread), if room => {
                    if read? == 0 {
                        return Err(Trouble::Leave(None));
                    }
                }
                problem = leave(&self.card, true) => return Err(Trouble::Leave(Some(problem))),
            }
        };
        said.map_err(|error| self.lost(&error.to_string()))
    }

    /// The connection is of no use any more.
    fn lost(&mut self, why: &str) -> Trouble {
        let server = self.server.take();
        self.card.cancel.set(None);
        Trouble::Lost(match server {
            Some(server) if server.native.is_beaten() => {
                "an entry of the log had to wait for the transaction, which was ended for it"
                    .to_owned()
            }
            Some(server) => format!(
                "the connection to node {:?} was lost ({why}); nothing of the transaction is committed",
                server.node
            ),
            None => "the connection to the node was lost; nothing of the transaction is committed"
                .to_owned(),
        })
    }

    /// Sends a run of extended messages, or one simple query, and passes the answers on. `again`: what is prepared already
    /// is not prepared once more.
    pub(super) async fn perform(&mut self, run: &[Step], again: bool) -> Result<(), Trouble> {
        let (mut fit, mut unfit) = (run, None);
        if self.tx != Tx::Idle {
            for (at, step) in run.iter().enumerate() {
                let Some(sql) = step.checked() else { continue };
                let native = &mut self.server().await?.native;
                if let Err(error) = native.check(sql).await {
                    (fit, unfit) = (run.get(..at).unwrap_or_default(), Some(error));
                    break;
                }
            }
        }
        let there = |step: &Step| {
            again && step.named().is_some_and(|name| self.statements.contains_key(name))
        };
        let skipped: Vec<bool> = fit.iter().map(there).collect();
        let mut out = BytesMut::new();
        for (step, skipped) in fit.iter().zip(&skipped) {
            if !skipped {
                out.extend_from_slice(step.unnamed().unwrap_or_default());
                out.extend_from_slice(step.message());
            }
        }
        let simple = matches!(fit, [Step::Query { .. }]);
        if !simple && !out.is_empty() {
            // Outside of a transaction nothing may be left half done.
            let end = if self.tx == Tx::Idle { frontend::SYNC_MESSAGE } else { FLUSH };
            out.extend_from_slice(&end);
        }
        let synced = !simple && self.tx == Tx::Idle && !out.is_empty();
        for (step, skipped) in fit.iter().zip(skipped) {
            if skipped {
                self.pass_on(&[backend::PARSE_COMPLETE, 0, 0, 0, 4]).await?;
            } else {
                self.answer_to(step, &mut out, synced).await?;
            }
        }
        if synced {
            self.until_ready(&mut out).await?;
        }
        unfit.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Passes the answer to one message on.
    async fn answer_to(
        &mut self,
        step: &Step,
        out: &mut BytesMut,
        synced: bool,
    ) -> Result<(), Trouble> {
        let (mut refused, mut unasked) = (None, step.unnamed().is_some());
        loop {
            let said = self.receive(out).await?;
            match said.first() {
                Some(&backend::ERROR) if refused.is_none() => {
                    if !matches!(step, Step::Query { .. }) {
                        // Behind what may not have been sent yet, which is passed over.
                        if !synced {
                            out.extend_from_slice(&frontend::SYNC_MESSAGE);
                        }
                        self.until_ready(out).await?;
                        return Err(Trouble::Server(said));
                    }
                    refused = Some(said);
                }
                Some(&backend::READY) => {
                    return refused.map_or(Ok(()), |it| Err(Trouble::Server(it)));
                }
                Some(&(backend::COPY_IN | backend::COPY_OUT | backend::COPY_BOTH)) => {
                    self.drop_server();
                    return Err(Fault::new("0A000", "COPY is not for a ledger").into());
                }
                Some(&backend::PARSE_COMPLETE) if unasked => unasked = false,
                Some(&tag) => {
                    if tag == COMPLETE {
                        self.completes();
                    }
                    self.pass_on(&said).await?;
                    if step.is_answered_by(tag) {
                        self.done(step);
                        return Ok(());
                    }
                }
                None => {}
            }
        }
    }

    /// Passes over what comes until the server is ready for something new.
    async fn until_ready(&mut self, out: &mut BytesMut) -> Result<(), Trouble> {
        while self.receive(out).await?.first() != Some(&backend::READY) {}
        Ok(())
    }

    /// A message has been carried out.
    fn done(&mut self, step: &Step) {
        match step {
            Step::Parse { name, message, sql } => {
                let (message, sql) = (message.clone(), sql.clone());
                self.statements.insert(name.clone(), Prepared::There { message, sql });
            }
            Step::Close { statement: Some(name), .. } => drop(self.statements.remove(name)),
            _ => {}
        }
    }
}
