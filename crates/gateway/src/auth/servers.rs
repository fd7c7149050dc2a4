//! On real servers: users are looked up, their clients' keys log in there, and nobody else gets through.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use herdsman_node::raw::{Credential, RawConnection, ScramKeys, connect_raw_as};
use herdsman_node::{ConnectErrorKind, Conninfo, Tls};
use herdsman_sandbox::Sandbox;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use postgres_protocol::message::{backend::Message, frontend};
use tokio::time::{Instant, sleep};

use super::{Conversation, Origin, Peer, Step, User, Users};
use crate::config::{AuthMethod, AuthQuery, GatewayConfig, UserConfig};

const LIMIT: Duration = Duration::from_secs(10);

async fn sandbox(version: u32, tls: bool) -> Sandbox {
    Sandbox::builder().pg_version(version).tls(tls).start().await.unwrap()
}

async fn sql(sandbox: &Sandbox, text: &str) {
    sandbox.sql("n1", "postgres").await.unwrap().batch_execute(text).await.unwrap();
}

fn info(sandbox: &Sandbox, role: &str) -> Conninfo {
    Conninfo::from_pairs(sandbox.conninfo("n1", role).unwrap()).unwrap()
}

/// A gateway whose users are those of the servers. `query`: `None` for the default one.
fn gateway(sandbox: &Sandbox, query: Option<&str>) -> Users {
    let asker = serde_json::json!({
        "user": "postgres",
        "password": sandbox.credentials().password("postgres").unwrap(),
    });
    let mut asker: AuthQuery = serde_json::from_value(asker).unwrap();
    if let Some(query) = query {
        query.clone_into(&mut asker.query);
    }
    let config = GatewayConfig { auth_query: Some(asker), ..GatewayConfig::default() };
    let place = Arc::new(info(sandbox, "herdsman"));
    Users::new(&config, Box::new(move || vec![Arc::clone(&place)])).unwrap()
}

async fn find(users: &Users, name: &str) -> Option<Arc<User>> {
    users.find(name).await.unwrap()
}

/// Logs in at the gateway as libpq would with a password.
fn log_in(users: &Users, user: &Arc<User>, password: &str) -> Step {
    let name = user.name.clone();
    let mut login =
        Conversation::new(users, &name, Some(Arc::clone(user)), Peer::default()).unwrap();
    let mut out = Vec::new();
    login.start(&mut out);
    let body = |out: &mut Vec<u8>| std::mem::take(out).split_off(9);
    if out[8] == 5 {
        let salt = body(&mut out).try_into().unwrap();
        let hash =
            postgres_protocol::authentication::md5_hash(name.as_bytes(), password.as_bytes(), salt);
        return login.message(format!("{hash}\0").as_bytes(), &mut out);
    }
    let mut client = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
    let first = client.message();
    let length = i32::try_from(first.len()).unwrap().to_be_bytes();
    body(&mut out);
    login.message(&[b"SCRAM-SHA-256\0", &length[..], first].concat(), &mut out);
    client.update(&body(&mut out)).unwrap();
    login.message(client.message(), &mut out)
}

/// Who a connection is.
async fn current_user(mut connection: RawConnection) -> String {
    let mut out = BytesMut::new();
    frontend::query("SELECT current_user", &mut out).unwrap();
    connection.send(&mut out).await.unwrap();
    loop {
        if let Message::DataRow(row) = connection.message().await.unwrap() {
            // The length of the one column, and the column.
            return String::from_utf8(row.buffer()[4..].to_vec()).unwrap();
        }
    }
}

async fn connect(
    sandbox: &Sandbox,
    role: &str,
    credential: &Credential,
) -> Result<String, (ConnectErrorKind, String)> {
    let mut info = info(sandbox, "plain").for_login(None, None, None);
    role.clone_into(&mut info.user);
    info.password = None;
    let tls = Tls::new(&info).unwrap();
    match connect_raw_as(&info, &tls, LIMIT, &[], credential).await {
        Ok(connection) => Ok(current_user(connection).await),
        Err(error) => Err((error.kind, error.to_string())),
    }
}

