//! Looks at the slot now and then, before the log it holds back fills the server's disk.

use std::convert::Infallible;
use std::time::Duration;

use herdsman_node::{Conninfo, Tls};
use herdsman_wal::{Session, WalError, slot};

use super::ServiceError;
use crate::config::StreamConfig;
use crate::guard::{GuardVerdict, LagGuard};

const PAUSE: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(10);

/// Looks until there is a reason to stop, which it returns.
pub(super) async fn run(info: &Conninfo, tls: &Tls, config: &StreamConfig) -> ServiceError {
    let mut guard = LagGuard::default();
    loop {
        tokio::time::sleep(PAUSE).await;
        match look(info, tls, config, &mut guard).await {
            Ok(never) => match never {},
            Err(None) => {}
            Err(Some(stop)) => return stop,
        }
    }
}

async fn look(
    info: &Conninfo,
    tls: &Tls,
    config: &StreamConfig,
    guard: &mut LagGuard,
) -> Result<Infallible, Option<ServiceError>> {
    // A server that cannot be asked now is asked again; the stream itself finds out what is wrong.
    let unasked = |error: WalError| {
        tracing::debug!(problem = %error, "the lag guard could not look");
        None
    };
    let session = Session::connect(info, tls, LIMIT).await.map_err(unasked)?;
    let found = slot::inspect(&session, &config.slot).await.map_err(unasked)?;
    let Some(found) = found else { return Err(None) };
    let verdict =
        guard.judge(&config.lag_guard, found.retained().unwrap_or(0), found.safe_wal_size);
    match verdict {
        GuardVerdict::Fine => Err(None),
        GuardVerdict::Warn(text) => {
            tracing::warn!("{text}");
            Err(None)
        }
        GuardVerdict::Pause(text) => Err(Some(ServiceError::Guard(text))),
        GuardVerdict::DropSlot(text) => Err(drop_it(&session, config, text).await),
    }
}

/// The server's disk before the stream, because the configuration says so.
async fn drop_it(session: &Session, config: &StreamConfig, text: String) -> Option<ServiceError> {
    // Our own reading has to let go of it first: ending its process does that.
    let end = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active";
    let name = config.slot.as_str();
    if let Err(error) = session.rows("end the slot's reader", end, &[&name]).await {
        tracing::error!(problem = %error, "the slot cannot be freed to be dropped");
    }
    for _ in 0..20 {
        match slot::drop(session, &config.slot).await {
            Ok(()) => return Some(ServiceError::Guard(format!("{text}; the slot was dropped"))),
            Err(WalError::SlotActive { .. }) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => {
                tracing::error!(problem = %error, "the slot could not be dropped");
                return None;
            }
        }
    }
    tracing::error!(
        slot = name,
        "the slot stays in use and could not be dropped; it is tried again"
    );
    None
}
