use crate::program::{Folder, closed_port, ended, fake_herdsman};

fn document(verdict: &str) -> String {
    let standby = r#"{"role": "standby", "readable": true, "reasons": [], "fenced": false, "foreign": false,
        "system_id": "7431982345678901234", "timeline": 3, "lsn": "0/3000148", "follows": "n1",
        "lag": {"bytes": 2048, "seconds": 0.5}, "server_version": 150020, "evidence_age_seconds": 0.25, "error": null}"#;
    let gone = r#"{"role": "unavailable", "readable": false, "reasons": [], "fenced": false, "foreign": false,
        "evidence_age_seconds": null, "error": "nothing listens there"}"#;
    format!(
        r#"{{"version": 9, "term": 2, "system_id": "7431982345678901234", "verdict": {verdict},
            "nodes": {{"n2": {standby}, "n3": {gone}}}, "groups": {{"g": ["n1"], "h": ["n3"]}}}}"#
    )
}

const PRIMARY: &str = r#"{"state": "primary", "node": "n1", "timeline": 3, "proof": "attested", "reason": "all agree"}"#;
const SPLIT: &str =
    r#"{"state": "split_brain", "claimants": ["n1", "n2"], "reason": "n1 and n2 claim it"}"#;
const NOBODY: &str = r#"{"state": "none", "why": "no_quorum", "reason": "one of three agrees"}"#;

#[track_caller]
fn primary(verdict: &str, args: &[&str], code: i32, stdout: &str, stderr: &str) {
    let url = fake_herdsman("200 OK", document(verdict));
    let ended = Folder::new().herdsman(&[&["primary", "--url", &url], args].concat());
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), stdout), "{}", ended.stderr);
    assert_eq!(ended.stderr, stderr);
}

#[test]
fn primary_prints_the_name_or_ends_with_the_code_of_the_reason() {
    primary(PRIMARY, &[], 0, "n1\n", "");
    primary(PRIMARY, &["--group", "g"], 0, "n1\n", "");
    primary(PRIMARY, &["--group", "all"], 0, "n1\n", "");
    primary(PRIMARY, &["--group", "h"], 4, "", "the primary is n1, which is not in group `h`\n");
    primary(
        PRIMARY,
        &["--group", "x"],
        4,
        "",
        "group `x` is not configured; the groups are all, g, h\n",
    );
    primary(SPLIT, &[], 9, "", "split brain: n1 and n2 claim it\n");
    primary(SPLIT, &["--group", "g"], 9, "", "split brain: n1 and n2 claim it\n");
    primary(SPLIT, &["--group", "h"], 4, "", "split brain: n1 and n2 claim it\n");
    primary(NOBODY, &[], 4, "", "no primary: one of three agrees\n");
}

#[test]
fn primary_prints_the_address_that_the_configuration_knows() {
    let folder = Folder::new();
    let url = fake_herdsman("200 OK", document(PRIMARY));
    folder
        .file("herdsman.yml", "hosts: {n1: {host: db1, port: 5433, password_env: NOT_SET_HERE}}\n");
    let ended = folder.herdsman(&["primary", "--host", "--url", &url]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "db1:5433\n"), "{}", ended.stderr);
    folder.file("herdsman.yml", "hosts: {n2: {host: db2}}\n");
    let ended = folder.herdsman(&["primary", "--host", "--url", &url]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(78), ""), "{}", ended.stderr);
}

#[test]
fn who_cannot_be_asked_ends_with_69() {
    let folder = Folder::new();
    let port = closed_port();
    folder.file("herdsman.yml", &format!("hosts: {{n1: {{host: db1}}}}\nport: {port}\n"));
    let closed = format!("http://127.0.0.1:{port}");
    let other = fake_herdsman("404 Not Found", "404 page not found".to_owned());
    let nonsense = fake_herdsman("200 OK", "hello".to_owned());
    for args in [
        &["primary", "--url", &closed][..],
        &["primary"],
        &["primary", "--url", &other],
        &["primary", "--url", &nonsense],
        &["status", "--url", &closed],
        &["status", "--url", &nonsense],
    ] {
        let ended = folder.herdsman(args);
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(69), ""),
            "{args:?}: {}",
            ended.stderr
        );
    }
    let ended = folder.herdsman(&["primary", "--url", &other]);
    let expected = format!("{other} answers 404 Not Found to /v2/topology; is that a Herdsman?\n");
    assert_eq!(ended.stderr, expected);
}

#[test]
fn status_shows_the_verdict_and_a_line_per_node() {
    let url = fake_herdsman("200 OK", document(PRIMARY));
    let ended = Folder::new().herdsman(&["status", "--url", &url]);
    let expected = "\
primary is n1 on timeline 3: all agree

NODE  ROLE         READABLE  FOLLOWS  TIMELINE  LSN        LAG            SEEN       REMARKS
n2    standby      yes       n1       3         0/3000148  2.0 kB, 0.5 s  0.2 s ago
n3    unavailable  no        -        -         -          -              never      nothing listens there

topology 9, term 2, system identifier 7431982345678901234
";
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), expected), "{}", ended.stderr);
}

#[test]
fn status_prints_json_for_programs() {
    let url = fake_herdsman("200 OK", document(SPLIT));
    let ended = Folder::new().herdsman(&["status", "--json", "--url", &url]);
    let json: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(json["verdict"]["state"], "split_brain");
    assert_eq!(json["nodes"]["n2"]["lag"]["bytes"], 2048);
    assert_eq!(json["groups"]["g"][0], "n1");
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let ended = Folder::new().herdsman(&["primary", "--url", &url]);
    assert_eq!(ended.code, Some(69));
    assert_eq!(ended.stderr, format!("failed to ask {url}: no answer within 5s\n"));
}

#[test]
fn watching_ends_when_nobody_reads_any_more_even_if_nothing_changes() {
    let folder = Folder::new();
    let url = fake_herdsman("200 OK", document(PRIMARY));
    let mut shell = std::process::Command::new("sh");
    let script = "{ \"$0\" status --watch 3600 --url \"$1\"; echo \"code $?\" >&2; } | head -n 1";
    let args = ["-c", script, env!("CARGO_BIN_EXE_herdsman"), &url];
    let ended = ended(shell.args(args).current_dir(folder.path()));
    let line = ended.stdout.split_once(' ').map(|(_, line)| line);
    let expected = "primary is n1 on timeline 3: all agree | n2 standby of n1, n3 unavailable (nothing listens there)\n";
    assert_eq!((line, ended.stderr.as_str()), (Some(expected), "code 0\n"));
}
