//! Delivering, and what becomes of what cannot be delivered.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use super::{Yard, lines};
use crate::cluster::{until, versions};

const TO_A_FILE: &str = "  sinks: {copy: {file: {path: copy.jsonl}}}\n";

/// Takes a change once there is a file called `fixed`, and refuses it before.
const PICKY: &str = "  sinks:
    picky:
      exec:
        command:
          - sh
          - -c
          - |
            while read -r line; do
              offset=${line#*:}; offset=${offset%%,*}
              if [ -e fixed ]; then echo \"ok $offset\"; else echo \"fail $offset it is too early\"; fi
            done
";

fn copied(yard: &Yard) -> Vec<Value> {
    lines(&fs::read_to_string(yard.folder.path().join("copy.jsonl")).unwrap_or_default())
}

#[test]
fn what_waits_is_delivered_once_and_the_position_is_kept() {
    for version in versions() {
        let yard = Yard::new(version, 0, TO_A_FILE);
        yard.prints(&["slots", "create"]);
        yard.sql("insert into users select i, 'n' from generate_series(1, 100) i");
        yard.prints(&["run", "--until-idle"]);
        assert_eq!(copied(&yard).len(), 100);
        yard.prints(&["run", "--until-idle"]);
        assert_eq!(copied(&yard).len(), 100, "what was delivered comes again");
        yard.sql("delete from users where id <= 10");
        yard.prints(&["run", "--until-idle"]);
        let copied = copied(&yard);
        assert_eq!(copied.len(), 110);
        assert_eq!(
            (&copied[109]["kind"], &copied[109]["key"]["id"]),
            (&"delete".into(), &10.into())
        );
    }
}

#[test]
fn a_first_run_makes_what_it_needs_and_delivers_the_rows_that_are_there() {
    let yard = Yard::new(versions()[0], 0, &format!("  snapshot: initial\n{TO_A_FILE}"));
    yard.sql("insert into users values (1, 'Ada'), (2, 'Grace')");
    yard.prints(&["run", "--until-idle"]);
    yard.sql("update users set name = 'Ada L' where id = 1");
    yard.prints(&["run", "--until-idle"]);
    let told: Vec<_> = copied(&yard).iter().map(|change| change["kind"].clone()).collect();
    assert_eq!(told, ["read", "read", "update"]);
}

#[test]
fn without_a_sink_there_is_nothing_to_run() {
    let yard = Yard::new(versions()[0], 0, "");
    yard.refuses(&["run"], 78, "there is no sink: add one below `stream.sinks`");
    yard.refuses(&["snapshot", "public.users"], 78, "there is no sink");
}

#[test]
fn a_refused_change_becomes_a_dead_letter_that_can_be_replayed_or_dropped() {
    let yard = Yard::new(versions()[0], 0, PICKY);
    assert_eq!(yard.stream(&["dlq", "list"]).stderr, "there are no dead letters\n");
    yard.prints(&["slots", "create"]);
    yard.sql("insert into users values (1, 'Ada'), (2, 'Grace')");
    yard.prints(&["run", "--until-idle"]);
    let letters = yard.json(&["dlq", "list", "--json"]);
    assert_eq!(letters.as_array().unwrap().len(), 2, "{letters}");
    assert!(letters[0]["error"].as_str().unwrap().contains("it is too early"), "{letters}");
    assert_eq!(letters[0]["change"]["new"]["name"], "Ada");
    assert!(yard.prints(&["dlq", "list"]).contains("public.users"));
    assert_eq!(yard.json(&["status", "--json"])["dead_letters"]["picky"], 2);

    let first = letters[0]["id"].as_str().unwrap();
    assert_eq!(yard.json(&["dlq", "show", first]), letters[0]);
    yard.refuses(&["dlq", "replay", first], 1, "1 stay on the list");
    yard.refuses(&["dlq", "show", "picky:0/1:0"], 1, "there is no dead letter `picky:0/1:0`");
    yard.refuses(&["dlq", "drop"], 2, "");
    fs::write(yard.folder.path().join("fixed"), "").unwrap();
    assert_eq!(yard.prints(&["dlq", "replay", first]), "replayed 1\n");
    assert_eq!(yard.prints(&["dlq", "drop", "--sink", "picky"]), "dropped 1\n");
    assert_eq!(yard.json(&["dlq", "list", "--json"]), Value::Array(Vec::new()));
}

#[test]
fn a_snapshot_delivers_the_rows_of_the_tables_that_are_asked_for() {
    let yard = Yard::new(versions()[0], 0, TO_A_FILE);
    yard.sql("create table other (id int primary key)");
    yard.sql("insert into other values (1); insert into users values (1, 'Ada')");
    yard.refuses(&["snapshot", "public.users"], 1, "there is no publication `herdsman`");
    yard.prints(&["slots", "create"]);
    let told = yard.stream(&["snapshot", "public.u*"]);
    assert_eq!((told.code, told.stderr.as_str()), (Some(0), "delivered 1 row of 1 table\n"));
    let copied = copied(&yard);
    assert_eq!((copied.len(), &copied[0]["kind"]), (1, &"read".into()));
    assert_eq!(copied[0]["new"]["name"], "Ada");
    yard.refuses(&["snapshot", "public.nothing"], 1, "matches");
    yard.refuses(&["snapshot", "users"], 2, "is no pattern for tables");
}

#[test]
fn herdsman_run_delivers_beside_watching_and_keeps_others_from_doing_so() {
    let yard = Yard::new(versions()[0], 1, TO_A_FILE);
    let mut running = yard.folder.start(&["run"]);
    let look = || copied(&yard).len();
    until(
        "the slot is there",
        || {
            yard.sql(
                "select count(*) from pg_replication_slots where active and plugin = 'pgoutput'",
            )
        },
        |n| n == "1",
    );
    yard.sql("insert into users values (1, 'Ada')");
    until("the change is delivered", look, |number| *number == 1);
    assert!(yard.prints(&["status"]).contains("read by process"));
    yard.refuses(&["run"], 1, "is in use by process");
    let asked = yard.stream(&["snapshot", "public.users"]);
    assert!(
        asked.stderr.contains("asked the stream that reads slot `herdsman`"),
        "{}",
        asked.stderr
    );
    until("the row is delivered again", look, |number| *number == 2);
    yard.refuses(&["recreate", "--yes"], 1, "is in use by process");
    running.signal(Signal::TERM);
    assert_eq!(running.code(), Some(0), "{}", running.stderr());
    yard.prints(&["run", "--until-idle"]);
    assert_eq!(look(), 2, "what was delivered comes again");
}