/// What a client's login at the gateway is good for on the server, with TLS to it or without.
async fn pass_through(version: u32, tls: bool) {
    let sandbox = sandbox(version, tls).await;
    let users = gateway(&sandbox, None);
    let app = find(&users, "app").await.unwrap();
    assert_eq!(app.origin, Origin::Query);
    let before = connect(&sandbox, "app", &app.server_login().credential).await;
    assert_eq!(before.unwrap_err().0, ConnectErrorKind::Rejected);

    assert!(matches!(log_in(&users, &app, "guess"), Step::Refused(_)));
    assert!(matches!(app.server_login().credential, Credential::None));
    let password = sandbox.credentials().password("app").unwrap();
    assert!(matches!(log_in(&users, &app, password), Step::Accepted));
    let login = app.server_login();
    assert!(matches!(login.credential, Credential::Scram(_)));
    assert_eq!(connect(&sandbox, "app", &login.credential).await.as_deref(), Ok("app"));

    // Keys are of one verifier: another role's is another, and so is a new one of the same password.
    let (kind, other) = connect(&sandbox, "plain", &login.credential).await.unwrap_err();
    assert_eq!(kind, ConnectErrorKind::Rejected);
    assert!(other.contains("tried with SCRAM keys"), "{other}");
    sql(&sandbox, &format!("ALTER ROLE app PASSWORD '{password}'")).await;
    connect(&sandbox, "app", &login.credential).await.unwrap_err();
    let password = Credential::Password(password.into());
    assert_eq!(connect(&sandbox, "app", &password).await.as_deref(), Ok("app"));
    let wrong = Credential::Scram(ScramKeys { client: [1; 32], server: [2; 32] });
    connect(&sandbox, "app", &wrong).await.unwrap_err();
}

