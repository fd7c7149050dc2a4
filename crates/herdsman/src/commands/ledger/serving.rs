//! A ledger that is run: the lock, the nodes that follow, and the socket.

use std::sync::Arc;
use std::time::Duration;

use herdsman_ledger::requests::Requests;
use herdsman_node::Backoff;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::door::Door;
use super::drivers::Address;
use super::keeper::{Keeper, NotKept};
use super::lock::{self, Lock};
use super::target::Setup;
use crate::exit::{Exit, Failed};

/// A log that is away at the start is waited for.
const AGAIN: Backoff =
    Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(10) };

/// How long the lock is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What only one program on a machine has.
#[derive(Debug)]
pub(super) struct Serving {
    setup: Setup,
    _lock: Lock,
}

impl Serving {
    /// Takes it. A command that does without a program that runs has it for a moment.
    ///
    /// # Errors
    /// Another program keeps it, or there is no place for it.
    pub(super) async fn take(setup: Setup) -> Result<Self, Failed> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(lock) = Lock::take(&setup.socket)? {
                return Ok(Self { setup, _lock: lock });
            }
            if Instant::now() >= deadline {
                return Err(Exit::Unavailable.with(format!(
                    "another program follows this ledger: it has {}",
                    lock::place(&setup.socket).display()
                )));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Lets the nodes follow, and answers commands, until it is told to stop. `up` is told once the log is there.
    ///
    /// # Errors
    /// What no further try would get over.
    pub(super) async fn run(
        self,
        stop: CancellationToken,
        up: impl FnOnce(&Arc<Keeper>),
    ) -> Result<(), Failed> {
        let address = Address::bind(self.setup.served.as_ref()).await?;
        let mut failures = 0_u32;
        let keeper = loop {
            let started = tokio::select! {
                started = Keeper::start(&self.setup) => started,
                () = stop.cancelled() => return Ok(()),
            };
            match started {
                Ok(keeper) => break Arc::new(keeper),
                Err(NotKept::Ever(failed)) => return Err(failed),
                Err(NotKept::Yet(problem)) => {
                    failures = failures.saturating_add(1);
                    tracing::warn!(problem, "the ledger cannot begin yet");
                    let pause = AGAIN.pause(failures, fastrand::f64());
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = stop.cancelled() => return Ok(()),
                    }
                }
            }
        };
        // Not before: a command that nobody takes up would wait, and be done when nobody expects it any more.
        let door = Door::bind(&self.setup.socket)?;
        let mut drivers = address.serve(&keeper.ledger, &self.setup.config).await?;
        let requests = self.requests(&keeper)?;
        let names: Vec<_> = self.setup.config.nodes.keys().map(String::as_str).collect();
        tracing::info!(
            ledger = self.setup.config.name,
            log = %keeper.ledger.genesis().log,
            nodes = names.join(" "),
            socket = %self.setup.socket.display(),
            drivers = drivers.address(),
            "the ledger is up"
        );
        up(&keeper);
        let broken = tokio::select! {
            () = door.serve(keeper, stop) => None,
            failed = drivers.failed() => Some(failed),
        };
        let answered = async {
            if let Some(requests) = requests {
                requests.stop().await;
            }
        };
        tokio::join!(drivers.stop(), answered);
        broken.map_or(Ok(()), Err)
    }

    /// Answers clients that have nothing but Kafka, where the configuration says so.
    fn requests(&self, keeper: &Keeper) -> Result<Option<Requests>, Failed> {
        let config = &self.setup.config;
        let Some(topics) = config.requests().map_err(|error| Exit::Config.with(error))? else {
            return Ok(None);
        };
        let requests = Requests::start(keeper.ledger.clone(), topics, config.settings());
        // Nobody else sets it.
        let _counts = keeper.requests.get_or_init(|| requests.counts());
        Ok(Some(requests))
    }
}
