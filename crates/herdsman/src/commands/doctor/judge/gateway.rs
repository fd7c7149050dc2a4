//! The gateway's users on the servers, and doors that are open to a network.

use herdsman_gateway::GatewayConfig;
use herdsman_wal::quote_identifier;

use super::{count, reach};
use crate::codes::Code;
use crate::commands::doctor::evidence::{Evidence, Login, Refused, ServerFacts};
use crate::commands::doctor::finding::Finding;
use crate::config::Config;

pub(super) fn findings(config: &Config, evidence: &Evidence) -> Vec<Finding> {
    let mut found: Vec<Finding> = evidence.logins.iter().filter_map(login).collect();
    if found.is_empty() && !evidence.logins.is_empty() {
        let says = format!(
            "{} of the gateway's users let in",
            count(evidence.logins.len(), "login", "logins")
        );
        found.push(Finding::ok(Code::GatewayUser, "gateway: users", says));
    }
    if let Some((node, outcome)) = &evidence.auth_query {
        found.push(look_up(outcome, config).on(node));
    }
    found.extend(evidence.servers().flat_map(|(node, server)| {
        let about = switchover(&config.gateway, &server.facts);
        about.map(|finding| finding.on(node)).collect::<Vec<_>>()
    }));
    found.extend(gateway_door(&config.gateway));
    let has_control = config.mesh.control.token.is_some() || !config.api.tokens.is_empty();
    found.extend(api_door(&config.listen.bind, config.ssl.is_some(), has_control));
    found
}

fn login(login: &Login) -> Option<Finding> {
    let Login { user, server_user, database, node, outcome } = login;
    let Refused { problem, .. } = outcome.as_ref().err()?;
    let setting = format!("gateway.users.{user}");
    Some(
        Finding::error(
            Code::GatewayUser,
            &format!("gateway: user {user}"),
            format!("the server refuses `{server_user}` in database `{database}`: {problem}"),
            reach::login(problem, server_user, database, &setting),
        )
        .on(node),
    )
}

fn look_up(outcome: &Result<(), Refused>, config: &Config) -> Finding {
    let subject = "gateway: auth_query";
    match outcome {
        Ok(()) => Finding::ok(Code::AuthQuery, subject, "users can be looked up"),
        Err(Refused { right: true, problem }) => Finding::error(
            Code::AuthQuery,
            subject,
            problem,
            format!(
                "have a function of a superuser's answer, and grant `{}` to execute it (`herdsman explain {}` has both)",
                config
                    .gateway
                    .auth_query
                    .as_ref()
                    .map(|query| query.user.as_str())
                    .unwrap_or_default(),
                Code::AuthQuery
            ),
        ),
        Err(Refused { problem, .. }) => Finding::error(
            Code::AuthQuery,
            subject,
            problem,
            "check user, password, database and query of `gateway.auth_query`",
        ),
    }
}

/// What a switchover takes on any node, since each may be the one it goes to or comes from.
fn switchover(gateway: &GatewayConfig, facts: &ServerFacts) -> impl Iterator<Item = Finding> {
    let subject = "gateway: switchover";
    let role = quote_identifier(&facts.role);
    let is_planned = !gateway.listen.is_empty() && !gateway.switchover.demote.is_empty();
    // A grant on the primary reaches the standbys, which cannot be given one.
    let is_asked = is_planned && !facts.in_recovery && facts.version > 0;
    let promote = is_asked && gateway.switchover.promote.is_empty() && !facts.may_promote;
    let checkpoint = is_asked && !facts.may_checkpoint;
    let promote = promote.then(|| {
        Finding::warning(
            Code::Switchover,
            subject,
            format!("`{}` may not promote a standby, and `switchover.promote` is empty", facts.role),
            format!(
                "run `GRANT EXECUTE ON FUNCTION pg_promote(boolean, integer) TO {role}` on the primary, or set `gateway.switchover.promote`"
            ),
        )
    });
    let checkpoint = checkpoint.then(|| {
        Finding::info(
            Code::Switchover,
            subject,
            format!(
                "`{}` may not have a checkpoint written first: the pause is as long as the one at shutdown",
                facts.role
            ),
            format!("run `GRANT pg_checkpoint TO {role}` on the primary"),
        )
    });
    promote.into_iter().chain(checkpoint)
}

/// The address without its port.
fn host(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

fn gateway_door(gateway: &GatewayConfig) -> Option<Finding> {
    let open: Vec<&str> = gateway
        .listen
        .iter()
        .map(String::as_str)
        .filter(|address| !reach::is_local(host(address)))
        .collect();
    (!open.is_empty() && gateway.tls.is_none()).then(|| {
        Finding::warning(
            Code::OpenDoor,
            "gateway: TLS",
            format!("{} can be reached from elsewhere, and nothing is encrypted", open.join(", ")),
            "set `gateway.tls` (`cert`, `key`), and `required: true` once all clients use it",
        )
    })
}

/// `has_control`: what can be done over the API takes a token, which anybody on the way could read.
fn api_door(bind: &str, tls: bool, has_control: bool) -> Option<Finding> {
    if tls || reach::is_local(bind) {
        return None;
    }
    let fix = "set `ssl` (`cert`, `key`), or `bind: localhost`";
    let says = format!("the API listens on {bind} and is not encrypted");
    Some(match has_control {
        true => {
            let says =
                format!("{says}: tokens (`mesh.control`, `api.tokens`) can be read on the way");
            Finding::warning(Code::OpenDoor, "API: TLS", says, fix)
        }
        false => Finding::info(Code::OpenDoor, "API: TLS", says, fix),
    })
}

#[cfg(test)]
mod tests;
