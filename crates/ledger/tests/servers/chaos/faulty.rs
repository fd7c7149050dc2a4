//! A log that loses acknowledgements, and entries, and takes some twice.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use async_trait::async_trait;
use herdsman_ledger::{
    Offset,
    log::{AppendError, Log, Reader, Unavailable},
};

pub(super) struct Faulty {
    log: Arc<dyn Log>,
    /// Nothing goes wrong.
    pub(super) sound: AtomicBool,
    unacknowledged: AtomicU32,
    doubled: AtomicU32,
    lost: AtomicU32,
}

impl Faulty {
    pub(super) fn new(log: Arc<dyn Log>) -> Self {
        Self {
            log,
            sound: AtomicBool::new(true),
            unacknowledged: AtomicU32::default(),
            doubled: AtomicU32::default(),
            lost: AtomicU32::default(),
        }
    }

    /// How often what went wrong.
    pub(super) fn done(&self) -> [(&'static str, u32); 3] {
        let read = |count: &AtomicU32| count.load(Ordering::Relaxed);
        [
            ("unacknowledged", read(&self.unacknowledged)),
            ("doubled", read(&self.doubled)),
            ("lost", read(&self.lost)),
        ]
    }
}

#[async_trait]
impl Log for Faulty {
    async fn append(&self, body: Vec<u8>) -> Result<Offset, AppendError> {
        let unknown = || AppendError::Unknown("a test's doing".to_owned());
        let count = |count: &AtomicU32| count.fetch_add(1, Ordering::Relaxed);
        if self.sound.load(Ordering::Relaxed) {
            return self.log.append(body).await;
        }
        match fastrand::u32(..40) {
            0 => {
                count(&self.unacknowledged);
                self.log.append(body).await?;
                Err(unknown())
            }
            1 => {
                count(&self.doubled);
                self.log.append(body.clone()).await?;
                self.log.append(body).await
            }
            2 => {
                count(&self.lost);
                Err(unknown())
            }
            _ => self.log.append(body).await,
        }
    }

    async fn end(&self) -> Result<Offset, Unavailable> {
        self.log.end().await
    }

    async fn start(&self) -> Result<Offset, Unavailable> {
        self.log.start().await
    }

    async fn read(&self, from: Offset) -> Result<Box<dyn Reader>, Unavailable> {
        self.log.read(from).await
    }

    async fn trim(&self, below: Offset) -> Result<(), Unavailable> {
        self.log.trim(below).await
    }
}
