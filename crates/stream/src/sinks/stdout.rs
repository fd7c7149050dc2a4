//! JSON lines on standard output.
//!
//! Delivered means handed over: one write per batch, flushed. What the reader of a pipe had not read yet when it died is
//! lost to it; a reader that must not lose anything acknowledges, as the `exec` sink's command does.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::sync::mpsc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use tokio::sync::oneshot;

use super::json;
use crate::config::Shape;
use crate::sink::{Batch, DeliveryError, Sink, SinkError};

/// Settings: there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StdoutConfig {}

/// The sink.
pub struct StdoutSink {
    shape: Shape,
    writer: mpsc::Sender<Job>,
}

type Job = (Vec<u8>, oneshot::Sender<io::Result<()>>);

/// How an error says that nobody reads any more.
const READER_LEFT: &str = "whoever read the output has ended, so the stream ends, too";
/// A terminal or pipe that another program made non-blocking is asked again after this.
const FULL_PAUSE: Duration = Duration::from_millis(5);

impl StdoutSink {
    /// Builds it.
    ///
    /// # Errors
    /// [`SinkError`] where no thread can be started.
    pub fn new(_config: &StdoutConfig, shape: Shape) -> Result<Self, SinkError> {
        Self::to(io::stdout(), shape)
    }

    /// Writes somewhere else.
    fn to(mut out: impl Write + Send + 'static, shape: Shape) -> Result<Self, SinkError> {
        let (writer, jobs) = mpsc::channel::<Job>();
        // A thread of its own: a pipe that nobody reads blocks for ever, and must block neither the runtime nor its end.
        std::thread::Builder::new()
            .name("stdout".to_owned())
            .spawn(move || {
                let mut torn = false;
                for (bytes, done) in jobs {
                    let written = write_batch(&mut out, &bytes, &mut torn);
                    // A delivery that was given up is not told; its lines are out all the same.
                    let _given_up = done.send(written);
                }
            })
            .map_err(|error| failed(&error))?;
        Ok(Self { shape, writer })
    }
}

#[async_trait]
impl Sink for StdoutSink {
    async fn deliver(&self, batch: &Batch) -> Result<(), DeliveryError> {
        let bytes = json::lines(self.shape, batch);
        let (done, written) = oneshot::channel();
        let gone = || io::Error::from(ErrorKind::BrokenPipe);
        let written = match self.writer.send((bytes, done)) {
            Ok(()) => written.await.unwrap_or_else(|_| Err(gone())),
            Err(_) => Err(gone()),
        };
        written.map_err(|error| DeliveryError::Unavailable(failed(&error)))
    }
}

impl SinkError {
    /// Whether there is nobody to deliver to any more, and never will be again: the reader of our output has ended. The
    /// stream then ends as if it had been told to.
    #[must_use]
    pub fn ends_the_stream(&self) -> bool {
        self.advice == READER_LEFT
    }
}

impl fmt::Debug for StdoutSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StdoutSink").field("shape", &self.shape).finish_non_exhaustive()
    }
}

/// Writes whole lines. Where only part of them got out last time, that part becomes a line of its own first.
fn write_batch(out: &mut impl Write, lines: &[u8], torn: &mut bool) -> io::Result<()> {
    if *torn {
        write_all(out, b"\n", torn)?;
    }
    write_all(out, lines, torn)?;
    out.flush()
}

/// `torn` says whether the last byte that got out is within a line.
fn write_all(out: &mut impl Write, mut bytes: &[u8], torn: &mut bool) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => {
                let (out, left) = bytes.split_at_checked(written).unwrap_or((bytes, &[]));
                *torn = out.last() != Some(&b'\n');
                bytes = left;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(FULL_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn failed(error: &io::Error) -> SinkError {
    let advice = match error.kind() {
        ErrorKind::BrokenPipe => READER_LEFT,
        ErrorKind::StorageFull => "make room on the disk that standard output goes to",
        _ => "look at where standard output goes",
    };
    SinkError {
        what: "write to",
        target: "standard output".to_owned(),
        problem: error.to_string(),
        advice,
        reopen: false,
    }
}

#[cfg(test)]
mod tests;
