//! What the console remembers between two commands, and its line to the program around the gateway.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};

use crate::wire::Problem;
use crate::wire::error::code;

/// How long the program gets to read its configuration anew. It reads some files, and is not always looking.
const RELOAD: Duration = Duration::from_secs(30);

/// What the console remembers.
#[derive(Debug)]
pub(crate) struct Desk {
    /// `HOLD` is in force. A switchover has a hold of its own.
    held: AtomicBool,
    /// Server connections that `RECONNECT` found open.
    closing: Mutex<HashSet<u64>>,
    reloads: mpsc::Sender<ReloadWish>,
    wishes: ReloadWishes,
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
        Self {
            held: AtomicBool::new(false),
            closing: Mutex::default(),
            reloads,
            wishes: ReloadWishes(Arc::new(AsyncMutex::new(wishes))),
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

    #[test]
    fn a_hold_is_news_once() {
        let desk = Desk::default();
        let news = [true, true, false, false].map(|held| desk.set_held(held));
        assert_eq!(news, [true, false, true, false]);
    }
}
