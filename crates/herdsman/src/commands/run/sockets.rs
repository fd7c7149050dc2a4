//! Sockets that the service manager listens on and passes to each run of the program, as systemd's `.socket` units do:
//! they outlive the program, so who connects while it is restarted waits instead of being refused.

use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;

/// Those that nobody has taken yet.
pub(super) struct Sockets(Vec<(SocketAddr, TcpListener)>);

impl Sockets {
    /// What was passed (`LISTEN_FDS`, `LISTEN_PID`); none where nothing was.
    ///
    /// # Errors
    /// Something was passed that is no TCP socket that listens.
    pub(super) fn passed() -> Result<Self, String> {
        // Programs that we start do not get them.
        let count = sd_notify::listen_fds().map_err(|error| failed(&error))?.len();
        if count == 0 {
            return Ok(Self(Vec::new()));
        }
        let mut all = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..all.len() {
            let taken = all.take_tcp_listener(index).map_err(|error| failed(&error))?;
            if let Some(listener) = taken {
                let address = listener.local_addr().map_err(|error| failed(&error))?;
                sockets.push((address, listener));
            }
        }
        Ok(Self(sockets))
    }

    /// The one at this address.
    pub(super) fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let index = self.0.iter().position(|(at, _)| *at == address)?;
        tracing::info!(%address, "listening on a socket of the service manager");
        Some(self.0.swap_remove(index).1)
    }

    /// Closes those that are left, and says so: their clients would wait for ever.
    pub(super) fn done(self) {
        for (address, _) in self.0 {
            tracing::warn!(
                %address,
                "the service manager passes on a socket that nothing listens on: set `gateway.listen`, or `bind` and `port`, to \
                 exactly its address, or take it out of the `.socket` unit"
            );
        }
    }
}

fn failed(error: &std::io::Error) -> String {
    format!(
        "failed to take a socket of the service manager: {error}; its `.socket` unit may have TCP sockets only, as \
         ListenStream=0.0.0.0:6432"
    )
}
