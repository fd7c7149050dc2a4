use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;

use crate::program::{Folder, closed_port, get};

fn config(nodes: &[&str], rest: &str) -> String {
    let port = closed_port();
    let nodes: String = nodes
        .iter()
        .map(|node| format!("  {node}: {{host: 127.0.0.1, port: {port}, sslmode: disable}}\n"))
        .collect();
    format!("hosts:\n{nodes}bind: 127.0.0.1\nport: 0\n{rest}")
}

#[test]
fn it_serves_reloads_and_ends_as_it_is_told() {
    let folder = Folder::new();
    let file = folder.file("h.yml", &config(&["n1"], "logfile: h.log\n"));
    let mut running = folder.start(&["run", &file]);
    let url = running.url();
    assert!(get(&url, "/v1/primary").starts_with("HTTP/1.1 404 "));
    assert!(!get(&url, "/v2/topology").contains("\"n2\""));

    // The rotated log goes on in a new file, and a broken configuration changes nothing.
    let log = folder.path().join("h.log");
    let rights = std::fs::metadata(&log).unwrap().permissions().mode();
    assert_eq!(rights & 0o137, 0, "others may read the log: {rights:o}");
    std::fs::rename(&log, folder.path().join("h.log.1")).unwrap();
    folder.file("h.yml", "hosts: {n9: {port: x}}\n");
    running.signal(Signal::HUP);
    running.wait_for("not reloaded");
    running.wait_for("h.yml:1:20: `hosts.n9.port`: `x` is not a port; expected 1 to 65535");
    assert!(std::fs::read_to_string(&log).unwrap().contains("not reloaded"));
    assert!(!get(&url, "/v2/topology").contains("\"n9\""));

    folder.file(
        "h.yml",
        &config(&["n1", "n2"], "logfile: h.log\napi: {bodies: v0}\nloglevel: debug\n"),
    );
    running.signal(Signal::HUP);
    running.wait_for("`loglevel` has changed; that takes effect at the next start only");
    running.wait_for(" reloaded ");
    let topology = (0..100).find_map(|_| {
        std::thread::sleep(Duration::from_millis(20));
        Some(get(&url, "/v2/topology")).filter(|answer| answer.contains("\"n2\""))
    });
    assert!(topology.is_some(), "{}", running.stderr());
    assert!(get(&url, "/v1/primary").ends_with("\r\n\r\n\"\""), "the bodies did not change");

    let asked = folder.herdsman(&["primary", "--url", &url]);
    assert_eq!((asked.code, asked.stdout.as_str()), (Some(4), ""), "{}", asked.stderr);
    let shown = folder.herdsman(&["status", "--url", &url]);
    assert!(shown.stdout.contains("\nn2 "), "{}", shown.stdout);

    running.signal(Signal::TERM);
    assert_eq!(running.code(), Some(0));
    running.wait_for("stopped");
}

#[test]
fn a_second_signal_does_not_wait_for_requests() {
    let folder = Folder::new();
    let file = folder.file("h.yml", &config(&["n1"], ""));
    let mut running = folder.start(&[&file, "-d"]);
    let mut half = TcpStream::connect(running.url().strip_prefix("http://").unwrap()).unwrap();
    half.write_all(b"GET /v1/primary HTTP/1.1\r\nhost:").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    running.signal(Signal::INT);
    running.wait_for("requests under way may finish");
    running.signal(Signal::TERM);
    let code = running.code();
    assert!(matches!(code, Some(0 | 1)), "{code:?}");
}

#[test]
fn a_port_in_use_ends_it_before_anything_is_started() {
    let folder = Folder::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let text = config(&["n1"], "").replace("port: 0\n", &format!("port: {port}\n"));
    let file = folder.file("h.yml", &text);
    let ended = folder.herdsman(&["run", &file]);
    assert_eq!(ended.code, Some(69));
    assert!(
        ended.stderr.contains(&format!("failed to listen on 127.0.0.1:{port}: ")),
        "{}",
        ended.stderr
    );
    assert!(!ended.stderr.contains("herdsman is up"), "{}", ended.stderr);
}

#[test]
fn status_trusts_the_certificate_of_its_own_configuration() {
    let folder = Folder::new();
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["elsewhere.example".to_owned()]).unwrap();
    let ssl = format!(
        "ssl: {{b64cert: {}, b64key: {}}}\n",
        STANDARD.encode(cert.pem()),
        STANDARD.encode(signing_key.serialize_pem())
    );
    let port = closed_port();
    let text = config(&["n1"], &ssl).replace("port: 0\n", &format!("port: {port}\n"));
    let file = folder.file("h.yml", &text);
    let running = folder.start(&["run", &file]);
    let url = format!("https://127.0.0.1:{port}");
    let ca = folder.file("ca.pem", &cert.pem());
    let other = rcgen::generate_simple_self_signed(["elsewhere.example".to_owned()]).unwrap();
    let other = folder.file("other.pem", &other.cert.pem());

    assert_eq!(folder.herdsman(&["status", "-c", &file]).code, Some(0), "{}", running.stderr());
    assert_eq!(folder.herdsman(&["primary", "-c", &file]).code, Some(4));
    assert_eq!(folder.herdsman(&["primary", "--url", &url, "--cacert", &ca]).code, Some(4));
    assert_eq!(folder.herdsman(&["primary", "--url", &url, "--cacert", &other]).code, Some(69));
    let unknown = folder.herdsman(&["primary", "--url", &url]);
    assert_eq!(unknown.stderr, "https needs certificates to trust; give `--cacert FILE`\n");
}

#[test]
fn status_looks_itself_when_no_herdsman_answers() {
    let folder = Folder::new();
    let fast = "watch: {interval: 50ms, timeout: 100ms, suspect_grace: 100ms}\n";
    let text =
        config(&["n1", "n2"], fast).replace("port: 0\n", &format!("port: {}\n", closed_port()));
    let file = folder.file("h.yml", &text);
    let begun = SystemTime::now();
    let shown = folder.herdsman(&["status", "-c", &file]);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    assert!(
        shown.stderr.ends_with("; looking at the nodes from here instead\n"),
        "{}",
        shown.stderr
    );
    assert!(shown.stdout.starts_with("no primary: "), "{}", shown.stdout);
    assert!(shown.stdout.contains("\nn2 "), "{}", shown.stdout);
    assert!(begun.elapsed().unwrap() < Duration::from_secs(5));
}
