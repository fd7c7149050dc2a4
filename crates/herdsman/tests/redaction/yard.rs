//! A herd with a gateway and a stream, and secrets everywhere.

use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::clean;
use crate::cluster::{Cluster, sql, until};
use crate::program::{Folder, Running, closed_port, fake_herdsman};

/// Every role that logs in to the servers: the password, and what it may do.
const ROLES: [(&str, &str, &str); 8] = [
    ("one", "hunter-inline", "in role pg_monitor"),
    ("two", "hunter-file", "in role pg_monitor"),
    ("app", "hunter-app", ""),
    ("other", "hunter-other", ""),
    ("listed", "hunter-listed", ""),
    ("passing", "hunter-passing", ""),
    ("lookup", "hunter-lookup", ""),
    ("cdc", "hunter-cdc", "superuser replication"),
];

/// What the role that looks others up may call.
const LOOKUP: &str = "
    create schema looking;
    create function looking.up(wanted name, out usename name, out verifier text)
      language sql stable security definer set search_path = pg_catalog, pg_temp as $$
        select rolname, rolpassword from pg_catalog.pg_authid where rolname = wanted and rolcanlogin $$;
    revoke all on function looking.up(name) from public;
    grant usage on schema looking to lookup;
    grant execute on function looking.up(name) to lookup;
    create table public.t (id bigint primary key, v text);
    grant all on public.t to app, other, listed, passing";

pub(super) struct Yard {
    pub(super) folder: Folder,
    cluster: Cluster,
    gateway: u16,
}

impl Yard {
    pub(super) fn new() -> Self {
        let cluster = Cluster::start(1);
        for (role, password, more) in ROLES {
            // Some are there in every sandbox.
            let (verb, more) =
                if is_there(&cluster, role) { ("alter", "") } else { ("create", more) };
            cluster.sql("n1", &format!("{verb} role {role} login password '{password}' {more}"));
        }
        cluster.sql("n1", LOOKUP);
        let yard = Self { folder: Folder::new(), cluster, gateway: closed_port() };
        yard.folder.file("h.yml", &yard.text());
        yard
    }

    pub(super) fn config(&self) -> String {
        self.folder.path().join("h.yml").display().to_string()
    }

    fn text(&self) -> String {
        let file = |name: &str, text: &str| self.folder.file(name, &format!("{text}\n"));
        let host = |node: &str| {
            let endpoint = self.cluster.endpoint(node);
            let (host, port) = endpoint.rsplit_once(':').unwrap();
            format!("host: {host}, port: {port}, dbname: postgres, sslmode: disable")
        };
        let hook = fake_herdsman("500 Internal Server Error", "{}".to_owned());
        let state = self.folder.path().join("state");
        let log = self.folder.path().join("h.log");
        let verifier =
            self.cluster.sql("n1", "select rolpassword from pg_authid where rolname = 'passing'");
        format!(
            "hosts:
  n1: {{{n1}, user: one, password: hunter-inline}}
  n2: {{{n2}, user: two, password_file: {of_two}}}
bind: 127.0.0.1
port: 0
logfile: {log}
loglevel: trace
watch:
{replication}gateway:
  listen: 127.0.0.1:{gateway}
  slow_query: 1ms
  auth_file: {list}
  auth_query: {{user: lookup, b64password: {lookup}, query: 'SELECT * FROM looking.up($1)'}}
  users:
    app: {{password_env: PLANTED}}
    other: {{password: hunter-front, server_user: other, server_password_file: {of_other}}}
    passing: {{password: '{verifier}'}}
    boss: {{b64password: {boss}}}
  admins: [boss]
stream:
  tables: [public.t]
  login: {{user: cdc, password: {cdc}, password_encoding: base64}}
  state: {state}
  sinks:
    hook: {{webhook: {{url: '{hook}/hunter-path', secret: hunter-sign, headers: {{authorization: hunter-head}}}}}}
    copy: {{postgres: {{url: 'postgres://u:hunter-copy@127.0.0.1:{closed}/db'}}}}
    feed: {{exec: {{command: ['false'], env: {{TOKEN: hunter-token}}}}}}
",
            n1 = host("n1"),
            n2 = host("n2"),
            of_two = file("two", "hunter-file"),
            log = log.display(),
            replication = self.cluster.replication_addresses(str::to_owned),
            gateway = self.gateway,
            list = file("userlist.txt", "\"listed\" \"hunter-listed\""),
            lookup = STANDARD.encode("hunter-lookup"),
            of_other = file("other", "hunter-other"),
            boss = STANDARD.encode("hunter-boss"),
            cdc = STANDARD.encode("hunter-cdc"),
            state = state.display(),
            closed = closed_port(),
        )
    }

