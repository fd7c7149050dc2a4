//! The SSE sink behind the real API: from a delivery to a subscriber's socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use herdsman_api::{ApiConfig, ApiState, Groups, Listen, LiveFeed, LiveRefusal, LiveRequest};
use herdsman_api::{LiveStream, Server};
use herdsman_stream::Sink;
use herdsman_stream::config::Shape;
use herdsman_stream::sinks::SinkConfig;
use herdsman_stream::sinks::conformance::{batch, row};
use herdsman_stream::sinks::sse::{Hub, NotSubscribed};
use herdsman_watch::{Topology, Watch};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// What the program puts between the two crates.
#[derive(Debug)]
struct Live(Hub);

impl LiveStream for Live {
    fn follow(&self, request: &LiveRequest<'_>) -> Result<LiveFeed, LiveRefusal> {
        match self.0.subscribe(&request.tables, request.last_event_id) {
            Ok(subscription) => Ok(Box::pin(subscription.into_stream())),
            Err(error @ NotSubscribed::Full(_)) => Err(LiveRefusal::Busy(error.to_string())),
            Err(error) => Err(LiveRefusal::Request(error.to_string())),
        }
    }
}

struct Running {
    address: SocketAddr,
    sink: Arc<dyn Sink>,
    shutdown: CancellationToken,
    _topology: watch::Sender<Arc<Topology>>,
}

async fn start(settings: &str) -> Running {
    let config: SinkConfig = serde_json::from_str(&format!(r#"{{"sse": {settings}}}"#)).unwrap();
    let sink = config.build("live", Shape::Herdsman).unwrap();
    let (publisher, topology) = watch::channel(Arc::new(Topology::default()));
    let state = ApiState {
        watch: Watch::detached(topology),
        groups: Groups::new(),
        config: ApiConfig::default(),
        writes: false,
    };
    let listen = Listen { bind: "127.0.0.1".to_owned(), port: 0 };
    let server = Server::bind(listen, None, state).await.unwrap();
    server.handle().offer_stream(Some(Arc::new(Live(config.live().unwrap().clone()))));
    let address = server.local_addrs()[0];
    let shutdown = CancellationToken::new();
    tokio::spawn(server.run(shutdown.clone()));
    Running { address, sink, shutdown, _topology: publisher }
}

impl Running {
    async fn follow(&self, query: &str, headers: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET /v2/stream{query} HTTP/1.1\r\nHost: test\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    async fn deliver(&self, ordinals: std::ops::Range<u64>) {
        let changes = ordinals.map(|ordinal| row(ordinal, "a")).collect();
        self.sink.deliver(&batch(changes)).await.unwrap();
    }
}

async fn until(stream: &mut TcpStream, text: &str) -> String {
    let mut found = Vec::new();
    while !String::from_utf8_lossy(&found).contains(text) {
        let byte = timeout(Duration::from_secs(10), stream.read_u8()).await;
        let byte = byte.unwrap_or_else(|_| panic!("{text}: {}", String::from_utf8_lossy(&found)));
        found.push(byte.expect("the answer ended"));
    }
    String::from_utf8(found).unwrap()
}

#[tokio::test]
async fn a_delivery_reaches_subscribers_and_who_comes_back_misses_nothing() {
    let running = start("{}").await;
    let mut stream = running.follow("?table=public.*", "").await;
    let begin = until(&mut stream, "retry: 1000").await;
    assert!(begin.starts_with("HTTP/1.1 200") && begin.contains("text/event-stream"), "{begin}");
    running.deliver(0..2).await;
    until(&mut stream, "id: 1/100/1\ndata: {").await;
    drop(stream);
    running.deliver(2..4).await;
    let mut stream = running.follow("", "Last-Event-ID: 1/100/1\r\n").await;
    let text = until(&mut stream, "id: 1/100/3\ndata: {").await;
    assert!(text.contains("id: 1/100/2\ndata: {") && !text.contains("gap"), "{text}");
    running.shutdown.cancel();
    until(&mut stream, "0\r\n\r\n").await;
}

#[tokio::test]
async fn wrong_tables_and_too_many_subscribers_are_told() {
    let running = start(r#"{"subscribers": 1}"#).await;
    let mut first = running.follow("", "").await;
    until(&mut first, "retry: 1000").await;
    let text = until(&mut running.follow("", "").await, "raise `subscribers`").await;
    assert!(text.starts_with("HTTP/1.1 503"), "{text}");
    let text = until(&mut running.follow("?table=orders", "").await, "schema.table").await;
    assert!(text.starts_with("HTTP/1.1 400"), "{text}");
    running.shutdown.cancel();
}
