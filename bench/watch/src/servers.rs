//! The servers under the bench, past every proxy: how they are reached, named to programs, and asked what they did.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use herdsman_sandbox::Sandbox;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::{Client, NoTls};

use crate::error::BenchError;

/// The role everything logs in as.
pub(crate) const ROLE: &str = "herdsman";

/// Committed transactions per node, ever.
pub(crate) type Transactions = BTreeMap<String, i64>;

/// One connection per node to a database of its own, so that counting is not counted.
#[derive(Debug)]
pub(crate) struct Counters(Vec<(String, Client)>);

const LIMIT: Duration = Duration::from_secs(5);

/// How a program reaches the server itself, as libpq's keys and values.
pub(crate) fn conninfo(
    sandbox: &Sandbox,
    node: &str,
) -> Result<BTreeMap<String, String>, BenchError> {
    let mut keys = sandbox.conninfo(node, ROLE)?;
    keys.insert("port".to_owned(), sandbox.server_port(node)?.to_string());
    Ok(keys)
}

/// Logs in to a server. The handle ends when the connection does.
pub(crate) async fn connect(
    sandbox: &Sandbox,
    node: &str,
    database: &str,
) -> Result<(Client, JoinHandle<()>), BenchError> {
    let mut config = tokio_postgres::Config::new();
    config
        .host(Ipv4Addr::LOCALHOST.to_string())
        .port(sandbox.server_port(node)?)
        .user(ROLE)
        .password(sandbox.credentials().password(ROLE)?)
        .dbname(database)
        .application_name("herdsman-bench");
    let within = timeout(LIMIT, config.connect(NoTls)).await;
    let (client, connection) = within
        .map_err(|_| not_seen(format!("the login on {node}"), LIMIT, "no answer"))?
        .map_err(failed(node))?;
    let driver = tokio::spawn(async move {
        // However it ends, the end is all that is of interest.
        let _ended = connection.await;
    });
    Ok((client, driver))
}

/// The `hosts:` of a configuration: each name with the node behind it.
pub(crate) fn hosts<'a>(
    sandbox: &Sandbox,
    entries: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<String, BenchError> {
    let mut text = String::from("hosts:\n");
    for (name, node) in entries {
        text.push_str(&format!("  {name}:\n"));
        for (key, value) in conninfo(sandbox, node)? {
            // A JSON string is a YAML string.
            text.push_str(&format!("    {key}: {}\n", serde_json::Value::from(value)));
        }
    }
    Ok(text)
}

/// The `watch:` section that tells Herdsman under which addresses the nodes know each other.
pub(crate) fn addresses<'a>(
    sandbox: &Sandbox,
    entries: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<String, BenchError> {
    let mut text = String::from("watch:\n  replication_addresses:\n");
    for (name, node) in entries {
        let addresses = serde_json::Value::from(sandbox.replication_addresses(node)?);
        text.push_str(&format!("    {name}: {addresses}\n"));
    }
    Ok(text)
}

pub(crate) fn not_seen(
    what: impl Into<String>,
    within: Duration,
    last: impl Into<String>,
) -> BenchError {
    BenchError::NotSeen { what: what.into(), within: within.as_secs(), last: last.into() }
}

pub(crate) fn failed(node: &str) -> impl FnOnce(tokio_postgres::Error) -> BenchError {
    let node = node.to_owned();
    move |source| BenchError::Sql { node, source }
}

impl Counters {
    pub(crate) async fn open(sandbox: &Sandbox) -> Result<Self, BenchError> {
        let mut counters = Vec::new();
        for node in sandbox.node_names() {
            let (client, _ends_with_the_client) = connect(sandbox, &node, "template1").await?;
            counters.push((node, client));
        }
        Ok(Self(counters))
    }

    /// Waits until nobody is logged in to the watched database any more: servers add up what a session did, at the
    /// latest, when it ends.
    pub(crate) async fn settled(&self) -> Result<Transactions, BenchError> {
        let mut counts = Transactions::new();
        for (node, client) in &self.0 {
            let deadline = Instant::now() + LIMIT;
            while number(
                node,
                client,
                "SELECT count(*) FROM pg_stat_activity WHERE datname = 'postgres'",
            )
            .await?
                > 0
            {
                if Instant::now() > deadline {
                    let what = format!("the end of all sessions on {node}");
                    return Err(not_seen(what, LIMIT, "some are left"));
                }
                sleep(Duration::from_millis(20)).await;
            }
            let count = number(
                node,
                client,
                "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'postgres'",
            )
            .await?;
            counts.insert(node.clone(), count);
        }
        Ok(counts)
    }
}

async fn number(node: &str, client: &Client, query: &str) -> Result<i64, BenchError> {
    let asked = timeout(LIMIT, client.query_one(query, &[])).await;
    let row = asked
        .map_err(|_| not_seen(format!("an answer of {node}"), LIMIT, "nothing"))?
        .map_err(failed(node))?;
    row.try_get(0).map_err(failed(node))
}
