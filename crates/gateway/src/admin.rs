//! The admin database: PgBouncer's commands under PgBouncer's names, and a few of our own.
//!
//! `command` reads a text, `rights` says who may, `console` speaks the protocol, `engine` does it. What is shown is looked
//! up as plain values by `gather` and made into rows by `show`, one by one while they are sent.

mod command;
mod console;
mod desk;
mod engine;
mod gather;
mod reply;
mod rights;
mod show;
mod view;

use std::sync::Arc;

pub(crate) use desk::Desk;
pub use desk::{EndWish, EndWishes, Ending, ReloadWish, ReloadWishes};
pub(crate) use gather::statistics;

use crate::listen::Client;
use crate::shared::Shared;
use console::Console;
use engine::Engine;

/// Drivers ask for the server's version and expect a number. The commands here are of no version of PostgreSQL's.
pub(crate) const SERVER_VERSION: &str = "16.0 (Herdsman)";

/// Ends what `PAUSE`, `KILL` and `HOLD` have begun for all databases. Whether there was anything.
pub(crate) fn resume(shared: &Shared) -> bool {
    engine::resume(shared, None)
}

/// Serves a client of the admin database (`herdsman`, or `pgbouncer`) until it leaves.
pub(crate) async fn serve(client: Client, shared: Arc<Shared>) {
    let Client { stream, unread, card, .. } = client;
    let id = card.id;
    let engine = Engine { shared, card };
    if let Err(error) = Console::new(stream, unread, engine).serve().await {
        tracing::debug!(client = id, %error, "a client of the admin database is gone");
    }
}
