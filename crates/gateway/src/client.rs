//! What others see of one client, and how they reach it: counters and a wish, without a lock on its way.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use futures_util::task::AtomicWaker;

use crate::cancel::CancelSlot;
use crate::pool::PoolSet;

/// What a client is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// Logging in.
    Login = 0,
    /// Between transactions.
    Idle = 1,
    /// Waits for a server connection.
    Waiting = 2,
    /// A server works for it.
    Active = 3,
    /// In a transaction, thinking.
    InTransaction = 4,
}

/// What somebody else wants of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Order {
    /// Nothing.
    None = 0,
    /// Leave when the transaction is over: the gateway shuts down.
    Drain = 1,
    /// Leave now: an administrator says so.
    End = 2,
    /// Leave now: idle for too long.
    Idle = 3,
    /// Leave now: idle in a transaction for too long.
    IdleInTransaction = 4,
    /// The statement takes too long: it is being cancelled, and its connection is closed if that does not help.
    QueryTimeout = 5,
}

/// One client, as the console, the janitor and cancel requests see it.
#[derive(Debug)]
pub(crate) struct Card {
    pub(crate) id: u64,
    pub(crate) pools: Arc<PoolSet>,
    /// `None`: over the unix socket.
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) tls: bool,
    pub(crate) since: SystemTime,
    pub(crate) application: Mutex<Arc<str>>,
    state: AtomicU8,
    /// On the coarse clock (`Shared::clock`), in milliseconds.
    state_since: AtomicU64,
    /// Index of the node it has a connection to, plus one.
    pub(crate) node: AtomicU32,
    pub(crate) transactions: AtomicU64,
    pub(crate) queries: AtomicU64,
    /// Prepared statements it has, as of its last transaction.
    pub(crate) prepared: AtomicUsize,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    order: AtomicU8,
    waker: AtomicWaker,
    pub(crate) cancel: CancelSlot,
}

impl Card {
    pub(crate) fn new(
        id: u64,
        pools: Arc<PoolSet>,
        peer: Option<SocketAddr>,
        tls: bool,
        application: &str,
        cancel: CancelSlot,
    ) -> Self {
        Self {
            id,
            pools,
            peer,
            tls,
            since: SystemTime::now(),
            application: Mutex::new(application.into()),
            state: AtomicU8::new(State::Login as u8),
            state_since: AtomicU64::new(0),
            node: AtomicU32::new(0),
            transactions: AtomicU64::new(0),
            queries: AtomicU64::new(0),
            prepared: AtomicUsize::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            order: AtomicU8::new(Order::None as u8),
            waker: AtomicWaker::new(),
            cancel,
        }
    }

    /// `now` is the coarse clock's.
    #[inline]
    pub(crate) fn enter(&self, state: State, now: u64) {
        self.state.store(state as u8, Ordering::Relaxed);
        self.state_since.store(now, Ordering::Relaxed);
    }

    pub(crate) fn state(&self) -> (State, u64) {
        let state = match self.state.load(Ordering::Relaxed) {
            1 => State::Idle,
            2 => State::Waiting,
            3 => State::Active,
            4 => State::InTransaction,
            _ => State::Login,
        };
        (state, self.state_since.load(Ordering::Relaxed))
    }

    /// Wants something of the client. A stronger wish is not weakened.
    pub(crate) fn order(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::Release);
        self.waker.wake();
    }

    /// What is wanted of it.
    #[inline]
    pub(crate) fn ordered(&self) -> Order {
        match self.order.load(Ordering::Acquire) {
            0 => Order::None,
            1 => Order::Drain,
            2 => Order::End,
            3 => Order::Idle,
            4 => Order::IdleInTransaction,
            _ => Order::QueryTimeout,
        }
    }

    /// Takes back a wish that has been met.
    pub(crate) fn obeyed(&self, order: Order) {
        let none = Order::None as u8;
        let _stronger =
            self.order.compare_exchange(order as u8, none, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Has the task woken when something is wanted.
    #[inline]
    pub(crate) fn register(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }
}
