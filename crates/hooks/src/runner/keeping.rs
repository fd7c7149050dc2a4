//! States: only the newest verdict counts, and it is set until it holds.

use std::sync::Arc;
use std::time::Duration;

use herdsman_watch::Topology;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::plan::Tried;
use super::{jitter, settled};
use crate::config::RetryConfig;
use crate::failure::Failure;
use crate::haproxy::HaProxy;
use crate::herd::Herd;
use crate::hosts::HostsFile;
use crate::pgbouncer::PgBouncer;
use crate::status::{Board, Outcome};

/// A hook that keeps a state.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) name: String,
    pub(crate) timeout: Duration,
    pub(crate) retry: RetryConfig,
    pub(crate) what: What,
}

/// What it keeps.
#[derive(Debug)]
pub(crate) enum What {
    PgBouncer(Box<PgBouncer>),
    HaProxy(HaProxy),
    Hosts(HostsFile),
}

/// Keeps it until told to stop; what is under way then may end.
pub(crate) async fn keep(
    mut keeper: Keeper,
    mut topology: watch::Receiver<Arc<Topology>>,
    board: Arc<Board>,
    stop: CancellationToken,
) {
    tokio::select! {
        () = stop.cancelled() => return,
        () = settled(&mut topology) => {}
    }
    let mut tried = Tried::nothing();
    let mut again: Option<Instant> = None;
    loop {
        let wanted = Herd::of(&topology.borrow_and_update());
        let is_news = tried.is_news(&wanted);
        if is_news || again.is_some_and(|again| again <= Instant::now()) {
            let worked = keeper.once(&wanted, is_news, &board).await;
            tried.done(wanted, worked);
            let pause = tried.pause(&keeper.retry, keeper.refresh(), jitter());
            again = pause.map(|pause| Instant::now() + pause);
        }
        let due = async {
            match again {
                Some(again) => sleep_until(again).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            changed = topology.changed() => if changed.is_err() {
                // The watcher is gone; what holds goes on holding.
                return stop.cancelled().await;
            },
            () = due => {}
        }
    }
}

impl Keeper {
    async fn once(&mut self, wanted: &Herd, is_news: bool, board: &Board) -> bool {
        board.begins();
        let limit = self.timeout;
        let run = match timeout(limit, Box::pin(self.what.keep(wanted))).await {
            Ok(run) => run.map_err(Failure::failed),
            Err(_) => Err(Failure::late(format!(
                "not done within {limit:?}; raise `timeout`, or see what takes so long"
            ))),
        };
        match run {
            Ok(done) => {
                board.ended(Outcome::Succeeded, &done);
                if is_news {
                    tracing::info!(hook = self.name, "{done}");
                } else {
                    tracing::debug!(hook = self.name, "{done}");
                }
                true
            }
            Err(failure) => {
                board.ended(failure.outcome(), &failure.problem);
                tracing::warn!(
                    hook = self.name,
                    problem = failure.problem,
                    "failed, and is tried again"
                );
                false
            }
        }
    }

    fn refresh(&self) -> Option<Duration> {
        match &self.what {
            What::HaProxy(haproxy) => haproxy.config.refresh,
            What::PgBouncer(_) | What::Hosts(_) => None,
        }
    }
}

impl What {
    async fn keep(&mut self, herd: &Herd) -> Result<String, String> {
        match self {
            Self::PgBouncer(pgbouncer) => pgbouncer.keep(herd).await,
            Self::HaProxy(haproxy) => haproxy.keep(herd).await,
            Self::Hosts(file) => file.keep(herd).await,
        }
    }
}
