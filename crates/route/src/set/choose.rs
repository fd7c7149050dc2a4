//! From a statement to a connection on the right node, and what to do when that fails.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument, Span, field};

use super::{Hand, Inner, ReplicaSet};
use crate::Error;
use crate::attempt::{self, Fault, Next, Phase, Repeat, fault};
use crate::classify::Kind;
use crate::config::Fallback;
use crate::lease::Lease;
use crate::member::Member;
use crate::operation::{Operation, Routed};
use crate::policy::balance::{self, Load};
use crate::policy::{Choice, Seat, Want};
use crate::session::{Session, SessionToken, WriteMark};

/// How long to wait, before a statement is sent again to a node that has failed it, for the news that it is gone: its
/// pulse is felt at once, which takes a round trip or a refused connection.
const PAUSE: Duration = Duration::from_millis(100);

/// One statement's way to its result.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// What kind of node it is to be sent to.
    pub(super) want: Want,
    /// Whether it may be sent twice.
    repeat: Repeat,
    /// What its session has written and a reader must have replayed.
    pub(super) token: Option<SessionToken>,
    /// Nodes it has failed on.
    tried: Vec<usize>,
    /// How many more times it may be tried.
    left: u32,
    /// The node of the present try.
    node: usize,
    on_writer: bool,
    /// How long it may wait for a node in all, and since when it does.
    pub(super) patience: Duration,
    waiting_since: Option<Instant>,
}

impl Attempt {
    fn may_be_sent_again(&self) -> bool {
        self.left > 0 || self.want == Want::Read
    }

    /// Whether it is sent as something that may write.
    fn writes(&self) -> bool {
        self.repeat != Repeat::Read
    }
}

impl ReplicaSet {
    /// A new attempt at something that reads or writes.
    pub(crate) fn attempt(&self, want: Want) -> Attempt {
        let repeat = match want {
            Want::Read => Repeat::Read,
            Want::Write if self.hand.idempotent => Repeat::Idempotent,
            Want::Write => Repeat::Never,
        };
        Attempt {
            want,
            repeat,
            token: None,
            tried: Vec::new(),
            left: self.inner.settings.retries,
            node: 0,
            on_writer: false,
            patience: self.inner.settings.writer_wait,
            waiting_since: None,
        }
    }

    /// A new attempt at this statement. What is a plain read may be repeated also where it is sent to the writer.
    pub(crate) fn attempt_at(&self, sql: &str) -> Attempt {
        let plain = self.inner.classifier.classify(sql).kind == Kind::Read;
        let mut attempt = self.attempt(match self.hand.node {
            Some(want) => want,
            None if plain => Want::Read,
            None => Want::Write,
        });
        if plain {
            attempt.repeat = Repeat::Read;
        } else if attempt.want == Want::Read {
            attempt.repeat = if self.hand.idempotent { Repeat::Idempotent } else { Repeat::Never };
        }
        attempt
    }

    /// Runs a statement to its end.
    pub(crate) async fn run<O: Operation>(
        &self,
        operation: &O,
        query: Routed,
    ) -> Result<O::Output, sqlx::Error> {
        let attempt = self.attempt_at(query.text());
        self.run_at(operation, query, attempt).await
    }

    /// Runs a statement to its end, by an attempt that is already made.
    pub(crate) async fn run_at<O: Operation>(
        &self,
        operation: &O,
        query: Routed,
        attempt: Attempt,
    ) -> Result<O::Output, sqlx::Error> {
        let span = tracing::debug_span!("statement", want = ?attempt.want, node = field::Empty);
        self.follow(operation, query, attempt).instrument(span).await
    }

    async fn follow<O: Operation>(
        &self,
        operation: &O,
        query: Routed,
        mut attempt: Attempt,
    ) -> Result<O::Output, sqlx::Error> {
        let mut query = Some(query);
        loop {
            let lease = self.lease(&mut attempt).await?;
            Span::current().record("node", field::display(&lease.epoch().node));
            let again = attempt.may_be_sent_again();
            let Some(this) = (if again { query.clone() } else { query.take() }) else {
                return Err(Error::Closed.into());
            };
            let mark = writing(&attempt);
            let error = match lease.run(operation, this).await {
                Ok(output) => {
                    mark.inspect_answer();
                    return Ok(output);
                }
                Err(error) => error,
            };
            let text = query.as_ref().map(Routed::text);
            self.after_error(&mut attempt, error, Phase::Sent, mark, text)?;
        }
    }

