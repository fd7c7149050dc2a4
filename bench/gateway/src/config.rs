//! What each proxy is told: transaction mode, pools of 32, logins with SCRAM at both sides, one thread.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::peers::Peer;
use crate::server::{DATABASE, ROLE, quoted};

/// Server connections of a pool.
const POOL: usize = 32;
/// More than any load or part has clients.
const CLIENTS: usize = 20_000;

/// What a configuration is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup<'a> {
    /// The proxy's own; it may write there.
    pub(crate) folder: &'a Path,
    /// Where clients log in, on 127.0.0.1.
    pub(crate) port: u16,
    /// The server's port.
    pub(crate) behind: u16,
    /// Of [`ROLE`], at both sides.
    pub(crate) password: &'a str,
    /// What the server keeps of the password.
    pub(crate) verifier: &'a str,
    /// Whether clients come with TLS: `cert.pem` and `key.pem` are in the folder.
    pub(crate) tls: bool,
}

/// A file of a configuration: its name in the proxy's folder, and what is in it.
pub(crate) type File = (&'static str, String);

impl Setup<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn quoted_path(&self, name: &str) -> String {
        quoted(&self.path(name).to_string_lossy())
    }

    /// `with` its two places filled with the certificate and the key, or nothing where there is no TLS.
    fn tls(&self, with: impl FnOnce(&str, &str) -> String) -> String {
        match self.tls {
            true => with(&self.quoted_path("cert.pem"), &self.quoted_path("key.pem")),
            false => String::new(),
        }
    }
}

/// `hosts` is what the file begins with: the server and how to watch it.
pub(crate) fn herdsman(setup: &Setup<'_>, hosts: &str, api: u16) -> File {
    let tls =
        setup.tls(|cert, key| format!("  tls: {{ cert: {cert}, key: {key}, required: true }}\n"));
    let text = format!(
        "{hosts}bind: 127.0.0.1\nport: {api}\ngateway:\n  listen: 127.0.0.1:{}\n  \
         users: {{ {ROLE}: {{ password: {} }} }}\n  max_clients: {CLIENTS}\n{tls}  \
         pool: {{ mode: transaction, size: {POOL} }}\n",
        setup.port,
        quoted(setup.password)
    );
    ("herdsman.yml", text)
}

/// In session mode, or with prepared statements kept apart.
pub(crate) fn pgbouncer(setup: &Setup<'_>, session: bool, prepared: bool) -> [File; 2] {
    let mode = if session { "session" } else { "transaction" };
    let statements = if prepared { "max_prepared_statements = 200\n" } else { "" };
    // Its values are as they are, without quotes.
    let tls = match setup.tls {
        true => format!(
            "client_tls_sslmode = require\nclient_tls_cert_file = {}\nclient_tls_key_file = {}\n",
            setup.path("cert.pem").display(),
            setup.path("key.pem").display()
        ),
        false => String::new(),
    };
    let text = format!(
        "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
         listen_port = {}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\n\
         default_pool_size = {POOL}\nmax_client_conn = {CLIENTS}\nlog_connections = 0\n\
         log_disconnections = 0\nlog_stats = 0\npool_mode = {mode}\n{statements}{tls}",
        setup.behind,
        setup.port,
        setup.path("users").display()
    );
    [("pgbouncer.ini", text), ("users", format!("\"{ROLE}\" \"{}\"\n", setup.password))]
}

/// Of one of the others; its first file is the one it is started with.
pub(crate) fn of_peer(peer: Peer, setup: &Setup<'_>) -> Vec<File> {
    match peer {
        Peer::PgCat => vec![("pgcat.toml", pgcat(setup))],
        Peer::PgDog => pgdog(setup).into(),
        Peer::Odyssey => vec![("odyssey.conf", odyssey(setup))],
        Peer::PgDoorman => vec![("pg_doorman.toml", pg_doorman(setup))],
    }
}

/// What follows the program's name.
pub(crate) fn arguments(peer: Peer, folder: &Path) -> Vec<OsString> {
    let file = |name: &str| folder.join(name).into_os_string();
    match peer {
        Peer::PgCat => vec!["--no-color".into(), file("pgcat.toml")],
        Peer::PgDog => {
            let (config, users) = (file("pgdog.toml"), file("users.toml"));
            vec!["--config".into(), config, "--users".into(), users, "run".into()]
        }
        Peer::Odyssey => vec![file("odyssey.conf")],
        Peer::PgDoorman => vec!["--no-color".into(), file("pg_doorman.toml")],
    }
}

