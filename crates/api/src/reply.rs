use hyper::body::Bytes;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION,
    WWW_AUTHENTICATE,
};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::ser::PrettyFormatter;

use crate::live::Body;
use crate::{Bodies, dashboard};

/// An answer before it is put on the wire: plain data, so that tables of cases can compare it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) body: String,
    pub(crate) location: Option<String>,
    /// Whether to say which methods there are.
    pub(crate) allow: bool,
    /// What would have been taken, where somebody showed too little.
    pub(crate) challenge: Option<&'static str>,
    /// The cluster's verdict, where the answer depends on it.
    pub(crate) verdict: Option<&'static str>,
    /// Whether the watcher is to be told that somebody wants to know about availability.
    pub(crate) wants_heartbeat: bool,
    /// The tag of a file of the dashboard.
    pub(crate) tag: Option<&'static str>,
    /// What follows instead of a body, if anything.
    pub(crate) live: Option<Follow>,
}

/// What an answer that lasts goes on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follow {
    /// The changes of rows.
    Stream,
    /// What happens to the herd.
    Events,
}

pub(crate) const JSON: &str = "application/json; charset=utf-8";
pub(crate) const EVENTS: &str = "text/event-stream";
pub(crate) const HTML: &str = "text/html; charset=utf-8";
pub(crate) const ALLOWED: &str = "GET, HEAD";
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");
const VERDICT: HeaderName = HeaderName::from_static("herdsman-verdict");

impl Reply {
    pub(crate) fn new(status: StatusCode, content_type: &'static str, body: String) -> Self {
        Self {
            status,
            content_type,
            body,
            location: None,
            allow: false,
            challenge: None,
            verdict: None,
            wants_heartbeat: false,
            tag: None,
            live: None,
        }
    }

    /// The beginning of an answer that lasts.
    pub(crate) fn live(follow: Follow) -> Self {
        Self { live: Some(follow), ..Self::new(StatusCode::OK, EVENTS, String::new()) }
    }

    pub(crate) fn json<T: Serialize>(status: StatusCode, bodies: Bodies, value: &T) -> Self {
        Self::new(status, JSON, json(bodies, value))
    }

    /// The answer for the wire. A `HEAD` gets all of it but the body.
    pub(crate) fn into_response(self, head: bool) -> Response<Body> {
        let length = self.body.len();
        let body = if head { Bytes::new() } else { Bytes::from(self.body) };
        let mut response = Response::new(Body::whole(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        if self.live.is_some() {
            // nginx would collect events until a buffer is full.
            headers.insert(UNBUFFERED, HeaderValue::from_static("no"));
        } else if self.status != StatusCode::NOT_MODIFIED {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(tag) = self.tag {
            dashboard::head(headers, tag);
        }
        if self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(ALLOWED));
        }
        if let Some(challenge) = self.challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(verdict) = self.verdict {
            headers.insert(VERDICT, HeaderValue::from_static(verdict));
        }
        // The location is percent-encoded, which always makes a header value.
        if let Some(Ok(location)) = self.location.map(HeaderValue::try_from) {
            headers.insert(LOCATION, location);
        }
        response
    }
}

/// JSON with an indent of four spaces and no newline at the end, as pgroute66 writes it.
fn json<T: Serialize>(bodies: Bodies, value: &T) -> String {
    let mut bytes = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    // Writing to memory and string keys only: there is nothing that can fail. Should that change, the client sees an
    // empty body, and the tests a difference.
    if value.serialize(&mut serializer).is_err() {
        return String::new();
    }
    let text = String::from_utf8(bytes).unwrap_or_default();
    match bodies {
        Bodies::Readme => text,
        Bodies::V0 => escape_for_html(&text),
    }
}

/// Go's encoder escapes what HTML would interpret. Outside of strings JSON has none of these characters.
fn escape_for_html(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_by_four_spaces_and_ends_without_a_newline() {
        assert_eq!(json(Bodies::Readme, &["a<b"]), "[\n    \"a<b\"\n]");
        assert_eq!(json(Bodies::V0, &["a<b&c"]), "[\n    \"a\\u003cb\\u0026c\"\n]");
    }

    #[test]
    fn head_keeps_the_length_and_drops_the_body() {
        let reply = Reply::json(StatusCode::OK, Bodies::V0, &"host1");
        let response = reply.into_response(true);
        assert_eq!(response.headers()[CONTENT_LENGTH], "7");
        assert_eq!(hyper::body::Body::size_hint(response.body()).exact(), Some(0));
    }
}
