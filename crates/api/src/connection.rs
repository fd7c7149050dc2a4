//! One connection: its handshake, its requests, its end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use herdsman_node::NodeName;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::access::{Guest, Names};
use crate::events::Events;
use crate::live::{Body, LiveRefusal, LiveRequest};
use crate::problem::Problem;
use crate::reply::Follow;
use crate::state::View;
use crate::tally::Tally;
use crate::target::Query;
use crate::{
    ApiState, HookBoard, LiveFeed, LiveStream, MeshControl, Metrics, TlsIdentity, control,
    dashboard, router, routes, target,
};

/// What every connection reads.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) state: watch::Receiver<Arc<ApiState>>,
    pub(crate) tls: Option<watch::Receiver<TlsIdentity>>,
    pub(crate) live: watch::Receiver<Option<Arc<dyn LiveStream>>>,
    pub(crate) mesh: watch::Receiver<Option<Arc<dyn MeshControl>>>,
    pub(crate) metrics: watch::Receiver<Option<Arc<dyn Metrics>>>,
    pub(crate) hooks: watch::Receiver<Option<Arc<dyn HookBoard>>>,
    pub(crate) events: Events,
    pub(crate) tally: Tally,
    pub(crate) stop: CancellationToken,
}

/// When a connection was last of use: milliseconds after it began.
#[derive(Debug)]
pub(crate) struct LastUse {
    began: Instant,
    millis: AtomicU64,
}

/// Who is at the other end.
struct Client {
    peer: SocketAddr,
    /// The names in the certificate it has shown.
    certificate: Option<Arc<Names>>,
}

/// What a request is answered with.
enum Answer {
    Whole(Response<Body>),
    /// The head, and what follows it.
    Live(Response<Body>, LiveFeed),
}

/// The most a client may send before its request is complete; hyper's answer to more is 431.
const MAX_HEAD_BYTES: u16 = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// A client that needs more answers at once than this waits for the first ones.
const MAX_STREAMS: u32 = 64;
/// How long an idle or slow connection gets to end by itself once it was told to.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often something is sent to who follows a stream in which nothing happens: before proxies take it for dead, which
/// many do after 30 s, and before we do.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// The first byte of every TLS connection: the type of a handshake record.
const TLS_HANDSHAKE: u8 = 0x16;
const PLAIN_HTTP_TO_TLS: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
      This port speaks HTTPS; use https:// in the address.\n";

/// Serves a connection until it ends, is too slow, or the server stops.
pub(crate) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    about: Option<Arc<NodeName>>,
    shared: Shared,
) {
    let _open = shared.tally.open();
    // Answers are small and whole; waiting to fill a packet would only delay them. Best effort.
    let _best_effort = stream.set_nodelay(true);
    let tls = shared.tls.as_ref().map(|tls| tls.borrow().clone());
    let Some(tls) = tls else {
        let client = Client { peer, certificate: None };
        return Box::pin(http(stream, false, client, about, shared)).await;
    };
    let limit = shared.state.borrow().config.request_timeout;
    let stop = shared.stop.clone();
    let handshake = timeout(limit, Box::pin(handshake(stream, tls)));
    let shaken = tokio::select! {
        () = stop.cancelled() => return,
        shaken = handshake => shaken,
    };
    match shaken {
        Ok(Ok(Some(stream))) => {
            let tls = stream.get_ref().1;
            let h2 = tls.alpn_protocol() == Some(b"h2");
            let certificate = tls.peer_certificates().and_then(<[_]>::first);
            let certificate = certificate.map(|shown| Arc::new(Names::of(shown)));
            Box::pin(http(stream, h2, Client { peer, certificate }, about, shared)).await;
        }
        Ok(Ok(None)) => tracing::debug!(%peer, "plain HTTP came to the TLS port"),
        Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
    }
}

