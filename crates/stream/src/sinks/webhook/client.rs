//! Requests over connections that are kept.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;

use super::address::{Address, Stream};
use super::verdict::Answer;

/// Posts to one receiver.
pub(super) struct Client {
    address: Address,
    /// Connections that wait for the next request; as many as requests were ever under way at once.
    idle: Mutex<Vec<Line>>,
}

/// An open connection; closed when dropped.
struct Line {
    sender: SendRequest<Full<Bytes>>,
    driver: AbortHandle,
}

/// What is read of an answer's body, only to use its connection again.
const MAX_BODY: usize = 64 * 1024;
/// How long that may take; a new connection is cheaper.
const BODY_LIMIT: Duration = Duration::from_millis(500);

impl Client {
    pub(super) fn new(address: Address) -> Self {
        Self { address, idle: Mutex::default() }
    }

    /// The receiver as it is shown.
    pub(super) fn target(&self) -> String {
        self.address.target()
    }

    /// Posts once, or twice where a connection that was kept turns out to be closed.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(super) async fn post(&self, headers: HeaderMap, body: Bytes) -> Result<Answer, String> {
        while let Some(line) = self.kept() {
            // The receiver may have closed it a moment ago. If it took the request nevertheless, it knows its key.
            if let Ok(answer) = self.exchange(line, headers.clone(), body.clone()).await {
                return Ok(answer);
            }
        }
        let line = match self.address.connect().await? {
            Stream::Plain(stream) => handshake(stream).await?,
            Stream::Tls(stream) => handshake(stream).await?,
        };
        self.exchange(line, headers, body).await
    }

    async fn exchange(
        &self,
        mut line: Line,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, String> {
        let request = self.request(headers, body)?;
        let response = line.sender.send_request(request).await.map_err(|e| e.to_string())?;
        let answer = Answer::Status { status: response.status(), retry_after: wait(&response) };
        // A body that is endless, late or breaks off changes nothing about the answer.
        let body = Limited::new(response.into_body(), MAX_BODY).collect();
        if let Ok(Ok(_)) = tokio::time::timeout(BODY_LIMIT, body).await {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
        Ok(answer)
    }

    fn request(&self, headers: HeaderMap, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::post(&self.address.path)
            .body(Full::new(body))
            .map_err(|_| "its path cannot be sent".to_owned())?;
        *request.headers_mut() = headers;
        let host = HeaderValue::try_from(self.address.authority());
        request.headers_mut().insert(HOST, host.map_err(|_| "its host cannot be sent".to_owned())?);
        Ok(request)
    }

    fn kept(&self) -> Option<Line> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|line| !line.sender.is_closed());
        idle.pop()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn handshake<S>(stream: S) -> Result<Line, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // That the connection ended is told by the next request.
    let driver = tokio::spawn(async move { drop(connection.await) }).abort_handle();
    Ok(Line { sender, driver })
}

/// What the receiver says about when to come again, where it says it in seconds.
fn wait(response: &Response<Incoming>) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}
