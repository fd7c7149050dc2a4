//! The edge of a session: two sockets, one task. Bytes go in and out here; what they mean is decided in `session`.

mod buffers;
mod guard;
mod leasing;
mod socket;
mod transfer;
mod watch;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use herdsman::classify::Classifier;
use tokio::io::AsyncWriteExt;
use tokio::time::{Duration, Instant, timeout};

use crate::client::{Card, Order, State};
use crate::config::{PoolMode, Target};
use crate::herd::Causal;
use crate::listen::{Client, ClientStream};
use crate::pool::{Lease, Pool, Rules};
use crate::session::{After, Elsewhere, Session, Told};
use crate::shared::Shared;
use crate::wire::Problem;
use crate::wire::error::code;
use buffers::Work;
use socket::Ears;
use transfer::{Event, Flow};

/// How often a read is asked of yet another node.
const RETRIES: usize = 3;
/// How long a client that is sent away may take to read why.
const FAREWELL: Duration = Duration::from_secs(2);

/// Serves a client until it leaves.
pub(crate) async fn serve(client: Client, shared: Arc<Shared>) {
    let revision = client.card.pools.revision();
    let rules = client.card.pools.rules.load_full();
    let mut work = Work::borrow();
    work.input.put(&client.unread);
    let classifier = shared.classifiers.of(&rules.dbname);
    let span = tracing::debug_span!(
        target: "otel",
        parent: None,
        "gateway session",
        otel.kind = "server",
        db.system.name = "postgresql",
        db.namespace = &*rules.dbname,
    );
    let mut relay = Relay {
        classifier,
        stream: client.stream,
        session: Session::new(client.settings, rules.pool.mode == PoolMode::Session),
        card: client.card,
        shared,
        rules,
        revision,
        lease: None,
        last: None,
        work: Some(work),
        target: client.target,
        causal: Causal::default(),
        worker: client.worker,
        tried: Vec::new(),
        began: None,
        stuck: Stuck::Not,
        registered: false,
        client_ears: Ears::default(),
        server_ears: Ears::default(),
        flow: Flow::default(),
        unheard: false,
        same_wake: false,
        slow: watch::SlowWatch::default(),
        guard: None,
        guard_failed: None,
        span,
    };
    relay.card.enter(State::Idle, relay.shared.clock.now());
    let farewell = relay.run().await;
    relay.leave(farewell).await;
}

/// What the client's bytes wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stuck {
    Not,
    /// More of them.
    Bytes,
    /// The server has to finish.
    Server,
}

struct Relay {
    classifier: Arc<Classifier>,
    stream: ClientStream,
    session: Session,
    card: Arc<Card>,
    shared: Arc<Shared>,
    rules: Arc<Rules>,
    /// Of the rules.
    revision: u64,
    lease: Option<Lease>,
    /// The pool of the last one.
    last: Option<Arc<Pool>>,
    /// Buffers, while there is something in them.
    work: Option<Box<Work>>,
    /// Where everything goes, by the client's own wish.
    target: Option<Target>,
    causal: Causal,
    worker: usize,
    /// Nodes that have failed the statement under way.
    tried: Vec<usize>,
    /// When the server connection was taken.
    began: Option<Instant>,
    stuck: Stuck,
    /// The card has the task's waker, unless somebody has taken it.
    registered: bool,
    /// Whether client and server have more to say, as far as was found out since the task was woken.
    client_ears: Ears,
    server_ears: Ears,
    flow: Flow,
    /// The server has said more than was looked at.
    unheard: bool,
    /// The task has not waited since it was woken, so what was quiet still is.
    same_wake: bool,
    /// How long the statement under way takes, where that is logged.
    slow: watch::SlowWatch,
    /// What is checked with writes on the server at hand.
    guard: Option<guard::Check>,
    /// Since when that has failed each time.
    guard_failed: Option<guard::Failures>,
    /// All of it, for those who collect spans.
    span: tracing::Span,
}

impl Relay {
    /// Until the client leaves (`None`) or is sent away.
    async fn run(&mut self) -> Option<Problem> {
        loop {
            match poll_fn(|cx| self.poll(cx)).await {
                Event::Need => {
                    if let Some(problem) = self.lease().await {
                        return problem.fatal;
                    }
                }
                Event::Done => {
                    self.answered();
                    self.done();
                    self.same_wake = true;
                }
                Event::Gone => return None,
                Event::End(problem) => return Some(problem),
                Event::Elsewhere(why) => self.elsewhere(why),
                Event::Lost(told) => {
                    if let Some(problem) = self.lost(&told) {
                        return problem.fatal;
                    }
                }
                Event::Guarded => self.guarded(),
                Event::Held => self.wait_out_hold().await,
                Event::Poisoned => {
                    return Some(
                        Problem::new(
                            code::SYSTEM,
                            "a setting of this session was refused by the server, so what followed it may have gone wrong",
                        )
                        .hint("connect again; look whether the last statement did what it should"),
                    );
                }
                Event::Ordered(order) => {
                    if let Some(problem) = self.ordered(order) {
                        return problem.fatal;
                    }
                }
            }
        }
    }

