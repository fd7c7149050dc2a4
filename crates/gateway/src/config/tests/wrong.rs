//! Mistakes, and the words for them.

use super::*;

/// What is below `gateway:` (each line is moved in), and the first line that a person sees.
#[track_caller]
fn check(section: &str, expected: &str) {
    let lines: String = section.lines().map(|line| format!("  {line}\n")).collect();
    let text = format!("{ABOVE}gateway:\n{lines}");
    let told = match read(&text, Depth::Full) {
        Ok(_) => panic!("was taken: {text}"),
        Err(problems) => list(&problems),
    };
    assert_eq!(told.lines().next().unwrap_or_default(), format!("h.yml:{expected}"), "{text}");
    assert!(!told.contains("s3c"), "a secret is shown: {told}");
}

/// As [`check`], with users, so that nothing else is wrong.
#[track_caller]
fn with_users(section: &str, expected: &str) {
    check(&format!("trust_loopback: true\n{section}"), expected);
}

#[test]
fn unknown_keys_and_wrong_shapes_are_refused() {
    check(
        "listn: x",
        "7:3: unknown key `listn` in `gateway`, expected listen, unix_socket_dir, workers, tls, proxy_protocol, auth, trust_loopback, users, auth_file, auth_query, databases, admins, stats_users, hold, hold_queue, max_clients, max_user_clients, max_database_clients, max_address_clients, login_timeout, drain_timeout, linger, session_state, write_guard, guard_lease, read_in_split_brain, slow_query, prepared_statements, switchover or pool",
    );
    check(
        "pool: {sizes: 3}",
        "7:10: unknown key `sizes` in `gateway.pool`, expected mode, size, queue, queue_timeout, connect_timeout, server_idle_timeout, server_lifetime, server_check_delay, client_idle_timeout, transaction_idle_timeout, query_timeout or max_clients",
    );
    check("pool: 5", "7:9: `gateway.pool` is `5`, expected a map of keys and values");
    check("users: [a]", "7:10: `gateway.users` is a list, expected a map of keys and values");
    check(
        "users: {app: {passwd: s3cret}}",
        "7:17: unknown key `passwd` in `gateway.users.app`, expected password, b64password, password_file, password_env, password_command, auth, server_user, server_password, server_b64password, server_password_file, server_password_env, server_password_command, max_clients or pool",
    );
    check(
        "databases: {d: {pool: {connect_timeout: 1s}}}",
        "7:26: unknown key `connect_timeout` in `gateway.databases.d.pool`, expected mode, size, queue, queue_timeout, query_timeout or max_clients",
    );
    check(
        "databases: {d: {nodes: [a]}}",
        "7:19: unknown key `nodes` in `gateway.databases.d`, expected dbname, group, target, max_clients or pool",
    );
    check(
        "tls: {cert: /x}",
        "6:1: `gateway` knows no user, expected `users`, `auth_file`, `auth_query` or `trust_loopback`",
    );
    check(
        "tls: {cert: /x, key: /y, ca: /z}",
        "7:28: unknown key `ca` in `gateway.tls`, expected cert, key, client_ca, client_crl or required",
    );
    check(
        "auth_query: {database: d}",
        "7:3: `gateway.auth_query` has no `user`, expected a role that may look up passwords",
    );
    check(
        "auth_query: {user: u, sql: x}",
        "7:25: unknown key `sql` in `gateway.auth_query`, expected user, password, b64password, password_file, password_env, password_command, database or query",
    );
    check(
        "switchover: {demote: stop}",
        "7:24: `gateway.switchover.demote` is `stop`, expected a list",
    );
    check(
        "switchover: {before: [x]}",
        "7:16: unknown key `before` in `gateway.switchover`, expected demote, promote, follow, drain or command_timeout",
    );
    check("admins: app", "7:11: `gateway.admins` is `app`, expected a list");
}

