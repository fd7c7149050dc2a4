//! A mesh at work.

use rustix::process::Signal;
use serde_json::Value;

use super::{NODES, Running, Yard};
use crate::cluster::until;

const ALL: &str = "select string_agg(v, ' ' order by v) from t";

/// Everything that `/v2/events` has kept.
fn events(api: &str) -> Value {
    let mut command = std::process::Command::new("curl");
    command.args([
        "-sN",
        "--max-time",
        "1",
        "-H",
        "Last-Event-ID: 0-0",
        &format!("{api}/v2/events"),
    ]);
    let told = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let data = told.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str::<Value>(data).unwrap_or_default()).collect()
}

fn working(yard: &Yard, args: &[&str]) {
    until(
        "every member works",
        || yard.status(args),
        |told: &Value| NODES.iter().all(|node| told["targets"][node]["state"] == "working"),
    );
}

#[test]
fn what_is_written_anywhere_is_everywhere_and_a_conflict_is_recorded() {
    let yard = Yard::up();
    let more = "watch:\n  lag_alarm: { time: 4s }\n\
                hooks:\n  - { name: pager, on: [conflict], exec: { command: [tee, -a, told] } }\n";
    yard.folder.file("herdsman.yml", &(yard.read("herdsman.yml") + more));
    let (running, api) = yard.run();
    let url = ["--url", api.as_str()];
    working(&yard, &url);
    for node in NODES {
        yard.sql(node, &format!("insert into t (v) values ('{node}')"));
    }
    yard.all_tell(ALL, "n1 n2 n3");
    let told = yard.prints(&["verify"]);
    assert!(told.contains("n1, n2 and n3 hold the same rows"), "{told}");
    let shown = yard.mesh(&[&["status"][..], &url].concat()).stdout;
    assert!(shown.contains("mesh `mesh`: 3 members") && shown.contains("FROM \\ TO"), "{shown}");
    working(&yard, &["--direct"]);

    assert_eq!(yard.mesh(&["conflicts"]).stderr, "there are no conflicts\n");
    assert_eq!(yard.prints(&[&["pause"][..], &url].concat()), "every link: held\n");
    until(
        "links are held",
        || yard.status(&url),
        |told: &Value| told["targets"]["n2"]["links"]["n1"]["state"] == "paused",
    );
    yard.sql("n1", "update t set v = 'early' where id = 2");
    yard.sql("n3", "update t set v = 'late' where id = 2");
    assert_eq!(yard.sql("n2", ALL), "n1 n2 n3");
    let is = |event: &Value, name: &str| event["event"] == name && event["node"] == "n2";
    let from_n1 = |event: &Value, name: &str| is(event, name) && event["source"] == "n1";
    let lag = |told: &Value| told.as_array().unwrap().iter().any(|event| from_n1(event, "lag"));
    until("a lag is told", || events(&api), lag);
    yard.prints(&[&["resume"][..], &url].concat());
    yard.all_tell(ALL, "late n2 n3");
    let found = until(
        "conflicts are told",
        || yard.prints(&["conflicts", "--json"]),
        |told| told.lines().count() >= 3,
    );
    for line in found.lines() {
        let conflict: Value = serde_json::from_str(line).unwrap();
        let winner = conflict["winner"].as_str().unwrap();
        assert_eq!(conflict[winner]["row"]["v"], "late", "{conflict}");
        assert_eq!(conflict["kind"], "update_update", "{conflict}");
    }
    let told = |told: &Value| {
        let told = told.as_array().unwrap();
        told.iter().any(|event| is(event, "conflict") && event["conflicts"].as_u64() >= Some(1))
            && told.iter().any(|event| from_n1(event, "lag_over"))
    };
    until("the conflict, and the end of the lag, are told", || events(&api), told);
    until("a hook is told", || yard.read("told"), |told| told.contains(r#""event":"conflict""#));
    assert_eq!(yard.prints(&["conflicts", "--table", "public.other"]), "");
    yard.prints(&["conflicts", "--since", "1h", "--limit", "1"]);

    running.signal(Signal::TERM);
    until("it has stopped", || yard.read("log"), |log| log.contains("INFO stopped"));
    assert!(yard.read("log").contains("the mesh has stopped"));
}

#[test]
fn a_link_is_held_for_itself() {
    let yard = Yard::up();
    let (_running, api) = yard.run();
    let url = ["--url", api.as_str()];
    working(&yard, &url);
    yard.prints(&[&["pause", "n1:n2"][..], &url].concat());
    yard.refuses(&[&["pause", "n1:n9"][..], &url].concat(), 1, "`n9` is none of `mesh.nodes`");
    yard.refuses(&[&["pause", "n1"][..], &url].concat(), 1, "is no link, expected SOURCE:TARGET");
    until(
        "the link is held",
        || yard.status(&url),
        |told: &Value| told["targets"]["n2"]["links"]["n1"]["state"] == "paused",
    );
    yard.sql("n1", "insert into t (v) values ('x')");
    until("n3 has it", || yard.sql("n3", ALL), |told| told == "x");
    assert_eq!(yard.sql("n2", ALL), "");
    yard.prints(&[&["resume", "n1:n2"][..], &url].concat());
    yard.all_tell(ALL, "x");
}

#[test]
fn a_process_that_hangs_is_taken_over_from_and_nothing_is_lost_or_doubled() {
    let yard = Yard::up();
    let first = yard.start(&["mesh", "run"], "first.log");
    working(&yard, &["--direct"]);
    yard.sql("n1", "insert into t (v) values ('before')");
    yard.all_tell(ALL, "before");
    let _second: Running = yard.start(&["mesh", "run"], "second.log");
    first.signal(Signal::STOP);
    yard.sql("n1", "insert into t (v) values ('during')");
    yard.sql("n3", "update t set v = 'changed' where v = 'before'");
    // It counts as alive for 30 s, which is all that is waited for anything.
    std::thread::sleep(std::time::Duration::from_secs(20));
    yard.all_tell(ALL, "changed during");
    first.signal(Signal::CONT);
    yard.sql("n2", "insert into t (v) values ('then')");
    yard.all_tell(ALL, "changed during then");
    yard.prints(&["verify"]);
}

#[test]
fn a_load_test_ends_with_a_comparison() {
    let yard = Yard::new();
    for node in NODES {
        yard.sql(
            node,
            "create table table1 (id bigserial primary key, col1 varchar default 'default-value', col2 varchar)",
        );
    }
    yard.prints(&["up", "--yes"]);
    let _running = yard.start(&["mesh", "run"], "log");
    let told = yard.prints(&["loadtest", "insert", "--rows", "60", "--writers", "4"]);
    assert!(told.contains("60 rows inserted through n1, n2 and n3"), "{told}");
    assert!(told.contains("hold the same rows"), "{told}");
    yard.all_tell("select count(*) from table1", "60");
    let told = yard.prints(&["loadtest", "update", "--rows", "30"]);
    assert!(told.contains("30 updates") && told.contains("hold the same rows"), "{told}");
    let told = yard.prints(&["loadtest", "select", "--rows", "9", "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (&told["outcome"]["done"], &told["verify"]["verdict"]),
        (&9.into(), &"equal".into())
    );
    yard.refuses(
        &["loadtest", "insert", "--table", "public.none"],
        1,
        "has no table public.none in the mesh",
    );
}

#[test]
fn a_member_leaves_and_another_one_comes() {
    let yard = Yard::up();
    let (running, api) = yard.run();
    working(&yard, &["--url", &api]);
    yard.sql("n1", "insert into t (v) values ('x'), ('y')");
    yard.all_tell(ALL, "x y");
    yard.refuses(&["remove", "n3"], 2, "add `--yes`");
    yard.refuses(&["remove", "n9", "--yes"], 2, "`n9` is no node of the configuration");
    yard.refuses(&["remove", "n3", "--cancel", "--dead"], 2, "cannot be used with");
    yard.refuses(&["remove", "n3", "--cancel"], 1, "node `n3` does not leave");
    yard.refuses(&["down", "--yes"], 1, "stop every `herdsman run` of this mesh first");
    // Whoever writes there is not refused, if that is said.
    let writing = "insert into t (id, v) values (9, 'w') on conflict (id) do update set v = 'w'";
    let stop = std::sync::atomic::AtomicBool::new(false);
    let left = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                yard.sql("n3", writing);
            }
        });
        let left = yard.mesh(&["remove", "n3", "--keep-writable", "--yes"]);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        left
    });
    assert!(left.stdout.starts_with("n3 has left; "), "{}{}", left.stdout, left.stderr);
    yard.sql("n1", "delete from t where id = 9");
    yard.sql("n3", "delete from t where id = 9");
    assert_eq!(yard.sql("n3", ALL), "x y", "its rows stay");
    assert_eq!(yard.sql("n1", "select count(*) from pg_replication_slots"), "2");
    yard.sql("n3", "drop table t");
    running.signal(Signal::HUP);
    assert!(yard.prints(&["add", "n3"]).starts_with("n3 is member "));
    yard.sql("n2", "insert into t (v) values ('z')");
    yard.all_tell(ALL, "x y z");
    yard.prints(&["verify"]);
}
