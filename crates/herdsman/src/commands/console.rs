//! `herdsman hold`, `resume` and `switchover`: said to the running gateway, in its admin database, as an admin of the
//! configuration.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use herdsman_gateway::GatewayConfig;
use herdsman_gateway::config::AuthMethod;
use herdsman_node::{Conninfo, NodeName, Tls};

use crate::cli::{Global, SwitchoverArgs};
use crate::config::{Config, Depth};
use crate::exit::{Exit, Failed};
use crate::output;

/// Bound on logging in; the gateway answers from memory.
const LOGIN: Duration = Duration::from_secs(10);
/// Bound on what takes effect at once.
const AT_ONCE: Duration = Duration::from_secs(10);
/// The admin database.
const DATABASE: &str = "herdsman";

/// Has new transactions wait.
pub(crate) async fn hold(global: &Global) -> Result<Exit, Failed> {
    say(&load(global)?, "HOLD", AT_ONCE).await?;
    output::note("held: new transactions that write wait until `herdsman resume`");
    Ok(Exit::Success)
}

/// Has them go on.
pub(crate) async fn resume(global: &Global) -> Result<Exit, Failed> {
    say(&load(global)?, "RESUME", AT_ONCE).await?;
    output::note("resumed");
    Ok(Exit::Success)
}

/// Makes another node primary.
pub(crate) async fn switchover(args: &SwitchoverArgs, global: &Global) -> Result<Exit, Failed> {
    let config = load(global)?;
    if !config.nodes.contains_key(args.node.as_str()) {
        let known: Vec<_> = config.nodes.keys().map(NodeName::as_str).collect();
        let problem =
            format!("`{}` is no node of the configuration; it has {}", args.node, known.join(", "));
        return Err(Exit::Usage.with(problem));
    }
    let force = if args.force { " FORCE" } else { "" };
    let command = format!("SWITCHOVER \"{}\"{force}", args.node.replace('"', "\"\""));
    say(&config, &command, args.timeout).await?;
    Ok(Exit::Success)
}

fn load(global: &Global) -> Result<Config, Failed> {
    let config = Config::load(global.config.as_deref(), Depth::Full)?;
    if config.gateway.listen.is_empty() {
        let problem = format!(
            "{} has no section `gateway`, so there is nothing to hold or resume",
            config.path.display()
        );
        return Err(Exit::Config.with(problem));
    }
    Ok(config)
}

/// Logs in, says one thing, and shows what the gateway tells on the way.
async fn say(config: &Config, command: &str, limit: Duration) -> Result<(), Failed> {
    let info = login(&config.gateway)?;
    let tls = Tls::new(&info).map_err(|error| Exit::Config.with(error))?;
    let connection = Box::pin(herdsman_node::connect(&info, &tls, LOGIN));
    let connection = connection.await.map_err(|error| {
        let problem =
            format!("the gateway at {} cannot be asked: {}", error.endpoint, error.problem);
        Exit::Unavailable.with(format!("{problem}; is `herdsman run` up with this configuration?"))
    })?;
    let (client, driver) = connection.split_telling(|_| {}, output::note);
    let driver = tokio::spawn(driver);
    let answer = tokio::time::timeout(limit, client.simple_query(command)).await;
    // What it told last comes before the end of the connection.
    drop(client);
    let outcome = match answer {
        Ok(Ok(_done)) => Ok(()),
        Ok(Err(error)) => Err(Exit::Failure.with(herdsman_node::describe(&error))),
        Err(_) => {
            driver.abort();
            let problem = format!("not done within {limit:?}; the gateway's log says how it ends");
            return Err(Exit::Failure.with(problem));
        }
    };
    let _ended = tokio::time::timeout(AT_ONCE, driver).await;
    outcome
}

