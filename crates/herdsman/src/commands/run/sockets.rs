//! Sockets that the service manager listens on and passes to each run of the program, as systemd's `.socket` units do, or
//! that the run before hands over: they outlive the program, so who connects while it is restarted waits instead of being
//! refused.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use herdsman_gateway::Passed;
use listenfd::ListenFd;

/// Those that nobody has taken yet.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    tcp: Vec<(SocketAddr, TcpListener, Giver)>,
    unix: Vec<(PathBuf, UnixListener)>,
}

/// Who has listened first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Giver {
    ServiceManager,
    RunBefore,
}

impl Sockets {
    /// What was passed (`LISTEN_FDS`, `LISTEN_PID`); none where nothing was.
    ///
    /// # Errors
    /// Something was passed that is no TCP socket that listens.
    pub(super) fn passed() -> Result<Self, String> {
        // Programs that we start do not get them.
        let count = sd_notify::listen_fds().map_err(|error| failed(&error))?.len();
        if count == 0 {
            return Ok(Self::default());
        }
        let mut all = ListenFd::from_env();
        let mut sockets = Self::default();
        for index in 0..all.len() {
            let taken = all.take_tcp_listener(index).map_err(|error| failed(&error))?;
            if let Some(listener) = taken {
                let address = listener.local_addr().map_err(|error| failed(&error))?;
                sockets.tcp.push((address, listener, Giver::ServiceManager));
            }
        }
        Ok(sockets)
    }

    /// Takes what the run before has handed over.
    ///
    /// # Errors
    /// Something of it is no socket that listens.
    pub(super) fn add(&mut self, handed: Vec<OwnedFd>) -> std::io::Result<()> {
        for socket in handed {
            // Which kind it is, its address says.
            let listener = TcpListener::from(socket.try_clone()?);
            if let Ok(address) = listener.local_addr() {
                self.tcp.push((address, listener, Giver::RunBefore));
                continue;
            }
            let listener = UnixListener::from(socket);
            let address = listener.local_addr()?;
            if let Some(path) = address.as_pathname() {
                self.unix.push((path.to_owned(), listener));
            }
        }
        Ok(())
    }

    /// The one at this address.
    pub(super) fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let index = self.tcp.iter().position(|(at, ..)| *at == address)?;
        let (_, listener, giver) = self.tcp.swap_remove(index);
        match giver {
            Giver::ServiceManager => {
                tracing::info!(%address, "listening on a socket of the service manager");
            }
            Giver::RunBefore => tracing::info!(%address, "listening on a socket of the run before"),
        }
        Some(listener)
    }

    /// Closes those that are left, and says so: their clients would wait for ever.
    pub(super) fn done(self) {
        for (address, _, giver) in self.tcp {
            if giver == Giver::RunBefore {
                tracing::info!(%address, "no longer listened on, as the configuration has it now");
                continue;
            }
            tracing::warn!(
                %address,
                "the service manager passes on a socket that nothing listens on: set `gateway.listen`, or `bind` and `port`, to \
                 exactly its address, or take it out of the `.socket` unit"
            );
        }
    }
}

impl Passed for Sockets {
    fn tcp(&mut self, address: SocketAddr) -> Option<TcpListener> {
        self.take(address)
    }

    fn unix(&mut self, path: &Path) -> Option<UnixListener> {
        let index = self.unix.iter().position(|(at, _)| at == path)?;
        tracing::info!(path = %path.display(), "listening on a socket of the run before");
        Some(self.unix.swap_remove(index).1)
    }
}

fn failed(error: &std::io::Error) -> String {
    format!(
        "failed to take a socket of the service manager: {error}; its `.socket` unit may have TCP sockets only, as \
         ListenStream=0.0.0.0:6432"
    )
}
