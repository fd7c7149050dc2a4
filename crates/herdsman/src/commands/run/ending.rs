//! The end of a run, in its order.

use std::time::Duration;

use herdsman_gateway::Ending;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Running;
use super::clients::Clients;
use super::take_over::Next;
use crate::commands::ledger;
use crate::commands::stream::Beside;

/// Why it ends.
pub(super) enum Ended {
    /// A signal: clients may finish what they do.
    Signal,
    /// An administrator of the gateway has said so.
    Asked(Ending),
    /// The next run serves.
    Next(Next),
}

/// What has to end.
pub(super) struct Parts {
    pub(super) serving: JoinHandle<()>,
    pub(super) clients: Clients,
    pub(super) beside: Beside,
    pub(super) ledger: ledger::Beside,
    pub(super) running: Running,
}

/// Ends everything. Clients may stay for as long as `why` lets them, and until `impatience`; then they may finish what they do.
pub(super) async fn end(
    parts: Parts,
    why: Ended,
    impatience: CancellationToken,
) -> Result<(), JoinError> {
    let Parts { serving, mut clients, beside, ledger, running } = parts;
    let Running { config, watcher, mesh, hooks, .. } = running;
    let (how, linger, next) = match why {
        Ended::Signal => (None, Duration::ZERO, None),
        Ended::Asked(how) => (Some(how), Duration::ZERO, None),
        Ended::Next(next) => {
            clients.hand_over();
            (Some(Ending::Clients), config.gateway.linger, Some(next))
        }
    };
    let canceller = clients.canceller();
    let leaving = async {
        if let Some(how) = how {
            tokio::select! {
                () = clients.leave(how) => (),
                () = impatience.cancelled() => (),
                () = sleep(linger), if !linger.is_zero() => {
                    tracing::info!("clients are here after `gateway.linger`: they may finish their transactions");
                }
            }
        }
        clients.stop().await;
    };
    let others = async {
        let ended = serving.await;
        tokio::join!(beside.stop(), ledger.stop(), mesh.stop(), hooks.stop());
        if let Some(next) = next {
            // For as long as clients are here.
            tokio::spawn(next.go_on(canceller));
        }
        ended
    };
    // Those beside first say that they have ended, so that the next run can begin with them; clients may take long.
    let ((), ended) = tokio::join!(leaving, others);
    watcher.stop().await;
    ended
}
