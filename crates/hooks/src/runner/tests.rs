//! Hooks that tell, on a watcher's topologies and a receiver that are both ours.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use herdsman_node::{NodeName, Role};
use herdsman_stream::sinks::webhook::verified;
use herdsman_watch::{Topology, Watch};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::herd::tests::{name, nobody, proven, view};
use crate::{Hooks, HooksConfig, Setup, State};

const PATIENCE: Duration = Duration::from_secs(30);

/// A request: its head in lower case, and its body.
type Request = (String, String);

/// Answers with these statuses, one each, then 200; and gives away what came.
async fn receiver(statuses: &'static [u16]) -> (String, mpsc::UnboundedReceiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/secret-path", listener.local_addr().unwrap());
    let (tx, rx) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut statuses = statuses.iter().copied();
        while let Ok((stream, _)) = listener.accept().await {
            let request = answer(stream, statuses.next().unwrap_or(200)).await;
            if tx.send(request).is_err() {
                return;
            }
        }
    });
    (url, rx)
}

async fn answer(mut stream: TcpStream, status: u16) -> Request {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let length = stream.read(&mut piece).await.unwrap();
        bytes.extend_from_slice(&piece[..length]);
        let text = String::from_utf8(bytes.clone()).unwrap();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_lowercase();
            let wanted: usize = header(&head, "content-length").parse().unwrap();
            if body.len() == wanted {
                let answer = format!(
                    "HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
                return (head, body.to_owned());
            }
        }
        assert!(length > 0, "half a request: {text}");
    }
}

fn header<'h>(head: &'h str, name: &str) -> &'h str {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(key, _)| *key == name).map_or("", |(_, value)| value)
}

fn herd(verdict: herdsman_watch::Verdict) -> Arc<Topology> {
    let nodes: BTreeMap<NodeName, _> =
        ["n1", "n2"].map(|node| (name(node), view(Role::Standby, true))).into();
    Arc::new(Topology { verdict, nodes, ..Topology::default() })
}

fn start(hooks: Value) -> (Hooks, watch::Sender<Arc<Topology>>, Setup) {
    let (tx, rx) = watch::channel(herd(proven("n1")));
    let nodes = [("n1", "host=10.0.0.1"), ("n2", "host=10.0.0.2 port=5433")];
    let setup = Setup {
        config: HooksConfig(serde_json::from_value(hooks).unwrap()),
        nodes: nodes.map(|(node, info)| (name(node), info.parse().unwrap())).into(),
        watch: Watch::detached(rx),
    };
    (Hooks::start(&setup).unwrap(), tx, setup)
}

async fn next(requests: &mut mpsc::UnboundedReceiver<Request>) -> Request {
    timeout(PATIENCE, requests.recv()).await.unwrap().unwrap()
}

/// Waits until the hook of this number is as wanted.
async fn until(hooks: &Hooks, number: usize, wanted: impl Fn(&crate::HookStatus) -> bool) {
    let seen = async {
        while !wanted(&hooks.statuses().read()[number]) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let seen = timeout(PATIENCE, seen).await;
    assert!(seen.is_ok(), "{:?}", hooks.statuses().read());
}

#[tokio::test]
async fn a_webhook_that_fails_first_gets_the_same_event_again_signed_and_then_the_next() {
    let (url, mut requests) = receiver(&[503, 500]).await;
    let (hooks, herd_is, _) = start(json!([{
        "name": "post", "retry": { "pause": "10ms" },
        "webhook": { "url": url, "secret": "hunter2", "token": "hunter3-token" },
    }]));
    // Who is primary at the start is no news.
    let mut keys = Vec::new();
    herd_is.send_replace(herd(proven("n2")));
    for tried in 1..=3 {
        let (head, body) = next(&mut requests).await;
        assert!(head.starts_with("post /secret-path "), "{head}");
        let signature = header(&head, "herdsman-signature");
        let now = SystemTime::now();
        assert!(verified(b"hunter2", signature, body.as_bytes(), now, PATIENCE), "{head}");
        assert!(!verified(b"hunter3", signature, body.as_bytes(), now, PATIENCE));
        assert_eq!(header(&head, "authorization"), "bearer hunter3-token");
        let event: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&event["event"], &event["node"]), (&json!("primary"), &json!("n2")), "{tried}");
        keys.push(header(&head, "idempotency-key").to_owned());
    }
    assert!(!keys[0].is_empty() && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    herd_is.send_replace(herd(nobody()));
    let (head, body) = next(&mut requests).await;
    assert!(body.contains("\"no_primary\"") && body.contains("\"previous\":\"n2\""), "{body}");
    assert_ne!(header(&head, "idempotency-key"), keys[0]);
    until(&hooks, 0, |hook| hook.runs.succeeded == 2).await;
    let status = hooks.statuses().read().remove(0);
    assert_eq!((status.runs.failed, status.dropped, status.state), (2, 0, State::Idle));
    assert!(!format!("{hooks:?} {status:?}").contains("hunter"), "{hooks:?}");
    assert!(!format!("{hooks:?} {status:?}").contains("secret-path"));
    hooks.stop().await;
}

#[tokio::test]
async fn slack_gets_a_sentence_and_what_it_refuses_is_given_up() {
    let (url, mut requests) = receiver(&[404]).await;
    let slack = json!({ "url": url, "title": "shop" });
    let (hooks, herd_is, _) = start(json!([{ "name": "chat", "slack": slack }]));
    herd_is.send_replace(herd(nobody()));
    let (_, body) = next(&mut requests).await;
    assert_eq!(body, r#"{"text":"shop: *nobody* is the primary (before: *n1*): nobody"}"#);
    until(&hooks, 0, |hook| hook.dropped == 1).await;
    herd_is.send_replace(herd(proven("n2")));
    let (_, body) = next(&mut requests).await;
    assert!(body.starts_with(r#"{"text":"shop: *n2* is the primary on timeline 1"#), "{body}");
    until(&hooks, 0, |hook| hook.runs.succeeded == 1).await;
    hooks.stop().await;
}

#[tokio::test]
async fn a_reload_starts_what_has_changed_and_leaves_the_rest_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = |file: &str| folder.path().join(file);
    let keeps =
        |kept: &str| json!({ "name": kept, "hosts": { "file": file(kept), "writer": "rw" } });
    let (mut hooks, herd_is, mut setup) = start(json!([keeps("a"), keeps("b")]));
    for number in [0, 1] {
        until(&hooks, number, |hook| hook.runs.succeeded == 1).await;
    }
    assert!(std::fs::read_to_string(file("a")).unwrap().ends_with("\n10.0.0.1 rw\n"));
    let statuses = hooks.statuses();
    setup.config = HooksConfig(serde_json::from_value(json!([keeps("c"), keeps("b")])).unwrap());
    hooks.reload(&setup).await.unwrap();
    let names: Vec<_> = statuses.read().into_iter().map(|hook| hook.name).collect();
    assert_eq!(names, ["c", "b"]);
    herd_is.send_replace(herd(proven("n2")));
    until(&hooks, 0, |hook| hook.last.is_some()).await;
    until(&hooks, 1, |hook| hook.runs.succeeded == 2).await;
    for (kept, expected) in [("a", "10.0.0.1"), ("b", "10.0.0.2")] {
        let text = std::fs::read_to_string(file(kept)).unwrap();
        assert!(text.ends_with(&format!("\n{expected} rw\n")), "{kept}: {text}");
    }
    hooks.stop().await;
}
