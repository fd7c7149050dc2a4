//! `SHOW CONFIG`. What is secret is not among it.

use std::path::Path;
use std::time::Duration;

use super::header;
use super::pools::mode;
use crate::admin::reply::{Column, Row};
use crate::config::{AuthMethod, GatewayConfig, SessionState, WriteGuard};

pub(super) const CONFIG: &[Column] = header![t "key", t "value", t "default", t "changeable"];

/// Every key with its value, its default, and whether `RELOAD` changes it; then some under PgBouncer's names, which its
/// exporters look for.
pub(super) fn config(config: &GatewayConfig) -> Vec<Row> {
    let defaults = values(&GatewayConfig::default());
    let row = |((key, value), (_, default)): ((&'static str, String), (_, String))| {
        let fixed = matches!(key, "listen" | "unix_socket_dir" | "workers");
        let changeable = if fixed { "no" } else { "yes" };
        vec![key.into(), value.into(), default.into(), changeable.into()]
    };
    values(config).into_iter().zip(defaults).map(row).collect()
}

fn values(config: &GatewayConfig) -> Vec<(&'static str, String)> {
    let pool = &config.pool;
    let switchover = &config.switchover;
    let path = |path: &Option<std::path::PathBuf>| path.as_deref().map_or_else(String::new, shown);
    let tls = config.tls.as_ref();
    vec![
        ("listen", config.listen.join(",")),
        ("unix_socket_dir", path(&config.unix_socket_dir)),
        ("workers", config.workers.to_string()),
        ("tls.cert", tls.map_or_else(String::new, |tls| shown(&tls.cert))),
        ("tls.key", tls.map_or_else(String::new, |tls| shown(&tls.key))),
        ("tls.client_ca", tls.map_or_else(String::new, |tls| path(&tls.client_ca))),
        ("tls.client_crl", tls.map_or_else(String::new, |tls| path(&tls.client_crl))),
        ("tls.required", tls.is_some_and(|tls| tls.required).to_string()),
        ("proxy_protocol", config.proxy_protocol.to_string()),
        ("auth", method(config.auth).to_owned()),
        ("trust_loopback", config.trust_loopback.to_string()),
        ("auth_file", path(&config.auth_file)),
        ("auth_query", config.auth_query.as_ref().map_or_else(String::new, |q| q.query.clone())),
        ("admins", config.admins.join(",")),
        ("stats_users", config.stats_users.join(",")),
        ("hold", span(config.hold)),
        ("hold_queue", config.hold_queue.to_string()),
        ("max_clients", config.max_clients.to_string()),
        ("max_user_clients", config.max_user_clients.to_string()),
        ("max_database_clients", config.max_database_clients.to_string()),
        ("max_address_clients", config.max_address_clients.to_string()),
        ("login_timeout", span(config.login_timeout)),
        ("drain_timeout", span(config.drain_timeout)),
        ("linger", or_never(config.linger)),
        (
            "session_state",
            match config.session_state {
                SessionState::Pin => "pin",
                SessionState::Refuse => "refuse",
            }
            .to_owned(),
        ),
        (
            "write_guard",
            match config.write_guard {
                WriteGuard::Off => "off",
                WriteGuard::Deadline => "deadline",
                WriteGuard::Followers => "followers",
            }
            .to_owned(),
        ),
        ("guard_lease", span(config.guard_lease)),
        ("read_in_split_brain", config.read_in_split_brain.to_string()),
        ("slow_query", config.slow_query.map_or_else(|| "never".to_owned(), span)),
        ("prepared_statements", config.prepared_statements.to_string()),
        ("switchover.drain", span(switchover.drain)),
        ("switchover.command_timeout", span(switchover.command_timeout)),
        ("pool.mode", mode(pool.mode).to_owned()),
        ("pool.size", pool.size.to_string()),
        ("pool.queue", pool.queue.to_string()),
        ("pool.queue_timeout", span(pool.queue_timeout)),
        ("pool.connect_timeout", span(pool.connect_timeout)),
        ("pool.server_idle_timeout", span(pool.server_idle_timeout)),
        ("pool.server_lifetime", span(pool.server_lifetime)),
        ("pool.server_check_delay", span(pool.server_check_delay)),
        ("pool.client_idle_timeout", or_never(pool.client_idle_timeout)),
        ("pool.transaction_idle_timeout", or_never(pool.transaction_idle_timeout)),
        ("pool.query_timeout", or_never(pool.query_timeout)),
        ("pool.max_clients", pool.max_clients.to_string()),
        ("max_client_conn", config.max_clients.to_string()),
        ("max_db_client_connections", config.max_database_clients.to_string()),
        ("max_user_client_connections", config.max_user_clients.to_string()),
        ("default_pool_size", pool.size.to_string()),
        // There is no such bound, which is zero there.
        ("max_db_connections", "0".to_owned()),
        ("max_user_connections", "0".to_owned()),
    ]
}

fn method(method: AuthMethod) -> &'static str {
    match method {
        AuthMethod::Scram => "scram",
        AuthMethod::Md5 => "md5",
        AuthMethod::Cert => "cert",
        AuthMethod::Trust => "trust",
    }
}

fn span(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

fn or_never(time: Duration) -> String {
    if time.is_zero() { "never".to_owned() } else { span(time) }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
