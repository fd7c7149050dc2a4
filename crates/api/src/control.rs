//! Telling the mesh what to do: `POST /v2/mesh/{verb}`, and JSON-RPC 2.0 at `/rpc` with the same verbs.
//!
//! What the verbs are and what they do is somebody else's ([`MeshControl`]); here is how they are asked for, by whom, and
//! how they answer. What a verb takes is in [`Verb::takes`].

mod rpc;

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Map, Value, json};
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use crate::access::{Denied, Guest, Names};
use crate::live::Body;
use crate::problem::echo;
use crate::reply::Reply;
use crate::target::{self, Query};
use crate::{ApiState, Bodies, Scope};

/// The mesh, as it is asked and told at `/v2/mesh` and `/rpc`.
///
/// Everything answers soon: what takes longer is a job, which is asked for later.
pub trait MeshControl: fmt::Debug + Send + Sync + 'static {
    /// Where the mesh stands, from memory. Must not block.
    fn status(&self) -> Value;

    /// A token that opens everything, beside those of [`ApiConfig::tokens`](crate::ApiConfig::tokens).
    fn token(&self) -> Option<&str>;

    /// What there is to a verb; `None` where there is no such verb.
    fn verb(&self, name: &str) -> Option<Verb>;

    /// Does what a verb asks. `name` is one of those that [`MeshControl::verb`] knows; `by` says for the log who asks, such
    /// as `token deploy`.
    fn call(&self, name: &str, parameters: Map<String, Value>, by: &str) -> ControlAnswer;
}

/// What there is to a verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Only looks, at what is in memory: anybody may, with `GET` as well.
    Look,
    /// Only looks, at what may show rows: takes the scope `read`, with `GET` as well.
    Read,
    /// Changes something, or makes servers work: takes the scope `operate`.
    Change,
    /// As [`Verb::Change`], and goes on behind its answer, which says how to ask for the outcome.
    Job,
}

impl Verb {
    /// What whoever asks has to show; `None`: nothing.
    ///
    /// ```
    /// use herdsman_api::{Scope, Verb};
    /// assert_eq!(Verb::Look.takes(), None);
    /// assert_eq!(Verb::Job.takes(), Some(Scope::Operate));
    /// ```
    #[must_use]
    pub fn takes(self) -> Option<Scope> {
        match self {
            Self::Look => None,
            Self::Read => Some(Scope::Read),
            Self::Change | Self::Job => Some(Scope::Operate),
        }
    }
}

/// What a verb will have answered.
pub type ControlAnswer = Pin<Box<dyn Future<Output = Result<Value, ControlRefusal>> + Send>>;

/// Why a verb was not done: a message for the answer, which says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlRefusal {
    /// The parameters make no sense: 400.
    Parameters(String),
    /// What they name is not there: 404.
    Missing(String),
    /// Something else has to end first: 409.
    Busy(String),
    /// It was tried and failed: 500.
    Failed(String),
}

/// Largest body taken.
const MAX_BODY: usize = 64 * 1024;
/// What paths of verbs begin with.
const PREFIX: &str = "/v2/mesh/";
const RPC: &str = "/rpc";

/// Whether a path is one of those here.
pub(crate) fn is_meant(path: &str) -> bool {
    path == RPC || path.starts_with(PREFIX)
}

/// Where a span says how a request was answered.
pub(crate) const STATUS: &str = "http.response.status_code";

/// A request as those who collect spans see it: its path, and nothing that was sent with it.
pub(crate) fn span(method: &Method, path: &str) -> Span {
    tracing::debug_span!(
        target: "otel",
        "api request",
        otel.kind = "server",
        http.request.method = method.as_str(),
        url.path = echo(path),
        http.response.status_code = Empty,
    )
}

/// Answers a request for one of the paths here. `certificate` is what the client has shown.
pub(crate) async fn answer(
    request: Request<Incoming>,
    state: Arc<ApiState>,
    mesh: Arc<dyn MeshControl>,
    certificate: Option<Arc<Names>>,
    peer: SocketAddr,
) -> Response<Body> {
    let bodies = state.config.bodies;
    let path = request.uri().path().to_owned();
    let guest = Guest::of(request.headers(), certificate.as_deref(), &state.config, mesh.token());
    let span = span(request.method(), &path);
    let outcome = async {
        if path == RPC {
            Box::pin(remote_call(request, bodies, &*mesh, &guest)).await
        } else {
            Box::pin(post(request, bodies, &*mesh, &guest)).await
        }
    };
    let outcome = outcome.instrument(span.clone()).await;
    let response = outcome.unwrap_or_else(|problem| problem.response(bodies));
    span.record(STATUS, response.status().as_u16());
    if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        let who = guest.shown();
        tracing::info!(path, %peer, who, status = response.status().as_u16(), "refused a request");
    }
    tracing::debug!(path, status = response.status().as_u16(), "answered");
    response
}

