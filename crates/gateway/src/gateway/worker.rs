//! Threads that serve clients, each with a runtime of its own.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// One thread. Dropping it ends the thread, and with it every client that is left there.
#[derive(Debug)]
pub(super) struct Worker {
    /// Where tasks of its clients are spawned.
    handle: Handle,
    /// How many clients it has.
    clients: Arc<AtomicUsize>,
    stop: CancellationToken,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Cancelled when the thread ends.
    ended: CancellationToken,
    name: String,
}

/// One client on a worker's account.
#[derive(Debug)]
pub(super) struct Burden(Arc<AtomicUsize>);

impl Worker {
    pub(super) async fn start(number: usize) -> io::Result<Self> {
        let (started, starting) = oneshot::channel();
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let (until, dying) = (stop.clone(), ended.clone().drop_guard());
        let name = format!("gateway-{number}");
        let thread = thread::Builder::new().name(name.clone()).spawn(move || {
            // However it ends.
            let _dying = dying;
            // Built here: a runtime must not be dropped where one runs.
            match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => {
                    let _starter_is_there = started.send(Ok(runtime.handle().clone()));
                    runtime.block_on(until.cancelled());
                }
                Err(error) => {
                    let _starter_is_there = started.send(Err(error));
                }
            }
        })?;
        let handle = starting.await.map_err(io::Error::other)??;
        let clients = Arc::new(AtomicUsize::new(0));
        Ok(Self { handle, clients, stop, thread: Mutex::new(Some(thread)), ended, name })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(super) fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// One client more, until what is returned is dropped.
    pub(super) fn take(&self) -> Burden {
        self.clients.fetch_add(1, Ordering::Relaxed);
        Burden(Arc::clone(&self.clients))
    }

    /// Ends the thread and waits for it.
    pub(super) async fn stop(&self) {
        self.stop.cancel();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!(thread = self.name, "a thread of the gateway ended badly");
            }
        }
    }
}

/// Comes back when a thread has ended, with its name.
pub(super) async fn first_to_end(workers: &[Worker]) -> String {
    let ended = workers.iter().map(|worker| Box::pin(worker.ended.cancelled()));
    let (_, index, _) = futures_util::future::select_all(ended).await;
    workers.get(index).map(|worker| worker.name.clone()).unwrap_or_default()
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Drop for Burden {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_worker_runs_what_it_is_given_on_its_own_thread_and_its_end_is_seen() {
        let workers = [Worker::start(0).await.unwrap(), Worker::start(1).await.unwrap()];
        let name = async { thread::current().name().map(ToOwned::to_owned) };
        assert_eq!(workers[1].handle().spawn(name).await.unwrap().as_deref(), Some("gateway-1"));
        let ended = first_to_end(&workers);
        tokio::pin!(ended);
        let now = tokio::time::timeout(std::time::Duration::ZERO, &mut ended).await;
        assert!(now.is_err(), "{now:?}");
        // As its thread does on every way out.
        workers[1].stop().await;
        assert_eq!(ended.await, "gateway-1");
        workers[0].stop().await;
    }

    #[tokio::test]
    async fn clients_are_counted_until_they_have_left() {
        let worker = Worker::start(0).await.unwrap();
        let (one, two) = (worker.take(), worker.take());
        assert_eq!(worker.clients(), 2);
        drop(one);
        assert_eq!(worker.clients(), 1);
        drop(two);
        assert_eq!(worker.clients(), 0);
    }
}
