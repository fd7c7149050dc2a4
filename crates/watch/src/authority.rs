//! The outside authority: a command that knows who is primary.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Arc;

use herdsman_node::{NodeName, environment};
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::config::Authority;

/// Asks again and again and sends on what is answered, until the receiver is gone.
pub(crate) async fn run(
    authority: Authority,
    nodes: Arc<BTreeSet<NodeName>>,
    answers: mpsc::Sender<Option<NodeName>>,
) {
    let mut last_problem = String::new();
    loop {
        let answer = match timeout(authority.timeout, ask(&authority.command)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {:?}", authority.timeout)),
        };
        let answer = answer.and_then(|text| named(&text, &nodes));
        if let Err(problem) = &answer
            && *problem != last_problem
        {
            tracing::warn!("the authority command failed: {problem}");
            last_problem.clone_from(problem);
        }
        if answers.send(answer.unwrap_or(None)).await.is_err() {
            return;
        }
        sleep(authority.interval).await;
    }
}

fn named(text: &str, nodes: &BTreeSet<NodeName>) -> Result<Option<NodeName>, String> {
    match text.trim() {
        "" => Ok(None),
        name => nodes
            .get(name)
            .cloned()
            .map(Some)
            .ok_or_else(|| format!("it named `{name}`, which is not a host")),
    }
}

async fn ask(command: &[String]) -> Result<String, String> {
    let (program, arguments) = command.split_first().ok_or("watch.authority.command is empty")?;
    let mut start = Command::new(program);
    start.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    for secret in environment::withheld() {
        start.env_remove(secret);
    }
    let child = start.kill_on_drop(true).spawn();
    let mut child = child.map_err(|e| format!("failed to start `{program}`: {e}"))?;
    let mut text = String::new();
    if let Some(stdout) = child.stdout.take() {
        // A name is short; whatever talks longer than this is not naming one.
        stdout.take(4096).read_to_string(&mut text).await.map_err(|e| e.to_string())?;
    }
    let status = child.wait().await.map_err(|e| e.to_string())?;
    if status.success() { Ok(text) } else { Err(format!("`{program}` ended with {status}")) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// What comes of one run of a shell script as the authority.
    async fn heard(script: &str) -> Option<NodeName> {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        let limits = (Duration::from_secs(60), Duration::from_millis(300));
        let authority = Authority { command, interval: limits.0, timeout: limits.1 };
        let nodes = ["n1", "n2"].map(|name| NodeName::new(name).unwrap()).into();
        let (answers, mut heard) = mpsc::channel(1);
        let asking = tokio::spawn(run(authority, Arc::new(nodes), answers));
        let first = heard.recv().await.unwrap();
        asking.abort();
        first
    }

    #[tokio::test]
    async fn a_host_that_the_command_names_is_heard_and_nothing_else_is() {
        assert_eq!(heard("echo n2").await.unwrap().as_str(), "n2");
        for script in [
            "true",
            "echo n9",
            "echo n1; exit 3",
            "sleep 5; echo n1",
            "yes n1",
            "exec /no/such/program",
        ] {
            assert_eq!(heard(script).await, None, "{script}");
        }
    }
}
