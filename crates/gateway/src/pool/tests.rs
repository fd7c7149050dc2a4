//! Pools over servers that are one end of a pair of sockets, and over real ones.

mod bench;
mod busy;
mod closing;
mod order;
mod registry;
mod schedule;
mod servers;
mod waiting;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use herdsman_node::raw::RawStream;
use herdsman_node::{ConnectError, ConnectErrorKind, Conninfo};
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::connect::{Connect, Opened};
use super::{Lease, Pool, PoolError, Rules, Server};
use crate::auth::ServerLogin;
use crate::config::{PoolConfig, SessionState, Target, WriteGuard};
use crate::settings::Settings;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// Opens connections to nowhere.
#[derive(Debug, Default)]
struct Fake {
    /// The other ends, in the order they were opened; the process id of each is its place plus one.
    ends: Mutex<Vec<StdUnixStream>>,
    attempts: AtomicUsize,
    /// Attempts fail.
    down: AtomicBool,
    /// How long an attempt takes, in milliseconds.
    delay: AtomicU64,
}

impl Fake {
    async fn open(&self) -> Result<Opened, ConnectError> {
        self.attempts.fetch_add(1, Ordering::SeqCst);
        let delay = self.delay.load(Ordering::SeqCst);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        if self.down.load(Ordering::SeqCst) {
            return Err(ConnectError {
                kind: ConnectErrorKind::Refused,
                endpoint: "nowhere:1".to_owned(),
                problem: "connection refused".to_owned(),
            });
        }
        let (ours, theirs) = StdUnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut ends = self.ends.lock().unwrap();
        ends.push(theirs);
        Ok(Opened {
            stream: RawStream::Unix(UnixStream::from_std(ours).unwrap()),
            unread: BytesMut::new(),
            backend: Some((i32::try_from(ends.len()).unwrap(), 0)),
            conninfo: Arc::new(Conninfo::from_pairs([("host", "nowhere")]).unwrap()),
            reported: vec![("TimeZone".into(), "UTC".into())],
            commits_early: false,
            in_recovery: false,
        })
    }

    fn attempts(&self) -> usize {
        self.attempts.load(Ordering::SeqCst)
    }

    fn opened(&self) -> usize {
        self.ends.lock().unwrap().len()
    }

    /// Has the server of this process say something.
    fn says(&self, process: usize, bytes: &[u8]) {
        let ends = self.ends.lock().unwrap();
        (&ends[process - 1]).write_all(bytes).unwrap();
    }

    /// Has the server of this process close the connection.
    fn breaks(&self, process: usize) {
        let ends = self.ends.lock().unwrap();
        ends[process - 1].shutdown(std::net::Shutdown::Both).unwrap();
    }

    /// Whether we have closed the connection to this process. Takes what we sent before.
    fn closed(&self, process: usize) -> bool {
        let ends = self.ends.lock().unwrap();
        loop {
            match (&ends[process - 1]).read(&mut [0; 64]) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(_) => return true,
            }
        }
    }
}

impl Connect for Fake {
    fn name(&self, node: usize) -> Arc<str> {
        format!("n{}", node + 1).into()
    }

    fn connect<'a>(
        &'a self,
        _node: usize,
        _rules: &'a Rules,
    ) -> BoxFuture<'a, Result<Opened, ConnectError>> {
        Box::pin(self.open())
    }
}

fn rules(size: usize, queue: usize) -> Rules {
    Rules {
        pool: PoolConfig { size, queue, ..PoolConfig::default() },
        target: Target::Split,
        group: None,
        dbname: "postgres".to_owned(),
        login: ServerLogin::default(),
        prepared_statements: 10,
        session_state: SessionState::Pin,
        write_guard: WriteGuard::Off,
        slow_query: None,
    }
}

/// A pool of `size` with a queue of `queue`, and what is behind it.
fn pool(size: usize, queue: usize) -> (Arc<Pool>, Arc<Fake>) {
    pool_with(rules(size, queue))
}

fn pool_with(rules: Rules) -> (Arc<Pool>, Arc<Fake>) {
    let fake = Arc::new(Fake::default());
    let rules = Arc::new(ArcSwap::from_pointee(rules));
    let connector: Arc<dyn Connect> = Arc::clone(&fake) as _;
    (Arc::new(Pool::new(0, &"db".into(), rules, connector, false)), fake)
}

fn plain() -> &'static Settings {
    static PLAIN: LazyLock<Settings> = LazyLock::new(Settings::default);
    &PLAIN
}

/// A connection, waited for as long as it takes.
async fn taken(pool: &Arc<Pool>, worker: usize) -> Result<Lease, PoolError> {
    let server = pool.take(worker, plain(), 0, Instant::now() + LONG).await?;
    Ok(Lease::new(server, Arc::clone(pool), 0, false))
}

fn process(server: &Server) -> usize {
    usize::try_from(server.identity.backend.unwrap().0).unwrap()
}

/// Lets everything that can run do so.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// What a future says without being waited for.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    future.now_or_never()
}
