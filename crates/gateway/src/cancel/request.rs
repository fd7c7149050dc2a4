//! Requests to cancel between runs: whoever takes the sockets over gets those of clients that stayed with the run before.

use std::fmt;
use std::sync::Arc;

use crate::shared::Shared;

/// The longest secret that the protocol allows.
const LONGEST: usize = 256;

/// A request to cancel what a client does, as it came. Debugging does not show the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct CancelRequest {
    process: i32,
    secret: Vec<u8>,
}

impl CancelRequest {
    /// With the process number and the secret that the client was given. `None`: no protocol has secrets that long.
    #[must_use]
    pub fn new(process: i32, secret: &[u8]) -> Option<Self> {
        (secret.len() <= LONGEST).then(|| Self { process, secret: secret.to_vec() })
    }

    /// What the client was told that the process is.
    #[must_use]
    pub fn process(&self) -> i32 {
        self.process
    }

    /// The secret, at most 256 bytes.
    #[must_use]
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }
}

impl fmt::Debug for CancelRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CancelRequest(…)")
    }
}

/// Carries out requests to cancel that came to another process. Cheap to clone.
#[derive(Clone)]
pub struct Canceller(pub(crate) Arc<Shared>);

impl Canceller {
    /// As if a client had sent it here: nothing comes of a key that nobody holds, and that is told to nobody. Comes back when
    /// the server has dealt with it, within the pool's `connect_timeout`.
    pub async fn cancel(&self, request: &CancelRequest) {
        cancel_client(&self.0, request.process, &request.secret).await;
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canceller").finish_non_exhaustive()
    }
}

/// Carries a request to cancel out, if it comes with a key that somebody holds; else it may be of a client that is elsewhere.
/// Nothing is ever said about it.
pub(crate) async fn cancel_client(shared: &Shared, process: i32, secret: &[u8]) {
    let cancels = &shared.reception.cancels;
    match cancels.find(process, secret) {
        Some(card) => {
            let limit = card.pools.rules.load().pool.connect_timeout;
            card.cancel.cancel(limit).await;
        }
        None if cancels.pass_on(process, secret) => {
            tracing::debug!("a cancel request with a key that nobody here holds was passed on");
        }
        None => tracing::debug!("a cancel request with a key that nobody holds"),
    }
}
