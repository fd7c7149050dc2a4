//! Several requests on their way at once.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio_postgres::Error;

/// A request: sent when it is first polled, ready when its answer is complete.
pub(super) type Request<'a> = Pin<Box<dyn Future<Output = Result<u64, Error>> + Send + 'a>>;

/// No answer came in time.
#[derive(Debug)]
pub(super) struct TimedOut;

/// Sends all requests in their order before the first answer is awaited, and returns the answers in the same order.
///
/// `limit` bounds the wait for each answer.
pub(super) async fn run(
    requests: Vec<Request<'_>>,
    limit: Duration,
) -> Result<Vec<Result<u64, Error>>, TimedOut> {
    let mut waiting: Vec<(Request<'_>, Option<Result<u64, Error>>)> =
        requests.into_iter().map(|request| (request, None)).collect();
    // One poll sends it. Its answer cannot have come yet but for an error.
    poll_fn(|cx| {
        for (request, answer) in &mut waiting {
            if let Poll::Ready(ready) = request.as_mut().poll(cx) {
                *answer = Some(ready);
            }
        }
        Poll::Ready(())
    })
    .await;
    // Answers come in order: waiting for the first only keeps a thousand requests from being polled a thousand times.
    let mut answers = Vec::with_capacity(waiting.len());
    for (request, answer) in waiting {
        answers.push(match answer {
            Some(answer) => answer,
            None => tokio::time::timeout(limit, request).await.map_err(|_| TimedOut)?,
        });
    }
    Ok(answers)
}
