//! What the gateway would do.

use herdsman_gateway::GatewayConfig;
use herdsman_gateway::config::{AuthMethod, PoolConfig, PoolMode, Target};

/// A line for each thing worth knowing; none where there is no gateway.
pub(super) fn summary(gateway: &GatewayConfig) -> Vec<String> {
    if gateway.listen.is_empty() {
        return Vec::new();
    }
    let mut places = gateway.listen.join(", ");
    if let Some(folder) = &gateway.unix_socket_dir {
        places.push_str(&format!(" and a unix socket in {}", folder.display()));
    }
    let tls = match &gateway.tls {
        None => "no TLS",
        Some(tls) if tls.required => "TLS required",
        Some(_) => "TLS",
    };
    let auth = match gateway.auth {
        AuthMethod::Scram => "scram",
        AuthMethod::Md5 => "md5",
        AuthMethod::Cert => "cert",
        AuthMethod::Trust => "trust",
    };
    let mut lines = vec![format!("  gateway on {places}: {tls}, {auth}, {}", threads(gateway))];
    if gateway.databases.is_empty() {
        lines.push(format!("    any database: split, {}", pool(&gateway.pool)));
    }
    for (name, database) in &gateway.databases {
        let dbname = database.dbname.as_ref().map(|name| format!(" is {name}"));
        let group = database.group.as_ref().map(|group| format!(" of group {group}"));
        lines.push(format!(
            "    database {name}{}: {}{}, {}",
            dbname.unwrap_or_default(),
            target(&database.target),
            group.unwrap_or_default(),
            pool(&gateway.pool.with(&database.pool))
        ));
    }
    lines.push(format!("    users: {}", users(gateway)));
    lines.push(format!(
        "    without a primary, up to {} transactions wait for {:?}",
        gateway.hold_queue, gateway.hold
    ));
    lines
}

fn threads(gateway: &GatewayConfig) -> String {
    match gateway.workers() {
        1 => "1 thread".to_owned(),
        many => format!("{many} threads"),
    }
}

fn target(target: &Target) -> String {
    match target {
        Target::Split => "split".to_owned(),
        Target::Writer => "the writer".to_owned(),
        Target::Reader => "readers".to_owned(),
        Target::Writers => "every node a writer".to_owned(),
        Target::Node(node) => format!("node {node}"),
    }
}

fn pool(pool: &PoolConfig) -> String {
    let mode = match pool.mode {
        PoolMode::Session => "session",
        PoolMode::Transaction => "transaction",
        PoolMode::Statement => "statement",
    };
    format!("{mode} mode, {} connections per user and node", pool.size)
}

fn users(gateway: &GatewayConfig) -> String {
    let named = gateway.users.keys().map(|name| {
        if gateway.admins.contains(name) {
            format!("{name} (admin)")
        } else if gateway.stats_users.contains(name) {
            format!("{name} (stats)")
        } else {
            name.clone()
        }
    });
    let mut all: Vec<_> = named.collect();
    if let Some(file) = &gateway.auth_file {
        all.push(format!("those in {}", file.display()));
    }
    if let Some(query) = &gateway.auth_query {
        all.push(format!("those that {} finds on the servers", query.user));
    }
    if gateway.trust_loopback {
        all.push("anybody on this machine".to_owned());
    }
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}
