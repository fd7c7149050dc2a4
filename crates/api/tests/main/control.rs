//! The mesh by its verbs and by JSON-RPC, from one that the test makes up.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use herdsman_api::{ApiConfig, ControlAnswer, ControlRefusal, MeshControl, Verb};
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;

use crate::client::{Answer, receive, request, send};
use crate::fixture::{Running, config, start};

#[derive(Debug, Default)]
pub(crate) struct Mesh {
    token: Option<&'static str>,
    calls: Mutex<Vec<(String, Map<String, Value>)>>,
}

impl MeshControl for Mesh {
    fn status(&self) -> Value {
        json!({"targets": {"a": {"state": "working"}}})
    }

    fn token(&self) -> Option<&str> {
        self.token
    }

    fn verb(&self, name: &str) -> Option<Verb> {
        match name {
            "status" => Some(Verb::Look),
            "job" => Some(Verb::Read),
            "pause" => Some(Verb::Change),
            "verify" => Some(Verb::Job),
            _ => None,
        }
    }

    fn call(&self, name: &str, parameters: Map<String, Value>, _by: &str) -> ControlAnswer {
        let unknown = parameters.get("link") == Some(&json!("x:y"));
        self.calls.lock().unwrap().push((name.to_owned(), parameters));
        let outcome = if unknown {
            Err(ControlRefusal::Missing("no link `x:y`".to_owned()))
        } else {
            Ok(json!({"done": name}))
        };
        Box::pin(std::future::ready(outcome))
    }
}

async fn staged(token: Option<&'static str>) -> (Running, Arc<Mesh>) {
    let server = start(ApiConfig::default(), None).await;
    let mesh = Arc::new(Mesh { token, ..Mesh::default() });
    server.handle.offer_mesh(Some(mesh.clone()));
    (server, mesh)
}

async fn post(server: &Running, path: &str, token: Option<&str>, body: &str) -> Answer {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let right = token.map_or_else(String::new, |t| format!("Authorization: Bearer {t}\r\n"));
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: t\r\n{right}Content-Length: {length}\r\n\r\n");
    send(&mut stream, &format!("{head}{body}")).await;
    receive(&mut stream, false).await
}

const TOKEN: Option<&str> = Some("s3cret-token");

#[tokio::test]
async fn where_the_mesh_stands_is_told_to_anybody() {
    let (server, _mesh) = staged(None).await;
    let answer = request(server.address, "GET", "/v2/mesh").await;
    assert_eq!(answer.status, 200);
    let told: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(told["targets"]["a"]["state"], "working");
    let answer = request(server.address, "GET", "/v2/mesh/status").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    server.stop().await;
}

