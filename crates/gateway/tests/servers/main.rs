//! Real clients, real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

mod admin;
mod chaos;
mod drivers;
mod exporter;
mod failover;
mod gateway;
mod guard;
mod harness;
mod hostile;
mod ledger;
mod load;
mod login;
mod misrouting;
mod peers;
mod published;
mod ryw;
mod switchover;
mod transports;
