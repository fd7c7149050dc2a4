//! Running one of the operator's commands: a program and its arguments, no shell, bounded in time.

use std::process::Stdio;
use std::time::Duration;

use herdsman_node::environment;
use tokio::process::Command;
use tokio::time::timeout;

use crate::herd::Seat;

/// Of what a command says, so much of the end is passed on.
const LAST_WORDS: usize = 400;

/// The command with its placeholders filled in: `{node}`, `{host}` and `{port}` of the node it is about, `{new}`.
pub(super) fn fill(command: &[String], about: &Seat, new: &str) -> Vec<String> {
    let port = about.conninfo.port.to_string();
    let values = [
        ("{node}", about.name.as_str()),
        ("{host}", about.conninfo.host.as_str()),
        ("{port}", port.as_str()),
        ("{new}", new),
    ];
    command.iter().map(|argument| fill_one(argument, &values)).collect()
}

/// In one pass: what is filled in is not looked at again.
fn fill_one(argument: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(argument.len());
    let mut rest = argument;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let found = values.iter().find_map(|(name, value)| {
            let inner = name.strip_prefix('{')?;
            Some((value, after.strip_prefix(inner)?))
        });
        match found {
            Some((value, behind)) => {
                filled.push_str(value);
                rest = behind;
            }
            None => {
                filled.push('{');
                rest = after;
            }
        }
    }
    filled.push_str(rest);
    filled
}

/// Runs a command to its end.
///
/// # Errors
/// It could not be run, took too long (then it is killed), or failed: with the end of what it said.
pub(super) async fn run(argv: &[String], limit: Duration) -> Result<(), String> {
    let Some((program, arguments)) = argv.split_first() else { return Ok(()) };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    for secret in environment::withheld() {
        command.env_remove(secret);
    }
    let child = command.spawn().map_err(|error| format!("`{program}` cannot be run: {error}"))?;
    let output = timeout(limit, child.wait_with_output())
        .await
        .map_err(|_| format!("`{}` took longer than {limit:?} and was killed", argv.join(" ")))?
        .map_err(|error| format!("`{program}` cannot be waited for: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    let skip = said.chars().count().saturating_sub(LAST_WORDS);
    let said: String = said.chars().skip(skip).collect();
    Err(format!("`{}` failed ({}): {said}", argv.join(" "), output.status))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn seat() -> Seat {
        Seat {
            name: "n2".parse().unwrap(),
            conninfo: Arc::new("host=db2 port=5433 user=u".parse().unwrap()),
        }
    }

    #[test]
    fn placeholders_are_filled_in_once_and_anywhere() {
        let command: Vec<String> =
            ["go", "{node}@{host}:{port}", "to={new}", "{other} {{node}", "{"]
                .map(String::from)
                .into();
        let filled = fill(&command, &seat(), "{node}");
        assert_eq!(filled, ["go", "n2@db2:5433", "to={node}", "{other} {n2", "{"]);
    }

    #[tokio::test]
    async fn a_command_that_fails_tells_why_and_one_that_hangs_is_ended() {
        let argv = |text: &str| ["sh", "-c", text].map(String::from);
        assert_eq!(run(&argv("exit 0"), Duration::from_secs(20)).await, Ok(()));
        let error = run(&argv("echo no such luck >&2; exit 3"), Duration::from_secs(20)).await;
        assert!(
            error.as_ref().is_err_and(|e| e.contains("no such luck") && e.contains('3')),
            "{error:?}"
        );
        let error = run(&argv("exec sleep 600"), Duration::from_millis(50)).await;
        assert!(error.as_ref().is_err_and(|e| e.contains("longer than")), "{error:?}");
        let error = run(&["/no/such/program".to_owned()], Duration::from_secs(20)).await;
        assert!(error.as_ref().is_err_and(|e| e.contains("cannot be run")), "{error:?}");
    }
}
