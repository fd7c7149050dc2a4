//! The program as its users meet it: the real binary, its exit codes, what it prints and what it never prints.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "tests may panic"
)]

mod access;
mod asking;
mod book;
mod cluster;
mod config;
mod container_sequence;
mod dashboard;
mod deploy;
mod docs;
mod doctor;
mod gateway;
mod haproxy;
mod help;
mod hooks;
mod import;
mod ledger;
mod live;
mod mesh;
mod notify;
#[cfg(feature = "otel")]
mod otel;
mod program;
mod redaction;
mod reference;
mod restart;
mod running;
mod sandbox_cli;
mod secrets;
mod soak;
mod stream;
mod stream_chaos;
mod top;
