//! The ledger: databases that can be had and written to, and a log.

use herdsman_ledger::config::NodeConfig;
use herdsman_node::ConnectErrorKind as Kind;
use herdsman_wal::quote_identifier;

use super::reach;
use crate::codes::Code;
use crate::commands::doctor::evidence::{
    Evidence, LedgerLogSeen, LedgerNodeSeen, LedgerRights, LedgerServer, Unreached,
};
use crate::commands::doctor::finding::Finding;

/// The oldest PostgreSQL that can be told to apply without firing triggers by a role that is no superuser.
const OLDEST: u32 = 150_000;

pub(super) fn findings(evidence: &Evidence) -> Vec<Finding> {
    let Some(ledger) = &evidence.ledger else { return Vec::new() };
    let mut found = vec![log(&ledger.log)];
    for node in &ledger.nodes {
        let about = match &node.server {
            Some(server) => of_server(evidence, node, server),
            None => vec![place(node)],
        };
        let host = node.server.as_ref().map(|server| &server.host);
        found.extend(about.into_iter().map(|finding| match host {
            Some(host) => finding.on(host),
            None => finding,
        }));
    }
    found
}

fn subject(node: &LedgerNodeSeen) -> String {
    format!("ledger: {}", node.name)
}

fn of_server(evidence: &Evidence, node: &LedgerNodeSeen, server: &LedgerServer) -> Vec<Finding> {
    let rights = match &server.rights {
        Err(unreached) => return vec![refused(node, server, unreached)],
        Ok(rights) => rights,
    };
    let facts = evidence.servers().find(|(name, _)| **name == server.host);
    if let Some((_, facts)) = facts.filter(|(_, it)| (1..OLDEST).contains(&it.facts.version)) {
        let says = format!("PostgreSQL {} cannot follow a log", facts.facts.version_text);
        let fix = "bring it to 15 or later, or take it out of `ledger.nodes`";
        return vec![Finding::error(Code::Version, &subject(node), says, fix)];
    }
    let mut found = rights.iter().flat_map(|rights| missing(node, rights)).collect::<Vec<_>>();
    if found.is_empty() {
        let says = format!("`{}` may apply what the log says", server.user);
        found.push(Finding::ok(Code::LedgerRights, &subject(node), says));
    }
    found.push(place(node));
    found
}

/// Nobody was let in; the login is the ledger's own.
fn refused(node: &LedgerNodeSeen, server: &LedgerServer, unreached: &Unreached) -> Finding {
    let says = format!("{}: {}", unreached.endpoint, unreached.problem);
    let (code, fix) = match unreached.kind {
        Some(Kind::Rejected) => {
            let setting = format!("ledger.nodes.{}.postgres.login", node.name);
            let problem = &unreached.problem;
            (Code::LoginRefused, reach::login(problem, &server.user, &server.database, &setting))
        }
        Some(kind) => (Code::LedgerNode, kind.advice().to_owned()),
        None => (
            Code::TlsFailed,
            format!("correct the certificates that `hosts.{}` names", server.host),
        ),
    };
    Finding::error(code, &subject(node), says, fix)
}

/// What a role needs: to own the tables, to make more, and to apply without triggers.
fn missing(node: &LedgerNodeSeen, rights: &LedgerRights) -> Vec<Finding> {
    let role = quote_identifier(&rights.role);
    let lacks =
        |says: String, fix: String| Finding::error(Code::LedgerRights, &subject(node), says, fix);
    if rights.in_recovery {
        let says = "the server is a standby, and a node of a ledger is written to";
        let fix = format!("name a server that takes writes in `ledger.nodes.{}`", node.name);
        return vec![Finding::error(Code::LedgerNode, &subject(node), says, fix)];
    }
    let mut found = Vec::new();
    if !rights.may_set {
        found.push(lacks(
            format!("`{}` may not set `session_replication_role`", rights.role),
            format!(
                "run `GRANT SET ON PARAMETER session_replication_role TO {role}` as a superuser"
            ),
        ));
    }
    match &rights.schema {
        None => found.push(lacks(
            format!("no schema of the `search_path` of `{}` can be used", rights.role),
            format!("run `CREATE SCHEMA AUTHORIZATION {role}` as the owner of the database"),
        )),
        Some(schema) if !rights.may_create => found.push(lacks(
            format!("`{}` may not make tables in the schema `{schema}`", rights.role),
            format!(
                "run `GRANT CREATE ON SCHEMA {} TO {role}` as the owner of the schema",
                quote_identifier(schema)
            ),
        )),
        Some(_) => {}
    }
    found.extend(rights.not_own.iter().map(|table| {
        lacks(
            format!("the table {table} of the ledger belongs to somebody else"),
            format!("run `ALTER TABLE {table} OWNER TO {role}` as a superuser"),
        )
    }));
    found
}

fn place(node: &LedgerNodeSeen) -> Finding {
    let subject = subject(node);
    match &node.place {
        Ok(Some(place)) => match &place.fenced {
            Some(why) => Finding::error(
                Code::LedgerFenced,
                &subject,
                format!("it may not go on after entry {}: {why}", place.applied.0),
                format!("find out why, then run `herdsman ledger join {}`", node.name),
            ),
            None => {
                let says = format!("it is at entry {} of the log", place.applied.0);
                Finding::ok(Code::LedgerNode, &subject, says)
            }
        },
        Ok(None) => Finding::info(
            Code::LedgerNode,
            &subject,
            "it follows no log yet",
            "nothing: it begins with the first `herdsman run` or `herdsman ledger run`",
        ),
        Err(problem) => Finding::error(Code::LedgerNode, &subject, problem, mends(node)),
    }
}

/// What to do where a database does not say where it is.
fn mends(node: &LedgerNodeSeen) -> String {
    match &node.config {
        NodeConfig::Postgres(_) => "see the server's log, and look again".to_owned(),
        NodeConfig::MariaDb(maria) => format!(
            "have the server run, check `ledger.nodes.{}.mariadb`, and give the account everything on its database: \
             GRANT ALL PRIVILEGES ON {}.* TO {}",
            node.name, maria.database, maria.user
        ),
        NodeConfig::Sqlite(_) => format!(
            "correct `ledger.nodes.{}.sqlite.path`, or let the user that Herdsman runs as read and write there",
            node.name
        ),
    }
}

fn log(log: &LedgerLogSeen) -> Finding {
    let LedgerLogSeen { what, places, problems } = log;
    let subject = "ledger: log";
    if problems.is_empty() {
        return Finding::ok(Code::LedgerLog, subject, format!("{what} can be had"));
    }
    let (says, fix) = (
        problems.join("; "),
        "correct `ledger.log`, or have what it names reachable and writable from here",
    );
    if problems.len() < *places {
        let says = format!("{what} is there, but not every broker answers: {says}");
        return Finding::warning(Code::LedgerLog, subject, says, fix);
    }
    Finding::error(Code::LedgerLog, subject, format!("{what} cannot be had: {says}"), fix)
}

#[cfg(test)]
mod tests;
