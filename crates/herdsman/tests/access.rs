//! Who may ask the program: tokens from every place they can come from, and certificates of clients.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustix::process::Signal;

use crate::program::{Folder, Running, closed_port};

/// The status of an answer to somebody who shows a token.
fn status(running: &Running, path: &str, token: &str) -> String {
    let url = running.url();
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let right = format!("authorization: Bearer {token}");
    write!(stream, "HEAD {path} HTTP/1.1\r\nhost: x\r\n{right}\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().to_owned()
}

fn hosts() -> String {
    format!("hosts: {{n1: {{host: 127.0.0.1, port: {}}}}}\n", closed_port())
}

#[test]
fn tokens_come_from_every_place_and_a_reload_takes_renewed_ones() {
    let folder = Folder::new();
    let file = folder.file("token", "from-a-file\n");
    let text = format!(
        "{}port: 0\napi:\n  tokens:\n  \
         - {{name: a, scope: read, token: as-it-stands}}\n  \
         - {{name: b, scope: read, token_file: {file}}}\n  \
         - {{name: c, scope: operate, token_env: PLANTED}}\n  \
         - {{name: d, scope: operate, token_command: \"printf 'from-a-program\\n'\"}}\n",
        hosts()
    );
    let config = folder.file("herdsman.yml", &text);
    let mut command = folder.command(&["run", &config]);
    command.env("PLANTED", "from-a-variable").env("PATH", std::env::var_os("PATH").unwrap());
    let running = folder.start_command(command);
    // There is no stream here, which only who may read is told.
    let stream = |token: &str| status(&running, "/v2/stream", token);
    for token in ["as-it-stands", "from-a-file", "from-a-variable", "from-a-program"] {
        assert_eq!(stream(token), "404", "{token}");
    }
    assert_eq!(stream("another-one"), "401");
    running.wait_for("refused a request");

    folder.file("token", "from-a-renewed-file\n");
    running.signal(Signal::HUP);
    running.wait_for(" reloaded ");
    assert_eq!(
        (stream("from-a-file"), stream("from-a-renewed-file")),
        ("401".into(), "404".into())
    );

    // A token that is gone leaves the old ones in force.
    std::fs::remove_file(&file).unwrap();
    running.signal(Signal::HUP);
    running.wait_for("not reloaded");
    assert_eq!(stream("from-a-renewed-file"), "404");
    assert!(!running.stderr().contains("another-one"), "{}", running.stderr());
}

#[test]
fn mistakes_about_who_may_are_told_with_their_place() {
    let folder = Folder::new();
    for (api, expected) in [
        ("tokens: [{name: a, scope: write, token: 12345678}]", "expected read or operate"),
        ("tokens: [{name: a, scope: read}]", "`api.tokens.1` has no token"),
        (
            "tokens: [{name: a, scope: read, token: short}]",
            "`api.tokens.1.token`: this is no token",
        ),
        ("tokens: [{name: a, scope: read, token: 12345678, token_env: X}]", "given twice"),
        ("tokens: [{name: a b, scope: read, token: 12345678}]", "`api.tokens.1.name` is `a b`"),
        (
            "tokens: [{name: a, scope: read, token: 12345678}, {name: a, scope: read, token: 123456789}]",
            "`api.tokens.2.name` is `a`, as entry 1",
        ),
        (
            "tokens: [{name: a, scope: read, token: 12345678}, {name: b, scope: read, token: 12345678}]",
            "`api.tokens.2` has the token of `a`",
        ),
        ("tokens: [{name: a, scope: read, token_command: /no/such}]", "cannot be started"),
        ("certificates: [{name: ops, scope: read}]", "expected `ssl.client_ca`"),
        ("client: {cert: a.pem}", "has no `key`"),
    ] {
        let config = folder.file("herdsman.yml", &format!("{}api:\n  {api}\n", hosts()));
        let ended = folder.herdsman(&["check", &config]);
        assert_eq!(ended.code, Some(78), "{api}: {}", ended.stderr);
        let told = format!("{}{}", ended.stdout, ended.stderr);
        assert!(told.contains(expected), "{api}: {told}");
        assert!(!told.contains("12345678"), "{told}");
    }
}

/// Files with an authority, and with a certificate and a key that it has signed for each of these names.
fn certificates(folder: &Folder, names: &[&str]) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    folder.file("ca.pem", &params.self_signed(&key).unwrap().pem());
    let issuer = Issuer::new(params, key);
    for name in names {
        let hosts = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, *name);
        let key = KeyPair::generate().unwrap();
        folder.file(&format!("{name}.pem"), &params.signed_by(&key, &issuer).unwrap().pem());
        folder.file(&format!("{name}.key"), &key.serialize_pem());
    }
}

#[test]
fn commands_show_a_certificate_where_the_api_takes_nobody_without() {
    let folder = Folder::new();
    certificates(&folder, &["server", "ops"]);
    let text = format!(
        "{}port: {}\nssl: {{cert: server.pem, key: server.key, client_ca: ca.pem, client_auth: required}}\n",
        hosts(),
        closed_port()
    );
    let config = folder.file("herdsman.yml", &text);
    let running = folder.start(&["run", &config]);
    let url = running.url();
    let primary = |args: &[&str]| folder.herdsman(&[&["primary"], args].concat());
    let refused = primary(&["-c", &config]);
    assert_eq!(refused.code, Some(69), "{}", refused.stderr);
    assert!(refused.stderr.contains("ertificate"), "{}", refused.stderr);
    let shows = ["--cert", "ops.pem", "--key", "ops.key"];
    // Nobody is the primary, which is an answer.
    for args in [
        &["-c", &config][..],
        &["--url", &url, "-c", &config],
        &["--url", &url, "--cacert", "ca.pem"],
    ] {
        let ended = primary(&[args, &shows].concat());
        assert_eq!(ended.code, Some(4), "{args:?}: {}", ended.stderr);
    }
    let off = folder.file("off.yml", &text.replace("client_auth: required", "client_auth: off"));
    let ended = folder.herdsman(&["check", &off]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    // Or the configuration names it.
    let own = folder
        .file("own.yml", &format!("{text}api: {{client: {{cert: ops.pem, key: ops.key}}}}\n"));
    for args in [&["-c", &own][..], &["-c", &own, "--cacert", "ca.pem"]] {
        let ended = primary(args);
        assert_eq!(ended.code, Some(4), "{args:?}: {}", ended.stderr);
    }
    for (args, expected) in [
        (
            &["--url", "http://localhost", "--cert", "ops.pem", "--key", "ops.key"][..],
            "not encrypted",
        ),
        (&["-c", &config, "--cert", "ops.pem", "--key", "none.key"], "`none.key` cannot be read"),
        (&["-c", &config, "--cert", "ops.pem", "--key", "ca.pem"], "none in PEM form"),
        (&["-c", &config, "--cert", "ops.pem"], "--key"),
    ] {
        let ended = primary(args);
        assert!(ended.code == Some(2) && ended.stderr.contains(expected), "{args:?}: {ended:?}");
    }
}
