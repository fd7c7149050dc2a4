//! The webhook sink on real sockets, plain and TLS, and receivers that fail, hang, refuse and hang up.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use herdsman_stream::config::Shape;
use herdsman_stream::sinks::conformance::{self, Seen, batch, keyed, row};
use herdsman_stream::sinks::webhook::{WebhookConfig, WebhookSink, verified};
use herdsman_stream::{DeliveryError, Order, Sink, SinkError, Why};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

/// A request as it arrived.
#[derive(Clone, Debug)]
struct Request {
    target: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
    connection: usize,
}

/// What a receiver does with a request.
#[derive(Clone, Debug)]
enum Reply {
    Status(u16),
    With(u16, &'static str),
    /// Nothing, ever.
    Hang,
    /// Close without an answer.
    Drop,
    /// The head of an answer, and then nothing.
    Stall(u16),
    /// Answer, then close, without having said that it will.
    Leave(u16),
}

struct Receiver {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    task: AbortHandle,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    async fn start(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(None, reply).await
    }

    async fn serve(
        tls: Option<tokio_rustls::TlsAcceptor>,
        reply: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, reply) = (Arc::clone(&requests), Arc::new(reply));
        let task = tokio::spawn(async move {
            let mut connection = 0;
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, reply, tls) = (Arc::clone(&seen), Arc::clone(&reply), tls.clone());
                connection += 1;
                tokio::spawn(async move {
                    match tls {
                        None => answer(stream, connection, &seen, &*reply).await,
                        Some(tls) => {
                            let Ok(stream) = tls.accept(stream).await else { return };
                            answer(stream, connection, &seen, &*reply).await;
                        }
                    }
                });
            }
        })
        .abort_handle();
        Self { address, requests, task }
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    fn sink(&self, more: &Value) -> WebhookSink {
        sink(&format!("http://{}/hook?a=b", self.address), more)
    }

    /// Changes of all requests that were answered with 200, in order.
    fn taken(&self, status: impl Fn(&Request) -> bool) -> Vec<Seen> {
        self.requests().iter().filter(|r| status(r)).flat_map(Request::changes).collect()
    }
}

impl Request {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn changes(&self) -> Vec<Seen> {
        let json = self.json();
        match json.get("changes").and_then(Value::as_array) {
            Some(changes) => changes.iter().map(|c| conformance::seen(c).unwrap()).collect(),
            None => vec![conformance::seen(&json).unwrap()],
        }
    }

    fn has(&self, ordinal: u64) -> bool {
        self.changes().iter().any(|seen| seen.ordinal == ordinal)
    }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    connection: usize,
    seen: &Mutex<Vec<Request>>,
    reply: &(dyn Fn(&Request) -> Reply + Send + Sync),
) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream, connection).await {
        let reply = reply(&request);
        seen.lock().unwrap().push(request);
        let (status, headers, leave) = match reply {
            Reply::Status(status) => (status, "", false),
            Reply::With(status, headers) => (status, headers, false),
            Reply::Leave(status) => (status, "", true),
            Reply::Drop => return,
            Reply::Stall(status) => {
                let head = format!("HTTP/1.1 {status} Whatever\r\nContent-Length: 9\r\n\r\n");
                let _gone = stream.write_all(head.as_bytes()).await;
                return std::future::pending().await;
            }
            Reply::Hang => return std::future::pending().await,
        };
        let head = format!("HTTP/1.1 {status} Whatever\r\n{headers}Content-Length: 2\r\n\r\nok");
        if stream.write_all(head.as_bytes()).await.is_err() || leave {
            let _gone = stream.shutdown().await;
            return;
        }
    }
}

async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufReader<S>,
    connection: usize,
) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
        if line == "\r\n" {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let target = lines.first()?.clone();
    let headers: HashMap<String, String> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request { target, headers, body, connection })
}

fn sink(url: &str, more: &Value) -> WebhookSink {
    let mut json = json!({ "url": url, "timeout": "5s" });
    let fields = more.as_object().cloned().unwrap_or_default();
    json.as_object_mut().unwrap().extend(fields);
    let config: WebhookConfig = serde_json::from_value(json).unwrap();
    WebhookSink::new(&config, Shape::Herdsman).unwrap()
}

