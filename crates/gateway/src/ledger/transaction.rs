//! Where transactions begin and end.

use std::time::Duration;

use herdsman_ledger::engine::request::random_request;
use herdsman_ledger::engine::{Committed, RequestError};
use herdsman_ledger::node::SqlError;

use super::fault::{CONFLICT, Fault, Trouble, put_warning};
use super::session::{HELD_MOST, Level, Session, Tx};
use super::step::{Step, bytes};
use crate::wire::backend;

/// How long who was beaten waits, at most and times the attempt.
const BREATH_MS: u64 = 10;

impl Session {
    /// Begins a transaction at a node that has what the client may expect to see.
    pub(super) async fn begin(&mut self, tx: Tx, read_only: bool) -> Result<(), Trouble> {
        if self.server.as_ref().is_some_and(|it| self.door.has_better_than(&it.node)) {
            self.drop_server();
        }
        for last in [false, true] {
            let node = match self.server().await {
                Ok(server) => server.node.clone(),
                Err(_) if !last => continue,
                Err(fault) => return Err(fault.into()),
            };
            let ledger = self.door.ledger.clone();
            let fresh = match self.read {
                Level::Eventual => Ok(()),
                Level::Session => ledger.reached(&node, self.seen, self.door.deadline).await,
                Level::Linearizable => ledger.barrier(&node).await.map(drop),
            };
            let begun = match fresh {
                Ok(()) => self.server().await?.native.begin(read_only).await.map_err(Into::into),
                Err(error) => Err(error),
            };
            match begun {
                Ok(()) => break,
                // Another node may be there, or the same one again.
                Err(RequestError::Node(..) | RequestError::Sql(SqlError::Node(_))) if !last => {
                    self.drop_server();
                }
                Err(error) => {
                    self.drop_server();
                    return Err(error.into());
                }
            }
        }
        self.tx = tx;
        self.serializable = self.serializable_default;
        self.shown = false;
        self.steps.clear();
        Ok(())
    }

    /// Commits what was done. The transaction is over, whatever comes of it.
    pub(super) async fn commit(&mut self) -> Result<(), Trouble> {
        let serializable = self.serializable;
        let Some(server) = &mut self.server else {
            self.end();
            return Err(Fault::new(CONFLICT, "the connection to the node was lost").into());
        };
        let captured = match server.native.capture().await {
            Ok(captured) => captured,
            Err(error) => {
                self.roll_back().await;
                return Err(match error {
                    SqlError::Node(error) => Trouble::Lost(error.to_string()),
                    error => error.into(),
                });
            }
        };
        let (node, request) = (server.node.clone(), random_request());
        let ledger = self.door.ledger.clone();
        let pending = std::mem::take(&mut self.pending);
        let done = ledger.commit_captured(&node, request, captured, serializable).await;
        self.end();
        let Committed { at, acknowledged, .. } = done?;
        if let Some(at) = at {
            self.seen = self.seen.max(at);
            backend::put_parameter(&mut self.out, "herdsman.offset", &self.seen.to_string());
        }
        if !acknowledged {
            let text = "committed, but not yet on as many nodes as `ledger.ack` asks for";
            put_warning(&mut self.out, "01000", text);
        }
        for (name, sql) in pending {
            self.settings.retain(|(known, _)| *known != name);
            let reset = format!("RESET \"{}\"", name.replace('.', "\".\""));
            if !self.renew {
                self.command(sql.as_ref().unwrap_or(&reset)).await?;
            }
            self.settings.extend(sql.map(|sql| (name, sql)));
        }
        Ok(())
    }

    /// Ends the transaction without a trace.
    pub(super) async fn roll_back(&mut self) {
        if let Some(server) = &mut self.server {
            server.native.roll_back().await;
        }
        self.end();
    }

    fn end(&mut self) {
        self.tx = Tx::Idle;
        self.pending.clear();
        self.portals.clear();
        if std::mem::take(&mut self.renew) {
            self.drop_server();
        }
    }

    /// Commits what stands alone; where others were first, it is done again.
    pub(super) async fn commit_alone(&mut self) -> Result<(), Trouble> {
        let mut number = 1;
        loop {
            let steps = std::mem::take(&mut self.steps);
            match self.commit().await {
                Err(trouble) if trouble.may_be_tried_again() && !self.shown => {
                    number = self.again(&steps, number, trouble).await?;
                }
                done => return done,
            }
        }
    }

    /// Does the steps of an implicit transaction, which may have been begun; where others were first, all of it again.
    pub(super) async fn do_alone(&mut self, run: &[Step]) -> Result<(), Trouble> {
        match self.perform(run, false).await {
            Err(trouble) if trouble.may_be_tried_again() && !self.shown => {
                let all = [std::mem::take(&mut self.steps).as_slice(), run].concat();
                self.again(&all, 1, trouble).await.map(drop)
            }
            done => {
                if !self.shown {
                    self.steps.extend_from_slice(run);
                }
                if bytes(&self.steps) > HELD_MOST {
                    // It will not be run again.
                    self.steps.clear();
                    self.show().await?;
                }
                done
            }
        }
    }

    /// Does the steps again in a new transaction, until nobody is first or it was tried often enough. The last attempt's
    /// number.
    async fn again(
        &mut self,
        steps: &[Step],
        mut number: u32,
        mut trouble: Trouble,
    ) -> Result<u32, Trouble> {
        let modes = self.serializable;
        while number < self.door.attempts {
            number = number.saturating_add(1);
            let breath = fastrand::u64(0..=BREATH_MS.saturating_mul(u64::from(number)));
            tokio::time::sleep(Duration::from_millis(breath)).await;
            self.roll_back().await;
            self.forget_answers(false);
            self.begin(Tx::Implicit, false).await?;
            self.serializable = modes;
            let mut done = Ok(());
            for part in steps.chunk_by(|one, next| ![one, next].iter().any(|it| it.is_query())) {
                done = self.perform(part, true).await;
                if done.is_err() {
                    break;
                }
            }
            match done {
                Ok(()) => {
                    self.steps = steps.to_vec();
                    return Ok(number);
                }
                Err(again) if again.may_be_tried_again() && !self.shown => trouble = again,
                Err(other) => return Err(other),
            }
        }
        Err(trouble)
    }

    /// Tells the client of an error; the transaction has failed. `at_the_end`: in the place of the last statement's word
    /// that it was done.
    pub(super) async fn fail(
        &mut self,
        trouble: &Trouble,
        at_the_end: bool,
    ) -> Result<(), Trouble> {
        if at_the_end {
            self.forget_answers(true);
        }
        self.show().await?;
        match self.tx {
            Tx::Idle | Tx::Failed => {}
            Tx::Implicit => self.roll_back().await,
            Tx::Explicit => self.tx = Tx::Failed,
        }
        trouble.put(&mut self.out);
        Ok(())
    }
}
