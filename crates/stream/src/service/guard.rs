//! Looks at the slot now and then, before the log it holds back fills the server's disk.

use std::time::Duration;

use herdsman_node::{Conninfo, Tls};
use herdsman_wal::{Session, WalError, slot};

use super::ServiceError;
use crate::config::StreamConfig;
use crate::engine::Stats;
use crate::guard::{GuardVerdict, LagGuard};

const PAUSE: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(10);

/// Why the stream has to stop.
pub(super) enum Stop {
    /// And nothing else.
    Pause(String),
    /// And the slot has to go: the server's disk before the stream, because the configuration says so.
    DropSlot(String),
}

/// Looks until there is a reason to stop, which it returns; what it sees is told to whoever asks for the numbers.
pub(super) async fn run(info: &Conninfo, tls: &Tls, config: &StreamConfig, stats: &Stats) -> Stop {
    let mut guard = LagGuard::default();
    loop {
        tokio::time::sleep(PAUSE).await;
        match look(info, tls, config, stats, &mut guard).await {
            // A server that cannot be asked now is asked again; the stream itself finds out what is wrong.
            Err(problem) => tracing::debug!(%problem, "the lag guard could not look"),
            Ok(GuardVerdict::Fine) => {}
            Ok(GuardVerdict::Warn(text)) => tracing::warn!("{text}"),
            Ok(GuardVerdict::Pause(text)) => return Stop::Pause(text),
            Ok(GuardVerdict::DropSlot(text)) => return Stop::DropSlot(text),
        }
    }
}

async fn look(
    info: &Conninfo,
    tls: &Tls,
    config: &StreamConfig,
    stats: &Stats,
    guard: &mut LagGuard,
) -> Result<GuardVerdict, WalError> {
    let session = Session::connect(info, tls, LIMIT).await?;
    let found = slot::inspect(&session, &config.slot).await?;
    stats.saw_slot(found.as_ref());
    let Some(found) = found else {
        return Ok(GuardVerdict::Fine);
    };
    let retained = found.retained().unwrap_or(0);
    Ok(guard.judge(&config.lag_guard, retained, found.safe_wal_size))
}

/// What became of the stop, once our own reading has let go of the slot.
pub(super) async fn carry_out(
    stop: Stop,
    info: &Conninfo,
    tls: &Tls,
    config: &StreamConfig,
) -> ServiceError {
    let text = match stop {
        Stop::Pause(text) => return ServiceError::Guard(text),
        Stop::DropSlot(text) => text,
    };
    match drop_slot(info, tls, config).await {
        Ok(()) => ServiceError::Guard(format!("{text}; the slot was dropped")),
        Err(error) => {
            ServiceError::Guard(format!("{text}; the slot could not be dropped: {error}"))
        }
    }
}

async fn drop_slot(info: &Conninfo, tls: &Tls, config: &StreamConfig) -> Result<(), WalError> {
    let session = Session::connect(info, tls, LIMIT).await?;
    let mut tries = 0;
    loop {
        match slot::drop(&session, &config.slot).await {
            // The server needs a moment to see that its reader is gone.
            Err(WalError::SlotActive { .. }) if tries < 50 => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            outcome => return outcome,
        }
    }
}
