//! Several statements sent one behind the other, without waiting for answers in between.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use tokio_postgres::Error;

type Sent<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// A statement that was sent, and whose answer may be there already.
pub(crate) struct Answer<'a, T> {
    sent: Sent<'a, T>,
    come: Option<Result<T, Error>>,
}

/// Sends: the driver queues a statement when its future is polled first, and answers come in the order of statements.
pub(crate) async fn send<'a, T>(
    statement: impl Future<Output = Result<T, Error>> + Send + 'a,
) -> Answer<'a, T> {
    let mut sent: Sent<'a, T> = Box::pin(statement);
    let come = poll_fn(|context| match sent.as_mut().poll(context) {
        Poll::Ready(come) => Poll::Ready(Some(come)),
        Poll::Pending => Poll::Ready(None),
    });
    let come = come.await;
    Answer { sent, come }
}

impl<T> Answer<'_, T> {
    pub(crate) async fn take(self) -> Result<T, Error> {
        match self.come {
            Some(come) => come,
            None => self.sent.await,
        }
    }
}
