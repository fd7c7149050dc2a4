//! The dashboard's files as a browser gets them; what the page shows is tested with one, in `crates/herdsman`.

use std::net::SocketAddr;
use std::sync::Arc;

use herdsman_api::{ApiConfig, ApiStatistics, Metrics};
use herdsman_watch::{Moment, Topology};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::client::{Answer, receive, request, send};
use crate::fixture::{config, start};

const BROWSER: &str = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";

async fn ask(address: SocketAddr, path: &str, headers: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    send(&mut stream, &format!("GET {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n")).await;
    receive(&mut stream, false).await
}

#[tokio::test]
async fn browsers_get_the_page_under_a_strict_policy_and_programs_what_they_always_got() {
    // Both kinds of bodies: the page is no answer of pgroute66's.
    for config in [config(), ApiConfig::default()] {
        let server = start(config, None).await;
        let page = ask(server.address, "/", BROWSER).await;
        assert_eq!(page.status, 200);
        for line in [
            "content-type: text/html; charset=utf-8\r\n",
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';",
            "frame-ancestors 'none'; form-action 'none'\r\n",
            "x-content-type-options: nosniff\r\n",
            "referrer-policy: no-referrer\r\n",
            "cache-control: no-cache\r\n",
            "vary: accept\r\n",
        ] {
            assert!(page.head.contains(line), "{line}: {}", page.head);
        }
        assert_eq!(ask(server.address, "/dashboard", "").await.body, page.body);
        for (name, kind) in [("app.js", "text/javascript"), ("style.css", "text/css")] {
            let file = ask(server.address, &format!("/dashboard/{name}"), "").await;
            assert_eq!(file.status, 200, "{name}");
            assert!(file.head.contains(&format!("content-type: {kind}")), "{}", file.head);
        }
        let tag = page.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
        let held = ask(server.address, "/", &format!("{BROWSER}If-None-Match: {tag}\r\n")).await;
        assert_eq!((held.status, held.body.as_str()), (304, ""));
        assert!(!held.head.contains("content-length"), "{}", held.head);

        assert_eq!(ask(server.address, "/", "Accept: */*\r\n").await.status, 404);
        assert_eq!(request(server.address, "OPTIONS", "/").await.status, 200, "a health check");
        assert_eq!(request(server.address, "GET", "/dashboard/none.js").await.status, 404);
        assert_ne!(request(server.address, "POST", "/dashboard").await.status, 200);
        server.stop().await;
    }
}

#[derive(Debug)]
struct Counted;

impl Metrics for Counted {
    fn text(&self, _: &Topology, _: Moment, api: &ApiStatistics) -> String {
        format!("{api:?}")
    }

    fn gateway(&self) -> Option<Value> {
        Some(json!({"pools": []}))
    }
}

#[tokio::test]
async fn the_overview_tells_every_part_and_null_for_those_that_are_not_there() {
    let server = start(ApiConfig::default(), None).await;
    server.handle.offer_metrics(Some(Arc::new(Counted)));
    let told = request(server.address, "GET", "/v2/overview").await;
    let told: Value = serde_json::from_str(&told.body).unwrap();
    assert_eq!(told["topology"]["verdict"]["node"], "host1");
    assert_eq!(told["topology"]["groups"], json!({}));
    assert_eq!(told["gateway"], json!({"pools": []}));
    assert!(told["stream"].is_null() && told["mesh"].is_null(), "{told}");
    assert!(told["version"].is_string());
    // What the API has counted itself is told with the rest: the request before.
    let counted = request(server.address, "GET", "/metrics").await;
    assert!(counted.body.contains("answers: [0, 1, 0, 0, 0]"), "{}", counted.body);
    for method in ["HEAD", "OPTIONS"] {
        let checked = request(server.address, method, "/metrics").await;
        assert_eq!((checked.status, checked.body.as_str()), (200, ""), "{method}");
    }
    server.stop().await;
}
