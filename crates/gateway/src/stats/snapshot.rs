//! Everything a gateway has counted, at one moment, for metrics and programs.

use serde::Serialize;

use super::{Averages, Times, Totals};
use crate::client::State;

/// Everything a gateway has counted, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GatewayStatistics {
    /// Clients, by what they are doing.
    pub clients: ClientCounts,
    /// Every pool: one for each database, user and node that was used.
    pub pools: Vec<PoolStatistics>,
}

/// How many clients there are, by what they are doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ClientCounts {
    /// Logging in.
    pub login: u64,
    /// Between transactions.
    pub idle: u64,
    /// Waiting for a server connection.
    pub waiting: u64,
    /// A server works for them.
    pub active: u64,
    /// In a transaction, thinking.
    pub in_transaction: u64,
}

/// What one pool is doing and has done.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PoolStatistics {
    /// The database, as clients name it.
    pub database: String,
    /// The user, as clients name it.
    pub user: String,
    /// The node.
    pub node: String,
    /// Its server connections.
    pub servers: ServerCounts,
    /// Since the gateway began.
    pub totals: Totals,
    /// In the last period, a minute or two.
    pub averages: Averages,
    /// How long clients waited for a server connection.
    pub wait: Times,
    /// How long transactions took.
    pub transaction: Times,
}

/// Server connections of a pool, by what they are doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ServerCounts {
    /// In the hands of a client.
    pub active: u64,
    /// Free.
    pub idle: u64,
    /// Being opened.
    pub login: u64,
    /// A cancel request for them is under way.
    pub being_cancelled: u64,
}

impl ServerCounts {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            active: self.active + other.active,
            idle: self.idle + other.idle,
            login: self.login + other.login,
            being_cancelled: self.being_cancelled + other.being_cancelled,
        }
    }
}

impl ClientCounts {
    pub(crate) fn count(&mut self, state: State) {
        let count = match state {
            State::Login => &mut self.login,
            State::Idle => &mut self.idle,
            State::Waiting => &mut self.waiting,
            State::Active => &mut self.active,
            State::InTransaction => &mut self.in_transaction,
        };
        *count += 1;
    }
}
