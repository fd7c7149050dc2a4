use super::*;

const HOSTS: &str = "hosts:\n  pg1: {host: a, user: mon, password: m, dbname: d, sslmode: disable}\n  pg2: {host: b, sslmode: prefer}\n";

fn parse(text: &str) -> Result<Settings, String> {
    Settings::parse(Path::new("h.yml"), &format!("{HOSTS}{text}"))
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// The first line a person sees for this section. No line may hold the password that the cases have.
#[track_caller]
fn check(text: &str, expected: &str) {
    let told = parse(text).unwrap_err();
    assert_eq!(told.lines().next().unwrap_or_default(), format!("h.yml:{expected}"), "{text}");
    assert!(!told.contains("s3c"), "a secret is shown: {told}");
}

#[test]
fn a_file_without_the_section_routes_by_default() {
    let settings = parse("port: 1234\ngroups: {west: [pg2]}\nwatch: {interval: 1s}\n").unwrap();
    assert_eq!(settings.route, RouteConfig::default());
    assert_eq!(settings.watch.interval, std::time::Duration::from_secs(1));
    assert_eq!(settings.nodes.keys().map(NodeName::as_str).collect::<Vec<_>>(), ["pg1", "pg2"]);
    assert_eq!(settings.groups["west"].len(), 1);
}

#[test]
fn names_that_are_no_hosts_are_told_where_they_stand() {
    check(
        "route:\n  writers: [pg1, pg9]\n",
        "5:18: `route.writers` lists `pg9`, expected a node of `hosts`: `pg1` or `pg2`",
    );
    check(
        "route:\n  readers:\n    - pg1\n    - pg1\n",
        "7:7: `route.readers` lists `pg1` twice, expected once",
    );
    check(
        "route:\n  weights: {pg9: 2}\n",
        "5:13: `route.weights.pg9` names `pg9`, expected a node of `hosts`: `pg1` or `pg2`",
    );
    check(
        "route:\n  zones:\n    pg9: a\n",
        "6:5: `route.zones.pg9` names `pg9`, expected a node of `hosts`: `pg1` or `pg2`",
    );
    check(
        "route:\n  groups:\n    w: {nodes: [pg1, x]}\n",
        "6:22: `route.groups.w.nodes` lists `x`, expected a node of `hosts`: `pg1` or `pg2`",
    );
}

#[test]
fn wrong_values_are_told_where_they_stand() {
    check(
        "route:\n  balence: random\n",
        "5:3: unknown key `balence` in `route`, expected mode, writers, readers, application, pool, balance, weights, zone, zones, max_lag, fallback, causal_wait, writer_wait, retries, probe, slow_start or groups",
    );
    check(
        "route:\n  balance: best\n",
        "5:12: `route.balance` is `best`, expected two_choices, random, round_robin or least_connections",
    );
    check(
        "route:\n  pool:\n    acquire_timeout: 5\n",
        "6:22: `route.pool.acquire_timeout`: `5` is not a duration; write it like 500ms, 5s or 2m",
    );
    check(
        "route:\n  pool: {max_connections: lots}\n",
        "5:27: `route.pool.max_connections` is `lots`, expected a whole number from 0 to 4294967295",
    );
    check(
        "route:\n  pool: {max_connections: 3, min_connections: 4}\n",
        "5:47: `route.pool.min_connections` is 4, expected at most `route.pool.max_connections`, which is 3",
    );
    check(
        "route:\n  weights:\n    pg1: 1001\n",
        "6:10: `route.weights.pg1`: `1001` is out of range; allowed is 0 to 1000",
    );
    check("route:\n  groups:\n    w: {}\n", "6:8: `route.groups.w` has no `nodes`, expected one");
    check(
        "route:\n  groups:\n    w: {nodes: []}\n",
        "6:16: `route.groups.w.nodes` is empty, expected at least one node",
    );
    check("route: [a]\n", "4:8: `route` is a list, expected a map of keys and values");
}

#[test]
fn roles_are_either_given_or_discovered() {
    check(
        "route:\n  mode: given\n",
        "5:9: `route.mode` is `given`, expected `writers` or `readers` beside it, to list nodes",
    );
    check(
        "route:\n  mode: discovered\n  writers: [pg1]\n",
        "6:12: `route.writers` gives a role, but `route.mode` is `discovered`, expected one of the two",
    );
    assert_eq!(parse("route:\n  readers: [pg1]\n").unwrap().route.mode(), Mode::Given);
}

#[test]
fn the_application_logs_in_as_somebody_else() {
    let login = |section: &str, node: &str| {
        let settings = parse(&format!("route:\n  application: {section}\n")).unwrap();
        let info = settings.route.application.login(&settings.nodes[node]);
        let password = settings.route.application.password.map(|secret| secret.expose().to_owned());
        (info.user, info.dbname, info.application_name, password)
    };
    let own = |text: &str| text.to_owned();
    assert_eq!(
        login("{user: app, b64password: czNjcmV0Cg==, dbname: shop, application_name: web}", "pg2"),
        (own("app"), own("shop"), own("web"), Some(own("s3cret")))
    );
    assert_eq!(
        login("{password: czNj, password_encoding: base64}", "pg1"),
        (own("mon"), own("d"), own("herdsman"), Some(own("s3c")))
    );
    assert_eq!(login("{password_env: PATH}", "pg1").3, std::env::var("PATH").ok());
}

#[test]
fn wrong_logins_are_told_without_the_password() {
    check(
        "route:\n  application:\n    password: s3cret\n    b64password: czNjcmV0\n",
        "7:18: `route.application.b64password`: the password is given twice, expected either `password` or `b64password`",
    );
    check(
        "route:\n  application: {password: s3cret, nope: 1}\n",
        "5:35: unknown key `nope` in `route.application`, expected user, dbname, application_name, sslcert, sslkey, password, b64password, password_file, password_env, password_command or password_encoding",
    );
    check(
        "route:\n  application:\n    b64password: s3cret!\n",
        "6:18: `route.application.b64password`: this is not base64, expected what `base64` prints",
    );
    check(
        "route:\n  application: {password_env: HERDSMAN_NO_SUCH}\n",
        "5:31: `route.application.password_env`: the variable `HERDSMAN_NO_SUCH` is not set, expected it to hold the password",
    );
    check(
        "route:\n  application: postgres://u:s3cret@h\n",
        "5:16: `route.application` has a wrong value, expected a map of keys and values",
    );
    check(
        "route:\n  application:\n    password: [s3cret]\n",
        "6:15: `route.application.password` is a list, expected a single value",
    );
    check(
        "route:\n  application: {sslcert: /no/cert, sslkey: /no/key}\n",
        "5:26: `route.application`: failed to read sslcert from `/no/cert`: I/O error: No such file or directory (os error 2)",
    );
}
