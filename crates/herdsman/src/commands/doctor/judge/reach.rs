//! Whether a node lets us in, and how safely.

use herdsman_node::{ConnectErrorKind as Kind, Conninfo, NodeName, SslMode};
use herdsman_wal::quote_identifier;

use crate::codes::Code;
use crate::commands::doctor::evidence::{ServerFacts, Unreached};
use crate::commands::doctor::finding::Finding;

const REACH: &str = "connection";

/// Why it did not, and what to do.
pub(super) fn unreached(node: &NodeName, info: &Conninfo, seen: &Unreached) -> Vec<Finding> {
    let evidence = format!("{}: {}", seen.endpoint, seen.problem);
    let (code, fix) = match seen.kind {
        None => (Code::TlsFailed, format!("correct the certificates that `hosts.{node}` names")),
        Some(Kind::Refused) => (
            Code::Unreachable,
            format!(
                "start PostgreSQL there; where it runs, have `listen_addresses` and `port` agree with `hosts.{node}`"
            ),
        ),
        Some(kind @ (Kind::TimedOut | Kind::Dropped | Kind::Unreachable | Kind::Other)) => {
            (Code::Unreachable, kind.advice().to_owned())
        }
        Some(Kind::NotReady) => (
            Code::NotReady,
            "wait until it has started, and look again; where that lasts, see its log".to_owned(),
        ),
        Some(Kind::TooManyConnections) => (
            Code::NoConnectionLeft,
            "close connections there, or raise `max_connections` and restart it".to_owned(),
        ),
        Some(Kind::Rejected) => {
            let setting = format!("hosts.{node}");
            (Code::LoginRefused, login(&seen.problem, &info.user, &info.dbname, &setting))
        }
        Some(kind @ Kind::Tls) => (Code::TlsFailed, kind.advice().to_owned()),
    };
    vec![Finding::error(code, REACH, evidence, fix)]
}

/// What to do about a login that was refused; `setting` is where it is configured.
pub(super) fn login(problem: &str, user: &str, database: &str, setting: &str) -> String {
    let (role, quoted_database) = (quote_identifier(user), quote_identifier(database));
    let has = |sqlstate: &str| problem.contains(&format!("(SQLSTATE {sqlstate})"));
    if has("28P01") {
        format!(
            "correct the password of `{setting}`, or give the role that one: `ALTER ROLE {role} PASSWORD '…'`"
        )
    } else if has("3D000") {
        format!("run `CREATE DATABASE {quoted_database}`, or name another one in `{setting}`")
    } else if has("42501") {
        format!("run `GRANT CONNECT ON DATABASE {quoted_database} TO {role}`")
    } else if has("28000") && problem.contains("does not exist") {
        format!("run `CREATE ROLE {role} LOGIN PASSWORD '…'`, or correct `{setting}`")
    } else if has("28000") && problem.contains("not permitted to log in") {
        format!("run `ALTER ROLE {role} LOGIN`")
    } else {
        format!(
            "check user and password of `{setting}`, and that pg_hba.conf on the server lets `{user}` into `{database}` from here"
        )
    }
}

/// It did: how.
pub(super) fn reached(info: &Conninfo, facts: &ServerFacts) -> Vec<Finding> {
    let says = format!(
        "{} lets `{}` into database `{}`, PostgreSQL {}",
        info.endpoint(),
        info.user,
        info.dbname,
        facts.version_text
    );
    let mut found = vec![Finding::ok(Code::Unreachable, REACH, says)];
    let checked = matches!(info.sslmode, SslMode::VerifyCa | SslMode::VerifyFull);
    found.extend(match facts.encrypted {
        Some(true) if checked => {
            Some(Finding::ok(Code::Unencrypted, "TLS", "encrypted, and its certificate is checked"))
        }
        Some(true) => Some(Finding::info(
            Code::Unencrypted,
            "TLS",
            "encrypted, and whoever answers is believed to be the server",
            "set `sslmode: verify-full` and `sslrootcert` for the node",
        )),
        Some(false) if is_local(&info.host) => {
            Some(Finding::ok(Code::Unencrypted, "TLS", "none, and it is on this machine"))
        }
        Some(false) => Some(Finding::warning(
            Code::Unencrypted,
            "TLS",
            "the connection crosses a network and is not encrypted",
            "give the server a certificate, run `ALTER SYSTEM SET ssl = on` and `SELECT pg_reload_conf()` there, and set `sslmode: verify-full` and `sslrootcert` for the node",
        )),
        None => None,
    });
    found
}

/// Whether what goes there stays on this machine.
pub(super) fn is_local(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
