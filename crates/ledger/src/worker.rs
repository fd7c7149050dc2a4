//! SQLite away from the runtime's threads: every connection lives on a thread of its own.

use std::{sync::mpsc, thread};

use rusqlite::Connection;
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A connection and its thread. Dropped, it lets the thread end after what was asked of it.
#[derive(Clone)]
pub(crate) struct Worker(mpsc::Sender<Job>);

impl Worker {
    /// Gives the connection a thread.
    pub(crate) fn start(name: &str, mut connection: Connection) -> std::io::Result<Self> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            for job in inbox {
                job(&mut connection);
            }
        })?;
        Ok(Self(jobs))
    }

    /// Does something with the connection. `None` if the thread is gone. What was begun is done to its end, also when
    /// the future is dropped.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> T + Send + 'static,
    ) -> Option<T> {
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Who asked may have given up.
            drop(tell.send(job(connection)));
        });
        self.0.send(job).ok()?;
        told.await.ok()
    }
}
