//! What is done when the herd changes: others are told, or are made to send their clients elsewhere.
//!
//! A hook is one of two shapes. **Messages** (`exec`, `webhook`, `slack`) tell of each event, in order, from a queue with a
//! bound. **States** (`pgbouncer`, `haproxy`, `hosts`) are what has to hold now: only the newest verdict counts, verdicts in
//! between may be skipped, and what could not be set is tried until it is.
//!
//! Each hook is a task of its own that does one thing at a time, within a time limit. No hook acts on a verdict that is not
//! proven: without a proven primary, a state keeps what it has or takes the writer away, and never names another one.
//!
//! What is decided is in [`Herd`](herd::Herd) (who may be written to and read), `pgbouncer/ini.rs`, `haproxy/commands.rs`,
//! `hosts/render.rs`, `message.rs`, `queue.rs` and `runner/plan.rs`: without I/O.

pub mod config;
mod exec;
mod failure;
mod file;
mod haproxy;
pub mod herd;
mod hooks;
mod hosts;
mod look;
mod message;
mod pgbouncer;
mod post;
mod queue;
mod runner;
mod status;

pub use config::{HookConfig, HooksConfig};
pub use hooks::{Hooks, Setup};
pub use look::{Obstacle, What, look};
pub use status::{HookStatus, LastRun, Outcome, Runs, State, Statuses};
