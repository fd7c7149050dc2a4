//! JSON lines in a file.
//!
//! - Delivered means on the disk: each batch is one write and one `fsync`.
//! - After a crash, the last line may be torn. It is cut off when the file is opened; what it held comes again, as do
//!   complete lines that were not acknowledged yet.
//! - A file is rotated before the batch that would make it larger than `rotate.bytes`, and with the first batch after
//!   it became older than `rotate.age`; an idle file is left alone. `changes.jsonl` is then renamed to
//!   `changes.20260131T120000Z-0000.jsonl`, so that names sort by time; a name never comes twice. A batch is never
//!   split: a file is larger than `rotate.bytes` where one batch is.
//! - One program writes to a file: it is locked while it is open.

mod log;
mod name;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use herdsman_node::units;
use serde::{Deserialize, Deserializer};

use self::log::Log;
use super::json;
use crate::config::Shape;
use crate::sink::{Batch, DeliveryError, Sink, SinkError};

/// Settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// The file; its folder must be there.
    pub path: PathBuf,
    /// When a new file is begun.
    #[serde(default)]
    pub rotate: RotateConfig,
}

/// When a new file is begun, and how many old ones are kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RotateConfig {
    /// Bytes a file may have. Default 256 MiB: what tools still open at once.
    #[serde(deserialize_with = "bytes")]
    pub bytes: u64,
    /// How old a file may become; `never`, the default, for no bound.
    #[serde(deserialize_with = "age")]
    pub age: Option<Duration>,
    /// How many rotated files are kept, the newest; all, the default, when left out.
    pub keep: Option<usize>,
}

impl Default for RotateConfig {
    fn default() -> Self {
        Self { bytes: 256 << 20, age: None, keep: None }
    }
}

/// The sink.
#[derive(Debug)]
pub struct FileSink {
    shape: Shape,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: FileConfig,
    log: Mutex<Option<Log>>,
}

impl FileSink {
    /// Builds it.
    ///
    /// # Errors
    /// [`SinkError`] where the path names no file.
    pub fn new(config: &FileConfig, shape: Shape) -> Result<Self, SinkError> {
        if config.path.file_name().is_none() {
            return Err(SinkError {
                what: "write to",
                target: format!("`{}`", config.path.display()),
                problem: "this is no name of a file".to_owned(),
                advice: "set `path` to the file that lines are to be appended to",
                reopen: false,
            });
        }
        let shared = Arc::new(Shared { config: config.clone(), log: Mutex::default() });
        Ok(Self { shape, shared })
    }

    /// Does something with the open file, which may take as long as the disk does.
    async fn with_log<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared, &mut Option<Log>) -> Result<T, SinkError> + Send + 'static,
    ) -> Result<T, SinkError> {
        let shared = Arc::clone(&self.shared);
        // A delivery that is given up leaves this running to its end; the next one waits for the lock.
        let done = tokio::task::spawn_blocking(move || {
            let mut log = shared.log.lock().unwrap_or_else(PoisonError::into_inner);
            work(&shared, &mut log)
        });
        done.await.unwrap_or_else(|error| {
            Err(SinkError {
                what: "write to",
                target: format!("`{}`", self.shared.config.path.display()),
                problem: error.to_string(),
                advice: "report this defect",
                reopen: true,
            })
        })
    }
}

#[async_trait]
impl Sink for FileSink {
    async fn open(&self) -> Result<Option<crate::Position>, SinkError> {
        self.with_log(|shared, log| {
            // The old one first: it holds the lock.
            drop(log.take());
            *log = Some(Log::open(&shared.config)?);
            Ok(None)
        })
        .await
    }

    async fn deliver(&self, batch: &Batch) -> Result<(), DeliveryError> {
        let bytes = json::lines(self.shape, batch);
        let written = self.with_log(move |shared, slot| {
            // Out of the slot while it is written to: after a failure it is opened anew, and repaired by that.
            let mut log = match slot.take() {
                Some(log) => log,
                None => Log::open(&shared.config)?,
            };
            if log.is_due(&shared.config, bytes.len(), SystemTime::now()) {
                log = log.rotate(&shared.config, SystemTime::now())?;
            }
            log.append(&bytes)?;
            *slot = Some(log);
            Ok(())
        });
        written.await.map_err(DeliveryError::Unavailable)
    }

    async fn close(&self) {
        let closed = self.with_log(|_, log| {
            drop(log.take());
            Ok(())
        });
        // Everything delivered is on the disk; there is nothing left to fail.
        let _nothing_to_lose = closed.await;
    }
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    units::number(deserializer, 1024..=1 << 50)
}

fn age<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    units::duration_or_never(
        deserializer,
        Duration::from_secs(1)..=Duration::from_secs(366 * 86_400),
    )
}

#[cfg(test)]
mod tests;
