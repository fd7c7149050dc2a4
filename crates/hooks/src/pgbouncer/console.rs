//! PgBouncer's console: a database that takes words instead of SQL.

use herdsman_node::{Conninfo, Tls, describe};
use tokio_postgres::Client;
use tokio_util::task::AbortOnDropHandle;

use crate::config::OldConnections;

/// Has PgBouncer read its configuration, and lets go of connections to servers that databases do not go to any more.
///
/// # Errors
/// What it could not be told, and why.
pub(super) async fn reload(
    info: &Conninfo,
    limit: std::time::Duration,
    moved: impl IntoIterator<Item = &str>,
    old: OldConnections,
) -> Result<(), String> {
    let (client, _driver) = log_in(info, limit).await?;
    tell(&client, &info.endpoint(), moved, old).await
}

/// Logs in, and has it say something that changes nothing.
///
/// # Errors
/// Why it cannot be told anything.
pub(crate) async fn greet(info: &Conninfo, limit: std::time::Duration) -> Result<(), String> {
    let (client, _driver) = log_in(info, limit).await?;
    let endpoint = info.endpoint();
    let told = tokio::time::timeout(limit, command(&client, &endpoint, "SHOW VERSION")).await;
    told.unwrap_or_else(|_| Err(format!("PgBouncer at {endpoint} did not answer within {limit:?}")))
}

/// A client, and what moves its bytes for as long as it is held.
async fn log_in(
    info: &Conninfo,
    limit: std::time::Duration,
) -> Result<(Client, AbortOnDropHandle<String>), String> {
    let tls = Tls::new(info).map_err(|error| error.to_string())?;
    let connection = herdsman_node::connect(info, &tls, limit)
        .await
        .map_err(|error| format!("PgBouncer's console: {error}"))?;
    let (client, driver) = connection.split(|_| {});
    Ok((client, AbortOnDropHandle::new(tokio::spawn(driver))))
}

async fn tell(
    client: &Client,
    endpoint: &str,
    moved: impl IntoIterator<Item = &str>,
    old: OldConnections,
) -> Result<(), String> {
    command(client, endpoint, "RELOAD").await?;
    let mut outcome = Ok(());
    for database in moved {
        // One that it does not know must not keep the others from moving.
        outcome = outcome.and(let_go(client, endpoint, &argument(database), old).await);
    }
    outcome
}

async fn let_go(
    client: &Client,
    endpoint: &str,
    name: &str,
    old: OldConnections,
) -> Result<(), String> {
    match old {
        OldConnections::Reconnect => command(client, endpoint, &format!("RECONNECT{name}")).await,
        OldConnections::Kill => {
            let (kill, resume) = (format!("KILL{name}"), format!("RESUME{name}"));
            // Sent together: clients would wait for ever where we were gone in between.
            let (killed, resumed) =
                tokio::join!(command(client, endpoint, &kill), command(client, endpoint, &resume));
            killed.and(resumed)
        }
    }
}

/// A database as the console takes it; none for all of them.
fn argument(database: &str) -> String {
    match database {
        "*" => String::new(),
        name => format!(" \"{}\"", name.replace('"', "\"\"")),
    }
}

async fn command(client: &Client, endpoint: &str, command: &str) -> Result<(), String> {
    client.simple_query(command).await.map(|_| ()).map_err(|error| {
        format!(
            "PgBouncer at {endpoint} refuses `{command}`: {}; check that the user is one of its `admin_users`, that it \
             reads this file, and its log",
            describe(&error)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_and_the_star_is_all() {
        for (name, expected) in [("shop", " \"shop\""), ("a\"; b", " \"a\"\"; b\""), ("*", "")] {
            assert_eq!(argument(name), expected);
        }
    }
}
