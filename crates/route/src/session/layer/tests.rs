use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use herdsman_node::{Lsn, SystemId, Timeline};
use http::HeaderValue;

use super::*;
use crate::session::Needs;

fn at(lsn: u64) -> SessionToken {
    SessionToken { system_id: SystemId(7), timeline: Timeline(1), lsn: Lsn(lsn) }
}

/// A writer: how often it was asked, and where it is (0: it cannot be reached).
#[derive(Clone, Default)]
struct Writer {
    asked: Arc<AtomicU64>,
    position: Arc<AtomicU64>,
}

impl Writer {
    fn at(lsn: u64) -> Self {
        let writer = Self::default();
        writer.position.store(lsn, Ordering::Relaxed);
        writer
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Resolve for Writer {
    async fn resolve(&self, session: &Session) -> Option<SessionToken> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mark = session.pending()?;
        let lsn = self.position.load(Ordering::Relaxed);
        // One who asks a real server waits.
        tokio::task::yield_now().await;
        let token = (lsn > 0).then(|| at(lsn))?;
        session.settle(mark, token);
        Some(token)
    }
}

/// A writer that never answers.
#[derive(Clone)]
struct Hung;

impl Resolve for Hung {
    async fn resolve(&self, _: &Session) -> Option<SessionToken> {
        pending().await
    }
}

type Reply = Pin<Box<dyn Future<Output = Result<Response<()>, &'static str>> + Send>>;

/// A service made of a function; the function is called in `call`, its future is polled later.
#[derive(Clone)]
struct Handler<H>(H);

impl<H: FnMut() -> F, F> Service<Request<()>> for Handler<H>
where
    F: Future<Output = Result<Response<()>, &'static str>> + Send + 'static,
{
    type Response = Response<()>;
    type Error = &'static str;
    type Future = Reply;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Reply {
        Box::pin((self.0)())
    }
}

/// A handler that does something with its session.
fn handler(
    act: impl Fn(&Session) + Clone + Send + 'static,
) -> Handler<impl FnMut() -> Reply + Clone> {
    Handler(move || -> Reply {
        let act = act.clone();
        Box::pin(async move {
            tokio::task::yield_now().await;
            act(&Session::current().expect("a session"));
            Ok(Response::new(()))
        })
    })
}

async fn send<S, E>(service: &mut S, headers: &[&str]) -> Result<Response<()>, E>
where
    S: Service<Request<()>, Response = Response<()>, Error = E>,
{
    let mut request = Request::new(());
    for value in headers {
        request.headers_mut().append(HEADER, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    poll_fn(|cx| service.poll_ready(cx)).await?;
    service.call(request).await
}

/// What the response carries to the next request.
async fn told<S>(service: &mut S, headers: &[&str]) -> Option<String>
where
    S: Service<Request<()>, Response = Response<()>, Error = &'static str>,
{
    let response = send(service, headers).await.unwrap();
    let values: Vec<_> = response.headers().get_all(HEADER).iter().collect();
    assert!(values.len() <= 1, "{values:?}");
    values.first().map(|value| value.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_request_that_writes_nothing_carries_nothing_and_asks_nothing() {
    let writer = Writer::at(9);
    let reads = handler(|session| assert_eq!(session.needs(), Needs::Nothing));
    assert_eq!(told(&mut SessionLayer::new(writer.clone()).layer(reads), &[]).await, None);
    assert_eq!(writer.asked(), 0);
}

#[tokio::test]
async fn a_token_is_respected_and_given_back_without_asking() {
    let writer = Writer::at(9);
    let reads = handler(|session| assert_eq!(session.needs(), Needs::Token(at(5))));
    let mut service = SessionLayer::new(writer.clone()).layer(reads);
    assert_eq!(told(&mut service, &["1.7-1-0/5"]).await.as_deref(), Some("1.7-1-0/5"));
    assert_eq!(writer.asked(), 0);
}

#[tokio::test]
async fn a_request_that_writes_carries_the_writers_position() {
    let writer = Writer::at(9);
    let mut service = SessionLayer::new(writer.clone()).layer(handler(Session::wrote));
    assert_eq!(told(&mut service, &[]).await.as_deref(), Some("1.7-1-0/9"));
    assert_eq!(told(&mut service, &["1.7-1-0/5"]).await.as_deref(), Some("1.7-1-0/9"));
    assert_eq!(writer.asked(), 2);
}

#[tokio::test]
async fn a_transaction_handed_out_is_in_the_token() {
    let mut service = SessionLayer::new(Writer::at(9)).layer(handler(Session::began));
    assert_eq!(told(&mut service, &[]).await.as_deref(), Some("1.7-1-0/9"));
}

#[tokio::test]
async fn without_a_position_the_old_token_is_not_passed_off_as_enough() {
    let writer = Writer::default();
    let mut service = SessionLayer::new(writer.clone()).layer(handler(Session::wrote));
    assert_eq!(told(&mut service, &["1.7-1-0/5"]).await.as_deref(), Some("1.writer"));

    let reads = handler(|session| assert_eq!(session.needs(), Needs::AskWriter));
    let mut service = SessionLayer::new(writer.clone()).layer(reads);
    assert_eq!(told(&mut service, &["1.writer"]).await.as_deref(), Some("1.writer"));
    writer.position.store(9, Ordering::Relaxed);
    assert_eq!(told(&mut service, &["1.writer"]).await.as_deref(), Some("1.7-1-0/9"));
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_does_not_answer_holds_the_response_no_longer_than_patience() {
    let patience = Duration::from_millis(200);
    let mut service = SessionLayer::new(Hung).patience(patience).layer(handler(Session::wrote));
    let start = tokio::time::Instant::now();
    assert_eq!(told(&mut service, &[]).await.as_deref(), Some("1.writer"));
    // The clock is paused and moves from timer to timer.
    assert!(start.elapsed() < PATIENCE);
}

#[tokio::test]
async fn what_is_still_being_written_when_the_response_begins_is_not_claimed() {
    let writer = Writer::at(9);
    let body = Arc::new(std::sync::Mutex::new(None));
    let streams = handler(move |session| {
        body.lock().unwrap().replace(session.transaction());
    });
    let mut service = SessionLayer::new(writer.clone()).layer(streams);
    assert_eq!(told(&mut service, &[]).await.as_deref(), Some("1.writer"));
    assert_eq!(writer.asked(), 0);
}

#[tokio::test]
async fn a_header_that_is_no_token_is_ignored() {
    let reads = handler(|session| assert_eq!(session.needs(), Needs::Nothing));
    let mut service = SessionLayer::new(Writer::at(9)).layer(reads);
    let long = format!("1.7-1-0/{}", "5".repeat(100_000));
    for value in ["", "1", "2.7-1-0/5", "1.Writer", "1.7-1", "1.7-1-0/5 , x", "ü", &long] {
        assert_eq!(told(&mut service, &[value]).await, None, "{value:.40}");
    }
}

#[tokio::test]
async fn of_several_values_all_are_respected() {
    let reads = handler(|session| assert_eq!(session.needs(), Needs::Token(at(6))));
    let mut service = SessionLayer::new(Writer::at(9)).layer(reads);
    let values = ["1.7-1-0/5", "nonsense", "1.7-1-0/6", "1.7-1-0/4"];
    assert_eq!(told(&mut service, &values).await.as_deref(), Some("1.7-1-0/6"));
}

#[tokio::test]
async fn another_header_can_be_chosen() {
    let name = HeaderName::from_static("x-seen");
    let layer = SessionLayer::new(Writer::at(9)).header(name.clone());
    let mut service = layer.layer(handler(Session::wrote));
    let response = send(&mut service, &["1.7-1-0/5"]).await.unwrap();
    assert_eq!(response.headers()[&name], "1.7-1-0/9");
    assert!(!response.headers().contains_key(HEADER));
}

#[tokio::test]
async fn a_layer_inside_a_layer_is_the_same_session() {
    let writer = Writer::at(9);
    let layer = SessionLayer::new(writer.clone());
    let mut service = layer.layer(layer.layer(handler(Session::wrote)));
    assert_eq!(told(&mut service, &["1.7-1-0/5"]).await.as_deref(), Some("1.7-1-0/9"));
    assert_eq!(writer.asked(), 1);
}

#[tokio::test]
async fn in_a_task_that_is_in_a_session_the_request_joins_it() {
    let own = Session::with_token(at(5));
    let writes = handler(|session| {
        assert_eq!(session.needs(), Needs::Token(at(5)));
        session.began();
    });
    let mut service = SessionLayer::new(Writer::at(9)).layer(writes);
    own.clone().scope(told(&mut service, &[])).await;
    assert_eq!(own.needs(), Needs::Writer);
}

#[tokio::test]
async fn a_later_token_that_the_service_passes_on_is_kept() {
    let passes_on = |value: &'static str| {
        Handler(move || async move {
            let mut response = Response::new(());
            response.headers_mut().insert(HEADER, HeaderValue::from_static(value));
            Ok(response)
        })
    };
    for (upstream, expected) in [
        ("1.7-1-0/8", "1.7-1-0/8"),
        ("1.7-1-0/2", "1.7-1-0/5"),
        ("nonsense", "1.7-1-0/5"),
        ("1.writer", "1.7-1-0/9"),
    ] {
        let mut service = SessionLayer::new(Writer::at(9)).layer(passes_on(upstream));
        let told = told(&mut service, &["1.7-1-0/5"]).await;
        assert_eq!(told.as_deref(), Some(expected), "{upstream}");
    }
}

#[tokio::test]
async fn the_service_is_in_the_session_while_it_makes_its_future() {
    let eager = Handler(|| {
        let token = Session::current().and_then(|session| session.token());
        async move {
            assert_eq!(token, Some(at(5)));
            Ok(Response::new(()))
        }
    });
    let mut service = SessionLayer::new(Writer::at(9)).layer(eager);
    assert_eq!(told(&mut service, &["1.7-1-0/5"]).await.as_deref(), Some("1.7-1-0/5"));
    assert!(Session::current().is_none());
}

#[tokio::test]
async fn one_request_knows_nothing_of_the_one_before() {
    let mut service = SessionLayer::new(Writer::at(9)).layer(handler(|session| {
        assert_eq!(session.needs(), Needs::Nothing);
        session.wrote();
    }));
    for _ in 0..2 {
        assert_eq!(told(&mut service, &[]).await.as_deref(), Some("1.7-1-0/9"));
    }
}

#[tokio::test]
async fn an_error_of_the_service_is_passed_through() {
    let fails = Handler(|| async {
        Session::current().expect("a session").wrote();
        Err("no more room")
    });
    let writer = Writer::at(9);
    let mut service = SessionLayer::new(writer.clone()).layer(fails);
    assert_eq!(send(&mut service, &[]).await.unwrap_err(), "no more room");
    assert_eq!(writer.asked(), 0);
}

#[test]
fn it_is_what_axum_asks_of_a_layer() {
    #[derive(Clone)]
    struct Route;
    impl Service<Request<()>> for Route {
        type Response = Response<()>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Response<()>, Infallible>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, _: Request<()>) -> Self::Future {
            std::future::ready(Ok(Response::new(())))
        }
    }
    fn check<L>(_: L)
    where
        L: Layer<Route> + Clone + Send + Sync + 'static,
        L::Service: Service<Request<()>, Response = Response<()>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        <L::Service as Service<Request<()>>>::Future: Send + 'static,
    {
    }
    check(SessionLayer::new(Writer::at(9)));
}
