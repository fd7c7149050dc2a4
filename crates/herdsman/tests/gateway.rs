//! `herdsman run` with a gateway before real servers, and the commands that talk to it.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::cluster::{Cluster, Turn, open_temp_dir, sql, until, versions};
use crate::program::{Folder, Running, closed_port, ended};

/// A configuration for a cluster, with a gateway on a port that was free a moment ago.
pub struct Gateway {
    above: String,
    port: u16,
    password: String,
}

impl Gateway {
    pub fn of(cluster: &Cluster) -> Self {
        let hosts = cluster.hosts(ToOwned::to_owned);
        let watch = cluster.replication_addresses(ToOwned::to_owned);
        let above = format!("{hosts}bind: 127.0.0.1\nport: 0\nwatch:\n{watch}");
        let password = cluster.sandbox().credentials().password("app").unwrap().to_owned();
        Self { above, port: closed_port(), password }
    }

    pub fn yaml(&self, more: &str) -> String {
        format!(
            "{}gateway:\n  listen: 127.0.0.1:{}\n  users:\n    app: {{ password: {:?} }}\n    boss: {{ password: s3cret }}\n  \
             admins: [boss]\n{more}",
            self.above, self.port, self.password
        )
    }

    /// What a client of the gateway is told.
    fn ask(&self, user: &str, password: &str, statement: &str) -> Result<String, String> {
        sql(self.port, user, password, statement)
    }

    pub fn as_app(&self, statement: &str) -> Result<String, String> {
        self.ask("app", &self.password, statement)
    }

    /// Waits until a write goes through.
    #[track_caller]
    pub fn until_writable(&self, running: &Running) {
        let write = || self.as_app("CREATE TABLE IF NOT EXISTS t (n int); SELECT 'written'");
        until(
            "a write goes through",
            || write().unwrap_or_else(|error| format!("{error}\n{}", running.stderr())),
            |told| told == "written",
        );
    }
}

#[test]
fn check_says_what_the_gateway_would_do() {
    let folder = Folder::new();
    let file = folder.file(
        "h.yml",
        "hosts: {a: {host: a, sslmode: disable}}\ngroups: {g: [a]}\ngateway:\n  listen: ['*:6432', '[::1]:6433']\n  \
         workers: 2\n  users: {app: {password: x}, boss: {password: y}}\n  admins: [boss]\n  databases:\n    shop: {dbname: \
         s, group: g, pool: {size: 3, mode: session}}\n    '*': {target: reader}\n",
    );
    let ended = folder.herdsman(&["check", &file]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let expected = "
  gateway on *:6432, [::1]:6433: no TLS, scram, 2 threads
    database *: readers, transaction mode, 20 connections per user and node
    database shop is s: split of group g, session mode, 3 connections per user and node
    users: app, boss (admin)
    without a primary, up to 10000 transactions wait for 10s
";
    assert!(ended.stdout.contains(expected), "{}", ended.stdout);
    assert!(
        !folder
            .herdsman(&["check", &folder.file("n.yml", "hosts: {a: {host: a}}\n")])
            .stdout
            .contains("gateway")
    );
}

#[test]
fn an_address_of_the_gateway_that_is_taken_ends_it_before_anything_is_started() {
    let folder = Folder::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let file = folder.file(
        "h.yml",
        &format!("hosts: {{a: {{host: a}}}}\nport: 0\ngateway: {{listen: '{address}', trust_loopback: true}}\n"),
    );
    let ended = folder.herdsman(&["run", &file]);
    let expected = format!(
        "failed to listen on {address}: Address already in use (os error 98); another program listens there: stop it or \
         set another port in `gateway.listen`\n"
    );
    assert_eq!((ended.code, ended.stderr), (Some(69), expected));
}

#[test]
fn run_serves_clients_reloads_without_dropping_them_and_drains() {
    let cluster = Cluster::start(1);
    let gateway = Gateway::of(&cluster);
    let folder = Folder::new();
    let file = folder.file("h.yml", &gateway.yaml(""));
    let mut running = folder.start(&["run", &file]);
    running.wait_for(&format!("gateway=\"127.0.0.1:{}\"", gateway.port));
    gateway.until_writable(&running);
    assert_eq!(gateway.as_app("SELECT current_user").unwrap(), "app");
    assert!(gateway.ask("app", "wrong", "SELECT 1").is_err());

    psql(&gateway);

    // A user more, a database by another name, and a change that takes a restart.
    let plain = cluster.sandbox().credentials().password("plain").unwrap();
    assert!(gateway.ask("plain", plain, "SELECT 1").is_err());
    let more = "  workers: 3\n  databases: { postgres: { pool: { size: 2 } } }\n".to_owned();
    let more = gateway
        .yaml(&more)
        .replace("    boss:", &format!("    plain: {{ password: {plain:?} }}\n    boss:"));
    folder.file("h.yml", &more);
    running.signal(Signal::HUP);
    running.wait_for("`gateway.workers` has changed; that takes effect at the next start only");
    running.wait_for(" reloaded ");
    assert_eq!(gateway.ask("plain", plain, "SELECT current_user").unwrap(), "plain");

    // A broken file changes nothing; an administrator may ask for a reload too, and is told.
    folder.file("h.yml", &gateway.yaml("  hold: soon\n"));
    let asked = sql_at("herdsman", &gateway, "RELOAD").unwrap_err();
    assert!(asked.contains("`soon` is not a duration"), "{asked}");
    assert_eq!(gateway.ask("plain", plain, "SELECT 1").unwrap(), "1");

    running.signal(Signal::TERM);
    assert_eq!(running.code(), Some(0));
    running.wait_for("stopped");
    assert!(!running.stderr().contains("s3cret"), "a password is shown");
}

/// The console as `boss`.
fn sql_at(database: &str, gateway: &Gateway, statement: &str) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let conninfo =
        format!("host=127.0.0.1 port={} user=boss password=s3cret dbname={database}", gateway.port);
    runtime.block_on(async {
        let failed = |error: tokio_postgres::Error| {
            error.as_db_error().map_or_else(|| format!("{error:?}"), ToString::to_string)
        };
        let (client, connection) =
            tokio_postgres::connect(&conninfo, tokio_postgres::NoTls).await.map_err(failed)?;
        tokio::spawn(connection);
        client.simple_query(statement).await.map(|_| String::new()).map_err(failed)
    })
}

