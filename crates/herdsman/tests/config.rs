use std::os::unix::fs::PermissionsExt;

use crate::program::{Folder, ended};

const GOOD: &str =
    "hosts:\n  n1: {host: 10.0.0.1, user: mon, pool_max_conns: 3}\ngroups:\n  g: [n1]\n";

#[track_caller]
fn refused(text: &str, expected: &str) {
    let folder = Folder::new();
    let file = folder.file("h.yml", text);
    for args in [["check", &file], ["run", &file], ["-c", &file]] {
        let ended = folder.herdsman(&args);
        let first = ended.stderr.lines().next().unwrap_or_default().replace(&file, "FILE");
        assert_eq!((ended.code, first.as_str()), (Some(78), expected), "{args:?}");
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn broken_files_end_with_78_and_say_where_and_what() {
    refused("", "FILE: the file is empty, expected at least `hosts`");
    refused("hosts: {a: {host: a}\n", "FILE:1:8: not valid YAML: unclosed bracket '{'");
    refused(
        "hosts:\n  a: {port: x}\n",
        "FILE:2:13: `hosts.a.port`: `x` is not a port; expected 1 to 65535",
    );
    refused(
        "hosts:\n  a: {host: a}\nwatch: {quorum: most}\n",
        "FILE:3:17: `watch.quorum` is `most`, expected auto, majority, any or none",
    );
    refused(
        "hosts:\n  a: {host: a}\ngroups: {g: [b]}\n",
        "FILE:3:14: `groups.g` lists `b`, expected a node of `hosts`: `a`",
    );
    refused(
        "hosts:\n  a: {host: a}\nloglevel: loud\n",
        "FILE:3:11: `loglevel` is `loud`, expected trace, debug, info, warn or error",
    );
    refused(
        "hosts:\n  a: {host: a}\nlogfile: /nonexistent/log\n",
        // Whether the log can be written is known when it is opened.
        "FILE:3:10: `logfile`: `/nonexistent` is not a directory, expected a file in one that exists",
    );
}

#[test]
fn files_that_cannot_be_read_are_told_apart() {
    let folder = Folder::new();
    let told = |file: &str| {
        let ended = folder.herdsman(&["check", file]);
        assert_eq!(ended.code, Some(78));
        ended.stderr.replace(&folder.path().display().to_string(), "DIR")
    };
    assert_eq!(
        told("missing.yml"),
        "missing.yml: the file cannot be read: No such file or directory (os error 2)\n"
    );
    assert_eq!(told("."), ".: this is a directory, expected a YAML file\n");
    folder.file("large.yml", &"# large\n".repeat(140_000));
    assert_eq!(
        told("large.yml"),
        "large.yml: the file is larger than 1 MiB, expected a configuration file\n"
    );
    std::fs::write(folder.path().join("latin.yml"), b"hosts:\n  a: {user: \xe9}\n").unwrap();
    assert_eq!(
        told("latin.yml"),
        "latin.yml: line 2 is not UTF-8 text, expected a YAML file in UTF-8\n"
    );
}

#[test]
fn the_file_is_found_in_the_documented_order() {
    let folder = Folder::new();
    let found = |args: &[&str], variables: &[(&str, &str)]| {
        let ended = ended(folder.command(args).envs(variables.iter().copied()));
        ended.stdout.lines().next().unwrap_or_default().to_owned()
    };
    for name in ["arg.yml", "h.yml", "p.yml", "herdsman.yml"] {
        folder.file(name, GOOD);
    }
    let both = [("HERDSMAN_CONFIG", "h.yml"), ("PGROUTE66CONFIG", "p.yml")];
    assert_eq!(found(&["check", "arg.yml"], &both), "arg.yml: good");
    assert_eq!(found(&["check", "-c", "arg.yml"], &both), "arg.yml: good");
    assert_eq!(found(&["-c", "arg.yml", "check"], &both), "arg.yml: good");
    assert_eq!(found(&["check"], &both), "h.yml: good");
    assert_eq!(found(&["check"], &both[1..]), "p.yml: good");
    assert_eq!(found(&["check"], &[]), "herdsman.yml: good");
    // A variable that names a file which is not there is not covered up by another file.
    assert_eq!(found(&["check"], &[("HERDSMAN_CONFIG", "missing.yml")]), "");
}

#[test]
fn without_any_file_it_says_where_it_looked() {
    let usual = ["/etc/herdsman/herdsman.yml", "/etc/pgroute66/config.yaml"];
    if usual.iter().any(|path| std::path::Path::new(path).exists()) {
        return;
    }
    let ended = Folder::new().herdsman(&["run"]);
    assert_eq!(ended.code, Some(78));
    assert_eq!(
        ended.stderr,
        "no configuration file was found; looked at $HERDSMAN_CONFIG, $PGROUTE66CONFIG, herdsman.yml, \
         /etc/herdsman/herdsman.yml and /etc/pgroute66/config.yaml; name one with `-c FILE`\n"
    );
}

#[test]
fn check_sums_up_a_good_file() {
    let folder = Folder::new();
    let file = folder.file("h.yml", GOOD);
    let ended = folder.herdsman(&["check", &file]);
    let expected = format!(
        "{file}: good
  node n1  10.0.0.1:5432 user=mon dbname=mon sslmode=prefer
  group g: n1
  API on http://localhost:8080
  each node is probed every 500ms within 1s; a frozen one is found out after 1.5s
  note: hosts.n1: `pool_max_conns` accepted, without effect here
"
    );
    assert_eq!((ended.code, ended.stdout), (Some(0), expected));
}

#[test]
fn a_file_with_passwords_that_everybody_reads_is_noted() {
    let folder = Folder::new();
    let file = folder.file("h.yml", "hosts: {a: {password: x}}\n");
    let noted = |mode| {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        folder.herdsman(&["check", &file]).stdout.contains("every user of this machine may read it")
    };
    assert!(noted(0o644));
    assert!(!noted(0o640));
}

#[test]
fn check_connect_tells_which_node_cannot_be_reached_and_why() {
    let folder = Folder::new();
    let port = crate::program::closed_port();
    let file = folder.file("h.yml", &format!("hosts: {{a: {{host: 127.0.0.1, port: {port}}}}}\n"));
    let ended = folder.herdsman(&["check", "--connect", &file]);
    assert_eq!(ended.code, Some(1));
    let expected = format!("\n\na: failed to connect to 127.0.0.1:{port}: ");
    assert!(ended.stdout.contains(&expected), "{}", ended.stdout);
    assert!(ended.stdout.ends_with("listens on this address and port\n"), "{}", ended.stdout);
}
