//! Real clients, real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

mod admin;
mod drivers;
mod gateway;
mod harness;
mod misrouting;
mod login;
