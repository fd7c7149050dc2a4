//! Every route there is, asked by nobody in particular, by who may read and by who may operate.

use std::sync::{Arc, Mutex};

use herdsman_api::{
    ApiConfig, ApiStatistics, ControlAnswer, HookBoard, LiveFeed, LiveRefusal, LiveRequest,
    LiveStream, MeshControl, Metrics, ROUTES, Scope, Takes, TokenConfig, Verb,
};
use herdsman_watch::{Moment, Topology};
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;

use crate::client::{Answer, receive, send};
use crate::fixture::{Running, start, state};

/// Everything that can be offered at the API.
#[derive(Debug, Default)]
struct Herd {
    token: Option<&'static str>,
    /// What was done, and for whom.
    done: Mutex<Vec<(String, String)>>,
}

impl MeshControl for Herd {
    fn status(&self) -> Value {
        json!({"targets": {}})
    }

    fn token(&self) -> Option<&str> {
        self.token
    }

    fn verb(&self, name: &str) -> Option<Verb> {
        match name {
            "look" => Some(Verb::Look),
            "read" => Some(Verb::Read),
            "change" => Some(Verb::Change),
            "job" => Some(Verb::Job),
            _ => None,
        }
    }

    fn call(&self, name: &str, _parameters: Map<String, Value>, by: &str) -> ControlAnswer {
        self.done.lock().unwrap().push((name.to_owned(), by.to_owned()));
        Box::pin(std::future::ready(Ok(json!({"done": name}))))
    }
}

impl LiveStream for Herd {
    fn follow(&self, _request: &LiveRequest<'_>) -> Result<LiveFeed, LiveRefusal> {
        Ok(Box::pin(futures_util::stream::pending()))
    }
}

impl HookBoard for Herd {
    fn status(&self) -> Value {
        json!({"hooks": [{"name": "pager", "last": {"told": "s3cret words"}}]})
    }

    fn overview(&self) -> Value {
        json!([{"name": "pager", "last": {}}])
    }
}

impl Metrics for Herd {
    fn text(&self, _topology: &Topology, _now: Moment, _api: &ApiStatistics) -> String {
        "# EOF\n".to_owned()
    }
}

const READER: &str = "r3ading-token";
const OPERATOR: &str = "0perating-token";
const MESH: &str = "m3sh-token";

fn guarded() -> ApiConfig {
    let token = |name: &str, scope, token: &str| TokenConfig {
        name: name.to_owned(),
        scope,
        token: Some(token.to_owned().into()),
        token_file: None,
        token_env: None,
        token_command: None,
    };
    let tokens =
        vec![token("grafana", Scope::Read, READER), token("deploy", Scope::Operate, OPERATOR)];
    ApiConfig { tokens, ..ApiConfig::default() }
}

async fn staged(config: ApiConfig, token: Option<&'static str>) -> (Running, Arc<Herd>) {
    let server = start(config, None).await;
    let herd = Arc::new(Herd { token, ..Herd::default() });
    server.handle.offer_mesh(Some(herd.clone()));
    server.handle.offer_stream(Some(herd.clone()));
    server.handle.offer_metrics(Some(herd.clone()));
    server.handle.offer_hooks(Some(herd.clone()));
    (server, herd)
}

async fn ask(server: &Running, method: &str, path: &str, token: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let right = match token {
        "" => String::new(),
        token => format!("Authorization: Bearer {token}\r\n"),
    };
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: t\r\n{right}Content-Length: {length}\r\n\r\n");
    send(&mut stream, &format!("{head}{body}")).await;
    receive(&mut stream, method == "OPTIONS").await
}

/// Statuses for nobody, for who may read, for who may operate.
async fn statuses(server: &Running, method: &str, path: &str, body: &str) -> [u16; 3] {
    let mut found = [0; 3];
    for (status, token) in found.iter_mut().zip(["", READER, OPERATOR]) {
        let answer = ask(server, method, path, token, body).await;
        assert!(!answer.body.contains("unknown_path"), "{method} {path}: {answer:?}");
        *status = answer.status;
    }
    found
}

/// A path that a row of the table stands for.
fn example(route: &[&str]) -> String {
    if route == ["dashboard", "*"] {
        return "/dashboard/app.js".to_owned();
    }
    let segments = route.iter().map(|segment| if *segment == "*" { "host1" } else { segment });
    format!("/{}", segments.collect::<Vec<_>>().join("/"))
}

#[tokio::test]
async fn every_route_takes_what_the_table_says_and_nothing_else_is_guarded() {
    let (server, herd) = staged(guarded(), None).await;
    let mut open = 0;
    for route in ROUTES {
        let path = example(route.path);
        match route.takes {
            Takes::Nothing | Takes::Heartbeat => {
                open += 1;
                // At the root there is a health check only.
                let method = if path == "/" { "OPTIONS" } else { "GET" };
                let [none, read, operate] = statuses(&server, method, &path, "").await;
                assert!(none == read && read == operate, "{path}: {none} {read} {operate}");
                assert!(!matches!(none, 401 | 403 | 404 | 405), "{path}: {none}");
                // Nothing there changes anything, whoever asks.
                if path != "/" {
                    let found = ask(&server, "POST", &path, OPERATOR, "").await.status;
                    assert_eq!(found, 405, "{path}");
                }
            }
            Takes::Rows => {
                assert_eq!(statuses(&server, "GET", &path, "").await, [401, 200, 200], "{path}");
                assert_eq!(ask(&server, "POST", &path, OPERATOR, "").await.status, 405);
            }
            Takes::Verb => assert!(path.starts_with("/v2/mesh/") || path == "/rpc", "{path}"),
        }
    }
    // A row that is not here was not thought about.
    assert_eq!((open, ROUTES.len()), (29, 33), "give the new route what it takes, and a row here");
    assert!(herd.done.lock().unwrap().is_empty(), "a verb was done");
    server.stop().await;
}

