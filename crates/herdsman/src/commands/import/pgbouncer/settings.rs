//! `[pgbouncer]`, but for who clients are.

use super::super::Files;
use super::super::draft::{Draft, Entry};
use super::super::span::{self, HOUR, MONTH, Span, Zero};
use super::Keys;
use super::databases::mode;

/// What has no equal, and why none is needed or what does it.
const LEFT: [(&[&str], &str); 23] = [
    (
        &["logfile"],
        "the key of the same name at the top; left out lest two programs write into one file",
    ),
    (
        &["pidfile", "user", "service_name", "job_name"],
        "a matter of the service manager: deploy/systemd",
    ),
    (
        &["syslog", "syslog_ident", "syslog_facility"],
        "standard error, which the service manager takes, or `logfile`",
    ),
    (&["verbose", "log_connections", "log_disconnections", "log_pooler_errors"], "`loglevel`"),
    (&["log_stats", "stats_period"], "`SHOW STATS` in the console, and /metrics of the API"),
    (
        &["server_reset_query", "server_reset_query_always"],
        "session mode has `DISCARD ALL`; else nothing is left to reset",
    ),
    (&["server_check_query"], "an empty query after `pool.server_check_delay`"),
    (&["ignore_startup_parameters", "track_extra_parameters"], "every parameter is tracked"),
    (&["min_pool_size"], "connections are made when they are needed"),
    (&["reserve_pool_size", "reserve_pool_timeout"], "`pool.size` is the whole bound"),
    (
        &["max_db_connections", "max_user_connections"],
        "`pool.size` bounds each database, user and node",
    ),
    (
        &["server_round_robin"],
        "the connection used last is taken first, of two nodes drawn the less busy one",
    ),
    (&["server_login_retry"], "attempts go on with growing pauses"),
    (
        &["server_fast_close", "autodb_idle_timeout", "pool_idle_timeout"],
        "what is unused is closed",
    ),
    (
        &["cancel_wait_timeout", "query_wait_notify", "login_notify_message", "suspend_timeout"],
        "there is none",
    ),
    (&["transaction_timeout"], "PostgreSQL's own: `ALTER ROLE … SET transaction_timeout`"),
    (&["peer_id"], "no gateway asks another"),
    (
        &["so_reuseport", "listen_backlog", "pkt_buf", "max_packet_size", "sbuf_loopcnt"],
        "chosen by the program; `workers` are its threads",
    ),
    (
        &[
            "tcp_defer_accept",
            "tcp_socket_buffer",
            "tcp_keepalive",
            "tcp_keepcnt",
            "tcp_keepidle",
            "tcp_keepintvl",
            "tcp_user_timeout",
        ],
        "chosen by the program; those of servers as libpq has them, in `hosts`",
    ),
    (
        &["dns_max_ttl", "dns_nxdomain_ttl", "dns_zone_check_period", "resolv_conf"],
        "a name is looked up at each connection",
    ),
    (&["disable_pqexec", "application_name_add_host", "scram_iterations"], "there is none"),
    (&["auth_hba_file", "auth_ident_file", "auth_ldap_options"], "there is none"),
    (
        &["unix_socket_mode", "unix_socket_group"],
        "the socket is open to all, as PostgreSQL's own; its folder decides",
    ),
];

/// `listen` and `unix_socket_dir`.
pub(super) fn listen(keys: &mut Keys, files: &dyn Files, draft: &mut Draft) {
    let port = keys.value("listen_port").unwrap_or_else(|| "6432".to_owned());
    let hosts = keys.value("listen_addr").unwrap_or_default();
    let addresses: Vec<_> =
        hosts
            .split(',')
            .map(str::trim)
            .filter(|host| !host.is_empty())
            .map(|host| {
                if host.contains(':') {
                    format!("[{host}]:{port}")
                } else {
                    format!("{host}:{port}")
                }
            })
            .collect();
    draft.gateway.push(if addresses.is_empty() {
        Entry::text("listen", &format!("localhost:{port}"))
            .noted("The unix socket alone, there; here it stands beside an address, whose port is in its name.")
    } else {
        Entry::list("listen", &addresses)
    });
    // One that is set to nothing is none, unlike one that is not set.
    let (place, folder) =
        keys.0.remove("unix_socket_dir").unwrap_or_else(|| (String::new(), "/tmp".to_owned()));
    if folder.is_empty() {
        return;
    }
    if files.is_folder(&folder) {
        draft.gateway.push(Entry::text("unix_socket_dir", &folder));
    } else if !place.is_empty() {
        draft.leave(&place, "`unix_socket_dir`", "there is no such folder on this machine");
    }
}

