//! What `/metrics` tells of a stream.

use std::collections::BTreeMap;

use super::Yard;
use crate::cluster::{until, versions};
use crate::program::{Running, get};

/// A sink that takes everything, and one that takes nothing until it is ready, and refuses everything then.
const SINKS: &str = "  heartbeat: 1s
  retry: {pause: 10ms, longest_pause: 100ms}
  sinks:
    lines: {file: {path: changes.jsonl}}
    picky:
      exec:
        command:
          - sh
          - -c
          - |
            while read -r line; do
              [ -e ready ] || exit 1
              offset=${line#*:}; offset=${offset%%,*}
              echo \"fail $offset it is too early\"
            done
";

/// The samples of a stream, each with its labels as they are written.
fn told(running: &Running) -> BTreeMap<String, f64> {
    let text = get(&running.url(), "/metrics");
    let samples = text.lines().filter(|line| line.contains("{slot"));
    samples
        .filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        })
        .collect()
}

/// Waits until a number is right.
#[track_caller]
fn until_told(running: &Running, name: &str, right: impl Fn(f64) -> bool) -> f64 {
    let mut found = f64::NAN;
    until(
        name,
        || {
            let all = told(running);
            found = all.get(name).copied().unwrap_or(f64::NAN);
            format!("{found} is {}; {all:#?}", right(found))
        },
        |told| told.contains(" is true;"),
    );
    found
}

#[test]
fn metrics_tell_what_is_delivered_retried_and_kept_and_how_late_it_is() {
    let yard = Yard::new(versions()[0], 0, SINKS);
    let running = yard.folder.start(&["run"]);
    let is = |expected: f64| move |found: f64| found == expected;
    until_told(&running, r#"herdsman_stream_phase{slot="herdsman",phase="streaming"}"#, is(1.0));
    assert_eq!(told(&running)[r#"herdsman_stream_source{slot="herdsman",node="n1"}"#], 1.0);

    let lag = r#"herdsman_stream_lag_seconds{slot="herdsman"}"#;
    yard.sql("insert into users values (1, 'Ada'), (2, 'Grace')");
    let lines =
        |metric: &str| format!(r#"herdsman_stream_sink_{metric}{{slot="herdsman",sink="lines"}}"#);
    let picky =
        |metric: &str| format!(r#"herdsman_stream_sink_{metric}{{slot="herdsman",sink="picky"}}"#);
    until_told(&running, &lines("rows_total"), is(2.0));
    // What one sink does not take waits, and is the later the longer it does.
    until_told(&running, &picky("retries_total"), |tries| tries >= 2.0);
    until_told(&running, &picky("unavailable_total"), |tries| tries >= 2.0);
    until_told(&running, &picky("waiting_rows"), is(2.0));
    until_told(&running, lag, |late| late > 0.5);
    yard.folder.file("ready", "");
    until_told(&running, &picky("dead_letters_total"), is(2.0));
    let all = told(&running);
    assert_eq!(all[&picky("failures_total")], 2.0, "{all:#?}");
    assert_eq!(all[r#"herdsman_stream_rows_total{slot="herdsman"}"#], 2.0, "{all:#?}");
    assert_eq!((all[&lines("retries_total")], all[&lines("dead_letters_total")]), (0.0, 0.0));
    assert!(all[&lines("delivery_seconds_count")] >= 1.0, "{all:#?}");
    let position = |place: &str| {
        format!(r#"herdsman_stream_position_bytes_total{{slot="herdsman",place="{place}"}}"#)
    };
    assert!(all[&position("log_end")] >= all[&position("acknowledged")], "{all:#?}");
    until_told(&running, lag, is(0.0));
    let active = r#"pg_replication_slot_slot_is_active{slot_name="herdsman",slot_type="logical"}"#;
    until_told(&running, active, is(1.0));

    // Nothing is heard of the server: how late we are is not known, and is at least that long.
    let before = told(&running)[r#"herdsman_stream_reconnects_total{slot="herdsman"}"#];
    yard.cluster.kill("n1");
    until_told(&running, r#"herdsman_stream_reconnects_total{slot="herdsman"}"#, |now| {
        now > before
    });
    until_told(&running, lag, |late| late > 0.5);
    assert_eq!(told(&running)[r#"herdsman_stream_phase{slot="herdsman",phase="streaming"}"#], 0.0);
    yard.cluster.start_node("n1");
    yard.sql("insert into users values (3, 'Edsger')");
    until_told(&running, &lines("rows_total"), is(3.0));
    until_told(&running, lag, is(0.0));
}
