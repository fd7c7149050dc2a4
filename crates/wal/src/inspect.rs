//! What a server is set to, and what runs on it, as far as logical replication depends on it.

mod server;
mod session;
mod transactions;

pub use server::{ServerFacts, inspect, on_standby, version};
pub(crate) use session::Place;
pub use session::Session;
pub use transactions::{OldTransaction, oldest_transactions};
