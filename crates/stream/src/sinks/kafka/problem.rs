//! What can go wrong, and what to do about it.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::types::RDKafkaConfRes;

use crate::sink::SinkError;

/// Why records are not in Kafka.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// A setting cannot be.
    Setting(String),
    /// There is no producer.
    Closed,
    /// No broker has answered.
    Silent { within: Duration, heard: Option<String> },
    /// The producer is of no use any more.
    Spent(String),
    /// librdkafka or a broker says so.
    Told { code: Code, heard: Option<String> },
    /// librdkafka says so, in words.
    Said(String),
}

impl Failure {
    pub(super) fn of(error: &KafkaError) -> Self {
        if let KafkaError::ClientConfig(result, _, name, _) = error {
            // What it says holds the value, which may be a secret.
            return Self::Setting(match result {
                RDKafkaConfRes::RD_KAFKA_CONF_INVALID => {
                    format!("`{name}` has a value that librdkafka does not take")
                }
                _ => format!("librdkafka, as it was built, has no property `{name}`"),
            });
        }
        match error.rdkafka_error_code() {
            Some(Code::Fatal) => Self::Spent(error.to_string()),
            Some(code) => Self::Told { code, heard: None },
            None => Self::Said(error.to_string()),
        }
    }

    /// What was heard besides, where the failure itself only says that nothing came back.
    pub(super) fn with_reason(mut self, reason: Option<String>) -> Self {
        if let Self::Told { code: Code::MessageTimedOut, heard }
        | Self::Told { code: Code::QueueFull, heard } = &mut self
        {
            *heard = reason;
        }
        self
    }

    pub(super) fn about(self, target: &str) -> SinkError {
        let target = format!("Kafka at {target}");
        let reopen = matches!(self, Self::Closed | Self::Spent(_) | Self::Silent { .. });
        let (what, problem, advice) = match self {
            Self::Setting(problem) => ("set up sending to", problem, "correct the sink's settings"),
            Self::Closed => {
                ("send to", "it is not open".to_owned(), "it is opened before the next try")
            }
            Self::Silent { within, heard } => (
                "connect to",
                and(format!("no broker answered within {} s", within.as_secs()), heard),
                "check that the brokers run, can be reached, and take `security.protocol` and logins as set",
            ),
            Self::Spent(problem) => ("send to", problem, "a new producer is made for the next try"),
            Self::Said(problem) => ("send to", problem, "see what librdkafka says of it"),
            Self::Told { code, heard } => ("send to", and(code.to_string(), heard), advice(code)),
        };
        SinkError { what, target, problem, advice, reopen }
    }
}

/// Whether this is said of a whole request because of one record in it. Such records are tried one by one.
pub(super) fn is_about_one_record(code: Code) -> bool {
    matches!(
        code,
        Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::InvalidMessageSize
            | Code::InvalidRecord
            | Code::InvalidDifferentRecord
            | Code::InvalidMessage
    )
}

fn and(problem: String, heard: Option<String>) -> String {
    match heard {
        Some(heard) => format!("{problem} ({heard})"),
        None => problem,
    }
}

fn advice(code: Code) -> &'static str {
    match code {
        Code::MessageTimedOut | Code::QueueFull | Code::AllBrokersDown | Code::RequestTimedOut => {
            "check that the brokers run and can be reached; it is tried again"
        }
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
            "create the topic, or let brokers create topics (`auto.create.topics.enable`)"
        }
        Code::InvalidTopic => "choose another `topic` for the sink, of 249 characters at most",
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            "allow the sink's user to write to the topic"
        }
        Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL => {
            "check `sasl.*` and `ssl.*` in the sink's `properties`"
        }
        Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend => {
            "bring back the topic's replicas; it is tried again"
        }
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
            "raise `message.max.bytes` in `properties` and `max.message.bytes` of the topic, or leave large columns out"
        }
        Code::InvalidRecord => {
            "a compacted topic takes no record without a key: give the table a primary key"
        }
        _ => "see what the brokers log of it; it is tried again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_out_says_what_was_heard_meanwhile() {
        let failure = Failure::of(&KafkaError::MessageProduction(Code::MessageTimedOut));
        let error = failure.with_reason(Some("connection refused".to_owned())).about("k1:9092");
        let said = error.to_string();
        assert!(said.contains("Kafka at k1:9092") && said.contains("connection refused"), "{said}");
        assert!(!error.reopen, "librdkafka connects again by itself");
    }

    #[test]
    fn a_producer_that_is_spent_is_replaced() {
        let error = Failure::of(&KafkaError::MessageProduction(Code::Fatal)).about("k1:9092");
        assert!(error.reopen);
    }
}