    /// Takes in an error; returns it, made ours where it is not the statement's own, unless to try again.
    pub(crate) fn after_error(
        &self,
        attempt: &mut Attempt,
        error: sqlx::Error,
        phase: Phase,
        mark: Option<WriteMark>,
        text: Option<&str>,
    ) -> Result<(), sqlx::Error> {
        let fault = fault(&error);
        if fault != Fault::Connection {
            mark.inspect_answer();
        }
        self.hold_against(attempt.node, fault, &error);
        let next = attempt::after(fault, phase, attempt.repeat, attempt.left, attempt.on_writer);
        // The message may hold values; its code does not.
        let code = error.as_database_error().and_then(|error| error.code());
        tracing::debug!(?fault, ?phase, ?next, code = code.as_deref(), "statement failed");
        match next {
            Next::Again => {
                attempt.left = attempt.left.saturating_sub(1);
                attempt.tried.push(attempt.node);
                return Ok(());
            }
            // Whoever wants readers and nothing else does not mean the writer by it.
            Next::OnWriter
                if self.hand.node == Some(Want::Read)
                    && self.inner.settings.fallback == Fallback::Error =>
            {
                return Err(error);
            }
            Next::OnWriter => {
                // It was refused as a whole, so it starts afresh, as the write it is.
                *attempt = self.attempt(Want::Write);
                if let Some(text) = text {
                    self.inner.classifier.learn_write(text);
                }
                return Ok(());
            }
            Next::Hand => return Err(error),
            Next::Lost | Next::Unknown | Next::Busy | Next::Refused => {}
        }
        let Some(member) = self.inner.member(attempt.node) else { return Err(error) };
        let (node, source) = (member.name.clone(), Box::new(error));
        Err(match next {
            Next::Unknown => Error::OutcomeUnknown { node, source },
            Next::Busy => Error::Busy { node, source },
            Next::Refused => Error::ReadOnly { node, source },
            _ => Error::Lost { node, source },
        }
        .into())
    }

    /// Counts an error and, if the node may be gone, has its pulse felt now.
    fn hold_against(&self, node: usize, fault: Fault, error: &sqlx::Error) {
        let Some(member) = self.inner.member(node) else { return };
        let counters = &member.counters;
        if fault == Fault::Caller {
            counters.statement_errors.fetch_add(1, Ordering::Relaxed);
            return;
        }
        counters.errors.fetch_add(1, Ordering::Relaxed);
        counters.note(error);
        if fault == Fault::Connection {
            counters.connection_errors.fetch_add(1, Ordering::Relaxed);
            member.pulse.look_now();
        }
    }

    /// A connection for the attempt's statement, on the node that the policy chooses.
    pub(crate) async fn lease(&self, attempt: &mut Attempt) -> Result<Lease, Error> {
        self.inner.start()?;
        if attempt.want == Want::Read
            && attempt.token.is_none()
            && let Some(session) = Session::current()
        {
            Box::pin(self.respect(&session, attempt)).await;
        }
        loop {
            let node = self.choose(attempt).await?;
            let member = self.inner.member(node).ok_or(Error::Closed)?;
            let error = match member.lease().await {
                Ok(lease) => return Ok(lease),
                Err(error) => error,
            };
            if self.is_closed() {
                return Err(Error::Closed);
            }
            self.after_refusal(attempt, member, error)?;
        }
    }

    /// Takes in why there is no connection to be had; returns it unless to try again.
    ///
    /// Nothing was sent, so another node may be asked, whatever the statement is, and that costs none of its retries: with
    /// a node left that answers, no statement fails. A node whose connections are all in use is not asked twice: the caller
    /// has waited for one as long as it wanted to.
    fn after_refusal(
        &self,
        attempt: &mut Attempt,
        member: &Member,
        error: sqlx::Error,
    ) -> Result<(), Error> {
        // Whatever goes wrong before a statement is sent is not the statement's fault.
        let fault = if fault(&error) == Fault::Busy { Fault::Busy } else { Fault::Connection };
        self.hold_against(attempt.node, fault, &error);
        tracing::debug!(node = %member.name, ?fault, %error, "no connection");
        let again = attempt.tried.contains(&attempt.node);
        if !again {
            attempt.tried.push(attempt.node);
        }
        let another = match self.choose_now(attempt) {
            Choice::Reader(node) | Choice::Writer(node) => !attempt.tried.contains(&node),
            Choice::Wait | Choice::Refuse => false,
        };
        let (node, source) = (member.name.clone(), Box::new(error));
        match fault {
            Fault::Busy if !another => Err(Error::Busy { node, source }),
            Fault::Connection if again && attempt.left == 0 => Err(Error::Lost { node, source }),
            _ => {
                attempt.left = attempt.left.saturating_sub(u32::from(again));
                Ok(())
            }
        }
    }

