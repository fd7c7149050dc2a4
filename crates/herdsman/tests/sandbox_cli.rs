//! `herdsman sandbox` as a user types it: every command an invocation of its own, and what it did seen through SQL of our
//! own, straight at the servers.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use herdsman_sandbox::postgres::cache_folder;
use rustix::process::{Pid, Signal, kill_process};

use crate::cluster::{Turn, open_temp_dir, processes_in, sql, until, versions};
use crate::program::{Ended, Folder, ended};

/// A sandbox in a folder of the test, ended with it whatever happens.
struct Yard {
    folder: Folder,
    dir: PathBuf,
    _turn: Turn,
}

impl Yard {
    fn new() -> Self {
        let turn = Turn::take();
        let folder = Folder::within(&open_temp_dir());
        Self { dir: folder.path().join("box"), folder, _turn: turn }
    }

    /// With a cluster in it.
    fn up(standbys: u32, more: &[&str]) -> Self {
        let yard = Self::new();
        let version = versions()[0].to_string();
        let standbys = standbys.to_string();
        let args = ["up", "--standbys", &standbys, "--pg-version", &version];
        let ended = yard.sandbox(&[&args, more].concat());
        assert_eq!(ended.code, Some(0), "{ended:?}");
        yard
    }

    fn command(&self, args: &[&str]) -> Command {
        let dir = self.dir.display().to_string();
        let mut command = self.folder.command(&[&["sandbox"], args, &["--dir", &dir]].concat());
        find_servers(&mut command);
        command
    }

    fn sandbox(&self, args: &[&str]) -> Ended {
        ended(&mut self.command(args))
    }

    /// Runs a command that should work and returns what it said.
    #[track_caller]
    fn does(&self, args: &[&str]) -> String {
        let ended = self.sandbox(args);
        assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.stderr);
        ended.stderr
    }

    #[track_caller]
    fn refuses(&self, args: &[&str], why: &str) {
        let ended = self.sandbox(args);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{args:?}");
        assert!(ended.stderr.contains(why), "{args:?}: {}", ended.stderr);
    }

    fn report(&self) -> serde_json::Value {
        serde_json::from_str(&self.sandbox(&["status", "--json"]).stdout).unwrap()
    }

    fn node(&self, name: &str) -> serde_json::Value {
        let report = self.report();
        report["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .find(|node| node["name"] == name)
            .unwrap()
            .clone()
    }

    /// Row of the table for people, with single blanks.
    fn row(&self, node: &str) -> String {
        let table = self.sandbox(&["status"]).stdout;
        let row = table.lines().find(|line| line.split_whitespace().next() == Some(node));
        row.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn password(&self, role: &str) -> String {
        let credentials = std::fs::read_to_string(self.dir.join("credentials")).unwrap();
        let line = credentials.lines().find_map(|line| line.strip_prefix(&format!("{role} ")));
        line.unwrap().to_owned()
    }

    /// What servers answer once it is known where they listen, without another word to the supervisor.
    fn servers(&self) -> Servers {
        let port = |value: &serde_json::Value| u16::try_from(value.as_u64().unwrap()).unwrap();
        let nodes = self.report()["nodes"].as_array().unwrap().clone();
        let endpoint = |node: &serde_json::Value| {
            node["endpoint"].as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap()
        };
        Servers {
            direct: nodes.iter().map(|node| port(&node["server_port"])).collect(),
            clients: nodes.iter().map(endpoint).collect(),
            password: self.password("postgres"),
        }
    }

    #[track_caller]
    fn is_gone(&self) {
        assert!(!self.dir.exists(), "{} is still there", self.dir.display());
        assert_eq!(processes_in(&self.dir), Vec::<i32>::new(), "processes are left");
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        if self.dir.exists() {
            let _gone_already = self.sandbox(&["destroy"]);
        }
    }
}

struct Servers {
    direct: Vec<u16>,
    clients: Vec<u16>,
    password: String,
}

impl Servers {
    /// Straight at the server of `n1` (1), `n2` (2), …
    fn ask(&self, node: usize, statement: &str) -> Result<String, String> {
        sql(self.direct[node - 1], "postgres", &self.password, statement)
    }

    /// As a client, through its proxy.
    fn ask_as_client(&self, node: usize, statement: &str) -> Result<String, String> {
        sql(self.clients[node - 1], "postgres", &self.password, statement)
    }

    #[track_caller]
    fn is(&self, node: usize, in_recovery: bool) {
        let expected = if in_recovery { "t" } else { "f" };
        assert_eq!(self.ask(node, "select pg_is_in_recovery()"), Ok(expected.to_owned()));
    }

    #[track_caller]
    fn refuses_connections(&self, node: usize) {
        let error = self.ask(node, "select 1").unwrap_err();
        assert!(error.contains("ConnectionRefused"), "{error}");
    }

    /// Whether a line written on one node is on the other within a second.
    fn carries(&self, from: usize, to: usize, line: &str) -> bool {
        let create = "create table if not exists line (it text)";
        self.ask(from, create).unwrap();
        self.ask(from, &format!("insert into line values ('{line}')")).unwrap();
        self.shows(to, line)
    }

    fn shows(&self, node: usize, line: &str) -> bool {
        let question = format!("select 'there' from line where it = '{line}'");
        (0..20).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            self.ask(node, &question).is_ok_and(|answer| answer == "there")
        })
    }

    /// Who streams from the node, by name.
    fn standbys_of(&self, node: usize) -> String {
        let names =
            "select application_name from pg_stat_replication where state = 'streaming' order by 1";
        self.ask(node, names).unwrap_or_else(|error| error).replace('\n', " ")
    }

    #[track_caller]
    fn until_standbys(&self, node: usize, expected: &str) {
        until("the standbys", || self.standbys_of(node), |names| names == expected);
    }
}