#[test]
fn values_out_of_their_range_are_refused() {
    with_users(
        "workers: 257",
        "8:12: `gateway.workers`: `257` is out of range; allowed is 0 to 256",
    );
    with_users(
        "workers: -1",
        "8:12: `gateway.workers` is `-1`, expected a whole number, 0 or more",
    );
    with_users(
        "workers: many",
        "8:12: `gateway.workers` is `many`, expected a whole number, 0 or more",
    );
    with_users(
        "hold: 5",
        "8:9: `gateway.hold`: `5` is not a duration; write it like 500ms, 5s or 2m",
    );
    with_users("hold: 2h", "8:9: `gateway.hold`: `2h` is out of range; allowed is 0s to 1h");
    with_users(
        "hold: never",
        "8:9: `gateway.hold`: `never` is not a duration; write it like 500ms, 5s or 2m",
    );
    with_users(
        "hold_queue: 1000001",
        "8:15: `gateway.hold_queue`: `1000001` is out of range; allowed is 0 to 1000000",
    );
    with_users(
        "max_clients: 0",
        "8:16: `gateway.max_clients`: `0` is out of range; allowed is 1 to 1000000",
    );
    with_users(
        "login_timeout: 1ms",
        "8:18: `gateway.login_timeout`: `1ms` is out of range; allowed is 10ms to 1h",
    );
    with_users(
        "drain_timeout: 61m",
        "8:18: `gateway.drain_timeout`: `61m` is out of range; allowed is 0s to 1h",
    );
    with_users(
        "guard_lease: 50ms",
        "8:16: `gateway.guard_lease`: `50ms` is out of range; allowed is 100ms to 1m",
    );
    with_users(
        "slow_query: 0s",
        "8:15: `gateway.slow_query`: `0s` is out of range; allowed is 1ms to 1h, or never",
    );
    with_users(
        "prepared_statements: 0",
        "8:24: `gateway.prepared_statements`: `0` is out of range; allowed is 1 to 100000",
    );
    with_users(
        "pool: {size: 0}",
        "8:16: `gateway.pool.size`: `0` is out of range; allowed is 1 to 10000",
    );
    with_users(
        "pool: {size: 10001}",
        "8:16: `gateway.pool.size`: `10001` is out of range; allowed is 1 to 10000",
    );
    with_users(
        "pool: {queue: -5}",
        "8:17: `gateway.pool.queue` is `-5`, expected a whole number, 0 or more",
    );
    with_users(
        "pool: {queue_timeout: 0s}",
        "8:25: `gateway.pool.queue_timeout`: `0s` is out of range; allowed is 10ms to 1h",
    );
    with_users(
        "pool: {server_lifetime: never}",
        "8:27: `gateway.pool.server_lifetime`: `never` is not a duration; write it like 500ms, 5s or 2m",
    );
    with_users(
        "pool: {client_idle_timeout: 0s}",
        "8:31: `gateway.pool.client_idle_timeout`: `0s` is out of range; allowed is 10ms to 30days, or never",
    );
    with_users(
        "users: {u: {pool: {size: 0}}}",
        "8:28: `gateway.users.u.pool.size`: `0` is out of range; allowed is 1 to 10000",
    );
    with_users(
        "databases: {d: {pool: {query_timeout: fast}}}",
        "8:41: `gateway.databases.d.pool.query_timeout`: `fast` is not a duration; write it like 500ms, 5s or 2m, or write never",
    );
    with_users(
        "switchover: {drain: 2h}",
        "8:23: `gateway.switchover.drain`: `2h` is out of range; allowed is 0s to 1h",
    );
}

#[test]
fn words_that_mean_nothing_are_refused() {
    with_users(
        "auth: password",
        "8:9: `gateway.auth` has a wrong value, expected scram, md5, cert or trust",
    );
    with_users(
        "session_state: keep",
        "8:18: `gateway.session_state` is `keep`, expected pin or refuse",
    );
    with_users(
        "write_guard: on",
        "8:16: `gateway.write_guard`: `true` does not say which, expected off, deadline or followers",
    );
    with_users(
        "write_guard: lease",
        "8:16: `gateway.write_guard`: `lease` is none, expected off, deadline or followers",
    );
    with_users(
        "pool: {mode: pooled}",
        "8:16: `gateway.pool.mode` is `pooled`, expected session, transaction or statement",
    );
    with_users(
        "proxy_protocol: maybe",
        "8:19: `gateway.proxy_protocol` is `maybe`, expected true or false",
    );
    with_users(
        "read_in_split_brain: 2",
        "8:24: `gateway.read_in_split_brain` is `2`, expected true or false",
    );
}

