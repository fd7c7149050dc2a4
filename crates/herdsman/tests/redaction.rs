//! Secrets of a configuration that works, in every form that it allows, and secrets that clients send, appear nowhere: not in
//! logs of the greatest detail, not in what commands print, not in answers, and not in the list of processes.

mod yard;

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;

use self::yard::Yard;
use crate::cluster::{processes_in, until};
use crate::mesh;
use crate::program::{closed_port, ended, get};

/// What every planted secret begins with: as it is, in base64, and in hexadecimal; and what each verifier does.
const PLANTED: [&str; 4] = ["hunter", "aHVudGVy", "68756e746572", "SCRAM-SHA-256$4096"];

#[track_caller]
fn clean(what: &str, text: &str) {
    for planted in PLANTED {
        let line = text.lines().find(|line| line.to_lowercase().contains(&planted.to_lowercase()));
        assert!(line.is_none(), "{what} shows `{planted}`: {}", line.unwrap_or_default());
    }
}

/// The command lines of all that was started in a folder: the program, and what it starts.
#[track_caller]
fn no_process_shows_any(folder: &Path) {
    let found = processes_in(folder);
    assert!(!found.is_empty(), "no process is looked at");
    for pid in found {
        // Some are gone by now.
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        clean("the list of processes", &String::from_utf8_lossy(&line));
    }
}

#[test]
fn secrets_that_work_appear_nowhere_however_much_is_logged() {
    let yard = Yard::new();
    let mut running = yard.start();
    yard.is_used();
    yard.is_refused();
    for path in [
        "/metrics",
        "/v2/topology",
        "/v2/overview",
        "/v2/mesh",
        "/cluster",
        "/health?node=n1",
        "/v1/primary",
        "/v1/n1/status",
        "/v1/n2/availability",
        "/v1/nobody/status",
        "/none",
    ] {
        clean(path, &get(&running.url(), path));
    }
    let url = running.url();
    let config = yard.config();
    for args in [
        &["check", &config][..],
        &["check", "--connect", &config],
        &["status", "--url", &url],
        &["status", "--json", "--url", &url],
        &["status", "--direct", "-d", "-c", &config],
        &["primary", "--direct", "-d", "-c", &config],
        &["stream", "status", "-d", "-c", &config],
        &["stream", "diagnose", "-d", "-c", &config],
        &["stream", "peek", "-d", "-c", &config],
        &["stream", "slots", "list", "-d", "-c", &config],
        &["stream", "dlq", "list", "-d", "-c", &config],
        &["hold", "-d", "-c", &config],
        &["resume", "-d", "-c", &config],
        &["switchover", "n2", "-d", "-c", &config],
    ] {
        let mut command = yard.command(args);
        let ended = std::thread::scope(|scope| {
            let run = scope.spawn(|| ended(&mut command));
            while !run.is_finished() {
                no_process_shows_any(yard.folder.path());
                sleep(Duration::from_millis(20));
            }
            run.join().unwrap()
        });
        let told = format!("{}{}", ended.stdout, ended.stderr);
        clean(&format!("{args:?}"), &told);
        assert!(!told.is_empty(), "{args:?} says nothing");
    }

    // Logins that fail, a configuration that is broken, and one that is good again.
    yard.servers_refuse_the_watcher();
    let good = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, good.replace("port: 0\n", "port: x\n")).unwrap();
    running.signal(Signal::HUP);
    running.wait_for("not reloaded");
    std::fs::write(&config, &good).unwrap();
    running.signal(Signal::HUP);
    running.wait_for(" reloaded ");
    until(
        "the watcher is refused",
        || running.stderr(),
        |log| log.contains("password authentication failed for user"),
    );
    running.signal(Signal::TERM);
    assert_eq!(running.code(), Some(0));

    let log = running.stderr();
    for happened in ["DEBUG", "refused a login", "failed to post", "reloaded", "slow"] {
        assert!(
            log.contains(happened),
            "nothing of `{happened}` is in the log, so that it proves nothing"
        );
    }
    clean("the log", &log);
    clean("the log file", &std::fs::read_to_string(yard.folder.path().join("h.log")).unwrap());
}

