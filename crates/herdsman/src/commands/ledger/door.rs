//! The socket at which commands ask the program that runs the ledger: one JSON line there, one back.
//!
//! Only who runs that program, and root, are answered: whoever may ask may change every row.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::keeper::Keeper;
use super::work::{self, Answer, Refusal, Request};
use crate::exit::{Exit, Failed};

/// A request's most bytes: an entry of the log has fewer.
const REQUEST_MOST: u64 = 8 * 1024 * 1024;
/// An answer's most bytes.
const ANSWER_MOST: u64 = 1024 * 1024 * 1024;
/// Requests under way at once; others wait to be accepted.
const AT_ONCE: usize = 64;
/// Who connects says at once what it wants, and takes what it is told.
const TALK: Duration = Duration::from_secs(30);
/// How long requests under way may take to end.
const DRAIN: Duration = Duration::from_secs(10);

/// The socket, bound.
#[derive(Debug)]
pub(super) struct Door {
    listener: UnixListener,
    path: PathBuf,
    owner: u32,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// Nobody was asked.
    Nobody,
    /// Somebody may have been.
    Broken(String),
}

impl Door {
    /// Binds it, in place of one that a program has left behind.
    ///
    /// # Errors
    /// It cannot be made there.
    pub(super) fn bind(path: &Path) -> Result<Self, Failed> {
        let failed = |error: io::Error| {
            Exit::Unavailable.with(format!("{} cannot be listened on: {error}", path.display()))
        };
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(path, mode).map_err(failed)?;
        let owner = std::fs::metadata(path).map_err(failed)?.uid();
        Ok(Self { listener, path: path.to_owned(), owner })
    }

    /// Answers until it is told to stop; then it takes no more requests, and lets those under way end.
    pub(super) async fn serve(self, keeper: Arc<Keeper>, stop: CancellationToken) {
        let mut requests = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept(), if requests.len() < AT_ONCE => match accepted {
                    Ok((stream, _)) if self.may_ask(&stream) => {
                        let keeper = Arc::clone(&keeper);
                        requests.spawn(async move {
                            if let Err(error) = answer(stream, &keeper).await {
                                tracing::debug!(%error, "a command went unanswered");
                            }
                        });
                    }
                    Ok(_) => tracing::warn!("somebody else's command was not answered"),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a command");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
                Some(_) = requests.join_next(), if !requests.is_empty() => {}
            }
        }
        drop(std::fs::remove_file(&self.path));
        let ended = async { while requests.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, ended).await.is_err() {
            tracing::warn!("commands under way were cut off");
        }
    }

    fn may_ask(&self, stream: &UnixStream) -> bool {
        stream.peer_cred().is_ok_and(|who| who.uid() == self.owner || who.uid() == 0)
    }
}

async fn answer(stream: UnixStream, keeper: &Keeper) -> io::Result<()> {
    let (reads, mut writes) = stream.into_split();
    let request = tokio::time::timeout(TALK, read_line::<Request>(reads, REQUEST_MOST)).await?;
    let answer = match request {
        Ok(request) => Box::pin(work::answer(keeper, request)).await,
        Err(error) => Answer::Failed(Refusal {
            unavailable: true,
            message: format!(
                "the running program does not understand the command ({error}); is it of another version?"
            ),
        }),
    };
    tokio::time::timeout(TALK, writes.write_all(&line(&answer)?)).await?
}

/// Asks whoever listens there.
pub(super) async fn call(
    path: &Path,
    request: &Request,
    limit: Duration,
) -> Result<Answer, Unanswered> {
    let connected = tokio::time::timeout(TALK, UnixStream::connect(path)).await;
    let Ok(Ok(stream)) = connected else { return Err(Unanswered::Nobody) };
    let talk = async {
        let (reads, mut writes) = stream.into_split();
        writes.write_all(&line(request)?).await?;
        read_line::<Answer>(reads, ANSWER_MOST).await
    };
    let answered = tokio::time::timeout(limit, talk).await;
    let late = |_| Unanswered::Broken(format!("none within {limit:?}"));
    answered.map_err(late)?.map_err(|error| Unanswered::Broken(error.to_string()))
}

fn line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    Ok(text)
}

async fn read_line<T: DeserializeOwned>(reads: impl AsyncRead + Unpin, most: u64) -> io::Result<T> {
    let mut text = Vec::new();
    BufReader::new(reads.take(most)).read_until(b'\n', &mut text).await?;
    if text.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&text)?)
}
