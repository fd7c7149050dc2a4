//! The settings of a webhook.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use herdsman_node::units;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Deserializer};

use super::address::Address;
use super::{IDEMPOTENCY_KEY, SIGNATURE};
use crate::sink::SinkError;
use crate::sinks::Secret;
use crate::sinks::secret::Sources;

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
    pub(super) fn address(&self) -> Result<Address, SinkError> {
        Address::new(&self.url.0, self.ca_file.as_deref()).map_err(|problem| self.wrong(problem))
    }

    pub(super) fn secret(&self) -> Result<Option<Secret>, SinkError> {
        let sources = Sources {
            value: self.secret.as_ref(),
            environment: self.secret_env.as_deref(),
            file: self.secret_file.as_ref(),
            command: self.secret_command.as_deref(),
        };
        sources.read().map_err(|problem| self.wrong(problem))
    }

    pub(super) fn headers(&self) -> Result<HeaderMap, SinkError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let problem = |problem: &str| {
                let name: String = name.chars().take(80).collect();
                self.wrong(format!("the header `{name}` {problem}"))
            };
            let name = HeaderName::try_from(name).map_err(|_| problem("has no valid name"))?;
            let ours = [HOST, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING];
            if ours.contains(&name) || name == SIGNATURE || name == IDEMPOTENCY_KEY {
                return Err(problem("is set by the sink itself"));
            }
            let mut value = HeaderValue::from_str(value.expose())
                .map_err(|_| problem("has a value that no header can have"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }

    fn wrong(&self, problem: String) -> SinkError {
        let target = Address::origin(&self.url.0).unwrap_or_else(|_| "webhook".to_owned());
        let advice = "correct this sink's settings";
        SinkError { what: "set up", target, problem, advice, reopen: false }
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
        let shown = format!("{config:?} {:?}", config.headers().unwrap());
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
            (r#"{"url": "http://a/", "headers": {"Host": "b"}}"#, "set by the sink itself"),
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