    /// Chooses a node, waiting for one within the attempt's patience.
    async fn choose(&self, attempt: &mut Attempt) -> Result<usize, Error> {
        let mut paused = attempt.tried.is_empty();
        if paused
            && let choice @ (Choice::Reader(node) | Choice::Writer(node)) = self.choose_now(attempt)
        {
            (attempt.node, attempt.on_writer) = (node, matches!(choice, Choice::Writer(_)));
            return Ok(node);
        }
        loop {
            let mut replanned = self.inner.replanned.subscribe();
            let choice = self.choose_now(attempt);
            let (Choice::Reader(node) | Choice::Writer(node)) = choice else {
                if choice == Choice::Refuse {
                    return Err(self.nobody(attempt));
                }
                let since = *attempt.waiting_since.get_or_insert_with(Instant::now);
                if !self.news(&mut replanned, since + attempt.patience).await? {
                    return Err(self.nobody(attempt));
                }
                continue;
            };
            if !paused && attempt.tried.contains(&node) {
                paused = true;
                self.news(&mut replanned, Instant::now() + PAUSE).await?;
                continue;
            }
            (attempt.node, attempt.on_writer) = (node, matches!(choice, Choice::Writer(_)));
            return Ok(node);
        }
    }

    /// Waits for another plan until `deadline`; returns whether there is one.
    async fn news(
        &self,
        replanned: &mut watch::Receiver<u64>,
        deadline: Instant,
    ) -> Result<bool, Error> {
        tokio::select! {
            changed = timeout_at(deadline, replanned.changed()) => Ok(matches!(changed, Ok(Ok(())))),
            () = self.inner.stop.cancelled() => Err(Error::Closed),
        }
    }

    fn choose_now(&self, attempt: &Attempt) -> Choice {
        let inner = &*self.inner;
        let plan = inner.plan.load();
        let pick = |seats: &[Seat]| inner.pick(seats, attempt.want, self.hand);
        let fallback = inner.settings.fallback;
        let Some(token) = attempt.token else {
            let choice = plan.choose(attempt.want, fallback, &attempt.tried, None, pick);
            // Without the writer to fall back on, a reader that has failed is better than none: it may be back.
            return match choice {
                Choice::Wait | Choice::Refuse if !attempt.tried.is_empty() => {
                    plan.choose(attempt.want, fallback, &[], None, pick)
                }
                choice => choice,
            };
        };
        // A write not yet replayed is on the writer for sure, whatever the fallback for missing readers is.
        let fit = |node| inner.covers(node, &token);
        plan.choose(attempt.want, Fallback::Writer, &attempt.tried, Some(&fit), pick)
    }

    fn nobody(&self, attempt: &Attempt) -> Error {
        let plan = self.inner.plan.load();
        let waited = attempt.waiting_since.map_or(Duration::ZERO, |since| since.elapsed());
        match attempt.want {
            Want::Read => Error::NoReader { reasons: plan.no_reader.clone(), waited },
            Want::Write => Error::NoWriter { reasons: plan.no_writer.clone(), waited },
        }
    }
}

impl Inner {
    fn pick(&self, seats: &[Seat], want: Want, hand: Hand) -> usize {
        if let (Want::Write, Some(key)) = (want, hand.key) {
            return balance::stick(seats, key);
        }
        if let [only] = seats {
            return only.node;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        balance::pick(seats, self.settings.balance, fastrand::u64(..), turn, |node| self.load(node))
    }

    fn load(&self, node: usize) -> Load {
        self.member(node).map_or_else(Load::default, |member| Load {
            in_flight: member.counters.in_flight.load(Ordering::Relaxed),
            latency: member.counters.latency(),
        })
    }
}

impl Lease {
    /// Carries out the statement, unless the node is given up meanwhile.
    async fn run<O: Operation>(
        mut self,
        operation: &O,
        query: Routed,
    ) -> Result<O::Output, sqlx::Error> {
        self.sent();
        let begun = Instant::now();
        let gone = self.epoch().until_gone();
        let result = tokio::select! {
            biased;
            result = operation.run(self.connection()?, query) => result,
            error = gone => Err(error),
        };
        match &result {
            Ok(_) => self.finished(begun),
            Err(error) => self.failed(error),
        }
        result
    }

    /// A statement is about to be sent.
    pub(crate) fn sent(&self) {
        self.epoch().counters.queries.fetch_add(1, Ordering::Relaxed);
    }

    /// It has ended well.
    pub(crate) fn finished(self, begun: Instant) {
        self.epoch().counters.took(begun.elapsed());
        self.done();
    }

    /// It has failed: a broken connection is closed, any other is dropped, which makes sure that it comes to rest.
    pub(crate) fn failed(self, error: &sqlx::Error) {
        if fault(error) == Fault::Connection {
            self.broken();
        }
    }
}

/// Tells the session, if there is one, that something that may write is about to be sent.
pub(crate) fn writing(attempt: &Attempt) -> Option<WriteMark> {
    attempt.writes().then(Session::current).flatten().map(|session| session.writing())
}

/// Reads well where a mark may be missing.
pub(crate) trait Answered {
    /// The server has answered.
    fn inspect_answer(self);
}

impl Answered for Option<WriteMark> {
    fn inspect_answer(self) {
        if let Some(mark) = self {
            mark.answered();
        }
    }
}