herdsman_sandbox::on_each_version! {
    async fn the_keys_a_client_shows_log_in_on_the_server(version: u32) {
        pass_through(version, false).await;
    }

    async fn the_keys_a_client_shows_log_in_over_tls_with_channel_binding(version: u32) {
        pass_through(version, true).await;
    }

    async fn an_md5_user_of_the_server_logs_in_here_and_there(version: u32) {
        let sandbox = sandbox(version, false).await;
        sql(&sandbox, "SET password_encryption = 'md5'; CREATE ROLE old LOGIN PASSWORD 'secret'").await;
        let access = sandbox.dir().join("n1/hba.conf");
        let rules = std::fs::read_to_string(&access).unwrap();
        std::fs::write(&access, format!("host all old 127.0.0.1/32 md5\n{rules}")).unwrap();
        sql(&sandbox, "SELECT pg_reload_conf()").await;
        let users = gateway(&sandbox, None);
        // Its verifier is of no use for SCRAM.
        let old = find(&users, "old").await.unwrap();
        assert!(matches!(log_in(&users, &old, "secret"), Step::Refused(_)));

        let mut config = GatewayConfig { auth: AuthMethod::Md5, ..GatewayConfig::default() };
        let stored = postgres_protocol::password::md5(b"secret", "old");
        let entry = UserConfig { password: Some(stored.into()), ..UserConfig::default() };
        config.users.insert("old".to_owned(), entry);
        let users = Users::new(&config, Box::new(Vec::new)).unwrap();
        let old = find(&users, "old").await.unwrap();
        assert!(matches!(log_in(&users, &old, "guess"), Step::Refused(_)));
        assert!(matches!(log_in(&users, &old, "secret"), Step::Accepted));
        let credential = old.server_login().credential;
        assert!(matches!(credential, Credential::Md5(_)));
        let deadline = Instant::now() + LIMIT;
        // The server takes a moment to read its rules.
        while connect(&sandbox, "old", &credential).await.as_deref() != Ok("old") {
            assert!(Instant::now() < deadline, "{:?}", connect(&sandbox, "old", &credential).await);
            sleep(Duration::from_millis(50)).await;
        }
        let (_, refused) = connect(&sandbox, "app", &credential).await.unwrap_err();
        assert!(refused.contains("another proof than an md5 verifier"), "{refused}");
    }

    async fn only_who_may_log_in_is_found(version: u32) {
        let sandbox = sandbox(version, false).await;
        sql(&sandbox, "CREATE ROLE late LOGIN PASSWORD 'secret' VALID UNTIL '2020-01-01'; \
            CREATE ROLE soon LOGIN PASSWORD 'secret' VALID UNTIL 'infinity'; \
            CREATE ROLE team PASSWORD 'secret'; CREATE ROLE bare LOGIN").await;
        let users = gateway(&sandbox, None);
        for name in ["nobody", "team", "", "APP", "app' OR true --", &"a".repeat(64)] {
            assert!(find(&users, name).await.is_none(), "{name}");
        }
        for (name, known) in [("app", true), ("soon", true), ("late", false), ("bare", false)] {
            let user = find(&users, name).await.unwrap();
            assert_eq!(user.verifier.is_some(), known, "{name}");
        }
        let late = find(&users, "late").await.unwrap();
        assert!(matches!(log_in(&users, &late, "secret"), Step::Refused(_)));
        let soon = find(&users, "soon").await.unwrap();
        assert!(matches!(log_in(&users, &soon, "secret"), Step::Accepted));
    }

    async fn nobody_can_put_a_table_of_theirs_in_the_way(version: u32) {
        let sandbox = sandbox(version, false).await;
        sql(&sandbox, "CREATE SCHEMA evil; CREATE TABLE evil.pg_shadow (usename name, passwd text); \
            INSERT INTO evil.pg_shadow VALUES ('app', 'mine'); \
            ALTER ROLE postgres SET search_path = evil, pg_catalog").await;
        let query = "SELECT usename, passwd FROM pg_shadow WHERE usename = $1";
        // Without our settings it is theirs that is found.
        let client = sandbox.sql("n1", "postgres").await.unwrap();
        let row = client.query_one(query, &[&"app"]).await.unwrap();
        assert_eq!(row.get::<_, &str>(1), "mine");
        let users = gateway(&sandbox, Some(query));
        let app = find(&users, "app").await.unwrap();
        assert!(matches!(log_in(&users, &app, "mine"), Step::Refused(_)));
        let password = sandbox.credentials().password("app").unwrap();
        assert!(matches!(log_in(&users, &app, password), Step::Accepted));
    }

    async fn a_new_password_is_learnt_of_by_trying_it(version: u32) {
        let sandbox = sandbox(version, false).await;
        let users = gateway(&sandbox, None);
        let app = find(&users, "app").await.unwrap();
        sql(&sandbox, "ALTER ROLE app PASSWORD 'new'").await;
        assert!(matches!(log_in(&users, &app, "new"), Step::Refused(_)));
        let deadline = Instant::now() + LIMIT;
        loop {
            let app = find(&users, "app").await.unwrap();
            if matches!(log_in(&users, &app, "new"), Step::Accepted) {
                break;
            }
            assert!(Instant::now() < deadline);
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn a_lookup_connection_that_was_ended_is_replaced(version: u32) {
        let sandbox = sandbox(version, false).await;
        let users = gateway(&sandbox, None);
        assert!(find(&users, "app").await.is_some());
        for name in ["plain", "herdsman"] {
            let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                WHERE application_name = 'herdsman auth_query'";
            let client = sandbox.sql("n1", "postgres").await.unwrap();
            assert_eq!(client.query_one(end, &[]).await.unwrap().get::<_, i64>(0), 1);
            assert!(find(&users, name).await.is_some());
        }
    }

    async fn a_server_that_cannot_be_asked_is_no_server_without_the_user(version: u32) {
        let sandbox = sandbox(version, false).await;
        let users = gateway(&sandbox, None);
        let app = find(&users, "app").await;
        for broken in ["SELECT 1 WHERE $1 = 'app'", "SELECT rolname FROM pg_roles WHERE rolname = $1", "SELECT $1 FROM"] {
            assert!(gateway(&sandbox, Some(broken)).find("app").await.is_err(), "{broken}");
        }
        sandbox.kill("n1").await.unwrap();
        // Who was there a moment ago is still known.
        assert_eq!(app.is_some(), find(&users, "app").await.is_some());
        let problem = users.find("plain").await.unwrap_err();
        assert_eq!(problem.code, "57P03");
        assert!(!problem.message.contains("127.0.0.1"), "{problem:?}");
    }
}
