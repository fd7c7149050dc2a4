//! Ports of single nodes, the agent's port, and what happens, over real sockets.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use herdsman_api::{ApiConfig, Bodies};
use herdsman_node::NodeName;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::client::{receive, request, rest, send};
use crate::fixture::{primary_is, start};
use crate::live::until;

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[tokio::test]
async fn a_port_of_a_node_is_asked_about_that_node_and_the_main_port_about_the_one_that_is_named() {
    let name = |text: &str| NodeName::new(text).unwrap();
    let (one, two) = (free_port(), free_port());
    let node_ports = [(name("host1"), one), (name("host2"), two)].into();
    let config = ApiConfig { node_ports, bodies: Bodies::Readme, ..ApiConfig::default() };
    let server = start(config, None).await;
    for (address, target, status) in [
        (at(one), "/primary", 200),
        (at(two), "/primary", 503),
        (at(two), "/replica", 200),
        (at(one), "/replica", 503),
        (at(two), "/primary?node=host1", 200),
        (server.address, "/replica?node=host2", 200),
        (server.address, "/replica?node=host1", 503),
        (at(one), "/cluster", 200),
        (server.address, "/cluster", 200),
    ] {
        for method in ["GET", "HEAD", "OPTIONS"] {
            let answer = request(address, method, target).await;
            assert_eq!(answer.status, status, "{method} {target}: {}", answer.body);
            assert_eq!(answer.body.is_empty(), method != "GET", "{method} {target}");
        }
    }
    let checked = request(at(one), "OPTIONS", "/").await;
    assert_eq!(checked.status, 200, "what HAProxy asks by default");
    server.topology.send_replace(Arc::new(primary_is("host2")));
    assert_eq!(request(at(one), "GET", "/primary").await.status, 503);
    assert_eq!(request(at(two), "GET", "/").await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn the_agent_answers_one_line_and_nothing_to_what_it_does_not_know() {
    let port = free_port();
    let server = start(ApiConfig { agent_port: Some(port), ..ApiConfig::default() }, None).await;
    for (asked, expected) in [
        ("host1 write\n", "ready up 100%\n"),
        ("host2 write\n", "down #not the primary\n"),
        ("host2\n", "ready up 100%\n"),
        ("host9\n", ""),
        ("\n", ""),
        (&"x".repeat(5000), ""),
    ] {
        let mut stream = TcpStream::connect(at(port)).await.unwrap();
        // Who says too much is cut off in the middle of it.
        let _said = stream.write_all(asked.as_bytes()).await;
        assert_eq!(String::from_utf8(rest(&mut stream).await).unwrap(), expected, "{asked:.20}");
    }
    server.stop().await;
}

#[tokio::test]
async fn whoever_follows_hears_what_happens_and_is_let_go_when_the_server_stops() {
    let server = start(ApiConfig::default(), None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    send(&mut stream, "GET /v2/events HTTP/1.1\r\nHost: test\r\nLast-Event-ID: 0-0\r\n\r\n").await;
    let answer = receive(&mut stream, true).await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: text/event-stream"), "{}", answer.head);
    until(&mut stream, "event: gap").await;
    server.topology.send_replace(Arc::new(primary_is("host2")));
    let text = until(&mut stream, "\"previous\":\"host1\"").await;
    assert!(text.contains("\"event\":\"primary\",\"node\":\"host2\""), "{text}");
    server.stop().await;
    rest(&mut stream).await;
}
