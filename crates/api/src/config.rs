use std::collections::BTreeMap;
use std::time::Duration;

use herdsman_config::Reading;
use herdsman_node::{NodeName, units};
use serde::{Deserialize, Deserializer};

use crate::{CertificateConfig, ClientConfig, TokenConfig};

/// How the API answers and what it bears: the `api:` section.
///
/// ```
/// use herdsman_api::{ApiConfig, Bodies};
/// let config: ApiConfig = serde_json::from_str(r#"{"bodies": "v0", "request_timeout": "5s"}"#)?;
/// assert_eq!(config.bodies, Bodies::V0);
/// assert_eq!(config.max_connections, ApiConfig::default().max_connections);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// What answers look like. Default `readme`.
    pub bodies: Bodies,
    /// Connections served at the same time; more wait until one ends. Default 1024: far above what health checks need,
    /// and, with at most 16 KiB of request read ahead for each, a bound of a few tens of megabytes.
    #[serde(deserialize_with = "connections")]
    pub max_connections: usize,
    /// How long a client may take for its TLS handshake, and then for each next request. A connection that is idle
    /// or slower is closed. Default 30 s: longer than checks are apart, short enough that silent clients cannot hold
    /// all connections for long.
    #[serde(deserialize_with = "duration")]
    pub request_timeout: Duration,
    /// Ports of single nodes, beside the one of all: a health check there is about that node. Default none. Takes a
    /// restart to change.
    pub node_ports: BTreeMap<NodeName, u16>,
    /// The port of HAProxy's agent check. Default none. Takes a restart to change.
    pub agent_port: Option<u16>,
    /// Tokens, and what each may be used for. Default none. The one of `mesh.control` is one more, which may operate.
    pub tokens: Vec<TokenConfig>,
    /// Clients' certificates, and what each may be used for; they take `ssl.client_ca`. Default none.
    pub certificates: Vec<CertificateConfig>,
    /// The certificate that the commands of this program show when they ask it. Default none.
    pub client: Option<ClientConfig>,
}

/// What answers look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bodies {
    /// As pgroute66's README shows them: always a JSON array (`["host1"]`, `[]`), and a JSON object that says what is
    /// wrong where something is.
    #[default]
    Readme,
    /// As pgroute66's released binary answers, byte for byte: `"host1"`, `""`, `null`, `"invalid"`. `HEAD`,
    /// `/v1/status/{id}`, `/v1/node/{id}` and `/v2` work here too, where it knows nothing but 404.
    V0,
}

const DEFAULT_MAX_CONNECTIONS: usize = 1024;
const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            bodies: Bodies::default(),
            max_connections: DEFAULT_MAX_CONNECTIONS,
            request_timeout: DEFAULT_REQUEST_TIMEOUT,
            node_ports: BTreeMap::new(),
            agent_port: None,
            tokens: Vec::new(),
            certificates: Vec::new(),
            client: None,
        }
    }
}

impl ApiConfig {
    /// Takes the section `api` out of a file and looks up its tokens; what is wrong is noted in `reading`.
    pub fn read(reading: &mut Reading<'_>) -> Self {
        let mut config = reading.section::<Self>("api").unwrap_or_default();
        for node in config.node_ports.keys() {
            reading.expect_host(&["api", "node_ports", node.as_str()], node.as_str());
        }
        config.resolve_access(reading);
        config
    }

    /// Whether anybody is named who may see or do more than others.
    pub(crate) fn names_anybody(&self) -> bool {
        !self.tokens.is_empty() || !self.certificates.is_empty()
    }
}

fn connections<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    units::number(deserializer, 1..=65_536)
}

/// Shorter cuts honest clients off, longer is no bound.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    units::duration(deserializer, Duration::from_millis(100)..=Duration::from_secs(3600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(json: &str, expected: &str) {
        let error = serde_json::from_str::<ApiConfig>(json).expect_err("was accepted").to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn an_empty_section_is_the_default() {
        let config: ApiConfig = serde_json::from_str("{}").unwrap();
        assert_eq!(config, ApiConfig::default());
    }

    #[test]
    fn wrong_values_are_refused_with_what_is_allowed() {
        refused(r#"{"bodies": "v1"}"#, "expected `readme` or `v0`");
        refused(r#"{"max_connections": 0}"#, "`0` is out of range; allowed is 1 to 65536");
        refused(r#"{"request_timeout": "soon"}"#, "`soon` is not a duration");
        refused(r#"{"request_timeout": "1ms"}"#, "allowed is 100ms to 1h");
        refused(r#"{"body": "v0"}"#, "unknown field `body`");
    }
}
