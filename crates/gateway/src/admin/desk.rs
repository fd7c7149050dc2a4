//! What the console remembers between two commands, and its line to the program around the gateway.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot, watch};

use crate::wire::Problem;
use crate::wire::error::code;

/// How long the program gets to read its configuration anew. It reads some files, and is not always looking.
const RELOAD: Duration = Duration::from_secs(30);

/// What the console remembers.
#[derive(Debug)]
pub(crate) struct Desk {
    /// `HOLD` is in force. A switchover has a hold of its own.
    held: AtomicBool,
    /// `SUSPEND` is in force: nobody new is accepted.
    suspended: watch::Sender<bool>,
    /// Server connections that `RECONNECT` found open.
    closing: Mutex<HashSet<u64>>,
    reloads: mpsc::Sender<ReloadWish>,
    wishes: ReloadWishes,
    ends: mpsc::Sender<EndWish>,
    end_wishes: EndWishes,
}

/// How a gateway is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// At once (`SHUTDOWN`).
    AtOnce,
    /// When the transactions that run are over; who is idle is sent away (`SHUTDOWN WAIT_FOR_SERVERS`).
    Transactions,
    /// When every client has left by itself (`SHUTDOWN WAIT_FOR_CLIENTS`).
    Clients,
}

/// What administrators ask of the program around the gateway: to end. Every copy is the same queue.
#[derive(Clone, Debug)]
pub struct EndWishes(Arc<AsyncMutex<mpsc::Receiver<EndWish>>>);

/// An administrator has asked for the gateway to end. Dropped without [`EndWish::heard`], the administrator is told that
/// nothing came of it.
#[derive(Debug)]
pub struct EndWish {
    how: Ending,
    answer: oneshot::Sender<()>,
}

impl EndWishes {
    /// The next one. Comes back with nothing else: never, once the gateway has ended.
    pub async fn next(&self) -> EndWish {
        match self.0.lock().await.recv().await {
            Some(wish) => wish,
            None => std::future::pending().await,
        }
    }
}

impl EndWish {
    /// Tells the administrator that it is being done, and says how it is to be: for [`crate::Gateway::leave`].
    #[must_use]
    pub fn heard(self) -> Ending {
        // One that has left is not told.
        let _left = self.answer.send(()).is_err();
        self.how
    }
}

/// What administrators ask of the program around the gateway. Every copy is the same queue.
#[derive(Clone, Debug)]
pub struct ReloadWishes(Arc<AsyncMutex<mpsc::Receiver<ReloadWish>>>);

/// An administrator has asked for the configuration to be read again (`RELOAD`). Dropped unanswered, the administrator
/// is told that it failed.
#[derive(Debug)]
pub struct ReloadWish(oneshot::Sender<Result<(), String>>);

impl ReloadWishes {
    /// The next one. Comes back with nothing else: never, once the gateway has ended.
    pub async fn next(&self) -> ReloadWish {
        match self.0.lock().await.recv().await {
            Some(wish) => wish,
            None => std::future::pending().await,
        }
    }
}

impl ReloadWish {
    /// Tells the administrator how it went. A problem is told in words, and must not hold a secret.
    pub fn done(self, outcome: Result<(), String>) {
        // One that has left is not told.
        let _left = self.0.send(outcome).is_err();
    }
}

impl Default for Desk {
    fn default() -> Self {
        let (reloads, wishes) = mpsc::channel(1);
        let (ends, end_wishes) = mpsc::channel(1);
        Self {
            held: AtomicBool::new(false),
            suspended: watch::Sender::new(false),
            closing: Mutex::default(),
            reloads,
            wishes: ReloadWishes(Arc::new(AsyncMutex::new(wishes))),
            ends,
            end_wishes: EndWishes(Arc::new(AsyncMutex::new(end_wishes))),
        }
    }
}

impl Desk {
    /// Whether `HOLD` is in force.
    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// Notes that `HOLD` is in force, or no longer. Whether that is news.
    pub(super) fn set_held(&self, held: bool) -> bool {
        self.held.swap(held, Ordering::AcqRel) != held
    }

    /// Notes that nobody new is accepted, or that they are again. Whether that is news.
    pub(super) fn set_suspended(&self, suspended: bool) -> bool {
        self.suspended.send_replace(suspended) != suspended
    }

