//! Cancel requests: keys that cannot be guessed, and the right server of the right node.

mod request;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand;
use herdsman_node::raw::cancel_raw;
use herdsman_node::{Conninfo, Tls};
use tokio::sync::{Notify, mpsc};

pub(crate) use self::request::cancel_client;
pub use self::request::{CancelRequest, Canceller};
use crate::client::Card;
use crate::pool::{ServerIdentity, Use};

/// Bytes of a secret in protocol 3.2. In 3.0 and 3.1 there is room for [`SHORT`].
const LONG: usize = 32;
const SHORT: usize = 4;
/// How often a process number is drawn before we give up: with half of them in use, once in 4 billion logins.
const DRAWS: usize = 32;
/// Requests that wait to be passed on. More are lost, as ones of strangers are.
const WAITING: usize = 64;

/// Which client goes with which key.
#[derive(Default)]
pub(crate) struct Cancels {
    clients: Mutex<HashMap<i32, Held>>,
    /// Where requests go whose key nobody holds here.
    elsewhere: Mutex<Option<mpsc::Sender<CancelRequest>>>,
}

struct Held {
    secret: Vec<u8>,
    card: Weak<Card>,
}

/// What a client has to show to have its request cancelled. Good until it is dropped.
pub(crate) struct CancelKey {
    /// In the place of the server process.
    pub(crate) process: i32,
    /// 4 bytes, or 32 where the protocol has room for them.
    pub(crate) secret: Vec<u8>,
    registry: Arc<Cancels>,
}

impl Cancels {
    /// A new key for a client that speaks protocol 3.`minor`. `None`: there is no randomness to be had.
    pub(crate) fn register(self: &Arc<Self>, card: &Arc<Card>, minor: u16) -> Option<CancelKey> {
        let mut secret = vec![0; if minor >= 2 { LONG } else { SHORT }];
        rand::fill(&mut secret).ok()?;
        let mut clients = self.clients.lock().ok()?;
        for _ in 0..DRAWS {
            let mut drawn = [0; 4];
            rand::fill(&mut drawn).ok()?;
            // Drivers take it for a process number, so it is to be positive.
            let process = i32::from_be_bytes(drawn) & i32::MAX;
            if let (1.., Entry::Vacant(place)) = (process, clients.entry(process)) {
                place.insert(Held { secret: secret.clone(), card: Arc::downgrade(card) });
                return Some(CancelKey { process, secret, registry: Arc::clone(self) });
            }
        }
        None
    }

    /// The client that holds a key.
    pub(crate) fn find(&self, process: i32, secret: &[u8]) -> Option<Arc<Card>> {
        let clients = self.clients.lock().ok()?;
        let held = clients.get(&process)?;
        verify_slices_are_equal(&held.secret, secret).ok()?;
        held.card.upgrade()
    }

    /// Has requests whose key nobody holds here come out of the queue from now on.
    pub(crate) fn unknown(&self) -> mpsc::Receiver<CancelRequest> {
        let (requests, queue) = mpsc::channel(WAITING);
        if let Ok(mut elsewhere) = self.elsewhere.lock() {
            *elsewhere = Some(requests);
        }
        queue
    }

    /// Puts a request into the queue of [`Cancels::unknown`]. `false`: nobody wants it, or there is no room.
    fn pass_on(&self, process: i32, secret: &[u8]) -> bool {
        let Ok(elsewhere) = self.elsewhere.lock() else { return false };
        let request = CancelRequest::new(process, secret);
        elsewhere.as_ref().zip(request).is_some_and(|(to, request)| to.try_send(request).is_ok())
    }
}

impl Drop for CancelKey {
    fn drop(&mut self) {
        if let Ok(mut clients) = self.registry.clients.lock() {
            clients.remove(&self.process);
        }
    }
}

/// Which server works for a client, for whoever may cancel it.
#[derive(Default)]
pub(crate) struct CancelSlot {
    server: Mutex<Option<Arc<ServerIdentity>>>,
    /// For what is done here and not on a server: commands of the console.
    asked: Notify,
}

impl CancelSlot {
    /// Says which server works for the client from now on. To be told that none does before a connection is given back:
    /// no cancel request for it begins after that.
    #[inline]
    pub(crate) fn set(&self, server: Option<Arc<ServerIdentity>>) {
        if let Ok(mut slot) = self.server.lock() {
            *slot = server;
        }
    }

    /// Has the server that works for the client cancel what it does, and waits until the server has dealt with that, at
    /// most for `limit`. Meanwhile the connection is given to nobody else. `false`: no server works for the client, or it
    /// could not be told; that is logged.
    pub(crate) async fn cancel(&self, limit: Duration) -> bool {
        self.asked.notify_waiters();
        let Some(server) = self.begin() else { return false };
        // Boxed: it is large, and rare.
        match Box::pin(carry_out(&server, limit)).await {
            Ok(()) => {
                server.cancelling(false);
                true
            }
            Err(error) => {
                // It stays marked: the request may reach the server yet, so the connection is never to be another
                // client's. The same goes for a request that is dropped half way.
                tracing::warn!(?server, "failed to pass on a cancel request: {error}");
                if server.doing() == Use::Idle {
                    // Back in the pool, where nobody can take it.
                    server.shut();
                }
                false
            }
        }
    }

    /// The number of the server connection that works for the client.
    pub(crate) fn server(&self) -> Option<u64> {
        self.server.lock().ok()?.as_ref().map(|server| server.id)
    }

    /// Waits for the next request to cancel.
    pub(crate) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// The server that works for the client now, marked as being cancelled so that it is handed to nobody else meanwhile.
    fn begin(&self) -> Option<Arc<ServerIdentity>> {
        let slot = self.server.lock().ok()?;
        let server = slot.as_ref().filter(|server| server.backend.is_some())?;
        // Under the lock: who takes the server out of the slot afterwards sees the mark.
        server.cancelling(true);
        Some(Arc::clone(server))
    }
}

impl fmt::Debug for CancelSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CancelSlot")
    }
}

impl fmt::Debug for Cancels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cancels")
    }
}

impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CancelKey(…)")
    }
}

async fn carry_out(server: &ServerIdentity, limit: Duration) -> Result<(), String> {
    let Some(backend) = server.backend else { return Ok(()) };
    let mut info = Conninfo::clone(&server.conninfo);
    // Where the connection really went: a name may stand for several servers, and for others than a while ago.
    if let Some(address) = server.address() {
        info.hostaddr = Some(address.ip());
    }
    let tls = Tls::new(&info).map_err(|error| error.to_string())?;
    let done = cancel_raw(&info, &tls, limit, backend).await;
    done.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
