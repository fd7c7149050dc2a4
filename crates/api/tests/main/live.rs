//! Answers that last, from a feed that the test holds the other end of.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use herdsman_api::{ApiConfig, LiveFeed, LiveRefusal, LiveRequest, LiveStream};
use hyper::body::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::client::{Answer, exchange, receive, request, rest, send};
use crate::fixture::{Running, config, start};

#[derive(Debug, Default)]
struct Stage {
    asked: Mutex<Vec<(Vec<String>, Option<String>)>>,
    feeds: Mutex<Vec<mpsc::Sender<Bytes>>>,
}

struct Feed(mpsc::Receiver<Bytes>);

impl Stream for Feed {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.0.poll_recv(cx)
    }
}

impl LiveStream for Stage {
    fn follow(&self, request: &LiveRequest<'_>) -> Result<LiveFeed, LiveRefusal> {
        let tables: Vec<String> = request.tables.iter().map(|&table| table.to_owned()).collect();
        match tables.first().map(String::as_str) {
            Some("nonsense") => return Err(LiveRefusal::Request("no pattern".to_owned())),
            Some("busy") => return Err(LiveRefusal::Busy("come back later".to_owned())),
            _ => {}
        }
        let last = request.last_event_id.map(str::to_owned);
        self.asked.lock().unwrap().push((tables, last));
        let (sender, receiver) = mpsc::channel(1);
        self.feeds.lock().unwrap().push(sender);
        Ok(Box::pin(Feed(receiver)))
    }
}

async fn staged(config: ApiConfig) -> (Running, Arc<Stage>) {
    let server = start(config, None).await;
    let stage = Arc::new(Stage::default());
    server.handle.offer_stream(Some(stage.clone()));
    (server, stage)
}

/// Follows, and returns what the answer begins with, and the other end of its feed.
async fn follow(server: &Running, stage: &Stage) -> (TcpStream, Answer, mpsc::Sender<Bytes>) {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    send(&mut stream, "GET /v2/stream HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let answer = receive(&mut stream, true).await;
    let feed = stage.feeds.lock().unwrap().pop().unwrap();
    (stream, answer, feed)
}

pub(crate) async fn until<S: AsyncRead + Unpin>(stream: &mut S, text: &str) -> String {
    let mut found = Vec::new();
    while !String::from_utf8_lossy(&found).contains(text) {
        let byte = timeout(Duration::from_secs(10), stream.read_u8()).await.expect("nothing came");
        found.push(byte.expect("the answer ended"));
    }
    String::from_utf8(found).unwrap()
}

#[tokio::test]
async fn without_a_stream_the_answer_says_how_to_get_one() {
    let server = start(ApiConfig::default(), None).await;
    let answer = request(server.address, "GET", "/v2/stream").await;
    assert_eq!(answer.status, 404);
    assert!(answer.body.contains("\"code\": \"no_stream\""), "{}", answer.body);
    assert!(answer.body.contains("`sse`"), "{}", answer.body);
    let (server, stage) = (server, Arc::new(Stage::default()));
    server.handle.offer_stream(Some(stage));
    assert_eq!(request(server.address, "HEAD", "/v2/stream").await.status, 200);
    server.handle.offer_stream(None);
    assert_eq!(request(server.address, "GET", "/v2/stream").await.status, 404);
    server.stop().await;
}

#[tokio::test]
async fn events_arrive_as_they_happen_until_the_feed_ends() {
    let (server, stage) = staged(config()).await;
    let (mut stream, answer, feed) = follow(&server, &stage).await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: text/event-stream\r\n"), "{}", answer.head);
    assert!(!answer.head.contains("content-length"), "{}", answer.head);
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        feed.send(event.into()).await.unwrap();
        until(&mut stream, event).await;
    }
    drop(feed);
    // The last chunk of an answer without a known length.
    until(&mut stream, "0\r\n\r\n").await;
    assert_eq!(exchange(&mut stream, "GET", "/v1/primary").await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn what_is_asked_for_is_handed_over_decoded_and_refusals_are_answers() {
    let (server, stage) = staged(ApiConfig::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let target = "/v2/stream?table=public.a%2a&table=shop.b";
    send(
        &mut stream,
        &format!("GET {target} HTTP/1.1\r\nHost: test\r\nLast-Event-ID: 0/1/2\r\n\r\n"),
    )
    .await;
    receive(&mut stream, true).await;
    let tables = vec!["public.a*".to_owned(), "shop.b".to_owned()];
    assert_eq!(*stage.asked.lock().unwrap(), [(tables, Some("0/1/2".to_owned()))]);
    for (table, status, code) in [("nonsense", 400, "bad_query"), ("busy", 503, "stream_refused")] {
        let answer = request(server.address, "GET", &format!("/v2/stream?table={table}")).await;
        assert_eq!(answer.status, status);
        assert!(answer.body.contains(&format!("\"code\": \"{code}\"")), "{}", answer.body);
    }
    // Nobody follows for a HEAD.
    let head = request(server.address, "HEAD", "/v2/stream").await;
    assert_eq!((head.status, stage.asked.lock().unwrap().len()), (200, 1));
    server.stop().await;
}

#[tokio::test]
async fn who_follows_a_silent_stream_is_kept_by_comments() {
    let hasty = ApiConfig { request_timeout: Duration::from_millis(300), ..config() };
    let (server, stage) = staged(hasty).await;
    let (mut stream, _, feed) = follow(&server, &stage).await;
    for _ in 0..6 {
        until(&mut stream, "\r\n:\n\n\r\n").await;
    }
    feed.send("data: late\n\n".into()).await.unwrap();
    until(&mut stream, "data: late").await;
    server.stop().await;
}

#[tokio::test]
async fn who_does_not_read_is_cut_and_its_feed_let_go() {
    let hasty = ApiConfig { request_timeout: Duration::from_millis(300), ..config() };
    let (server, stage) = staged(hasty).await;
    let (_never_reads, _, feed) = follow(&server, &stage).await;
    // More than any socket takes; in the end, nobody is there to take it.
    let large = Bytes::from(vec![b'x'; 1 << 20]);
    let all = async { while feed.send(large.clone()).await.is_ok() {} };
    timeout(Duration::from_secs(20), all).await.expect("still fed");
    server.stop().await;
}

#[tokio::test]
async fn stopping_ends_what_follows_at_once() {
    let (server, stage) = staged(config()).await;
    let (mut stream, _, feed) = follow(&server, &stage).await;
    feed.send("data: 1\n\n".into()).await.unwrap();
    until(&mut stream, "data: 1").await;
    server.shutdown.cancel();
    let end = rest(&mut stream).await;
    assert!(String::from_utf8_lossy(&end).ends_with("0\r\n\r\n"), "{end:?}");
    server.stop().await;
    assert!(feed.is_closed());
}

#[tokio::test]
async fn followers_count_as_connections() {
    // That somebody has left is seen when there is something to send, at the latest a comment.
    let request_timeout = Duration::from_millis(300);
    let (server, stage) =
        staged(ApiConfig { max_connections: 1, request_timeout, ..config() }).await;
    let (stream, _, feed) = follow(&server, &stage).await;
    let mut second = TcpStream::connect(server.address).await.unwrap();
    send(&mut second, "GET /v1/primary HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let early = timeout(Duration::from_millis(200), second.read_u8()).await;
    assert!(early.is_err(), "the second connection was served");
    drop(stream);
    assert_eq!(receive(&mut second, false).await.status, 200);
    // Whoever leaves is let go.
    while !feed.is_closed() {
        sleep(Duration::from_millis(5)).await;
    }
    server.stop().await;
}
