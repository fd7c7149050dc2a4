use base64::Engine;
use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;

mod hooks;
mod stream;

/// What most cases have above their mistake.
const HOSTS: &str = "hosts:\n  a: {host: a, sslmode: disable}\n  b: {host: b, sslmode: disable}\n";

fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    Config::parse(Path::new("h.yml"), text, Depth::Full, false)
}

/// The first line a person sees for this file. No line may hold the password that the cases have.
#[track_caller]
fn check(text: &str, expected: &str) {
    let told = list(&parse(text).unwrap_err());
    assert_eq!(told.lines().next().unwrap_or_default(), format!("h.yml:{expected}"), "{text}");
    assert!(!told.contains("s3c"), "a secret is shown: {told}");
}

#[track_caller]
fn below(text: &str, expected: &str) {
    check(&format!("{HOSTS}{text}"), expected);
}

#[test]
fn what_is_no_map_of_known_sections_is_refused() {
    check("", " the file is empty, expected at least `hosts`");
    check("# only a comment\n", " the file is empty, expected at least `hosts`");
    check("hello\n", "1:1: the file is not a map of keys and values, expected at least `hosts`");
    check("- a\n", "1:1: the file is not a map of keys and values, expected at least `hosts`");
    check("hosts:\n", "1:1: `hosts` lists no node, expected at least one");
    check("hosts: {}\n", "1:1: `hosts` lists no node, expected at least one");
    check("bind: x\n", "1:1: `hosts` is missing, expected at least one node below it");
    check("hosts: [a, b]\n", "1:8: `hosts` is a list, expected a map of keys and values");
    check("hosts: 5\n", "1:8: `hosts` is `5`, expected a map of keys and values");
    check(
        "hosts:\n\ta: x\n",
        "2:2: not valid YAML: tabs disallowed within this context (block indentation)",
    );
    check("hosts:\n  a: {host: a\n", "2:6: not valid YAML: unclosed bracket '{'");
    check(
        "hosts:\n  a:\n    host: 'a\n",
        "4:1: not valid YAML: invalid indentation in multiline quoted scalar",
    );
    check(
        "hosts:\n  a: {host: a}\n  a: {host: b}\n",
        "3:3: the key `a` is there twice, expected once",
    );
    below("port: 1\nport: 2\n", "5:1: the key `port` is there twice, expected once");
    below("---\nhosts: {}\n", "5:1: a second YAML document begins here, expected only one");
    below(
        "watch: *w\n",
        "4:8: the alias refers to an anchor that is not defined above it, expected one that is",
    );
    check("? [1]\n: 2\n", "1:3: something else stands here, expected a single value");
    check(
        "hosts:\n  a:\n    password: \"s3cret\n      more\n    host: x\n",
        "5:5: not valid YAML: invalid indentation in multiline quoted scalar",
    );
    check(
        "hosts:\n  a:\n    password: s3cret: x\n",
        "3:21: not valid YAML: mapping values are not allowed in this context",
    );
}

#[test]
fn hosts_with_wrong_keys_are_refused() {
    check(
        "hosts:\n  a/b: {host: a}\n",
        "2:3: `a/b` cannot name a node; use 1 to 255 printable characters without `/`, `?` and `#`, which would not survive in a URL",
    );
    check(
        "hosts:\n  a:\n",
        "2:3: `hosts.a` is empty, expected a map of connection keys or a connection string",
    );
    check(
        "hosts:\n  a: [x]\n  b: {host: [x], port: {y: z}}\n",
        "2:6: `hosts.a` is a list, expected a map of connection keys or a connection string",
    );
    check(
        "hosts:\n  a: {host: a, port: x}\n",
        "2:22: `hosts.a.port`: `x` is not a port; expected 1 to 65535",
    );
    check(
        "hosts:\n  a: {host: a, port: 0}\n",
        "2:22: `hosts.a.port`: `0` is not a port; expected 1 to 65535",
    );
    check(
        "hosts:\n  a: {host: a, sslmode: bogus}\n",
        "2:25: `hosts.a.sslmode`: `bogus` is not a mode; expected disable, allow, prefer, require, verify-ca or verify-full",
    );
    check(
        "hosts:\n  a: {host: 'a,b'}\n",
        "2:13: `hosts.a.host`: names several hosts; list each as a node of its own",
    );
    check(
        "hosts:\n  a: {host: a, connect_timeout: 3s}\n",
        "2:33: `hosts.a.connect_timeout`: `3s` is not a number of seconds",
    );
    check(
        "hosts:\n  a: {host: a, hostaddr: db}\n",
        "2:26: `hosts.a.hostaddr`: `db` is not an IP address",
    );
    check(
        "hosts:\n  a: {'we ird': x}\n",
        "2:17: `hosts.a.we ird`: is neither a libpq parameter nor the name of a server setting",
    );
    check(
        "hosts:\n  a: {host: a, sslmode: verify-full, sslrootcert: /nonexistent.pem}\n",
        "2:51: `hosts.a.sslrootcert`: failed to read sslrootcert from `/nonexistent.pem`: I/O error: No such file or directory (os error 2)",
    );
    check(
        "hosts:\n  a: {host: a, sslmode: verify-full}\n",
        "2:25: `hosts.a.sslmode`: sslmode verify-full needs trusted certificates; set `sslrootcert` to the file that holds them",
    );
    check(
        "hosts:\n  a: {host: a, sslmode: require, sslcert: /nonexistent.crt, sslkey: /nonexistent.key}\n",
        "2:43: `hosts.a.sslcert`: failed to read sslcert from `/nonexistent.crt`: I/O error: No such file or directory (os error 2)",
    );
    check(
        "hosts:\n  a: &b {port: x}\n  c: *b\n",
        "2:16: `hosts.a.port`: `x` is not a port; expected 1 to 65535",
    );
}

