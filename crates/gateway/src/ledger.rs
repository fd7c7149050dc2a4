//! A ledger's database, served to whatever speaks to PostgreSQL.
//!
//! A client has a connection of its own to a PostgreSQL node of the ledger, and what it says goes there: types, formats,
//! prepared statements, cursors and savepoints are the server's. Where transactions begin and end is decided here: at their
//! end what they have changed is captured, rolled back there, and committed through the log.
//!
//! `said` reads a statement, `session` is a client's state and its socket, `step` what it has prepared and asks of the server, `answers` what it is given, `simple` and `extended` the two ways in which
//! clients ask, `control` what is answered here, `transaction` begins, commits and does again what others were faster with,
//! `server` is the connection to the node.

mod answers;
mod control;
mod extended;
mod fault;
mod said;
mod server;
mod session;
mod simple;
mod step;
mod transaction;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use herdsman_ledger::engine::{self, Ledger};
use herdsman_ledger::node::Engine;
use tokio::sync::OnceCell;

use crate::listen::Client;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::wire::Problem;
use crate::wire::error::code;
use fault::Fault;
use session::Session;

/// What a gateway serves a ledger from.
pub struct LedgerDoor {
    ledger: Ledger,
    /// The database's name.
    name: String,
    /// Until when a node is to have what a client has seen.
    deadline: Duration,
    /// How often what is not part of a transaction is run.
    attempts: u32,
    /// What a server says of itself when it is logged in to.
    welcome: OnceCell<Vec<(String, String)>>,
}

impl LedgerDoor {
    /// The ledger as a database of this name. `settings` are those it was started with.
    #[must_use]
    pub fn new(ledger: Ledger, name: &str, settings: engine::Settings) -> Self {
        let engine::Settings { deadline, attempts, .. } = settings;
        Self { ledger, name: name.to_owned(), deadline, attempts, welcome: OnceCell::new() }
    }

    /// Whether a client asks for what is here.
    ///
    /// # Errors
    /// For another database, or with settings that a session of a ledger cannot have.
    pub(crate) fn expect(&self, database: &str, settings: &Settings) -> Result<(), Problem> {
        if let Some(why) = session::unfit(settings) {
            return Err(Problem::new(code::NOT_SUPPORTED, why));
        }
        if database == self.name {
            return Ok(());
        }
        let problem = format!("there is no database \"{database}\" here");
        Err(Problem::new(code::NO_DATABASE, problem)
            .hint(format!("the ledger is database \"{}\"", self.name)))
    }

    /// What a client is told of the servers when it logs in.
    ///
    /// # Errors
    /// No node is there that clients can be served from.
    pub(crate) async fn welcome(&self) -> Result<&[(String, String)], Problem> {
        let known = self.welcome.get_or_try_init(|| self.ask()).await;
        known.map(Vec::as_slice).map_err(|fault| {
            Problem::new(code::CANNOT_CONNECT_NOW, fault.message)
                .hint("drivers are served from the ledger's PostgreSQL nodes; see `herdsman ledger status`")
        })
    }

    /// What one of the servers says of itself.
    async fn ask(&self) -> Result<Vec<(String, String)>, Fault> {
        let mut native = self.ledger.native(&self.node()?).await?;
        let parameters = native.wire().map(|wire| wire.parameters().clone()).unwrap_or_default();
        Ok(parameters.into_iter().filter(|(name, _)| name != server::APPLICATION).collect())
    }

    /// A PostgreSQL server that follows the log.
    fn node(&self) -> Result<String, Fault> {
        if let Some(name) = fastrand::choice(self.servers()) {
            return Ok(name);
        }
        let status = self.ledger.status();
        let message = if status.iter().all(|(_, engine, _)| *engine != Engine::Postgres) {
            "the ledger has no PostgreSQL node, and drivers are served from those only"
        } else {
            "no PostgreSQL node of the ledger follows its log"
        };
        Err(Fault::new("57P03", message))
    }
}

impl LedgerDoor {
    /// The PostgreSQL servers that clients are sent to.
    fn servers(&self) -> Vec<String> {
        let servers = self.ledger.serving().into_iter();
        servers.filter(|(_, engine)| *engine == Engine::Postgres).map(|(name, _)| name).collect()
    }

    /// Whether a client that is at this node is better off at another one: it is late, or follows the log no more.
    fn has_better_than(&self, node: &str) -> bool {
        let servers = self.servers();
        !servers.is_empty() && !servers.iter().any(|it| it == node)
    }
}

impl fmt::Debug for LedgerDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LedgerDoor").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Serves a client of the ledger until it leaves.
pub(crate) async fn serve(client: Client, shared: Arc<Shared>, door: Arc<LedgerDoor>) {
    let id = client.card.id;
    if let Err(error) = Session::new(client, shared, door).serve().await {
        tracing::debug!(client = id, %error, "a client of the ledger is gone");
    }
}
