use std::fmt::{Display, Write};

use hyper::StatusCode;
use serde::Serialize;

use crate::Bodies;
use crate::access::Denied;
use crate::reply::{ALLOWED, Reply};
use crate::state::View;
use crate::target::MAX_URI_BYTES;

/// A request that cannot be answered, and why. The messages say what was asked, what there is, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    UriTooLong,
    BadEncoding,
    BadQuery(String),
    UnknownPath(String),
    Method { method: String, path: String },
    UnknownGroup(String),
    UnknownNode(String),
    BadLimit(String),
    BadSize(String),
    NoStream,
    NoMesh,
    NoHooks,
    NoMetrics,
    StreamRefused(String),
    TooManyFollow,
    Denied(Denied),
}

#[derive(Serialize)]
struct Document<'a> {
    error: Details<'a>,
}

#[derive(Serialize)]
struct Details<'a> {
    code: &'a str,
    message: String,
}

const PATHS: &str = "/v1/primary, /v1/primaries, /v1/standbys, /v1/{id}/status, /v1/status/{id}, /v1/node/{id}, \
                     /v1/{id}/availability, /v2/topology, /v2/overview, /v2/events, /v2/stream, /v2/mesh, /v2/hooks, /rpc, \
                     /primary, /replica, /read-only, /health, /liveness, /readiness, /cluster, /metrics, /dashboard";
/// Enough to recognise what was sent, too little to make answers large.
const MAX_ECHO_CHARS: usize = 120;
/// A message is for a person; the whole list is in `/v2/topology`.
const MAX_NAMES: usize = 20;

impl Problem {
    pub(crate) fn reply(&self, view: &View<'_>) -> Reply {
        match view.bodies {
            Bodies::V0 => self.as_text(),
            Bodies::Readme => self.as_json(view),
        }
    }

    /// What pgroute66 (its router, or Go's HTTP server below) answers, as text. The API answers in its own words where
    /// pgroute66 has an answer of its own, so nothing about groups, nodes and limits arrives here in that mode.
    fn as_text(&self) -> Reply {
        let (content_type, body) = match self {
            Self::UriTooLong => ("text/plain; charset=utf-8", "414 URI Too Long"),
            Self::BadEncoding | Self::BadQuery(_) | Self::BadLimit(_) | Self::BadSize(_) => {
                ("text/plain; charset=utf-8", "400 Bad Request")
            }
            Self::StreamRefused(_) | Self::TooManyFollow => {
                ("text/plain; charset=utf-8", "503 Service Unavailable")
            }
            Self::Denied(Denied::Unknown { .. }) => {
                ("text/plain; charset=utf-8", "401 Unauthorized")
            }
            Self::Denied(_) => ("text/plain; charset=utf-8", "403 Forbidden"),
            Self::UnknownPath(_)
            | Self::NoStream
            | Self::NoMesh
            | Self::NoHooks
            | Self::NoMetrics
            | Self::Method { .. }
            | Self::UnknownGroup(_)
            | Self::UnknownNode(_) => ("text/plain", "404 page not found"),
        };
        let status = match self.status() {
            StatusCode::METHOD_NOT_ALLOWED => StatusCode::NOT_FOUND,
            other => other,
        };
        let mut reply = Reply::new(status, content_type, body.to_owned());
        reply.challenge = self.challenge();
        reply
    }

    fn as_json(&self, view: &View<'_>) -> Reply {
        let error = Details { code: self.code(), message: self.message(view) };
        let mut reply = Reply::json(self.status(), view.bodies, &Document { error });
        reply.allow = matches!(self, Self::Method { .. });
        reply.challenge = self.challenge();
        reply
    }