#[test]
fn passwords_that_cannot_be_had_are_refused() {
    check(
        "hosts:\n  a: {password: s3cret, b64password: czNjcmV0}\n",
        "2:38: `hosts.a.b64password`: the password is given twice, expected either `password` or `b64password`",
    );
    check(
        "hosts:\n  a:\n    b64password: '*s3cret*'\n",
        "3:18: `hosts.a.b64password`: this is not base64, expected what `base64` prints",
    );
    check(
        "hosts:\n  a:\n    password: s3cret!\n    password_encoding: base64\n",
        "3:15: `hosts.a.password`: this is not base64, expected what `base64` prints",
    );
    check(
        "hosts:\n  a:\n    password: s3cret\n    password_encoding: rot13\n",
        "4:24: `hosts.a.password_encoding`: `rot13` is not an encoding, expected plain or base64",
    );
    check(
        "hosts:\n  a:\n    password_encoding: base64\n",
        "3:24: `hosts.a.password_encoding`: there is no `password` to decode, expected one",
    );
    check(
        "hosts:\n  a:\n    password_env: HERDSMAN_NOT_SET\n",
        "3:19: `hosts.a.password_env`: the variable `HERDSMAN_NOT_SET` is not set, expected it to hold the password",
    );
    check(
        "hosts:\n  a:\n    password_file: /nonexistent\n",
        "3:20: `hosts.a.password_file`: the file `/nonexistent` cannot be read: No such file or directory (os error 2)",
    );
}

#[test]
fn broken_connection_strings_are_refused_without_repeating_them() {
    check(
        "hosts:\n  a: host=a pass s3cret\n",
        "2:6: `hosts.a`: this connection string has something that is not KEY=VALUE, expected `host=… port=…` with blanks in values quoted, or postgres://…",
    );
    check(
        "hosts:\n  a: postgres://u:s3c/ret@a/db\n",
        "2:6: `hosts.a`: `port` in this connection string: the value is not a port; expected 1 to 65535",
    );
    check(
        "hosts:\n  a: postgres://u:s3cret%zz@a/db\n",
        "2:6: `hosts.a`: `password` in this connection string: has a `%` that is not followed by two hexadecimal digits of UTF-8 text",
    );
    check(
        "hosts:\n  a: host=a port=x password=s3cret\n",
        "2:6: `hosts.a`: `port` in this connection string: the value is not a port; expected 1 to 65535",
    );
    check(
        "hosts:\n  a: host=a s3cret\n",
        "2:6: `hosts.a`: this connection string has something that is not KEY=VALUE, expected `host=… port=…` with blanks in values quoted, or postgres://…",
    );
}