/// It has no SCRAM for clients: they log in with md5, which is less work.
fn pgcat(setup: &Setup<'_>) -> String {
    let password = quoted(setup.password);
    let tls = setup.tls(|cert, key| format!("tls_certificate = {cert}\ntls_private_key = {key}\n"));
    format!(
        "[general]\nhost = \"127.0.0.1\"\nport = {}\nworker_threads = 1\nconnect_timeout = 30000\n\
         admin_username = \"admin\"\nadmin_password = {password}\nserver_tls = false\n{tls}\
         [pools.{DATABASE}]\npool_mode = \"transaction\"\ndefault_role = \"any\"\n\
         query_parser_enabled = false\nprepared_statements_cache_size = 200\n\
         [pools.{DATABASE}.users.0]\nusername = \"{ROLE}\"\npassword = {password}\n\
         pool_size = {POOL}\nstatement_timeout = 0\n\
         [pools.{DATABASE}.shards.0]\ndatabase = \"{DATABASE}\"\n\
         servers = [[\"127.0.0.1\", {}, \"primary\"]]\n",
        setup.port, setup.behind
    )
}

/// It logs in to the server with what its client proved to it, for which it needs what the server keeps.
fn pg_doorman(setup: &Setup<'_>) -> String {
    let tls = match setup.tls {
        true => setup.tls(|cert, key| {
            format!("tls_mode = \"require\"\ntls_certificate = {cert}\ntls_private_key = {key}\n")
        }),
        false => "tls_mode = \"disable\"\n".to_owned(),
    };
    format!(
        "[general]\nhost = \"127.0.0.1\"\nport = {}\nworker_threads = 1\n\
         query_wait_timeout = 30000\nmax_connections = {CLIENTS}\nprepared_statements = true\n\
         log_client_connections = false\nlog_client_disconnections = false\n\
         admin_username = \"admin\"\nadmin_password = {}\nserver_tls_mode = \"disable\"\n{tls}\
         [pools.{DATABASE}]\nserver_host = \"127.0.0.1\"\nserver_port = {}\n\
         pool_mode = \"transaction\"\n\
         [pools.{DATABASE}.users.0]\nusername = \"{ROLE}\"\npassword = {}\npool_size = {POOL}\n",
        setup.port,
        quoted(setup.password),
        setup.behind,
        quoted(setup.verifier)
    )
}

fn pgdog(setup: &Setup<'_>) -> [File; 2] {
    let password = quoted(setup.password);
    let tls = setup.tls(|cert, key| {
        format!("tls_certificate = {cert}\ntls_private_key = {key}\ntls_client_required = true\n")
    });
    let config = format!(
        "[general]\nhost = \"127.0.0.1\"\nport = {}\nworkers = 1\npooler_mode = \"transaction\"\n\
         default_pool_size = {POOL}\nauth_type = \"scram\"\nprepared_statements = \"extended\"\n\
         tls_verify = \"disabled\"\ncheckout_timeout = 30000\nshutdown_timeout = 1000\n{tls}\
         [admin]\npassword = {password}\n\
         [[databases]]\nname = \"{DATABASE}\"\nhost = \"127.0.0.1\"\nport = {}\n",
        setup.port, setup.behind
    );
    let users =
        format!("[[users]]\nname = \"{ROLE}\"\ndatabase = \"{DATABASE}\"\npassword = {password}\n");
    [("pgdog.toml", config), ("users.toml", users)]
}

