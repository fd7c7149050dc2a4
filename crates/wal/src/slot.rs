//! Replication slots: what the server keeps our place in.
//!
//! [`inspect`] and [`list`] tell the facts, [`create`], [`drop`] and [`advance`] change them, and [`may_start`] decides
//! whether, and from where, a slot may be read. None of them decodes or consumes anything.

mod commands;
mod facts;
mod starting;

pub use commands::{CreateOptions, Created, advance, create, drop, inspect, list};
pub use facts::{Decoding, Slot, WalStatus};
pub use starting::{StartFrom, may_start};
