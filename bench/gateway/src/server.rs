//! The one server behind everything, with pgbench's tables in it.

use herdsman_sandbox::Sandbox;

use crate::error::BenchError;
use crate::pgbench;

/// Who logs in, to proxies and through them.
pub(crate) const ROLE: &str = "app";
pub(crate) const DATABASE: &str = "postgres";
const NODE: &str = "n1";

/// A primary without standbys.
#[derive(Debug)]
pub(crate) struct Server {
    sandbox: Sandbox,
}

impl Server {
    pub(crate) async fn start(pg_version: u32, scale: u32) -> Result<Self, BenchError> {
        // Room for both proxies' pools and for those who come past them.
        let builder = Sandbox::builder().pg_version(pg_version).standbys(0);
        let sandbox = builder.setting("max_connections", "300").start().await?;
        let server = Self { sandbox };
        let address = server.direct()?;
        pgbench::initialise(&address, scale).await?;
        Ok(server)
    }

    /// The server itself, past every proxy.
    pub(crate) fn direct(&self) -> Result<Address, BenchError> {
        let password = self.sandbox.credentials().password(ROLE)?.to_owned();
        Ok(Address { port: self.sandbox.server_port(NODE)?, password })
    }

    /// What a `herdsman.yml` begins with: this server and how to watch it.
    pub(crate) fn hosts(&self) -> Result<String, BenchError> {
        let mut keys = self.sandbox.conninfo(NODE, "herdsman")?;
        keys.insert("port".to_owned(), self.sandbox.server_port(NODE)?.to_string());
        // A JSON string is a YAML string.
        let pairs = keys.iter().map(|(key, value)| format!("{key}: {}", quoted(value)));
        Ok(format!("hosts:\n  {NODE}: {{ {} }}\n", pairs.collect::<Vec<_>>().join(", ")))
    }
}

/// Where [`ROLE`] logs in, on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) port: u16,
    pub(crate) password: String,
}

impl Address {
    pub(crate) fn config(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user(ROLE).password(&self.password);
        config.dbname(DATABASE).ssl_mode(tokio_postgres::config::SslMode::Disable);
        config
    }
}

pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