#[test]
fn the_token_and_the_logins_of_a_mesh_appear_nowhere() {
    let yard = mesh::Yard::new();
    let (folder, token) = (&yard.folder, "hunter-token");
    let password = yard.sandbox().credentials().password("mesh").unwrap().to_owned();
    let file = folder.file("token", &format!("{token}\n"));
    let text = std::fs::read_to_string(folder.path().join("herdsman.yml")).unwrap();
    let inline = format!("token: {}", mesh::TOKEN);
    let text = text.replace(&inline, &format!("token_file: {file}"));
    let port = closed_port();
    let config =
        folder.file("herdsman.yml", &text.replace("\nport: 0\n", &format!("\nport: {port}\n")));
    let mut command = folder.command(&["run", "-c", &config]);
    command.env("HERDSMAN_LOG", "trace");
    let mut running = folder.start_command(command);
    let url = running.url();
    let clean = |what: &str, text: &str| {
        clean(what, text);
        assert!(!text.contains(&password), "{what} shows the password of the mesh");
    };
    let ask = |shown: &str, path: &str, body: &str| -> String {
        let headers = folder.file("headers", &format!("Authorization: Bearer {shown}\n"));
        let mut curl = std::process::Command::new("curl");
        curl.args(["-si", "-H", &format!("@{headers}"), "-d", body, &format!("{url}{path}")]);
        String::from_utf8(curl.output().unwrap().stdout).unwrap()
    };
    for (shown, path, body) in [
        ("hunter-wrong", "/v2/mesh/up", "{}"),
        (token, "/v2/mesh/nothing", "{}"),
        (token, "/v2/mesh/up", "{\"merge\": 7}"),
        (
            token,
            "/rpc",
            "{\"jsonrpc\": \"2.0\", \"method\": \"mesh.up\", \"params\": {}, \"id\": 1}",
        ),
    ] {
        let told = ask(shown, path, body);
        clean(path, &told);
        no_process_shows_any(folder.path());
    }
    let job = || ask(token, "/v2/mesh/job", "{\"id\": 1}");
    let told = until("the mesh is made", job, |told| told.contains("\"done\""));
    clean("the job", &told);
    for path in ["/v2/mesh", "/metrics", "/v2/topology", "/v2/overview"] {
        clean(path, &get(&url, path));
    }
    for args in [
        &["mesh", "status", "-d", "-c", &config][..],
        &["mesh", "status", "--direct", "--json", "-d", "-c", &config],
        &["mesh", "up", "--plan", "-d", "-c", &config],
        &["mesh", "pause", "-d", "-c", &config],
        &["mesh", "resume", "-d", "-c", &config],
        &["mesh", "verify", "-d", "-c", &config],
    ] {
        // Some end with 1 while members are still behind.
        let ended = folder.herdsman(args);
        let told = format!("{}{}", ended.stdout, ended.stderr);
        clean(&format!("{args:?}"), &told);
        assert!(!told.is_empty(), "{args:?} says nothing");
    }
    running.signal(Signal::TERM);
    running.wait_for("the mesh has stopped");
    assert_eq!(running.code(), Some(0));
    assert!(running.stderr().contains("DEBUG"));
    clean("the log", &running.stderr());
}

#[test]
fn what_is_looked_for_is_found_in_every_form() {
    use base64::Engine;
    let encoded = base64::engine::general_purpose::STANDARD.encode("hunter-2");
    let hex: String = "hunter-2".bytes().map(|byte| format!("{byte:02X}")).collect();
    for shown in ["x hunter-2 y", &encoded, &hex, "SCRAM-SHA-256$4096:salt$a:b"] {
        let found = std::panic::catch_unwind(|| clean("a test", shown));
        assert!(found.is_err(), "{shown} is not found");
    }
    clean("a clean text", "nothing\n");
}
