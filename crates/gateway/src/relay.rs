//! The edge of a session: two sockets, one task. Bytes go in and out here; what they mean is decided in `session`.

mod buffers;
mod guard;
mod transfer;
mod watch;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use herdsman::classify::Classifier;
use tokio::io::AsyncWriteExt;
use tokio::time::{Duration, Instant, timeout, timeout_at};

use crate::checkout::{self, Need};
use crate::client::{Card, Order, State};
use crate::config::{PoolMode, Target, WriteGuard};
use crate::herd::Causal;
use crate::listen::{Client, ClientStream};
use crate::pool::{Lease, Rules};
use crate::session::{After, Elsewhere, Session, Told};
use crate::shared::Shared;
use crate::wire::Problem;
use crate::wire::error::code;
use buffers::Work;
use transfer::Event;

/// How often a read is asked of yet another node.
const RETRIES: usize = 3;
/// How long a client that is sent away may take to read why.
const FAREWELL: Duration = Duration::from_secs(2);

/// Serves a client until it leaves.
pub(crate) async fn serve(client: Client, shared: Arc<Shared>) {
    let rules = client.card.pools.rules.load_full();
    let mut work = Work::borrow();
    work.input.put(&client.unread);
    let classifier = shared.classifiers.of(&rules.dbname);
    let mut relay = Relay {
        classifier,
        stream: client.stream,
        session: Session::new(client.settings, rules.pool.mode == PoolMode::Session),
        card: client.card,
        shared,
        rules,
        lease: None,
        work: Some(work),
        target: client.target,
        causal: Causal::default(),
        worker: client.worker,
        tried: Vec::new(),
        began: None,
        stuck: Stuck::Not,
        client_quiet: false,
        server_quiet: false,
        unheard: false,
        same_wake: false,
        slow: watch::SlowWatch::default(),
        logs_slow: false,
        guard: None,
        guard_failed: None,
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
    lease: Option<Lease>,
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
    /// Since this task was woken, the client has had nothing more to say; and its server.
    client_quiet: bool,
    server_quiet: bool,
    /// The server has said more than was looked at.
    unheard: bool,
    /// The task has not waited since it was woken, so what was quiet still is.
    same_wake: bool,
    /// How long the statement under way takes, where that is logged.
    slow: watch::SlowWatch,
    logs_slow: bool,
    /// What is checked with writes on the server at hand.
    guard: Option<guard::Check>,
    /// Since when that has failed each time.
    guard_failed: Option<guard::Failures>,
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

    /// Gets a server for what the client has said.
    async fn lease(&mut self) -> Option<End> {
        let rules = self.card.pools.rules.load();
        if !Arc::ptr_eq(&rules, &self.rules) {
            self.rules = Arc::clone(&rules);
        }
        drop(rules);
        self.logs_slow = self.shared.config.load().slow_query.is_some();
        let needs = self.session.needs();
        let mut need = Need {
            want: needs.want,
            target: needs.target.as_ref().or(self.target.as_ref()),
            causal: &mut self.causal,
            settings: self.session.settings(),
            tried: &self.tried,
            worker: self.worker,
        };
        let pinned = self.session.pinned().is_some();
        if pinned && need.target.is_none() && self.rules.target == Target::Split {
            need.want = herdsman::policy::Want::Write;
        }
        let mut waited = false;
        let mut got = checkout::at_once(&self.shared, &self.card.pools, &mut need);
        if let Ok(None) = got {
            waited = true;
            self.card.enter(State::Waiting, self.shared.clock.now());
            let waiting = checkout::wait(&self.shared, &self.card.pools, &mut need, &self.card);
            let patience = poll_client(&mut self.stream, self.work.as_deref_mut(), &self.card);
            got = tokio::select! {
                biased;
                got = waiting => got.map(Some),
                end = patience => return Some(end),
                () = self.card.cancel.asked() => {
                    Err(Problem::new(code::CANCELLED, "cancelled while waiting for a connection"))
                }
            };
        }
        let mut lease = match got {
            Ok(Some(lease)) => lease,
            Ok(None) => return None,
            Err(problem) => {
                self.refuse(&problem);
                return None;
            }
        };
        if lease.server.settings.id != self.session.settings().id
            && !self.session.settings().harmless()
        {
            waited = true;
            if let Err(problem) = lease.server.apply(self.session.settings()).await {
                drop(lease);
                self.refuse(&Problem::new(code::SYSTEM, problem.to_string()));
                return None;
            }
        }
        if self.rules.write_guard != WriteGuard::Off
            && lease.writer
            && !self.renew_guard(lease.pool.node, lease.epoch).await
        {
            let left = self.shared.herd.epoch(lease.pool.node) != lease.epoch;
            lease.give_back(self.worker, self.shared.clock.now());
            if left {
                // It is looked for anew.
                return None;
            }
            self.refuse(
                &Problem::new(
                    code::CANNOT_CONNECT_NOW,
                    "nothing may be written: the write guard does not know enough of the primary yet",
                )
                .hint("try again; `herdsman status` says who is primary"),
            );
            return None;
        }
        let pending = self.work.as_ref().map_or(0, |work| work.out.to_client.len());
        self.session.attach(pending);
        self.card.cancel.set(Some(Arc::clone(&lease.server.identity)));
        let node = u32::try_from(lease.server.identity.node).unwrap_or(u32::MAX - 1);
        self.card.node.store(node + 1, Ordering::Relaxed);
        self.card.enter(State::Active, self.shared.clock.now());
        self.began = Some(Instant::now());
        self.lease = Some(lease);
        self.stuck = Stuck::Not;
        self.server_quiet = false;
        self.unheard = false;
        self.same_wake = !waited && self.rules.write_guard == WriteGuard::Off;
        None
    }

    /// Finds out what is to be checked with writes on `node`, for as long as writes are held and it is the primary.
    async fn renew_guard(&mut self, node: usize, epoch: u64) -> bool {
        let first = self.guard_failed.map_or_else(Instant::now, |failed| failed.first);
        let until = first + self.shared.config.load().hold;
        let mut changes = self.shared.herd.changes();
        loop {
            self.guard = guard::Check::now(&self.shared.herd, node);
            if self.guard.as_ref().is_some_and(|check| check.is_news(self.guard_failed)) {
                return true;
            }
            if self.shared.herd.epoch(node) != epoch {
                return false;
            }
            if !matches!(timeout_at(until, changes.changed()).await, Ok(Ok(()))) {
                return false;
            }
        }
    }

    /// The check that went with a write has failed, so nothing was done: it is held until the primary is sure again.
    fn guarded(&mut self) {
        if let Some(node) = self.lease.as_ref().map(|lease| lease.server.identity.node) {
            self.shared.herd.guard_failed(node);
        }
        let last = Instant::now();
        let first = self.guard_failed.map_or(last, |failed| failed.first);
        self.guard_failed = Some(guard::Failures { first, last });
        self.drop_lease();
        self.rewind();
    }

    /// A client that keeps its connection begins nothing new while writes are held.
    async fn wait_out_hold(&mut self) {
        let until = Instant::now() + self.shared.config.load().hold;
        let mut changes = self.shared.herd.changes();
        while self.shared.herd.is_held() {
            if !matches!(timeout_at(until, changes.changed()).await, Ok(Ok(()))) {
                self.refuse(
                    &Problem::new(code::CANNOT_CONNECT_NOW, "nothing may be written now: held")
                        .hint("try again when the hold is over"),
                );
                return;
            }
        }
    }

    /// The server has answered everything.
    fn done(&mut self) {
        let Some(lease) = self.lease.as_ref() else { return };
        let now = self.shared.clock.now();
        self.tried.clear();
        self.guard_failed = None;
        if let Some(work) = &mut self.work {
            work.kept.clear();
        }
        if self.session.take_wrote() {
            // Where the client has a say in it, the careful position counts.
            let early = self.session.take_early() || lease.server.commits_early;
            self.shared.herd.wrote(&mut self.causal, early);
        }
        let stats = &lease.pool.stats;
        if let Some(began) = self.began.take() {
            let micros = began.elapsed().as_micros();
            stats.transaction.record(u64::try_from(micros).unwrap_or(u64::MAX));
        }
        stats.transactions.fetch_add(1, Ordering::Relaxed);
        let queries = std::mem::take(&mut self.session.queries);
        stats.queries.fetch_add(queries, Ordering::Relaxed);
        stats.count_prepared(std::mem::take(&mut self.session.prepared));
        self.card.transactions.fetch_add(1, Ordering::Relaxed);
        self.card.queries.fetch_add(queries, Ordering::Relaxed);
        self.card.prepared.store(self.session.prepared_statements(), Ordering::Relaxed);
        self.stuck = Stuck::Not;
        self.card.enter(State::Idle, now);
        if self.session.pinned().is_some() {
            return;
        }
        let clean = self.session.leaves_clean();
        self.card.cancel.set(None);
        self.card.node.store(0, Ordering::Relaxed);
        self.session.detach();
        if let Some(lease) = self.lease.take()
            && clean
        {
            lease.give_back(self.worker, now);
        }
    }

    /// Everything that was asked has been answered.
    fn answered(&mut self) {
        if self.slow.is_on() {
            let seats = self.shared.herd.seats();
            let node = self.lease.as_ref().and_then(|lease| seats.get(lease.pool.node));
            let node = node.map_or("?", |seat| seat.name.as_str());
            self.slow.end(self.shared.config.load().slow_query, node, &self.card.pools);
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

/// While a client waits for a server: whether it leaves, or is told to.
async fn poll_client(stream: &mut ClientStream, work: Option<&mut Work>, card: &Card) -> End {
    let mut work = work;
    poll_fn(|cx| transfer::poll_leaving(stream, work.as_deref_mut(), card, cx)).await
}
