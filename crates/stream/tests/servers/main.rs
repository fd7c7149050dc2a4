//! Tests on real servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

mod diagnose;
#[cfg(feature = "kafka")]
mod kafka;
mod postgres_sink;
mod service;
mod sinks_exec;
mod sinks_sse;
mod sinks_webhook;
