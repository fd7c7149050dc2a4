//! The ledger of `herdsman run`: beside the watcher, the gateway, the stream and the mesh.

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::serving::Serving;
use super::target::Setup;
use crate::config::Config;
use crate::exit::Failed;
use crate::metrics::Metrics;

/// The ledger, where the configuration has one.
#[derive(Debug, Default)]
pub(crate) struct Beside(Option<(CancellationToken, JoinHandle<()>)>);

impl Beside {
    /// Starts it, and tells `metrics` where it can be asked.
    ///
    /// # Errors
    /// Another program on this machine follows the same ledger, or its socket cannot be made.
    pub(crate) async fn start(config: &Config, metrics: Metrics) -> Result<Self, Failed> {
        let Some(setup) = Setup::of(config) else { return Ok(Self::default()) };
        let serving = Serving::take(setup).await?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let up = |keeper: &_| metrics.offer_ledger(Some(std::sync::Arc::clone(keeper)));
            if let Err(failed) = Box::pin(serving.run(stopped, up)).await {
                tracing::error!(problem = %failed.message, "the ledger has ended");
            }
            metrics.offer_ledger(None);
        });
        Ok(Self(Some((stop, task))))
    }

    /// Lets requests under way end.
    pub(crate) async fn stop(self) {
        let Some((stop, task)) = self.0 else { return };
        stop.cancel();
        match task.await {
            Ok(()) => tracing::info!("the ledger has stopped"),
            Err(error) => tracing::error!(%error, "the ledger ended badly"),
        }
    }
}