#[test]
fn groups_and_certificates_are_checked() {
    below(
        "groups:\n  all: [a]\n",
        "5:3: `groups.all` is every node already, expected another name",
    );
    below(
        "groups:\n  g: [a, c]\n",
        "5:10: `groups.g` lists `c`, expected a node of `hosts`: `a` or `b`",
    );
    below("groups:\n  g: [a, a]\n", "5:10: `groups.g` lists `a` twice, expected once");
    below("groups:\n  g: a\n", "5:6: `groups.g` is a single value, expected a list of nodes");
    below("groups:\n  g: {a: b}\n", "5:6: `groups.g` is a map, expected a list of nodes");
    below("groups: [a]\n", "4:9: `groups` is a list, expected a map from names to lists of nodes");
    below(
        "groups:\n  g: [a]\nhost_groups:\n  g: [b]\n",
        "7:3: `host_groups.g` is defined in `groups` as well, expected one definition",
    );
    below(
        "host_groups:\n  g: [[a]]\n",
        "5:7: `host_groups.g` has an item that is not a single value, expected the name of a node",
    );
    below(
        "groups:\n  g: [c]\n  h: [d]\n",
        "5:7: `groups.g` lists `c`, expected a node of `hosts`: `a` or `b`",
    );
    below("ssl: x\n", "4:6: `ssl` has a wrong value, expected a map of keys and values");
    below(
        "ssl:\n  cert: /nonexistent.pem\n",
        "5:9: `ssl` has `cert` but not `key`; give both, or neither for plain HTTP",
    );
    below(
        "ssl:\n  b64key: s3cret\n",
        "5:11: `ssl` has `b64key` but not `b64cert`; give both, or neither for plain HTTP",
    );
    below(
        "ssl:\n  certificate: x\n",
        "5:3: unknown key `certificate` in `ssl`, expected cert, key, b64cert, b64key, client_ca, client_crl or client_auth",
    );
    below(
        "ssl:\n  b64cert: x\n  b64key: s3cret\n",
        "5:12: failed to read `ssl.b64cert` from the file it names (not shown: it may be a secret): No such file or directory (os error 2); give base64 of PEM, or the path of a PEM file",
    );
    below(
        "ssl:\n  key: |\n    -----BEGIN s3cret\n   foo\n",
        "7:4: not valid YAML: while parsing a block mapping, did not find expected key",
    );
}

#[test]
fn values_of_the_watch_section_are_checked() {
    below("watch: fast\n", "4:8: `watch` is `fast`, expected a map of keys and values");
    below(
        "watch:\n  interval: 5x\n",
        "5:13: `watch.interval`: `5x` is not a duration; write it like 500ms, 5s or 2m",
    );
    below(
        "watch:\n  interval: 500\n",
        "5:13: `watch.interval`: `500` is not a duration; write it like 500ms, 5s or 2m",
    );
    below(
        "watch:\n  interval: 1ms\n",
        "5:13: `watch.interval`: `1ms` is out of range; allowed is 10ms to 1h",
    );
    below("watch:\n  interval:\n", "5:3: `watch.interval` is empty, expected a single value");
    below(
        "watch:\n  intervall: 1s\n",
        "5:3: unknown key `intervall` in `watch`, expected interval, timeout, suspect_interval, pulse, fresh_connect_interval, backoff_min, backoff_max, split_brain, quorum, lost_standbys, suspect_grace, witness_window, max_lag, lag_alarm, healthy_checks, unhealthy_checks, damping, system_id, pin, authority, replication_addresses or state_file",
    );
    below(
        "watch:\n  quorum: most\n",
        "5:11: `watch.quorum` is `most`, expected auto, majority, any or none",
    );
    below(
        "watch:\n  split_brain: [proof]\n",
        "5:16: `watch.split_brain` is a list, expected a single value",
    );
    below(
        "watch:\n  healthy_checks: 0\n",
        "5:19: `watch.healthy_checks`: `0` is out of range; allowed is 1 to 100",
    );
    below(
        "watch:\n  healthy_checks: many\n",
        "5:19: `watch.healthy_checks` is `many`, expected a whole number from 0 to 4294967295",
    );
    below(
        "watch:\n  quorum:\n",
        "5:3: `watch.quorum` is empty, expected auto, majority, any or none",
    );
}

