//! Spans, as a collector gets them.

mod spans;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;

use self::spans::Span;
use crate::cluster::until;
use crate::gateway::Gateway;
use crate::program::{Folder, closed_port, ended, get};
use crate::{mesh, stream};

/// The head of a request, and its body.
type Request = (String, Vec<u8>);

/// Takes whatever is sent, and keeps it.
struct Collector {
    url: String,
    taken: Arc<Mutex<Vec<Request>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let taken = Arc::new(Mutex::new(Vec::new()));
        let copy = Arc::clone(&taken);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let request = take(stream);
                copy.lock().unwrap().push(request);
            }
        });
        Self { url, taken }
    }

    fn spans(&self) -> Vec<Span> {
        let taken = self.taken.lock().unwrap();
        taken.iter().flat_map(|(_, body)| spans::of_request(body)).collect()
    }

    /// The spans of this name, once there are some for which this holds.
    #[track_caller]
    fn awaits(&self, name: &str, good: impl Fn(&Span) -> bool) -> Vec<Span> {
        let found = || {
            let spans = self.spans().into_iter();
            Shown(spans.filter(|span| span.name == name && good(span)).collect())
        };
        until(&format!("spans called {name}"), found, |found| !found.0.is_empty()).0
    }

    /// Whether a span with this in it has come.
    fn has(&self, text: &str) -> bool {
        let taken = self.taken.lock().unwrap();
        taken.iter().any(|(_, body)| body.windows(text.len()).any(|part| part == text.as_bytes()))
    }
}

/// Spans as a failure shows them.
struct Shown(Vec<Span>);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// Reads a request, and says that it is good.
fn take(mut stream: TcpStream) -> Request {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    (head, body)
}

#[test]
fn a_request_becomes_a_span_and_the_last_ones_are_sent_at_the_end() {
    let folder = Folder::new();
    let collector = Collector::start();
    let hosts = format!("hosts: {{n1: {{host: 127.0.0.1, port: {}}}}}\nport: 0\n", closed_port());
    let config = folder.file("herdsman.yml", &hosts);
    let mut command = folder.command(&["run", &config]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url);
    // So long that only the end sends anything.
    command.env("OTEL_BSP_SCHEDULE_DELAY", "3600000");
    let mut running = folder.start_command(command);
    get(&running.url(), "/v1/primary?group=hunter");
    running.signal(Signal::TERM);
    assert_eq!(running.code(), Some(0), "{}", running.stderr());
    for text in ["herdsman", "api request", "/v1/primary"] {
        assert!(collector.has(text), "no span with `{text}`: {}", running.stderr());
    }
    assert!(!collector.has("hunter"), "a query was told");
    let (head, _) = collector.taken.lock().unwrap()[0].clone();
    assert!(
        head.starts_with("post /v1/traces ") && head.contains("application/x-protobuf"),
        "{head}"
    );
}

#[test]
fn without_an_endpoint_nothing_is_sent_and_a_wrong_one_is_told_at_the_start() {
    let folder = Folder::new();
    let hosts = format!("hosts: {{n1: {{host: 127.0.0.1, port: {}}}}}\nport: 0\n", closed_port());
    let config = folder.file("herdsman.yml", &hosts);
    for (url, expected) in [("nonsense", "is not a URL"), ("https://localhost:1", "_CERTIFICATE")] {
        let mut command = folder.command(&["run", &config]);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", url);
        let ended = ended(&mut command);
        assert_eq!(ended.code, Some(78), "{}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    }
    let collector = Collector::start();
    let mut command = folder.command(&["run", &config]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url).env("OTEL_SDK_DISABLED", "true");
    let mut running = folder.start_command(command);
    get(&running.url(), "/v1/primary");
    running.signal(Signal::TERM);
    assert_eq!(running.code(), Some(0));
    assert!(collector.taken.lock().unwrap().is_empty());
}

#[test]
fn probes_sessions_batches_and_transactions_become_spans_with_their_nodes_and_no_secret() {
    let yard = stream::Yard::new(crate::cluster::versions()[0], 0, "");
    let gateway = Gateway::of(&yard.cluster);
    let password = yard.cluster.sandbox().credentials().password("postgres").unwrap();
    let more = format!(
        "stream:\n  tables: [public.users]\n  login: {{user: postgres, dbname: postgres, password: '{password}'}}\n  \
         sinks: {{lines: {{file: {{path: changes.jsonl}}}}}}\n\
         ledger:\n  log: {{embedded: {{path: all.log}}}}\n  nodes: {{lite: {{sqlite: {{path: lite.db}}}}}}\n"
    );
    yard.folder.file("herdsman.yml", &gateway.yaml(&more));
    let collector = Collector::start();
    let mut command = yard.folder.command(&["run"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url);
    command.env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test");
    command.env("OTEL_BSP_SCHEDULE_DELAY", "200");
    let running = yard.folder.start_command(command);
    gateway.until_writable(&running);
    gateway.as_app("select 'hunter-statement'").unwrap();
    let phase = r#"herdsman_stream_phase{slot="herdsman",phase="streaming"} 1"#;
    until("the stream", || get(&running.url(), "/metrics"), |text| text.contains(phase));
    yard.sql("insert into users values (1, 'hunter-row')");
    let sql = |statement: &str| {
        let ended = yard.folder.herdsman(&["ledger", "sql", statement]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    };
    sql("CREATE TABLE account (id bigint PRIMARY KEY, name varchar(40))");
    sql("INSERT INTO account (id, name) VALUES (1, 'hunter-entry')");

    let has = |key: &'static str, value: &'static str| {
        move |span: &Span| span.attributes.get(key).is_some_and(|found| found == value)
    };
    collector.awaits("watch probe", has("herdsman.node", "n1"));
    let routes = collector.awaits("gateway route", has("herdsman.node", "n1"));
    // A session's span is told when the session ends.
    let sessions = collector.awaits("gateway session", has("db.system.name", "postgresql"));
    assert!(
        routes.iter().any(|route| sessions.iter().any(|session| session.id == route.parent)),
        "no route is part of a session: {routes:?} {sessions:?}"
    );
    collector.awaits("stream batch", has("herdsman.sink", "lines"));
    let ran = collector.awaits("ledger transaction", has("herdsman.node", "lite"));
    let appended = collector.awaits("ledger append", |_| true);
    assert!(
        appended.iter().any(|append| ran.iter().any(|ran| ran.id == append.parent)),
        "no entry is part of a transaction: {ran:?} {appended:?}"
    );
    collector.awaits("ledger apply", has("herdsman.node", "lite"));
    for span in collector.spans() {
        assert_eq!(span.resource["service.name"], "herdsman");
        assert_eq!(span.resource["deployment.environment.name"], "test");
    }
    for secret in ["hunter", password] {
        assert!(!collector.has(secret), "a span shows `{secret}`");
    }
}

#[test]
fn what_a_mesh_applies_becomes_spans_with_their_nodes() {
    let yard = mesh::Yard::up();
    let collector = Collector::start();
    let mut command = yard.folder.command(&["run"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url);
    command.env("OTEL_BSP_SCHEDULE_DELAY", "200");
    let _running = yard.folder.start_command(command);
    yard.sql("n1", "insert into t (v) values ('hunter-row')");
    for node in ["n2", "n3"] {
        collector.awaits("mesh apply", |span| {
            span.attributes.get("herdsman.node").is_some_and(|found| found == node)
        });
    }
    assert!(!collector.has("hunter"), "a row is told");
}
