//! Asking a server to cancel what another connection waits for.

use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Failure, RawStream, told};
use crate::{ConnectError, ConnectErrorKind, Conninfo, SslMode, Tls};

/// Asks the server at `info` to cancel what the process `backend` is doing, which is named together with its secret. Goes
/// over TLS where a login would, and gives up after `limit`.
///
/// When this returns, the server has dealt with the request: it does not reach a statement that is sent later. Whether
/// there was anything to cancel is not known; the cancelled statement fails with SQLSTATE 57014.
///
/// # Errors
/// [`ConnectError`] where the server cannot be reached, or does not deal with the request in time: then it may still do so.
pub async fn cancel_raw(
    info: &Conninfo,
    tls: &Tls,
    limit: Duration,
    backend: (i32, i32),
) -> Result<(), ConnectError> {
    match tokio::time::timeout(limit, Box::pin(request(info, tls, limit, backend))).await {
        Ok(outcome) => outcome.map_err(|failure| told(info, failure)),
        Err(_) => Err(ConnectError {
            kind: ConnectErrorKind::TimedOut,
            endpoint: info.endpoint(),
            problem: format!("a cancel request was not dealt with within {limit:?}"),
        }),
    }
}

async fn request(
    info: &Conninfo,
    tls: &Tls,
    limit: Duration,
    (process, secret): (i32, i32),
) -> Result<(), Failure> {
    let plain = RawStream::dial(info, limit).await?;
    let mut stream = match info.sslmode {
        // A server may refuse logins without TLS; cancel requests it takes all the same.
        SslMode::Disable | SslMode::Allow => plain,
        _ if plain.is_unix() => plain,
        SslMode::Prefer => plain.secured(info, tls, false).await?,
        _ => plain.secured(info, tls, true).await?,
    };
    let mut bytes = BytesMut::new();
    frontend::cancel_request(process, secret, &mut bytes);
    stream.write_all_buf(&mut bytes).await?;
    stream.flush().await?;
    // The server says nothing and hangs up when the signal is sent. How it hangs up does not matter.
    let mut nothing = [0; 64];
    while matches!(stream.read(&mut nothing).await, Ok(1..)) {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_request_names_the_process_and_waits_until_the_server_hangs_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (hang_up, wait) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut packet = [0; 16];
            socket.read_exact(&mut packet).await.unwrap();
            wait.await.unwrap();
            packet
        });
        let info: Conninfo =
            format!("host=127.0.0.1 port={port} user=x sslmode=disable").parse().unwrap();
        let tls = Tls::new(&info).unwrap();
        let request = tokio::spawn(async move { cancel_raw(&info, &tls, LIMIT, (7, -2)).await });
        tokio::task::yield_now().await;
        assert!(!request.is_finished());
        hang_up.send(()).unwrap();
        request.await.unwrap().unwrap();
        let expected = [0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 7, 255, 255, 255, 254];
        assert_eq!(server.await.unwrap(), expected);
    }

    #[tokio::test]
    async fn a_server_that_never_hangs_up_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let info: Conninfo =
            format!("host=127.0.0.1 port={port} user=x sslmode=disable").parse().unwrap();
        let tls = Tls::new(&info).unwrap();
        let error = cancel_raw(&info, &tls, Duration::from_millis(50), (7, 8)).await.unwrap_err();
        assert_eq!(error.kind, ConnectErrorKind::TimedOut);
    }
}
