//! The topology that a running Herdsman publishes, followed over HTTP.

mod decide;
mod line;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use herdsman_node::Trust;
use herdsman_watch::{Topology, Verdict, Watch, Why};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use self::decide::{Answer, Decider};
use self::line::{Address, Line};

/// A running Herdsman whose topology is followed instead of watching the nodes from here; or several that watch the
/// same nodes, of which the first that answers is asked.
///
/// ```
/// use std::time::Duration;
/// let remote = herdsman::Remote::new(["http://watch1:8080", "http://watch2:8080"])?
///     .stale_after(Duration::from_secs(3));
/// assert!(herdsman::Remote::new(["watch1"]).is_err());
/// # Ok::<(), herdsman::RemoteError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Remote {
    addresses: Vec<Address>,
    limits: Limits,
}

/// A running Herdsman cannot be followed at this address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// There is nothing to follow.
    #[error("no address of a running Herdsman is given; give at least one")]
    NoAddress,
    /// It is not an address.
    #[error(
        "`{0}` is not the address of a Herdsman, expected http://HOST:PORT or https://HOST:PORT"
    )]
    Url(String),
    /// It has a user or a password.
    #[error("the address of a Herdsman has a user or password in it, but its API takes none")]
    Login,
    /// It is HTTPS, and nothing says whom to trust.
    #[error("`{0}` needs trusted certificates; use Remote::with_certificates")]
    NoTrust(String),
    /// The certificates cannot be used.
    #[error("{0}")]
    Certificates(String),
}

/// Every bound there is.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Time between two questions.
    interval: Duration,
    /// Bound on connecting and on an answer, each.
    timeout: Duration,
    /// Longest pause while nobody answers.
    backoff: Duration,
    /// How old news may become before nobody is the primary any more.
    stale_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // What half an interval of the watcher itself would add, for a question that costs it microseconds.
            interval: Duration::from_millis(250),
            // Answers come from memory: what takes longer is not going to come.
            timeout: Duration::from_secs(1),
            backoff: Duration::from_secs(1),
            // Long enough to restart a Herdsman, short enough that no promotion is missed for long.
            stale_after: Duration::from_secs(5),
        }
    }
}

impl Remote {
    /// Follows the first that answers of these: `http://HOST:PORT`, port 8080 where none is given.
    ///
    /// # Errors
    /// [`RemoteError`] when there is none, or one is not such an address.
    pub fn new<U: AsRef<str>>(urls: impl IntoIterator<Item = U>) -> Result<Self, RemoteError> {
        Self::build(urls, None)
    }

    /// As [`Remote::new`], also over HTTPS: `https://HOST:PORT`, port 8443 where none is given. The file holds PEM
    /// certificates: of an authority, or the one the API itself shows, which is then trusted under any name.
    ///
    /// # Errors
    /// [`RemoteError`] as for [`Remote::new`], and when the file cannot be used.
    pub fn with_certificates<U: AsRef<str>>(
        urls: impl IntoIterator<Item = U>,
        file: &Path,
    ) -> Result<Self, RemoteError> {
        Self::build(urls, Some(&Trust::of_file(file).map_err(RemoteError::Certificates)?))
    }

    /// As [`Remote::with_certificates`], and shows a certificate of our own, for a Herdsman that asks for one
    /// (`ssl.client_auth`): `cert` and `key` are PEM files.
    ///
    /// # Errors
    /// [`RemoteError`] as for [`Remote::with_certificates`], and when our own files cannot be used.
    pub fn with_identity<U: AsRef<str>>(
        urls: impl IntoIterator<Item = U>,
        file: &Path,
        cert: &Path,
        key: &Path,
    ) -> Result<Self, RemoteError> {
        let trust = Trust::of_file(file).and_then(|trust| trust.showing(cert, key));
        Self::build(urls, Some(&trust.map_err(RemoteError::Certificates)?))
    }