#[test]
fn addresses_that_cannot_be_listened_on_are_refused() {
    with_users("listen: []", "8:11: `gateway.listen` is empty, expected at least one host:port");
    with_users(
        "listen: 6432",
        "8:11: `gateway.listen` has `6432`, expected host:port, such as localhost:6432, [::1]:6432 or *:6432",
    );
    with_users(
        "listen: localhost",
        "8:11: `gateway.listen` has `localhost`, expected host:port, such as localhost:6432, [::1]:6432 or *:6432",
    );
    with_users(
        "listen: localhost:70000",
        "8:11: `gateway.listen` has `localhost:70000`, expected host:port, such as localhost:6432, [::1]:6432 or *:6432",
    );
    with_users(
        "listen: ':6432'",
        "8:11: `gateway.listen` has `:6432`, expected host:port, such as localhost:6432, [::1]:6432 or *:6432",
    );
    with_users(
        "listen: '::1:6432'",
        "8:11: `gateway.listen` has `::1:6432`, expected host:port, such as localhost:6432, [::1]:6432 or *:6432",
    );
    with_users(
        "listen: ['localhost:6432', '127.0.0.1:6432']",
        "8:30: `gateway.listen` has `127.0.0.1:6432` and another with the same port there, expected one",
    );
    with_users(
        "listen: ['*:6432', '10.0.0.1:6432']",
        "8:22: `gateway.listen` has `10.0.0.1:6432` and another with the same port there, expected one",
    );
    with_users(
        "listen: {host: x}",
        "8:11: `gateway.listen` is a map, expected host:port or a list of them",
    );
    with_users(
        "listen: localhost:8080",
        "8:11: `gateway.listen` has port 8080, where the API listens, expected another",
    );
    with_users(
        "listen: ['10.0.0.1:6432', '*:8080']",
        "8:29: `gateway.listen` has port 8080, where the API listens, expected another",
    );
    with_users(
        "unix_socket_dir: /nonexistent/folder",
        "8:20: `gateway.unix_socket_dir`: `/nonexistent/folder` is not a directory, expected one that exists",
    );
    let folder = "x".repeat(100);
    with_users(
        &format!("unix_socket_dir: /{folder}"),
        "8:20: `gateway.unix_socket_dir` has 101 bytes, expected a path short enough for a socket: 92 at most",
    );
}

#[test]
fn logins_that_cannot_work_or_would_let_anybody_in_are_refused() {
    check(
        "auth: trust\nlisten: ['localhost:1', '10.0.0.1:1']",
        "7:9: `gateway.auth` is `trust`, which would let everybody in from everywhere, expected scram, md5 or cert; `trust_loopback: true` asks nothing of clients of this machine",
    );
    check(
        "listen: 10.0.0.1:1\nusers: {u: {auth: trust}}",
        "8:21: `gateway.users.u.auth` is `trust`, which is for the loopback interface and the unix socket, and `gateway.listen` has neither, expected scram, md5 or cert",
    );
    check(
        "auth: cert",
        "7:9: `gateway.auth` is `cert`, expected `gateway.tls` with `client_ca` beside it",
    );
    check(
        "users: {u: {auth: cert}}",
        "7:21: `gateway.users.u.auth` is `cert`, expected `gateway.tls` with `client_ca`",
    );
    check("users: {u: }", "7:11: `gateway.users.u` has no password, expected one");
    check("users: {u: {password: ''}}", "7:25: `gateway.users.u.password`: the password is empty");
    check("users: {'': {password: s3cret}}", "7:11: `gateway.users.` has no name, expected one");
    check(
        "users: {u: {password: md5aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}}",
        "7:25: `gateway.users.u.password` is an md5 hash, which SCRAM cannot use, expected a password, a SCRAM verifier, or `auth: md5`",
    );
    check(
        "users: {u: {auth: md5, password: 'SCRAM-SHA-256$4096:c2FsdA==$a:b'}}",
        "7:36: `gateway.users.u.password`: a SCRAM-SHA-256 verifier is malformed or cut off",
    );
    check(
        "users: {u: {password: s3cret, password_env: X}}",
        "7:47: `gateway.users.u.password_env`: the password is given twice, expected either `password` or `password_env`",
    );
    check(
        "users: {u: {password: s3cret, server_password: s3cret, server_b64password: s3cret}}",
        "7:78: `gateway.users.u.server_b64password`: the password is given twice, expected either `server_password` or `server_b64password`",
    );
    check(
        "users: {u: {password: s3cret, server_password_env: NO_SUCH_VARIABLE}}",
        "7:54: `gateway.users.u.server_password_env`: the variable `NO_SUCH_VARIABLE` is not set, expected it to hold the password",
    );
    check(
        "users: {u: {password: s3cret, server_password_file: /nonexistent}}",
        "7:55: `gateway.users.u.server_password_file`: the file `/nonexistent` cannot be read: No such file or directory (os error 2)",
    );
    check(
        "users: {u: {b64password: '?'}}",
        "7:28: `gateway.users.u.b64password`: this is not base64, expected what `base64` prints",
    );
    check(
        "users: {u: {password: s3cret, server_user: ''}}",
        "7:46: `gateway.users.u.server_user` is empty, expected a role",
    );
    check(
        "users: {u: {password: 'SCRAM-SHA-256$s3cret'}}",
        "7:25: `gateway.users.u.password`: a SCRAM-SHA-256 verifier is malformed or cut off",
    );
    with_users(
        "admins: [nobody]",
        "8:12: `gateway.admins` has `nobody`, expected one of `gateway.users` or of an `auth_file`",
    );
    with_users(
        "users: {u: {password: s3cret}}\nstats_users: [u, nobody]",
        "9:20: `gateway.stats_users` has `nobody`, expected one of `gateway.users` or of an `auth_file`",
    );
    with_users(
        "auth_query: {user: ''}",
        "8:22: `gateway.auth_query` has no `user`, expected a role that may look up passwords",
    );
    with_users(
        "auth_query: {user: u, database: ''}",
        "8:35: `gateway.auth_query.database` is empty, expected a name",
    );
    with_users(
        "auth_query: {user: u, query: SELECT 1}",
        "8:32: `gateway.auth_query.query` has no `$1`, expected one, which stands for the user",
    );
    with_users(
        "auth_query: {user: u, password_env: NO_SUCH_VARIABLE}",
        "8:39: `gateway.auth_query.password_env`: the variable `NO_SUCH_VARIABLE` is not set, expected it to hold the password",
    );
    with_users(
        "auth_file: /nonexistent",
        "8:14: failed to read `auth_file` /nonexistent: No such file or directory (os error 2)",
    );
    with_users(
        "tls: {cert: /nonexistent, key: /nonexistent}",
        "8:15: failed to read `gateway.tls.cert` from `/nonexistent`: I/O error: No such file or directory (os error 2)",
    );
    with_users(
        "tls: {cert: /dev/null, key: /dev/null}",
        "8:15: failed to read `gateway.tls.cert` from `/dev/null`: it holds no certificate in PEM form",
    );
}

