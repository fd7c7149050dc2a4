//! One connection's life: what must be there is made, the place to begin is found, and then it streams.

use std::sync::Arc;
use std::time::Duration;

use herdsman_node::{Conninfo, Lsn, NodeName, Timeline, Tls};
use herdsman_wal::publication::check_order;
use herdsman_wal::{Catalogue, Identity, Replication, Session, Start, Stream, StreamOptions, slot};
use tokio_util::sync::CancellationToken;

use super::again::Again;
use super::beforehand::Beforehand;
use super::copying::{self, Pending};
use super::resume::{Here, Outcome, Reached, history, resume};
use super::{Gap, Phase, Service, ServiceError, guard, heartbeat};
use crate::config::{LostSlot, SnapshotMode};
use crate::engine::{End, Live};
use crate::publication;

/// Bound on each step with the server.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

/// Why a reading ended without an error.
pub(super) enum Ended {
    Shutdown(End),
    /// Another node is the primary.
    Moved(NodeName),
}

/// Where a stream begins, and whether the rows that are there come first.
pub(super) struct Beginning {
    pub(super) from: Lsn,
    pub(super) snapshot: Option<Beforehand>,
}

impl Service {
    /// Reads from this node until it ends.
    pub(super) async fn read_from(
        &mut self,
        node: &NodeName,
        info: &Conninfo,
        shutdown: &CancellationToken,
    ) -> Result<Ended, ServiceError> {
        let tls = Tls::new(info)?;
        let mut session = Session::connect(info, &tls, LIMIT).await?;
        if self.config.create {
            // A publication made after the slot would be stuck on, or its changes silently left out.
            check_order(&session, &self.config.publication, &self.config.slot).await?;
            publication::make(&mut session, &self.config).await?;
        }
        let mut replication = Replication::connect(info, &tls, LIMIT).await?;
        let identity = replication.identify().await?;
        let Beginning { from, snapshot } =
            self.beginning(info, &tls, &session, &mut replication, &identity).await?;
        let mut from = from;
        if let Some(snapshot) = snapshot {
            let point = snapshot.point();
            let at = (node, info, &tls);
            let copied = self.deliver_first(at, &session, &identity, from, snapshot, shutdown);
            if let Some(end) = Box::pin(copied).await? {
                return Ok(end);
            }
            from = point;
        }
        let stream = self.open_stream(replication, info, &tls, from).await?;
        let timeline = stream.source().timeline;
        tracing::info!(%node, %timeline, %from, "streaming");
        self.engine.stats().connected();
        self.phase.send_replace(Phase::Streaming { node: node.clone(), timeline: timeline.0 });
        let tables = copying::tables(&session, &self.config.publication).await?;
        drop(session);
        let (live, state) = (Live::new(stream), &self.config.state);
        let again = Again::new(live, info.clone(), tls.clone(), tables, state);
        self.stream(node, info, &tls, again, shutdown).await
    }

    /// Begins to stream over this connection.
    pub(super) async fn open_stream(
        &self,
        replication: Replication,
        info: &Conninfo,
        tls: &Tls,
        from: Lsn,
    ) -> Result<Stream, ServiceError> {
        let start = Start {
            slot: self.config.slot.clone(),
            publications: vec![self.config.publication.clone()],
            from,
            options: StreamOptions {
                spill_folder: Some(self.config.state.clone()),
                local_only: !self.config.foreign_origins,
                ..StreamOptions::default()
            },
        };
        let catalogue = Catalogue::new(info.clone(), tls.clone(), LIMIT);
        Ok(replication.start(start).await?.with_catalogue(catalogue))
    }