/// A request that is not done, and why.
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
    challenge: Option<&'static str>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), challenge: None }
    }

    fn response(self, bodies: Bodies) -> Response<Body> {
        let document = json!({"error": {"code": self.code, "message": self.message}});
        let mut response = Reply::json(self.status, bodies, &document).into_response(false);
        let headers = response.headers_mut();
        if let Some(challenge) = self.challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        response
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let challenge = denied.challenge();
        Self { challenge, ..Self::new(denied.status(), denied.code(), denied.message()) }
    }
}

impl From<ControlRefusal> for Problem {
    fn from(refusal: ControlRefusal) -> Self {
        match refusal {
            ControlRefusal::Parameters(why) => {
                Self::new(StatusCode::BAD_REQUEST, "bad_parameters", why)
            }
            ControlRefusal::Missing(why) => Self::new(StatusCode::NOT_FOUND, "not_found", why),
            ControlRefusal::Busy(why) => Self::new(StatusCode::CONFLICT, "busy", why),
            ControlRefusal::Failed(why) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", why)
            }
        }
    }
}

/// One verb by its path.
async fn post(
    request: Request<Incoming>,
    bodies: Bodies,
    mesh: &dyn MeshControl,
    guest: &Guest,
) -> Result<Response<Body>, Problem> {
    let unknown = || {
        let path = echo(request.uri().path());
        let message = format!("there is no verb at `{path}`; see docs/mesh.md for those there are");
        Problem::new(StatusCode::NOT_FOUND, "unknown_path", message)
    };
    let name = request.uri().path().strip_prefix(PREFIX).and_then(target::decode);
    let name = name.ok_or_else(unknown)?;
    let verb = mesh.verb(&name).ok_or_else(unknown)?;
    let looks = matches!(verb, Verb::Look | Verb::Read)
        && matches!(*request.method(), Method::GET | Method::HEAD);
    if *request.method() != Method::POST && !looks {
        let message = format!("{} cannot be used here; use POST", echo(request.method().as_str()));
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message));
    }
    let by = guest.may(verb)?;
    let head = *request.method() == Method::HEAD;
    let parameters = if looks {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        query.pairs().map(|(key, value)| (key.to_owned(), value.into())).collect()
    } else {
        parameters(&body(request).await?)?
    };
    let value = mesh.call(&name, parameters, &by).await?;
    let status = if verb == Verb::Job { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok(Reply::json(status, bodies, &value).into_response(head))
}

/// One or several verbs by their names.
async fn remote_call(
    request: Request<Incoming>,
    bodies: Bodies,
    mesh: &dyn MeshControl,
    guest: &Guest,
) -> Result<Response<Body>, Problem> {
    if *request.method() != Method::POST {
        let message = format!("{} cannot be used here; use POST", echo(request.method().as_str()));
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message));
    }
    let answers = rpc::answer(&body(request).await?, guest, mesh).await;
    let Some(answers) = answers else {
        // Notifications only: nobody waits for an answer.
        return Ok(Reply::new(StatusCode::NO_CONTENT, crate::reply::JSON, String::new())
            .into_response(false));
    };
    let mut response = Reply::json(answers.status, bodies, &answers.document).into_response(false);
    if let Some(challenge) = answers.challenge {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    Ok(response)
}

/// All of a body; it is not waited for longer than the connection lasts.
async fn body(request: Request<Incoming>) -> Result<Vec<u8>, Problem> {
    match Limited::new(request.into_body(), MAX_BODY).collect().await {
        Ok(whole) => Ok(whole.to_bytes().to_vec()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            let message = format!("the body is longer than {MAX_BODY} bytes; send less at once");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message))
        }
        Err(error) => {
            let message = format!("the body did not arrive: {error}");
            Err(Problem::new(StatusCode::BAD_REQUEST, "bad_body", message))
        }
    }
}

/// The parameters that a body holds; none where it is empty.
fn parameters(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    serde_json::from_slice(body).map_err(|error| {
        let message = format!("the body is no JSON object: {error}");
        Problem::new(StatusCode::BAD_REQUEST, "bad_body", message)
    })
}
