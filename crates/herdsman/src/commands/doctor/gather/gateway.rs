//! Tries what the gateway does with the servers: its users' logins and its look-up of users.

use std::collections::BTreeMap;
use std::time::Duration;

use herdsman::Secret;
use herdsman_config::LoginConfig;
use herdsman_gateway::config::{AuthQuery, UserConfig};
use herdsman_node::{ConnectErrorKind, Conninfo, NodeName, Tls};
use herdsman_wal::WalError;
use herdsman_wal::inspect::Session;
use tokio::task::JoinSet;

use super::LIMIT;
use crate::commands::doctor::evidence::{Login, Refused, Seen};
use crate::config::Config;

/// Users tried: one by one on each node, and nobody waits for hundreds.
const USERS: usize = 20;
/// Bound on all of them on one node.
const ALL: Duration = Duration::from_secs(60);

/// Logs in as each user whose password the file knows, on each node that let us in before.
pub(super) async fn logins(config: &Config, nodes: &BTreeMap<NodeName, Seen>) -> Vec<Login> {
    let users: Vec<_> = config
        .gateway
        .users
        .iter()
        .filter_map(|(name, user)| {
            let (server_user, password) = on_servers(name, user)?;
            Some((name.clone(), server_user, password))
        })
        .take(USERS)
        .collect();
    if users.is_empty() || config.gateway.listen.is_empty() {
        return Vec::new();
    }
    let mut running = JoinSet::new();
    for (node, info) in reachable(config, nodes) {
        let (node, info, users) = (node.clone(), info.clone(), users.clone());
        let database = database(config, &info);
        running.spawn(async move {
            let mut logins = Vec::new();
            let trying = async {
                for (user, server_user, password) in users {
                    let info = login(&info, &server_user, Some(password), &database);
                    let outcome = try_login(&info).await;
                    let (node, database) = (node.clone(), database.clone());
                    logins.push(Login { user, server_user, database, node, outcome });
                }
            };
            // Those that were not got to are not told of.
            let _all_or_some = tokio::time::timeout(ALL, Box::pin(trying)).await;
            logins
        });
    }
    running.join_all().await.into_iter().flatten().collect()
}

/// Who a user is on the servers, where the password is known and no hash.
fn on_servers(name: &str, user: &UserConfig) -> Option<(String, Secret)> {
    let secret = user.server_password.as_ref().or(user.password.as_ref())?;
    let password = secret.expose();
    let hashed = password.starts_with("SCRAM-SHA-256$")
        || (password.starts_with("md5") && password.len() == 35);
    let server_user = user.server_user.as_deref().unwrap_or(name).to_owned();
    (!hashed).then(|| (server_user, secret.clone()))
}

fn login(node: &Conninfo, user: &str, password: Option<Secret>, dbname: &str) -> Conninfo {
    let (user, dbname) = (Some(user.to_owned()), Some(dbname.to_owned()));
    let password = password.map(|secret| secret.expose().to_owned().into());
    LoginConfig { user, dbname, password, ..LoginConfig::default() }.apply(node)
}

/// The first database that clients are offered by name, else what the node's own login uses.
fn database(config: &Config, info: &Conninfo) -> String {
    let named = config.gateway.databases.iter().find(|(name, _)| *name != "*");
    named.map_or_else(
        || info.dbname.clone(),
        |(name, database)| database.dbname.as_ref().unwrap_or(name).clone(),
    )
}

fn reachable<'a>(
    config: &'a Config,
    nodes: &'a BTreeMap<NodeName, Seen>,
) -> impl Iterator<Item = (&'a NodeName, &'a Conninfo)> {
    config.nodes.iter().filter(|(node, _)| matches!(nodes.get(*node), Some(Seen::In(_))))
}

async fn try_login(info: &Conninfo) -> Result<(), Refused> {
    session(info).await.map(drop)
}

async fn session(info: &Conninfo) -> Result<Session, Refused> {
    let refused = |right, problem| Refused { right, problem };
    let tls = Tls::new(info).map_err(|error| refused(false, error.to_string()))?;
    Session::connect(info, &tls, LIMIT).await.map_err(|error| match error {
        WalError::Connect(error) => {
            let right = error.kind == ConnectErrorKind::Rejected
                && error.problem.contains("(SQLSTATE 42501)");
            refused(right, error.problem)
        }
        error => refused(false, error.to_string()),
    })
}

/// Looks its own role up, as the gateway would: on the primary, else on any node.
pub(super) async fn auth_query(
    config: &Config,
    nodes: &BTreeMap<NodeName, Seen>,
) -> Option<(NodeName, Result<(), Refused>)> {
    let query = config.gateway.auth_query.as_ref()?;
    let in_recovery = |node: &NodeName| match nodes.get(node) {
        Some(Seen::In(server)) => server.facts.in_recovery,
        _ => true,
    };
    let (node, info) = reachable(config, nodes).min_by_key(|(node, _)| in_recovery(node))?;
    let listed = config.gateway.users.get(&query.user).and_then(|user| user.password.as_ref());
    let password = query.password.as_ref().or(listed);
    let info = login(info, &query.user, password.cloned(), &query.database);
    Some((node.clone(), look_up(&info, query).await))
}

async fn look_up(info: &Conninfo, query: &AuthQuery) -> Result<(), Refused> {
    let session = session(info).await?;
    match session.rows("look a user up", &query.query, &[&query.user]).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let right = matches!(&error, WalError::Server { sqlstate, .. } if sqlstate == "42501");
            Err(Refused { right, problem: error.to_string() })
        }
    }
}
