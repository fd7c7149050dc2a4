//! The exec sink on real commands: small scripts that keep what they get in a file, and do not all behave.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use herdsman_stream::config::Shape;
use herdsman_stream::sinks::conformance::{self, Seen, batch, row};
use herdsman_stream::sinks::exec::{ExecConfig, ExecSink};
use herdsman_stream::sinks::{Secret, SinkConfig};
use herdsman_stream::{DeliveryError, Sink, SinkError, Why};
use tokio::time::{sleep, timeout};

/// Reads lines, keeps each in `$STORE`, and acknowledges it. `$offset` is the offset of the line.
const KEEPER: &str = r#"
while IFS= read -r line; do
  offset=${line#*:}; offset=${offset%%,*}
  @EACH@
  printf '%s\n' "$line" >> "$STORE"
  echo "ok $offset"
done
"#;

fn config(folder: &Path, script: &str) -> ExecConfig {
    let store = folder.join("store").display().to_string();
    let json = serde_json::json!({
        "command": ["bash", "-c", script],
        "env": { "STORE": store, "FOLDER": folder.display().to_string() },
        "timeout": "20s",
        "grace": "2s",
    });
    serde_json::from_value(json).unwrap()
}

fn sink(config: &ExecConfig) -> ExecSink {
    ExecSink::new("test", config, Shape::Herdsman).unwrap()
}

fn keeper(folder: &Path, each: &str) -> ExecConfig {
    config(folder, &KEEPER.replace("@EACH@", each))
}

/// What the script has kept, in order.
fn stored(folder: &Path) -> Vec<Seen> {
    let text = std::fs::read_to_string(folder.join("store")).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.map(|line| conformance::seen(&line["change"]).unwrap()).collect()
}

fn ordinals(folder: &Path) -> Vec<u64> {
    stored(folder).iter().map(|seen| seen.ordinal).collect()
}

async fn unavailable(sink: &ExecSink, ordinals: std::ops::Range<u64>) -> SinkError {
    match deliver(sink, ordinals).await {
        Err(DeliveryError::Unavailable(error)) => error,
        other => panic!("{other:?}"),
    }
}

async fn deliver(sink: &ExecSink, ordinals: std::ops::Range<u64>) -> Result<(), DeliveryError> {
    sink.deliver(&batch(ordinals.map(|ordinal| row(ordinal, "a")).collect())).await
}

/// Delivers until all is taken, as the engine does; panics where something is refused.
async fn deliver_all(sink: &ExecSink, ordinals: std::ops::Range<u64>) {
    let mut left: Vec<u64> = ordinals.collect();
    while !left.is_empty() {
        let changes = left.iter().map(|&ordinal| row(ordinal, "a")).collect();
        match sink.deliver(&batch(changes)).await {
            Ok(()) => return,
            Err(DeliveryError::Unavailable(error)) => assert!(error.reopen, "{error}"),
            Err(DeliveryError::Partly(undelivered)) => {
                assert!(!undelivered.iter().any(|u| matches!(u.why, Why::Rejected(_))));
                left = undelivered.iter().map(|undelivered| left[undelivered.index]).collect();
            }
        }
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let all = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), all)
        .await
        .unwrap_or_else(|_| panic!("{what}: not so in time"));
}

fn pid(folder: &Path, name: &str) -> Option<i32> {
    std::fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok()
}

fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.starts_with(" Z"))
}

#[tokio::test]
async fn a_command_keeps_the_contract_of_sinks() {
    let folder = tempfile::tempdir().unwrap();
    let sink = sink(&keeper(folder.path(), ":"));
    conformance::check(&sink, async || stored(folder.path())).await.unwrap();
}

#[tokio::test]
async fn what_the_command_refuses_is_refused_with_its_reason_and_all_else_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let each =
        "case $line in *'\"ordinal\":3,'*) echo \"fail $offset no such customer\"; continue;; esac";
    let sink = sink(&keeper(folder.path(), each));
    let Err(DeliveryError::Partly(left)) = deliver(&sink, 0..6).await else { panic!() };
    let [undelivered] = left.as_slice() else { panic!("{left:?}") };
    let Why::Rejected(error) = &undelivered.why else { panic!("{left:?}") };
    assert_eq!(undelivered.index, 3);
    assert!(error.to_string().contains("no such customer"), "{error}");
    assert_eq!(ordinals(folder.path()), [0, 1, 2, 4, 5]);
    // The command goes on.
    deliver(&sink, 6..8).await.unwrap();
    sink.close().await;
}

