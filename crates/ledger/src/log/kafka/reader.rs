//! Reading the topic in order.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use rdkafka::{
    Message as _, TopicPartitionList,
    consumer::{Consumer as _, StreamConsumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedMessage,
};

use super::{KafkaLog, PARTITION, place};
use crate::{
    Offset,
    log::{ReadError, Reader, Record, Unavailable, check_order},
};

/// How many records are handed over at once.
const AT_ONCE: usize = 256;
/// An error that goes on as fast as it can would keep a processor busy.
const BREATH: Duration = Duration::from_millis(20);

/// Reads the topic. After trouble it begins again where it was.
pub(super) struct KafkaReader {
    log: KafkaLog,
    next: Offset,
    consumer: Option<Closing>,
    /// Trouble that came behind records.
    trouble: Option<KafkaError>,
}

/// A consumer whose end, which waits for its threads, does not hold up the runtime.
struct Closing(Option<StreamConsumer>);

impl Drop for Closing {
    fn drop(&mut self) {
        let consumer = self.0.take();
        if tokio::runtime::Handle::try_current().is_ok() {
            drop(tokio::task::spawn_blocking(move || drop(consumer)));
        }
    }
}

impl KafkaReader {
    pub(super) fn new(log: KafkaLog, from: Offset) -> Self {
        Self { log, next: from, consumer: None, trouble: None }
    }

    fn assign(&self) -> Result<StreamConsumer, KafkaError> {
        let config = &self.log.shared.config;
        let consumer: StreamConsumer = config.consumer().create()?;
        let mut places = TopicPartitionList::new();
        let from = rdkafka::Offset::Offset(i64::try_from(self.next.0).unwrap_or(i64::MAX));
        places.add_partition_offset(&config.topic, PARTITION, from)?;
        consumer.assign(&places)?;
        Ok(consumer)
    }

    /// What the broker's refusal to give the next record means.
    async fn out_of_range(&self) -> ReadError {
        match self.log.bounds().await {
            Ok((first, _)) if self.next < first => ReadError::Trimmed { first, wanted: self.next },
            Ok((_, end)) if self.next > end => ReadError::Short { wanted: self.next },
            Ok(_) => {
                Unavailable("the broker has no place for the next record yet".to_owned()).into()
            }
            Err(unavailable) => unavailable.into(),
        }
    }
}

#[async_trait]
impl Reader for KafkaReader {
    async fn next(&mut self) -> Result<Vec<Record>, ReadError> {
        if self.consumer.is_none() {
            let consumer = self.assign().map_err(|error| Unavailable(error.to_string()))?;
            self.consumer = Some(Closing(Some(consumer)));
        }
        let consumer = self.consumer.as_ref().and_then(|it| it.0.as_ref());
        let Some(consumer) = consumer else {
            return Err(Unavailable("there is no consumer".to_owned()).into());
        };
        let received = match self.trouble.take() {
            Some(error) => Err(error),
            None => consumer.recv().await,
        };
        let error = match received {
            Ok(first) => {
                let mut records = vec![record(&first)];
                while records.len() < AT_ONCE
                    && let Some(more) = consumer.recv().now_or_never()
                {
                    match more {
                        Ok(more) => records.push(record(&more)),
                        Err(error) => {
                            self.trouble = Some(error);
                            break;
                        }
                    }
                }
                let checked = check_order(&mut self.next, &records);
                if checked.is_err() {
                    self.consumer = None;
                }
                return checked.map(|()| records);
            }
            Err(error) => error,
        };
        let code = error.rdkafka_error_code();
        if matches!(
            code,
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)
        ) {
            self.consumer = None;
            return Err(self.out_of_range().await);
        }
        // The client connects again by itself.
        tokio::time::sleep(BREATH).await;
        Err(Unavailable(error.to_string()).into())
    }
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    let body = message.payload().unwrap_or_default().to_vec();
    Record { at: place(message.offset()), body }
}
