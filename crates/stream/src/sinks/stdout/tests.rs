use std::sync::{Arc, Mutex};

use super::*;
use crate::sinks::conformance::{self, batch, row};

/// Counts writes, and takes a few bytes of each only.
#[derive(Clone, Default)]
struct Page {
    text: Arc<Mutex<Vec<u8>>>,
    writes: Arc<Mutex<Vec<usize>>>,
    full: bool,
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // As a pipe that somebody made non-blocking.
        self.full = !self.full;
        if self.full {
            return Err(ErrorKind::WouldBlock.into());
        }
        let taken = bytes.len().min(5000);
        self.writes.lock().unwrap().push(bytes.len());
        self.text.lock().unwrap().extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn sink(out: impl Write + Send + 'static) -> StdoutSink {
    StdoutSink::to(out, Shape::Herdsman).unwrap()
}

#[tokio::test]
async fn a_batch_is_one_write_of_whole_lines() {
    let page = Page::default();
    let sink = sink(page.clone());
    sink.deliver(&batch((0..3).map(|n| row(n, "a\nb")).collect())).await.unwrap();
    let text = String::from_utf8(page.text.lock().unwrap().clone()).unwrap();
    assert_eq!(*page.writes.lock().unwrap(), [text.len()]);
    assert_eq!(text.lines().count(), 3);
}

#[tokio::test]
async fn what_a_full_disk_tore_becomes_a_line_of_its_own() {
    let text = Arc::new(Mutex::new(Vec::new()));
    let sink = sink(Full { text: Arc::clone(&text), room: 10 });
    let batch = batch(vec![row(0, "a"), row(1, "a")]);
    sink.deliver(&batch).await.unwrap_err();
    sink.deliver(&batch).await.unwrap();
    let text = String::from_utf8(text.lock().unwrap().clone()).unwrap();
    let good = text.lines().skip(1).map(|line| serde_json::from_str(line).unwrap());
    let good: Vec<_> = good.map(|json| conformance::seen(&json).unwrap().ordinal).collect();
    assert_eq!(good, [0, 1]);
}

/// A disk that is full after so many bytes, until somebody makes room.
struct Full {
    text: Arc<Mutex<Vec<u8>>>,
    room: usize,
}

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.room);
        self.room = if taken == 0 { usize::MAX } else { self.room - taken };
        self.text.lock().unwrap().extend_from_slice(&bytes[..taken]);
        if taken == 0 { Err(ErrorKind::StorageFull.into()) } else { Ok(taken) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn standard_output_keeps_the_contract_of_sinks() {
    let page = Page::default();
    let sink = sink(page.clone());
    let read = async || {
        let text = String::from_utf8(page.text.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.map(|json| conformance::seen(&json).unwrap()).collect()
    };
    conformance::check(&sink, read).await.unwrap();
}

#[tokio::test]
async fn a_reader_that_has_left_ends_the_stream_and_a_full_disk_does_not() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for (sink, ends) in [(sink(writer), true), (sink(full), false)] {
        let error = sink.deliver(&batch(vec![row(0, "a")])).await.unwrap_err();
        let DeliveryError::Unavailable(error) = error else { panic!("{error}") };
        assert_eq!(error.ends_the_stream(), ends, "{error}");
    }
}
