//! Getting to a server: TLS, channel binding, and what is said when it cannot be done.

use std::time::Duration;

use herdsman_node::{ConnectErrorKind, Conninfo, Tls};
use herdsman_sandbox::{Sandbox, on_each_version};
use herdsman_wal::{Replication, WalError};

use crate::common::{LIMIT, sandbox};

/// How `postgres` gets to the server, with these keys changed.
fn conninfo(sandbox: &Sandbox, changes: &[(&str, &str)]) -> Conninfo {
    let mut keys = sandbox.conninfo("n1", "postgres").unwrap();
    keys.extend(changes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    Conninfo::from_pairs(keys).unwrap()
}

async fn try_connect(info: &Conninfo) -> Result<Replication, WalError> {
    Replication::connect(info, &Tls::new(info).unwrap(), LIMIT).await
}

async fn refused(info: &Conninfo) -> (ConnectErrorKind, String) {
    match try_connect(info).await.unwrap_err() {
        WalError::Connect(error) => (error.kind, error.to_string()),
        other => panic!("{other}"),
    }
}

on_each_version! {
    async fn a_login_over_tls_is_bound_to_the_certificate(version: u32) {
        let sandbox = Sandbox::builder().pg_version(version).tls(true).start().await.unwrap();
        for mode in ["prefer", "require", "verify-full"] {
            let mut connection = try_connect(&conninfo(&sandbox, &[("sslmode", mode)])).await.unwrap();
            let ssl = "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
            let rows = connection.query("tell about TLS", ssl).await.unwrap();
            assert_eq!(rows, [[Some("true".to_owned())]]);
        }
    }

    async fn a_wrong_password_and_a_server_without_tls_are_told_apart(version: u32) {
        let sandbox = sandbox(version).await;
        let (kind, text) = refused(&conninfo(&sandbox, &[("password", "s3cret-and-wrong")])).await;
        assert_eq!(kind, ConnectErrorKind::Rejected, "{text}");
        assert!(!text.contains("s3cret"), "{text}");
        let (kind, text) = refused(&conninfo(&sandbox, &[("sslmode", "require")])).await;
        assert_eq!(kind, ConnectErrorKind::Tls, "{text}");
        assert!(text.contains("does not offer TLS"), "{text}");
        let (kind, _) = refused(&conninfo(&sandbox, &[("dbname", "nowhere")])).await;
        assert_eq!(kind, ConnectErrorKind::Rejected);
    }

    async fn a_server_that_accepts_and_says_nothing_is_given_up(version: u32) {
        let sandbox = sandbox(version).await;
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port().to_string();
        let info = conninfo(&sandbox, &[("port", &port)]);
        let outcome = Replication::connect(&info, &Tls::new(&info).unwrap(), Duration::from_millis(300)).await;
        assert!(matches!(outcome, Err(WalError::Connect(error)) if error.kind == ConnectErrorKind::TimedOut));
    }

    async fn the_server_says_who_it_is(version: u32) {
        let sandbox = sandbox(version).await;
        let mut connection = try_connect(&conninfo(&sandbox, &[])).await.unwrap();
        assert_eq!(connection.server_version() / 10_000, version);
        let identity = connection.identify().await.unwrap();
        assert_eq!((identity.timeline.0, identity.database.as_str()), (1, "postgres"));
        let wrong = connection.query("do what cannot be done", "SELECT 1/0").await.unwrap_err();
        assert!(wrong.to_string().contains("division by zero (SQLSTATE 22012)"), "{wrong}");
        // Refused is not broken.
        assert_eq!(connection.identify().await.unwrap().system_id, identity.system_id);
    }
}
