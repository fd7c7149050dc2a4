//! Every row change of a PostgreSQL database, in order and none lost, handed to your code or to a sink.

#[cfg(test)]
// What derived code calls this crate, for the tests within it.
extern crate self as herdsman_stream;

pub mod checkpoint;
pub mod config;
pub mod dead_letter;
pub mod diagnose;
pub mod engine;
mod error;
pub mod filter;
mod from_change;
pub mod guard;
pub mod handler;
pub mod init;
pub mod lanes;
mod load;
pub mod publication;
pub mod service;
pub mod sink;
pub mod sinks;

pub use config::StreamConfig;
pub use engine::{End, Engine, Parts, Stats};
pub use error::StreamError;
pub use from_change::FromChange;
#[doc(hidden)]
pub use from_change::private as __private;
pub use handler::{Handler, HandlerError, HandlerFn, Handlers, handler_fn};
pub use herdsman_stream_derive::FromChange;
/// The crate below: changes, rows, slots.
pub use herdsman_wal as wal;
pub use load::{Loaded, RunError, load};
pub use sink::{Batch, DeliveryError, Order, Position, Sink, SinkError, Undelivered, Why};

/// The Rust in this page is compiled with the documentation's tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/stream.md")]
struct Page;
