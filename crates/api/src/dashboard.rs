//! The dashboard: a page, its style and its modules, which are part of the program.
//!
//! The page asks `/v2/overview` and follows `/v2/events` like any other client; nothing about the herd is decided or put
//! into text here. It may load what is listed here and ask this server, and nothing else.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use herdsman_node::NodeName;
use hyper::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, StatusCode};

use crate::reply::{HTML, Reply};

/// One file of the page.
#[derive(Debug)]
pub(crate) struct Asset {
    name: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! asset {
    ($name:literal, $content_type:expr) => {
        Asset {
            name: $name,
            content_type: $content_type,
            text: include_str!(concat!("dashboard/", $name)),
        }
    };
}

/// The page first. A further module is one line here.
static ASSETS: [Asset; 17] = [
    asset!("index.html", HTML),
    asset!("style.css", "text/css; charset=utf-8"),
    asset!("icon.svg", "image/svg+xml"),
    asset!("app.js", JAVASCRIPT),
    asset!("chart.js", JAVASCRIPT),
    asset!("events.js", JAVASCRIPT),
    asset!("gateway.js", JAVASCRIPT),
    asset!("herd.js", JAVASCRIPT),
    asset!("hooks.js", JAVASCRIPT),
    asset!("ledger.js", JAVASCRIPT),
    asset!("layout.js", JAVASCRIPT),
    asset!("mesh.js", JAVASCRIPT),
    asset!("source.js", JAVASCRIPT),
    asset!("store.js", JAVASCRIPT),
    asset!("stream.js", JAVASCRIPT),
    asset!("text.js", JAVASCRIPT),
    asset!("verdict.js", JAVASCRIPT),
];

/// Changes with the text, so that a browser holds what it has until there is another program.
static TAGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let tag = |asset: &Asset| {
        let digest = digest(&SHA256, asset.text.as_bytes());
        let digits: String = digest.as_ref().iter().take(12).map(|b| format!("{b:02x}")).collect();
        format!("\"{digits}\"")
    };
    ASSETS.iter().map(tag).collect()
});

/// What a browser may do with the page. Names of nodes and texts of errors come from elsewhere: should one of them ever be
/// taken for markup, it still can run nothing and send nothing.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; frame-ancestors 'none'; form-action 'none'";

const OPENER: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// What the path segments after `/dashboard` name.
pub(crate) fn route(segments: &[&str]) -> Option<&'static Asset> {
    match segments {
        [] => ASSETS.first(),
        [name] => ASSETS.iter().skip(1).find(|asset| asset.name == *name),
        _ => None,
    }
}

/// Whether a browser asks for the front page. A program that asks there (a health check, `curl`) is answered as ever, and
/// so is everybody at the port of a node, where that path is a health check.
pub(crate) fn is_front_page<B>(request: &Request<B>, about: Option<&NodeName>) -> bool {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let accepted = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let wants_html = accepted.flat_map(|value| value.split(',')).any(|one| {
        let kind = one.split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("text/html")
    });
    request.uri().path() == "/" && reads && about.is_none() && wants_html
}

/// The front page.
pub(crate) fn front_page() -> Reply {
    let [page, ..] = &ASSETS;
    answer(page)
}

/// All of a file.
pub(crate) fn answer(asset: &'static Asset) -> Reply {
    let place = ASSETS.iter().position(|one| one.name == asset.name);
    let tag = place.and_then(|place| TAGS.get(place)).map(String::as_str);
    let reply = Reply::new(StatusCode::OK, asset.content_type, asset.text.to_owned());
    Reply { tag, ..reply }
}

/// The same, or that what the client has is still good.
pub(crate) fn unless_held(reply: Reply, headers: &HeaderMap) -> Reply {
    let Some(tag) = reply.tag else { return reply };
    let held = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    // Proxies that compress make a tag a weak one.
    let is_held = held
        .flat_map(|value| value.split(','))
        .any(|one| one.trim().trim_start_matches("W/") == tag);
    if is_held {
        Reply { status: StatusCode::NOT_MODIFIED, body: String::new(), ..reply }
    } else {
        reply
    }
}

/// What goes with a file of this tag.
pub(crate) fn head(headers: &mut HeaderMap, tag: &'static str) {
    headers.insert(ETAG, HeaderValue::from_static(tag));
    // Held, but asked about each time: after an update no module may meet one of the version before.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(OPENER, HeaderValue::from_static("same-origin"));
    headers.insert(RESOURCE, HeaderValue::from_static("same-origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: Method, path: &str, accept: Option<&str>) -> bool {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(accept) = accept {
            request = request.header(ACCEPT, accept);
        }
        is_front_page(&request.body(()).unwrap(), None)
    }

    #[test]
    fn only_who_asks_for_html_gets_the_front_page() {
        let browser = Some("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");
        assert!(asked(Method::GET, "/", browser));
        assert!(asked(Method::HEAD, "/", Some("application/json, Text/HTML;q=0.5")));
        assert!(!asked(Method::OPTIONS, "/", browser), "a health check");
        assert!(!asked(Method::GET, "/primary", browser));
        for program in [None, Some("*/*"), Some("application/json"), Some("text/htmlx")] {
            assert!(!asked(Method::GET, "/", program), "{program:?}");
        }
        let request = Request::builder().uri("/").header(ACCEPT, "text/html").body(()).unwrap();
        let node = NodeName::new("n1").unwrap();
        assert!(!is_front_page(&request, Some(&node)), "a health check of that node");
    }

    #[test]
    fn every_module_that_is_loaded_is_there_and_nothing_else_is() {
        for asset in &ASSETS {
            let inside = asset.text.split("from \"./").skip(1);
            for module in inside.filter_map(|rest| rest.split('"').next()) {
                assert!(route(&[module]).is_some(), "{} wants {module}", asset.name);
            }
            for forbidden in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
            {
                assert!(!asset.text.contains(forbidden), "{} uses {forbidden}", asset.name);
            }
            let mut links =
                ["https://", "http://"].into_iter().flat_map(|s| asset.text.split(s).skip(1));
            assert!(links.all(|rest| rest.starts_with("www.w3.org/")), "{} leads away", asset.name);
        }
        assert!(route(&["index.html"]).is_none() && route(&["nothing.js"]).is_none());
    }

    #[test]
    fn what_a_browser_holds_is_not_sent_again() {
        let page = front_page();
        let tag = page.tag.unwrap();
        let with = |value: &str| {
            let headers = [(IF_NONE_MATCH, value.parse().unwrap())].into_iter().collect();
            unless_held(page.clone(), &headers).status.as_u16()
        };
        assert_eq!(with(tag), 304);
        assert_eq!(with(&format!("\"other\", W/{tag}")), 304);
        assert_eq!(with("\"other\""), 200);
        assert_ne!(Some(tag), answer(&ASSETS[1]).tag);
    }
}
