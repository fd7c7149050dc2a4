//! Asking a broker whether it is there, in as much of Kafka's protocol as that takes.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A broker on this machine that says nothing for so long is busy starting.
const PATIENCE: Duration = Duration::from_secs(1);
/// Far above what a cluster of one has to say of itself.
const MAX_ANSWER: i32 = 64 * 1024;
/// Metadata, version 1, request number 1, no client name, no topics.
const REQUEST: [u8; 14] = [0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0];

/// Whether the broker lists itself as one that takes records: its port is open well before that.
pub(super) async fn answers(port: u16) -> bool {
    tokio::time::timeout(PATIENCE, ask(port))
        .await
        .is_ok_and(|asked| asked.is_ok_and(|answer| is_listed(&answer)))
}

async fn ask(port: u16) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let length = u32::try_from(REQUEST.len()).unwrap_or_default();
    stream.write_u32(length).await?;
    stream.write_all(&REQUEST).await?;
    let length = stream.read_i32().await?;
    if !(0..=MAX_ANSWER).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut answer = vec![0; usize::try_from(length).unwrap_or_default()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// The request's number, then the brokers: how many come first.
fn is_listed(answer: &[u8]) -> bool {
    let count = answer.get(4..).and_then(|rest| rest.first_chunk::<4>());
    count.is_some_and(|count| i32::from_be_bytes(*count) > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_does_not_list_itself_yet_is_not_there() {
        assert!(!is_listed(&[0, 0, 0, 1, 0, 0, 0, 0, 9, 9]));
        assert!(is_listed(&[0, 0, 0, 1, 0, 0, 0, 1, 9, 9]));
        assert!(!is_listed(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]));
        assert!(!is_listed(&[0, 0, 0, 1, 0]));
    }
}
