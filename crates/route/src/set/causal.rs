//! Reading what one has written: which readers have come far enough, and how to wait for one.

use std::time::Duration;

use herdsman_node::SystemId;
use sqlx::Row;
use tokio::time::{Instant, timeout_at};

use super::choose::Attempt;
use super::{Inner, ReplicaSet};
use crate::Error;
use crate::attempt::Phase;
use crate::operation::{FetchOptional, Operation, Routed};
use crate::policy::Want;
use crate::session::{Needs, Reach, Replayed, Session, SessionToken, covers, reach};

/// The writer's position that stands for everything acknowledged so far. Without waiting for the disk
/// (`synchronous_commit = off`) a commit is acknowledged before it is flushed, so only the insert position will do; with
/// it the flush position is enough, and an insert position may not be reached by anybody for a long time.
const POSITION: &str = "SELECT system_identifier::text, left(pg_walfile_name(lsn), 8), lsn::text \
     FROM pg_control_system(), (SELECT CASE current_setting('synchronous_commit') \
         WHEN 'off' THEN pg_current_wal_insert_lsn() ELSE pg_current_wal_flush_lsn() END AS lsn) position";

impl ReplicaSet {
    /// A token that stands for everything written so far: a read with it sees all of that, on whichever node.
    ///
    /// Within a [`session`](crate::session()) this is done by itself.
    ///
    /// # Errors
    /// When there is no writer, or it cannot say where it is.
    pub async fn token(&self) -> Result<SessionToken, sqlx::Error> {
        // Not as a write: it is ours, and the session's needs must not grow by asking for them.
        let mut attempt = self.attempt(Want::Read);
        attempt.want = Want::Write;
        let query = Routed::new(sqlx::query(POSITION))?;
        let row =
            self.ask(&FetchOptional, query, attempt).await?.ok_or(sqlx::Error::RowNotFound)?;
        let [system_id, timeline, lsn]: [String; 3] =
            [row.try_get(0)?, row.try_get(1)?, row.try_get(2)?];
        let token = (|| {
            Some(SessionToken {
                system_id: system_id.parse::<SystemId>().ok()?,
                timeline: herdsman_node::Timeline(u32::from_str_radix(&timeline, 16).ok()?),
                lsn: lsn.parse().ok()?,
            })
        })();
        token.ok_or_else(|| {
            sqlx::Error::Protocol(format!(
                "the writer gave no position: {system_id} {timeline} {lsn}"
            ))
        })
    }

    /// Runs a question of our own. It is none of the application's statements, so it is not counted as one, and how long
    /// it takes says nothing about theirs.
    pub(crate) async fn ask<O: Operation>(
        &self,
        operation: &O,
        query: Routed,
        mut attempt: Attempt,
    ) -> Result<O::Output, sqlx::Error> {
        loop {
            let mut lease = self.lease(&mut attempt).await?;
            let gone = lease.epoch().until_gone();
            let result = tokio::select! {
                biased;
                result = operation.run(lease.connection()?, query.clone()) => result,
                error = gone => Err(error),
            };
            match result {
                Ok(output) => {
                    lease.done();
                    return Ok(output);
                }
                Err(error) => {
                    lease.failed(&error);
                    self.after_error(&mut attempt, error, Phase::Sent, None, None)?;
                }
            }
        }
    }

    /// Makes the attempt respect what the session has written.
    pub(super) async fn respect(&self, session: &Session, attempt: &mut Attempt) {
        if let Needs::Token(token) = session.needs()
            && self.is_foreign(&token)
        {
            // Of a cluster that was replaced, or made up: ask anew rather than read from the writer for ever.
            session.wrote();
        }
        if session.needs() == Needs::AskWriter
            && let Err(error) = self.settle(session).await
            && matches!(Error::of(&error), Some(Error::NoWriter { .. }))
        {
            // It was waited for as long as a statement may wait, and is not waited for once more.
            attempt.patience = Duration::ZERO;
        }
        match session.needs() {
            Needs::Nothing => {}
            Needs::Token(token) => {
                attempt.token = Some(token);
                self.await_reader(&token).await;
            }
            Needs::AskWriter | Needs::Writer => attempt.want = Want::Write,
        }
    }

    /// Asks the writer for the position that stands for what the session has written, if one is to be asked for.
    async fn settle(&self, session: &Session) -> Result<Option<SessionToken>, sqlx::Error> {
        let Some(mark) = session.pending() else { return Ok(session.token()) };
        let asked = Box::pin(self.token()).await;
        let token = asked.inspect_err(
            |error| tracing::debug!(%error, "the writer's position could not be had"),
        )?;
        session.settle(mark, token);
        Ok(Some(token))
    }

    /// Whether every reader says that it belongs to another cluster than the token.
    fn is_foreign(&self, token: &SessionToken) -> bool {
        let plan = self.inner.plan.load();
        let another = |node| {
            let system = self.inner.position(node).and_then(|position| position.system_id);
            system.is_some_and(|system| system != token.system_id)
        };
        !plan.readers.is_empty() && plan.readers.iter().all(|seat| another(seat.node))
    }

    /// Waits until a reader has replayed the token, as long as that is to be hoped for within the causal wait.
    async fn await_reader(&self, token: &SessionToken) {
        let inner = &*self.inner;
        let deadline = Instant::now() + inner.settings.causal_wait;
        let mut stir = inner.herd.stir.subscribe();
        loop {
            let plan = inner.plan.load_full();
            let mut hope = false;
            for seat in &plan.readers {
                match inner.reach(seat.node, token) {
                    Reach::Covered => return,
                    Reach::NotYet => {
                        hope = true;
                        if let Some(member) = inner.member(seat.node) {
                            member.pulse.look_now();
                        }
                    }
                    Reach::Never => {}
                }
            }
            if !hope || !matches!(timeout_at(deadline, stir.changed()).await, Ok(Ok(()))) {
                return;
            }
        }
    }
}

impl Inner {
    /// Whether this node has replayed what the token stands for.
    pub(super) fn covers(&self, node: usize, token: &SessionToken) -> bool {
        self.position(node).is_some_and(|position| covers(&position, token))
    }

    fn reach(&self, node: usize, token: &SessionToken) -> Reach {
        self.position(node).map_or(Reach::NotYet, |position| reach(&position, token))
    }

    fn position(&self, node: usize) -> Option<Replayed> {
        self.member(node)?.pulse.read(|seen| seen.position)
    }
}

/// So that [`SessionLayer`](crate::session::SessionLayer) can ask for the position a response is to carry.
#[cfg(feature = "tower")]
impl crate::session::Resolve for ReplicaSet {
    async fn resolve(&self, session: &Session) -> Option<SessionToken> {
        self.settle(session).await.ok().flatten()
    }
}