/// Shakes hands; nothing when the client speaks plain HTTP, which it is told.
async fn handshake(
    mut stream: TcpStream,
    tls: TlsIdentity,
) -> std::io::Result<Option<tokio_rustls::server::TlsStream<TcpStream>>> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 1
        && first != [TLS_HANDSHAKE]
        && first[0].is_ascii_uppercase()
    {
        stream.write_all(PLAIN_HTTP_TO_TLS).await?;
        stream.shutdown().await?;
        // Closing with unread bytes would reset the connection, and the client might lose the answer.
        let unread = async { while matches!(stream.read(&mut [0; 1024]).await, Ok(1..)) {} };
        let _client_is_done = timeout(FAREWELL, unread).await;
        return Ok(None);
    }
    TlsAcceptor::from(tls.config).accept(stream).await.map(Some)
}

async fn http<S>(stream: S, h2: bool, client: Client, about: Option<Arc<NodeName>>, shared: Shared)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Client { peer, certificate } = client;
    let Shared { state, tls: _, live, mesh, metrics, hooks, events, tally, stop } = shared;
    let last_use = Arc::new(LastUse { began: Instant::now(), millis: AtomicU64::new(0) });
    let limit = || state.borrow().config.request_timeout;
    let service = service_fn({
        let state = state.clone();
        let last_use = Arc::clone(&last_use);
        let stop = stop.clone();
        move |request: Request<Incoming>| {
            last_use.touch();
            let state = Arc::clone(&state.borrow());
            let (live, mesh) = (live.borrow().clone(), mesh.borrow().clone());
            let (metrics, hooks) = (metrics.borrow().clone(), hooks.borrow().clone());
            let response = match mesh {
                Some(mesh) if control::is_meant(request.uri().path()) => {
                    let certificate = certificate.clone();
                    Err(Box::pin(control::answer(request, state, mesh, certificate, peer)))
                }
                mesh => {
                    let door = Door {
                        state: &state,
                        live: live.as_deref(),
                        mesh: mesh.as_deref(),
                        metrics: metrics.as_deref(),
                        hooks: hooks.as_deref(),
                        events: &events,
                        tally: &tally,
                        about: about.as_deref(),
                        certificate: certificate.as_deref(),
                        peer,
                    };
                    Ok(match door.respond(&request) {
                        Answer::Whole(response) => response,
                        Answer::Live(head, feed) => {
                            let period = KEEPALIVE.min(state.config.request_timeout / 2);
                            let live =
                                Body::live(feed, stop.clone(), Arc::clone(&last_use), period);
                            head.map(|_| live)
                        }
                    })
                }
            };
            let tally = tally.clone();
            async move {
                let response = match response {
                    Ok(response) => response,
                    Err(pending) => pending.await,
                };
                tally.answered(response.status());
                Ok::<_, Infallible>(response)
            }
        }
    });
    let builder = builder(h2);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let mut deadline = last_use.at() + limit();
    let mut ending = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, error, "connection failed");
                }
                return;
            }
            () = stop.cancelled(), if !ending => {
                // Who is too slow now is cut by the server's own deadline.
                ending = true;
                deadline = Instant::now() + limit();
                connection.as_mut().graceful_shutdown();
            }
            () = sleep_until(deadline) => {
                let idle_until = last_use.at() + limit();
                if ending {
                    tracing::debug!(%peer, "cut a connection that did not end");
                    return;
                } else if idle_until <= Instant::now() {
                    ending = true;
                    deadline = Instant::now() + FAREWELL;
                    connection.as_mut().graceful_shutdown();
                } else {
                    deadline = idle_until;
                }
            }
        }
    }
}

fn builder(h2: bool) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // The loop above bounds the whole connection, for both versions alike.
        .header_read_timeout(None)
        .max_buf_size(usize::from(MAX_HEAD_BYTES))
        .max_headers(MAX_HEADERS)
        // `printf … | nc` closes its side before it reads.
        .half_close(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::from(MAX_HEAD_BYTES));
    if h2 { builder.http2_only() } else { builder.http1_only() }
}

/// What a request meets.
struct Door<'a> {
    state: &'a ApiState,
    live: Option<&'a dyn LiveStream>,
    mesh: Option<&'a dyn MeshControl>,
    metrics: Option<&'a dyn Metrics>,
    hooks: Option<&'a dyn HookBoard>,
    events: &'a Events,
    tally: &'a Tally,
    /// The node whose port it is.
    about: Option<&'a NodeName>,
    /// The names in the client's certificate.
    certificate: Option<&'a Names>,
    peer: SocketAddr,
}

