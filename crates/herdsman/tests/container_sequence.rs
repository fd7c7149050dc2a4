//! The container test of pgroute66's released binary, step by step on a real cluster: one primary and two standbys,
//! a promotion beside the living primary, a rebuild of the others, and the availability calls.

use std::time::Duration;

use crate::cluster::{Cluster, until, versions};
use crate::program::{Folder, Running, get};

const QUESTIONS: [&str; 3] = ["/v1/primary", "/v1/primaries", "/v1/standbys"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bodies {
    Readme,
    V0,
}

/// What the three questions should answer: status and body each.
type Stage = [(u16, &'static str); 3];

/// The stages as the released binary's script compares them, without quotes and with single blanks.
const HOST1: Stage = [(200, "host1"), (200, "[ host1 ]"), (200, "[ host2, host3 ]")];
const TWO_CLAIM: Stage = [(409, ""), (200, "[ host1, host2 ]"), (200, "[ host3 ]")];
const HOST2: Stage = [(200, "host2"), (200, "[ host2 ]"), (200, "[ host1, host3 ]")];

fn host(node: &str) -> String {
    node.replace('n', "host")
}

/// A configuration as pgroute66 has them, and what is ours below it.
fn config(cluster: &Cluster, watch: &str, rest: &str) -> String {
    format!(
        "{}groups:\n  cluster: [host1, host2, host3]\nbind: 127.0.0.1\nport: 0\nloglevel: debug\n\
         watch:\n{watch}{}{rest}",
        cluster.hosts(host),
        cluster.replication_addresses(host),
    )
}

fn ask(running: &Running, path: &str) -> (u16, String) {
    let answer = get(&running.url(), path);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// As `xargs` leaves it.
fn stripped(body: &str) -> String {
    let words: Vec<_> = body.split_whitespace().map(|word| word.replace('"', "")).collect();
    words.join(" ").trim().to_owned()
}

/// The primary is a list in the README, where the released binary has a string.
fn shown_by(bodies: Bodies, stage: Stage) -> Vec<(u16, String)> {
    let of_primary = |name: &str| match (bodies, name) {
        (Bodies::V0, name) => name.to_owned(),
        (Bodies::Readme, "") => "[]".to_owned(),
        (Bodies::Readme, name) => format!("[ {name} ]"),
    };
    let [primary, rest @ ..] = stage;
    let mut expected = vec![(primary.0, of_primary(primary.1))];
    expected.extend(rest.map(|(status, body)| (status, body.to_owned())));
    expected
}

/// The exact bytes of the released binary.
fn bytes_of(stripped: &str) -> String {
    if stripped == "null" {
        return stripped.to_owned();
    }
    match stripped.strip_prefix("[ ").and_then(|rest| rest.strip_suffix(" ]")) {
        None => format!("\"{stripped}\""),
        Some(names) => {
            let names: Vec<_> = names.split(", ").map(|name| format!("    \"{name}\"")).collect();
            format!("[\n{}\n]", names.join(",\n"))
        }
    }
}

#[track_caller]
fn until_stage(running: &Running, bodies: Bodies, stage: Stage) {
    let expected = shown_by(bodies, stage);
    let answers = || QUESTIONS.map(|question| ask(running, question));
    let reasons = |found: &[(u16, String)]| {
        let (_, topology) = ask(running, "/v2/topology");
        format!("{expected:?} is not {found:?}:\n{topology}")
    };
    let shown = |answers: &[(u16, String); 3]| {
        answers.iter().map(|(status, body)| (*status, stripped(body))).collect::<Vec<_>>()
    };
    let look = || {
        let found = shown(&answers());
        if found == expected { String::new() } else { reasons(&found) }
    };
    until("the stage", look, String::is_empty);
    if bodies == Bodies::V0 {
        let exact = stage.map(|(status, body)| (status, bytes_of(body)));
        assert_eq!(answers(), exact);
    }
}

#[track_caller]
fn replay(bodies: Bodies, version: u32) {
    if !versions().contains(&version) {
        return;
    }
    let cluster = Cluster::on(version, 2);
    let folder = Folder::new();
    let name = if bodies == Bodies::V0 { "v0" } else { "readme" };
    let rest = format!("api: {{bodies: {name}}}\navailability: {{writes: true}}\n");
    let file = folder.file("pgroute66.yml", &config(&cluster, "  split_brain: none\n", &rest));
    let running = folder.start(&["-c", &file]);
    // A second Herdsman with our own rule, which asks nothing of pgroute66.
    let proof = folder.file("proof.yml", &config(&cluster, "", "api: {bodies: v0}\n"));
    let proof = folder.start(&["run", &proof]);
    until_stage(&running, bodies, HOST1);
    until_stage(&proof, Bodies::V0, HOST1);

    cluster.promote("n2");
    until_stage(&running, bodies, TWO_CLAIM);
    // It saw the promotion. host1 is fenced, and host3, which streams from it, is nobody to read from.
    until_stage(&proof, Bodies::V0, [(200, "host2"), (200, "[ host2 ]"), (200, "null")]);

    cluster.rebuild("n1", "n2");
    cluster.rebuild("n3", "n2");
    until_stage(&running, bodies, HOST2);
    until_stage(&proof, Bodies::V0, HOST2);

    availability(&running, bodies);
    let written = cluster.sql("n2", "select count(*) from public.pgr66_avc");
    assert_eq!(written, "1");
}

/// The age that is compared is the time since the call before.
fn availability(running: &Running, bodies: Bodies) {
    let (status, body) = ask(running, "/v1/host1/availability?limit=2");
    let text = stripped(&body);
    if status == 200 {
        assert_eq!(text, "ok");
    } else {
        assert_eq!(status, 417, "{text}");
        // Nothing was asked of the row before, so nothing is known of the table; the released binary says it is not there.
        let expected = match bodies {
            Bodies::V0 => "table \\public\\.\\pgr66_avc\\ does not exist",
            Bodies::Readme => "the heartbeat of node `host1` is not known yet",
        };
        assert!(text.starts_with(expected), "{text}");
    }
    std::thread::sleep(Duration::from_secs(1));
    let (status, body) = ask(running, "/v1/host1/availability?limit=3");
    assert_eq!((status, body.as_str()), (200, "\"ok\""));
    std::thread::sleep(Duration::from_secs(2));
    let (status, body) = ask(running, "/v1/host1/availability?limit=1");
    assert_eq!(status, 408, "{body}");
    let age = body.strip_prefix("\"exceeded (exceeded 1.000000 by ");
    let age = age.and_then(|rest| rest.strip_suffix(" msec)\"")).unwrap();
    // The row is written just after the answer, and read at the next look.
    assert!((1.0..10.0).contains(&age.parse::<f64>().unwrap()), "{body}");
    assert_eq!(age.split_once('.').unwrap().1.len(), 6, "{body}");
}

// Which bodies are asked for has nothing to do with the servers' version: one version for each.

#[test]
fn the_sequence_passes_with_the_bodies_of_the_readme_on_15() {
    replay(Bodies::Readme, 15);
}

#[test]
fn the_sequence_passes_with_the_bodies_of_the_released_binary_on_18() {
    replay(Bodies::V0, 18);
}
