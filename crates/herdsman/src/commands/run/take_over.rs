//! One run of the program after the other without a client that notices: the next one gets the listening sockets of the one
//! before it over a unix socket, and clients who are there stay with the one before until they leave.
//!
//! The next one asks and gets the sockets; says that it serves; is told that the one before has ended everything that only
//! one of them can do. Until it says that it serves, the one before goes on as if nothing had been asked. Afterwards the line
//! is there for [cancel requests](cancels), which come to the next one whoever they are for.

mod cancels;

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use herdsman_gateway::{CancelRequest, Canceller};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// What the next one says first, of its own program and version of this.
const ASK: [u8; 21] = *b"herdsman take-over 1\n";
/// With this it says that it serves.
const SERVING: u8 = b's';
/// With this it is told that the one before has ended what only one of them can do.
const LEFT: u8 = b'l';
/// Sockets at most: addresses of the gateway and of the API, single nodes' ports among them.
const MOST: usize = 128;
/// Both are programs that do nothing else now.
const TALK: Duration = Duration::from_secs(10);
/// How long the next one may take to serve: it reads its configuration and finds out who is who.
const START: Duration = Duration::from_secs(120);
/// How long the one before may take to end what only one of them can do: streams and requests under way, mostly.
const END: Duration = Duration::from_secs(60);

/// The run before, which has given its sockets away.
#[derive(Debug)]
pub(super) struct Before(UnixStream);

/// The next run, which serves.
#[derive(Debug)]
pub(super) struct Next(UnixStream);

/// Where the next run asks.
#[derive(Debug)]
pub(super) struct Door {
    nexts: mpsc::Receiver<Next>,
    serving: JoinHandle<()>,
}