#[test]
fn databases_and_commands_that_lead_nowhere_are_refused() {
    with_users(
        "databases: {herdsman: }",
        "8:15: `gateway.databases.herdsman` is the admin database, expected another name",
    );
    with_users(
        "databases: {pgbouncer: {dbname: x}}",
        "8:15: `gateway.databases.pgbouncer` is the admin database, expected another name",
    );
    with_users(
        "databases: {d: {dbname: ''}}",
        "8:27: `gateway.databases.d.dbname` is empty, expected a name",
    );
    with_users(
        "databases: {d: {group: h}}",
        "8:26: `gateway.databases.d.group` names `h`, expected a group of `groups`: `g` or `all`",
    );
    with_users(
        "databases: {d: {target: c}}",
        "8:27: `gateway.databases.d.target` is `c`, expected split, writer, reader, writers or a node of `hosts`: `a` or `b`",
    );
    with_users(
        "databases: {d: {target: b, group: g}}",
        "8:27: `gateway.databases.d.target` is `b`, which is not in the group `g`, expected a node of it",
    );
    with_users(
        "databases: {d: {target: 'a/b'}}",
        "8:27: `gateway.databases.d.target`: `a/b` cannot name a node; use 1 to 255 printable characters without `/`, `?` and `#`, which would not survive in a URL",
    );
    with_users(
        "databases: {d: {target: writers}}",
        "8:27: `gateway.databases.d.target` is `writers`, expected `group` beside it: a write may go to each of its nodes",
    );
    with_users(
        "switchover: {demote: [stop, '{nod}']}",
        "8:31: `gateway.switchover.demote` has `{nod}`, expected {node}, {host}, {port} or {new}",
    );
    with_users(
        "switchover: {follow: ['{old}']}",
        "8:25: `gateway.switchover.follow` has `{old}`, expected {node}, {host}, {port} or {new}",
    );
    with_users(
        "write_guard: deadline\nhold: 500ms",
        "6:1: `gateway.guard_lease` is 1s, expected less than `gateway.hold`, which is 500ms",
    );
}

#[test]
fn a_section_that_lets_nobody_in_is_refused() {
    let told = list(&read(&format!("{ABOVE}gateway: {{}}\n"), Depth::Full).unwrap_err());
    let expected = "h.yml:6:1: `gateway` knows no user, expected `users`, `auth_file`, `auth_query` or `trust_loopback`";
    assert_eq!(told.lines().next(), Some(expected));
}

#[test]
fn every_mistake_is_told_at_once() {
    let section =
        "gateway:\n  listen: nowhere\n  admins: [x]\n  databases: {d: {group: h, target: c}}\n";
    let told = list(&read(&format!("{ABOVE}{section}"), Depth::Full).unwrap_err());
    for place in ["h.yml:6:1:", "h.yml:7:11:", "h.yml:8:12:", "h.yml:9:26:", "h.yml:9:37:"] {
        assert!(told.contains(place), "{place} is missing: {told}");
    }
}