#[tokio::test]
async fn a_command_killed_between_lines_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // Kills itself every few lines: before it keeps one, or after it but before it says so.
    let each = r#"count=$((count + 1))
  case $count in
    5) if rm "$FOLDER/spared" 2>/dev/null; then :; else
         touch "$FOLDER/spared"; printf '%s\n' "$line" >> "$STORE"; kill -9 $$
       fi;;
    7) kill -9 $$;;
  esac"#;
    let sink = sink(&keeper(folder.path(), each));
    for round in 0..5 {
        deliver_all(&sink, round * 10..(round + 1) * 10).await;
    }
    sink.close().await;
    let arrived = ordinals(folder.path());
    let mut distinct = arrived.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct, Vec::from_iter(0..50));
    assert!(arrived.len() > 50, "it was never killed after it had kept one");
    // Each comes for the first time in order.
    let mut first = Vec::new();
    for ordinal in arrived {
        if !first.contains(&ordinal) {
            first.push(ordinal);
        }
    }
    assert!(first.is_sorted(), "{first:?}");
}

#[tokio::test]
async fn a_command_killed_from_outside_at_any_moment_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!("echo $$ > \"$FOLDER/pid\"\n{KEEPER}").replace("@EACH@", ":");
    let sink = Arc::new(sink(&config(folder.path(), &script)));
    let killer = tokio::spawn({
        let folder = folder.path().to_owned();
        async move {
            for round in 0..15 {
                let pid = || pid(&folder, "pid").filter(|pid| is_alive(*pid));
                until("the command runs", || pid().is_some()).await;
                sleep(Duration::from_millis(round % 5 * 3)).await;
                let pid = pid().and_then(rustix::process::Pid::from_raw);
                if let Some(pid) = pid {
                    let _gone_already =
                        rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
                sleep(Duration::from_millis(10)).await;
            }
        }
    });
    let mut next = 0;
    while !killer.is_finished() {
        deliver_all(&sink, next..next + 20).await;
        next += 20;
    }
    sink.close().await;
    let mut arrived = ordinals_torn(folder.path());
    arrived.sort_unstable();
    arrived.dedup();
    assert_eq!(arrived, Vec::from_iter(0..next));
}

/// What is kept, where the keeper itself may have been killed while it wrote a line.
fn ordinals_torn(folder: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(folder.join("store")).unwrap_or_default();
    let lines =
        text.split('\n').filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines.filter_map(|line| Some(conformance::seen(&line["change"])?.ordinal)).collect()
}

#[tokio::test]
async fn a_command_that_does_not_answer_in_time_is_killed_with_all_it_started() {
    let folder = tempfile::tempdir().unwrap();
    // Deaf to SIGTERM, and so is its child.
    let script = "trap '' TERM; echo $$ > $FOLDER/pid; (trap '' TERM; sleep 1000) & echo $! > $FOLDER/child; wait";
    let mut config = config(folder.path(), script);
    config.timeout = Duration::from_millis(300);
    config.grace = Duration::from_millis(200);
    let sink = sink(&config);
    let error = unavailable(&sink, 0..3).await;
    assert!(error.to_string().contains("did not answer for all within 300ms"), "{error}");
    for name in ["pid", "child"] {
        let pid = pid(folder.path(), name).unwrap();
        until(name, || !is_alive(pid)).await;
    }
}

#[tokio::test]
async fn a_delivery_that_is_given_up_kills_the_command_and_everything_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo $$ > $FOLDER/pid; ".to_owned() + &KEEPER.replace("@EACH@", "sleep 0.05");
    let sink = sink(&config(folder.path(), &script));
    let given_up = timeout(Duration::from_millis(300), deliver(&sink, 0..100)).await;
    assert!(given_up.is_err());
    let pid = pid(folder.path(), "pid").unwrap();
    until("the command ends", || !is_alive(pid)).await;
    deliver_all(&sink, 0..5).await;
    sink.close().await;
    assert!(ordinals(folder.path()).ends_with(&[0, 1, 2, 3, 4]));
}