fn odyssey(setup: &Setup<'_>) -> String {
    let password = quoted(setup.password);
    let tls = match setup.tls {
        true => setup.tls(|cert, key| {
            format!("\ttls \"require\"\n\ttls_cert_file {cert}\n\ttls_key_file {key}\n")
        }),
        false => "\ttls \"disable\"\n".to_owned(),
    };
    let folder = quoted(&setup.folder.to_string_lossy());
    format!(
        "daemonize no\nworkers 1\nclient_max {CLIENTS}\nlocks_dir {folder}\n\
         enable_online_restart no\nbindwith_reuseport no\ngraceful_shutdown_timeout_ms 1000\n\
         log_format \"%l %m\\n\"\nlog_to_stdout yes\nlog_config no\nlog_session no\nlog_query no\n\
         log_stats no\n\
         listen {{\n\thost \"127.0.0.1\"\n\tport {}\n\tbacklog 1024\n{tls}}}\n\
         storage \"server\" {{\n\ttype \"remote\"\n\thost \"127.0.0.1\"\n\tport {}\n\
         \ttls \"disable\"\n}}\n\
         database \"{DATABASE}\" {{\n\tuser \"{ROLE}\" {{\n\t\tauthentication \"scram-sha-256\"\n\
         \t\tpassword {password}\n\t\tstorage \"server\"\n\t\tstorage_db \"{DATABASE}\"\n\
         \t\tstorage_user \"{ROLE}\"\n\t\tstorage_password {password}\n\
         \t\tpool \"transaction\"\n\t\tpool_size {POOL}\n\t\tpool_timeout 0\n\t\tpool_ttl 1200\n\
         \t\tpool_discard no\n\t\tpool_reserve_prepared_statement yes\n\t}}\n}}\n",
        setup.port, setup.behind
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(tls: bool) -> Setup<'static> {
        Setup {
            folder: Path::new("/run/bench"),
            port: 6432,
            behind: 5432,
            password: "pass\"word",
            verifier: "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy",
            tls,
        }
    }

    fn all(peer: Peer, tls: bool) -> String {
        of_peer(peer, &setup(tls)).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn every_peer_listens_on_the_loopback_and_has_a_pool_of_32_in_front_of_the_server() {
        for (peer, size) in [
            (Peer::PgCat, "pool_size = 32\n"),
            (Peer::PgDog, "default_pool_size = 32\n"),
            (Peer::Odyssey, "pool_size 32\n"),
            (Peer::PgDoorman, "pool_size = 32\n"),
        ] {
            let text = all(peer, false);
            for part in [size, "6432", "5432", "127.0.0.1", "transaction", "app"] {
                assert!(text.contains(part), "{peer}: no {part} in {text}");
            }
            assert!(!text.contains("0.0.0.0"), "{peer}: {text}");
        }
    }

    #[test]
    fn every_peer_has_one_thread() {
        for (peer, one) in [
            (Peer::PgCat, "worker_threads = 1\n"),
            (Peer::PgDog, "workers = 1\n"),
            (Peer::Odyssey, "workers 1\n"),
            (Peer::PgDoorman, "worker_threads = 1\n"),
        ] {
            assert!(all(peer, false).contains(one), "{peer}");
        }
    }

    #[test]
    fn certificates_are_named_only_with_tls() {
        for peer in Peer::ALL {
            assert!(all(peer, true).contains("\"/run/bench/cert.pem\""), "{peer}");
            assert!(all(peer, true).contains("\"/run/bench/key.pem\""), "{peer}");
            assert!(!all(peer, false).contains(".pem"), "{peer}");
        }
        let [(_, with), _] = pgbouncer(&setup(true), false, true);
        assert!(with.contains("client_tls_cert_file = /run/bench/cert.pem\n"), "{with}");
        let [(_, without), _] = pgbouncer(&setup(false), false, true);
        assert!(!without.contains("tls"), "{without}");
        let (_, ours) = herdsman(&setup(true), "hosts: {}\n", 8432);
        assert!(ours.contains("cert: \"/run/bench/cert.pem\""), "{ours}");
    }

    #[test]
    fn a_password_is_quoted() {
        for peer in [Peer::PgCat, Peer::PgDog, Peer::Odyssey] {
            assert!(all(peer, false).contains("\"pass\\\"word\""), "{peer}");
        }
    }

    #[test]
    fn pg_doorman_is_told_what_the_server_keeps_of_the_password() {
        let text = all(Peer::PgDoorman, false);
        assert!(text.contains("password = \"SCRAM-SHA-256$4096:"), "{text}");
    }

    #[test]
    fn each_is_started_with_the_files_written_for_it() {
        let folder = Path::new("/run/bench");
        for peer in Peer::ALL {
            let arguments = arguments(peer, folder);
            for (name, _) in of_peer(peer, &setup(false)) {
                let path = folder.join(name).into_os_string();
                assert!(arguments.contains(&path), "{peer}: {arguments:?}");
            }
        }
    }

    #[test]
    fn pgbouncer_before_its_prepared_statements_gets_no_setting_it_does_not_know() {
        let [(_, old), _] = pgbouncer(&setup(false), true, false);
        assert!(!old.contains("max_prepared_statements"), "{old}");
        assert!(old.contains("pool_mode = session\n"), "{old}");
        let [(_, new), _] = pgbouncer(&setup(false), false, true);
        assert!(new.contains("max_prepared_statements = 200\n"), "{new}");
        assert!(new.contains("pool_mode = transaction\n"), "{new}");
    }
}