    /// Delivers what comes, while somebody else looks after the heartbeat and the log that is held back.
    async fn stream(
        &mut self,
        node: &NodeName,
        info: &Conninfo,
        tls: &Tls,
        mut live: Again,
        shutdown: &CancellationToken,
    ) -> Result<Ended, ServiceError> {
        let beside = CancellationToken::new();
        let stop = beside.clone().drop_guard();
        if let Some(pause) = self.config.heartbeat {
            tokio::spawn(heartbeat::run(info.clone(), tls.clone(), pause, beside.clone()));
        }
        let stats = self.engine.stats();
        let guarding = guard::run(info, tls, &self.config, &stats);
        let source = Arc::clone(crate::engine::Events::source(&live));
        let outcome = tokio::select! {
            outcome = self.engine.run(&mut live, shutdown.clone()) => {
                outcome.map(Ended::Shutdown).map_err(ServiceError::from)
            }
            to = self.herd.moved_from(node) => Ok(Ended::Moved(to)),
            reason = guarding => {
                live.into_live().into_stream().close().await;
                return Err(guard::carry_out(reason, info, tls, &self.config).await);
            }
        };
        drop(stop);
        // Where to go on from, should it be another server: what is saved, at least.
        let (handled, given) = (self.engine.safe(), self.engine.received());
        let before = self.reached.map_or(Lsn(0), |reached| reached.handled);
        if handled.max(given) > before {
            self.reached = Some(Reached {
                system_id: source.system_id,
                timeline: source.timeline,
                handled: handled.max(before),
                given: given.max(handled).max(before),
            });
        }
        if matches!(outcome, Ok(Ended::Shutdown(_))) {
            live.into_live().into_stream().close().await;
        }
        outcome
    }

    /// Finds where to begin; makes the slot where it is missing and may be made.
    async fn beginning(
        &mut self,
        info: &Conninfo,
        tls: &Tls,
        session: &Session,
        replication: &mut Replication,
        identity: &Identity,
    ) -> Result<Beginning, ServiceError> {
        let history = timeline_history(replication, identity.timeline).await?;
        let found = slot::inspect(session, &self.config.slot).await?;
        let pending = Pending::load(&self.config.state)?;
        if let (Some(pending), Some(found)) = (pending, &found)
            && let Some(from) = found.confirmed
            && found.lost().is_none()
        {
            let snapshot = Some(self.go_on(info, tls, pending).await?);
            return Ok(Beginning { from, snapshot });
        }
        let first_time = self.reached.is_none() && found.is_none();
        if first_time && self.config.create {
            let wanted = self.config.snapshot == SnapshotMode::Initial;
            return self.new_slot(info, tls, wanted).await;
        }
        let here = Here {
            endpoint: session.endpoint(),
            identity,
            history: &history,
            slot: found.as_ref(),
            slot_name: self.config.slot.as_str(),
        };
        let gap = match resume(self.reached, here) {
            Ok(from) => return Ok(Beginning { from: from.lsn(), snapshot: None }),
            Err(Outcome::Wrong(error)) => return Err(error.into()),
            Err(Outcome::Gap(gap)) => gap,
        };
        if self.config.on_lost_slot == LostSlot::Error {
            return Err(gap.into());
        }
        self.anew(info, tls, session, found.is_some(), &gap).await
    }

    /// A new slot and all rows again, because something is missing.
    async fn anew(
        &mut self,
        info: &Conninfo,
        tls: &Tls,
        session: &Session,
        there: bool,
        gap: &Gap,
    ) -> Result<Beginning, ServiceError> {
        tracing::warn!(%gap, "the slot is made anew and all rows are delivered again (on_lost_slot: resnapshot)");
        if there {
            slot::drop(session, &self.config.slot).await?;
        }
        self.reached = None;
        Pending::remove(&self.config.state)?;
        self.engine.forget_position()?;
        self.new_slot(info, tls, true).await
    }
}

/// Earlier timelines and where each was left.
async fn timeline_history(
    replication: &mut Replication,
    timeline: Timeline,
) -> Result<Vec<(Timeline, Lsn)>, ServiceError> {
    // The first has none, and no file for it either.
    if timeline.0 <= 1 {
        return Ok(Vec::new());
    }
    let command = format!("TIMELINE_HISTORY {}", timeline.0);
    let rows = replication.query("show its timeline's history", &command).await?;
    let content = rows.into_iter().next().and_then(|row| row.into_iter().nth(1)).flatten();
    Ok(history(&content.unwrap_or_default()))
}
