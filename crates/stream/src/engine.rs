//! From one slot to many sinks: reads, hands out, and acknowledges what every sink has.
//!
//! The decisions are made in [`Lanes`](crate::lanes::Lanes) and [`Progress`](herdsman_wal::Progress); this is the edge
//! around them: tasks, time and the state folder.

mod events;
mod inbox;
mod keeper;
mod outbox;
mod parts;
mod stats;
mod task;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use herdsman_node::Lsn;
use herdsman_wal::Source;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use self::inbox::Inbox;
use self::keeper::Keeper;
use self::outbox::Outbox;
use self::task::Done;
use crate::config::BatchConfig;
use crate::error::StreamError;
use crate::lanes::{Effect, Limits};
use crate::sink::DeliveryError;

pub use self::events::{Events, Live};
pub use self::parts::{End, Parts, Transform};
pub use self::stats::{Latency, SinkStats, SlotStats, Stats, StatsSnapshot};

/// Events taken in a row before looking after the sinks again.
const BURST: usize = 256;
/// How long a sink has to close.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// Hands the changes of one slot to sinks. Keeps what waits over several [runs](Engine::run), so that a lost
/// connection delivers nothing twice.
#[derive(Debug)]
pub struct Engine {
    outboxes: Vec<Outbox>,
    inbox: Inbox,
    keeper: Keeper,
    tasks: JoinSet<Done>,
    stats: Stats,
    batch: BatchConfig,
    grace: Duration,
    source: Option<Arc<Source>>,
}