#[test]
fn nested_keys_of_the_watch_section_are_checked() {
    below(
        "watch:\n  max_lag: {bytes: -1}\n",
        "5:20: `watch.max_lag.bytes` is `-1`, expected a whole number, 0 or more",
    );
    below(
        "watch:\n  damping: {changes: x}\n",
        "5:22: `watch.damping.changes` is `x`, expected a whole number from 0 to 4294967295",
    );
    below("watch:\n  pin: {}\n", "5:8: `watch.pin` has no `node`, expected one");
    below(
        "watch:\n  pin: {node: c}\n",
        "5:15: `watch.pin.node` names `c`, expected a node of `hosts`: `a` or `b`",
    );
    below(
        "watch:\n  pin: {node: a, until: tomorrow}\n",
        "5:25: `watch.pin.until`: `tomorrow` is not a time; write it like 2026-11-21T12:00:00Z",
    );
    below(
        "watch:\n  replication_addresses: {c: ['x:1']}\n",
        "5:27: `watch.replication_addresses.c` names `c`, expected a node of `hosts`: `a` or `b`",
    );
    below(
        "watch:\n  replication_addresses: {a: [x]}\n",
        "5:31: `watch.replication_addresses.a` has `x`, expected HOST:PORT",
    );
    below(
        "watch:\n  backoff_min: 5s\n",
        "5:16: `watch.backoff_min` is 5s, expected at most `watch.backoff_max`, which is 1s",
    );
    below(
        "watch:\n  authority: {command: []}\n",
        "5:24: `watch.authority.command` is empty, expected a program and its arguments",
    );
    below(
        "watch:\n  system_id: x\n",
        "5:14: `watch.system_id`: `x` is not a system identifier; expected the number `pg_controldata` prints, such as 7431982345678901234",
    );
    below(
        "watch:\n  state_file: {}\n",
        "5:15: `watch.state_file` is a map, expected a single value",
    );
    below(
        "watch:\n  max_lag: {time: ~}\n",
        "5:13: `watch.max_lag.time` is empty, expected a single value",
    );
}

#[test]
fn other_keys_are_checked() {
    below(
        "prot: 8080\n",
        "4:1: unknown key `prot`, expected hosts, groups, host_groups, bind, port, ssl, loglevel, logfile, watch, availability, api, route, stream, gateway, mesh, ledger or hooks",
    );
    below(
        "Port: 1\nfoo: 2\n",
        "4:1: unknown key `Port`, expected hosts, groups, host_groups, bind, port, ssl, loglevel, logfile, watch, availability, api, route, stream, gateway, mesh, ledger or hooks",
    );
    below("port: http\n", "4:7: `port` is `http`, expected a whole number from 0 to 65535");
    below("port: 70000\n", "4:7: `port` is `70000`, expected a whole number from 0 to 65535");
    below("port: -1\n", "4:7: `port` is `-1`, expected a whole number from 0 to 65535");
    below("port: [1]\n", "4:7: `port` is a list, expected a single value");
    below("bind: [a]\n", "4:7: `bind` is a list, expected a single value");
    below(
        "bind: localhost:8080\n",
        "4:7: `bind` is `localhost:8080`, expected a host name or an IP address without a port",
    );
    below(
        "bind: 'a b'\n",
        "4:7: `bind` is `a b`, expected a host name or an IP address without a port",
    );
    below(
        "loglevel: loud\n",
        "4:11: `loglevel` is `loud`, expected trace, debug, info, warn or error",
    );
    below("loglevel: {a: b}\n", "4:11: `loglevel` is a map, expected a single value");
    below(
        "availability:\n  heartbeat: sometimes\n",
        "5:14: `availability.heartbeat` is `sometimes`, expected on_demand, always or never",
    );
    below(
        "availability:\n  writes: perhaps\n",
        "5:11: `availability.writes` is `perhaps`, expected true or false",
    );
    below("api:\n  bodies: v1\n", "5:11: `api.bodies` is `v1`, expected readme or v0");
    below(
        "api:\n  max_connections: 0\n",
        "5:20: `api.max_connections`: `0` is out of range; allowed is 1 to 65536",
    );
    below(
        "port: x\nbind: 'a b'\nwatch: {interval: 5x}\napi: {bodies: v1}\ngroups: {g: [c]}\nzzz: 1\n",
        "4:7: `port` is `x`, expected a whole number from 0 to 65535",
    );
    below("logfile: [x]\n", "4:10: `logfile` is a list, expected a single value");
    below(
        "1: x\n",
        "4:1: unknown key `1`, expected hosts, groups, host_groups, bind, port, ssl, loglevel, logfile, watch, availability, api, route, stream, gateway, mesh, ledger or hooks",
    );
    below(
        "loglevel: !!int x\n",
        "4:17: something else stands here, expected a whole number, 0 or more",
    );
}

