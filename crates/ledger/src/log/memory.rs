//! A log in this process, with faults on demand.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{AppendError, Log, ReadError, Reader, Record, Unavailable, check_order};
use crate::Offset;

/// How many records a reader is handed at once.
const AT_ONCE: usize = 100;

/// What becomes of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It lands, and the acknowledgement is lost.
    LoseAck,
    /// It is lost, and nobody is told.
    Lose,
    /// It lands when [`MemoryLog::deliver`] is called, and nobody is told.
    Park,
    /// It lands twice.
    Twice,
    /// It is refused.
    Reject,
}

/// A log in this process. Clones are the same log.
#[derive(Clone, Debug)]
pub struct MemoryLog {
    inner: Arc<Mutex<Inner>>,
    grown: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Inner {
    first: u64,
    records: VecDeque<Vec<u8>>,
    faults: VecDeque<Fault>,
    parked: Vec<Vec<u8>>,
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self { inner: Arc::default(), grown: watch::Sender::new(()) }
    }
}

impl MemoryLog {
    /// What becomes of the next appends, one each; those after them are sound.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.extend(faults);
    }

    /// What was parked lands now.
    pub fn deliver(&self) {
        let mut inner = self.lock();
        let parked = std::mem::take(&mut inner.parked);
        inner.records.extend(parked);
        drop(inner);
        self.grown.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn end(&self) -> u64 {
        self.first.saturating_add(u64::try_from(self.records.len()).unwrap_or(u64::MAX))
    }

    fn push(&mut self, body: Vec<u8>) -> Offset {
        let at = self.end();
        self.records.push_back(body);
        Offset(at)
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn append(&self, body: Vec<u8>) -> Result<Offset, AppendError> {
        let unknown = || Err(AppendError::Unknown("no acknowledgement came".to_owned()));
        let mut inner = self.lock();
        let result = match inner.faults.pop_front() {
            None => Ok(inner.push(body)),
            Some(Fault::Reject) => Err(AppendError::Rejected("as the test wants it".to_owned())),
            Some(Fault::Lose) => unknown(),
            Some(Fault::LoseAck) => {
                inner.push(body);
                unknown()
            }
            Some(Fault::Park) => {
                inner.parked.push(body);
                unknown()
            }
            Some(Fault::Twice) => {
                let at = inner.push(body.clone());
                inner.push(body);
                Ok(at)
            }
        };
        drop(inner);
        self.grown.send_replace(());
        result
    }

    async fn end(&self) -> Result<Offset, Unavailable> {
        Ok(Offset(self.lock().end()))
    }

    async fn start(&self) -> Result<Offset, Unavailable> {
        Ok(Offset(self.lock().first))
    }

    async fn read(&self, from: Offset) -> Result<Box<dyn Reader>, Unavailable> {
        let grown = self.grown.subscribe();
        Ok(Box::new(MemoryReader { log: self.clone(), next: from, grown }))
    }

    async fn trim(&self, below: Offset) -> Result<(), Unavailable> {
        let mut inner = self.lock();
        while inner.first < below.0 && inner.records.pop_front().is_some() {
            inner.first = inner.first.saturating_add(1);
        }
        Ok(())
    }
}

struct MemoryReader {
    log: MemoryLog,
    next: Offset,
    grown: watch::Receiver<()>,
}

impl MemoryReader {
    fn there(&mut self) -> Result<Vec<Record>, ReadError> {
        let inner = self.log.lock();
        if self.next.0 < inner.first {
            return Err(ReadError::Trimmed { first: Offset(inner.first), wanted: self.next });
        }
        if self.next.0 > inner.end() {
            return Err(ReadError::Short { wanted: self.next });
        }
        let skip = usize::try_from(self.next.0 - inner.first).unwrap_or(usize::MAX);
        let bodies = inner.records.iter().skip(skip).take(AT_ONCE);
        let records: Vec<Record> = (self.next.0..)
            .zip(bodies)
            .map(|(at, body)| Record { at: Offset(at), body: body.clone() })
            .collect();
        drop(inner);
        check_order(&mut self.next, &records).map(|()| records)
    }
}

#[async_trait]
impl Reader for MemoryReader {
    async fn next(&mut self) -> Result<Vec<Record>, ReadError> {
        loop {
            self.grown.mark_unchanged();
            let records = self.there()?;
            if !records.is_empty() {
                return Ok(records);
            }
            // We hold the log, so its sender lives.
            if self.grown.changed().await.is_err() {
                return Err(Unavailable("it is gone".to_owned()).into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn faults_do_what_they_say() {
        let log = MemoryLog::default();
        log.fail_next([Fault::Reject, Fault::Lose, Fault::LoseAck, Fault::Twice, Fault::Park]);
        let mut results = Vec::new();
        for body in 0..5 {
            results.push(log.append(vec![body]).await);
        }
        assert!(matches!(results[0], Err(AppendError::Rejected(_))));
        assert_eq!(results[3], Ok(Offset(1)));
        for unknown in [1, 2, 4] {
            assert!(matches!(results[unknown], Err(AppendError::Unknown(_))));
        }
        log.deliver();
        let bodies = log.read(Offset(0)).await.unwrap().next().await.unwrap();
        let bodies: Vec<u8> = bodies.into_iter().flat_map(|record| record.body).collect();
        assert_eq!(bodies, [2, 3, 3, 4]);
    }
}