    fn challenge(&self) -> Option<&'static str> {
        if let Self::Denied(denied) = self { denied.challenge() } else { None }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::BadEncoding | Self::BadQuery(_) | Self::BadLimit(_) | Self::BadSize(_) => {
                StatusCode::BAD_REQUEST
            }
            Self::UnknownPath(_)
            | Self::UnknownGroup(_)
            | Self::UnknownNode(_)
            | Self::NoStream
            | Self::NoMesh
            | Self::NoHooks
            | Self::NoMetrics => StatusCode::NOT_FOUND,
            Self::StreamRefused(_) | Self::TooManyFollow => StatusCode::SERVICE_UNAVAILABLE,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Denied(denied) => denied.status(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::UriTooLong => "uri_too_long",
            Self::BadEncoding => "bad_encoding",
            Self::BadQuery(_) => "bad_query",
            Self::UnknownPath(_) => "unknown_path",
            Self::Method { .. } => "method_not_allowed",
            Self::UnknownGroup(_) => "unknown_group",
            Self::UnknownNode(_) => "unknown_node",
            Self::BadLimit(_) => "bad_limit",
            Self::BadSize(_) => "bad_size",
            Self::NoStream => "no_stream",
            Self::NoMesh => "no_mesh",
            Self::NoHooks => "no_hooks",
            Self::NoMetrics => "no_metrics",
            Self::StreamRefused(_) => "stream_refused",
            Self::TooManyFollow => "too_many_follow",
            Self::Denied(denied) => denied.code(),
        }
    }

    fn message(&self, view: &View<'_>) -> String {
        match self {
            Self::UriTooLong => {
                format!("the path and query are longer than {MAX_URI_BYTES} bytes; shorten them")
            }
            Self::BadEncoding => "the path is not percent-encoded UTF-8; write `%` as `%25` and \
                                  every other special byte as `%` and two hex digits"
                .to_owned(),
            Self::BadQuery(problem) | Self::StreamRefused(problem) => problem.clone(),
            Self::NoStream => {
                "no stream of changes is offered here; configure a sink of the kind `sse` under \
                               `stream.sinks`, and run it with this program"
                    .to_owned()
            }
            Self::NoMesh => "this program runs no mesh; configure one under `mesh`".to_owned(),
            Self::NoHooks => "this program has no hooks; configure them under `hooks`".to_owned(),
            Self::TooManyFollow => {
                "too many follow the events already; try again later, or end one of them".to_owned()
            }
            Self::Denied(denied) => denied.message(),
            Self::NoMetrics => {
                "nothing is counted here; ask a program that was started by `herdsman run`"
                    .to_owned()
            }
            Self::UnknownPath(path) => {
                format!("there is nothing at `{}`; the paths are {PATHS}", echo(path))
            }
            Self::Method { method, path } => {
                format!("{} cannot be used on `{}`; use {ALLOWED}", echo(method), echo(path))
            }
            Self::UnknownGroup(group) => {
                let others = view.groups.keys().filter(|name| *name != "all");
                let known = std::iter::once("all").chain(others.map(String::as_str));
                format!(
                    "group `{}` is not configured; the groups are {}; add it under `groups` or use one of these",
                    echo(group),
                    list(known)
                )
            }
            Self::UnknownNode(node) => format!(
                "node `{}` is not configured; the nodes are {}; add it under `hosts` or use one of these",
                echo(node),
                list(view.topology.nodes.keys())
            ),
            Self::BadLimit(limit) => format!(
                "`limit={}` is not a number of seconds; use a number from 0 on, such as `limit=2.5`",
                echo(limit)
            ),
            Self::BadSize(size) => format!(
                "`lag={}` is not a size; use bytes, or a number with kB, MB, GB or TB, such as `lag=16MB`",
                echo(size)
            ),
        }
    }
}

/// What the client sent, shortened.
pub(crate) fn echo(text: &str) -> String {
    if text.chars().nth(MAX_ECHO_CHARS).is_none() {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(MAX_ECHO_CHARS).collect();
    short.push('…');
    short
}

fn list<T: Display>(names: impl Iterator<Item = T>) -> String {
    let mut text = String::new();
    let mut left_out = 0_usize;
    for (index, name) in names.enumerate() {
        if index >= MAX_NAMES {
            left_out += 1;
            continue;
        }
        let separator = if index == 0 { "" } else { ", " };
        // Writing to a string cannot fail.
        let _written = write!(text, "{separator}`{name}`");
    }
    match (text.is_empty(), left_out) {
        (true, _) => "none".to_owned(),
        (false, 0) => text,
        (false, more) => format!("{text} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_and_long_echoes_are_cut() {
        assert_eq!(list(["a", "b"].into_iter()), "`a`, `b`");
        assert_eq!(list(std::iter::empty::<&str>()), "none");
        assert!(list(0..25).ends_with("`19` and 5 more"));
        assert_eq!(echo(&"é".repeat(500)).chars().count(), MAX_ECHO_CHARS + 1);
    }
}
