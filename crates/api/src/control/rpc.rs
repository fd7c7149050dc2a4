//! JSON-RPC 2.0: <https://www.jsonrpc.org/specification>.

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::{ControlRefusal, MeshControl};
use crate::access::{Denied, Guest};
use crate::problem::echo;

/// What methods' names begin with.
const PREFIX: &str = "mesh.";
/// Most requests in a batch.
const MAX_BATCH: usize = 100;

// The specification's own codes.
const PARSE_ERROR: i32 = -32700;
const INVALID_REQUEST: i32 = -32600;
const METHOD_NOT_FOUND: i32 = -32601;
const INVALID_PARAMS: i32 = -32602;
// Ours, of those it leaves to servers.
const UNAUTHORIZED: i32 = -32001;
const CLOSED: i32 = -32002;
const MISSING: i32 = -32003;
const BUSY: i32 = -32004;
const NARROW: i32 = -32005;
const FAILED: i32 = -32000;

/// What a body is answered with.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) status: StatusCode,
    pub(super) document: Value,
    pub(super) challenge: Option<&'static str>,
}

/// One request that is not done, and why.
struct Refused {
    code: i32,
    message: String,
    challenge: Option<&'static str>,
}

/// Answers a body; `None` where it holds nothing that is answered.
pub(super) async fn answer(body: &[u8], guest: &Guest, mesh: &dyn MeshControl) -> Option<Answers> {
    let requests = match serde_json::from_slice::<Value>(body) {
        Ok(Value::Array(requests)) if requests.is_empty() => {
            return Some(alone(&refused(INVALID_REQUEST, "the batch is empty")));
        }
        Ok(Value::Array(requests)) if requests.len() > MAX_BATCH => {
            let message =
                format!("the batch is longer than {MAX_BATCH} requests; send fewer at once");
            return Some(alone(&refused(INVALID_REQUEST, message)));
        }
        Ok(Value::Array(requests)) => requests,
        Ok(request) => {
            let (id, outcome) = one(request, guest, mesh).await?;
            let status = outcome.as_ref().err().map_or(StatusCode::OK, Refused::status);
            let challenge = outcome.as_ref().err().and_then(|refused| refused.challenge);
            return Some(Answers { status, document: told(&id, outcome), challenge });
        }
        Err(error) => {
            return Some(alone(&refused(PARSE_ERROR, format!("the body is no JSON: {error}"))));
        }
    };
    let mut answers = Vec::new();
    // One after the other, in the order they were sent.
    for request in requests {
        if let Some((id, outcome)) = one(request, guest, mesh).await {
            answers.push(told(&id, outcome));
        }
    }
    (!answers.is_empty()).then(|| Answers {
        status: StatusCode::OK,
        document: answers.into(),
        challenge: None,
    })
}

/// Does one request. `None` where nobody wants to know how it ended.
async fn one(
    request: Value,
    guest: &Guest,
    mesh: &dyn MeshControl,
) -> Option<(Value, Result<Value, Refused>)> {
    let Value::Object(mut request) = request else {
        return Some((Value::Null, Err(refused(INVALID_REQUEST, "this is no object"))));
    };
    let id = request.remove("id");
    let method = match request.remove("method") {
        Some(Value::String(method)) if request.get("jsonrpc") == Some(&json!("2.0")) => method,
        _ => {
            let message =
                "expected {\"jsonrpc\": \"2.0\", \"method\": …, \"params\": {…}, \"id\": …}";
            return Some((
                id.filter(is_id).unwrap_or_default(),
                Err(refused(INVALID_REQUEST, message)),
            ));
        }
    };
    if let Some(id) = &id
        && !is_id(id)
    {
        let message = "`id` is no string, number or null";
        return Some((Value::Null, Err(refused(INVALID_REQUEST, message))));
    }
    let outcome = call(&method, request.remove("params"), guest, mesh).await;
    id.map(|id| (id, outcome))
}

async fn call(
    method: &str,
    params: Option<Value>,
    guest: &Guest,
    mesh: &dyn MeshControl,
) -> Result<Value, Refused> {
    let verb = method.strip_prefix(PREFIX).and_then(|name| Some((name, mesh.verb(name)?)));
    let Some((name, verb)) = verb else {
        return Err(refused(METHOD_NOT_FOUND, format!("there is no method `{}`", echo(method))));
    };
    let by = guest.may(verb).map_err(|denied| {
        let code = match denied {
            Denied::Unknown { .. } => UNAUTHORIZED,
            Denied::Narrow { .. } => NARROW,
            Denied::Closed { .. } => CLOSED,
        };
        Refused { code, message: denied.message(), challenge: denied.challenge() }
    })?;
    let params = match params {
        None => Map::new(),
        Some(Value::Object(params)) => params,
        Some(Value::Array(params)) if params.is_empty() => Map::new(),
        Some(_) => {
            return Err(refused(INVALID_PARAMS, "`params` is no object; name each parameter"));
        }
    };
    mesh.call(name, params, &by).await.map_err(|refusal| match refusal {
        ControlRefusal::Parameters(why) => refused(INVALID_PARAMS, why),
        ControlRefusal::Missing(why) => refused(MISSING, why),
        ControlRefusal::Busy(why) => refused(BUSY, why),
        ControlRefusal::Failed(why) => refused(FAILED, why),
    })
}

fn is_id(id: &Value) -> bool {
    matches!(id, Value::String(_) | Value::Number(_) | Value::Null)
}

fn refused(code: i32, message: impl Into<String>) -> Refused {
    Refused { code, message: message.into(), challenge: None }
}

fn alone(refused: &Refused) -> Answers {
    let error = json!({"code": refused.code, "message": refused.message});
    let document = json!({"jsonrpc": "2.0", "error": error, "id": null});
    Answers { status: refused.status(), document, challenge: None }
}

fn told(id: &Value, outcome: Result<Value, Refused>) -> Value {
    match outcome {
        Ok(result) => json!({"jsonrpc": "2.0", "result": result, "id": id}),
        Err(Refused { code, message, challenge: _ }) => {
            json!({"jsonrpc": "2.0", "error": {"code": code, "message": message}, "id": id})
        }
    }
}

impl Refused {
    /// What a request that is alone in its body is answered with: what is about the transport is said by HTTP as well.
    fn status(&self) -> StatusCode {
        match self.code {
            PARSE_ERROR | INVALID_REQUEST => StatusCode::BAD_REQUEST,
            UNAUTHORIZED => StatusCode::UNAUTHORIZED,
            CLOSED | NARROW => StatusCode::FORBIDDEN,
            _ => StatusCode::OK,
        }
    }
}

#[cfg(test)]
mod tests;
