//! The ledger as a database for drivers, where the configuration says so.

use herdsman_gateway::{Bound, Gateway, GatewayConfig, LedgerDoor};
use herdsman_ledger::config::LedgerConfig;
use herdsman_ledger::engine::Ledger;

use crate::exit::{Exit, Failed};

/// An address that is listened on, without anybody being served yet; or none.
pub(super) struct Address(Option<(Bound, GatewayConfig)>);

/// Whoever serves there; or nobody.
pub(super) struct Drivers(Option<Gateway>);

impl Address {
    /// Listens.
    ///
    /// # Errors
    /// The address cannot be had.
    pub(super) async fn bind(served: Option<&GatewayConfig>) -> Result<Self, Failed> {
        let Some(config) = served else { return Ok(Self(None)) };
        let bound = Gateway::bind(config).await.map_err(|error| Exit::Unavailable.with(error))?;
        Ok(Self(Some((bound, config.clone()))))
    }

    /// Serves a ledger there.
    ///
    /// # Errors
    /// A file that the configuration names cannot be used, or a thread does not start.
    pub(super) async fn serve(
        self,
        ledger: &Ledger,
        config: &LedgerConfig,
    ) -> Result<Drivers, Failed> {
        let Some((bound, gateway)) = self.0 else { return Ok(Drivers(None)) };
        let door = LedgerDoor::new(ledger.clone(), &config.name, config.settings());
        let serving = Gateway::serve_ledger(bound, gateway, door).await;
        let serving = serving.map_err(|error| Exit::Config.with(error))?;
        Ok(Drivers(Some(serving)))
    }
}

impl Drivers {
    /// Where, for the log.
    pub(super) fn address(&self) -> Option<String> {
        let addresses = self.0.as_ref()?.addresses();
        Some(addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }

    /// Comes back when they are not to be relied on any more, with the reason.
    pub(super) async fn failed(&mut self) -> Failed {
        match &mut self.0 {
            Some(gateway) => Exit::Internal.with(gateway.failed().await),
            None => std::future::pending().await,
        }
    }

    /// Lets clients finish their transactions.
    pub(super) async fn stop(self) {
        if let Some(gateway) = self.0 {
            gateway.stop().await;
        }
    }
}
