//! The commands against a real cluster that is watched, and one look past the watcher.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process};

use crate::cluster::{Cluster, PATIENCE, until};
use crate::program::{Ended, Folder, Running, closed_port};

/// A command that goes on printing.
struct Watching {
    child: Child,
    lines: Receiver<String>,
}

impl Watching {
    fn start(folder: &Folder, args: &[&str]) -> Self {
        let mut child = folder.command(args).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// Waits for a line that holds `text`.
    #[track_caller]
    fn wait_for(&self, text: &str) {
        let begun = tokio::time::Instant::now();
        let mut seen = Vec::new();
        while begun.elapsed() < PATIENCE {
            match self.lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) if line.contains(text) => return,
                Ok(line) => seen.push(line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        panic!("`{text}` is never shown:\n{}", seen.join("\n"));
    }

    /// Ctrl-C.
    fn interrupt(mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        for _ in 0..500 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it did not end");
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn config(cluster: &Cluster, port: u16, rest: &str) -> String {
    let itself = |node: &str| node.to_owned();
    format!(
        "{}bind: 127.0.0.1\nport: {port}\n{rest}watch:\n{}",
        cluster.hosts(itself),
        cluster.replication_addresses(itself),
    )
}

#[track_caller]
fn until_primary(folder: &Folder, args: &[&str], code: i32, stdout: &str) -> Ended {
    let expected = format!("{:?} {stdout:?}", Some(code));
    let args = [&["primary"], args].concat();
    let mut last = None;
    until(
        &format!("{args:?} ends with {expected}"),
        || {
            let ended = folder.herdsman(&args);
            let told = format!("{:?} {:?}", ended.code, ended.stdout);
            last = Some(ended);
            told
        },
        |told| *told == expected,
    );
    last.unwrap()
}

/// The table's rows by their first word, with single blanks.
fn row(table: &str, node: &str) -> String {
    let line = table.lines().find(|line| line.split_whitespace().next() == Some(node));
    line.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn status_and_primary_tell_the_truth_through_kill_promotion_and_return() {
    let cluster = Cluster::start(2);
    let folder = Folder::new();
    let groups = "groups: {first: [n1], others: [n2, n3]}\n";
    folder.file("herdsman.yml", &config(&cluster, closed_port(), groups));
    let _running = folder.start(&["run"]);
    let status = || folder.herdsman(&["status"]).stdout;

    until_primary(&folder, &[], 0, "n1\n");
    let table = until("two standbys", status, |table| table.matches(" standby  yes ").count() == 2);
    assert!(table.starts_with("primary is n1 on timeline 1: "), "{table}");
    assert!(row(&table, "n1").starts_with("n1 primary yes - 1 0/"), "{table}");
    assert!(row(&table, "n3").starts_with("n3 standby yes n1 1 0/"), "{table}");
    let system = cluster.sql("n1", "select system_identifier from pg_control_system()");
    assert!(table.ends_with(&format!(", system identifier {system}\n")), "{table}");
    let json = folder.herdsman(&["status", "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["verdict"]["state"], &json["verdict"]["node"]),
        (&"primary".into(), &"n1".into())
    );
    assert_eq!(json["nodes"]["n2"]["role"], "standby");
    assert_eq!(json["groups"]["others"], serde_json::json!(["n2", "n3"]));
    until_primary(&folder, &["--host"], 0, &format!("{}\n", cluster.endpoint("n1")));
    until_primary(&folder, &["--group", "first"], 0, "n1\n");
    until_primary(&folder, &["--group", "others"], 4, "");
    until_primary(&folder, &["--direct"], 0, "n1\n");

    let watching = Watching::start(&folder, &["status", "--watch"]);
    watching.wait_for("primary is n1");
    let json_lines = Watching::start(&folder, &["status", "--watch", "--json"]);
    json_lines.wait_for(r#""state":"primary","node":"n1""#);
    cluster.kill("n1");
    watching.wait_for("no primary: ");
    json_lines.wait_for(r#""state":"none""#);
    assert_eq!((watching.interrupt(), json_lines.interrupt()), (Some(0), Some(0)));
    let nobody = until_primary(&folder, &[], 4, "");
    assert!(nobody.stderr.starts_with("no primary: n1, the last primary, "), "{}", nobody.stderr);
    assert!(row(&status(), "n1").starts_with("n1 unavailable no "), "{}", status());

    cluster.promote("n2");
    until_primary(&folder, &[], 0, "n2\n");
    until_primary(&folder, &["--host"], 0, &format!("{}\n", cluster.endpoint("n2")));

    // The zombie takes writes again, which moves nobody who was there, and is a riddle to whoever was not.
    cluster.start_node("n1");
    assert_eq!(cluster.sql("n1", "select pg_is_in_recovery()"), "f");
    until("n1 fenced", || row(&status(), "n1"), |row| row.contains("fenced"));
    until_primary(&folder, &[], 0, "n2\n");
    let fresh = until_primary(&folder, &["--direct"], 9, "");
    assert!(fresh.stderr.starts_with("split brain: "), "{}", fresh.stderr);

    // With every standby behind n2 there is proof for everybody. n3 had streamed from the zombie again.
    cluster.rebuild("n3", "n2");
    until_primary(&folder, &["--direct"], 0, "n2\n");
    let direct = folder.herdsman(&["status", "--direct"]);
    assert!(direct.stdout.starts_with("primary is n2 on timeline 2: "), "{}", direct.stdout);

    // What a Herdsman that runs remembers and writes is not for a look of somebody else's to touch.
    let memory = folder.path().join("state.json");
    let config = std::fs::read_to_string(folder.path().join("herdsman.yml")).unwrap();
    let own = format!("  state_file: {}\navailability: {{heartbeat: always}}\n", memory.display());
    let remembering = folder.file("remembering.yml", &(config + &own));
    until_primary(&folder, &["--direct", "-c", &remembering], 0, "n2\n");
    assert!(!memory.exists());
    let beats =
        "select count(*) from pg_class where relname like 'herdsman%' or relname = 'heartbeat'";
    assert_eq!(cluster.sql("n2", beats), "0");
    std::fs::write(&memory, "no state").unwrap();
    let refused = folder.herdsman(&["status", "--direct", "-c", &remembering]);
    assert!(refused.stderr.contains("not a Herdsman state file"), "{}", refused.stderr);
}

struct Certificate {
    cert: String,
    key: String,
}

impl Certificate {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Self { cert: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    fn section(&self) -> String {
        let [cert, key] = [&self.cert, &self.key].map(|pem| STANDARD.encode(pem));
        format!("ssl: {{b64cert: {cert}, b64key: {key}}}\n")
    }
}

#[test]
fn a_reload_takes_groups_and_certificates_and_never_a_broken_file() {
    let cluster = Cluster::start(1);
    let folder = Folder::new();
    let port = closed_port();
    let url = format!("https://127.0.0.1:{port}");
    let (old, new) = (Certificate::new(), Certificate::new());
    let [old_ca, new_ca] = [("old.pem", &old), ("new.pem", &new)]
        .map(|(name, certificate)| folder.file(name, &certificate.cert));
    let by_old = ["--url", &url, "--cacert", &old_ca];
    let by_new = ["--url", &url, "--cacert", &new_ca];
    let file = folder.file("h.yml", &config(&cluster, port, &old.section()));
    let mut running = folder.start(&["run", &file]);
    until_primary(&folder, &by_old, 0, "n1\n");
    until_primary(&folder, &by_new, 69, "");

    let with_group = format!("{}groups: {{added: [n1]}}\n", new.section());
    folder.file("h.yml", &config(&cluster, port, &with_group));
    until_primary(&folder, &[&by_old[..], &["--group", "added"]].concat(), 4, "");
    running.signal(Signal::HUP);
    running.wait_for(" reloaded ");
    until_primary(&folder, &[&by_new[..], &["--group", "added"]].concat(), 0, "n1\n");
    until_primary(&folder, &by_old, 69, "");

    // A key that does not fit its certificate, and a file that is broken altogether: the old ones stay.
    let misfit = Certificate { cert: old.cert.clone(), key: new.key.clone() }.section();
    for broken in [config(&cluster, port, &misfit), "hosts: {n1: {port: x}}\n".to_owned()] {
        folder.file("h.yml", &broken);
        let before = running.stderr().matches("not reloaded").count();
        running.signal(Signal::HUP);
        until(
            "the broken file is refused",
            || running.stderr().matches("not reloaded").count(),
            |times| *times == before + 1,
        );
        until_primary(&folder, &[&by_new[..], &["--group", "added"]].concat(), 0, "n1\n");
    }
    ends_and_lets_go(&cluster, &mut running);
}

/// SIGTERM ends it with 0, and no server keeps a connection of it.
#[track_caller]
fn ends_and_lets_go(cluster: &Cluster, running: &mut Running) {
    let connections = |node| {
        let count = "select count(*) from pg_stat_activity where usename = 'herdsman'";
        cluster.sql(node, count).parse::<u32>().unwrap()
    };
    assert!(connections("n1") > 0 && connections("n2") > 0);
    running.signal(Signal::TERM);
    assert_eq!(running.code(), Some(0), "{}", running.stderr());
    until("no connection is left", || connections("n1") + connections("n2"), |left| *left == 0);
    assert!(running.stderr().contains("stopped"), "{}", running.stderr());
}

#[test]
fn check_connect_looks_at_every_node_and_names_the_one_that_refuses() {
    let cluster = Cluster::start(1);
    let folder = Folder::new();
    let good = config(&cluster, 0, "");
    let file = folder.file("h.yml", &good);
    let version = cluster.sql("n1", "show server_version");
    let ended = folder.herdsman(&["check", "--connect", &file]);
    let expected =
        format!("\nn1: ok, primary, PostgreSQL {version}\nn2: ok, standby, PostgreSQL {version}\n");
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
    assert!(ended.stdout.ends_with(&expected), "{}", ended.stdout);

    let mut parts = good.splitn(3, "b64password: ");
    let (first, second, third) =
        (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let wrong = STANDARD.encode("hunter2");
    let (_, third) = third.split_once('\n').unwrap();
    let text = format!("{first}b64password: {second}b64password: {wrong}\n{third}");
    let file = folder.file("h.yml", &text);
    let ended = folder.herdsman(&["check", "--connect", &file]);
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    let (summary, told) = ended.stdout.split_once("\n\n").unwrap();
    assert!(summary.contains(": good\n"), "{summary}");
    let told: Vec<_> = told.lines().collect();
    assert_eq!(told[0], format!("n1: ok, primary, PostgreSQL {version}"));
    assert!(
        told[1].starts_with("n2: ") && told[1].contains("password authentication failed"),
        "{told:?}"
    );
    assert!(!ended.stdout.contains("hunter2") && !ended.stdout.contains(&wrong));

    // A role without pg_monitor is told what it lacks.
    let plain = cluster.sandbox().credentials().password("plain").unwrap();
    let text = good.replace("user: \"herdsman\"", "user: \"plain\"").replace(
        &STANDARD.encode(cluster.sandbox().credentials().password("herdsman").unwrap()),
        &STANDARD.encode(plain),
    );
    let file = folder.file("h.yml", &text);
    let ended = folder.herdsman(&["check", "--connect", &file]);
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
    assert!(ended.stdout.contains("GRANT pg_monitor TO \"plain\""), "{}", ended.stdout);
}
