//! The hooks of `herdsman run`, where the configuration has some.

use std::sync::Arc;

use herdsman_api::{Handle, HookBoard};
use herdsman_hooks::{HookStatus, Hooks, LastRun, Setup, Statuses};
use herdsman_watch::Watch;
use serde_json::{Value, json};

use crate::config::Config;
use crate::exit::{Exit, Failed};

/// Hooks, offered at the API's door.
pub(super) struct Beside(Hooks);

#[derive(Debug)]
struct Board(Statuses);

impl HookBoard for Board {
    fn status(&self) -> Value {
        json!({ "hooks": self.0.read() })
    }

    fn overview(&self) -> Value {
        let hooks = self.0.read().into_iter().map(|hook| {
            let HookStatus { name, kind, state, runs, waiting, dropped, last } = hook;
            // What was told may be the last words of a program.
            let last = last
                .map(|LastRun { at, outcome, told: _ }| json!({ "at": at, "outcome": outcome }));
            json!({
                "name": name, "kind": kind, "state": state, "runs": runs, "waiting": waiting,
                "dropped": dropped, "last": last,
            })
        });
        hooks.collect()
    }
}

impl Beside {
    /// Starts them.
    ///
    /// # Errors
    /// What of a hook cannot be used.
    pub(super) fn start(config: &Config, watch: Watch, api: &Handle) -> Result<Self, Failed> {
        let hooks = Hooks::start(&setup(config, watch)).map_err(|why| Exit::Config.with(why))?;
        let beside = Self(hooks);
        beside.offer(config, api);
        Ok(beside)
    }

    /// Where they stand.
    pub(super) fn statuses(&self) -> Statuses {
        self.0.statuses()
    }

    /// Goes on with another configuration.
    pub(super) async fn reload(&mut self, config: &Config, watch: Watch, api: &Handle) {
        // The section was checked already; what fails now has changed meanwhile.
        if let Err(problem) = self.0.reload(&setup(config, watch)).await {
            tracing::error!(problem, "the hooks go on as they were");
        }
        self.offer(config, api);
    }

    /// Lets them end.
    pub(super) async fn stop(self) {
        self.0.stop().await;
    }

    fn offer(&self, config: &Config, api: &Handle) {
        let board = (!config.hooks.0.is_empty()).then(|| Board(self.statuses()));
        api.offer_hooks(board.map(|board| Arc::new(board) as Arc<dyn HookBoard>));
    }
}

fn setup(config: &Config, watch: Watch) -> Setup {
    Setup { config: config.hooks.clone(), nodes: config.nodes.clone(), watch }
}
