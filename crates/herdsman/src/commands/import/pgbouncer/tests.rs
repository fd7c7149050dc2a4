use super::super::draft::Secrets;
use super::*;

/// A machine with these files.
struct Imagined;

impl Files for Imagined {
    fn absolute(&self, path: &str) -> String {
        if path.starts_with('/') { path.to_owned() } else { format!("/here/{path}") }
    }

    fn is_folder(&self, path: &str) -> bool {
        path == "/run/postgresql"
    }

    fn readable(&self, path: &str) -> Result<(), String> {
        if path.contains("missing") { Err(format!("failed to read {path}")) } else { Ok(()) }
    }

    fn users(&self, path: &str) -> Result<Vec<String>, String> {
        self.readable(path)?;
        Ok(["app", "boss", "owner"].map(ToOwned::to_owned).to_vec())
    }
}

fn import(text: &str, secrets: Secrets) -> Result<Draft, Vec<String>> {
    let mut draft = Draft::new(secrets);
    let settings = ini::read("p.ini", text, &mut |_| Err("no such file".to_owned()))?;
    let watcher = Watcher { user: "herdsman".to_owned(), password: None };
    translate(settings, &Imagined, &watcher, &mut draft)?;
    Ok(draft)
}

fn yaml(text: &str) -> String {
    import(text, Secrets::Written).unwrap_or_else(|problems| panic!("{problems:?}")).yaml("p.ini")
}

const SIMPLE: &str = "\
[databases]
shop = host=10.0.0.1 dbname=shop_production pool_size=30
* = host=10.0.0.1

[pgbouncer]
listen_addr = *
listen_port = 6432
auth_type = scram-sha-256
auth_file = userlist.txt
admin_users = boss
pool_mode = transaction
default_pool_size = 20
max_client_conn = 1000
query_wait_timeout = 120
server_connect_timeout = 5
";

#[test]
fn a_usual_file_needs_no_comment() {
    let expected = r#"# Made by `herdsman import` from p.ini.

hosts:
  pg1: { host: 10.0.0.1, user: herdsman, dbname: postgres }
gateway:
  listen: ["*:6432"]
  auth_file: /here/userlist.txt
  admins: [boss]
  databases: { shop: { dbname: shop_production, pool: { size: 30 } }, "*": {} }
  max_clients: 1000
  pool: { mode: transaction, size: 20, queue_timeout: 120s, connect_timeout: 5s }
"#;
    assert_eq!(yaml(SIMPLE), expected);
}

#[test]
fn every_setting_without_an_equal_is_named_with_its_line_and_a_reason() {
    let text = format!(
        "{SIMPLE}server_round_robin = 1\nverbose = 0\nnew_thing = secret\n[users]\napp = max_user_connections=3 max_user_client_connections=7 pool_mode=session\n\
         [peers]\n1 = host=a\n[odd]\nx = 1\n"
    );
    let yaml = yaml(&text);
    for expected in [
        "# p.ini:16: `server_round_robin`: ",
        "# p.ini:17: `verbose`: `loglevel`\n",
        "# p.ini:18: `new_thing`: not known to this import\n",
        "# p.ini:20: `max_user_connections` of the user `app`: ",
        "# [peers], 1 of them: ",
        "# p.ini:24: `x` of [odd]: ",
        "  users: { app: { max_clients: 7, pool: { mode: session } } }\n",
    ] {
        assert!(yaml.contains(expected), "{expected}\n{yaml}");
    }
    assert!(!yaml.contains("secret"), "{yaml}");
}

#[test]
fn what_pgbouncer_does_unasked_is_said_where_it_is_not_ours() {
    let yaml = yaml(
        "[pgbouncer]\nauth_file=/u\nunix_socket_dir =\n[databases]\nshop=host=h port=5433\nown=\n",
    );
    assert!(!yaml.contains("unix_socket_dir"), "{yaml}");
    for expected in [
        "pg1: { host: h, port: 5433, user: herdsman, dbname: postgres }",
        "pg2: { host: /tmp, user: herdsman, dbname: postgres }",
        "listen: \"localhost:6432\"",
        "auth: md5",
        "max_clients: 100\n",
        "mode: session\n",
        "queue_timeout: 120s\n",
        "connect_timeout: 15s\n",
    ] {
        assert!(yaml.contains(expected), "{expected}\n{yaml}");
    }
}

#[test]
fn databases_keep_to_their_servers() {
    let draft = import(
        "[pgbouncer]\nauth_file=/u\nunix_socket_dir=/run/postgresql\n[databases]\na=host=h1\nb=host=h2\nc=host=h1,h2\nd=\n\
         herdsman=host=h1\n",
        Secrets::Written,
    )
    .unwrap_or_else(|problems| panic!("{problems:?}"));
    let yaml = draft.yaml("p.ini");
    for expected in [
        "pg3: { host: /run/postgresql, ",
        "  servers1: [pg1, pg2]\n",
        "a: { target: pg1 }, b: { target: pg2 }, c: { group: servers1 }, d: { target: pg3 } }",
        "unix_socket_dir: /run/postgresql",
        "`herdsman`: it is the console here",
    ] {
        assert!(yaml.contains(expected), "{expected}\n{yaml}");
    }
    assert!(draft.warnings.iter().any(|warning| warning.contains("nodes of one cluster")));
}