#[tokio::test]
async fn every_kind_of_verb_takes_its_scope_at_every_door() {
    let (server, herd) = staged(guarded(), None).await;
    for (method, verb, expected) in [
        ("GET", "look", [200, 200, 200]),
        ("POST", "look", [200, 200, 200]),
        ("GET", "read", [401, 200, 200]),
        ("POST", "read", [401, 200, 200]),
        ("GET", "change", [405, 405, 405]),
        ("POST", "change", [401, 403, 200]),
        ("GET", "job", [405, 405, 405]),
        ("POST", "job", [401, 403, 202]),
    ] {
        let found = statuses(&server, method, &format!("/v2/mesh/{verb}"), "").await;
        assert_eq!(found, expected, "{method} {verb}");
        let body = format!(r#"{{"jsonrpc":"2.0","method":"mesh.{verb}","id":1}}"#);
        let found = statuses(&server, "POST", "/rpc", &body).await;
        let expected = match expected {
            [405, ..] => [401, 403, 200],
            [a, b, _] => [a, b, 200],
        };
        assert_eq!(found, expected, "{verb}");
    }
    let done = herd.done.lock().unwrap().clone();
    assert!(done.iter().any(|done| *done == ("change".to_owned(), "token deploy".to_owned())));
    let others = |(verb, by): &&(String, String)| {
        matches!(verb.as_str(), "change" | "job") && by != "token deploy"
    };
    assert_eq!(done.iter().find(others), None);
    server.stop().await;
}

#[tokio::test]
async fn a_refusal_says_which_scope_is_taken_and_repeats_no_token() {
    let (server, _herd) = staged(guarded(), None).await;
    for (path, token, status, code, challenge) in [
        ("/v2/mesh/change", "hunter-22", 401, "unauthorized", "bearer scope=\"operate\""),
        ("/v2/mesh/change", READER, 403, "scope_too_narrow", "error=\"insufficient_scope\""),
        ("/v2/mesh/read", "hunter-22", 401, "unauthorized", "bearer scope=\"read\""),
    ] {
        let answer = ask(&server, "POST", path, token, "").await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.head.contains(challenge), "{answer:?}");
        let told: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(told["error"]["code"], code, "{answer:?}");
        let scope = if path.ends_with("read") { "`read`" } else { "`operate`" };
        assert!(told["error"]["message"].as_str().unwrap().contains(scope), "{answer:?}");
        assert!(!answer.body.contains(token) && !answer.head.contains(token), "{answer:?}");
    }
    let answer = ask(&server, "GET", "/v2/stream", "hunter-22", "").await;
    assert_eq!(answer.status, 401);
    assert!(answer.head.contains("scope=\"read\"") && !answer.body.contains("hunter"));
    server.stop().await;
}

#[tokio::test]
async fn the_one_token_of_a_mesh_operates_as_ever_and_closes_nothing_that_was_open() {
    let (server, herd) = staged(ApiConfig::default(), Some(MESH)).await;
    assert_eq!(ask(&server, "POST", "/v2/mesh/change", MESH, "").await.status, 200);
    assert_eq!(ask(&server, "GET", "/v2/mesh/read", MESH, "").await.status, 200);
    assert_eq!(ask(&server, "POST", "/v2/mesh/change", OPERATOR, "").await.status, 401);
    assert_eq!(ask(&server, "GET", "/v2/stream", "", "").await.status, 200);
    assert_eq!(herd.done.lock().unwrap()[0].1, "token mesh.control");
    server.stop().await;

    // Beside others it opens what they guard.
    let (server, _herd) = staged(guarded(), Some(MESH)).await;
    assert_eq!(ask(&server, "GET", "/v2/stream", MESH, "").await.status, 200);
    assert_eq!(ask(&server, "POST", "/v2/mesh/change", MESH, "").await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn another_token_counts_from_the_next_request_on_and_the_old_one_no_more() {
    let (server, _herd) = staged(guarded(), None).await;
    assert_eq!(ask(&server, "POST", "/v2/mesh/change", OPERATOR, "").await.status, 200);
    let mut renewed = guarded();
    renewed.tokens[1].token = Some("an0ther-token".to_owned().into());
    server.handle.reload(state(server.topology.subscribe(), renewed));
    assert_eq!(ask(&server, "POST", "/v2/mesh/change", OPERATOR, "").await.status, 401);
    assert_eq!(ask(&server, "POST", "/v2/mesh/change", "an0ther-token", "").await.status, 200);
    server.stop().await;
}
