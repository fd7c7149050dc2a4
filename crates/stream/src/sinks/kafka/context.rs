//! What librdkafka says by itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Hears what librdkafka says: logs it, and keeps the last trouble, which tells why nothing was acknowledged.
#[derive(Clone, Debug, Default)]
pub(super) struct Context {
    heard: Heard,
}

/// The last trouble that was heard of.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<Mutex<Option<String>>>);

impl Context {
    pub(super) fn heard(&self) -> Heard {
        self.heard.clone()
    }
}

impl Heard {
    pub(super) fn last(&self) -> Option<String> {
        self.slot().clone()
    }

    /// All is well again.
    pub(super) fn forget(&self) {
        *self.slot() = None;
    }

    fn slot(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::debug!(facility, "librdkafka: {message}");
            }
            // Outages are told by whoever waits for a delivery.
            _ => tracing::info!(facility, "librdkafka: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka has trouble");
        // That all are down says less than what was heard of one of them.
        let says_little = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
        let mut heard = self.heard.slot();
        if heard.is_none() || !says_little {
            *heard = Some(reason.to_owned());
        }
    }
}
