//! The watcher on real clusters: kill, freeze, blackhole, cut, promote, split brain, strangers, and back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

mod availability;
mod faults;
mod herd;
mod promotions;
mod soak;
mod strangers;
