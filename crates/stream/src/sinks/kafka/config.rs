//! Settings, and what librdkafka is told.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use herdsman_node::units;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use serde::{Deserialize, Deserializer};

use super::problem::Failure;
use crate::sink::SinkError;

/// Records that wait at most; there are no more than a batch's of ours, and a batch holds a thousand unless told.
const QUEUED_RECORDS: &str = "100000";
/// Kilobytes that wait at most: above, sending waits. The changes themselves are in memory a second time meanwhile.
const QUEUED_KILOBYTES: &str = "65536";
/// How long records are gathered for one request. Measured: without, batches of a hundred take twice as long, in many
/// small requests; with librdkafka's own 5, a single change waits for nothing.
const LINGER_MS: &str = "1";
/// A broker that is back is noticed within this time.
const RECONNECT_MS: &str = "2000";

/// What is ours to set: the guarantees rest on it, or there is a setting of our own for it.
const RESERVED: [&str; 11] = [
    "acks",
    "bootstrap.servers",
    "delivery.timeout.ms",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "message.timeout.ms",
    "metadata.broker.list",
    "plugin.library.paths",
    "produce.offset.report",
    "request.required.acks",
    "transactional.id",
];

/// Settings of the Kafka sink.
///
/// ```
/// use herdsman_stream::config::Shape;
/// use herdsman_stream::sinks::kafka::{KafkaConfig, KafkaSink};
///
/// let config: KafkaConfig = serde_json::from_str(
///     r#"{ "brokers": ["127.0.0.1:9092"], "topic": "shop.{table}", "properties": { "compression.codec": "lz4" } }"#,
/// )?;
/// assert!(KafkaSink::new(&config, Shape::default()).is_ok());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Brokers to ask first, as `host:port`; they tell of the others.
    pub brokers: Vec<String>,
    /// The topic of a table, with `{schema}` and `{table}` in it. Characters that Kafka does not allow become `_`.
    #[serde(default = "topic")]
    pub topic: String,
    /// The topic of logical messages, which are of no table.
    #[serde(default = "messages_topic")]
    pub messages_topic: String,
    /// Whether a deleted row is followed by a record with its key and no value, on which a compacted topic forgets the
    /// key. A key that an update replaces is forgotten the same way.
    #[serde(default)]
    pub tombstones: bool,
    /// How long brokers may take to acknowledge a record before the batch counts as not delivered.
    #[serde(default = "timeout", deserialize_with = "read_timeout")]
    pub timeout: Duration,
    /// Properties for librdkafka, as its documentation calls them. `ssl.*` and the SASL mechanisms other than `PLAIN`
    /// work only where librdkafka was built with OpenSSL (a feature of the crate `rdkafka`), which it is not unless you
    /// do; `lz4` and `snappy` compression are always in.
    #[serde(default, deserialize_with = "read_properties")]
    pub properties: BTreeMap<String, String>,
    /// Properties whose value is what a file holds: for passwords.
    #[serde(default)]
    pub property_files: BTreeMap<String, PathBuf>,
}

impl KafkaConfig {
    /// What librdkafka is told.
    pub(super) fn client(&self, target: &str) -> Result<ClientConfig, SinkError> {
        let refuse = |reason: String| Failure::Setting(reason).about(target);
        if self.brokers.iter().all(|broker| broker.trim().is_empty()) {
            return Err(refuse("there are no `brokers`".to_owned()));
        }
        let mut client = ClientConfig::new();
        client
            .set("client.id", "herdsman")
            .set("queue.buffering.max.messages", QUEUED_RECORDS)
            .set("queue.buffering.max.kbytes", QUEUED_KILOBYTES)
            .set("linger.ms", LINGER_MS)
            .set("reconnect.backoff.max.ms", RECONNECT_MS)
            .set("socket.keepalive.enable", "true")
            .set("partitioner", "murmur2_random")
            .set_log_level(RDKafkaLogLevel::Info);
        let mut properties = self.properties.clone();
        for (name, path) in &self.property_files {
            let read = std::fs::read_to_string(path);
            let value = read.map_err(|error| {
                refuse(format!("cannot read {} for `{name}`: {error}", path.display()))
            })?;
            properties.insert(name.clone(), value.trim_end_matches(['\r', '\n']).to_owned());
        }
        for (name, value) in &properties {
            if RESERVED.contains(&name.as_str()) {
                return Err(refuse(format!("`properties` must not set `{name}`")));
            }
            client.set(name, value);
        }
        client
            .set("bootstrap.servers", target)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", self.timeout.as_millis().to_string());
        match client.create_native_config() {
            Ok(_) => Ok(client),
            Err(error) => Err(Failure::of(&error).about(target)),
        }
    }
}