#[test]
fn nesting_and_repetition_are_bounded() {
    let deep = parse(&"[".repeat(500_000)).unwrap_err();
    assert!(list(&deep).contains("recursion limit exceeded"), "{}", list(&deep));
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (new, old) in [("b", "a"), ("c", "b"), ("d", "c"), ("e", "d"), ("f", "e"), ("g", "f")] {
        bomb.push_str(&format!("{new}: &{new} [{}]\n", vec![format!("*{old}"); 10].join(",")));
    }
    assert!(list(&parse(&bomb).unwrap_err()).contains("too large or too complex"));
}

#[test]
fn all_mistakes_are_told_in_the_order_of_the_file() {
    let text = format!(
        "{HOSTS}port: x\nbind: 'a b'\nwatch: {{interval: 5x}}\napi: {{bodies: v1}}\ngroups: {{g: [c, d]}}\nzzz: 1\n"
    );
    let places: Vec<_> = parse(&text)
        .unwrap_err()
        .iter()
        .filter_map(Problem::position)
        .map(|at| (at.line, at.column))
        .collect();
    assert_eq!(places, [(4, 7), (5, 7), (6, 19), (7, 15), (8, 14), (8, 17), (9, 1)]);
}

#[test]
fn a_problem_is_shown_with_its_line() {
    let told = list(&parse(&format!("{HOSTS}watch:\n  interval: 5x\n")).unwrap_err());
    let expected = "\
h.yml:5:13: `watch.interval`: `5x` is not a duration; write it like 500ms, 5s or 2m
   |
 5 |   interval: 5x
   |             ^";
    assert_eq!(told, expected);
}