impl Door<'_> {
    fn respond(&self, request: &Request<Incoming>) -> Answer {
        let Self { state, live, mesh, metrics, hooks, tally, about, .. } = *self;
        let span = control::span(request.method(), request.uri().path());
        let _inside = span.enter();
        let began = Instant::now();
        let topology = state.watch.topology();
        let view = View {
            topology: &topology,
            groups: &state.groups,
            bodies: state.config.bodies,
            writes: state.writes,
            live: live.is_some(),
            mesh,
            metrics,
            hooks,
            about,
            counted: tally.read(),
            now: state.watch.now(),
        };
        let head = *request.method() == Method::HEAD || *request.method() == Method::OPTIONS;
        let mut reply = if control::is_meant(request.uri().path()) {
            Problem::NoMesh.reply(&view)
        } else if let Err(problem) = self.admit(request) {
            problem.reply(&view)
        } else if dashboard::is_front_page(request, about) {
            dashboard::front_page()
        } else {
            router::answer(request.method(), request.uri(), &view)
        };
        reply = dashboard::unless_held(reply, request.headers());
        let mut feed = None;
        if let (Some(wanted), false) = (reply.live, head) {
            match self.follow(wanted, request) {
                Ok(found) => feed = Some(found),
                Err(problem) => reply = problem.reply(&view),
            }
        }
        if reply.wants_heartbeat {
            state.watch.availability_wanted();
        }
        tracing::debug!(
            method = %request.method(),
            path = request.uri().path(),
            status = reply.status.as_u16(),
            duration = ?began.elapsed(),
            "answered"
        );
        span.record(control::STATUS, reply.status.as_u16());
        let response = reply.into_response(head);
        match feed {
            Some(feed) => Answer::Live(response, feed),
            None => Answer::Whole(response),
        }
    }

    /// Lets in who shows what the path takes.
    fn admit(&self, request: &Request<Incoming>) -> Result<(), Problem> {
        let Self { state, mesh, certificate, peer, .. } = *self;
        // A path that cannot be read is refused for that.
        let path = target::decode(request.uri().path()).unwrap_or_default();
        let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(&path).split('/').collect();
        let takes = routes::takes(&segments);
        let Some(scope) = takes.and_then(|takes| takes.scope(state.config.names_anybody())) else {
            return Ok(());
        };
        let token = mesh.and_then(MeshControl::token);
        let guest = Guest::of(request.headers(), certificate, &state.config, token);
        guest.require(scope).map(|_| ()).map_err(|denied| {
            tracing::info!(path, %peer, who = guest.shown(), status = denied.status().as_u16(), "refused a request");
            Problem::Denied(denied)
        })
    }

    /// Begins to follow something.
    fn follow(&self, wanted: Follow, request: &Request<Incoming>) -> Result<LiveFeed, Problem> {
        let last = request.headers().get("last-event-id");
        let last = last.map(|id| id.to_str().unwrap_or("none of ours"));
        match (wanted, self.live) {
            (Follow::Events, _) => self.events.follow(last).ok_or(Problem::TooManyFollow),
            (Follow::Stream, None) => Err(Problem::NoStream),
            (Follow::Stream, Some(live)) => {
                let query = Query::parse(request.uri().query().unwrap_or_default());
                let request = LiveRequest { tables: query.all("table"), last_event_id: last };
                live.follow(&request).map_err(|refusal| match refusal {
                    LiveRefusal::Request(problem) => Problem::BadQuery(problem),
                    LiveRefusal::Busy(problem) => Problem::StreamRefused(problem),
                })
            }
        }
    }
}

impl LastUse {
    pub(crate) fn touch(&self) {
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.millis.store(millis, Ordering::Relaxed);
    }

    fn at(&self) -> Instant {
        self.began + Duration::from_millis(self.millis.load(Ordering::Relaxed))
    }
}