/// `tls`.
pub(super) fn client_tls(
    keys: &mut Keys,
    files: &dyn Files,
    draft: &mut Draft,
    problems: &mut Vec<String>,
) {
    let wanted = keys.value("client_tls_sslmode").unwrap_or_else(|| "disable".to_owned());
    let [cert, key, ca] =
        ["cert", "key", "ca"].map(|name| keys.take(&format!("client_tls_{name}_file")));
    for key in ["protocols", "ciphers", "tls13_ciphers", "ecdhcurve", "dheparams"] {
        let key = if key == "tls13_ciphers" {
            "client_tls13_ciphers".to_owned()
        } else {
            format!("client_tls_{key}")
        };
        if let Some((place, _)) = keys.take(&key) {
            draft.leave(&place, &format!("`{key}`"), "TLS 1.2 and 1.3 with the ciphers of rustls");
        }
    }
    if wanted == "disable" {
        return;
    }
    let (Some(cert), Some(key)) = (cert, key) else {
        problems.push(format!(
            "`client_tls_sslmode = {wanted}` needs `client_tls_cert_file` and `client_tls_key_file`"
        ));
        return;
    };
    let mut entries = Vec::new();
    let verifies = wanted.starts_with("verify");
    for (ours, file) in
        [("cert", Some(cert)), ("key", Some(key)), ("client_ca", ca.filter(|_| verifies))]
    {
        let Some((place, file)) = file else { continue };
        let path = files.absolute(&file);
        if let Err(problem) = files.readable(&path) {
            problems.push(format!("{place}: {problem}"));
        }
        entries.push(Entry::text(ours, &path));
    }
    if wanted == "require" || verifies {
        entries.push(Entry::new("required", "true"));
    }
    draft.gateway.push(Entry::map("tls", entries));
}

/// What every host gets for TLS to it.
pub(super) fn server_tls(
    keys: &mut Keys,
    files: &dyn Files,
    draft: &mut Draft,
) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    if let Some(mode) = keys.value("server_tls_sslmode") {
        pairs.push(("sslmode".to_owned(), mode));
    }
    for (theirs, ours) in [
        ("server_tls_ca_file", "sslrootcert"),
        ("server_tls_cert_file", "sslcert"),
        ("server_tls_key_file", "sslkey"),
    ] {
        if let Some(file) = keys.value(theirs) {
            pairs.push((ours.to_owned(), files.absolute(&file)));
        }
    }
    for key in ["server_tls_protocols", "server_tls_ciphers", "server_tls13_ciphers"] {
        if let Some((place, _)) = keys.take(key) {
            draft.leave(&place, &format!("`{key}`"), "TLS 1.2 and 1.3 with the ciphers of rustls");
        }
    }
    pairs
}

/// What holds for the gateway as a whole.
pub(super) fn limits(keys: &mut Keys, draft: &mut Draft, problems: &mut Vec<String>) {
    let clients = count(keys, "max_client_conn", problems);
    draft.gateway.push(match clients {
        Some(most) => span::number("max_clients", most, 1, 1_000_000),
        None => Entry::new("max_clients", "100").noted("PgBouncer's default; ours is 10000."),
    });
    for (theirs, ours) in [
        ("max_db_client_connections", "max_database_clients"),
        ("max_user_client_connections", "max_user_clients"),
    ] {
        let most = count(keys, theirs, problems);
        draft.gateway.extend(most.map(|most| span::number(ours, most, 0, 1_000_000)));
    }
    let login = Span { key: "login_timeout", least: 10, most: HOUR, zero: Zero::Longest };
    draft.gateway.extend(time(keys, "client_login_timeout", login, problems));
    match count(keys, "max_prepared_statements", problems) {
        Some(0) => draft.gateway.push(
            Entry::new("prepared_statements", "500")
                .noted("0 there, for none. Here they always work."),
        ),
        Some(most) => draft.gateway.push(span::number("prepared_statements", most, 1, 100_000)),
        None => {}
    }
}

