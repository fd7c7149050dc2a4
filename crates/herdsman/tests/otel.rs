//! Spans, as a collector gets them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;

use crate::program::{Folder, closed_port, ended, get};

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

    /// Whether a span with this in it has come.
    fn has(&self, text: &str) -> bool {
        let taken = self.taken.lock().unwrap();
        taken.iter().any(|(_, body)| body.windows(text.len()).any(|part| part == text.as_bytes()))
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
