//! One PostgreSQL address for any client: pooled, split into reads and writes, and safe through failovers.

pub mod config;
pub mod wire;

mod admin;
mod auth;
mod cancel;
mod catalogue;
mod checkout;
mod client;
mod effects;
mod gateway;
mod herd;
mod ledger;
mod listen;
mod pool;
mod relay;
mod session;
mod settings;
mod shared;
mod slow;
mod statements;
mod stats;
mod switchover;

pub use admin::{EndWish, EndWishes, Ending, ReloadWish, ReloadWishes};
pub use cancel::{CancelRequest, Canceller};
pub use config::GatewayConfig;
pub use gateway::{Bound, Gateway, NonePassed, Passed, Setup, StartError, Statistics};
pub use ledger::LedgerDoor;
pub use stats::{
    Averages, ClientCounts, GatewayStatistics, PoolStatistics, Rates, ServerCounts, Times, Totals,
};
