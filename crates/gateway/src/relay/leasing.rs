//! A server for a client's transaction: how it gets one, may go on with it, and gives it back.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use herdsman::policy::Want;
use tokio::time::{Instant, timeout_at};
use tracing::field::Empty;

use super::buffers::Work;
use super::socket::{Ears, Socket as _};
use super::{End, Relay, Stuck, guard, transfer};
use crate::checkout::{self, Need};
use crate::client::{Card, State};
use crate::config::{Target, WriteGuard};
use crate::listen::ClientStream;
use crate::pool::Lease;
use crate::stats::{self, Deeds};
use crate::wire::Problem;
use crate::wire::error::code;

/// What the client's next transaction needs. Of the relay's own parts, so that the rest of it stays free.
macro_rules! need {
    ($relay:expr) => {{
        let needs = $relay.session.needs();
        let target = needs.target.as_ref().or($relay.target.as_ref());
        // Who keeps a connection keeps the writer's.
        let keeps = $relay.session.pinned().is_some() && $relay.rules.target == Target::Split;
        Need {
            want: if keeps && target.is_none() { Want::Write } else { needs.want },
            target,
            causal: &mut $relay.causal,
            settings: $relay.session.settings(),
            tried: &$relay.tried,
            worker: $relay.worker,
            last: $relay.last.take(),
        }
    }};
}

impl Relay {
    /// Gets a server for what the client has said, where that takes no waiting. `false`: [`Relay::lease`] is to see to it.
    pub(super) fn lease_at_once(&mut self) -> bool {
        if tracing::enabled!(target: "otel", tracing::Level::DEBUG) {
            return false;
        }
        self.follow_rules();
        if self.rules.write_guard != WriteGuard::Off {
            return false;
        }
        let mut need = need!(self);
        match checkout::at_once(&self.shared, &self.card.pools, &self.rules, &mut need) {
            Ok(Some(lease)) if !self.session.settings().suit(&lease.server.settings) => {
                lease.give_back(self.worker, self.shared.clock.now());
                false
            }
            Ok(Some(lease)) => {
                self.hold(lease);
                self.same_wake = false;
                true
            }
            Ok(None) => false,
            Err(problem) => {
                self.refuse(&problem);
                true
            }
        }
    }

    /// What the configuration says now.
    fn follow_rules(&mut self) {
        let revision = self.card.pools.revision();
        if revision != self.revision {
            self.revision = revision;
            self.rules = self.card.pools.rules.load_full();
        }
    }

    /// Gets a server for what the client has said.
    pub(super) async fn lease(&mut self) -> Option<End> {
        self.follow_rules();
        let mut need = need!(self);
        let pinned = self.session.pinned().is_some();
        // Where it went and why, for those who collect spans. Nothing of what the client said.
        let span = tracing::debug_span!(
            target: "otel",
            parent: &self.span,
            "gateway route",
            herdsman.want = ?need.want,
            herdsman.target = need.target.map(tracing::field::debug),
            herdsman.pinned = pinned,
            herdsman.node = Empty,
            herdsman.writer = Empty,
            herdsman.waited = Empty,
            otel.status_code = Empty,
            otel.status_description = Empty,
        );
        let mut waited = false;
        let mut got = checkout::at_once(&self.shared, &self.card.pools, &self.rules, &mut need);
        if let Ok(None) = got {
            waited = true;
            self.client_ears.armed = false;
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
        match &got {
            Ok(Some(lease)) => {
                span.record("herdsman.node", &*lease.pool.name);
                span.record("herdsman.writer", lease.writer);
                span.record("herdsman.waited", waited);
            }
            Ok(None) => {}
            Err(problem) => {
                span.record("otel.status_code", "ERROR");
                span.record("otel.status_description", problem.code);
            }
        }
        drop(span);
        match got {
            Ok(Some(lease)) => self.take_up(lease, waited).await,
            Ok(None) => {}
            Err(problem) => self.refuse(&problem),
        }
        None
    }

    /// Goes on with a server, once it has the client's settings and is known well enough to be written to. `waited` says that
    /// the task has.
    async fn take_up(&mut self, mut lease: Lease, mut waited: bool) {
        if !self.session.settings().suit(&lease.server.settings) {
            waited = true;
            if let Err(problem) = lease.server.apply(self.session.settings()).await {
                drop(lease);
                self.refuse(&Problem::new(code::SYSTEM, problem.to_string()));
                return;
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
                return;
            }
            self.refuse(
                &Problem::new(
                    code::CANNOT_CONNECT_NOW,
                    "nothing may be written: the write guard does not know enough of the primary yet",
                )
                .hint("try again; `herdsman status` says who is primary"),
            );
            return;
        }
        self.hold(lease);
        self.same_wake = !waited && self.rules.write_guard == WriteGuard::Off;
    }

    /// Goes on with a server that is ready.
    fn hold(&mut self, lease: Lease) {
        let pending = self.work.as_ref().map_or(0, |work| work.out.to_client.len());
        self.session.attach(pending);
        self.card.cancel.set(Some(Arc::clone(&lease.server.identity)));
        let node = u32::try_from(lease.server.identity.node).unwrap_or(u32::MAX - 1);
        self.card.node.store(node + 1, Ordering::Relaxed);
        self.card.enter(State::Active, self.shared.clock.now());
        self.began = Some(Instant::now());
        // It is asked nothing yet; what it says of itself is found when it is listened to. Under TLS only a try to receive
        // has the task woken.
        let quiet = lease.server.stream.plain().is_some();
        self.server_ears = Ears { quiet, armed: false };
        self.lease = Some(lease);
        self.stuck = Stuck::Not;
        self.unheard = false;
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
    pub(super) fn guarded(&mut self) {
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
    pub(super) async fn wait_out_hold(&mut self) {
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
    pub(super) fn done(&mut self) {
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
        let micros = self.began.take().map(|began| began.elapsed().as_micros());
        let queries = std::mem::take(&mut self.session.queries);
        let deeds = Deeds {
            transaction: Some(micros.map(|micros| u64::try_from(micros).unwrap_or(u64::MAX))),
            queries,
            prepared: std::mem::take(&mut self.session.prepared),
            ..self.flow.deeds()
        };
        stats::add(&self.card.transactions, 1);
        stats::add(&self.card.queries, queries);
        self.card.prepared.store(self.session.prepared_statements(), Ordering::Relaxed);
        self.stuck = Stuck::Not;
        self.card.enter(State::Idle, now);
        if self.session.pinned().is_some() {
            lease.pool.count(deeds);
            return;
        }
        let clean = self.session.leaves_clean();
        self.card.cancel.set(None);
        self.card.node.store(0, Ordering::Relaxed);
        self.session.detach();
        match self.lease.take() {
            Some(lease) if clean => {
                self.last = Some(lease.give_back_after(self.worker, now, deeds));
            }
            Some(lease) => lease.pool.count(deeds),
            None => {}
        }
    }
}

/// While a client waits for a server: whether it leaves, or is told to.
async fn poll_client(stream: &mut ClientStream, work: Option<&mut Work>, card: &Card) -> End {
    let mut work = work;
    poll_fn(|cx| transfer::poll_leaving(stream, work.as_deref_mut(), card, cx)).await
}
