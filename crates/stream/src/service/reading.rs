//! One connection's life: what must be there is made, the place to begin is found, and then it streams.

use std::sync::Arc;
use std::time::Duration;

use herdsman_node::{Conninfo, Lsn, NodeName, Timeline, Tls};
use herdsman_wal::publication::check_order;
use herdsman_wal::snapshot::{Exported, HeldSnapshot};
use herdsman_wal::{
    Catalogue, CreateSlot, Identity, Replication, Session, SlotName, SlotSnapshot, Source, Start,
    StreamOptions, slot,
};
use tokio_util::sync::CancellationToken;

use super::again::Again;
use super::copying::{self, Copied, Pending};
use super::resume::{Here, Outcome, Reached, history, resume};
use super::{Gap, Phase, Service, ServiceError, guard, heartbeat};
use crate::config::{LostSlot, SnapshotMode};
use crate::engine::{End, Live};
use crate::publication;

/// Bound on each step with the server.
const LIMIT: Duration = Duration::from_secs(20);

/// Why a reading ended without an error.
pub(super) enum Ended {
    Shutdown(End),
    /// Another node is the primary.
    Moved(NodeName),
}

/// Where a stream begins, and whether the rows that are there come first.
struct Beginning {
    from: Lsn,
    snapshot: Option<Beforehand>,
}

/// A snapshot that is to be delivered first.
struct Beforehand {
    exported: Exported,
    pending: Pending,
    /// Who keeps the snapshot until it is read.
    _keeper: Keeper,
}

/// The connection that a snapshot lives as long as.
#[expect(dead_code, reason = "held, not used")]
enum Keeper {
    Slot(Replication),
    Held(HeldSnapshot),
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
        if let Some(snapshot) = snapshot {
            self.phase.send_replace(Phase::Snapshot { node: node.clone() });
            let source = Source {
                system_id: identity.system_id,
                timeline: identity.timeline,
                database: identity.database.as_str().into(),
                slot: self.config.slot.as_str().into(),
            };
            let copied = self.copied(info, &tls, &session, snapshot, source).await?;
            if let Some(end) = self.copy(node, copied, shutdown).await? {
                return Ok(end);
            }
        }
        let start = Start {
            slot: self.config.slot.clone(),
            publications: vec![self.config.publication.clone()],
            from,
            options: StreamOptions {
                spill_folder: Some(self.config.state.clone()),
                ..StreamOptions::default()
            },
        };
        let catalogue = Catalogue::new(info.clone(), tls.clone(), LIMIT);
        let stream = replication.start(start).await?.with_catalogue(catalogue);
        let timeline = stream.source().timeline;
        tracing::info!(%node, %timeline, %from, "streaming");
        self.phase.send_replace(Phase::Streaming { node: node.clone(), timeline: timeline.0 });
        let tables = copying::tables(&session, &self.config.publication).await?;
        drop(session);
        let again = Again::new(Live::new(stream), info.clone(), tls.clone(), tables);
        self.stream(node, info, &tls, again, shutdown).await
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
        let guarding = guard::run(info, tls, &self.config);
        let source = Arc::clone(crate::engine::Events::source(&live));
        let outcome = tokio::select! {
            outcome = self.engine.run(&mut live, shutdown.clone()) => {
                outcome.map(Ended::Shutdown).map_err(ServiceError::from)
            }
            to = self.herd.moved_from(node) => Ok(Ended::Moved(to)),
            stopped = guarding => Err(stopped),
        };
        drop(stop);
        // Where to go on from, should it be another server: what is saved, at least.
        let handled = self.engine.safe();
        if self.reached.is_none_or(|reached| reached.handled < handled) {
            self.reached =
                Some(Reached { system_id: source.system_id, timeline: source.timeline, handled });
        }
        if matches!(outcome, Ok(Ended::Shutdown(_)) | Err(ServiceError::Guard(_))) {
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
            && let Some(point) = pending.progress.consistent_point.or(found.confirmed)
            && found.lost().is_none()
        {
            return self.go_on(info, tls, pending, point).await;
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

    /// A snapshot that was interrupted goes on, under a new one.
    async fn go_on(
        &self,
        info: &Conninfo,
        tls: &Tls,
        pending: Pending,
        point: Lsn,
    ) -> Result<Beginning, ServiceError> {
        tracing::info!(%point, "an interrupted snapshot goes on");
        let held = HeldSnapshot::take(info, tls, &self.temporary_slot()?, LIMIT).await?;
        let exported = held.exported().clone();
        let snapshot = Beforehand { exported, pending, _keeper: Keeper::Held(held) };
        Ok(Beginning { from: point, snapshot: Some(snapshot) })
    }

    /// A name for a slot that only lives as long as a snapshot is taken; another one beside it has another number.
    fn temporary_slot(&self) -> Result<SlotName, ServiceError> {
        let stem: String = self.config.slot.as_str().chars().take(40).collect();
        let name = format!("{stem}_snapshot_{}", std::process::id());
        SlotName::new(&name).map_err(|error| ServiceError::State {
            what: "name a slot for",
            path: self.config.state.display().to_string(),
            problem: error.to_string(),
        })
    }

    async fn copied(
        &self,
        info: &Conninfo,
        tls: &Tls,
        session: &Session,
        snapshot: Beforehand,
        source: Source,
    ) -> Result<Copied, ServiceError> {
        let tables = copying::tables(session, &self.config.publication).await?;
        let Beforehand { exported, pending, _keeper } = snapshot;
        let kept_in = (self.config.state.as_path(), self.snapshot.clone());
        Copied::start(info, tls, &exported, tables, Arc::new(source), pending, kept_in).await
    }

    /// Delivers the rows that are there. `None` when all of them are durable at the sinks.
    async fn copy(
        &mut self,
        node: &NodeName,
        mut copied: Copied,
        shutdown: &CancellationToken,
    ) -> Result<Option<Ended>, ServiceError> {
        let point = copied.point();
        let end = tokio::select! {
            end = self.engine.run(&mut copied, shutdown.clone()) => end?,
            to = self.herd.moved_from(node) => return Ok(Some(Ended::Moved(to))),
        };
        if end.safe < point {
            return Ok(Some(Ended::Shutdown(end)));
        }
        Pending::remove(&self.config.state)?;
        tracing::info!("the rows that were there are delivered");
        Ok(None)
    }

    async fn new_slot(
        &self,
        info: &Conninfo,
        tls: &Tls,
        snapshot: bool,
    ) -> Result<Beginning, ServiceError> {
        // A connection of its own: it keeps the snapshot until all rows are read.
        let mut keeper = Replication::connect(info, tls, LIMIT).await?;
        let options = CreateSlot {
            failover: self.config.failover && keeper.server_version() >= 170_000,
            snapshot: if snapshot { SlotSnapshot::Export } else { SlotSnapshot::Nothing },
            ..CreateSlot::default()
        };
        if snapshot {
            // Before the slot is there: without its rows it would look like one that needs none.
            Pending::default().save(&self.config.state)?;
        }
        let created = keeper.create_slot(&self.config.slot, &options).await?;
        tracing::info!(slot = %self.config.slot, at = %created.consistent_point, failover = options.failover, "made the replication slot");
        let from = created.consistent_point;
        let snapshot = created.snapshot.map(|name| Beforehand {
            exported: Exported { name, consistent_point: from },
            pending: Pending::default(),
            _keeper: Keeper::Slot(keeper),
        });
        Ok(Beginning { from, snapshot })
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
