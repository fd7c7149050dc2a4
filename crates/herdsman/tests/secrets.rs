//! Passwords and keys that a configuration holds appear nowhere.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::cluster::until;
use crate::program::{Folder, closed_port, ended};

/// Pieces of every secret planted; base64 of the passwords among them.
const SECRETS: [&str; 6] =
    ["hunter", "battery", "aHVudGVyLWI2NA", "LS0tLS1CRUdJTi", "MIG", "BEGIN"];

fn planted(folder: &Folder) -> String {
    let port = closed_port();
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    folder.file("password", "hunter-file\n");
    format!(
        "hosts:
  plain: {{host: 127.0.0.1, port: {port}, password: hunter-plain}}
  b64: {{host: 127.0.0.1, port: {port}, b64password: {b64}}}
  file: {{host: 127.0.0.1, port: {port}, password_file: {dir}/password}}
  env: {{host: 127.0.0.1, port: {port}, password_env: PLANTED}}
  uri: postgres://mon:hunter-uri@127.0.0.1:{port}/db
  text: host=127.0.0.1 port={port} password='battery horse'
port: 0
api:
  tokens:
  - {{name: ops, scope: operate, token: hunter-api}}
  - {{name: dash, scope: read, token_file: {dir}/password}}
ssl:
  b64cert: {cert}
  b64key: {key}
stream:
  login: {{user: cdc, password: hunter-login}}
  state: {dir}/state
  sinks:
    hook: {{webhook: {{url: 'http://127.0.0.1:{port}/hunter-path', secret: hunter-sign, headers: {{authorization: hunter-head}}}}}}
    copy: {{postgres: {{url: 'postgres://u:hunter-copy@127.0.0.1:{port}/db'}}}}
    feed: {{exec: {{command: ['true'], env: {{TOKEN: hunter-token}}}}}}
hooks:
  - {{name: chat, slack: {{url: 'http://127.0.0.1:{port}/hunter-slack'}}}}
  - {{name: post, webhook: {{url: 'http://127.0.0.1:{port}/hunter-hook', secret: hunter-sign, token: hunter-bearer}}}}
  - {{name: call, exec: {{command: ['true'], env: {{TOKEN: hunter-call}}}}}}
",
        b64 = STANDARD.encode("hunter-b64"),
        dir = folder.path().display(),
        cert = STANDARD.encode(cert.pem()),
        key = STANDARD.encode(signing_key.serialize_pem()),
    )
}

#[track_caller]
fn clean(what: &str, text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{what} shows `{secret}`:\n{text}");
    }
}

#[test]
fn secrets_appear_in_no_output_and_no_log() {
    let folder = Folder::new();
    let text = planted(&folder);
    let good = folder.file("herdsman.yml", &text);
    // The last key of each is broken in its own way.
    let broken = [
        folder.file("b1.yml", &text.replace("port: 0", "port: x")),
        folder.file("b2.yml", &text.replace("hunter-plain}", "hunter-plain")),
        folder.file(
            "b3.yml",
            &text.replace("postgres://mon:hunter-uri", "postgres://mon:hunter/uri"),
        ),
        folder.file("b4.yml", &text.replace("'battery horse'", "battery horse")),
        folder.file("b5.yml", &text.replace("b64password: ", "b64password: hunter*")),
        folder.file("b6.yml", &text.replace("b64key: ", "b64key: hunter")),
        folder.file("b7.yml", &text.replace("  b64key", " b64key")),
        folder.file("b8.yml", &text.replace("password: hunter-plain", "password: {hunter: x}")),
        folder.file("b9.yml", &text.replace("password: hunter-plain", "password: \"hunter")),
        folder.file("b10.yml", &text.replace("password: hunter-plain", "password: hunter: x")),
        folder.file("b11.yml", &text.replace("password: hunter-plain", "password: *hunter")),
        folder.file(
            "b12.yml",
            &text.replace("password: hunter-plain", "password: 'x', password_file: hunter"),
        ),
        folder.file("b13.yml", &text.replace("secret: hunter-sign", "secret: [hunter-sign]")),
        folder.file("b14.yml", &text.replace("secret: hunter-sign", "secret: hunter: sign")),
        folder.file("b15.yml", &text.replace("hunter-login", "hunter-login, password_env: X")),
        folder.file("b16.yml", &text.replace("u:hunter-copy", "u:hunter/copy")),
        folder.file("b17.yml", &text.replace("hunter-head}", "{hunter: x}}")),
        folder.file("b18.yml", &text.replace("'http://127", "'ftp://hunter@127")),
        folder.file("b19.yml", &text.replace("hunter-token}", "[hunter]}")),
        folder.file("b21.yml", &text.replace("token: hunter-api", "token: hunter: api")),
        folder.file("b22.yml", &text.replace("token: hunter-api", "token: [hunter-api]")),
        folder.file("b23.yml", &text.replace("token: hunter-api", "token: hunter api")),
        folder.file("b20.yml", &text.replace("hunter-head}", "\"hunter\\nhead\"}")),
    ];
    let run = |args: &[&str]| {
        let ended = ended(folder.command(args).env("PLANTED", "hunter-env"));
        clean(&format!("{args:?}"), &format!("{}{}", ended.stdout, ended.stderr));
        ended.code
    };
    assert_eq!(run(&["check", &good]), Some(0));
    assert_eq!(run(&["check", "--connect", &good]), Some(1));
    for file in &broken {
        assert_eq!(run(&["check", file]), Some(78), "{file}");
    }
    run(&["status", "-d", "-c", &good]);
    run(&["status", "--direct", "--json", "-c", &good]);
    run(&["primary", "--direct", "-c", &good]);
    for command in ["diagnose", "status", "peek"] {
        run(&["stream", command, "-d", "-c", &good]);
    }
}

#[test]
fn secrets_appear_in_no_log_however_much_is_logged() {
    let folder = Folder::new();
    let file = folder.file("herdsman.yml", &planted(&folder));
    for (variable, filter, format) in
        [("HERDSMAN_LOG", "trace", "text"), ("RUST_LOG", "trace", "json"), ("X", "", "text")]
    {
        let mut command = folder.command(&["-c", &file, "-d", "--log-format", format]);
        command.env("PLANTED", "hunter-env").env(variable, filter);
        let running = folder.start_command(command);
        std::thread::sleep(std::time::Duration::from_millis(1500));
        running.signal(rustix::process::Signal::HUP);
        running.wait_for("reloaded");
        clean(variable, &running.stderr());
    }
}

#[test]
fn programs_that_are_started_do_not_inherit_what_the_configuration_reads_as_secrets() {
    let folder = Folder::new();
    let dir = folder.path().display();
    // The program for the first password runs before the second is read from its variable.
    let text = format!(
        "hosts:
  a: {{host: 127.0.0.1, port: {port}, password_command: \"sh -c 'env >{dir}/command; echo x'\"}}
  b: {{host: 127.0.0.1, port: {port}, password_env: PLANTED}}
port: 0
watch: {{authority: {{command: [sh, -c, 'env >{dir}/authority.new; mv {dir}/authority.new {dir}/authority']}}}}
",
        port = closed_port()
    );
    let mut command = folder.command(&["run", &folder.file("h.yml", &text)]);
    command.env("PATH", "/usr/bin:/bin").env("PLAIN", "kept").env("PLANTED", "hunter-env");
    command.env("PGPASSWORD", "hunter-pg");
    let running = folder.start_command(command);
    for name in ["command", "authority"] {
        let read = || std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        let inherited = until(name, read, |text| text.contains("PLAIN=kept\n"));
        clean(name, &inherited);
    }
    drop(running);
}