/// The client that everybody has.
fn psql(gateway: &Gateway) {
    let program = Path::new("/usr/lib/postgresql").join(versions()[0].to_string()).join("bin/psql");
    let program = if program.exists() { program } else { Path::new("psql").to_owned() };
    let mut command = Command::new(program);
    command
        .args([
            "-X",
            "-A",
            "-t",
            "-h",
            "127.0.0.1",
            "-p",
            &gateway.port.to_string(),
            "-U",
            "app",
            "-d",
            "postgres",
        ])
        .args([
            "-c",
            "SELECT 6 * 7",
            "-c",
            "BEGIN",
            "-c",
            "SELECT pg_is_in_recovery()",
            "-c",
            "COMMIT",
        ])
        .env("PGPASSWORD", &gateway.password);
    match command.output() {
        Ok(output) => {
            let told = String::from_utf8_lossy(&output.stdout).into_owned();
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(told, "42\nBEGIN\nf\nCOMMIT\n", "{stderr}");
        }
        // Some machines have servers without a client.
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
    }
}

#[test]
fn usr1_has_new_transactions_wait_and_usr2_lets_them_go_on() {
    let cluster = Cluster::start(0);
    let gateway = Gateway::of(&cluster);
    let folder = Folder::new();
    let file = folder.file("h.yml", &gateway.yaml(""));
    let running = folder.start(&["run", &file]);
    gateway.until_writable(&running);
    running.signal(Signal::USR1);
    running.wait_for("paused: new transactions wait");
    assert_eq!(gateway.as_app("SELECT 1"), Err("no answer".to_owned()));
    running.signal(Signal::USR2);
    running.wait_for("resumed");
    until("it goes on", || gateway.as_app("SELECT 1").unwrap_or_else(|e| e), |told| told == "1");
    running.signal(Signal::USR2);
    running.wait_for("nothing was paused or held");
}

#[test]
fn hold_has_writes_wait_and_resume_lets_them_go_on() {
    let cluster = Cluster::start(0);
    let gateway = Gateway::of(&cluster);
    let folder = Folder::new();
    let file = folder.file("h.yml", &gateway.yaml("  hold: 300ms\n"));
    let say = |args: &[&str]| folder.herdsman(&[args, &["-c", &file]].concat());

    let unasked = say(&["hold"]);
    assert_eq!(unasked.code, Some(69), "{}", unasked.stderr);
    assert!(unasked.stderr.contains("is `herdsman run` up"), "{}", unasked.stderr);

    let running = folder.start(&["run", &file]);
    gateway.until_writable(&running);
    let held = say(&["hold"]);
    assert_eq!((held.code, held.stdout.as_str()), (Some(0), ""), "{}", held.stderr);
    assert!(
        held.stderr.ends_with("held: new transactions that write wait until `herdsman resume`\n"),
        "{}",
        held.stderr
    );
    let refused = gateway.as_app("INSERT INTO t VALUES (1)").unwrap_err();
    assert!(refused.contains("held") || refused.contains("hold"), "{refused}");
    let resumed = say(&["resume"]);
    assert_eq!((resumed.code, resumed.stderr.as_str()), (Some(0), "resumed\n"));
    gateway.as_app("INSERT INTO t VALUES (1)").unwrap();

    let refused = say(&["switchover", "n1"]);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(!refused.stderr.contains("s3cret"));
    let unknown = say(&["switchover", "n7"]);
    let expected = "`n7` is no node of the configuration; it has n1\n";
    assert_eq!((unknown.code, unknown.stderr.as_str()), (Some(2), expected));
}