#[test]
fn an_unmodified_pgroute66_file_is_valid() {
    let dir = std::env::temp_dir().join(format!("herdsman-config-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (crt, key) = (dir.join("tls.crt"), dir.join("tls.key"));
    std::fs::write(&crt, cert.pem()).unwrap();
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    let encode = |pem: String| base64::engine::general_purpose::STANDARD.encode(pem);
    let text = format!(
        "---\nhosts:\n  host1:\n    host: 10.0.0.1\n    port: 5432\n    user: pgroute66\n    dbname: postgres\n    \
         sslmode: require\n    sslcert: {crt}\n    sslkey: {key}\n    pool_max_conns: 4\n    \
         pool_max_conn_idle_time: 1m\n    b64password: c2VjcmV0Cg==\n    application_name: 0123\n  \
         host2:\n    host: 10.0.0.2\n    port: '5433'\n    user: pgroute66\n    password: no\n    \
         sslmode: disable\ngroups:\n  cluster: [host1, host2]\nhost_groups:\n  berlin:\n    - host1\n\
         bind: 127.0.0.1\nport: 8443\nssl:\n  b64cert: {b64cert}\n  b64key: {b64key}\n\
         loglevel: DEBUG\nlogfile: /tmp/pgroute66.log\n",
        crt = crt.display(),
        key = key.display(),
        b64cert = encode(cert.pem()),
        b64key = encode(signing_key.serialize_pem()),
    );
    let config = parse(&text).unwrap_or_else(|problems| panic!("{}", list(&problems)));
    std::fs::remove_dir_all(&dir).unwrap();

    let password = |node: &str| {
        config.nodes[node].password.as_ref().map(|p| p.expose_secret().to_owned()).unwrap()
    };
    assert_eq!((password("host1").as_str(), password("host2").as_str()), ("secret", "no"));
    assert_eq!(config.nodes["host1"].application_name, "0123");
    assert_eq!(config.nodes["host2"].port, 5433);
    assert_eq!(config.groups.keys().collect::<Vec<_>>(), ["berlin", "cluster"]);
    assert_eq!((config.listen.bind.as_str(), config.listen.port), ("127.0.0.1", 8443));
    assert_eq!(config.log.level, Level::DEBUG);
    assert!(config.ssl.is_some());
    let note =
        "hosts.host1: `pool_max_conn_idle_time` and `pool_max_conns` accepted, without effect here";
    assert_eq!(config.notes, [note]);
}

#[test]
fn the_section_of_the_library_is_checked_too() {
    let good = "route:\n  writers: [a]\n  readers: [b]\n  pool: {max_lifetime: never}\n  application: {user: app, password: s3cret}\n";
    assert_eq!(parse(&format!("{HOSTS}{good}")).unwrap().notes, [""; 0]);
    let text = format!("{HOSTS}{good}");
    let notes = Config::parse(Path::new("h.yml"), &text, Depth::Full, true).unwrap().notes;
    assert!(notes.iter().any(|note| note.contains("holds secrets")), "{notes:?}");
    below(
        "route:\n  readers: [b, c]\n",
        "5:16: `route.readers` lists `c`, expected a node of `hosts`: `a` or `b`",
    );
    below(
        "route:\n  pool: {size: 5}\n",
        "5:10: unknown key `size` in `route.pool`, expected max_connections, min_connections, acquire_timeout, idle_timeout, max_lifetime, prepared_statements or read_only_readers",
    );
    below(
        "route:\n  application:\n    password: s3cret\n    password_env: X\n",
        "7:19: `route.application.password_env`: the password is given twice, expected either `password` or `password_env`",
    );
}

#[test]
fn the_port_follows_the_certificate() {
    assert_eq!(parse(HOSTS).unwrap().listen.port, 8080);
    assert_eq!(parse(&format!("{HOSTS}ssl:\n")).unwrap().listen.port, 8080);
    assert_eq!(
        parse(&format!("{HOSTS}ssl: {{b64cert: '', b64key: ''}}\n")).unwrap().listen.port,
        8080
    );
    let outline = format!("{HOSTS}ssl: {{cert: /no/cert, key: /no/key}}\n");
    let config = Config::parse(Path::new("h"), &outline, Depth::Outline, false).unwrap();
    assert_eq!(config.listen.port, 8443);
}

#[test]
fn passwords_come_from_where_the_file_says() {
    let file = std::env::temp_dir().join(format!("herdsman-password-{}", std::process::id()));
    std::fs::write(&file, "from file\nsecond line\n").unwrap();
    let text = format!(
        "hosts:\n  plain: {{password: p, password_encoding: plain}}\n  b64: {{b64password: cA==}}\n  \
         readme: {{password: cA==, password_encoding: base64}}\n  file: {{password_file: {}}}\n  \
         env: {{password_env: CARGO_MANIFEST_DIR}}\n  uri: postgres://u:p@h/db\n",
        file.display()
    );
    let config = parse(&text).unwrap_or_else(|problems| panic!("{}", list(&problems)));
    std::fs::remove_file(&file).unwrap();
    let password = |node: &str| {
        config.nodes[node].password.as_ref().map(|p| p.expose_secret().to_owned()).unwrap()
    };
    assert_eq!(
        ["plain", "b64", "readme", "file", "uri"].map(password),
        ["p", "p", "p", "from file", "p"]
    );
    assert_eq!(password("env"), env!("CARGO_MANIFEST_DIR"));
}

#[test]
fn what_is_shared_can_be_written_once() {
    let text = "hosts:\n  a: &a {host: a, user: mon, sslmode: disable}\n  b: {<<: *a, host: b}\n";
    let config = parse(text).unwrap();
    assert_eq!(config.nodes["b"].user, "mon");
    assert_eq!(config.nodes["b"].host, "b");
}

#[test]
fn a_file_with_secrets_that_everybody_reads_is_noted() {
    let read =
        |text: &str| Config::parse(Path::new("h.yml"), text, Depth::Full, true).unwrap().notes;
    assert_eq!(read(HOSTS), [""; 0]);
    let note =
        "h.yml holds secrets and every user of this machine may read it; run `chmod 640` on it";
    assert_eq!(read("hosts: {a: {password: x}}\n"), [note]);
    assert_eq!(read("hosts: {a: 'postgres://u:x@h'}\n"), [note]);
}

fn pieces() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "hosts:",
        "\n  a:",
        "\n    host: x",
        "\n    password: s",
        " {",
        "}",
        " [",
        "]",
        "groups:",
        "\n",
        "watch:",
        "\n  pin: ",
        " &a",
        " *a",
        "<<: *a",
        "? ",
        ": ",
        "- ",
        "'",
        "\"",
        "|\n",
        "\t",
        "ssl:",
        "é",
        "port: ",
        "1",
        "~",
        "#",
        "---\n",
        "!!int ",
        ",",
        "\r\n",
        "\u{0}",
        "\u{2028}",
    ]);
    prop::collection::vec(words, 0..30).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_but_never_panics(text in "\\PC{0,120}") {
        let _read_or_refused = parse(&text).map_err(|problems| list(&problems));
    }

    #[test]
    fn any_mix_of_what_files_are_made_of_never_panics(text in pieces()) {
        let _read_or_refused = parse(&text).map_err(|problems| list(&problems));
    }
}
