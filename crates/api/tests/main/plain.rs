use std::sync::Arc;

use herdsman_api::{ApiConfig, BindError, Listen, Server};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::client::{exchange, receive, request, rest, send};
use crate::fixture::{config, primary_is, start, state};

#[tokio::test]
async fn get_and_head_are_answered_with_the_same_headers() {
    let server = start(config(), None).await;
    let get = request(server.address, "GET", "/v1/primary").await;
    assert_eq!((get.status, get.body.as_str()), (200, "\"host1\""));
    assert!(get.head.contains("content-type: application/json; charset=utf-8\r\n"), "{}", get.head);
    assert!(get.head.contains("cache-control: no-store\r\n"), "{}", get.head);
    assert!(get.head.contains("herdsman-verdict: primary\r\n"), "{}", get.head);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = exchange(&mut stream, "HEAD", "/v1/primary").await;
    assert_eq!(head.status, 200);
    assert!(head.head.contains("content-length: 7\r\n"), "{}", head.head);
    // Had a body followed, the next answer would begin with it.
    let next = exchange(&mut stream, "GET", "/v1/standbys").await;
    assert_eq!((next.status, next.body.as_str()), (200, "[\n    \"host2\"\n]"));
    server.stop().await;
}

#[tokio::test]
async fn a_new_topology_is_visible_to_the_next_request() {
    let server = start(config(), None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for round in 0..200 {
        let primary = if round % 2 == 0 { "host2" } else { "host1" };
        server.topology.send_replace(Arc::new(primary_is(primary)));
        let answer = exchange(&mut stream, "GET", "/v1/primary").await;
        assert_eq!(answer.body, format!("\"{primary}\""));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_reload_changes_answers_on_open_connections() {
    let server = start(config(), None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(exchange(&mut stream, "GET", "/v1/primary").await.body, "\"host1\"");
    server.handle.reload(state(server.topology.subscribe(), ApiConfig::default()));
    let answer = exchange(&mut stream, "GET", "/v1/primary").await;
    assert_eq!(answer.body, "[\n    \"host1\"\n]");
    server.stop().await;
}

#[tokio::test]
async fn refusals_name_the_methods_and_redirects_the_place() {
    let server = start(ApiConfig::default(), None).await;
    let answer = request(server.address, "POST", "/v1/primary").await;
    assert_eq!(answer.status, 405);
    assert!(answer.head.contains("allow: get, head\r\n"), "{}", answer.head);
    assert!(answer.body.contains("\"code\": \"method_not_allowed\""), "{}", answer.body);
    let answer = request(server.address, "GET", "/v1/primary/?group=all").await;
    assert_eq!(answer.status, 301);
    assert!(answer.head.contains("location: /v1/primary?group=all\r\n"), "{}", answer.head);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_closes_its_side_first_is_answered() {
    let server = start(config(), None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    send(&mut stream, "GET /v1/primary HTTP/1.0\r\n\r\n").await;
    stream.shutdown().await.unwrap();
    assert_eq!(receive(&mut stream, false).await.body, "\"host1\"");
    assert!(rest(&mut stream).await.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn every_address_of_a_name_is_listened_on_with_one_port() {
    for bind in ["localhost", "*", "", "[::1]"] {
        let (_publisher, topology) = watch::channel(Arc::new(primary_is("host1")));
        let listen = Listen { bind: bind.to_owned(), port: 0 };
        let server = match Server::bind(listen, None, state(topology, config())).await {
            Ok(server) => server,
            // A machine without IPv6.
            Err(_) if bind == "[::1]" => continue,
            Err(error) => panic!("{bind}: {error}"),
        };
        let addresses = server.local_addrs().to_vec();
        assert!(addresses.iter().all(|a| a.port() == addresses[0].port()), "{addresses:?}");
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(server.run(shutdown.clone()));
        for mut address in addresses {
            if address.ip().is_unspecified() {
                address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
            }
            assert_eq!(request(address, "GET", "/v1/primary").await.status, 200, "{address}");
        }
        shutdown.cancel();
        task.await.unwrap();
    }
}

#[tokio::test]
async fn an_address_that_cannot_be_used_is_named_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let refused = async |bind: &str, port| {
        let (_publisher, topology) = watch::channel(Arc::new(primary_is("host1")));
        let listen = Listen { bind: bind.to_owned(), port };
        let error = Server::bind(listen, None, state(topology, config())).await.unwrap_err();
        (error.to_string(), matches!(error, BindError::Resolve { .. }))
    };
    let (text, _) = refused("127.0.0.1", address.port()).await;
    assert!(text.starts_with(&format!("failed to listen on {address}: ")), "{text}");
    assert!(
        text.ends_with("another program listens there: stop it or set another `port`"),
        "{text}"
    );
    let (text, _) = refused("192.0.2.1", 0).await;
    assert!(text.contains("this machine has no such address"), "{text}");
    let (text, resolving) = refused("no such name", 0).await;
    assert!(resolving && text.starts_with("failed to resolve `no such name`: "), "{text}");
}
