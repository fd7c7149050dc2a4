//! Answers on their way to the client, and those that wait until it is known whether they hold.

use std::io;

use tokio::io::AsyncWriteExt;

use super::fault::Trouble;
use super::server::APPLICATION;
use super::session::{HELD_MOST, OUT_MOST, Session, Tx};
use crate::wire::backend::{self, Status};

/// Answers that the client has not been given yet.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: Vec<u8>,
    /// Where the last `CommandComplete` begins.
    complete: Option<usize>,
}

impl Session {
    /// Gives an answer to the client, or keeps it back until it is known whether it holds.
    pub(super) async fn pass_on(&mut self, said: &[u8]) -> Result<(), Trouble> {
        if self.tx == Tx::Implicit && !self.shown {
            self.held.bytes.extend_from_slice(said);
            if self.held.bytes.len() > HELD_MOST {
                self.show().await?;
            }
            return Ok(());
        }
        self.out.extend_from_slice(said);
        if self.out.len() > OUT_MOST {
            self.send().await?;
        }
        Ok(())
    }

    /// The next that is passed on says that a statement is done.
    pub(super) fn completes(&mut self) {
        self.held.complete = Some(self.held.bytes.len());
    }

    /// Shows the client what was kept back.
    pub(super) async fn show(&mut self) -> Result<(), Trouble> {
        if self.tx == Tx::Implicit {
            self.shown = true;
        }
        let held = std::mem::take(&mut self.held);
        self.out.extend_from_slice(&held.bytes);
        if self.out.len() > OUT_MOST {
            self.send().await?;
        }
        Ok(())
    }

    /// Forgets what was kept back; `from_last`: only that the last statement was done.
    pub(super) fn forget_answers(&mut self, from_last: bool) {
        match (from_last, self.held.complete) {
            (true, Some(at)) => self.held.bytes.truncate(at),
            (true, None) => {}
            (false, _) => self.held.bytes.clear(),
        }
        self.held.complete = None;
    }

    /// Tells the client what has become of its session, and that it may go on.
    pub(super) fn ready(&mut self) {
        if let Some(wire) = self.server.as_mut().and_then(|server| server.native.wire()) {
            for (name, value) in wire.parameters() {
                if name != APPLICATION && self.told.get(name) != Some(value) {
                    backend::put_parameter(&mut self.out, name, value);
                    self.told.insert(name.clone(), value.clone());
                }
            }
        }
        let status = match self.tx {
            Tx::Idle | Tx::Implicit => Status::Idle,
            Tx::Explicit => Status::Transaction,
            Tx::Failed => Status::Failed,
        };
        backend::put_ready(&mut self.out, status);
    }

    pub(super) async fn send(&mut self) -> io::Result<()> {
        if !self.out.is_empty() {
            self.stream.write_all(&self.out).await?;
            self.out.clear();
            self.out.shrink_to(OUT_MOST);
        }
        self.stream.flush().await
    }
}
