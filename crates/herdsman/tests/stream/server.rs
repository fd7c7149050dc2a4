//! Slots, peeking, status and diagnosis on real servers.

use super::{Yard, lines};
use crate::cluster::versions;

#[test]
fn a_slot_is_made_looked_into_and_dropped_and_looking_moves_nothing() {
    for version in versions() {
        let yard = Yard::new(version, 0, "");
        yard.refuses(&["peek"], 1, "there is no replication slot `herdsman`");
        let made = yard.prints(&["slots", "create"]);
        assert!(
            made.starts_with(
                "publication `herdsman` created on n1\nslot `herdsman` created on n1: "
            ),
            "{made}"
        );
        assert!(yard.prints(&["slots", "create"]).contains("is there already on n1"));
        assert_eq!(yard.stream(&["peek"]).stderr, "nothing waits in slot `herdsman`\n");

        yard.sql("insert into users values (1, 'Ada'), (2, 'Grace')");
        yard.sql("update users set name = 'Ada L' where id = 1");
        let position = || yard.sql("select confirmed_flush_lsn from pg_replication_slots");
        let before = position();
        let seen = yard.prints(&["peek"]);
        let told: Vec<_> = lines(&seen)
            .iter()
            .map(|change| {
                (change["kind"].clone(), change["new"]["name"].clone(), change["slot"].clone())
            })
            .collect();
        let expected = [("insert", "Ada"), ("insert", "Grace"), ("update", "Ada L")];
        assert_eq!(
            told,
            expected.map(|(kind, name)| (kind.into(), name.into(), "herdsman".into()))
        );
        assert_eq!(yard.prints(&["peek"]), seen);
        assert_eq!(yard.prints(&["peek", "-n", "1"]).lines().count(), 1);
        let other = lines(&yard.prints(&["peek", "--shape", "debezium"]));
        assert_eq!(other[0]["op"], "c");
        assert_eq!(position(), before);

        let listed = yard.json(&["slots", "list", "--json"]);
        assert_eq!(
            (&listed[0]["name"], &listed[0]["plugin"]),
            (&"herdsman".into(), &"pgoutput".into())
        );
        yard.refuses(&["slots", "drop"], 2, "loses what waits in it");
        assert_eq!(yard.prints(&["slots", "drop", "--yes"]), "slot `herdsman` dropped on n1\n");
        assert_eq!(yard.sql("select count(*) from pg_replication_slots"), "0");
        yard.refuses(&["slots", "drop", "--yes"], 1, "there is no slot `herdsman` on n1");
    }
}

#[test]
fn recreate_says_what_may_be_missing_and_asks_before_it_loses_anything() {
    let yard = Yard::new(versions()[0], 0, "");
    yard.prints(&["slots", "create"]);
    let old = yard.sql("select confirmed_flush_lsn from pg_replication_slots");
    yard.sql("insert into users values (1, 'Ada')");
    yard.refuses(&["recreate"], 2, "to do that, add `--yes`");
    assert_eq!(yard.prints(&["peek"]).lines().count(), 1);
    let told = yard.prints(&["recreate", "--yes"]);
    assert!(told.contains(&format!("changes committed between {old} and ")), "{told}");
    assert_eq!(yard.prints(&["peek"]), "");
}

#[test]
fn a_standby_is_not_taken_for_the_primary() {
    let yard = Yard::new(versions()[0], 1, "");
    yard.prints(&["slots", "create"]);
    let status = yard.json(&["status", "--json"]);
    assert_eq!(status["node"], "n1");
    assert_eq!(status["publication"]["spec"]["tables"][0]["name"], "users");
    yard.configure("  node: n2\n");
    yard.refuses(&["slots", "create"], 1, "n2: ");
}

#[test]
fn status_tells_the_slot_the_publication_and_what_waits() {
    let yard = Yard::new(versions()[0], 0, "");
    let missing = yard.prints(&["status"]);
    assert!(missing.contains("`herdsman` is not there"), "{missing}");
    yard.prints(&["slots", "create"]);
    yard.sql("insert into users select i, 'x' from generate_series(1, 1000) i");
    let told = yard.prints(&["status"]);
    for part in
        ["nobody reads it", "kB of log not confirmed", "`herdsman`, 1 table", "dead letters none"]
    {
        assert!(told.contains(part), "{part} is missing: {told}");
    }
}

#[test]
fn diagnose_ends_with_1_while_something_is_in_the_way_and_names_the_cure() {
    let yard = Yard::new(versions()[0], 0, "");
    yard.sql("create table keyless (a int)");
    let ended = yard.stream(&["diagnose"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(ended.stdout.contains("REPLICA IDENTITY FULL"), "{}", ended.stdout);
    yard.refuses(
        &["slots", "create"],
        1,
        "would make the application's own UPDATE and DELETE fail",
    );
    yard.configure("  exclude: [public.keyless]\n");
    let report = yard.json(&["diagnose", "--json"]);
    assert_ne!(report["level"], "fail", "{report}");
    assert_eq!(report["node"], "n1");
}

#[test]
fn the_gems_variables_name_the_slot_and_switch_to_looking_only() {
    let yard = Yard::new(versions()[0], 0, "  sinks: {lines: {stdout: {}}}\n");
    let gem = [("KOYO_REPL_SLOT", "koyo_repl_app_test"), ("KOYO_REPL_TEST_MODE", "true")];
    let made = yard.stream_with(&["slots", "create"], &gem);
    assert!(
        made.stdout.contains("slot `koyo_repl_app_test` created"),
        "{}{}",
        made.stdout,
        made.stderr
    );
    yard.sql("insert into users values (1, 'Ada')");
    for _ in 0..2 {
        let seen = yard.stream_with(&["run"], &gem);
        assert_eq!((seen.code, seen.stdout.lines().count()), (Some(0), 1), "{}", seen.stderr);
        assert!(seen.stderr.contains("KOYO_REPL_TEST_MODE"), "{}", seen.stderr);
    }
    // What the file says goes before the variables.
    yard.configure("  slot: other\n");
    let status = yard.stream_with(&["status"], &gem);
    assert!(status.stdout.contains("`other` is not there"), "{}", status.stdout);
}
