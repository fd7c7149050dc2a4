use hyper::header::{AUTHORIZATION, HeaderMap};

use super::*;
use crate::control::{ControlAnswer, Verb};
use crate::{ApiConfig, Scope, TokenConfig};

#[derive(Debug)]
struct Mesh;

impl MeshControl for Mesh {
    fn status(&self) -> Value {
        json!({"targets": {}})
    }

    fn token(&self) -> Option<&str> {
        Some("s3cret-token")
    }

    fn verb(&self, name: &str) -> Option<Verb> {
        match name {
            "status" => Some(Verb::Look),
            "pause" => Some(Verb::Change),
            "verify" => Some(Verb::Job),
            _ => None,
        }
    }

    fn call(&self, name: &str, parameters: Map<String, Value>, _by: &str) -> ControlAnswer {
        let outcome = match (name, parameters.get("link").and_then(Value::as_str)) {
            ("status", _) => Ok(self.status()),
            ("verify", _) => Err(ControlRefusal::Busy("one is under way".to_owned())),
            (_, Some("x")) => Err(ControlRefusal::Missing("no link `x`".to_owned())),
            (_, Some("-")) => Err(ControlRefusal::Parameters("no link".to_owned())),
            (_, Some("!")) => Err(ControlRefusal::Failed("did not work".to_owned())),
            (_, link) => Ok(json!({"paused": link})),
        };
        Box::pin(std::future::ready(outcome))
    }
}

/// What somebody may who comes to the door.
#[derive(Clone, Copy)]
enum Right {
    Change,
    Read,
    Look,
    /// Nobody may more.
    Closed,
}

fn guest(right: Right) -> Guest {
    let mut headers = HeaderMap::new();
    let token = match right {
        Right::Change => "Bearer s3cret-token",
        Right::Read => "Bearer r3ading-token",
        Right::Look | Right::Closed => "Bearer none",
    };
    headers.insert(AUTHORIZATION, token.parse().unwrap());
    let reader = TokenConfig {
        name: "reader".to_owned(),
        scope: Scope::Read,
        token: Some("r3ading-token".to_owned().into()),
        token_file: None,
        token_env: None,
        token_command: None,
    };
    match right {
        Right::Closed => Guest::of(&headers, None, &ApiConfig::default(), None),
        _ => {
            let config = ApiConfig { tokens: vec![reader], ..ApiConfig::default() };
            Guest::of(&headers, None, &config, Mesh.token())
        }
    }
}

async fn ask(body: &str, right: Right) -> (u16, Value) {
    let answers = answer(body.as_bytes(), &guest(right), &Mesh).await;
    answers.map_or((204, Value::Null), |a| (a.status.as_u16(), a.document))
}

fn error(code: i32, id: &Value, answer: &Value) -> bool {
    answer["error"]["code"] == code && answer["id"] == *id && answer.get("result").is_none()
}

#[tokio::test]
async fn a_request_gets_its_result_under_its_id() {
    let body = r#"{"jsonrpc":"2.0","method":"mesh.pause","params":{"link":"a:b"},"id":"7"}"#;
    let expected = json!({"jsonrpc":"2.0","result":{"paused":"a:b"},"id":"7"});
    assert_eq!(ask(body, Right::Change).await, (200, expected));
    let body = r#"{"jsonrpc":"2.0","method":"mesh.status","id":null}"#;
    let expected = json!({"jsonrpc":"2.0","result":{"targets":{}},"id":null});
    assert_eq!(ask(body, Right::Closed).await, (200, expected));
}

#[tokio::test]
async fn every_error_has_the_code_the_specification_gives_it() {
    for (body, code, status, id) in [
        ("{", -32700, 400, Value::Null),
        ("[]", -32600, 400, Value::Null),
        ("1", -32600, 400, Value::Null),
        (r#"{"method":"mesh.status","id":1}"#, -32600, 400, json!(1)),
        (r#"{"jsonrpc":"2.0","method":1,"id":1}"#, -32600, 400, json!(1)),
        (r#"{"jsonrpc":"2.0","method":"mesh.status","id":{}}"#, -32600, 400, Value::Null),
        (r#"{"jsonrpc":"2.0","method":"mesh.dance","id":1}"#, -32601, 200, json!(1)),
        (r#"{"jsonrpc":"2.0","method":"status","id":1}"#, -32601, 200, json!(1)),
        (r#"{"jsonrpc":"2.0","method":"mesh.pause","params":[1],"id":1}"#, -32602, 200, json!(1)),
        (
            r#"{"jsonrpc":"2.0","method":"mesh.pause","params":{"link":"-"},"id":1}"#,
            -32602,
            200,
            json!(1),
        ),
        (
            r#"{"jsonrpc":"2.0","method":"mesh.pause","params":{"link":"x"},"id":1}"#,
            -32003,
            200,
            json!(1),
        ),
        (
            r#"{"jsonrpc":"2.0","method":"mesh.pause","params":{"link":"!"},"id":1}"#,
            -32000,
            200,
            json!(1),
        ),
        (r#"{"jsonrpc":"2.0","method":"mesh.verify","id":1}"#, -32004, 200, json!(1)),
    ] {
        let (found, answer) = ask(body, Right::Change).await;
        assert!(found == status && error(code, &id, &answer), "{body}: {found} {answer}");
    }
    let long = format!("[{}1]", "1,".repeat(MAX_BATCH));
    assert!(error(-32600, &Value::Null, &ask(&long, Right::Change).await.1));
}

#[tokio::test]
async fn what_changes_takes_the_token() {
    let body = r#"{"jsonrpc":"2.0","method":"mesh.pause","id":1}"#;
    let (status, answer) = ask(body, Right::Look).await;
    assert!(status == 401 && error(-32001, &json!(1), &answer), "{answer}");
    let (status, answer) = ask(body, Right::Closed).await;
    assert!(status == 403 && error(-32002, &json!(1), &answer), "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains("mesh.control.token"));
    let (status, answer) = ask(body, Right::Read).await;
    assert!(status == 403 && error(-32005, &json!(1), &answer), "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains("`operate`"));
}

#[tokio::test]
async fn a_batch_is_answered_in_order_and_notifications_are_not() {
    let body = r#"[{"jsonrpc":"2.0","method":"mesh.pause","id":1},
                   {"jsonrpc":"2.0","method":"mesh.pause"},
                   1,
                   {"jsonrpc":"2.0","method":"mesh.status","id":2}]"#;
    let (status, answer) = ask(body, Right::Look).await;
    assert_eq!((status, answer.as_array().map(Vec::len)), (200, Some(3)));
    assert!(
        error(-32001, &json!(1), &answer[0]) && error(-32600, &Value::Null, &answer[1]),
        "{answer}"
    );
    assert_eq!(answer[2]["result"], json!({"targets": {}}));
    assert_eq!(ask(r#"{"jsonrpc":"2.0","method":"mesh.pause"}"#, Right::Change).await.0, 204);
    assert_eq!(ask(r#"[{"jsonrpc":"2.0","method":"mesh.dance"}]"#, Right::Change).await.0, 204);
}
