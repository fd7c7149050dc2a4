//! Following server-sent events of a running Herdsman.

use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc::Sender;

use super::{AskError, Endpoint, TIMEOUT};

/// Silence after which the other side is taken to be gone: it says something each 15 s at least.
const SILENCE: Duration = Duration::from_secs(45);

/// The longest event taken. A herd of a thousand nodes tells of one at a time.
const MAX_EVENT: usize = 256 * 1024;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Its number, to go on from.
    pub(crate) id: Option<String>,
    /// Its kind, where that is not told by the data.
    pub(crate) event: Option<String>,
    pub(crate) data: String,
}

impl Endpoint {
    /// Hands on what comes, from after the event of this id, until the other side ends it or nobody takes it any more.
    ///
    /// # Errors
    /// [`AskError`] when nobody answers, the answer is none, or nothing is heard for 45 seconds.
    pub(crate) async fn follow(
        &self,
        path: &str,
        last: &str,
        to: &Sender<Sent>,
    ) -> Result<(), AskError> {
        let following = Box::pin(self.followed(path, last, to)).await;
        following.map_err(|problem| AskError { url: self.url(), problem })
    }

    async fn followed(&self, path: &str, last: &str, to: &Sender<Sent>) -> Result<(), String> {
        let late = |_| format!("no answer within {TIMEOUT:?}");
        let begin = async {
            let stream = self.connect().await?;
            let shaken = http1::handshake(TokioIo::new(stream)).await;
            shaken.map_err(|error| error.to_string())
        };
        let (mut sender, connection) =
            tokio::time::timeout(TIMEOUT, Box::pin(begin)).await.map_err(late)??;
        let request = Request::get(path).header("last-event-id", last).body(Full::default());
        let request =
            self.addressed(request.map_err(|error| error.to_string())?, "text/event-stream")?;
        let reading = async {
            let asked = tokio::time::timeout(TIMEOUT, sender.send_request(request)).await;
            let response = asked.map_err(late)?.map_err(|error| error.to_string())?;
            if !response.status().is_success() {
                return Err(format!("it answers {} to {path}", response.status()));
            }
            let mut body = response.into_body();
            let mut events = Events::default();
            loop {
                let frame = tokio::time::timeout(SILENCE, body.frame()).await;
                let frame = frame.map_err(|_| format!("nothing was heard for {SILENCE:?}"))?;
                let Some(frame) = frame else { return Ok(()) };
                let frame = frame.map_err(|error| error.to_string())?;
                for event in events.take(frame.data_ref().unwrap_or(&Bytes::new()))? {
                    if to.send(event).await.is_err() {
                        return Ok(());
                    }
                }
            }
        };
        // The connection moves only while it is polled; that it ended is told by the reading.
        let mut reading = std::pin::pin!(reading);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            ended = &mut reading => ended,
            _ended = &mut connection => reading.await,
        }
    }
}

/// Takes events out of bytes as they come. Pure.
#[derive(Debug, Default)]
struct Events {
    line: Vec<u8>,
    next: Sent,
}

impl Events {
    fn take(&mut self, bytes: &[u8]) -> Result<Vec<Sent>, String> {
        let mut whole = Vec::new();
        for byte in bytes {
            match byte {
                b'\r' => {}
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    whole.extend(self.end_of(&String::from_utf8_lossy(&line)));
                }
                other => self.line.push(*other),
            }
            if self.line.len() + self.next.data.len() > MAX_EVENT {
                return Err(format!("it sends an event of more than {MAX_EVENT} bytes"));
            }
        }
        Ok(whole)
    }

    /// A line has ended; an empty one ends the event.
    fn end_of(&mut self, line: &str) -> Option<Sent> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.next);
            return (!event.data.is_empty()).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.next.id = Some(value.to_owned()),
            "event" => self.next.event = Some(value.to_owned()),
            "data" => {
                if !self.next.data.is_empty() {
                    self.next.data.push('\n');
                }
                self.next.data.push_str(value);
            }
            // A comment, or how soon to come back, which we know better.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_whole_however_they_are_cut() {
        let text = "retry: 1000\n\nevent: gap\ndata: {}\n\n: nothing\n\nid: a-1\r\ndata: x\r\ndata:y\r\n\r\nid: a";
        let sent = |id: Option<&str>, event: Option<&str>, data: &str| Sent {
            id: id.map(str::to_owned),
            event: event.map(str::to_owned),
            data: data.to_owned(),
        };
        let expected = [sent(None, Some("gap"), "{}"), sent(Some("a-1"), None, "x\ny")];
        for size in 1..text.len() {
            let mut events = Events::default();
            let taken = text.as_bytes().chunks(size).flat_map(|piece| events.take(piece).unwrap());
            assert_eq!(taken.collect::<Vec<_>>(), expected, "{size}");
        }
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut events = Events::default();
        assert!(events.take(&vec![b'x'; MAX_EVENT]).is_ok());
        assert!(events.take(b"x").is_err());
    }
}
