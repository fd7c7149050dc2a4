use super::super::draft::Secrets;
use super::*;

struct Imagined;

impl Files for Imagined {
    fn absolute(&self, path: &str) -> String {
        format!("/here/{path}")
    }

    fn is_folder(&self, _: &str) -> bool {
        false
    }

    fn readable(&self, _: &str) -> Result<(), String> {
        Ok(())
    }

    fn users(&self, _: &str) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
}

fn import(text: &str, secrets: Secrets) -> Result<Draft, Vec<String>> {
    let mut draft = Draft::new(secrets);
    let watcher = Watcher { user: "herdsman".to_owned(), password: Some("/etc/pw".to_owned()) };
    translate("c.toml", text, &Imagined, &watcher, &mut draft)?;
    Ok(draft)
}

const TEXT: &str = r#"
[general]
host = "0.0.0.0"
port = 6432
connect_timeout = 5000
idle_timeout = 30000
ban_time = 60
worker_threads = 5
shutdown_timeout = 60000
server_tls = true
admin_username = "admin"
admin_password = "admin secret"
[plugins]
[pools.shop]
pool_mode = "transaction"
default_role = "primary"
query_parser_enabled = true
query_parser_read_write_splitting = true
primary_reads_enabled = true
sharding_function = "pg_bigint_hash"
[pools.shop.users.0]
username = "app"
password = "app secret"
pool_size = 9
min_pool_size = 3
statement_timeout = 15000
[pools.shop.users.1]
username = "job"
password = "job secret"
server_username = "worker"
server_password = "worker secret"
pool_size = 2
[pools.shop.shards.0]
servers = [["10.0.0.1", 5432, "primary"], ["10.0.0.2", 5433, "replica"]]
database = "shop_production"
[pools.reports]
default_role = "replica"
auth_query = "SELECT usename, passwd FROM pg_shadow WHERE usename='$1'"
auth_query_user = "asker"
auth_query_password = "asker secret"
[pools.reports.shards.0]
servers = [{ host = "10.0.0.2", port = 5433, role = "replica" }]
database = "shop_production"
[pools.sharded.shards.0]
servers = [["10.0.0.8", 5432, "primary"]]
database = "a"
[pools.sharded.shards.1]
servers = [["10.0.0.9", 5432, "primary"]]
database = "b"
"#;

#[test]
fn pools_become_databases_and_users() {
    let draft = import(TEXT, Secrets::Written).unwrap_or_else(|problems| panic!("{problems:?}"));
    let yaml = draft.yaml("c.toml");
    for expected in [
        "  pg1: { host: 10.0.0.2, port: 5433, user: herdsman, password_file: /etc/pw, dbname: postgres, sslmode: require }\n",
        "  pg2: { host: 10.0.0.1, user: herdsman, password_file: /etc/pw, dbname: postgres, sslmode: require }\n",
        "groups:\n  reports: [pg1]\n",
        "  listen: \"0.0.0.0:6432\"\n",
        "query: \"SELECT usename, passwd FROM pg_shadow WHERE usename=$1\"",
        "    app: { password: \"app secret\", pool: { size: 9, query_timeout: 15s } }\n",
        "    job: { password: \"job secret\", server_user: worker, server_password: \"worker secret\", pool: { size: 2 } }\n",
        "    admin: { password: \"admin secret\" }\n",
        "  admins: [admin]\n",
        "    reports: { dbname: shop_production, group: reports, target: reader }\n",
        "    shop: { dbname: shop_production, pool: { mode: transaction } }\n",
        "  pool: { connect_timeout: 5s, queue_timeout: 5s, server_idle_timeout: 30s }\n",
        "  workers: 5\n  drain_timeout: 60s\n",
        "# pools.shop: `sharding_function`: there are no shards\n",
        "# pools.shop.users.0: `min_pool_size`: ",
        "# pools.sharded: the whole pool: ",
        "# general: `ban_time`: ",
        "# plugins: all of them: ",
    ] {
        assert!(yaml.contains(expected), "{expected}\n{yaml}");
    }
    assert!(!yaml.contains("10.0.0.8"), "{yaml}");
}

#[test]
fn without_a_file_to_write_passwords_are_variables() {
    let draft = import(TEXT, Secrets::Named).unwrap_or_else(|problems| panic!("{problems:?}"));
    let yaml = draft.yaml("c.toml");
    assert!(!yaml.contains("secret"), "{yaml}");
    let variables = [
        "ASKER_PASSWORD",
        "APP_PASSWORD",
        "JOB_PASSWORD",
        "WORKER_SERVER_PASSWORD",
        "ADMIN_PASSWORD",
    ];
    assert_eq!(draft.variables, variables);
}

#[test]
fn what_cannot_be_imported_is_told_and_not_shown() {
    for (text, expected) in [
        ("[general]\nadmin_password = secret secret\n", "c.toml:2: "),
        ("[general]\n", "there is no pool"),
        (
            "[pools.a.shards.0]\nservers = [[\"secret\"]]\ndatabase = \"a\"\n",
            "pools.a.shards.0: expected",
        ),
        (
            "[pools.a.users.0]\npassword = \"secret\"\n[pools.a.shards.0]\nservers = [[\"h\", 1, \"primary\"]]\ndatabase = \"a\"\n",
            "pools.a.users.0: expected `username`",
        ),
    ] {
        let problems = import(text, Secrets::Written).err().unwrap_or_default().join("\n");
        assert!(problems.contains(expected), "{text}: {problems}");
        assert!(!problems.contains("secret"), "{problems}");
    }
}