/// The servers to run are where this test found them, whatever the home folder of the program is.
pub fn find_servers(command: &mut Command) {
    for variable in ["PATH", "HERDSMAN_PG_BIN"] {
        if let Some(value) = std::env::var_os(variable) {
            command.env(variable, value);
        }
    }
    if let Some(cache) = cache_folder() {
        command.env("HERDSMAN_PG_CACHE", cache);
    }
}

#[test]
fn up_prints_what_there_is_and_refuses_a_second_time() {
    let yard = Yard::new();
    yard.refuses(&["status"], "there is no sandbox in ");
    yard.refuses(&["destroy"], "");
    let up = yard.sandbox(&["up", "--standbys", "1", "--pg-version", &versions()[0].to_string()]);
    assert_eq!(up.code, Some(0), "{}", up.stderr);
    let dir = yard.dir.display().to_string();
    let config = format!("{dir}/herdsman.yml");
    assert!(
        up.stdout.ends_with(&format!("\n\nWatch it with: herdsman run {config}\n")),
        "{}",
        up.stdout
    );
    assert!(up.stdout.contains(&format!("credentials    {dir}/credentials\n")), "{}", up.stdout);
    assert!(!up.stdout.contains(&yard.password("postgres")), "{}", up.stdout);
    yard.refuses(&["up"], &format!("a sandbox is up in {dir}; end it with "));
    for private in ["credentials", "herdsman.yml", "control.sock"] {
        let mode = std::fs::metadata(yard.dir.join(private)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{private} is open to others");
    }

    // What it printed is what status prints, in both forms, and what the servers say.
    let servers = yard.servers();
    let status = yard.sandbox(&["status"]);
    assert!(up.stdout.starts_with(&status.stdout), "{}", status.stdout);
    let report = yard.report();
    assert_eq!(report["dir"].as_str(), Some(dir.as_str()));
    assert_eq!(report["nodes"].as_array().unwrap().len(), 2);
    assert_eq!(report["nodes"][1]["role"], "standby");
    for (number, node) in (1..).zip(report["nodes"].as_array().unwrap()) {
        assert_eq!(status.stdout.matches(node["endpoint"].as_str().unwrap()).count(), 1);
        let pid = std::fs::read_to_string(yard.dir.join(format!("n{number}/data/postmaster.pid")));
        assert_eq!(pid.unwrap().lines().next(), Some(node["pid"].to_string().as_str()));
    }
    servers.is(1, false);
    servers.is(2, true);
    assert!(servers.carries(1, 2, "streamed"));
    let version = servers.ask(1, "show server_version").unwrap();
    assert!(version.starts_with(report["version"].as_str().unwrap()), "{version}");

    // The configuration it wrote is ready.
    let check = ended(&mut yard.folder.command(&["check", "--connect", &config]));
    assert_eq!(check.code, Some(0), "{}", check.stdout);

    yard.does(&["destroy"]);
    yard.is_gone();
    yard.refuses(&["destroy"], "");
    yard.refuses(&["kill", "n1"], "there is no sandbox in ");
}

#[test]
fn every_command_does_what_it_says() {
    let yard = Yard::up(2, &[]);
    let servers = yard.servers();
    yard.refuses(&["kill", "n9"], "n9");

    assert_eq!(yard.does(&["freeze", "n3"]), "n3: frozen\n");
    assert_eq!(servers.ask(3, "select 1"), Err("no answer".to_owned()));
    assert!(yard.row("n3").starts_with("n3 - frozen "), "{}", yard.row("n3"));
    assert_eq!(yard.does(&["thaw", "n3"]), "n3: thawed\n");
    servers.is(3, true);

    assert_eq!(yard.does(&["stop", "n3"]), "n3: stopped\n");
    servers.refuses_connections(3);
    let log = std::fs::read_to_string(yard.dir.join("n3/log")).unwrap();
    assert!(log.contains("database system is shut down"), "{log}");
    assert_eq!(yard.node("n3")["pid"], serde_json::Value::Null);
    yard.does(&["start", "n3"]);
    servers.is(3, true);

    let postmaster = yard.node("n1")["pid"].as_u64().unwrap();
    assert_eq!(yard.does(&["kill", "n1"]), "n1: killed\n");
    servers.refuses_connections(1);
    assert!(!Path::new(&format!("/proc/{postmaster}")).exists());
    yard.refuses(&["kill", "n1"], "n1");

    assert_eq!(yard.does(&["promote", "n2"]), "n2: promoted\n");
    servers.is(2, false);
    servers.is(3, true);
    yard.refuses(&["promote", "n2"], "n2");
    assert_eq!(yard.does(&["follow", "n3", "n2"]), "n3: follows n2\n");
    servers.until_standbys(2, "n3");
    assert!(servers.carries(2, 3, "followed"));

    // It comes back as what it was: two primaries, and neither knows.
    yard.does(&["start", "n1"]);
    servers.is(1, false);
    assert!(!servers.shows(1, "followed"));
    let said = yard.does(&["rejoin", "n1"]);
    assert!(said.starts_with("n1: ") && said.ends_with(", follows n2\n"), "{said}");
    servers.is(1, true);
    assert!(servers.shows(1, "followed"));
    servers.until_standbys(2, "n1 n3");
    assert_eq!(
        yard.does(&["rejoin", "n3", "--from", "n1", "--copy"]),
        "n3: copied anew, follows n1\n"
    );
    servers.until_standbys(1, "n3");
    servers.until_standbys(2, "n1");

    partitions(&yard, &servers);
    yard.does(&["destroy"]);
    yard.is_gone();
}

/// n2 is the primary, n1 streams from it.
fn partitions(yard: &Yard, servers: &Servers) {
    yard.does(&["partition", "n1", "n2"]);
    assert!(
        yard.sandbox(&["status"]).stdout.contains("\nfault: n1 -> n2 "),
        "the fault is not shown"
    );
    assert_eq!(yard.report()["faults"].as_array().unwrap().len(), 2);
    assert!(!servers.carries(2, 1, "cut"));
    assert_eq!(servers.ask_as_client(1, "select 1"), Ok("1".to_owned()));
    assert_eq!(servers.ask_as_client(2, "select 1"), Ok("1".to_owned()));
    yard.does(&["heal"]);
    until("what was held back", || servers.shows(1, "cut"), |shown| *shown);
    assert_eq!(yard.report()["faults"].as_array().unwrap().len(), 0);

    assert_eq!(yard.does(&["partition", "n2"]), "n2: cut off from everybody\n");
    assert_eq!(servers.ask_as_client(2, "select 1"), Err("no answer".to_owned()));
    assert!(!servers.carries(2, 1, "alone"));
    servers.is(2, false);
    yard.does(&["heal"]);
    assert_eq!(servers.ask_as_client(2, "select 1"), Ok("1".to_owned()));
    until("what was held back", || servers.shows(1, "alone"), |shown| *shown);
}

fn signal(pid: i32, signal: Signal) {
    // One that has ended meanwhile is as dead as it should be.
    let _delivered = kill_process(Pid::from_raw(pid).unwrap(), signal);
}

#[test]
fn a_dead_supervisor_is_replaced_and_nothing_outlives_destroy() {
    let yard = Yard::up(1, &[]);
    let servers = yard.servers();
    let supervisor = || {
        let owner = std::fs::read_to_string(yard.dir.join("owner")).unwrap();
        owner.split(|c: char| !c.is_ascii_digit()).find(|n| !n.is_empty()).unwrap().parse().unwrap()
    };
    let first: i32 = supervisor();
    signal(first, Signal::KILL);
    servers.is(1, false);
    let said = yard.does(&["kill", "n2"]);
    assert!(
        said.starts_with("the supervisor was gone; ") && said.ends_with("n2: killed\n"),
        "{said}"
    );
    servers.refuses_connections(2);
    assert_ne!(supervisor(), first);
    // Clients find the nodes where they were.
    assert_eq!(servers.ask_as_client(1, "select 1"), Ok("1".to_owned()));
    yard.does(&["start", "n2"]);
    servers.until_standbys(1, "n2");

    // Everything dies at once, frozen or not. What is left is files, and even they can be brought back to life.
    yard.does(&["freeze", "n2"]);
    let all = processes_in(&yard.dir);
    assert!(all.len() > 4 && all.contains(&supervisor()), "{all:?}");
    for pid in &all {
        signal(*pid, Signal::KILL);
    }
    yard.refuses(&["up"], "there are remains of a sandbox in ");
    yard.does(&["start", "n1"]);
    servers.is(1, false);

    // Destroyed with its supervisor dead and a server running and another frozen.
    yard.does(&["start", "n2"]);
    yard.does(&["freeze", "n2"]);
    signal(supervisor(), Signal::KILL);
    yard.does(&["destroy"]);
    yard.is_gone();
}

#[test]
fn destroy_clears_what_a_kill_of_everything_left() {
    let yard = Yard::up(0, &[]);
    for pid in processes_in(&yard.dir) {
        signal(pid, Signal::KILL);
    }
    yard.does(&["destroy"]);
    yard.is_gone();
}

#[test]
fn an_interrupted_start_leaves_nothing() {
    let yard = Yard::new();
    let version = versions()[0].to_string();
    for wait_for in ["PostgreSQL ", "n1: ", "n2: copying"] {
        let mut command = yard.command(&["up", "--standbys", "1", "--pg-version", &version]);
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains(wait_for) {
            let read = std::io::BufRead::read_line(&mut stderr, &mut said).unwrap();
            assert!(read > 0, "it ended before `{wait_for}`: {said}");
        }
        // Into the midst of the step.
        std::thread::sleep(Duration::from_millis(50));
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{said}");
        assert!(said.ends_with("interrupted\n"), "{said}");
        yard.is_gone();
    }
    // An empty folder that was there before stays.
    std::fs::create_dir(&yard.dir).unwrap();
    yard.refuses(&["up", "--pg-version", "9"], "9");
    assert_eq!(std::fs::read_dir(&yard.dir).unwrap().count(), 0);
    std::fs::write(yard.dir.join("precious"), "").unwrap();
    yard.refuses(&["up"], "is not empty; choose another folder");
    yard.refuses(&["destroy"], "");
    assert!(yard.dir.join("precious").exists());
    std::fs::remove_dir_all(&yard.dir).unwrap();
}

#[test]
fn with_tls_the_servers_are_verified_in_full() {
    let yard = Yard::up(1, &["--tls"]);
    let config = yard.dir.join("herdsman.yml");
    let check = |file: &str| ended(&mut yard.folder.command(&["check", "--connect", file]));
    let good = check(&config.display().to_string());
    assert_eq!(good.code, Some(0), "{}", good.stdout);
    assert_eq!(good.stdout.matches("sslmode=verify-full").count(), 2, "{}", good.stdout);
    assert_eq!(good.stdout.matches(": ok, ").count(), 2, "{}", good.stdout);

    // The other way round it would prove nothing: with another authority nobody is let in.
    let authority = yard.report()["ca_file"].as_str().unwrap().to_owned();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = yard.folder.file("other.pem", &other.cert.pem());
    let text = std::fs::read_to_string(&config).unwrap();
    let wrong = yard.folder.file("wrong.yml", &text.replace(&authority, &other));
    let refused = check(&wrong);
    assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    assert!(!refused.stdout.contains(": ok, "), "{}", refused.stdout);

    let sessions =
        "select count(*) from pg_stat_ssl join pg_stat_replication using (pid) where ssl";
    assert_eq!(
        yard.servers().ask(1, sessions),
        Ok("1".to_owned()),
        "the standby streams in the clear"
    );
}

#[test]
fn an_ordinary_user_needs_nothing_from_root() {
    // Where the tests do not run as root, every other test shows this.
    let is_root = rustix::process::geteuid().is_root();
    let has_setpriv = Command::new("setpriv").arg("--version").output().is_ok();
    if !is_root || !has_setpriv {
        return;
    }
    let turn = Turn::take();
    let base = Folder::within(&open_temp_dir());
    let program = base.path().join("herdsman");
    std::fs::copy(env!("CARGO_BIN_EXE_herdsman"), &program).unwrap();
    std::fs::set_permissions(base.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let home = base.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let nobody = 65_534;
    std::os::unix::fs::chown(&home, Some(nobody), Some(nobody)).unwrap();
    let sandbox = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
            .arg(&program)
            .arg("sandbox")
            .args(args)
            .current_dir(&home)
            .env_clear()
            .env("HOME", &home)
            .env("TMPDIR", &home);
        find_servers(&mut command);
        ended(&mut command)
    };
    let version = versions()[0].to_string();
    let up = sandbox(&["up", "--standbys", "1", "--pg-version", &version]);
    // The folder it chooses by itself.
    let dir = home.join("herdsman-sandbox");
    let processes = processes_in(&dir);
    let owners: Vec<_> = processes
        .iter()
        .filter_map(|pid| std::fs::metadata(format!("/proc/{pid}")).ok())
        .map(|process| process.uid())
        .collect();
    let killed = sandbox(&["kill", "n1"]);
    let status = sandbox(&["status"]);
    let destroyed = sandbox(&["destroy"]);
    drop(turn);
    assert_eq!(up.code, Some(0), "{}", up.stderr);
    assert!(owners.len() > 4 && owners.iter().all(|owner| *owner == nobody), "{owners:?}");
    assert_eq!((killed.code, destroyed.code), (Some(0), Some(0)), "{killed:?} {destroyed:?}");
    assert!(status.stdout.contains(" stopped "), "{}", status.stdout);
    assert!(!dir.exists());
    assert_eq!(processes_in(&dir), Vec::<i32>::new());
}

#[test]
fn writers_are_started_instead_of_a_cluster() {
    let yard = Yard::new();
    let listed = versions().iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let ended = yard.sandbox(&["up", "--versions", &listed]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("Make a mesh of it with: herdsman mesh up "), "{ended:?}");
    for place in 1..=versions().len() {
        yard.servers().is(place, false);
    }
    yard.refuses(&["promote", "n1"], "of writers, each a server of its own");
    let report = yard.report();
    assert_eq!(
        (report["writers"].as_bool(), yard.row("n1").contains("primary")),
        (Some(true), true)
    );
    let config = std::fs::read_to_string(yard.dir.join("herdsman.yml")).unwrap();
    assert!(config.contains("\nmesh:\n  nodes: [n1"), "{config}");
    yard.refuses(&["up"], "a sandbox is up");
    yard.does(&["destroy"]);
    yard.is_gone();
}

#[test]
fn writers_and_standbys_at_once_are_a_mistake() {
    let yard = Yard::new();
    let ended = yard.sandbox(&["up", "--writers", "2", "--standbys", "1"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
}
