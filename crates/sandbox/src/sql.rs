//! Connections of the sandbox's own, straight to a server, past every proxy.

use std::{net::Ipv4Addr, time::Duration};

use tokio_postgres::{Client, NoTls};

use crate::{Credentials, SandboxError, server::Server};

/// A frozen server accepts connections and never answers: longer than any loopback login, short enough to wait for.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Logs in to a server's real port.
pub(crate) async fn connect(
    server: &Server,
    role: &str,
    credentials: &Credentials,
) -> Result<Client, SandboxError> {
    connect_with(server, role, credentials.password(role)?).await
}

/// Likewise, with a password that need not be the sandbox's.
pub(crate) async fn connect_with(
    server: &Server,
    role: &str,
    password: &str,
) -> Result<Client, SandboxError> {
    let mut config = tokio_postgres::Config::new();
    config
        .host(Ipv4Addr::LOCALHOST.to_string())
        .port(server.port.port())
        .user(role)
        .password(password)
        .dbname("postgres")
        .application_name("herdsman-sandbox")
        .connect_timeout(LOGIN_TIMEOUT);
    let (client, connection) = tokio::time::timeout(LOGIN_TIMEOUT, config.connect(NoTls))
        .await
        .map_err(|_| SandboxError::Deadline {
            node: server.name.clone(),
            what: format!("the login of {role}"),
            within: LOGIN_TIMEOUT,
            detail: String::new(),
        })?
        .map_err(failed(&server.name, format!("{role} cannot log in")))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection of the sandbox ended");
        }
    });
    Ok(client)
}

/// Runs a query of the sandbox's own that must not hang.
pub(crate) async fn within<T>(
    server: &Server,
    what: &str,
    limit: Duration,
    query: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, SandboxError> {
    tokio::time::timeout(limit, query)
        .await
        .map_err(|_| SandboxError::Deadline {
            node: server.name.clone(),
            what: format!("an answer ({what})"),
            within: limit,
            detail: String::new(),
        })?
        .map_err(failed(&server.name, what))
}

pub(crate) fn failed(
    node: &str,
    what: impl Into<String>,
) -> impl FnOnce(tokio_postgres::Error) -> SandboxError {
    let (node, what) = (node.to_owned(), what.into());
    move |source| SandboxError::Sql { node, what, source: Box::new(source) }
}

/// Creates the replication slot of a standby where there is none, or where it has lost the segments it stood for.
pub(crate) async fn ensure_slot(
    server: &Server,
    client: &Client,
    slot: &str,
    reserve: bool,
) -> Result<(), SandboxError> {
    const LIMIT: Duration = Duration::from_secs(10);
    let what = format!("no slot for {slot}");
    let steps = async {
        client
            .execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
                 WHERE slot_name = $1 AND wal_status IN ('lost', 'unreserved') AND NOT active",
                &[&slot],
            )
            .await?;
        client
            .execute(
                "SELECT pg_create_physical_replication_slot($1::text::name, $2)
                 WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)",
                &[&slot, &reserve],
            )
            .await
    };
    within(server, &what, LIMIT, steps).await.map(|_| ())
}
