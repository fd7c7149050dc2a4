//! Reads one member's own changes for another.
//!
//! A link fills a group as long as its target is busy, and hands it over at the end of a transaction once the target
//! asks for work; a transaction larger than a group goes over in parts. What is applied and on disk is told to the
//! source by the target, and nothing before.

mod pause;
mod reading;
pub(crate) mod trouble;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use herdsman_node::{Conninfo, Lsn};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub(crate) use pause::Pauses;

use crate::config::Mode;
use crate::engine::backoff;
use crate::error::MeshError;
use crate::group::Group;
use crate::setup::{Member, Setup};
use crate::stamp::NodeId;
use crate::status::{LinkBoard, LinkState};
use reading::{Ended, Reading};

/// Failures after which a reader that should have gone is ended: one that ends by itself needs less.
const PATIENT: u32 = 2;

/// What a link needs.
pub(crate) struct Link {
    pub(crate) setup: Arc<Setup>,
    pub(crate) source: Member,
    pub(crate) target: Member,
    pub(crate) info: Conninfo,
    /// The source or the target is joining: what it lacks is being made.
    pub(crate) joining: Arc<AtomicBool>,
    /// Which of the links that were ever made for this target: what a link says that is no more is not heard.
    pub(crate) number: u64,
    /// Everything up to here has been handed over.
    pub(crate) handed: Lsn,
    pub(crate) board: Arc<LinkBoard>,
    pub(crate) demand: Demand,
    pub(crate) pauses: watch::Receiver<Pauses>,
    pub(crate) out: mpsc::UnboundedSender<FromLink>,
    pub(crate) stop: CancellationToken,
}

/// What a link says to its target.
#[derive(Debug)]
pub(crate) struct FromLink {
    pub(crate) source: NodeId,
    pub(crate) number: u64,
    pub(crate) what: Said,
}

#[derive(Debug)]
pub(crate) enum Said {
    Group(Box<Group>),
    /// The stream broke within a transaction of which parts have been handed over.
    BrokenWithin,
}

/// Whether the target wants a group: it looks for work, and has none of this link's that it has not begun with. Where it has
/// lanes, full ones may wait there for each of them.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    /// The target looks for work.
    pub(crate) hungry: watch::Receiver<bool>,
    /// Groups of this link that wait at the target.
    pub(crate) there: Arc<AtomicUsize>,
    /// The most of them.
    pub(crate) most: usize,
}

impl Demand {
    fn is_there(&self, full: bool) -> bool {
        let there = self.there.load(Ordering::Acquire);
        (*self.hungry.borrow() && there == 0) || (full && self.most > 1 && there < self.most)
    }
}

impl Link {
    /// Reads until told to stop, and goes on after every break.
    pub(crate) async fn run(mut self) {
        let mut failures = 0;
        // Where nothing was heard for so long that the connection seemed dead, the next one is given more time.
        let mut silent = 0;
        loop {
            let mut reading = Reading::new(&mut self, silent);
            let ended = reading.run().await;
            let (heard, within) = (reading.heard, reading.within);
            self.board.closed();
            if heard {
                (failures, silent) = (0, 0);
            }
            if within {
                self.say(Said::BrokenWithin);
            }
            let error = match ended {
                Ok(Ended::Stopped) => return,
                Ok(Ended::Silent) => {
                    silent += 1;
                    tracing::debug!(source = %self.source.name, target = %self.target.name, "nothing heard for long; connecting again");
                    continue;
                }
                Err(error) => error,
            };
            failures += 1;
            let pause = self.failed(&error, failures);
            if failures > PATIENT {
                trouble::end_other_reader(&self, &error).await;
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// A group for what is read next.
    fn empty(&self) -> Group {
        match self.setup.config.mode {
            Mode::Columns => Group::new(self.source.id),
            Mode::Untouched if self.source.id == self.target.id => {
                Group::logged_own(self.source.id)
            }
            Mode::Untouched => Group::logged(self.source.id),
        }
    }

    fn say(&self, what: Said) {
        let said = FromLink { source: self.source.id, number: self.number, what };
        // A target that is gone has dropped this link as well.
        let _gone = self.out.send(said);
    }

    fn failed(&self, error: &MeshError, failures: u32) -> std::time::Duration {
        let transient = error.is_transient() || self.joining.load(Ordering::Relaxed);
        let state = if transient { LinkState::Connecting } else { LinkState::Failing };
        let (source, target) = (&self.source.name, &self.target.name);
        match (transient, failures) {
            (false, 1) => tracing::error!(%source, %target, %error, "the link fails"),
            (true, 1) => tracing::info!(%source, %target, %error, "the link is made again"),
            _ => tracing::debug!(%source, %target, %error, failures, "the link still fails"),
        }
        self.board.set(state, Some(error.to_string()));
        backoff::pause(failures, transient, fastrand::f64())
    }
}
