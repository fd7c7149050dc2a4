//! The `hooks:` section of the configuration.

mod check;
mod kinds;

use std::time::Duration;

use herdsman_node::{Backoff, units};
use herdsman_watch::EventKind;
use serde::{Deserialize, Deserializer};

pub use kinds::{
    DatabaseTarget, ExecConfig, HaProxyConfig, HostsConfig, OldConnections, PgBouncerConfig,
    SlackConfig, WebhookConfig,
};

/// The `hooks:` section: what is done when the herd changes, in no particular order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HooksConfig(pub Vec<HookConfig>);

/// What is done when the herd changes: a name, when and how it runs, and exactly one of `exec`, `webhook`, `slack`, `pgbouncer`,
/// `haproxy` and `hosts`.
///
/// ```
/// use herdsman_hooks::HookConfig;
/// let hook: HookConfig = serde_json::from_str(r#"{"name": "pager", "exec": {"command": ["/usr/local/bin/page"]}}"#)?;
/// assert_eq!(hook.kind(), Some("exec"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookConfig {
    /// What logs and metrics call it. Has to be there.
    // Its own message says where it is missing; the reader's would name the first key that is there.
    #[serde(default)]
    pub name: String,
    /// Which events are told. For messages only; default: who may be written to (`primary`, `no_primary`, `split_brain`).
    #[serde(default)]
    pub on: Option<Vec<EventKind>>,
    /// How long one run may take. Default 10 s.
    #[serde(default = "default_timeout", deserialize_with = "timeout")]
    pub timeout: Duration,
    /// How a run that failed is tried again.
    #[serde(default)]
    pub retry: RetryConfig,
    /// Messages that may wait; where there are more, the oldest goes. For messages only; default 100.
    #[serde(default = "default_queue", deserialize_with = "queue")]
    pub queue: usize,
    /// Run a command.
    #[serde(default)]
    pub exec: Option<ExecConfig>,
    /// Post to a receiver of yours.
    #[serde(default)]
    pub webhook: Option<WebhookConfig>,
    /// Post a sentence to Slack, or what has its interface.
    #[serde(default)]
    pub slack: Option<SlackConfig>,
    /// Point a PgBouncer's databases at the right servers.
    #[serde(default)]
    pub pgbouncer: Option<PgBouncerConfig>,
    /// Take servers of an HAProxy in and out.
    #[serde(default)]
    pub haproxy: Option<HaProxyConfig>,
    /// Keep a file of addresses and names.
    #[serde(default)]
    pub hosts: Option<HostsConfig>,
}

/// How a run that failed is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryConfig {
    /// Tries of one message before it is given up. States are tried until they hold. Default 5.
    #[serde(deserialize_with = "attempts")]
    pub attempts: u32,
    /// Pause after the first failure; it doubles, with jitter. Default 1 s.
    #[serde(deserialize_with = "pause")]
    pub pause: Duration,
    /// The longest pause. Default 30 s.
    #[serde(deserialize_with = "pause")]
    pub longest_pause: Duration,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self { attempts: 5, pause: Duration::from_secs(1), longest_pause: Duration::from_secs(30) }
    }
}

impl RetryConfig {
    pub(crate) const fn backoff(&self) -> Backoff {
        Backoff { first: self.pause, longest: self.longest_pause }
    }
}

impl HookConfig {
    /// What it does; `None` where nothing is given.
    #[must_use]
    pub fn kind(&self) -> Option<&'static str> {
        self.kinds().first().copied()
    }

    /// Every kind that is given.
    fn kinds(&self) -> Vec<&'static str> {
        let given = [
            ("exec", self.exec.is_some()),
            ("webhook", self.webhook.is_some()),
            ("slack", self.slack.is_some()),
            ("pgbouncer", self.pgbouncer.is_some()),
            ("haproxy", self.haproxy.is_some()),
            ("hosts", self.hosts.is_some()),
        ];
        given.into_iter().filter(|(_, is)| *is).map(|(kind, _)| kind).collect()
    }

    /// The events it tells.
    #[must_use]
    pub fn events(&self) -> &[EventKind] {
        self.on.as_deref().unwrap_or(&EventKind::VERDICTS)
    }
}

fn default_timeout() -> Duration {
    Duration::from_secs(10)
}

/// A herd that changes more often while a receiver is away needs a person, who reads the last hundred.
fn default_queue() -> usize {
    100
}

fn timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    units::duration(deserializer, Duration::from_millis(10)..=Duration::from_secs(3600))
}

fn pause<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    units::duration(deserializer, Duration::from_millis(1)..=Duration::from_secs(3600))
}

fn attempts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    units::number(deserializer, 1..=1000)
}

fn queue<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    units::number(deserializer, 1..=10_000)
}