    /// Whether nobody new is accepted.
    pub(super) fn is_suspended(&self) -> bool {
        *self.suspended.borrow()
    }

    /// Whether nobody new is accepted, for whoever accepts.
    pub(crate) fn suspensions(&self) -> watch::Receiver<bool> {
        self.suspended.subscribe()
    }

    /// Notes connections that are to be replaced.
    pub(super) fn close(&self, servers: impl IntoIterator<Item = u64>) {
        self.lock().extend(servers);
    }

    /// Forgets connections that are not among those `open`.
    pub(super) fn closed(&self, open: &HashSet<u64>) {
        self.lock().retain(|server| open.contains(server));
    }

    /// Connections that are to be replaced, though some may have been since.
    pub(super) fn closing(&self) -> HashSet<u64> {
        self.lock().clone()
    }

    /// Has the program read its configuration again.
    ///
    /// # Errors
    /// What is wrong with the configuration, or that nobody reads it.
    pub(super) async fn reload(&self) -> Result<(), Problem> {
        self.ask(RELOAD).await
    }

    async fn ask(&self, limit: Duration) -> Result<(), Problem> {
        let asking = async {
            let (sender, answer) = oneshot::channel();
            // The receiver lives as long as the sender: in here.
            let _sent = self.reloads.send(ReloadWish(sender)).await.is_ok();
            answer.await
        };
        match tokio::time::timeout(limit, asking).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(problem))) => Err(Problem::new(
                code::SYSTEM,
                format!("the configuration was not reloaded, everything is as it was: {problem}"),
            )),
            Ok(Err(_)) | Err(_) => {
                Err(Problem::new(code::SYSTEM, "the program did not reload its configuration")
                    .hint("send SIGHUP to it, and look at its log"))
            }
        }
    }

    /// Has the program end.
    ///
    /// # Errors
    /// Nobody hears it.
    pub(super) async fn end(&self, how: Ending) -> Result<(), Problem> {
        let asking = async {
            let (answer, heard) = oneshot::channel();
            // The receiver lives as long as the sender: in here.
            let _sent = self.ends.send(EndWish { how, answer }).await.is_ok();
            heard.await
        };
        match tokio::time::timeout(RELOAD, asking).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => {
                Err(Problem::new(code::SYSTEM, "the program did not hear that it is to end")
                    .hint("send SIGTERM to it, and look at its log"))
            }
        }
    }

    /// Where wishes to end arrive.
    pub(crate) fn end_wishes(&self) -> EndWishes {
        self.end_wishes.clone()
    }

    /// Where wishes to reload arrive.
    pub(crate) fn wishes(&self) -> ReloadWishes {
        self.wishes.clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.closing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reload_ends_when_the_program_says_how_it_went() {
        let desk = Desk::default();
        let fine = async { desk.wishes().next().await.done(Ok(())) };
        assert_eq!(tokio::join!(desk.reload(), fine).0, Ok(()));
        let wrong =
            async { desk.wishes().next().await.done(Err("line 3: no such key".to_owned())) };
        let problem = tokio::join!(desk.reload(), wrong).0.unwrap_err();
        assert!(problem.message.contains("line 3"), "{}", problem.message);
        let silent = async { drop(desk.wishes().next().await) };
        assert!(tokio::join!(desk.reload(), silent).0.unwrap_err().hint.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_that_nobody_hears_ends_all_the_same() {
        let problem = Desk::default().reload().await.unwrap_err();
        assert_eq!(problem.code, "58000");
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_is_heard_or_said_not_to_be() {
        let desk = Desk::default();
        let heard = async { desk.end_wishes().next().await.heard() };
        let (asked, how) = tokio::join!(desk.end(Ending::Clients), heard);
        assert_eq!((asked, how), (Ok(()), Ending::Clients));
        let deaf = async { drop(desk.end_wishes().next().await) };
        assert!(tokio::join!(desk.end(Ending::AtOnce), deaf).0.unwrap_err().hint.is_some());
        assert_eq!(desk.end(Ending::AtOnce).await.unwrap_err().code, "58000");
    }

    #[test]
    fn a_hold_is_news_once() {
        let desk = Desk::default();
        let news = [true, true, false, false].map(|held| desk.set_held(held));
        assert_eq!(news, [true, false, true, false]);
    }
}
