//! The settings of a webhook.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use herdsman_config::SecretSources;
use herdsman_node::units;
use serde::{Deserialize, Deserializer};

use super::Receiver;
use super::address::Address;
use crate::sink::SinkError;
use crate::sinks::Secret;

/// Settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where to send, `http://` or `https://`. Only its host is ever shown: some receivers are told by a secret path.
    pub url: Url,
    /// Whether a request holds a batch, or one change. Default true.
    #[serde(default = "yes")]
    pub batch: bool,
    /// Requests under way at once. Default 4.
    #[serde(default = "four")]
    pub parallel: NonZeroUsize,
    /// Headers added to each request. Their values are never shown.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// What requests are signed with.
    #[serde(default)]
    pub secret: Option<Secret>,
    /// The variable that holds it.
    #[serde(default)]
    pub secret_env: Option<String>,
    /// The file whose first line it is.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// The program, with its arguments, that prints it.
    #[serde(default)]
    pub secret_command: Option<String>,
    /// A PEM file with the authorities, or the certificates themselves, that the receiver is known by; those that this
    /// machine trusts when left out.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// How long a request may take from looking up the name to the last byte of the answer. Default 10 s.
    #[serde(default = "default_timeout", deserialize_with = "timeout")]
    pub timeout: Duration,
    /// The longest `retry-after` that is honoured. Default 1 min.
    #[serde(default = "default_wait", deserialize_with = "timeout")]
    pub longest_wait: Duration,
}

/// A URL that is not shown whole.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Url(pub String);

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Address::origin(&self.0) {
            Ok(origin) => write!(f, "{origin}/…"),
            Err(_) => f.write_str("no URL"),
        }
    }
}

impl WebhookConfig {
    /// Who is posted to, with the secret looked up.
    pub(super) fn receiver(&self) -> Result<Receiver, SinkError> {
        let mut receiver = Receiver {
            url: self.url.clone(),
            headers: self.headers.clone(),
            secret: None,
            ca_file: self.ca_file.clone(),
            timeout: self.timeout,
        };
        let sources = SecretSources {
            key: "secret",
            value: self.secret.as_ref(),
            environment: self.secret_env.as_deref(),
            file: self.secret_file.as_ref(),
            command: self.secret_command.as_deref(),
        };
        receiver.secret = sources.read().map_err(|problem| receiver.wrong(problem))?;
        Ok(receiver)
    }
}

fn yes() -> bool {
    true
}

fn four() -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(3)
}

fn default_timeout() -> Duration {
    Duration::from_secs(10)
}

fn default_wait() -> Duration {
    Duration::from_secs(60)
}

fn timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    units::duration(deserializer, Duration::from_millis(10)..=Duration::from_secs(3600))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> WebhookConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn nothing_secret_is_shown() {
        let config = config(
            r#"{"url": "https://hooks.example/services/hunter2?key=hunter2", "secret": "hunter2",
                "headers": {"authorization": "Bearer hunter2"}}"#,
        );
        let shown = format!("{config:?} {:?}", config.receiver().unwrap());
        assert!(!shown.contains("hunter2") && shown.contains("hooks.example"), "{shown}");
        let sink = super::super::WebhookSink::new(&config, crate::config::Shape::Herdsman);
        assert!(!format!("{sink:?}").contains("hunter2"), "{sink:?}");
    }

    #[test]
    fn settings_that_cannot_work_are_refused_when_the_sink_is_built() {
        for (json, expected) in [
            (r#"{"url": "ftp://a/"}"#, "expected http://HOST/PATH or https://HOST/PATH"),
            (r#"{"url": "http://u:hunter2@a/"}"#, "a user or password"),
            (r#"{"url": "https://a/", "ca_file": "/no/such"}"#, "`/no/such` cannot be read"),
            (r#"{"url": "http://a/", "headers": {"Host": "b"}}"#, "is set by us"),
            (r#"{"url": "http://a/", "headers": {"a b": "b"}}"#, "has no valid name"),
            (r#"{"url": "http://a/", "headers": {"a": "hunter2\n"}}"#, "that no header can have"),
            (r#"{"url": "http://a/", "secret": "hunter2", "secret_env": "B"}"#, "more than once"),
            (r#"{"url": "http://a/", "secret_env": "HERDSMAN_NO_SUCH"}"#, "is not set"),
        ] {
            let sink =
                super::super::WebhookSink::new(&config(json), crate::config::Shape::Herdsman);
            let error = sink.unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{json}: {error}");
        }
    }
}
