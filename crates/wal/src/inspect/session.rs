//! An ordinary connection for questions and commands, bounded in time, whose errors say where.

use std::time::Duration;

use herdsman_node::{Conninfo, Tls, describe};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, GenericClient, Row};

use crate::WalError;

/// How much longer than the server itself we wait for it to give up: the server's own word is the better one.
const GRACE: Duration = Duration::from_secs(5);

/// An ordinary connection to one server: what slots, publications and settings are asked and changed through.
///
/// Every statement ends after the limit it was connected with, on the server too. The connection ends when it is dropped.
#[derive(Debug)]
pub struct Session {
    client: Client,
    place: Place,
}

/// Where a session is, for its errors, and how long it waits.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) endpoint: String,
    pub(crate) limit: Duration,
}

impl Session {
    /// Connects, waiting `limit` for that and for each statement later.
    ///
    /// # Errors
    /// [`WalError::Connect`], or what the first statement failed with.
    pub async fn connect(info: &Conninfo, tls: &Tls, limit: Duration) -> Result<Self, WalError> {
        let (client, driving) = herdsman_node::connect(info, tls, limit).await?.split(|_| {});
        let endpoint = info.endpoint();
        let at = endpoint.clone();
        // Ends by itself when the client is dropped.
        tokio::spawn(async move {
            let story = driving.await;
            tracing::debug!(endpoint = at, story, "session over");
        });
        let session = Self { client, place: Place { endpoint, limit } };
        session.set_limit(limit).await?;
        Ok(session)
    }

    /// `host:port` of the server.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.place.endpoint
    }

    /// The connection itself, for statements of one's own.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The connection for a transaction, which ends with the transaction's value.
    pub(crate) fn parts(&mut self) -> (&mut Client, &Place) {
        (&mut self.client, &self.place)
    }

    /// Runs one statement and returns its rows. `what` completes "refused to …".
    ///
    /// # Errors
    /// [`WalError`], with what to do where that can be told.
    pub async fn rows(
        &self,
        what: &'static str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, WalError> {
        self.place.rows(&self.client, what, sql, parameters).await
    }

    /// Runs one statement that may take `limit` instead of what the session allows.
    ///
    /// A statement of ours that goes on after we gave up would leave a slot nobody knows of: the server has to stop it.
    pub(crate) async fn rows_within(
        &self,
        limit: Duration,
        what: &'static str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, WalError> {
        self.set_limit(limit).await?;
        let patient = Place { endpoint: self.place.endpoint.clone(), limit };
        let outcome = patient.rows(&self.client, what, sql, parameters).await;
        self.set_limit(self.place.limit).await?;
        outcome
    }

    pub(crate) fn senseless(&self, what: &str, problem: impl std::fmt::Display) -> WalError {
        self.place.senseless(what, problem)
    }

    async fn set_limit(&self, limit: Duration) -> Result<(), WalError> {
        let milliseconds = limit.as_millis().clamp(1, 2_000_000_000).to_string();
        let sql = "select set_config('statement_timeout', $1, false)";
        self.rows("prepare the session", sql, &[&milliseconds]).await.map(drop)
    }
}

impl Place {
    pub(crate) async fn rows<C: GenericClient + Sync>(
        &self,
        client: &C,
        what: &'static str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, WalError> {
        match tokio::time::timeout(self.limit + GRACE, client.query(sql, parameters)).await {
            Ok(outcome) => outcome.map_err(|error| self.failed(what, &error)),
            Err(_) => Err(self.late(what, "")),
        }
    }

    /// The error for a failed statement, with what to do about it where that can be told.
    pub(crate) fn failed(&self, what: &'static str, error: &tokio_postgres::Error) -> WalError {
        let endpoint = self.endpoint.clone();
        let Some(said) = error.as_db_error() else {
            return WalError::Lost { endpoint, problem: describe(error) };
        };
        let sqlstate = said.code().code().to_owned();
        if sqlstate == "57014" {
            return self.late(what, "");
        }
        let advice = advice(&sqlstate, said.message());
        let message = said.message().to_owned();
        WalError::Server { endpoint, what: what.to_owned(), message, sqlstate, advice }
    }

    pub(crate) fn late(&self, what: &'static str, advice: &str) -> WalError {
        let (endpoint, advice) = (self.endpoint.clone(), advice.to_owned());
        WalError::TimedOut { endpoint, what, seconds: self.limit.as_secs(), advice }
    }

    /// An answer that cannot be read.
    pub(crate) fn senseless(&self, what: &str, problem: impl std::fmt::Display) -> WalError {
        let problem = format!("its answer about {what} cannot be read: {problem}");
        WalError::Protocol { endpoint: self.endpoint.clone(), problem }
    }
}

/// What to do about a refusal, with a separator before it; empty where the server's message says it all.
fn advice(sqlstate: &str, message: &str) -> String {
    let advice = match sqlstate {
        "42501" if message.contains("output plugin") => {
            "; add pgoutput to output_plugin_libraries on the server and reload it"
        }
        "42501" if message.contains("replication slot") || message.contains("REPLICATION") => {
            "; let the role replicate: ALTER ROLE … REPLICATION"
        }
        "42501" => "; log in as the owner, or have the privilege granted",
        "53400" => "; drop a slot that nobody needs, or raise max_replication_slots",
        "55000" if message.contains("wal_level") => {
            "; set wal_level = logical on the server and restart it"
        }
        _ => "",
    };
    advice.to_owned()
}
