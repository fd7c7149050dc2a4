//! The gateway of `herdsman run`, where the configuration has one.

use herdsman_gateway::{
    Bound, CancelRequest, Canceller, EndWish, EndWishes, Ending, Gateway, ReloadWish, ReloadWishes,
    Setup, StartError, Statistics,
};
use herdsman_watch::Watch;
use tokio::sync::mpsc;

use super::sockets::Sockets;
use crate::config::Config;
use crate::exit::{Exit, Failed};

/// Wishes of the gateway's administrators to have the configuration read again.
pub(super) struct Wishes(Option<ReloadWishes>);

impl Wishes {
    /// The next one. Never, where there is no gateway.
    pub(super) async fn next(&self) -> ReloadWish {
        match &self.0 {
            Some(wishes) => wishes.next().await,
            None => std::future::pending().await,
        }
    }
}

/// Wishes of the gateway's administrators to have the program end.
pub(super) struct Ends(Option<EndWishes>);

impl Ends {
    /// The next one. Never, where there is no gateway.
    pub(super) async fn next(&self) -> EndWish {
        match &self.0 {
            Some(wishes) => wishes.next().await,
            None => std::future::pending().await,
        }
    }
}

/// The gateway, or that there is none.
pub(super) struct Clients(Option<Gateway>);

impl Clients {
    /// Listens on every address of the gateway, on `sockets` where they are there.
    ///
    /// # Errors
    /// An address cannot be had.
    pub(super) async fn bind(
        config: &Config,
        sockets: &mut Sockets,
    ) -> Result<Option<Bound>, Failed> {
        if config.gateway.listen.is_empty() {
            return Ok(None);
        }
        let bound = Gateway::bind_with(&config.gateway, sockets).await;
        bound.map(Some).map_err(|error| Exit::Unavailable.with(error))
    }

    /// Serves there.
    ///
    /// # Errors
    /// What of the configuration cannot be used.
    pub(super) async fn serve(
        bound: Option<Bound>,
        config: &Config,
        watch: Watch,
    ) -> Result<Self, Failed> {
        let Some(bound) = bound else { return Ok(Self(None)) };
        let gateway = Gateway::run(bound, setup(config, watch)).await;
        gateway.map(|gateway| Self(Some(gateway))).map_err(|error| match error {
            StartError::Config(_) => Exit::Config.with(error),
            _ => Exit::Internal.with(error),
        })
    }

    /// Where clients connect, for the log.
    pub(super) fn address(&self) -> Option<String> {
        let gateway = self.0.as_ref()?;
        let mut addresses: Vec<_> = gateway.addresses().iter().map(ToString::to_string).collect();
        addresses.extend(gateway.unix_socket().map(|path| path.display().to_string()));
        Some(addresses.join(" "))
    }

    /// Goes on with another configuration. Returns the keys whose change takes a restart.
    ///
    /// # Errors
    /// What cannot be used; then the old one stays in force.
    pub(super) fn reload(
        &self,
        config: &Config,
        watch: Watch,
    ) -> Result<Vec<&'static str>, String> {
        match &self.0 {
            None if config.gateway.listen.is_empty() => Ok(Vec::new()),
            Some(gateway) if !config.gateway.listen.is_empty() => {
                gateway.reload(setup(config, watch))
            }
            None | Some(_) => Ok(vec!["gateway"]),
        }
    }

    /// Has new transactions wait.
    pub(super) fn pause(&self) {
        match &self.0 {
            Some(gateway) => {
                gateway.pause();
                tracing::info!(
                    signal = "USR1",
                    "paused: new transactions wait until RESUME or USR2"
                );
            }
            None => tracing::warn!(signal = "USR1", "nothing to pause: there is no gateway"),
        }
    }

    /// Lets them go on.
    pub(super) fn resume(&self) {
        match &self.0 {
            Some(gateway) if gateway.resume() => tracing::info!(signal = "USR2", "resumed"),
            Some(_) => tracing::info!(signal = "USR2", "nothing was paused or held"),
            None => tracing::warn!(signal = "USR2", "nothing to resume: there is no gateway"),
        }
    }

    /// What it counts.
    pub(super) fn statistics(&self) -> Option<Statistics> {
        self.0.as_ref().map(Gateway::statistics_reader)
    }

    /// Where administrators of the gateway ask for a reload.
    pub(super) fn wishes(&self) -> Wishes {
        Wishes(self.0.as_ref().map(Gateway::reload_wishes))
    }

    /// Where administrators of the gateway ask for the program to end.
    pub(super) fn ends(&self) -> Ends {
        Ends(self.0.as_ref().map(Gateway::end_wishes))
    }

    /// Requests to cancel with a key that nobody holds here.
    pub(super) fn unknown_cancels(&self) -> Option<mpsc::Receiver<CancelRequest>> {
        self.0.as_ref().map(Gateway::unknown_cancels)
    }

    /// Carries out requests to cancel that came to the next run.
    pub(super) fn canceller(&self) -> Option<Canceller> {
        self.0.as_ref().map(Gateway::canceller)
    }

    /// Accepts nobody any more, and comes back when clients have left as `how` says.
    pub(super) async fn leave(&self, how: Ending) {
        if let Some(gateway) = &self.0 {
            tracing::info!(
                clients = gateway.clients(),
                ?how,
                "no new clients; waiting for those who are here"
            );
            gateway.leave(how).await;
        }
    }

    /// Another process listens on the same sockets.
    pub(super) fn hand_over(&mut self) {
        if let Some(gateway) = &mut self.0 {
            gateway.hand_over();
        }
    }

    /// Comes back when the gateway is not to be relied on any more, with the reason. Never, where there is none.
    pub(super) async fn failed(&mut self) -> String {
        match &mut self.0 {
            Some(gateway) => gateway.failed().await,
            None => std::future::pending().await,
        }
    }

    /// Lets clients finish, within the bounds of the configuration.
    pub(super) async fn stop(self) {
        if let Some(gateway) = self.0 {
            tracing::info!(clients = gateway.clients(), "clients may finish their transactions");
            gateway.stop().await;
        }
    }
}

fn setup(config: &Config, watch: Watch) -> Setup {
    Setup {
        config: config.gateway.clone(),
        nodes: config.nodes.clone(),
        groups: config.groups.clone(),
        watch,
    }
}