    /// Time between two questions. Default 250 ms; not less than 10 ms.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.limits.interval = interval.max(Duration::from_millis(10));
        self.limits.backoff = self.limits.backoff.max(self.limits.interval);
        self
    }

    /// Bound on making a connection and on an answer, each. Default 1 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.limits.timeout = timeout;
        self
    }

    /// How old news may become: when no Herdsman has answered for longer, nobody counts as the primary any more until
    /// one does. Default 5 s.
    #[must_use]
    pub fn stale_after(mut self, bound: Duration) -> Self {
        self.limits.stale_after = bound;
        self
    }

    /// Begins to follow, until `stop` is cancelled.
    pub(crate) fn start(&self, runtime: &Handle, stop: CancellationToken) -> Watch {
        let reason = format!("{} has not answered yet", self.named());
        let verdict = Verdict::None { why: Why::Starting, reason };
        let (sender, receiver) =
            watch::channel(Arc::new(Topology { verdict, ..Topology::default() }));
        let remote = self.clone();
        drop(runtime.spawn(async move {
            tokio::select! {
                () = remote.follow(sender) => {}
                () = stop.cancelled() => {}
            }
        }));
        Watch::detached(receiver)
    }

    fn build<U: AsRef<str>>(
        urls: impl IntoIterator<Item = U>,
        trust: Option<&Trust>,
    ) -> Result<Self, RemoteError> {
        let addresses: Vec<_> = urls
            .into_iter()
            .map(|url| Address::new(url.as_ref(), trust))
            .collect::<Result<_, _>>()?;
        if addresses.is_empty() {
            return Err(RemoteError::NoAddress);
        }
        Ok(Self { addresses, limits: Limits::default() })
    }

    fn named(&self) -> String {
        let names: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
        names.join(" or ")
    }

    /// Publishes what the servers say, and that they say nothing.
    async fn follow(&self, topology: watch::Sender<Arc<Topology>>) {
        // One place: an answer that waits is older than the next one.
        let (news, mut inbox) = mpsc::channel(1);
        let asking =
            Asking { remote: self, lines: Vec::new(), current: 0, pause: self.limits.interval };
        let deciding = async {
            let begin = Instant::now();
            let mut decider = Decider::new(self.limits.stale_after);
            let mut problem = "the question has not been answered yet".to_owned();
            loop {
                let deadline = decider.deadline();
                let silence = async {
                    match deadline {
                        Some(deadline) => sleep_until(begin + deadline).await,
                        None => std::future::pending().await,
                    }
                };
                let change = tokio::select! {
                    told = inbox.recv() => match told {
                        Some(Ok(answer)) => decider.answer(answer, begin.elapsed()),
                        Some(Err(problems)) => { problem = problems; None }
                        None => return,
                    },
                    () = silence => decider.silence(begin.elapsed(), &problem),
                };
                if let Some(change) = change {
                    tracing::debug!(verdict = %change.verdict, "the followed topology changed");
                    topology.send_replace(Arc::new(change));
                }
            }
        };
        tokio::select! {
            () = asking.run(news) => {}
            () = deciding => {}
        }
    }
}

/// What one round of questions brought: an answer, or why there is none.
type News = Result<Answer, String>;

/// The edge: questions in turn, one server after the other until one answers.
struct Asking<'a> {
    remote: &'a Remote,
    lines: Vec<Option<Line>>,
    /// The server that answered last.
    current: usize,
    pause: Duration,
}

impl Asking<'_> {
    async fn run(mut self, news: mpsc::Sender<News>) {
        self.lines.resize_with(self.remote.addresses.len(), || None);
        loop {
            let round = self.round().await;
            self.pause = match &round {
                Ok(_) => self.remote.limits.interval,
                Err(_) => (self.pause * 2).min(self.remote.limits.backoff),
            };
            if news.send(round).await.is_err() {
                return;
            }
            sleep(self.pause.mul_f64(0.8 + 0.4 * fastrand::f64())).await;
        }
    }

    async fn round(&mut self) -> News {
        let (count, first) = (self.remote.addresses.len(), self.current);
        let mut problems = Vec::new();
        for server in (0..count).map(|offset| (first + offset) % count) {
            match self.ask(server).await {
                Ok(answer) => {
                    self.current = server;
                    return Ok(answer);
                }
                Err(problem) => problems.push(problem),
            }
        }
        Err(problems.join("; "))
    }

    async fn ask(&mut self, server: usize) -> News {
        let (Some(address), Some(line)) =
            (self.remote.addresses.get(server), self.lines.get_mut(server))
        else {
            return Err("there is no such server".to_owned());
        };
        let bound = self.remote.limits.timeout;
        let failed = |problem: String| format!("{address}: {problem}");
        let late = |what: &str| format!("{what} within {bound:?}");
        if let Some(mut kept) = line.take() {
            match timeout(bound, address.ask(&mut kept)).await {
                Ok(Ok(topology)) => {
                    *line = Some(kept);
                    return Ok(Answer { server, first: false, topology });
                }
                // It may have ended since: that is told by the first question over it, and no news.
                Ok(Err(_)) => {}
                Err(_) => return Err(failed(late("no answer"))),
            }
        }
        let opened = timeout(bound, address.connect()).await;
        let mut opened = opened.unwrap_or_else(|_| Err(late("no connection"))).map_err(failed)?;
        let answered = timeout(bound, address.ask(&mut opened)).await;
        let topology = answered.unwrap_or_else(|_| Err(late("no answer"))).map_err(failed)?;
        *line = Some(opened);
        Ok(Answer { server, first: true, topology })
    }
}

#[cfg(test)]
mod tests;