#[test]
fn commands_that_need_a_gateway_say_what_is_missing() {
    let folder = Folder::new();
    let told = |section: &str| {
        let text = format!("hosts: {{a: {{host: a, sslmode: disable}}}}\n{section}");
        let file = folder.file("h.yml", &text);
        let ended = folder.herdsman(&["resume", "-c", &file]);
        assert_eq!(ended.code, Some(78), "{}", ended.stderr);
        ended.stderr.replace(&file, "FILE")
    };
    assert_eq!(told(""), "FILE has no section `gateway`, so there is nothing to hold or resume\n");
    assert!(
        told("gateway: {trust_loopback: true}\n")
            .starts_with("none of `gateway.admins` can log in from here")
    );
    let chosen = told("gateway: {listen: 'localhost:0', users: {u: {password: x}}, admins: [u]}\n");
    assert!(chosen.starts_with("`gateway.listen` has no port of its own"), "{chosen}");
    let ended = folder.herdsman(&["switchover", "n1", "--timeout", "soon"]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
}

#[test]
fn a_switchover_of_a_sandbox_loses_no_client_and_says_what_it_does() {
    let _turn = Turn::take();
    let folder = Folder::within(&open_temp_dir());
    let dir = folder.path().join("box");
    let dir = dir.display().to_string();
    let _gone = Destroyed(&folder, &dir);
    let version = versions()[0].to_string();
    let sandbox = |args: &[&str]| {
        let mut command = folder.command(&[&["sandbox"], args, &["--dir", &dir]].concat());
        crate::sandbox_cli::find_servers(&mut command);
        ended(&mut command)
    };
    let up = sandbox(&["up", "--standbys", "2", "--pg-version", &version]);
    assert_eq!(up.code, Some(0), "{}", up.stderr);
    let file = format!("{dir}/herdsman.yml");
    let running = folder.start(&["run", &file]);
    let yaml = std::fs::read_to_string(&file).unwrap();
    let port = yaml.split("listen: 127.0.0.1:").nth(1).unwrap().lines().next().unwrap();
    let credentials = std::fs::read_to_string(format!("{dir}/credentials")).unwrap();
    let password = credentials.lines().find_map(|line| line.strip_prefix("app ")).unwrap();
    let gateway = Gateway {
        above: String::new(),
        port: port.parse().unwrap(),
        password: password.to_owned(),
    };
    gateway.until_writable(&running);

    let writes = Writes::begin(&gateway);
    let mut command = folder.command(&["switchover", "n2", "-c", &file]);
    crate::sandbox_cli::find_servers(&mut command);
    let switched = ended(&mut command);
    assert_eq!(switched.code, Some(0), "{}\n{}", switched.stderr, running.stderr());
    assert!(switched.stderr.contains("n2 is the primary"), "{}", switched.stderr);
    let written = writes.end();
    assert_eq!(folder.herdsman(&["primary", "-c", &file]).stdout, "n2\n");
    let count = || gateway.as_app("SELECT count(*) FROM w").unwrap_or_default();
    assert_eq!(count(), written.to_string());
    // The old primary and the other standby follow.
    until(
        "everybody follows n2",
        || sandbox(&["status"]).stdout,
        |table| {
            table.lines().filter(|line| line.contains("standby") && line.contains(" n2 ")).count()
                == 2
        },
    );
}

/// A client that writes, one row after the other, and is not to see an error.
struct Writes {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: std::thread::JoinHandle<u64>,
}

impl Writes {
    fn begin(gateway: &Gateway) -> Self {
        use std::sync::atomic::Ordering;
        let stop = std::sync::Arc::<std::sync::atomic::AtomicBool>::default();
        let (asked, port, password) = (stop.clone(), gateway.port, gateway.password.clone());
        gateway.as_app("CREATE TABLE w (n int)").unwrap();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut config = tokio_postgres::Config::new();
                config
                    .host("127.0.0.1")
                    .port(port)
                    .user("app")
                    .password(password)
                    .dbname("postgres");
                let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
                tokio::spawn(connection);
                let mut written = 0;
                while !asked.load(Ordering::Relaxed) {
                    client.batch_execute("INSERT INTO w VALUES (1)").await.unwrap();
                    written += 1;
                }
                written
            })
        });
        Self { stop, thread }
    }

    fn end(self) -> u64 {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Ends a sandbox with the test, whatever happens.
struct Destroyed<'a>(&'a Folder, &'a str);

impl Drop for Destroyed<'_> {
    fn drop(&mut self) {
        let _gone = self.0.herdsman(&["sandbox", "destroy", "--dir", self.1]);
    }
}
