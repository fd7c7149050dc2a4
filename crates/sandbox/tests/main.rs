//! The sandbox on real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

mod abandoned;
mod cluster;
mod kafka;
mod proxies;
mod writers;
