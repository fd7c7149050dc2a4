//! Accepting: every socket goes to the worker with the fewest clients.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use super::worker::Worker;
use crate::listen::{self, Socket};
use crate::shared::Shared;

/// Where clients come from.
#[derive(Debug)]
pub(super) enum Door {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Long enough for something to be closed, short enough not to be noticed.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How often a failing `accept` is logged, at most, in failures: ten a second.
const LOGGED_EACH: u32 = 100;

/// Accepts until nothing new is to begin.
pub(super) async fn accept(
    door: Door,
    workers: Arc<[Worker]>,
    shared: Arc<Shared>,
) -> &'static str {
    let mut failures = 0_u32;
    let mut suspensions = shared.desk.suspensions();
    loop {
        let accepted = tokio::select! {
            biased;
            () = no_more(&shared) => return "an acceptor",
            () = until(&mut suspensions, true) => {
                // Who comes meanwhile waits with the system.
                tokio::select! {
                    () = no_more(&shared) => return "an acceptor",
                    () = until(&mut suspensions, false) => continue,
                }
            }
            accepted = door.accept() => accepted,
        };
        match accepted {
            Ok(socket) => {
                failures = 0;
                hand_over(socket, &workers, &shared);
            }
            // The client has gone before it was accepted: nothing is wrong here.
            Err(error) if is_about_the_client(&error) => {}
            Err(error) => {
                if failures.is_multiple_of(LOGGED_EACH) {
                    tracing::warn!(%error, clients = shared.clients.count(), "failed to accept a client; trying on");
                }
                failures = failures.wrapping_add(1);
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

/// Comes back when nobody new is accepted any more.
async fn no_more(shared: &Shared) {
    tokio::select! {
        () = shared.closed.cancelled() => (),
        () = shared.draining.cancelled() => (),
    }
}

/// Comes back when accepting is suspended, or no longer.
async fn until(suspensions: &mut watch::Receiver<bool>, suspended: bool) {
    if suspensions.wait_for(|now| *now == suspended).await.is_err() {
        // Nobody is left to say so.
        std::future::pending::<()>().await;
    }
}

impl Door {
    /// The next socket, not bound to the runtime that accepted it.
    async fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Answers are flushed when they are complete; waiting for more would only delay them.
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream.into_std()?, peer))
            }
            Self::Unix(listener) => Ok(Socket::Unix(listener.accept().await?.0.into_std()?)),
        }
    }
}

fn hand_over(socket: Socket, workers: &[Worker], shared: &Arc<Shared>) {
    let fewest = workers.iter().enumerate().min_by_key(|(_, worker)| worker.clients());
    let Some((number, worker)) = fewest else { return };
    let burden = worker.take();
    let shared = Arc::clone(shared);
    worker.handle().spawn(async move {
        listen::serve(socket, shared, number).await;
        drop(burden);
    });
}

fn is_about_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | NotConnected)
        // `EINVAL` from a socket that was closed before its options were set.
        || error.raw_os_error() == Some(22)
}
