//! The outside authority: a command that knows who is primary.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Arc;

use herdsman_node::NodeName;
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
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| format!("failed to start `{program}`: {e}"))?;
    let mut text = String::new();
    if let Some(stdout) = child.stdout.take() {
        // A name is short; whatever talks longer than this is not naming one.
        stdout.take(4096).read_to_string(&mut text).await.map_err(|e| e.to_string())?;
    }
    let status = child.wait().await.map_err(|e| e.to_string())?;
    if status.success() { Ok(text) } else { Err(format!("`{program}` ended with {status}")) }
}