/// How an admin of the configuration logs in from this machine.
fn login(gateway: &GatewayConfig) -> Result<Conninfo, Failed> {
    let wrong = |problem: &str| Exit::Config.with(problem);
    let (host, port) = address(gateway).ok_or_else(|| {
        wrong("`gateway.listen` has no port of its own to ask at; the system chooses one at each start")
    })?;
    let (user, password) = admin(gateway).ok_or_else(|| {
        wrong(
            "none of `gateway.admins` can log in from here; list one there that has a password (not a verifier) in \
             `gateway.users`",
        )
    })?;
    let local = host.starts_with('/');
    let sslmode = if gateway.tls.is_some() && !local { "require" } else { "disable" };
    let mut pairs = BTreeMap::from([
        ("host", host),
        ("port", port.to_string()),
        ("user", user),
        ("dbname", DATABASE.to_owned()),
        ("application_name", "herdsman".to_owned()),
        ("sslmode", sslmode.to_owned()),
    ]);
    if let Some(password) = password {
        pairs.insert("password", password);
    }
    Conninfo::from_pairs(pairs).map_err(|error| Exit::Config.with(error))
}

/// An admin with a password to show, else one who needs none here.
fn admin(gateway: &GatewayConfig) -> Option<(String, Option<String>)> {
    let verifier = |text: &str| text.starts_with("SCRAM-SHA-256$") || text.starts_with("md5");
    let with_password = gateway.admins.iter().find_map(|name| {
        let user = gateway.users.get(name)?;
        let password = user.password.as_ref()?.expose();
        (!verifier(password)).then(|| (name.clone(), Some(password.to_owned())))
    });
    let trusted = |name: &&String| {
        let own = gateway.users.get(*name).and_then(|user| user.auth).unwrap_or(gateway.auth);
        gateway.trust_loopback || own == AuthMethod::Trust
    };
    with_password.or_else(|| gateway.admins.iter().find(trusted).map(|name| (name.clone(), None)))
}

/// Where this machine reaches the gateway: the unix socket, an address of the loopback interface, or the first there is.
fn address(gateway: &GatewayConfig) -> Option<(String, u16)> {
    let addresses: Vec<_> = gateway.listen.iter().filter_map(|text| parse(text)).collect();
    let (_, first_port) = addresses.first().cloned()?;
    if let Some(folder) = gateway.unix_socket_dir.as_ref().filter(|_| first_port != 0) {
        // libpq takes what begins with a slash for a folder.
        let folder = std::path::absolute(folder).ok()?;
        return Some((folder.display().to_string(), first_port));
    }
    let fixed = || addresses.iter().filter(|(_, port)| *port != 0);
    let near = |host: &str| match host.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        Err(_) => host == "localhost",
    };
    fixed().find(|(host, _)| near(host)).or_else(|| fixed().next()).cloned()
}

fn parse(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
        Ok(IpAddr::V6(ip)) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.to_string(),
        _ if host == "*" => "localhost".to_owned(),
        _ => host.to_owned(),
    };
    Some((host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(json: &str) -> GatewayConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_gateway_is_asked_where_this_machine_reaches_it_best() {
        let at = |json: &str| address(&gateway(json));
        let told = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(at(r#"{"listen": ["10.0.0.1:1", "127.0.0.1:2"]}"#), told("127.0.0.1", 2));
        assert_eq!(at(r#"{"listen": ["10.0.0.1:1"]}"#), told("10.0.0.1", 1));
        assert_eq!(at(r#"{"listen": "*:6432"}"#), told("localhost", 6432));
        assert_eq!(at(r#"{"listen": "0.0.0.0:6432"}"#), told("127.0.0.1", 6432));
        assert_eq!(at(r#"{"listen": "[::]:6432"}"#), told("::1", 6432));
        assert_eq!(at(r#"{"listen": "*:6", "unix_socket_dir": "/run/h"}"#), told("/run/h", 6));
        assert_eq!(at(r#"{"listen": "127.0.0.1:0"}"#), None);
    }

    #[test]
    fn an_admin_with_a_password_is_who_asks() {
        let who = |json: &str| admin(&gateway(json));
        let users = r#""users": {"v": {"password": "md5ffffffffffffffffffffffffffffffff"}, "p": {"password": "x"}}"#;
        let some = |name: &str, password: Option<&str>| {
            Some((name.to_owned(), password.map(ToOwned::to_owned)))
        };
        assert_eq!(who(&format!(r#"{{"admins": ["v", "p"], {users}}}"#)), some("p", Some("x")));
        assert_eq!(who(&format!(r#"{{"admins": ["v"], {users}}}"#)), None);
        let trusting = format!(r#"{{"admins": ["v"], "trust_loopback": true, {users}}}"#);
        assert_eq!(who(&trusting), some("v", None));
        assert_eq!(who("{}"), None);
    }
}
