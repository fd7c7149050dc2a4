//! What librdkafka is told.

use rdkafka::ClientConfig;

use crate::entry::ENTRY_BYTES_MOST;

/// The largest entry and what Kafka puts around it.
pub(crate) const RECORD_BYTES_MOST: usize = ENTRY_BYTES_MOST + 64 * 1024;

/// Which topic of which Kafka is the log.
#[derive(Clone)]
pub struct KafkaLogConfig {
    /// Where brokers are, as `host:port`, separated by commas.
    pub brokers: String,
    /// The topic. It is made when it is not there; a ledger has it for itself.
    pub topic: String,
    /// On how many brokers a topic that is made is kept; three survive the loss of any one.
    pub replication: i32,
    /// Further settings of librdkafka, such as TLS and passwords.
    pub properties: Vec<(String, String)>,
}

impl KafkaLogConfig {
    /// A topic kept on one broker.
    #[must_use]
    pub fn new(brokers: impl Into<String>, topic: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            topic: topic.into(),
            replication: 1,
            properties: Vec::new(),
        }
    }

    /// Ours win over the properties: the ledger's promises hang on them.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        for (name, value) in &self.properties {
            client.set(name, value);
        }
        client
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "herdsman")
            .set("socket.keepalive.enable", "true")
            .set("socket.nagle.disable", "true")
            .set("allow.auto.create.topics", "false")
            // Back as soon as the broker is.
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "500");
        client
    }

    pub(super) fn producer(&self) -> ClientConfig {
        let mut client = self.client();
        client
            .set("acks", "all")
            .set("enable.idempotence", "true")
            // Whoever waits for one record has waited long enough; what comes meanwhile shares the next request, with one sync
            // of the broker's disk, and comes to the nodes in one piece.
            .set("linger.ms", "0")
            .set("max.in.flight.requests.per.connection", "1")
            .set("message.timeout.ms", "10000")
            .set("message.max.bytes", RECORD_BYTES_MOST.to_string());
        client
    }

    pub(super) fn consumer(&self) -> ClientConfig {
        let mut client = self.client();
        client
            // Nothing joins it: the library wants a name.
            .set("group.id", "herdsman-ledger")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // Anything else would pass over what was trimmed or lost.
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_uncommitted")
            .set("fetch.min.bytes", "1")
            .set("fetch.wait.max.ms", "500")
            .set("fetch.queue.backoff.ms", "5")
            .set("fetch.error.backoff.ms", "10")
            .set("check.crcs", "true")
            .set("fetch.message.max.bytes", RECORD_BYTES_MOST.to_string())
            .set("queued.max.messages.kbytes", "65536");
        client
    }
}
