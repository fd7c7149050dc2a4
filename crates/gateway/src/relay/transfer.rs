//! Moving bytes both ways at once, as far as they go without waiting.

use std::cell::Cell;
use std::io;
use std::sync::atomic::AtomicU64;
use std::task::{Context as Wakes, Poll, ready};

use super::buffers::Work;
use super::guard::Check;
use super::socket::{Socket, flush, poll_receive, poll_send, poll_wake, receive};
use super::{End, Relay, Stuck};
use crate::client::{Card, Order, State};
use crate::config::{PoolMode, WriteGuard};
use crate::listen::ClientStream;
use crate::pool::{Pool, Server};
use crate::session::{Context, Elsewhere, Fed, Held, Received, Told};
use crate::stats::{self, Deeds};
use crate::wire::Problem;
use crate::wire::error::code;

/// More than this is not received ahead of what the other side takes.
const AHEAD: usize = 256 << 10;
/// How often bytes are moved on without letting other clients of the thread have a turn.
const ROUNDS: usize = 64;
/// Room for what a server says at once.
const ROOM_SIZE: usize = 16 << 10;

/// Bytes that are counted at once.
const FLOW: u64 = 64 << 10;

/// Bytes to and from a server that have not been counted yet.
#[derive(Debug, Default)]
pub(super) struct Flow {
    to_server: u64,
    to_client: u64,
}

impl Flow {
    /// What is to be counted, which is then forgotten.
    #[inline]
    pub(super) fn deeds(&mut self) -> Deeds {
        let Self { to_server, to_client } = std::mem::take(self);
        Deeds { to_server, to_client, ..Deeds::default() }
    }

    /// Counts them if there are many.
    #[inline]
    fn settle(&mut self, pool: &Pool) {
        if self.to_server + self.to_client > FLOW {
            pool.count(self.deeds());
        }
    }
}

