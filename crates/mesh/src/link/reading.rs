//! One connection's life: it is opened, read from, and breaks.

use std::sync::atomic::Ordering;
use std::time::Duration;

use herdsman_node::{Lsn, Tls};
use herdsman_wal::{
    Catalogue, Event, Replication, Start, Stream, StreamOptions, Timestamp, WalError,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::trouble::{explained, put_back, without_key};
use super::{Link, Pauses, Said};
use crate::error::MeshError;
use crate::group::{End, Group};
use crate::names;
use crate::status::{LinkName, LinkState};

/// Bound on each step of connecting.
pub(super) const LIMIT: Duration = Duration::from_secs(10);
/// A group with this many bytes waits for its target, and a transaction that alone has them goes over in parts.
const BYTES: usize = 8 << 20;
/// Bytes of transactions in progress that one link keeps in memory; there are as many links as pairs of members.
const SPILL_AFTER: usize = 16 << 20;
/// A source says something each second. Where it says nothing for so long, its connection is made anew: it may be dead
/// without anybody having noticed.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a member's own changes may wait to be looked at again: nobody waits for them, and many at once cost little.
const OWN: Duration = Duration::from_millis(30);
/// Changes between two looks at whether to stop.
const LOOK: u64 = 256;

/// Why a reading ended without an error.
pub(super) enum Ended {
    Stopped,
    /// Nothing was heard for long.
    Silent,
}

pub(super) struct Reading<'a> {
    link: &'a mut Link,
    name: LinkName,
    group: Group,
    /// Rows after which a group waits for its target.
    rows: u64,
    /// The group is not handed over before, unless it is full.
    not_before: Option<Instant>,
    /// The board counts the group as waiting.
    counted: bool,
    /// Something of a transaction was handed over, and not its end.
    pub(super) within: bool,
    /// Something was heard.
    pub(super) heard: bool,
    silence: Duration,
}

impl<'a> Reading<'a> {
    pub(super) fn new(link: &'a mut Link, silent: u32) -> Self {
        let name = LinkName { source: link.source.name.clone(), target: link.target.name.clone() };
        let group = link.empty();
        let silence = SILENCE * (1 << silent.min(6));
        let rows = u64::try_from(link.setup.config.batch.rows).unwrap_or(u64::MAX);
        Self {
            link,
            name,
            group,
            rows,
            not_before: None,
            counted: false,
            within: false,
            heard: false,
            silence,
        }
    }

    pub(super) async fn run(&mut self) -> Result<Ended, MeshError> {
        let stop = self.link.stop.clone();
        let mut stream = tokio::select! {
            () = stop.cancelled() => return Ok(Ended::Stopped),
            stream = self.open() => stream?,
        };
        self.link.board.opened(stream.feedback());
        let ended = self.read(&mut stream).await;
        if self.counted {
            self.link.board.thrown_away();
        }
        if matches!(ended, Ok(Ended::Stopped)) {
            self.within = false;
            stream.close().await;
        }
        ended
    }

    async fn open(&self) -> Result<Stream, MeshError> {
        let Link { setup, source, target, info, handed, .. } = &*self.link;
        let node = || source.name.clone();
        let tls = Tls::new(info).map_err(|source| MeshError::Tls { node: node(), source })?;
        let wrong = |error: WalError| explained(source, target, error);
        let mut replication = Replication::connect(info, &tls, LIMIT).await.map_err(wrong)?;
        let identity = replication.identify().await.map_err(wrong)?;
        if identity.wal_position < *handed {
            return Err(put_back(source, identity.wal_position, *handed));
        }
        let start = Start {
            slot: names::slot(&setup.config.name, target.id)?,
            publications: vec![names::publication(&setup.config.name)?],
            // Wherever the slot stands. To ask for more would be to confirm it, and what the target shows as applied
            // need not be on its disk yet; what it has already is left out below.
            from: Lsn(0),
            options: StreamOptions {
                local_only: true,
                messages: false,
                spill_after: SPILL_AFTER,
                ..StreamOptions::default()
            },
        };
        let stream = replication.start(start).await.map_err(wrong)?;
        Ok(stream.with_catalogue(Catalogue::new(info.clone(), tls, LIMIT)))
    }