impl fmt::Debug for KafkaConfig {
    /// Properties by name only: some are secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("topic", &self.topic)
            .field("messages_topic", &self.messages_topic)
            .field("tombstones", &self.tombstones)
            .field("timeout", &self.timeout)
            .field("properties", &self.properties.keys())
            .field("property_files", &self.property_files)
            .finish()
    }
}

fn topic() -> String {
    "herdsman.{schema}.{table}".to_owned()
}

fn messages_topic() -> String {
    "herdsman.messages".to_owned()
}

/// A leader's election takes up to about this long; a shorter time would call every one an outage.
fn timeout() -> Duration {
    Duration::from_secs(30)
}

fn read_timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    units::duration(deserializer, Duration::from_secs(1)..=Duration::from_secs(600))
}

/// Numbers and switches may be written without quotes.
fn read_properties<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Value {
        Switch(bool),
        Number(i64),
        Text(String),
    }
    let read = BTreeMap::<String, Value>::deserialize(deserializer)?;
    let text = |value| match value {
        Value::Switch(on) => on.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Text(text) => text,
    };
    Ok(read.into_iter().map(|(name, value)| (name, text(value))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Shape;
    use crate::sinks::kafka::KafkaSink;

    fn refusal(config: serde_json::Value) -> String {
        let config: KafkaConfig = serde_json::from_value(config).unwrap();
        KafkaSink::new(&config, Shape::default()).unwrap_err().to_string()
    }

    #[test]
    fn a_property_that_would_weaken_what_is_promised_is_refused() {
        let said = refusal(
            serde_json::json!({ "brokers": ["k:9092"], "properties": { "acks": 1, "linger.ms": 5 } }),
        );
        assert!(said.contains("must not set `acks`"), "{said}");
    }

    #[test]
    fn a_wrong_property_is_named_and_its_value_is_not_shown() {
        for (name, value) in [("no.such.thing", "hunter2"), ("compression.codec", "hunter2")] {
            let said = refusal(
                serde_json::json!({ "brokers": ["k:9092"], "properties": { (name): value } }),
            );
            assert!(said.contains(name), "{said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn a_password_comes_from_a_file_and_is_in_no_debug_output() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2\n").unwrap();
        let config: KafkaConfig = serde_json::from_value(serde_json::json!({
            "brokers": ["k:9092"],
            "properties": { "sasl.username": "geheim" },
            "property_files": { "sasl.password": file.path() },
        }))
        .unwrap();
        assert_eq!(config.client("k:9092").unwrap().get("sasl.password"), Some("hunter2"));
        let shown = format!("{config:?} {:?}", KafkaSink::new(&config, Shape::default()).unwrap());
        assert!(!shown.contains("hunter2") && !shown.contains("geheim"), "{shown}");
        assert!(shown.contains("sasl.password"));
    }

    #[test]
    fn no_brokers_and_an_unreadable_file_are_refused() {
        assert!(refusal(serde_json::json!({ "brokers": [] })).contains("no `brokers`"));
        let said = refusal(serde_json::json!({
            "brokers": ["k:9092"], "property_files": { "sasl.password": "/nonexistent/password" },
        }));
        assert!(said.contains("/nonexistent/password"), "{said}");
    }
}