thread_local! {
    static ROOM: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// What moving bytes has come to.
pub(super) enum Event {
    /// The client's next statement needs a server.
    Need,
    /// The server has answered everything.
    Done,
    /// The client has left.
    Gone,
    /// The client is sent away.
    End(Problem),
    /// The server would not answer a read.
    Elsewhere(Elsewhere),
    /// The server is lost.
    Lost(Told),
    /// The check that went with a write has failed.
    Guarded,
    /// A setting was refused that was sent ahead.
    Poisoned,
    /// Somebody wants something of the client.
    Ordered(Order),
    /// Writes are held, and the client wants to begin something on the connection it has kept.
    Held,
}

impl Relay {
    pub(super) fn poll(&mut self, cx: &mut Wakes<'_>) -> Poll<Event> {
        if !std::mem::take(&mut self.same_wake) {
            self.client_ears.quiet = false;
            self.server_ears.quiet = false;
            if let Some(order) = self.heeded(cx) {
                return Poll::Ready(Event::Ordered(order));
            }
        }
        for _ in 0..ROUNDS {
            let mut moved = false;
            loop {
                match self.hear_client(cx) {
                    Step::Event(Event::Need) if self.lease_at_once() => moved = true,
                    Step::Event(event) => return Poll::Ready(event),
                    step => break moved |= step.moved(),
                }
            }
            match self.tell_server(cx) {
                Step::Event(event) => return Poll::Ready(event),
                step => moved |= step.moved(),
            }
            match self.hear_server(cx) {
                Step::Event(Event::Done) => {
                    self.answered();
                    self.done();
                    moved = true;
                }
                Step::Event(event) => return Poll::Ready(event),
                step => moved |= step.moved(),
            }
            match self.tell_client(cx) {
                Step::Event(event) => return Poll::Ready(event),
                step => moved |= step.moved(),
            }
            if (!moved || self.is_settled()) && !self.listen(cx) {
                if self.lease.is_none()
                    && let Some(work) = self.work.take_if(|work| work.is_empty())
                {
                    work.give_back();
                }
                return Poll::Pending;
            }
        }
        // Others on this thread have waited long enough.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether another round could move nothing.
    fn is_settled(&self) -> bool {
        self.client_ears.quiet
            && (self.lease.is_none() || self.server_ears.quiet && !self.unheard)
            && self.work.as_ref().is_none_or(|work| work.is_settled())
    }

    /// Has the task woken by what it listens to. Whether there is something already.
    fn listen(&mut self, cx: &mut Wakes<'_>) -> bool {
        let mut there = false;
        if self.client_ears.quiet && !self.client_ears.armed {
            there |= poll_wake(&self.stream, cx, &mut self.client_ears).is_ready();
        }
        if let Some(lease) = &self.lease
            && self.server_ears.quiet
            && !self.server_ears.armed
        {
            there |= poll_wake(&lease.server.stream, cx, &mut self.server_ears).is_ready();
        }
        there
    }

    /// What somebody wants of the client, if it is the moment for it.
    fn heeded(&mut self, cx: &mut Wakes<'_>) -> Option<Order> {
        if !self.registered || self.card.ordered() != Order::None {
            // Whoever orders something takes the waker. One who came between these two has been heard.
            self.card.register(cx.waker());
            self.registered = true;
        }
        let order = self.card.ordered();
        (order != Order::None && self.heeds(order)).then_some(order)
    }

    /// Whether it is the moment for an order.
    fn heeds(&self, order: Order) -> bool {
        let idle = self.lease.is_none() && !self.session.in_transaction()
            || self.session.is_quiet() && !self.session.in_transaction();
        match order {
            Order::None => false,
            Order::Drain | Order::Idle => idle && self.work.as_ref().is_none_or(|w| w.is_empty()),
            Order::IdleInTransaction => self.session.is_quiet(),
            Order::End | Order::QueryTimeout => true,
        }
    }

    fn hear_client(&mut self, cx: &mut Wakes<'_>) -> Step {
        let work = self.work.get_or_insert_with(Work::borrow);
        if work.out.to_server.len() > AHEAD || work.out.to_client.len() > 2 * AHEAD {
            return Step::Still;
        }
        let mut moved = false;
        if self.stuck == Stuck::Bytes || work.input.is_empty() {
            if self.client_ears.quiet {
                return Step::Still;
            }
            match receive(&mut self.stream, cx, work.input.room(), &mut self.client_ears) {
                Poll::Pending => return Step::Still,
                Poll::Ready(Ok(0) | Err(_)) => return Step::Event(Event::Gone),
                Poll::Ready(Ok(count)) => {
                    work.input.filled(count);
                    count_bytes(&self.card.bytes_in, count);
                    self.stuck = Stuck::Not;
                    moved = true;
                }
            }
        }
        if self.stuck == Stuck::Server {
            return if moved { Step::Moved } else { Step::Still };
        }
        if self.rules.write_guard != WriteGuard::Off
            && let Some(lease) = self.lease.as_ref().filter(|lease| lease.writer)
            && let Some(check) = Check::now(&self.shared.herd, lease.pool.node)
        {
            // Where nothing is known, what was known last is checked, and fails if it is old.
            self.guard = Some(check);
        }
        let writer = self.lease.as_ref().is_some_and(|lease| lease.writer);
        let context = Context {
            classifier: &self.classifier,
            target: self.target.as_ref().unwrap_or(&self.rules.target),
            mode: self.rules.pool.mode,
            session_state: self.rules.session_state,
            prepared: self.rules.prepared_statements,
            guard: self.guard.as_ref().filter(|_| writer).map(Check::guard),
        };
        if self.rules.slow_query.is_some() && self.lease.is_some() && !self.slow.is_on() {
            self.slow.begin(self.session.text_of(work.input.bytes()));
        }
        let thinking = self.session.is_quiet();
        if thinking
            && !work.input.is_empty()
            && self.lease.as_ref().is_some_and(|lease| lease.writer)
            && self.session.pinned().is_some()
            && !self.session.in_transaction()
            && self.shared.herd.is_held()
        {
            return Step::Event(Event::Held);
        }
        let held = self.lease.as_mut().map(|lease| held(&mut lease.server));
        let nothing = work.out.to_server.is_empty();
        let (taken, fed) = self.session.feed(work.input.bytes(), held, &context, &mut work.out);
        if taken > 0 && self.lease.is_some() && self.session.keeps() {
            let bytes = work.input.bytes().get(..taken).unwrap_or_default();
            work.kept.extend_from_slice(bytes);
        }
        work.input.take(taken);
        if nothing {
            work.alone = thinking;
        }
        if thinking && self.lease.is_some() && !self.session.is_quiet() {
            self.card.enter(State::Active, self.shared.clock.now());
        }
        match fed {
            Fed::More => {
                self.stuck = Stuck::Bytes;
                // Where there may be more of them, nobody wakes this task: it is to try once more.
                moved |= !self.client_ears.quiet;
            }
            Fed::Wait => self.stuck = Stuck::Server,
            Fed::Need => return Step::Event(Event::Need),
            Fed::Goodbye => return Step::Event(Event::Gone),
            Fed::End(problem) => return Step::Event(Event::End(problem)),
        }
        if moved || taken > 0 { Step::Moved } else { Step::Still }
    }

    fn tell_server(&mut self, cx: &mut Wakes<'_>) -> Step {
        let (Some(work), Some(lease)) = (&mut self.work, &mut self.lease) else {
            return Step::Still;
        };
        if work.out.to_server.is_empty() {
            return Step::Still;
        }
        let node = lease.server.identity.node;
        if lease.writer && self.shared.herd.epoch(node) != lease.epoch {
            let told = Told {
                code: None,
                words: "it is no longer the proven primary".to_owned(),
                unsent: work.alone && !work.server_begun,
            };
            return Step::Event(Event::Lost(told));
        }
        let sent = send(&mut lease.server.stream, &work.out.to_server, &mut work.server_sent, cx);
        match sent {
            Ok(0) => Step::Still,
            Ok(count) => {
                self.flow.to_server += u64::try_from(count).unwrap_or_default();
                self.flow.settle(&lease.pool);
                sent_away(&mut work.out.to_server, &mut work.server_sent);
                work.server_begun = !work.out.to_server.is_empty();
                Step::Moved
            }
            Err(error) => lost(&error.to_string()),
        }
    }

    fn hear_server(&mut self, cx: &mut Wakes<'_>) -> Step {
        if self.lease.is_none() || self.server_ears.quiet && !self.unheard {
            return Step::Still;
        }
        let mut room = ROOM.take().unwrap_or_else(|| vec![0; ROOM_SIZE].into());
        let step = self.hear_server_in(&mut room, cx);
        ROOM.set(Some(room));
        step
    }

    fn hear_server_in(&mut self, room: &mut [u8], cx: &mut Wakes<'_>) -> Step {
        let (Some(work), Some(lease)) = (&mut self.work, &mut self.lease) else {
            return Step::Still;
        };
        if work.out.to_client.len() - work.client_sent > AHEAD {
            return Step::Still;
        }
        let still_primary = !lease.writer || self.shared.herd.epoch(lease.pool.node) == lease.epoch;
        let server = &mut *lease.server;
        let mut new: &[u8] = &[];
        // What came behind the last answer, such as a notification, comes first.
        if !std::mem::take(&mut self.unheard) {
            match receive(&mut server.stream, cx, room, &mut self.server_ears) {
                Poll::Pending => return Step::Still,
                Poll::Ready(Ok(0)) if still_primary => return lost("it closed the connection"),
                Poll::Ready(Err(error)) if still_primary => return lost(&error.to_string()),
                Poll::Ready(Ok(0) | Err(_)) => return lost("it is no longer the proven primary"),
                Poll::Ready(Ok(count)) => {
                    self.flow.to_client += u64::try_from(count).unwrap_or_default();
                    self.flow.settle(&lease.pool);
                    new = room.get(..count).unwrap_or_default();
                }
            }
        }
        // Only what is left of a message waits there for the rest of it.
        let mut unread = std::mem::take(&mut server.unread);
        let received = if unread.is_empty() {
            let (taken, received) = self.session.receive(new, &mut held(server), &mut work.out);
            unread.extend_from_slice(new.get(taken..).unwrap_or_default());
            received
        } else {
            unread.extend_from_slice(new);
            let (taken, received) = self.session.receive(&unread, &mut held(server), &mut work.out);
            bytes::Buf::advance(&mut unread, taken);
            received
        };
        server.unread = unread;
        if !work.kept.is_empty() && !self.session.keeps() {
            work.kept.clear();
        }
        match received {
            Received::More => {
                if self.stuck == Stuck::Server && self.session.is_quiet() {
                    self.stuck = Stuck::Not;
                }
                if self.session.is_quiet() && self.session.in_transaction() {
                    if self.rules.pool.mode == PoolMode::Statement {
                        return Step::Event(Event::End(
                            Problem::new(
                                code::NOT_SUPPORTED,
                                "transactions are not possible in statement mode",
                            )
                            .hint(
                                "connect to a database or as a user whose pool mode is transaction",
                            ),
                        ));
                    }
                    self.card.enter(State::InTransaction, self.shared.clock.now());
                    self.answered();
                }
                Step::Moved
            }
            Received::Done => {
                self.unheard = !self.server_said_all();
                Step::Event(Event::Done)
            }
            Received::Elsewhere(why) => Step::Event(Event::Elsewhere(why)),
            Received::Lost(told) => Step::Event(Event::Lost(told)),
            Received::Guarded => Step::Event(Event::Guarded),
            Received::Poisoned => Step::Event(Event::Poisoned),
            Received::Nonsense(malformed) => lost(&malformed.to_string()),
        }
    }

    fn server_said_all(&self) -> bool {
        self.lease.as_ref().is_none_or(|lease| lease.server.unread.is_empty())
    }

    fn tell_client(&mut self, cx: &mut Wakes<'_>) -> Step {
        let Some(work) = &mut self.work else { return Step::Still };
        // What was answered before is not held back with the answer that may still be asked of another node.
        let held = (self.lease.is_some() && self.session.holds_back()).then(|| self.session.mark());
        let ready =
            work.out.to_client.get(..held.unwrap_or(usize::MAX).min(work.out.to_client.len()));
        let ready = ready.unwrap_or_default();
        if ready.len() <= work.client_sent {
            return Step::Still;
        }
        match send(&mut self.stream, ready, &mut work.client_sent, cx) {
            Ok(0) => Step::Still,
            Ok(count) => {
                count_bytes(&self.card.bytes_out, count);
                // The session knows where the answer begins that it holds back.
                if held.is_none() {
                    sent_away(&mut work.out.to_client, &mut work.client_sent);
                }
                Step::Moved
            }
            Err(_) => Step::Event(Event::Gone),
        }
    }
}

/// What one step has come to.
enum Step {
    Moved,
    Still,
    Event(Event),
}

impl Step {
    const fn moved(&self) -> bool {
        matches!(self, Self::Moved)
    }
}

#[cold]
fn lost(words: &str) -> Step {
    Step::Event(Event::Lost(Told { code: None, words: words.to_owned(), unsent: false }))
}

fn held(server: &mut Server) -> Held<'_> {
    Held {
        settings: &mut server.settings,
        statements: &mut server.statements,
        reported: &mut server.reported,
    }
}

/// Counts for a client. Nobody but its own task does, so that nobody else can come in between.
fn count_bytes(counter: &AtomicU64, bytes: usize) {
    stats::add(counter, u64::try_from(bytes).unwrap_or_default());
}

/// Forgets what has been sent: all of it, or as much as is worth moving the rest for.
fn sent_away(bytes: &mut Vec<u8>, sent: &mut usize) {
    if *sent == bytes.len() {
        bytes.clear();
        *sent = 0;
    } else if *sent > AHEAD / 4 {
        bytes.drain(..*sent);
        *sent = 0;
    }
}

/// Sends as much as goes, from `sent` on; returns how much went.
fn send<S: Socket>(
    stream: &mut S,
    bytes: &[u8],
    sent: &mut usize,
    cx: &mut Wakes<'_>,
) -> io::Result<usize> {
    let before = *sent;
    while let Some(rest) = bytes.get(*sent..).filter(|rest| !rest.is_empty()) {
        match poll_send(stream, cx, rest) {
            Poll::Pending => break,
            Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(count)) => *sent += count,
            Poll::Ready(Err(error)) => return Err(error),
        }
    }
    flush(stream, cx)?;
    Ok(*sent - before)
}

/// While a client waits: whether it leaves, or is told to. What it says meanwhile is kept, within a bound.
pub(super) fn poll_leaving(
    stream: &mut ClientStream,
    work: Option<&mut Work>,
    card: &Card,
    cx: &mut Wakes<'_>,
) -> Poll<End> {
    card.register(cx.waker());
    if card.ordered() == Order::End {
        let problem = Problem::new("57P01", "an administrator ended this session");
        return Poll::Ready(End { fatal: Some(problem) });
    }
    let Some(work) = work else { return Poll::Pending };
    // What has been answered does not wait for what comes next.
    if !work.out.to_client.is_empty() {
        let Ok(count) = send(stream, &work.out.to_client, &mut work.client_sent, cx) else {
            return Poll::Ready(End { fatal: None });
        };
        count_bytes(&card.bytes_out, count);
        sent_away(&mut work.out.to_client, &mut work.client_sent);
    }
    while work.input.len() < AHEAD {
        match ready!(poll_receive(stream, cx, work.input.room())) {
            Ok(0) | Err(_) => return Poll::Ready(End { fatal: None }),
            Ok(count) => work.input.filled(count),
        }
    }
    Poll::Pending
}