    /// Everything that was asked has been answered.
    fn answered(&mut self) {
        if self.slow.is_on() {
            let seats = self.shared.herd.seats();
            let node = self.lease.as_ref().and_then(|lease| seats.get(lease.pool.node));
            let node = node.map_or("?", |seat| seat.name.as_str());
            self.slow.end(self.rules.slow_query, node, &self.card.pools);
        }
    }

    /// Another node is asked what this one would not answer.
    fn elsewhere(&mut self, why: Elsewhere) {
        if let Some(node) = self.lease.as_ref().map(|lease| lease.server.identity.node) {
            self.tried.push(node);
        }
        // The rest of its answer is still to come: nobody else can use the connection before.
        self.drop_lease();
        self.rewind();
        if why == Elsewhere::Writes {
            self.learn();
        }
        if why == Elsewhere::Writes || self.tried.len() >= RETRIES {
            self.session.must_write();
        }
    }

    /// What a reader refused is remembered as a write.
    fn learn(&mut self) {
        if let Some(work) = &self.work
            && let Some(text) = self.session.text_of(work.input.bytes())
        {
            self.classifier.learn_write(text);
        }
    }

    /// The connection to the server is gone.
    fn lost(&mut self, told: &Told) -> Option<End> {
        let node = self.lease.as_ref().map(|lease| lease.server.identity.node);
        let name = node
            .and_then(|node| self.shared.herd.seats().get(node).map(|seat| seat.name.to_string()));
        if let Some(lease) = &self.lease {
            lease.pool.stats.errors.fetch_add(1, Ordering::Relaxed);
        }
        self.drop_lease();
        if let Some(node) = node {
            self.shared.herd.suspect(node);
            if self.session.may_go_elsewhere() && self.tried.len() < RETRIES {
                self.tried.push(node);
                self.rewind();
                return None;
            }
        }
        self.tried.clear();
        let work = self.work.get_or_insert_with(Work::borrow);
        work.server_sent = 0;
        work.server_begun = false;
        work.out.to_server.clear();
        work.kept.clear();
        self.stuck = Stuck::Not;
        match self.session.lose(name.as_deref().unwrap_or("?"), told, &mut work.out) {
            After::GoesOn => {
                self.card.enter(State::Idle, self.shared.clock.now());
                None
            }
            After::SentAway => Some(End { fatal: None }),
        }
    }

    /// What has been sent is to be sent again.
    fn rewind(&mut self) {
        let keep = self.session.rewind();
        if let Some(work) = &mut self.work {
            work.out.to_client.truncate(keep.max(work.client_sent));
            work.out.to_server.clear();
            work.server_sent = 0;
            work.server_begun = false;
            work.input_again();
        }
        self.stuck = Stuck::Not;
    }

    fn drop_lease(&mut self) {
        if let Some(lease) = &self.lease {
            lease.pool.count(self.flow.deeds());
        }
        self.card.cancel.set(None);
        self.card.node.store(0, Ordering::Relaxed);
        self.began = None;
        self.lease = None;
    }

    /// There is no server for what the client has said.
    fn refuse(&mut self, problem: &Problem) {
        let work = self.work.get_or_insert_with(Work::borrow);
        self.session.refuse(problem, work.input.bytes(), &mut work.out);
        self.tried.clear();
        work.kept.clear();
        self.stuck = Stuck::Not;
        self.card.enter(State::Idle, self.shared.clock.now());
    }

    /// Somebody wants something of the client.
    fn ordered(&mut self, order: Order) -> Option<End> {
        let problem = match order {
            Order::None => return None,
            Order::Drain => Problem::new(code::SHUTDOWN, "the gateway is shutting down"),
            Order::End => Problem::new(code::SHUTDOWN, "an administrator ended this session"),
            Order::Idle => Problem::new(code::IDLE_TOO_LONG, "idle for too long")
                .hint("see `client_idle_timeout`"),
            Order::IdleInTransaction => {
                Problem::new(code::IDLE_TOO_LONG, "idle in a transaction for too long")
                    .hint("see `transaction_idle_timeout`")
            }
            Order::QueryTimeout => {
                self.card.obeyed(Order::QueryTimeout);
                self.lease.as_ref()?;
                let words = "the statement took longer than `query_timeout`, and cancelling it did not help";
                return self.lost(&Told { code: None, words: words.to_owned(), unsent: false });
            }
        };
        Some(End { fatal: Some(problem) })
    }

    /// The client is gone, or is sent away with a problem.
    async fn leave(mut self, problem: Option<Problem>) {
        self.card.cancel.set(None);
        let clean = self.session.is_quiet() && !self.session.in_transaction();
        if let Some(lease) = self.lease.take()
            && clean
            && self.session.leaves_clean()
        {
            self.session.detach();
            lease.reset_and_give_back(self.worker, self.shared.clock.now());
        }
        let mut work = self.work.take().unwrap_or_else(Work::borrow);
        if let Some(problem) = &problem {
            problem.put_fatal(&mut work.out.to_client);
        }
        let rest = work.out.to_client.get(work.client_sent..).unwrap_or_default();
        let farewell = async {
            self.stream.write_all(rest).await?;
            self.stream.shutdown().await
        };
        let _whether_it_heard = timeout(FAREWELL, farewell).await;
        work.give_back();
    }
}

/// The session ends.
struct End {
    fatal: Option<Problem>,
}
