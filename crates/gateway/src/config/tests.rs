//! What the section says, and every way in which it can be wrong.

use std::path::Path;

use herdsman_config::{Depth, Problem, Reading};

use super::*;

mod wrong;

/// What every case has above its section.
const ABOVE: &str = "hosts:\n  a: {host: a, sslmode: disable}\n  b: {host: b, sslmode: disable}\ngroups:\n  g: [a]\n";

fn read(text: &str, depth: Depth) -> Result<GatewayConfig, Vec<Problem>> {
    let mut reading = Reading::new(Path::new("h.yml"), text, depth)?;
    let hosts = reading.hosts();
    let groups = reading.groups();
    let config = GatewayConfig::read(&mut reading, &hosts, &groups);
    config.expect_no_clash(&mut reading, "the API", "localhost", 8080);
    reading.finish(Some(config))
}

#[track_caller]
fn good(section: &str) -> GatewayConfig {
    read(&format!("{ABOVE}{section}"), Depth::Full)
        .unwrap_or_else(|problems| panic!("{}", list(&problems)))
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn without_the_section_there_is_no_gateway() {
    assert_eq!(good(""), GatewayConfig::default());
    assert!(good("gateway:\n").listen.is_empty());
    assert!(GatewayConfig::default().listen.is_empty());
}

#[test]
fn with_an_empty_section_the_defaults_hold() {
    let config = good("gateway: {trust_loopback: true}\n");
    assert_eq!(config.listen, ["localhost:6432"]);
    let defaults = GatewayConfig {
        listen: config.listen.clone(),
        trust_loopback: true,
        ..GatewayConfig::default()
    };
    assert_eq!(config, defaults);
    assert_eq!((config.pool.size, config.pool.mode), (20, PoolMode::Transaction));
    assert!(config.workers() >= 1);
}

#[test]
fn a_ledger_is_served_at_an_address_of_its_own_to_users_that_there_are() {
    let wrong = |address: &str, gateway: &str| {
        let text = format!("{ABOVE}gateway: {gateway}\nledger: {{serve: '{address}'}}\n");
        let mut reading = Reading::new(Path::new("h.yml"), &text, Depth::Full).unwrap();
        let (hosts, groups) = (reading.hosts(), reading.groups());
        let config = GatewayConfig::read(&mut reading, &hosts, &groups);
        config.check_ledger(&mut reading, address);
        reading.finish(Some(config)).err().map(|problems| list(&problems))
    };
    let users = "{listen: 'localhost:6432', users: {app: {password: secret}}}";
    for (address, gateway, expected) in [
        ("localhost:6433", users, None),
        ("*:0", users, None),
        ("localhost", users, Some("`ledger.serve` is ")),
        ("*:6432", users, Some("`ledger.serve` is where the gateway listens")),
        ("localhost:6433", "", Some("`ledger.serve` lets nobody in")),
    ] {
        let told = wrong(address, gateway);
        match expected {
            None => assert_eq!(told, None, "{address} {gateway}"),
            Some(part) => {
                let told = told.unwrap_or_default();
                assert!(told.contains(part), "{address} {gateway}: {told}");
            }
        }
    }
}

#[test]
fn every_key_is_read() {
    let config = good(
        "gateway:
  listen: ['*:6432', '[::1]:6433']
  workers: 3
  proxy_protocol: true
  auth: md5
  trust_loopback: true
  users:
    app: {password: one, server_user: role, server_password: two, auth: scram, pool: {size: 3, mode: session}}
    nobody:
  auth_query: {user: app, password: three, database: d, query: 'SELECT * FROM who($1)'}
  databases:
    shop: {dbname: shop1, group: g, target: a, pool: {queue: 5, queue_timeout: 1s, query_timeout: never, max_clients: 9}}
    plain:
    mesh: {group: all, target: writers}
    '*': {target: reader}
  admins: [app]
  stats_users: [nobody]
  hold: 3s
  hold_queue: 4
  max_clients: 5
  login_timeout: 6s
  drain_timeout: 7s
  session_state: refuse
  write_guard: deadline
  guard_lease: 800ms
  read_in_split_brain: false
  slow_query: 250ms
  prepared_statements: 8
  switchover:
    demote: [ssh, '{host}', systemctl, stop, postgresql]
    promote: [ssh, '{host}', pg_ctl, promote]
    follow: [/bin/follow, '{node}', '{port}', '{new}']
    drain: 9s
    command_timeout: 10s
  pool:
    mode: statement
    size: 11
    queue: 12
    queue_timeout: 13s
    connect_timeout: 14s
    server_idle_timeout: 15s
    server_lifetime: 16s
    server_check_delay: 0s
    client_idle_timeout: 18s
    transaction_idle_timeout: 19s
    query_timeout: 20s
    max_clients: 21
",
    );
    let seconds = Duration::from_secs;
    assert_eq!(config.listen, ["*:6432", "[::1]:6433"]);
    assert_eq!((config.workers(), config.auth), (3, AuthMethod::Md5));
    let app = &config.users["app"];
    let shown = |secret: &Option<herdsman::Secret>| secret.as_ref().map(|s| s.expose().to_owned());
    assert_eq!(shown(&app.password).as_deref(), Some("one"));
    assert_eq!(shown(&app.server_password).as_deref(), Some("two"));
    assert_eq!((app.auth, app.pool.size), (Some(AuthMethod::Scram), Some(3)));
    let query = config.auth_query.as_ref().unwrap();
    assert_eq!((query.database.as_str(), shown(&query.password).as_deref()), ("d", Some("three")));
    let targets: Vec<_> = config.databases.values().map(|d| d.target.to_string()).collect();
    assert_eq!(targets, ["reader", "writers", "split", "a"]);
    assert_eq!(config.databases["shop"].pool.query_timeout, Some(Duration::ZERO));
    assert_eq!((config.hold, config.hold_queue, config.max_clients), (seconds(3), 4, 5));
    assert_eq!(
        (config.write_guard, config.slow_query),
        (WriteGuard::Deadline, Some(Duration::from_millis(250)))
    );
    assert_eq!((config.session_state, config.read_in_split_brain), (SessionState::Refuse, false));
    assert_eq!(config.switchover.follow.len(), 4);
    assert_eq!(
        (config.switchover.drain, config.switchover.command_timeout),
        (seconds(9), seconds(10))
    );
    let pool = &config.pool;
    assert_eq!((pool.mode, pool.size, pool.queue), (PoolMode::Statement, 11, 12));
    assert_eq!((pool.server_check_delay, pool.query_timeout), (Duration::ZERO, seconds(20)));
    let shop = pool.with(&config.databases["shop"].pool);
    assert_eq!((shop.queue, shop.max_clients, shop.size), (5, 9, 11));
}

#[test]
fn passwords_come_from_files_and_variables_and_are_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "from file\n").unwrap();
    let config = good(&format!(
        "gateway:\n  users:\n    f: {{password_file: {file}, server_password_env: CARGO_PKG_NAME}}\n    b: \
         {{b64password: c2VjcmV0, server_b64password: c2VjcmV0Mg==}}\n  auth_query: {{user: f, password_file: {file}}}\n",
        file = file.display()
    ));
    let shown = |secret: &Option<herdsman::Secret>| secret.as_ref().unwrap().expose().to_owned();
    let (f, b) = (&config.users["f"], &config.users["b"]);
    assert_eq!(
        (shown(&f.password), shown(&f.server_password)),
        ("from file".to_owned(), env!("CARGO_PKG_NAME").to_owned())
    );
    assert_eq!(
        (shown(&b.password), shown(&b.server_password)),
        ("secret".to_owned(), "secret2".to_owned())
    );
    assert_eq!(shown(&config.auth_query.as_ref().unwrap().password), "from file");
    let printed = format!("{config:?}");
    assert!(!printed.contains("from file") && !printed.contains("secret2"), "{printed}");
}

#[test]
fn an_outline_reads_no_file_and_no_variable() {
    let section = "gateway:\n  tls: {cert: /no/cert, key: /no/key}\n  auth_file: /no/list\n  unix_socket_dir: /no/folder\n  \
        users: {u: {password_file: /no/file}}\n";
    let config = read(&format!("{ABOVE}{section}"), Depth::Outline).unwrap();
    assert_eq!(config.users["u"].password, None);
}

#[test]
fn a_list_of_users_may_say_who_they_are_and_a_certificate_is_tried() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    for (name, text) in [
        ("cert.pem", made.cert.pem()),
        ("key.pem", made.signing_key.serialize_pem()),
        ("list", "\"app\" \"secret\"\n".to_owned()),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let dir = folder.path().display();
    let config = good(&format!(
        "gateway:\n  tls: {{cert: {dir}/cert.pem, key: {dir}/key.pem, required: true}}\n  auth_file: {dir}/list\n  \
         admins: [app]\n  unix_socket_dir: {dir}\n"
    ));
    assert!(config.tls.unwrap().required);
}
