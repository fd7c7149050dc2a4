//! The fault proxy, in front of a server that echoes.

use std::{io::ErrorKind, net::SocketAddr, time::Duration};

use herdsman_sandbox::{Fault, FaultProxy};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

const SOON: Duration = Duration::from_secs(10);
/// Long enough to see that nothing comes over loopback.
const SILENCE: Duration = Duration::from_millis(200);

/// Echoes every byte on every connection, and counts what it heard.
async fn echo() -> (SocketAddr, tokio::sync::watch::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heard, hears) = tokio::sync::watch::channel(0);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let heard = heard.clone();
            tokio::spawn(async move {
                let mut chunk = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut chunk).await {
                    heard.send_modify(|total| *total += count);
                    if stream.write_all(&chunk[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, hears)
}

async fn connect(proxy: &FaultProxy) -> TcpStream {
    TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap()
}

async fn says_back(stream: &mut TcpStream, word: &[u8]) {
    stream.write_all(word).await.unwrap();
    let mut answer = vec![0; word.len()];
    timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, word);
}

async fn is_silent(stream: &mut TcpStream) {
    let mut byte = [0];
    assert!(timeout(SILENCE, stream.read(&mut byte)).await.is_err(), "something came through");
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn bytes_pass_both_ways_and_connections_are_counted() {
    let (server, _) = echo().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    let mut client = connect(&proxy).await;
    let big: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let (mut reads, mut writes) = client.split();
    let mut back = vec![0; big.len()];
    let (sent, received) =
        tokio::join!(writes.write_all(&big), timeout(SOON, reads.read_exact(&mut back)));
    sent.unwrap();
    received.unwrap().unwrap();
    assert_eq!(back, big);
    assert_eq!((proxy.accepted(), proxy.live()), (1, 1));
    drop(client);
    until("the connection is let go", || proxy.live() == 0).await;
}

#[tokio::test]
async fn a_delay_costs_time_on_the_way_there_and_back() {
    let (server, _) = echo().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    proxy.set(Fault::Delay(Duration::from_millis(60)));
    let mut client = connect(&proxy).await;
    let start = Instant::now();
    says_back(&mut client, b"slow").await;
    assert!(start.elapsed() >= Duration::from_millis(120), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_stall_holds_old_and_new_connections_and_delivers_when_it_ends() {
    let (server, heard) = echo().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    let mut old = connect(&proxy).await;
    says_back(&mut old, b"before").await;
    proxy.set(Fault::Stall);
    old.write_all(b"old").await.unwrap();
    let mut new = connect(&proxy).await;
    new.write_all(b"new").await.unwrap();
    tokio::join!(is_silent(&mut old), is_silent(&mut new));
    assert_eq!(*heard.borrow(), 6, "the server heard nothing either");
    proxy.set(Fault::Pass);
    for (stream, word) in [(&mut old, b"old"), (&mut new, b"new")] {
        let mut answer = [0; 3];
        timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, word);
    }
}

#[tokio::test]
async fn a_client_that_gives_up_on_a_stalled_proxy_is_let_go() {
    let (server, _) = echo().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    proxy.set(Fault::Stall);
    let mut client = connect(&proxy).await;
    client.write_all(b"hello?").await.unwrap();
    until("the connection is held", || proxy.live() == 1).await;
    drop(client);
    until("the connection is let go", || proxy.live() == 0).await;
}

#[tokio::test]
async fn a_one_way_stall_lets_the_server_hear_but_not_be_heard() {
    let (server, mut heard) = echo().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    let mut client = connect(&proxy).await;
    proxy.set(Fault::StallToClient);
    client.write_all(b"one").await.unwrap();
    timeout(SOON, heard.wait_for(|total| *total == 3)).await.unwrap().unwrap();
    is_silent(&mut client).await;
    proxy.set(Fault::Pass);
    let mut answer = [0; 3];
    timeout(SOON, client.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"one");
}

#[tokio::test]
async fn a_cut_closes_old_connections_in_order_and_resets_new_ones() {
    let (server, _) = echo().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    let mut old = connect(&proxy).await;
    says_back(&mut old, b"before").await;
    proxy.set(Fault::Cut);
    let mut byte = [0];
    assert_eq!(timeout(SOON, old.read(&mut byte)).await.unwrap().unwrap(), 0);
    let mut new = connect(&proxy).await;
    let error = timeout(SOON, new.read(&mut byte)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    proxy.set(Fault::Pass);
    says_back(&mut connect(&proxy).await, b"after").await;
}

#[tokio::test]
async fn a_reset_hits_old_connections_once_then_passes() {
    let (server, _) = echo().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    let mut old = connect(&proxy).await;
    says_back(&mut old, b"before").await;
    proxy.set(Fault::Reset);
    assert_eq!(proxy.fault(), Fault::Pass);
    let mut byte = [0];
    let error = timeout(SOON, old.read(&mut byte)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    says_back(&mut connect(&proxy).await, b"after").await;
}

#[tokio::test]
async fn a_reset_in_the_middle_of_a_stall_is_not_missed() {
    let (server, _) = echo().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    let mut old = connect(&proxy).await;
    says_back(&mut old, b"before").await;
    proxy.set(Fault::Stall);
    proxy.set(Fault::Reset);
    proxy.set(Fault::Stall);
    let mut byte = [0];
    assert!(timeout(SOON, old.read(&mut byte)).await.unwrap().is_err());
}

#[tokio::test]
async fn a_server_that_is_down_resets_the_client() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = FaultProxy::start(nobody).await.unwrap();
    let mut client = connect(&proxy).await;
    let mut byte = [0];
    assert_eq!(
        timeout(SOON, client.read(&mut byte)).await.unwrap().unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
}

#[tokio::test]
async fn a_dropped_proxy_closes_everything() {
    let (server, _) = echo().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    let port = proxy.port();
    let mut client = connect(&proxy).await;
    says_back(&mut client, b"before").await;
    drop(proxy);
    let mut byte = [0];
    assert!(matches!(timeout(SOON, client.read(&mut byte)).await.unwrap(), Ok(0) | Err(_)));
    let deadline = Instant::now() + SOON;
    while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
        assert!(Instant::now() < deadline, "still listening");
    }
}