/// Asks the run that is there for its sockets. `None`: there is none.
///
/// # Errors
/// Something is there that does not answer as it should.
pub(super) async fn ask(path: &Path) -> Result<Option<(Before, Vec<OwnedFd>)>, String> {
    let failed = |error: io::Error| {
        format!(
            "failed to take over from the run at {}: {error}; stop it, or start without `--take-over`",
            path.display()
        )
    };
    let line = match UnixStream::connect(path).await {
        Ok(line) => line,
        Err(error) if is_nobody(&error) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let asking = async {
        let mut line = known(line)?;
        line.write_all(&ASK).await?;
        let sockets = line.async_io(Interest::READABLE, || receive(line.as_fd())).await?;
        io::Result::Ok((Before(line), sockets))
    };
    timeout(TALK, asking)
        .await
        .map_err(|_| failed(ErrorKind::TimedOut.into()))?
        .map(Some)
        .map_err(failed)
}

impl Before {
    /// Says that this run serves, and waits until the one before has ended what only one of them can do. From then on it is
    /// told of requests to cancel that are of none of our clients.
    pub(super) async fn ends(mut self, requests: Option<mpsc::Receiver<CancelRequest>>) {
        let ending = async {
            self.0.write_all(&[SERVING]).await?;
            self.0.read_u8().await
        };
        match timeout(END, ending).await {
            Ok(Ok(LEFT)) => {
                tracing::info!("the run before accepts nobody any more; its clients stay there");
                if let Some(requests) = requests {
                    tokio::spawn(cancels::pass_on(self.0, requests));
                }
            }
            Ok(Ok(_) | Err(_)) => tracing::warn!("the run before has ended in the midst of it"),
            Err(_) => {
                tracing::warn!("the run before is still busy after {END:?}; going on beside it");
            }
        }
    }
}

impl Next {
    /// Says that this run has ended what only one of them can do. Comes back when the next one has gone: until then requests
    /// to cancel that it passes on are carried out.
    pub(super) async fn go_on(mut self, canceller: Option<Canceller>) {
        let saying = timeout(TALK, self.0.write_all(&[LEFT]));
        match (saying.await, canceller) {
            (Ok(Ok(())), Some(canceller)) => cancels::carry_out(self.0, canceller).await,
            (Ok(Ok(())), None) => (),
            _ => tracing::warn!("the next run has ended in the midst of it"),
        }
    }
}

impl Door {
    /// Waits at `path` for the next run, which gets these sockets.
    ///
    /// # Errors
    /// The path cannot be had.
    pub(super) fn open(path: &Path, sockets: Vec<OwnedFd>) -> Result<Self, String> {
        let listener = bind(path).map_err(|error| {
            format!("failed to listen on {} (`--take-over`): {error}", path.display())
        })?;
        let (found, nexts) = mpsc::channel(1);
        let serving = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((line, _)) => match give(line, &sockets).await {
                        Ok(next) => {
                            // Who receives it is asked for nothing else any more.
                            let _received = found.send(next).await.is_ok();
                            return;
                        }
                        Err(error) => {
                            tracing::warn!(%error, "a next run came and did not get to serve; going on");
                        }
                    },
                    Err(error) => {
                        tracing::warn!(%error, "failed to accept a next run; trying on");
                        tokio::time::sleep(TALK / 10).await;
                    }
                }
            }
        });
        Ok(Self { nexts, serving })
    }

    /// The next run, once it serves.
    pub(super) async fn next(&mut self) -> Next {
        match self.nexts.recv().await {
            Some(next) => next,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Gives the sockets to whoever asks as it should, and waits until it serves.
async fn give(line: UnixStream, sockets: &[OwnedFd]) -> io::Result<Next> {
    let asking = async {
        let mut line = known(line)?;
        let mut asked = [0; ASK.len()];
        line.read_exact(&mut asked).await?;
        if asked != ASK {
            return Err(io::Error::new(ErrorKind::InvalidData, "it asked for something else"));
        }
        line.async_io(Interest::WRITABLE, || send(line.as_fd(), sockets)).await?;
        Ok(line)
    };
    let mut line =
        timeout(TALK, asking).await.map_err(|_| io::Error::from(ErrorKind::TimedOut))??;
    tracing::info!(sockets = sockets.len(), "a next run has asked for the sockets");
    match timeout(START, line.read_u8()).await {
        Ok(Ok(SERVING)) => Ok(Next(line)),
        Ok(Ok(_)) => Err(io::Error::new(ErrorKind::InvalidData, "it said something else")),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(ErrorKind::TimedOut.into()),
    }
}

/// A line to a program of the same user, or of root.
fn known(line: UnixStream) -> io::Result<UnixStream> {
    let other = line.peer_cred()?.uid();
    if other == 0 || other == rustix::process::geteuid().as_raw() {
        return Ok(line);
    }
    Err(io::Error::new(ErrorKind::PermissionDenied, "another user is at its other end"))
}

fn send(line: BorrowedFd<'_>, sockets: &[OwnedFd]) -> io::Result<()> {
    let sockets: Vec<_> = sockets.iter().take(MOST).map(AsFd::as_fd).collect();
    let count = u8::try_from(sockets.len()).unwrap_or(u8::MAX);
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    control.push(SendAncillaryMessage::ScmRights(&sockets));
    sendmsg(line, &[IoSlice::new(&[count])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive(line: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let mut count = [0_u8];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let read = recvmsg(line, &mut [IoSliceMut::new(&mut count)], &mut control, flags)?;
    if read.bytes == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let sockets: Vec<_> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
            _ => None,
        })
        .flatten()
        .collect();
    if sockets.len() == usize::from(count[0]) {
        return Ok(sockets);
    }
    Err(io::Error::new(
        ErrorKind::InvalidData,
        format!(
            "{} of {} sockets came: the system allows no more open files",
            sockets.len(),
            count[0]
        ),
    ))
}

/// Listens at `path`, also where the run before does: from now on who comes there comes here.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(io::Error::new(
                ErrorKind::AlreadyExists,
                "something that is no socket is there",
            ));
        }
        _ => {}
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    let listener = UnixListener::bind(&beside)?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&beside, path)?;
    Ok(listener)
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn sockets_are_handed_over_once_the_next_one_serves() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("take-over");
        assert!(ask(&path).await.unwrap().is_none(), "nobody is there");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut door = Door::open(&path, vec![listener.try_clone().unwrap().into()]).unwrap();
        // One that does not get to serve changes nothing.
        let (failing, sockets) = ask(&path).await.unwrap().unwrap();
        assert_eq!(sockets.len(), 1);
        drop((failing, sockets));
        let (before, sockets) = ask(&path).await.unwrap().unwrap();
        let told = tokio::spawn(before.ends(None));
        door.next().await.go_on(None).await;
        told.await.unwrap();
        drop((listener, door));
        let listener = TcpListener::from(sockets.into_iter().next().unwrap());
        assert_eq!(listener.local_addr().unwrap(), address);
        assert!(TcpStream::connect(address).is_ok());
        // Nobody is at the path any more.
        assert!(ask(&path).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("take-over");
        std::fs::write(&path, "precious").unwrap();
        assert!(Door::open(&path, Vec::new()).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }
}
