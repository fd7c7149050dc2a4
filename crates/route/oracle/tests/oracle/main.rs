//! The classifier before PostgreSQL's grammar and the catalogues of real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]
#![expect(clippy::print_stdout, reason = "the figures are published with --nocapture")]

mod grammar;
mod servers;