#[test]
fn who_everybody_is_on_the_servers_is_said_of_each_user_and_its_password_only_in_a_file() {
    let text = "[pgbouncer]\nauth_file=/u\n[databases]\na=host=h user=owner password='s''3 cret'\n";
    let written = yaml(text);
    for name in ["app", "boss"] {
        let expected = format!("{name}: {{ server_user: owner, server_password: \"s'3 cret\" }}");
        assert!(written.contains(&expected), "{written}");
    }
    let named = import(text, Secrets::Named).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert!(named.yaml("p.ini").contains("server_password_env: OWNER_SERVER_PASSWORD"));
    assert!(!named.yaml("p.ini").contains("cret"));
    assert_eq!(named.variables, ["OWNER_SERVER_PASSWORD"]);

    let differ = format!("{text}b=host=h user=other\n");
    let differ = yaml(&differ);
    assert!(!differ.contains("server_user:"), "{differ}");
    assert!(differ.contains("# p.ini:4: `user` of the database `a`: "), "{differ}");
}

#[test]
fn times_and_numbers_stay_within_ours() {
    let text = "[databases]\na=host=h\n[pgbouncer]\nauth_file=/u\nquery_wait_timeout=0\nserver_lifetime=0\nserver_idle_timeout=0\n\
                idle_transaction_timeout=1.5\nquery_timeout=0\nclient_login_timeout=7200\nmax_prepared_statements=0\n\
                default_pool_size=0\n";
    let yaml = yaml(text);
    for expected in [
        "queue_timeout: 3600s",
        "server_lifetime: 1s",
        "server_idle_timeout: 2592000s",
        "transaction_idle_timeout: 1500ms",
        "query_timeout: never",
        "login_timeout: 3600s",
        "prepared_statements: 500",
        "size: 1\n",
    ] {
        assert!(yaml.contains(expected), "{expected}\n{yaml}");
    }
}

#[test]
fn tls_and_lookups_are_taken_over() {
    let text = "[databases]\na=host=h auth_user=asker\n[pgbouncer]\nclient_tls_sslmode=verify-full\nclient_tls_cert_file=c.pem\n\
                client_tls_key_file=/k.pem\nclient_tls_ca_file=/ca.pem\nserver_tls_sslmode=verify-ca\nserver_tls_ca_file=/root.pem\n\
                auth_type=scram-sha-256\nauth_query=SELECT * FROM lookup($1)\nauth_dbname=shop\nadmin_users=boss\n";
    let yaml = yaml(text);
    for expected in [
        "tls: { cert: /here/c.pem, key: /k.pem, client_ca: /ca.pem, required: true }",
        "sslmode: verify-ca, sslrootcert: /root.pem }",
        "auth_query: { user: asker, database: shop, query: \"SELECT * FROM lookup($1)\" }",
        "`admin_users`: the console's users need a password",
    ] {
        assert!(
            yaml.replace("\n      ", " ").contains(expected) || yaml.contains(expected),
            "{expected}\n{yaml}"
        );
    }
}

#[test]
fn what_cannot_be_imported_is_told_all_at_once() {
    for (text, expected) in [
        ("[pgbouncer]\nauth_file=/u\n", "[databases] has no database"),
        ("[databases]\na=host=h\n[pgbouncer]\nauth_type=pam\n", "the gateway would know nobody"),
        ("[databases]\na=host=h port=x\n", "p.ini:2: the port of `a`"),
        ("[databases]\na=secret\n", "p.ini:2: `a` is not"),
        (
            "[databases]\na=host=h\n[pgbouncer]\nauth_file=missing\n",
            "p.ini:4: `auth_file`: failed to read",
        ),
        (
            "[databases]\na=host=h\n[pgbouncer]\nauth_file=/u\npool_mode=both\n",
            "p.ini:5: `pool_mode`",
        ),
        (
            "[databases]\na=host=h\n[pgbouncer]\nauth_file=/u\ndefault_pool_size=x\n",
            "p.ini:5: `default_pool_size`",
        ),
        (
            "[databases]\na=host=h\n[pgbouncer]\nauth_file=/u\nclient_tls_sslmode=require\n",
            "`client_tls_sslmode = require` needs",
        ),
        ("%include gone.ini\n", "p.ini:1: no such file"),
    ] {
        let problems = import(text, Secrets::Written).err().unwrap_or_default().join("\n");
        assert!(problems.contains(expected), "{text}: {problems}");
        assert!(!problems.contains("secret"), "{problems}");
    }
}