    async fn read(&mut self, stream: &mut Stream) -> Result<Ended, MeshError> {
        let stop = self.link.stop.clone();
        let mut hungry = self.link.demand.hungry.clone();
        let mut pauses = self.link.pauses.clone();
        loop {
            if self.is_held(&mut pauses) {
                self.link.board.set(LinkState::Paused, None);
                tokio::select! {
                    () = stop.cancelled() => return Ok(Ended::Stopped),
                    _ = pauses.changed() => continue,
                }
            }
            self.link.board.set(LinkState::Streaming, None);
            // Between two transactions. One that begins is read to its end, or to where a part of it is full.
            loop {
                hungry.mark_unchanged();
                let due = self.due();
                if due.is_none() && self.is_filled() && self.link.demand.is_there(self.is_full()) {
                    self.hand_over();
                    if self.is_held(&mut pauses) {
                        break;
                    }
                }
                // With the end of what the target has a part of, nothing else goes over.
                let last = self.within && self.is_filled() && pauses.borrow().holds(&self.name);
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(Ended::Stopped),
                    _ = pauses.changed() => break,
                    _ = hungry.changed(), if self.is_filled() => {}
                    () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                    () = tokio::time::sleep(self.silence), if !self.is_full() && !last => return Ok(Ended::Silent),
                    () = stream.ready(), if !self.is_full() && !last => {
                        if let Some(ended) = self.take(stream).await? {
                            return Ok(ended);
                        }
                    }
                }
            }
        }
    }

    /// Whether the link is paused. A transaction of which the target has a part goes on to its end all the same: until then
    /// its rows there are locked for everybody.
    fn is_held(&self, pauses: &mut watch::Receiver<Pauses>) -> bool {
        pauses.borrow_and_update().holds(&self.name) && !self.within
    }

    /// Takes what is there: a sign of life, or a whole transaction. Why to stop, if that is to be.
    async fn take(&mut self, stream: &mut Stream) -> Result<Option<Ended>, MeshError> {
        let begun = match self.next(stream).await? {
            Event::Begin(transaction) => (transaction.commit_lsn, transaction.commit_time),
            Event::Idle { wal_end } => {
                self.idle(wal_end);
                return Ok(None);
            }
            _ => return Ok(None),
        };
        let (commit_lsn, time) = begun;
        // Transactions come in the order of their commits: one that begins to commit before the end of another that we
        // have had, we have had as well.
        if commit_lsn < self.link.handed {
            while !matches!(self.next(stream).await?, Event::Commit { .. }) {}
            return Ok(None);
        }
        self.count(time);
        let (mut own, mut before) = (0_u64, self.group.bytes);
        loop {
            let wrong = |error| explained(&self.link.source, &self.link.target, error);
            // What the target has of it keeps rows locked there: a source that is gone is not waited for.
            let Ok(event) = timeout(self.silence, stream.next()).await else {
                return Ok(Some(Ended::Silent));
            };
            match event.map_err(wrong)? {
                Event::Change(change) => {
                    if let Err(error) = self.group.push(&change) {
                        return Err(without_key(self.link, error).await);
                    }
                    own += 1;
                }
                Event::Commit { transaction, end_lsn } => {
                    let time = transaction.commit_time;
                    self.group.commit(End { lsn: end_lsn, commit_lsn, time });
                    self.link.board.sent(end_lsn);
                    return Ok(None);
                }
                _ => {}
            }
            if own >= self.rows || self.group.bytes.saturating_sub(before) >= BYTES {
                if self.hand_over_part(time).await {
                    return Ok(Some(Ended::Stopped));
                }
                (own, before) = (0, 0);
            } else if own % LOOK == LOOK - 1 && self.link.stop.is_cancelled() {
                return Ok(Some(Ended::Stopped));
            }
        }
    }

    async fn next<'s>(&mut self, stream: &'s mut Stream) -> Result<Event<'s>, MeshError> {
        let event = stream.next().await;
        self.heard = true;
        event.map_err(|error| explained(&self.link.source, &self.link.target, error))
    }

    /// Nothing of ours comes before this position.
    fn idle(&self, end: Lsn) {
        let board = &self.link.board;
        board.sent(end);
        // With nothing under way, there is nothing that could be lost.
        if !self.is_filled() && board.confirmed() >= self.link.handed {
            board.confirm(end);
        }
    }

    fn count(&mut self, committed: Timestamp) {
        if !std::mem::replace(&mut self.counted, true) {
            self.link.board.begun(committed);
        }
    }

    fn is_filled(&self) -> bool {
        self.group.transactions > 0
    }

    fn is_full(&self) -> bool {
        let rows = u64::try_from(self.group.rows()).unwrap_or(u64::MAX);
        rows >= self.rows || self.group.bytes >= BYTES
    }

    /// Until when the group waits for more.
    fn due(&mut self) -> Option<Instant> {
        if self.link.source.id != self.link.target.id || !self.is_filled() || self.is_full() {
            return None;
        }
        let due = *self.not_before.get_or_insert_with(|| Instant::now() + OWN);
        Some(due).filter(|due| *due > Instant::now())
    }

    fn hand_over(&mut self) {
        self.not_before = None;
        let group = std::mem::replace(&mut self.group, self.link.empty());
        if let Some(end) = group.end {
            self.link.handed = end.lsn;
        }
        self.within = group.end.is_none();
        self.counted = false;
        self.link.demand.there.fetch_add(1, Ordering::AcqRel);
        self.link.say(Said::Group(Box::new(group)));
    }

    /// Hands a part of a transaction over, once it is wanted. Whether to stop instead.
    async fn hand_over_part(&mut self, committed: Timestamp) -> bool {
        let mut hungry = self.link.demand.hungry.clone();
        let mut pauses = self.link.pauses.clone();
        loop {
            hungry.mark_unchanged();
            let held = self.is_held(&mut pauses);
            if !held && self.link.demand.is_there(false) {
                // What was complete before is applied with it.
                self.group.end = None;
                self.hand_over();
                self.count(committed);
                return false;
            }
            let state = if held { LinkState::Paused } else { LinkState::Streaming };
            self.link.board.set(state, None);
            tokio::select! {
                () = self.link.stop.cancelled() => return true,
                _ = hungry.changed() => {}
                _ = pauses.changed() => {}
            }
        }
    }
}
