use super::*;
use crate::commands::doctor::finding::Severity;
use crate::commands::doctor::judge::tests::{config, evidence, facts, name, says};

fn refused(right: bool, problem: &str) -> Result<(), Refused> {
    Err(Refused { right, problem: problem.to_owned() })
}

fn with_login(outcome: Result<(), Refused>) -> Evidence {
    let login = Login {
        user: "shop".to_owned(),
        server_user: "shop_app".to_owned(),
        database: "d".to_owned(),
        node: name("n1"),
        outcome,
    };
    Evidence { logins: vec![login], ..Evidence::default() }
}

#[test]
fn a_user_the_server_refuses_is_told_with_the_setting() {
    let config = config("");
    let found = findings(&config, &with_login(Ok(())));
    says(&found, "gateway: users", Severity::Ok, Code::GatewayUser, &["1 login "]);
    let found = findings(&config, &with_login(refused(false, "no (SQLSTATE 28P01)")));
    let words = ["`gateway.users.shop`", "ALTER ROLE \"shop_app\" PASSWORD", "database `d`"];
    says(&found, "gateway: user shop", Severity::Error, Code::GatewayUser, &words);
    assert_eq!(found[0].node, Some(name("n1")));
}

#[test]
fn a_look_up_without_the_right_is_told_with_the_way_to_give_it() {
    let config = config("gateway: {auth_query: {user: look, password: x}}\n");
    let judged = |outcome| {
        let auth_query = Some((name("n1"), outcome));
        findings(&config, &Evidence { auth_query, ..Evidence::default() })
    };
    let subject = "gateway: auth_query";
    says(&judged(Ok(())), subject, Severity::Ok, Code::AuthQuery, &[]);
    let denied = judged(refused(true, "permission denied for table pg_authid"));
    says(&denied, subject, Severity::Error, Code::AuthQuery, &["pg_authid", "`look`", "H0602"]);
    let late = judged(refused(false, "no answer"));
    says(&late, subject, Severity::Error, Code::AuthQuery, &["no answer", "gateway.auth_query"]);
}

#[test]
fn doors_to_a_network_want_tls() {
    let open = |listen: &str| {
        let config =
            config(&format!("gateway: {{listen: \"{listen}\", users: {{a: {{password: x}}}}}}\n"));
        gateway_door(&config.gateway).is_some()
    };
    assert!(!open("localhost:6432") && !open("127.0.0.1:6432") && !open("[::1]:6432"));
    assert!(open("*:6432") && open("10.0.0.1:6432"));

    let severity = |bind, tls, control| {
        api_door(bind, tls, control).map_or(Severity::Ok, |finding| finding.severity)
    };
    assert_eq!(severity("localhost", false, true), Severity::Ok);
    assert_eq!(severity("*", true, true), Severity::Ok);
    assert_eq!(severity("*", false, true), Severity::Warning);
    assert_eq!(severity("", false, false), Severity::Info);
}

#[test]
fn a_switchover_wants_two_rights_where_it_is_configured() {
    let judged = |switchover: &str, facts: ServerFacts| {
        let users = "users: {a: {password: x}}";
        let config = config(&format!("gateway: {{{users}, switchover: {{{switchover}}}}}\n"));
        findings(&config, &evidence([("n1", facts)]))
    };
    let about = |found: &[Finding]| {
        let found = found.iter().filter(|finding| finding.code == Code::Switchover);
        found.map(|finding| (finding.severity, finding.fix.clone().unwrap())).collect::<Vec<_>>()
    };
    let told = about(&judged("demote: [stop]", facts()));
    let [(Severity::Warning, promote), (Severity::Info, checkpoint)] = told.as_slice() else {
        panic!("{told:?}")
    };
    let grant = "`GRANT EXECUTE ON FUNCTION pg_promote(boolean, integer) TO \"mon\"`";
    assert!(promote.contains(grant), "{promote}");
    assert!(checkpoint.contains("`GRANT pg_checkpoint TO \"mon\"`"), "{checkpoint}");
    assert_eq!(about(&judged("demote: [stop], promote: [go]", facts())).len(), 1);
    assert_eq!(about(&judged("", facts())), []);
    let allowed = ServerFacts { may_promote: true, may_checkpoint: true, ..facts() };
    assert_eq!(about(&judged("demote: [stop]", allowed)), []);
    let standby = ServerFacts { in_recovery: true, ..facts() };
    assert_eq!(about(&judged("demote: [stop]", standby)), []);
}