/// `pool:`, with PgBouncer's defaults where they are not ours.
pub(super) fn pool(keys: &mut Keys, draft: &mut Draft, problems: &mut Vec<String>) {
    let mut pool = Vec::new();
    match keys.take("pool_mode") {
        None => pool.push(Entry::text("mode", "session").noted(
            "PgBouncer's default. It keeps clients on the primary; `transaction` needs fewer connections and reads from standbys.",
        )),
        Some((place, word)) => match mode(&word) {
            Some(entry) => pool.push(entry),
            None => problems.push(format!("{place}: `pool_mode` is not session, transaction or statement")),
        },
    }
    if let Some(size) = count(keys, "default_pool_size", problems) {
        pool.push(span::number("size", size, 1, 10_000));
    }
    let wait = Span { key: "queue_timeout", least: 10, most: HOUR, zero: Zero::Longest };
    let wait = time(keys, "query_wait_timeout", wait, problems);
    pool.push(wait.unwrap_or_else(|| {
        Entry::new("queue_timeout", "120s").noted("PgBouncer's default; ours is 30s.")
    }));
    let connect = Span { key: "connect_timeout", least: 10, most: HOUR, zero: Zero::Longest };
    let connect = time(keys, "server_connect_timeout", connect, problems);
    pool.push(connect.unwrap_or_else(|| {
        Entry::new("connect_timeout", "15s").noted("PgBouncer's default; ours is 5s.")
    }));
    for (theirs, key, least, most, zero) in [
        ("server_idle_timeout", "server_idle_timeout", 1000, MONTH, Zero::Longest),
        ("server_check_delay", "server_check_delay", 0, HOUR, Zero::Allowed),
        ("client_idle_timeout", "client_idle_timeout", 10, MONTH, Zero::Never),
        ("idle_transaction_timeout", "transaction_idle_timeout", 10, MONTH, Zero::Never),
        ("query_timeout", "query_timeout", 10, MONTH, Zero::Never),
    ] {
        pool.extend(time(keys, theirs, Span { key, least, most, zero }, problems));
    }
    // Zero is not for ever there, but for one transaction.
    if let Some(entry) = millis(keys, "server_lifetime", problems) {
        let span = Span { key: "server_lifetime", least: 1000, most: MONTH, zero: Zero::Longest };
        pool.push(span.entry(entry.max(1)));
    }
    draft.gateway.push(Entry::map("pool", pool));
}

/// What is left has no equal.
pub(super) fn leave(keys: Keys, draft: &mut Draft) {
    for (key, (place, _)) in keys.0 {
        let known = LEFT.iter().find(|(keys, _)| keys.contains(&key.as_str()));
        draft.leave(
            &place,
            &format!("`{key}`"),
            known.map_or("not known to this import", |(_, why)| why),
        );
    }
}

fn count(keys: &mut Keys, key: &str, problems: &mut Vec<String>) -> Option<u64> {
    let (place, value) = keys.take(key)?;
    let number = value.parse().ok();
    if number.is_none() {
        problems.push(format!("{place}: `{key}` is not a number"));
    }
    number
}

fn millis(keys: &mut Keys, key: &str, problems: &mut Vec<String>) -> Option<u64> {
    let (place, value) = keys.take(key)?;
    let millis = span::seconds(&value);
    if millis.is_none() {
        problems.push(format!("{place}: `{key}` is not a number of seconds"));
    }
    millis
}

fn time(keys: &mut Keys, key: &str, span: Span, problems: &mut Vec<String>) -> Option<Entry> {
    millis(keys, key, problems).map(|millis| span.entry(millis))
}
