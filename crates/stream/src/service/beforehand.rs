//! The rows that are there already, delivered before the stream begins.

use std::sync::Arc;

use herdsman_node::{Conninfo, Lsn, NodeName, Tls};
use herdsman_wal::snapshot::{Exported, HeldSnapshot};
use herdsman_wal::{CreateSlot, Identity, Replication, Session, SlotName, SlotSnapshot, Source};
use tokio_util::sync::CancellationToken;

use super::copying::{self, Copied, Pending};
use super::reading::{Beginning, Ended, LIMIT};
use super::until::Until;
use super::{Phase, Service, ServiceError, heartbeat};
use crate::engine::{Events, Live};

/// A snapshot that is to be delivered first.
pub(super) struct Beforehand {
    exported: Exported,
    pending: Pending,
    /// Who keeps the snapshot until it is read.
    keeper: Keeper,
}

/// The connection that a snapshot lives as long as.
enum Keeper {
    /// It made the slot: the stream begins where the snapshot ends.
    Slot(#[expect(dead_code, reason = "held, not used")] Replication),
    /// It was taken later: what was committed between the slot's beginning and it comes first.
    Held(#[expect(dead_code, reason = "held, not used")] HeldSnapshot),
}

impl Beforehand {
    /// The place in the log that the snapshot shows.
    pub(super) fn point(&self) -> Lsn {
        self.exported.consistent_point
    }
}

impl Service {
    /// A snapshot that was interrupted goes on, under a new one.
    pub(super) async fn go_on(
        &self,
        info: &Conninfo,
        tls: &Tls,
        pending: Pending,
    ) -> Result<Beforehand, ServiceError> {
        tracing::info!("an interrupted snapshot goes on");
        let held = HeldSnapshot::take(info, tls, &self.temporary_slot()?, LIMIT).await?;
        let exported = held.exported().clone();
        Ok(Beforehand { exported, pending, keeper: Keeper::Held(held) })
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

    /// Delivers the rows that are there, and before them what their snapshot is later than. `None` when all of them are
    /// durable at the sinks.
    pub(super) async fn deliver_first(
        &mut self,
        (node, info, tls): (&NodeName, &Conninfo, &Tls),
        session: &Session,
        identity: &Identity,
        from: Lsn,
        snapshot: Beforehand,
        shutdown: &CancellationToken,
    ) -> Result<Option<Ended>, ServiceError> {
        self.phase.send_replace(Phase::Snapshot { node: node.clone() });
        let point = snapshot.point();
        if matches!(snapshot.keeper, Keeper::Held(_)) {
            let ended = self.catch_up((node, info, tls), from, point, shutdown).await?;
            if ended.is_some() {
                return Ok(ended);
            }
        }
        let source = Source {
            system_id: identity.system_id,
            timeline: identity.timeline,
            database: identity.database.as_str().into(),
            slot: self.config.slot.as_str().into(),
        };
        let tables = copying::tables(session, &self.config.publication).await?;
        let Beforehand { exported, pending, keeper } = snapshot;
        let kept_in = (self.config.state.as_path(), self.snapshot.clone());
        let source = Arc::new(source);
        let copied = Copied::start(info, tls, &exported, tables, source, pending, kept_in).await?;
        // Every reader has the snapshot now.
        drop(keeper);
        self.copy(node, copied, shutdown).await
    }

    /// Delivers what was committed before `end`. A row read later is then never older than what was delivered.
    async fn catch_up(
        &mut self,
        (node, info, tls): (&NodeName, &Conninfo, &Tls),
        from: Lsn,
        end: Lsn,
        shutdown: &CancellationToken,
    ) -> Result<Option<Ended>, ServiceError> {
        let replication = Replication::connect(info, tls, LIMIT).await?;
        let stream = self.open_stream(replication, info, tls, from).await?;
        let mut until = Until::new(Live::new(stream), end);
        // Something behind the end must come, or it would not be seen on a server that is idle.
        if let Err(error) = heartbeat::say(info, tls).await {
            tracing::warn!(problem = %error, "no heartbeat; waiting for the server's own");
        }
        let ended = tokio::select! {
            end = self.engine.run(&mut until, shutdown.clone()) => end?,
            to = self.herd.moved_from(node) => return Ok(Some(Ended::Moved(to))),
        };
        let reached = until.is_finished();
        until.into_live().into_stream().close().await;
        if !reached {
            return Ok(Some(Ended::Shutdown(ended)));
        }
        // From here on the slot alone knows the position, until the snapshot is done: it is numbered differently.
        self.reached = None;
        self.engine.forget_position()?;
        Ok(None)
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

    pub(super) async fn new_slot(
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
            keeper: Keeper::Slot(keeper),
        });
        Ok(Beginning { from, snapshot })
    }
}