    /// A command with the variables of the configuration.
    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.folder.command(args);
        command.env("PLANTED", "hunter-app");
        command
    }

    pub(super) fn start(&self) -> Running {
        let mut command = self.command(&["run", &self.config()]);
        command.env("HERDSMAN_LOG", "trace");
        self.folder.start_command(command)
    }

    fn ask(&self, user: &str, password: &str, statement: &str) -> Result<String, String> {
        sql(self.gateway, user, password, statement)
    }

    /// Everybody logs in and writes; statements bear secrets, and are slow.
    pub(super) fn is_used(&self) {
        for (number, (user, password)) in [
            ("app", "hunter-app"),
            ("other", "hunter-front"),
            ("passing", "hunter-passing"),
            ("listed", "hunter-listed"),
            ("two", "hunter-file"),
        ]
        .into_iter()
        .enumerate()
        {
            let write = format!("insert into t values ({number}, 'a row')");
            let write = if user == "two" { "select 'written'" } else { &write };
            until(
                &format!("{user} can use it"),
                || self.ask(user, password, write).err().unwrap_or_default(),
                |error| error.is_empty() || error.contains("duplicate key"),
            );
        }
        let app = |statement: &str| self.ask("app", "hunter-app", statement);
        app("select pg_sleep(0.05), 'hunter-value'").unwrap();
        app("alter role app password 'hunter-app'").unwrap();
        app("set application_name = 'hunter-name'").unwrap();
        app("select 'hunter-value'::int").unwrap_err();
        app("selec 'hunter-value'").unwrap_err();
        for shown in
            ["CONFIG", "USERS", "DATABASES", "POOLS", "SERVERS", "TOPOLOGY", "STATS", "HELP"]
        {
            let told = sql_of_console(self.gateway, &format!("SHOW {shown}"));
            clean(&format!("SHOW {shown}"), &told);
        }
    }

    /// Logins that are refused, each for another reason. What was tried may be somebody's password with one wrong letter.
    pub(super) fn is_refused(&self) {
        for user in ["app", "other", "passing", "listed", "two", "boss", "nobody"] {
            let told = self.ask(user, "hunter-wrong", "select 1").unwrap_err();
            clean(user, &told);
        }
    }

    /// The watcher's passwords are no longer right, and its connections are gone.
    pub(super) fn servers_refuse_the_watcher(&self) {
        for role in ["one", "two"] {
            self.cluster.sql("n1", &format!("alter role {role} password 'hunter-changed'"));
        }
        for node in ["n1", "n2"] {
            let end = "select pg_terminate_backend(pid) from pg_stat_activity where usename in ('one', 'two')";
            self.cluster.sql(node, end);
        }
    }
}

fn is_there(cluster: &Cluster, role: &str) -> bool {
    cluster.sql("n1", &format!("select count(*) from pg_roles where rolname = '{role}'")) == "1"
}

/// What the console answers `boss`.
fn sql_of_console(port: u16, statement: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port).user("boss").password("hunter-boss").dbname("herdsman");
    let rows = runtime.block_on(async {
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.simple_query(statement).await
    });
    format!("{:?}", rows.unwrap())
}
