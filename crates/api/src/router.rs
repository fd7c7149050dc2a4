//! From method and target to an answer. Pure: what is asked and one view in, a reply out.
//!
//! A later version of the API is one more module with `route` and `answer`, one more variant of [`Route`], one more arm in
//! [`route`], and its rows in [`routes::ROUTES`].

use hyper::{Method, StatusCode, Uri};

use crate::problem::Problem;
use crate::reply::{HTML, Reply};
use crate::state::View;
use crate::target::{self, Query};
use crate::{dashboard, health, metrics, routes, v1, v2};

enum Route<'a> {
    V1(v1::Route<'a>),
    V2(v2::Route),
    Health(health::Route),
    Metrics,
    Page(&'static dashboard::Asset),
}

/// Answers a request.
pub(crate) fn answer(method: &Method, uri: &Uri, view: &View<'_>) -> Reply {
    match try_answer(method, uri, view) {
        Ok(reply) => reply,
        Err(problem) => problem.reply(view),
    }
}

fn try_answer(method: &Method, uri: &Uri, view: &View<'_>) -> Result<Reply, Problem> {
    if target::length(uri) > target::MAX_URI_BYTES {
        return Err(Problem::UriTooLong);
    }
    let path = target::decode(uri.path()).ok_or(Problem::BadEncoding)?;
    let readable = *method == Method::GET || *method == Method::HEAD;
    let options = *method == Method::OPTIONS;
    // What a balancer asks by default, and at the port of a node all that is asked there. A browser has got its front page
    // before.
    let front_page = path == "/" && !options && view.about.is_none();
    let Some(route) = route(&path).filter(|_| !front_page) else {
        return match without_last_slash(&path) {
            Some(other) if readable && self::route(&other).is_some() => {
                Ok(redirect(&other, uri.query()))
            }
            _ => Err(Problem::UnknownPath(path)),
        };
    };
    // As Patroni does, whose checks and metrics are at one port.
    if !(readable || options && matches!(route, Route::Health(_) | Route::Metrics)) {
        return Err(Problem::Method { method: method.to_string(), path });
    }
    let query = Query::parse(uri.query().unwrap_or_default());
    match route {
        Route::V1(route) => v1::answer(route, &query, view),
        Route::V2(route) => v2::answer(route, view),
        Route::Health(route) => health::answer(route, &query, view),
        Route::Metrics => metrics::answer(view),
        Route::Page(asset) => Ok(dashboard::answer(asset)),
    }
}

fn route(path: &str) -> Option<Route<'_>> {
    let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    // What no row of the table allows is not there.
    routes::takes(&segments)?;
    match segments.split_first()? {
        (&"v1", rest) => v1::route(rest).map(Route::V1),
        (&"v2", rest) => v2::route(rest).map(Route::V2),
        (&"metrics", []) => Some(Route::Metrics),
        (&"dashboard", rest) => dashboard::route(rest).map(Route::Page),
        _ => health::route(&segments).map(Route::Health),
    }
}

/// One slash too many is forgiven at the end.
fn without_last_slash(path: &str) -> Option<String> {
    path.strip_suffix('/').map(str::to_owned)
}

fn redirect(path: &str, query: Option<&str>) -> Reply {
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let location = target::encode_path(path) + &query;
    let link = location
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;");
    let body = format!("<a href=\"{link}\">Moved Permanently</a>.\n\n");
    let mut reply = Reply::new(StatusCode::MOVED_PERMANENTLY, HTML, body);
    reply.location = Some(location);
    reply
}