#[tokio::test]
async fn nonsense_and_endless_lines_on_standard_output_are_named() {
    for (script, expected) in [
        ("echo hello; cat > /dev/null", "it said `hello`, which is no answer"),
        ("echo ok 99; cat > /dev/null", "was not fed that many lines"),
        ("yes | tr -d '\\n'", "a line of more than 4096 bytes"),
        ("read -r line; exit 3", "it ended with exit status: 3"),
        ("exec >&-; cat > /dev/null", "it ended with"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let error = unavailable(&sink(&config(folder.path(), script)), 0..2).await;
        assert!(error.to_string().contains(expected) && error.reopen, "{script}: {error}");
    }
}

#[tokio::test]
async fn half_an_answer_is_none() {
    let folder = tempfile::tempdir().unwrap();
    // Would `ok 1` count although its line never ended, it might have become `ok 12`.
    let sink = sink(&config(folder.path(), "printf 'ok 1'; sleep 0.1"));
    unavailable(&sink, 0..20).await;
}

#[tokio::test]
async fn batches_larger_than_any_pipe_get_through_whoever_speaks_first() {
    let folder = tempfile::tempdir().unwrap();
    let sink = sink(&keeper(folder.path(), ":"));
    let note = "x".repeat(20_000);
    let changes = (0..200).map(|ordinal| row(ordinal, &note)).collect();
    sink.deliver(&batch(changes)).await.unwrap();
    assert_eq!(ordinals(folder.path()), Vec::from_iter(0..200));
    sink.close().await;
}

#[tokio::test]
async fn a_line_that_is_too_long_is_refused_and_never_fed() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = keeper(folder.path(), ":");
    config.max_line = 1024;
    let sink = sink(&config);
    let changes = vec![row(0, "a"), row(1, &"x".repeat(2000)), row(2, "a")];
    let Err(DeliveryError::Partly(left)) = sink.deliver(&batch(changes)).await else { panic!() };
    assert_eq!(left.iter().map(|undelivered| undelivered.index).collect::<Vec<_>>(), [1]);
    assert_eq!(ordinals(folder.path()), [0, 2]);
    sink.close().await;
}

#[tokio::test]
async fn closing_lets_the_command_finish_what_it_has_begun() {
    let folder = tempfile::tempdir().unwrap();
    let script = KEEPER.replace("@EACH@", ":") + "sleep 0.2; echo done > $FOLDER/done";
    let sink = sink(&config(folder.path(), &script));
    deliver(&sink, 0..2).await.unwrap();
    sink.close().await;
    assert!(folder.path().join("done").exists());
}

#[tokio::test]
async fn no_shell_looks_at_the_arguments_and_no_value_of_a_variable_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = keeper(folder.path(), ":");
    config.command.extend(["name".to_owned(), "$(touch pwned); *".to_owned()]);
    config.command[2] = format!("printf '%s' \"$1\" > $FOLDER/argument; {}", config.command[2]);
    config.directory = Some(folder.path().to_owned());
    config.env.insert("TOKEN".to_owned(), Secret::from("hunter2".to_owned()));
    let sink = sink(&config);
    deliver(&sink, 0..1).await.unwrap();
    sink.close().await;
    let argument = std::fs::read_to_string(folder.path().join("argument")).unwrap();
    assert_eq!(argument, "$(touch pwned); *");
    assert!(!folder.path().join("pwned").exists());
    assert!(!format!("{config:?}{sink:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_command_that_is_not_there_is_named() {
    let config = ExecConfig {
        command: vec!["/no/such/program".to_owned()],
        env: BTreeMap::new(),
        ..config(Path::new("/tmp"), "")
    };
    let error = sink(&config).open().await.unwrap_err();
    assert!(error.to_string().starts_with("failed to start command `/no/such/program`"), "{error}");
    let none: SinkConfig = serde_json::from_str(r#"{"exec": {"command": []}}"#).unwrap();
    let error = none.build("test", Shape::Herdsman).err().unwrap();
    assert!(error.to_string().contains("set `command` to a list"), "{error}");
}
