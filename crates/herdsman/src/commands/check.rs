//! `herdsman check`: what the configuration means, and whether the nodes can be reached.

mod gateway;

use std::path::Path;
use std::time::Duration;

use herdsman_hooks::HookConfig;
use herdsman_ledger::config::LogConfig;
use herdsman_node::{Conninfo, NodeName, Role, Tls};
use tokio::task::JoinSet;

use crate::cli::CheckArgs;
use crate::config::{Config, Depth};
use crate::exit::{Exit, Failed};
use crate::output;

/// What one question to a node tells: its role, its version, and whether our role may see what the watcher looks at.
const QUESTION: &str = "SELECT pg_catalog.pg_is_in_recovery(), \
    pg_catalog.current_setting('server_version'), \
    pg_catalog.pg_has_role(current_user, 'pg_monitor', 'USAGE')";

/// What editors are told; a test makes it from the types that read the sections.
const SCHEMA: &str = include_str!("../config/schema.json");

/// Nodes tried at the same time.
const AT_ONCE: usize = 32;

/// Validates the configuration, prints what it means, and with `--connect` tries each node.
pub(crate) async fn run(args: &CheckArgs, file: Option<&Path>) -> Result<Exit, Failed> {
    if args.schema {
        output::line(SCHEMA.trim_end());
        return Ok(Exit::Success);
    }
    let config = Config::load(file, Depth::Full)?;
    output::line(&summary(&config));
    if !args.connect {
        return Ok(Exit::Success);
    }
    output::line("");
    let mut all_good = true;
    let mut lines = Vec::new();
    for (node, outcome) in connect_all(&config).await {
        all_good &= outcome.is_ok();
        lines.push(format!("{node}: {}", outcome.unwrap_or_else(|problem| problem)));
    }
    output::line(&lines.join("\n"));
    Ok(if all_good { Exit::Success } else { Exit::Failure })
}

fn summary(config: &Config) -> String {
    let mut lines = vec![format!("{}: good", config.path.display())];
    let width = config.nodes.keys().map(|name| name.as_str().chars().count()).max().unwrap_or(0);
    for (name, info) in &config.nodes {
        lines.push(format!(
            "  node {name:width$}  {} user={} dbname={} sslmode={}",
            info.endpoint(),
            info.user,
            info.dbname,
            sslmode(info)
        ));
    }
    for (name, nodes) in &config.groups {
        let nodes: Vec<_> = nodes.iter().map(NodeName::as_str).collect();
        lines.push(format!("  group {name}: {}", nodes.join(", ")));
    }
    let scheme = if config.ssl.is_some() { "https" } else { "http" };
    lines.push(format!("  API on {scheme}://{}:{}", config.listen.bind, config.listen.port));
    lines.push(format!(
        "  each node is probed every {:?} within {:?}; a frozen one is found out after {:?}",
        config.watch.interval,
        config.watch.timeout,
        config.watch.lease()
    ));
    lines.extend(gateway::summary(&config.gateway));
    lines.extend(stream(config));
    lines.extend(mesh(config));
    lines.extend(ledger(config));
    lines.extend(config.hooks.0.iter().filter_map(hook));
    lines.extend(config.notes.iter().map(|note| format!("  note: {note}")));
    lines.join("\n")
}

/// What is streamed, and where to; nothing where there are no sinks.
fn stream(config: &Config) -> Option<String> {
    let stream = &config.stream;
    let sinks: Vec<_> = stream.sinks.keys().map(String::as_str).collect();
    (!sinks.is_empty()).then(|| {
        format!(
            "  stream of {} from slot {} to {}",
            stream.tables.join(", "),
            stream.slot,
            sinks.join(", ")
        )
    })
}

/// Who takes writes, and which tables are kept alike; nothing where there is no mesh.
fn mesh(config: &Config) -> Option<String> {
    let mesh = &config.mesh;
    let nodes: Vec<_> = mesh.nodes.iter().map(NodeName::as_str).collect();
    (!nodes.is_empty()).then(|| {
        format!("  mesh {} of {}: {}", mesh.name, nodes.join(", "), mesh.tables.join(", "))
    })
}

/// Who follows which log; nothing where there is no ledger.
fn ledger(config: &Config) -> Option<String> {
    let ledger = &config.ledger;
    let log = match ledger.log.as_ref()? {
        LogConfig::Embedded(log) => log.path.display().to_string(),
        LogConfig::Kafka(log) => format!("topic {} of {}", log.topic, log.brokers.join(", ")),
    };
    let nodes = ledger.nodes.iter().map(|(name, node)| format!("{name} ({})", node.engine()));
    let nodes: Vec<_> = nodes.collect();
    let drivers = ledger.serve.as_ref().map(|at| format!("; drivers at {at}")).unwrap_or_default();
    Some(format!("  ledger {}: {} follow {log}{drivers}", ledger.name, nodes.join(", ")))
}

/// What is done when the herd changes.
fn hook(hook: &HookConfig) -> Option<String> {
    let kind = hook.kind()?;
    Some(format!("  hook {}: {kind}, at most {:?} a run", hook.name, hook.timeout))
}

fn sslmode(info: &Conninfo) -> &'static str {
    use herdsman_node::SslMode;
    match info.sslmode {
        SslMode::Disable => "disable",
        SslMode::Allow => "allow",
        SslMode::Prefer => "prefer",
        SslMode::Require => "require",
        SslMode::VerifyCa => "verify-ca",
        SslMode::VerifyFull => "verify-full",
    }
}

async fn connect_all(config: &Config) -> Vec<(NodeName, Result<String, String>)> {
    let mut waiting = config.nodes.clone().into_iter();
    let mut running = JoinSet::new();
    let mut outcomes = Vec::new();
    let limit = config.watch.timeout;
    loop {
        while running.len() < AT_ONCE
            && let Some((name, info)) = waiting.next()
        {
            running.spawn(async move { (name, Box::pin(look(&info, limit)).await) });
        }
        match running.join_next().await {
            Some(Ok(outcome)) => outcomes.push(outcome),
            // A task ends early only by a defect; its node is then missing from the list.
            Some(Err(error)) => tracing::error!(%error, "a check ended early"),
            None => break,
        }
    }
    outcomes.sort_by(|a, b| a.0.cmp(&b.0));
    outcomes
}

async fn look(info: &Conninfo, limit: Duration) -> Result<String, String> {
    let tls = Tls::new(info).map_err(|error| error.to_string())?;
    let connection =
        herdsman_node::connect(info, &tls, limit).await.map_err(|error| error.to_string())?;
    let (client, driver) = connection.split(|_| {});
    let driver = tokio::spawn(driver);
    let answer = tokio::time::timeout(limit, client.query_one(QUESTION, &[])).await;
    driver.abort();
    let row = answer
        .map_err(|_| format!("connected to {}, but no answer within {limit:?}", info.endpoint()))?
        .map_err(|error| {
            format!("connected, but asking failed: {}", herdsman_node::describe(&error))
        })?;
    let role = if row.get::<_, bool>(0) { Role::Standby } else { Role::Primary };
    let version: &str = row.get(1);
    let mut told = format!("ok, {role}, PostgreSQL {version}");
    if !row.get::<_, bool>(2) {
        told.push_str(&format!(
            "; warning: the role {user} lacks pg_monitor, so less is known of replication; run `GRANT pg_monitor TO {quoted}` on the primary",
            user = info.user,
            quoted = quote_identifier(&info.user)
        ));
    }
    Ok(told)
}

fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
