//! Requests to cancel of clients that stayed with the run before: they come to this one, which has the sockets now, and are
//! passed on over the line on which it got them. Each is its length, the process number, and the secret.

use std::io::{self, ErrorKind};

use herdsman_gateway::{CancelRequest, Canceller};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::TALK;

/// Requests that are carried out at a time; others wait on the line.
const AT_ONCE: usize = 64;

/// Passes on what comes, until the run before has gone.
pub(super) async fn pass_on(line: UnixStream, mut requests: mpsc::Receiver<CancelRequest>) {
    let (mut gone, mut line) = line.into_split();
    let ended = async {
        // It says nothing more: this is its end.
        let _end = gone.read_u8().await;
    };
    let passing = async {
        while let Some(request) = requests.recv().await {
            let sent = timeout(TALK, line.write_all(&written(&request))).await;
            if let Err(error) = sent.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())) {
                tracing::debug!(%error, "failed to pass a cancel request on to the run before");
                return;
            }
        }
    };
    tokio::select! {
        () = ended => (),
        () = passing => (),
    }
}

/// Carries out what the next run passes on, until it has gone. Dropping it gives up what is under way.
pub(super) async fn carry_out(mut line: UnixStream, canceller: Canceller) {
    let mut doing = JoinSet::new();
    loop {
        while doing.len() >= AT_ONCE {
            doing.join_next().await;
        }
        match read(&mut line).await {
            Ok(request) => {
                let canceller = canceller.clone();
                doing.spawn(async move { canceller.cancel(&request).await });
            }
            Err(error) => {
                tracing::debug!(%error, "the next run passes on no cancel requests any more");
                break;
            }
        }
        while doing.try_join_next().is_some() {}
    }
    doing.join_all().await;
}

fn written(request: &CancelRequest) -> Vec<u8> {
    let length = u16::try_from(request.secret().len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], &request.process().to_be_bytes(), request.secret()].concat()
}

async fn read(line: &mut UnixStream) -> io::Result<CancelRequest> {
    let length = line.read_u16().await?;
    let process = line.read_i32().await?;
    let mut secret = vec![0; usize::from(length)];
    line.read_exact(&mut secret).await?;
    CancelRequest::new(process, &secret).ok_or_else(|| ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_passed_on_arrives_as_it_was_until_the_other_goes() {
        let (next, mut before) = UnixStream::pair().unwrap();
        let (requests, queue) = mpsc::channel(4);
        let passing = tokio::spawn(pass_on(next, queue));
        for secret in [&[1, 2, 3, 4][..], &[], &[7; 256]] {
            let request = CancelRequest::new(-5, secret).unwrap();
            requests.send(request.clone()).await.unwrap();
            assert!(read(&mut before).await.unwrap() == request);
        }
        drop(before);
        passing.await.unwrap();
        assert!(CancelRequest::new(1, &[0; 257]).is_none());
    }

    #[tokio::test]
    async fn what_no_client_can_have_ends_the_line() {
        let (mut next, mut before) = UnixStream::pair().unwrap();
        next.write_all(&[&[1, 1][..], &[0; 4], &[0; 257]].concat()).await.unwrap();
        assert_eq!(read(&mut before).await.unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