async fn deliver(sink: &WebhookSink, ordinals: std::ops::Range<u64>) -> Result<(), DeliveryError> {
    sink.deliver(&batch(ordinals.map(|ordinal| row(ordinal, "a")).collect())).await
}

async fn unavailable(sink: &WebhookSink) -> SinkError {
    match deliver(sink, 0..4).await {
        Err(DeliveryError::Unavailable(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// `index:why` of what was not delivered.
fn left(result: Result<(), DeliveryError>) -> Vec<String> {
    let Err(DeliveryError::Partly(left)) = result else { panic!("{result:?}") };
    let why = |why: &Why| match why {
        Why::Failed(_) => "failed",
        Why::Rejected(_) => "rejected",
        Why::Behind => "behind",
    };
    left.iter()
        .map(|undelivered| format!("{}:{}", undelivered.index, why(&undelivered.why)))
        .collect()
}

#[tokio::test]
async fn requests_are_signed_named_and_carry_what_was_configured() {
    let receiver = Receiver::start(|_| Reply::Status(200)).await;
    let more = json!({ "secret": "hunter2", "headers": { "Authorization": "Bearer abc" } });
    let sink = receiver.sink(&more);
    deliver(&sink, 0..3).await.unwrap();
    deliver(&sink, 0..3).await.unwrap();
    deliver(&sink, 3..6).await.unwrap();
    let requests = receiver.requests();
    let [first, again, other] = requests.as_slice() else { panic!("{}", requests.len()) };
    assert_eq!(first.target, "POST /hook?a=b HTTP/1.1");
    for (name, value) in [
        ("host", receiver.address.to_string().as_str()),
        ("content-type", "application/json"),
        ("authorization", "Bearer abc"),
    ] {
        assert_eq!(first.headers[name], value);
    }
    assert!(first.headers["user-agent"].starts_with("herdsman/"));
    let tolerance = Duration::from_secs(60);
    let signature = &first.headers["herdsman-signature"];
    assert!(verified(b"hunter2", signature, &first.body, SystemTime::now(), tolerance));
    assert!(!verified(b"hunter2", signature, &other.body, SystemTime::now(), tolerance));
    assert_eq!(first.headers["idempotency-key"], again.headers["idempotency-key"]);
    assert_ne!(first.headers["idempotency-key"], other.headers["idempotency-key"]);
    // One connection is enough for requests one after the other.
    assert!(requests.iter().all(|request| request.connection == 1));
    assert_eq!(sink.order(), Order::PerKey { parallel: 4 });
}

#[tokio::test]
async fn batches_and_single_changes_keep_the_contract_of_sinks() {
    for together in [true, false] {
        let receiver = Receiver::start(|_| Reply::Status(200)).await;
        let sink = receiver.sink(&json!({ "batch": together }));
        conformance::check(&sink, async || receiver.taken(|_| true)).await.unwrap();
    }
}

#[tokio::test]
async fn a_receiver_that_cannot_now_gets_all_of_it_again() {
    for status in [408, 425, 429, 502, 503, 504, 401, 302] {
        let receiver = Receiver::start(move |_| Reply::Status(status)).await;
        let error = unavailable(&receiver.sink(&json!({}))).await;
        assert!(error.to_string().contains(&format!("it answered {status}")), "{error}");
        assert!(!error.to_string().contains("/hook"), "{error}");
        assert_eq!(receiver.requests().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Receiver::start(|_| Reply::Status(200)).await;
    let receiver = Receiver::start(|_| Reply::With(307, "Location: http://127.0.0.1:1/\r\n")).await;
    let error = unavailable(&receiver.sink(&json!({}))).await;
    assert!(error.to_string().contains("it is not followed"), "{error}");
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn a_receiver_that_hangs_hangs_up_or_is_not_there_is_unavailable_in_bounded_time() {
    let hangs = Receiver::start(|_| Reply::Hang).await;
    let error = unavailable(&hangs.sink(&json!({ "timeout": "200ms" }))).await;
    assert!(error.to_string().contains("no answer within 200ms"), "{error}");
    let drops = Receiver::start(|_| Reply::Drop).await;
    unavailable(&drops.sink(&json!({}))).await;
    let nobody = drops.address;
    drop(drops);
    let error = timeout(Duration::from_secs(20), async {
        loop {
            // Its listener is closed a moment after it was dropped.
            let error = unavailable(&sink(&format!("http://{nobody}/"), &json!({}))).await;
            if error.to_string().contains("refused") {
                return error;
            }
        }
    });
    let error = error.await.unwrap();
    assert!(
        error.to_string().starts_with(&format!("failed to post to http://{nobody}: ")),
        "{error}"
    );
}

#[tokio::test]
async fn an_answer_counts_though_its_body_never_comes() {
    let receiver = Receiver::start(|_| Reply::Stall(200)).await;
    let sink = receiver.sink(&json!({}));
    deliver(&sink, 0..1).await.unwrap();
    deliver(&sink, 1..2).await.unwrap();
    assert_eq!(receiver.requests().len(), 2);
}

#[tokio::test]
async fn a_connection_that_was_closed_while_it_was_kept_is_no_failure() {
    let receiver = Receiver::start(|_| Reply::Leave(200)).await;
    let sink = receiver.sink(&json!({}));
    for round in 0..20 {
        deliver(&sink, round..round + 1).await.unwrap();
    }
    let mut arrived = receiver.taken(|_| true);
    arrived.dedup();
    assert_eq!(arrived.len(), 20);
}

#[tokio::test]
async fn a_refused_change_is_found_in_its_batch_and_all_others_are_delivered() {
    let refuses = |request: &Request| request.has(3) || request.has(9);
    let receiver = Receiver::start(move |request| match refuses(request) {
        true => Reply::Status(400),
        false => Reply::Status(200),
    })
    .await;
    let result = deliver(&receiver.sink(&json!({})), 0..12).await;
    assert_eq!(left(result), ["3:rejected", "9:rejected"]);
    let taken: Vec<u64> = receiver.taken(|r| !refuses(r)).iter().map(|seen| seen.ordinal).collect();
    assert_eq!(taken, [0, 1, 2, 4, 5, 6, 7, 8, 10, 11]);
}

#[tokio::test]
async fn a_change_that_fails_blocks_its_own_row_only_where_requests_are_single() {
    let receiver = Receiver::start(|request| match request.has(0) {
        true => Reply::Status(500),
        false => Reply::Status(200),
    })
    .await;
    let sink = receiver.sink(&json!({ "batch": false }));
    let changes = [(0, 1), (1, 2), (2, 1), (3, 3)].map(|(ordinal, id)| keyed(ordinal, id, "a"));
    let result = sink.deliver(&batch(changes.into())).await;
    assert_eq!(left(result), ["0:failed", "2:behind"]);
    let taken: Vec<u64> = receiver.taken(|r| !r.has(0)).iter().map(|seen| seen.ordinal).collect();
    assert_eq!(taken, [1, 3]);
}

#[tokio::test]
async fn retry_after_is_honoured_up_to_the_bound() {
    let receiver = Receiver::start(|_| Reply::With(429, "Retry-After: 3600\r\n")).await;
    let sink = receiver.sink(&json!({ "longest_wait": "700ms" }));
    unavailable(&sink).await;
    let began = Instant::now();
    unavailable(&sink).await;
    assert!(began.elapsed() >= Duration::from_millis(700), "{:?}", began.elapsed());
    let bounded = timeout(Duration::from_secs(20), unavailable(&sink)).await;
    assert!(bounded.is_ok(), "an hour was waited for");
}

#[tokio::test]
async fn https_receivers_are_known_by_the_given_file_and_strangers_are_refused() {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key =
        rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let receiver = Receiver::serve(Some(acceptor), |_| Reply::Status(200)).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, certified.cert.pem()).unwrap();
    let url = format!("https://localhost:{}/", receiver.address.port());
    deliver(&sink(&url, &json!({ "ca_file": file })), 0..2).await.unwrap();
    assert_eq!(receiver.requests().len(), 1);
    let stranger = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&file, stranger.cert.pem()).unwrap();
    let error = unavailable(&sink(&url, &json!({ "ca_file": file }))).await;
    assert!(error.to_string().contains("TLS: "), "{error}");
    assert_eq!(receiver.requests().len(), 1);
}
