//! What happens when a row changes. `herdsman stream init` wrote this once; it is yours now.
//!
//! `cargo run` reads herdsman.yml, makes publication and slot where they are missing, and calls the handlers below with
//! every change, in order. A handler that fails is called again, with growing pauses; meanwhile only the row it failed
//! with waits. What fails for good becomes a dead letter: `herdsman stream dlq list`.
//!
//! A change may come twice, after a crash: `change.view().id()` is then the same.

use std::error::Error;
use std::sync::Arc;

use herdsman_stream::wal::{Change, Kind};
use herdsman_stream::{FromChange, HandlerError, Handlers, handler_fn, load};

/// A row of `public.users`, as far as the handler below needs it.
#[derive(Debug, FromChange)]
#[change(table = "public.users")]
struct User {
    id: i64,
    /// A row that is gone tells its key only, unless the table has `REPLICA IDENTITY FULL`.
    #[change(default)]
    name: Option<String>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().init();
    let handlers = Handlers::new()
        .all(handler_fn(every_change))
        .table_of(user_changed)
        // .table("shop_*.orders", Orders)?    with `impl Handler for Orders`
        .on_error(|change, problem| {
            tracing::error!(kind = change.kind().name(), problem, "a handler failed");
        });
    let interrupted = async {
        // Where nobody can ask us to end, nobody does.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let end = load(None)?.run(handlers, interrupted).await?;
    tracing::info!(safe = %end.safe, "stopped");
    Ok(())
}

/// Called with every change of every table.
async fn every_change(change: Arc<Change>) -> Result<(), HandlerError> {
    let table = change.table().map_or_else(String::new, |table| table.to_string());
    tracing::info!(kind = change.kind().name(), table, "a change");
    Ok(())
}

/// Called with every row of `public.users` that is new, changed or gone.
async fn user_changed(user: User, change: Arc<Change>) -> Result<(), HandlerError> {
    match change.kind() {
        Kind::Delete => tracing::info!(user.id, "a user is gone"),
        _ => tracing::info!(user.id, user.name, "this is what a user looks like now"),
    }
    Ok(())
}
