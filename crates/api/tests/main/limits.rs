use std::time::Duration;

use herdsman_api::ApiConfig;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::client::{exchange, receive, request, rest, send};
use crate::fixture::{config, start};
use crate::secure::identity;

fn hasty() -> ApiConfig {
    ApiConfig { request_timeout: Duration::from_millis(300), ..config() }
}

#[tokio::test]
async fn slow_silent_and_idle_clients_are_cut() {
    let server = start(hasty(), None).await;
    let began = Instant::now();
    let silent = async {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        rest(&mut stream).await
    };
    let idle = async {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        exchange(&mut stream, "GET", "/v1/primary").await;
        rest(&mut stream).await
    };
    let slow = async {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        // A byte now and then must not buy more time.
        for byte in "GET /v1/primary HTTP/1.1\r\nHost: te".chars().cycle() {
            let sent = tokio::io::AsyncWriteExt::write_u8(&mut stream, u8::try_from(byte).unwrap());
            if sent.await.is_err() {
                break;
            }
            let closed = timeout(Duration::from_millis(50), stream.read_u8()).await;
            if closed.is_ok() {
                break;
            }
        }
    };
    let (silent, idle, ()) = tokio::join!(silent, idle, slow);
    assert!(silent.is_empty() && idle.is_empty(), "{silent:?} {idle:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_never_shakes_hands_is_cut() {
    let server = start(hasty(), Some(identity("a").0)).await;
    let began = Instant::now();
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut halfway = TcpStream::connect(server.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut halfway, &[0x16, 3, 1, 0, 200, 1]).await.unwrap();
    tokio::join!(rest(&mut silent), rest(&mut halfway));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    server.stop().await;
}

#[tokio::test]
async fn a_client_in_use_is_not_cut() {
    let server = start(hasty(), None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for _ in 0..8 {
        sleep(Duration::from_millis(150)).await;
        assert_eq!(exchange(&mut stream, "GET", "/v1/primary").await.status, 200);
    }
    server.stop().await;
}

#[tokio::test]
async fn connections_over_the_limit_wait_until_one_ends() {
    let server = start(ApiConfig { max_connections: 2, ..config() }, None).await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    let mut second = TcpStream::connect(server.address).await.unwrap();
    exchange(&mut first, "GET", "/v1/primary").await;
    exchange(&mut second, "GET", "/v1/primary").await;
    let mut third = TcpStream::connect(server.address).await.unwrap();
    send(&mut third, "GET /v1/primary HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let early = timeout(Duration::from_millis(300), third.read_u8()).await;
    assert!(early.is_err(), "the third connection was served");
    // The others are not slowed down by the one that waits.
    assert_eq!(exchange(&mut first, "GET", "/v1/primary").await.status, 200);
    drop(second);
    assert_eq!(receive(&mut third, false).await.body, "\"host1\"");
    server.stop().await;
}

#[tokio::test]
async fn a_reload_raises_the_limit_for_those_who_wait() {
    let server = start(ApiConfig { max_connections: 1, ..config() }, None).await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    exchange(&mut first, "GET", "/v1/primary").await;
    let mut second = TcpStream::connect(server.address).await.unwrap();
    send(&mut second, "GET /v1/primary HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let state = crate::fixture::state(server.topology.subscribe(), config());
    server.handle.reload(state);
    assert_eq!(receive(&mut second, false).await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_request_with_too_much_in_front_is_refused() {
    let server = start(config(), None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let header = format!("X-Filler: {}\r\n", "x".repeat(1000));
    send(&mut stream, &format!("GET /v1/primary HTTP/1.1\r\n{}", header.repeat(20))).await;
    assert_eq!(receive(&mut stream, false).await.status, 431);
    let long = format!("/v1/{}/status", "x".repeat(8000));
    assert_eq!(request(server.address, "GET", &long).await.status, 414);
    server.stop().await;
}

#[tokio::test]
async fn stopping_closes_idle_connections_at_once_and_takes_no_new_ones() {
    let server = start(config(), None).await;
    let address = server.address;
    let mut idle = TcpStream::connect(address).await.unwrap();
    exchange(&mut idle, "GET", "/v1/primary").await;
    let mut fresh = TcpStream::connect(address).await.unwrap();
    exchange(&mut TcpStream::connect(address).await.unwrap(), "GET", "/v1/primary").await;
    let began = Instant::now();
    server.stop().await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(rest(&mut idle).await.is_empty() && rest(&mut fresh).await.is_empty());
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn stopping_lets_a_request_in_progress_end_but_does_not_wait_for_ever() {
    let server = start(config(), None).await;
    let mut prompt = TcpStream::connect(server.address).await.unwrap();
    let mut stuck = TcpStream::connect(server.address).await.unwrap();
    for stream in [&mut prompt, &mut stuck] {
        send(stream, "GET /v1/primary HTTP/1.1\r\nHost: ").await;
    }
    // Both have begun to be read once a later connection was answered.
    request(server.address, "GET", "/v1/primary").await;
    sleep(Duration::from_millis(50)).await;
    let began = Instant::now();
    server.shutdown.cancel();
    send(&mut prompt, "test\r\n\r\n").await;
    let answer = receive(&mut prompt, false).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "\"host1\""));
    assert!(answer.head.contains("connection: close"), "{}", answer.head);
    assert!(rest(&mut prompt).await.is_empty());
    server.stop().await;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert!(rest(&mut stuck).await.is_empty());
}
