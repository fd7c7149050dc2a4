//! A command that is run once for each message.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use herdsman_node::environment;
use herdsman_stream::sinks::exec::Group;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::time::timeout;

use crate::config::ExecConfig;
use crate::failure::Failure;

/// Of what a command says, so much of the end is passed on, in bytes.
const LAST_WORDS: usize = 400;
/// How long what it said is waited for after its end: something that it left running may have its standard error open.
const FAREWELL: Duration = Duration::from_millis(200);

/// Runs the command to its end, or ends it with all it started.
pub(crate) async fn run(
    config: &ExecConfig,
    variables: &[(String, String)],
    input: &str,
    limit: Duration,
) -> Result<String, Failure> {
    let Some((program, arguments)) = config.command.split_first() else {
        return Err(Failure::failed("no command is given; set `command`"));
    };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    for secret in environment::withheld() {
        command.env_remove(secret);
    }
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command.envs(config.env.iter().map(|(name, value)| (name, value.expose())));
    if let Some(directory) = &config.directory {
        command.current_dir(directory);
    }
    let mut group = Group::start(&mut command).map_err(|error| {
        Failure::failed(format!(
            "failed to start `{program}`: {error}; check `command`, and that it may be executed"
        ))
    })?;
    let (stdin, stderr) = (group.child.stdin.take(), group.child.stderr.take());
    let said = tokio::spawn(last_words(stderr));
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A command that does not read it is free not to.
            let _unread = stdin.write_all(input.as_bytes()).await;
        }
    };
    let (ended, _fed) = tokio::join!(group.has_ended_within(limit), timeout(limit, feed));
    if !ended {
        group.terminate(config.grace).await;
        said.abort();
        return Err(Failure::late(format!(
            "`{program}` took longer than {limit:?} and was ended; raise `timeout`, or have it end sooner"
        )));
    }
    let status = group.leave().await;
    let mut said = said;
    let words = timeout(FAREWELL, &mut said).await.ok().and_then(Result::ok).unwrap_or_default();
    said.abort();
    if status.is_some_and(|status| status.success()) {
        return Ok(format!("`{program}` has run"));
    }
    let status =
        status.map_or_else(|| "no status".to_owned(), |status: ExitStatus| status.to_string());
    let words = if words.is_empty() { "it said nothing".to_owned() } else { words };
    Err(Failure::failed(format!("`{program}` failed ({status}): {words}")))
}

/// The end of what is said, in one line.
async fn last_words(from: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut from) = from else { return String::new() };
    let mut kept: Vec<u8> = Vec::new();
    let mut piece = [0; LAST_WORDS];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        kept.extend(piece.iter().take(length));
        let surplus = kept.len().saturating_sub(LAST_WORDS);
        kept.drain(..surplus);
    }
    let text = String::from_utf8_lossy(&kept);
    let shown = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(script: &str) -> ExecConfig {
        let json = serde_json::json!({ "command": ["sh", "-c", script], "grace": "10ms" });
        serde_json::from_value(json).unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_command_gets_the_event_and_says_why_it_failed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("got");
        let mut exec = config("cat >\"$OUT\"; echo \" $HERDSMAN_NODE $SECRET\" >>\"$OUT\"");
        exec.env = [("OUT", file.to_str().unwrap()), ("SECRET", "hunter2")]
            .map(|(name, value)| (name.to_owned(), value.to_owned().into()))
            .into();
        let variables = [("HERDSMAN_NODE".to_owned(), "n 1; true".to_owned())];
        run(&exec, &variables, "{}", LONG).await.unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "{} n 1; true hunter2\n");
        assert!(!format!("{exec:?}").contains("hunter2"));

        let failed = run(&config("echo no such luck >&2; exit 3"), &[], "{}", LONG).await;
        let problem = failed.unwrap_err().problem;
        assert!(problem.contains("no such luck") && problem.contains('3'), "{problem}");
        let mut missing = config("");
        missing.command = vec!["/no/such/program".to_owned()];
        let problem = run(&missing, &[], "{}", LONG).await.unwrap_err().problem;
        assert!(problem.starts_with("failed to start `/no/such/program`"), "{problem}");
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("child");
        let script = format!(
            "trap '' TERM; sh -c \"trap '' TERM; echo \\$\\$ >{0}; exec sleep 600\" & wait; wait",
            file.display()
        );
        let mut limit = Duration::from_millis(500);
        // On a slow machine it may be ended before its child has begun.
        let pid = loop {
            let late = run(&config(&script), &[], "{}", limit).await.unwrap_err();
            assert_eq!(late.kind, crate::failure::Kind::Late);
            let said = std::fs::read_to_string(&file).unwrap_or_default();
            match said.trim().parse::<u32>() {
                Ok(pid) => break pid,
                Err(_) => limit *= 2,
            }
        };
        let status = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let begun = tokio::time::Instant::now();
        // An orphan is nobody's child until init has reaped it.
        while !(status().is_empty() || status().contains(") Z ")) {
            assert!(begun.elapsed() < LONG, "{}", status());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
