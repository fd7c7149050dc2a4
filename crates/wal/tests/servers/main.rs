//! Tests on real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

mod common;
mod login;
mod pitfalls;
mod publications;
mod slots;
mod snapshot;
mod stream;
mod types;