#[tokio::test]
async fn what_may_show_rows_is_told_to_who_has_the_token() {
    let (server, _mesh) = staged(TOKEN).await;
    for (token, status) in [("", 401), ("Authorization: Bearer s3cret-token\r\n", 200)] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let head = format!("GET /v2/mesh/job?id=3 HTTP/1.1\r\nHost: t\r\n{token}\r\n");
        send(&mut stream, &head).await;
        let answer = receive(&mut stream, false).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn without_a_mesh_every_path_says_so() {
    let server = start(ApiConfig::default(), None).await;
    for (method, path) in [("GET", "/v2/mesh"), ("POST", "/v2/mesh/pause"), ("POST", "/rpc")] {
        let answer = request(server.address, method, path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.body.contains("no_mesh"), "{answer:?}");
    }
    server.stop().await;
    let server = start(config(), None).await;
    let answer = request(server.address, "POST", "/rpc").await;
    assert_eq!((answer.status, answer.body.as_str()), (404, "404 page not found"));
    server.stop().await;
}

#[tokio::test]
async fn changing_takes_the_token_and_without_one_nobody_may() {
    let (server, mesh) = staged(TOKEN).await;
    for wrong in [None, Some("s3cret-toke"), Some("")] {
        let answer = post(&server, "/v2/mesh/pause", wrong, "").await;
        assert_eq!(answer.status, 401, "{answer:?}");
        assert!(answer.head.contains("www-authenticate: bearer"), "{answer:?}");
    }
    assert!(mesh.calls.lock().unwrap().is_empty());
    let answer = post(&server, "/v2/mesh/pause", TOKEN, r#"{"link": "a:b"}"#).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let expected = ("pause".to_owned(), Map::from_iter([("link".to_owned(), json!("a:b"))]));
    assert_eq!(mesh.calls.lock().unwrap().as_slice(), [expected]);
    server.stop().await;

    let (server, mesh) = staged(None).await;
    let answer = post(&server, "/v2/mesh/pause", TOKEN, "").await;
    assert_eq!(answer.status, 403);
    assert!(answer.body.contains("mesh.control.token"), "{answer:?}");
    assert!(mesh.calls.lock().unwrap().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_its_status_and_its_body() {
    let (server, _mesh) = staged(TOKEN).await;
    for (path, body, status, told) in [
        ("/v2/mesh/dance", "", 404, "unknown_path"),
        ("/v2/mesh/", "", 404, "unknown_path"),
        ("/v2/mesh/pause", "[1]", 400, "bad_body"),
        ("/v2/mesh/pause", "{", 400, "bad_body"),
        ("/v2/mesh/pause", r#"{"link": "x:y"}"#, 404, "no link `x:y`"),
        ("/v2/mesh/verify", "", 202, "verify"),
    ] {
        let answer = post(&server, path, TOKEN, body).await;
        assert_eq!(answer.status, status, "{path} {body}: {answer:?}");
        assert!(answer.body.contains(told), "{path} {body}: {answer:?}");
    }
    let answer = request(server.address, "GET", "/v2/mesh/pause").await;
    assert_eq!(answer.status, 405, "{answer:?}");
    assert!(answer.head.contains("allow: post"), "{answer:?}");
    let answer = request(server.address, "GET", "/rpc").await;
    assert_eq!(answer.status, 405, "{answer:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_body_is_taken_up_to_its_bound_only_and_not_waited_for_for_ever() {
    let (server, mesh) = staged(TOKEN).await;
    let most = format!("{{\"link\": \"{}\"}}", "a".repeat(64 * 1024 - 12));
    assert_eq!(post(&server, "/v2/mesh/pause", TOKEN, &most).await.status, 200);
    let answer = post(&server, "/v2/mesh/pause", TOKEN, &format!("{most} ")).await;
    assert_eq!(answer.status, 413, "{answer:?}");
    let answer = post(&server, "/rpc", TOKEN, &" ".repeat(64 * 1024 + 1)).await;
    assert_eq!(answer.status, 413, "{answer:?}");
    assert_eq!(mesh.calls.lock().unwrap().len(), 1);
    server.stop().await;

    let impatient =
        ApiConfig { request_timeout: Duration::from_millis(200), ..ApiConfig::default() };
    let server = start(impatient, None).await;
    server.handle.offer_mesh(Some(mesh));
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    send(&mut stream, "POST /rpc HTTP/1.1\r\nHost: t\r\nContent-Length: 9\r\n\r\n{").await;
    let _cut = crate::client::rest(&mut stream).await;
    server.stop().await;
}

#[tokio::test]
async fn json_rpc_does_the_same_verbs() {
    let (server, mesh) = staged(TOKEN).await;
    let pause = r#"{"jsonrpc":"2.0","method":"mesh.pause","params":{"link":"a:b"},"id":1}"#;
    let answer = post(&server, "/rpc", TOKEN, pause).await;
    let told: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(told, json!({"jsonrpc": "2.0", "result": {"done": "pause"}, "id": 1}));
    let answer = post(&server, "/rpc", None, pause).await;
    assert_eq!(answer.status, 401, "{answer:?}");
    assert!(answer.body.contains("-32001"), "{answer:?}");
    let answer = post(&server, "/rpc", TOKEN, r#"{"jsonrpc":"2.0","method":"mesh.pause"}"#).await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    let answer = post(&server, "/rpc", TOKEN, "nonsense").await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(answer.body.contains("-32700"), "{answer:?}");
    assert_eq!(mesh.calls.lock().unwrap().len(), 2);
    server.stop().await;
}
