//! A stream as `herdsman.yml` describes it, for programs with handlers of their own.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use herdsman_config::{ConfigError, Depth, File, Problem, Reading};
use herdsman_node::{Conninfo, NodeName};
use herdsman_watch::{AvailabilityConfig, StartError, WatchConfig, Watcher};
use tokio_util::sync::CancellationToken;

use crate::config::Koyo;
use crate::engine::End;
use crate::service::{Service, ServiceError, Setup};
use crate::{Handlers, StreamConfig};

/// What a file says about a stream: the section `stream`, and the servers and the watching it needs.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The section `stream`.
    pub config: StreamConfig,
    hosts: BTreeMap<NodeName, Conninfo>,
    watch: WatchConfig,
}

/// A loaded stream cannot start, or has stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The watcher that finds the primary.
    #[error("failed to start watching: {0}")]
    Watch(#[from] StartError),
    /// The stream itself.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// Reads the configuration: `named`, or the first that is found where Herdsman looks for it.
///
/// # Errors
/// [`ConfigError`] with everything that is wrong, each with its line.
pub fn load(named: Option<&Path>) -> Result<Loaded, ConfigError> {
    let file = File::load(named)?;
    parse(&file.path, &file.text).map_err(ConfigError::Problems)
}

fn parse(path: &Path, text: &str) -> Result<Loaded, Vec<Problem>> {
    let mut reading = Reading::new(path, text, Depth::Full)?;
    let hosts = reading.hosts();
    let watch = reading.watch();
    let config = StreamConfig::read(&mut reading, &hosts, &Koyo::from_env());
    let hosts = hosts.into_iter().map(|(name, host)| (name, host.conninfo)).collect();
    reading.finish(Some(Loaded { config, hosts, watch }))
}

impl Loaded {
    /// Delivers to these handlers, and to the sinks of the file, until `shutdown` is ready: over every break of a
    /// connection and, where several servers are named, every promotion.
    ///
    /// ```no_run
    /// use herdsman_stream::{Handlers, handler_fn};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let handlers = Handlers::new().all(handler_fn(|change| async move {
    ///     println!("{} {:?}", change.kind().name(), change.table().map(ToString::to_string));
    ///     Ok(())
    /// }));
    /// let interrupted = async {
    ///     let _nobody_can_ask = tokio::signal::ctrl_c().await;
    /// };
    /// herdsman_stream::load(None)?.run(handlers, interrupted).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`RunError`] where no further try helps.
    pub async fn run(
        self,
        handlers: Handlers,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<End, RunError> {
        let several = self.config.node.is_none() && self.hosts.len() > 1;
        let watcher = if several { Some(self.watcher()?) } else { None };
        let service = Service::new(Setup {
            nodes: self.config.nodes(&self.hosts),
            config: self.config,
            watch: watcher.as_ref().map(Watcher::watch),
            sinks: vec![("handlers".to_owned(), Arc::new(handlers))],
        })?;
        let stop = CancellationToken::new();
        let mut running = std::pin::pin!(service.run(stop.clone()));
        let outcome = tokio::select! {
            outcome = &mut running => outcome,
            () = shutdown => {
                stop.cancel();
                running.await
            }
        };
        if let Some(watcher) = watcher {
            watcher.stop().await;
        }
        Ok(outcome?)
    }

    fn watcher(&self) -> Result<Watcher, StartError> {
        let setup = herdsman_watch::Setup {
            nodes: self.hosts.clone(),
            watch: self.watch.clone(),
            availability: AvailabilityConfig::default(),
        };
        Watcher::start(setup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_takes_what_it_needs_and_leaves_the_rest_to_others() {
        let text = "hosts: {a: {host: a, user: mon}}\nport: 8080\nstream: {login: {user: cdc}, tables: [shop.*]}\n";
        let loaded = parse(Path::new("h.yml"), text).unwrap();
        assert_eq!(loaded.config.tables, ["shop.*"]);
        assert!(loaded.config.nodes(&loaded.hosts).values().all(|node| node.user == "cdc"));
        let problems = parse(Path::new("h.yml"), "hosts: {a: {host: a}}\nstream: {node: b}\n");
        let told = problems.unwrap_err()[0].to_string();
        assert!(told.starts_with("h.yml:2:16: `stream.node` names `b`"), "{told}");
    }
}
