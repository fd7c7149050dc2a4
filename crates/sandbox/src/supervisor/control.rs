//! The supervisor's socket: one JSON line there, one back.

use std::{io, path::Path, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    task::JoinSet,
};

use super::{Answer, Request, obey};
use crate::{Sandbox, SandboxError, account};

const SOCKET: &str = "control.sock";
/// Far above any request or report.
const MAX_LINE: u64 = 256 * 1024;
/// Requests under way at once.
const MAX_REQUESTS: usize = 32;
/// A peer on this machine that says nothing for so long is no peer.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// The longest operation is a rejoin: a shutdown, a rewind that fails, a copy, each within a minute.
const ANSWER_LIMIT: Duration = Duration::from_secs(300);

/// The bound socket.
#[derive(Debug)]
pub(super) struct Listener(UnixListener);

impl Listener {
    pub(super) fn bind(dir: &Path) -> Result<Self, SandboxError> {
        let path = dir.join(SOCKET);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(SandboxError::file("replace", &path)(error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(SandboxError::file("listen on", &path))?;
        account::set_mode(&path, 0o600)?;
        Ok(Self(listener))
    }
}

/// Asks the supervisor of a folder for something and waits for its answer.
///
/// # Errors
/// Nobody answers, or the answer is a refusal.
pub async fn call(dir: &Path, request: &Request) -> Result<Answer, SandboxError> {
    let path = dir.join(SOCKET);
    let talk = async {
        let stream = UnixStream::connect(&path).await?;
        let (reads, mut writes) = stream.into_split();
        writes.write_all(&line(request)?).await?;
        read_line::<Answer>(reads).await
    };
    let answer = tokio::time::timeout(ANSWER_LIMIT, talk)
        .await
        .map_err(|_| {
            SandboxError::Supervisor(format!(
                "the supervisor did not answer within {} s",
                ANSWER_LIMIT.as_secs()
            ))
        })?
        .map_err(SandboxError::file("talk to the supervisor on", &path))?;
    match answer {
        Answer::Failed(reason) => Err(SandboxError::Supervisor(reason)),
        answer => Ok(answer),
    }
}

/// Answers requests for ever.
pub(super) async fn serve(listener: Listener, sandbox: Arc<Sandbox>) {
    let mut requests = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.0.accept(), if requests.len() < MAX_REQUESTS => match accepted {
                Ok((stream, _)) => {
                    let sandbox = Arc::clone(&sandbox);
                    requests.spawn(async move {
                        if let Err(error) = answer(stream, &sandbox).await {
                            tracing::debug!(%error, "a request went unanswered");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a request");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = requests.join_next(), if !requests.is_empty() => {}
        }
    }
}

async fn answer(stream: UnixStream, sandbox: &Sandbox) -> io::Result<()> {
    let (reads, mut writes) = stream.into_split();
    let answer = match tokio::time::timeout(REQUEST_LIMIT, read_line::<Request>(reads)).await? {
        Ok(request) => {
            tracing::info!(?request, "asked");
            // Boxed: it holds whole operations, and the task that waits for them should stay small.
            Box::pin(obey(sandbox, request))
                .await
                .unwrap_or_else(|error| Answer::Failed(error.one_line()))
        }
        Err(error) => Answer::Failed(format!("the request is not understood: {error}")),
    };
    writes.write_all(&line(&answer)?).await
}

fn line(value: &impl serde::Serialize) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    Ok(text)
}

async fn read_line<T: serde::de::DeserializeOwned>(
    reads: impl tokio::io::AsyncRead + Unpin,
) -> io::Result<T> {
    let mut text = Vec::new();
    BufReader::new(reads.take(MAX_LINE)).read_until(b'\n', &mut text).await?;
    if text.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&text)?)
}