impl Engine {
    /// An engine that has not read anything yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let names = parts.sinks.iter().map(|(name, _)| name.as_str());
        let stats = Stats::new(names);
        let dead_letters = parts.dead_letters.map(Arc::new);
        let outboxes = parts.sinks.into_iter().enumerate().map(|(index, (name, sink))| {
            Outbox::new(index, name, sink, &parts.retry, dead_letters.clone(), stats.clone())
        });
        Self {
            outboxes: outboxes.collect(),
            inbox: Inbox::new(parts.transform),
            keeper: Keeper::new(parts.checkpoint),
            tasks: JoinSet::new(),
            stats,
            batch: parts.batch,
            grace: parts.grace,
            source: None,
        }
    }

    /// What has happened so far; stays up to date while the engine runs.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats.clone()
    }

    /// Everything before this position is handled by all sinks, and saved where there is a state folder; 0 where nothing
    /// is since the stream was begun.
    #[must_use]
    pub fn safe(&self) -> Lsn {
        self.keeper.saved().unwrap_or_default()
    }

    /// The commit of the last transaction of which something was received: no sink has anything from after it.
    #[must_use]
    pub fn received(&self) -> Lsn {
        self.inbox.received()
    }

    /// Forgets the saved position and what waits: the next run is of a stream that begins anew.
    ///
    /// # Errors
    /// [`StreamError::Checkpoint`] where the file cannot be removed.
    pub fn forget_position(&mut self) -> Result<(), StreamError> {
        self.source = None;
        self.keeper.forget()?;
        Ok(())
    }

    /// Hands out what comes until `shutdown`, then lets deliveries end within the grace, closes the sinks, saves the
    /// position and acknowledges it. Where the [events end by themselves](Events::is_finished), sinks stay open for the
    /// next run. The future may be dropped, as after an error.
    ///
    /// After an error it can be called again with a new connection: what waits is kept if that is the same slot on the
    /// same timeline, and otherwise dropped, because it comes again. To end after an error, call [`Engine::close`].
    ///
    /// # Errors
    /// [`StreamError`]: the connection is gone, or something that no further try mends.
    pub async fn run(
        &mut self,
        events: &mut impl Events,
        shutdown: CancellationToken,
    ) -> Result<End, StreamError> {
        self.begin(events).await?;
        while !shutdown.is_cancelled() {
            self.look_after(events)?;
            if self.reads(events) && self.read_burst(events)? {
                // More may lie ready: the sinks come first, and other tasks.
                tokio::task::yield_now().await;
                continue;
            }
            self.look_after(events)?;
            if events.is_finished() && !self.outboxes.iter().any(Outbox::has_work) {
                return self.finish(events).await;
            }
            self.wait(events, &shutdown).await?;
        }
        let end = self.close().await?;
        events.handled(end.safe);
        Ok(end)
    }

    /// Ends without a connection: lets deliveries end within the grace, closes the sinks and saves the position.
    ///
    /// # Errors
    /// [`StreamError::Checkpoint`] where the position could not be saved.
    pub async fn close(&mut self) -> Result<End, StreamError> {
        if let Some(ticket) = self.inbox.unfinished() {
            self.outboxes.iter_mut().for_each(|outbox| outbox.lanes.forget(ticket));
        }
        let deadline = Instant::now() + self.grace;
        if let Err(error) = self.drain(deadline).await {
            tracing::error!(%error, "what waits is given up");
        }
        let undelivered = self.outboxes.iter().map(|outbox| outbox.lanes.waiting().changes).sum();
        self.abandon().await;
        let closing = self.outboxes.iter().map(|outbox| timeout(CLOSE_LIMIT, outbox.sink.close()));
        for (closed, outbox) in
            futures_util::future::join_all(closing).await.into_iter().zip(&self.outboxes)
        {
            if closed.is_err() {
                tracing::warn!(sink = %outbox.name, "the sink did not close in time");
            }
        }
        let safe = self.keeper.save_last(self.inbox.progress.safe(), self.source.as_ref()).await?;
        self.publish();
        // A later run begins anew.
        self.source = None;
        Ok(End { safe, undelivered })
    }

    /// Delivers what waits.
    async fn drain(&mut self, deadline: Instant) -> Result<(), StreamError> {
        while self.outboxes.iter().any(Outbox::has_work) && Instant::now() < deadline {
            self.collect()?;
            self.hand_out(false);
            let wake = self.next_wake().map_or(deadline, |wake| wake.min(deadline));
            tokio::select! {
                Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => self.take_in(done)?,
                () = sleep_until(wake) => {}
            }
        }
        self.collect()
    }

    /// Everything is delivered, and nothing more comes.
    async fn finish(&mut self, events: &impl Events) -> Result<End, StreamError> {
        while self.keeper.is_saving() {
            let Some(done) = self.tasks.join_next().await else { break };
            self.take_in(done)?;
        }
        let safe = self.keeper.save_last(self.inbox.progress.safe(), self.source.as_ref()).await?;
        events.handled(safe);
        self.publish();
        Ok(End { safe, undelivered: 0 })
    }

    /// Makes ready for a connection: goes on with what waits, or begins anew.
    async fn begin(&mut self, events: &impl Events) -> Result<(), StreamError> {
        let source = events.source();
        self.keeper.check(source)?;
        if self.source.as_ref() == Some(source) {
            self.inbox.resume();
            if let Some(saved) = self.keeper.saved() {
                events.handled(saved);
            }
            return Ok(());
        }
        // Should this be given up half-way, the next connection begins anew as well.
        self.source = None;
        self.abandon().await;
        self.inbox.restart(source);
        self.keeper.restart();
        self.outboxes.iter_mut().for_each(Outbox::restart);
        self.source = Some(Arc::clone(source));
        Ok(())
    }

    /// Stops what is under way.
    async fn abandon(&mut self) {
        self.tasks.abort_all();
        // What touches the disk cannot be stopped, and is waited for.
        while let Some(done) = self.tasks.join_next().await {
            if let Ok(Done::Saved { lsn, result: Ok(()) }) = done {
                self.keeper.is_saved(lsn);
            }
        }
    }

    /// Everything that can be done at once, with what has been received so far.
    fn look_after(&mut self, events: &impl Events) -> Result<(), StreamError> {
        self.collect()?;
        self.hand_out(self.reads(events));
        if let Some(safe) = self.keeper.acknowledge(self.inbox.progress.safe()) {
            events.handled(safe);
        }
        self.publish();
        Ok(())
    }

    fn collect(&mut self) -> Result<(), StreamError> {
        while let Some(done) = self.tasks.try_join_next() {
            self.take_in(done)?;
        }
        Ok(())
    }

    fn hand_out(&mut self, more_coming: bool) {
        let now = Instant::now();
        let limits = Limits { changes: self.batch.changes, bytes: self.batch.bytes, more_coming };
        for outbox in &mut self.outboxes {
            outbox.hand_out(now, limits, &mut self.tasks);
        }
        if let Some(source) = &self.source {
            self.keeper.save(now, self.inbox.progress.safe(), source, &mut self.tasks);
        }
    }

    /// Takes in what a task has to say.
    fn take_in(&mut self, done: Result<Done, tokio::task::JoinError>) -> Result<(), StreamError> {
        // Tasks catch their own panics, and are stopped only where nobody asks any more.
        let Ok(done) = done else { return Ok(()) };
        let now = Instant::now();
        let effects = match done {
            Done::Saved { lsn, result } => {
                self.keeper.take_in(lsn, result);
                return Ok(());
            }
            Done::Opened { sink, result } => match self.outboxes.get_mut(sink) {
                Some(outbox) => outbox.opened(result, now)?,
                None => Vec::new(),
            },
            Done::Delivered { sink, result: Err(DeliveryError::Unavailable(error)), .. }
                if error.ends_the_stream() =>
            {
                let sink = self.outboxes.get_mut(sink).map(Outbox::leave);
                return Err(StreamError::ReaderLeft { sink: sink.unwrap_or_default() });
            }
            Done::Delivered { sink, id, batch, result } => match self.outboxes.get_mut(sink) {
                Some(outbox) => outbox.delivered(id, &batch, result, now),
                None => Vec::new(),
            },
            Done::Kept { sink, letters, result } => match self.outboxes.get_mut(sink) {
                Some(outbox) => outbox.kept(letters, result, now),
                None => Vec::new(),
            },
        };
        for effect in effects {
            // Dead letters stay with the outbox until they are kept.
            if let Effect::Handled { ticket, count } = effect {
                self.inbox.handled(ticket, count);
            }
        }
        Ok(())
    }

    /// Reads what lies ready, up to a bound; false where nothing (more) does.
    fn read_burst(&mut self, events: &mut impl Events) -> Result<bool, StreamError> {
        for _ in 0..BURST {
            let Some(event) = events.next().now_or_never() else { return Ok(false) };
            self.inbox.receive(event?, &mut self.outboxes)?;
            if !self.reads(events) {
                break;
            }
        }
        Ok(true)
    }

    /// Waits until something happens.
    async fn wait(
        &mut self,
        events: &mut impl Events,
        shutdown: &CancellationToken,
    ) -> Result<(), StreamError> {
        let wake = self.next_wake();
        let reads = self.reads(events);
        tokio::select! {
            event = events.next(), if reads => self.inbox.receive(event?, &mut self.outboxes),
            Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => self.take_in(done),
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => Ok(()),
            () = shutdown.cancelled() => Ok(()),
        }
    }

    fn reads(&self, events: &impl Events) -> bool {
        self.has_room() && !events.is_finished()
    }

    /// Whether more may be read: the slowest sink bounds the memory, and keepalives do not depend on it.
    fn has_room(&self) -> bool {
        let waiting: usize = self.outboxes.iter().map(|outbox| outbox.lanes.waiting().bytes).sum();
        waiting < self.batch.queue_bytes.max(1)
    }

    fn next_wake(&self) -> Option<Instant> {
        let now = Instant::now();
        let sinks = self.outboxes.iter().filter_map(|outbox| outbox.next_wake(now));
        sinks.chain(self.keeper.next_wake(self.inbox.progress.safe())).min()
    }

    fn publish(&mut self) {
        self.inbox.publish(&self.stats);
        self.stats.set_stream(self.inbox.progress.safe(), self.keeper.saved(), self.has_room());
        self.outboxes.iter().for_each(Outbox::publish);
    }
}
