//! Session tokens in HTTP headers.

mod carried;
mod future;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderName, Request, Response};
use tower_layer::Layer;
use tower_service::Service;

pub use self::future::ResponseFuture;
use super::{Session, SessionToken};

const HEADER: HeaderName = HeaderName::from_static("herdsman-session");
/// Several times what a healthy writer takes; and giving up costs no more than a question at the next request.
const PATIENCE: Duration = Duration::from_secs(1);

/// Finds out what stands for everything a session has written.
pub trait Resolve: Clone + Send + Sync + 'static {
    /// The token that stands for everything the session has written and observed so far, asking the writer for its
    /// position if need be; nothing if that cannot be had. A token that may not stand for all of it must not be given.
    ///
    /// The future is dropped half-way when it takes longer than the layer waits.
    fn resolve(&self, session: &Session) -> impl Future<Output = Option<SessionToken>> + Send;
}

/// Runs each request in a [`Session`] that goes on where the client's last request left off.
///
/// The token is taken from the header `herdsman-session`, and given back in the same header of the response if the
/// session wrote, or was given one. A client that sends back the last value it got reads its own writes, whichever
/// process serves it. A header that is no token is ignored.
///
/// - Where the writer's position cannot be had, or something is still being written when the response begins, the value
///   is `1.writer`: no token would be true. The request that sends it back asks the writer before it reads elsewhere.
/// - The value is made with the head of the response. What is written while a body streams is not in it, and neither is
///   a body's reading part of the session, unless the body is made with [`Session::scope`].
/// - A service that fails with an error instead of a response carries nothing.
/// - The header is the client's word. At worst, a made-up one sends its own reads to the writer.
/// - A layer inside another, or in a task that is in a session, joins that session.
///
/// ```
/// use herdsman::session::{Resolve, Session, SessionLayer, SessionToken};
///
/// #[derive(Clone)]
/// struct NoServer; // usually a `ReplicaSet`
///
/// impl Resolve for NoServer {
///     async fn resolve(&self, session: &Session) -> Option<SessionToken> {
///         session.token()
///     }
/// }
///
/// let layer = SessionLayer::new(NoServer); // in axum: Router::new().route(…).layer(layer)
/// ```
#[derive(Clone, Debug)]
pub struct SessionLayer<R> {
    settings: Settings<R>,
}

/// What [`SessionLayer`] makes of a service.
#[derive(Clone, Debug)]
pub struct SessionService<S, R> {
    inner: S,
    settings: Settings<R>,
}

#[derive(Clone, Debug)]
struct Settings<R> {
    resolve: R,
    header: HeaderName,
    patience: Duration,
}

impl<R: Resolve> SessionLayer<R> {
    /// A layer that asks `resolve` for the token of each session that wrote.
    pub const fn new(resolve: R) -> Self {
        Self { settings: Settings { resolve, header: HEADER, patience: PATIENCE } }
    }

    /// Another header than `herdsman-session`.
    #[must_use]
    pub fn header(mut self, name: HeaderName) -> Self {
        self.settings.header = name;
        self
    }

    /// How long a response waits for the writer's position at most; one second by default.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.settings.patience = patience;
        self
    }
}

impl<S, R: Clone> Layer<S> for SessionLayer<R> {
    type Service = SessionService<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        SessionService { inner, settings: self.settings.clone() }
    }
}

impl<S, R, B, C> Service<Request<B>> for SessionService<S, R>
where
    S: Service<Request<B>, Response = Response<C>>,
    R: Resolve,
{
    type Response = Response<C>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, C, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let session = Session::current().unwrap_or_default();
        carried::observe(&session, request.headers(), &self.settings.header);
        // A service may look at the session while it makes its future.
        let response = session.enter(|| self.inner.call(request));
        ResponseFuture::new(session, response, self.settings.clone())
    }
}
