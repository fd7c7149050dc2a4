//! The one server behind everything, with pgbench's tables in it, and logins to it and to proxies.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use herdsman_sandbox::Sandbox;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::bulk;
use crate::error::BenchError;
use crate::pgbench;

/// Who logs in, to proxies and through them.
pub(crate) const ROLE: &str = "app";
pub(crate) const DATABASE: &str = "postgres";
const NODE: &str = "n1";
/// To log in.
const IN_WITHIN: Duration = Duration::from_secs(30);

/// A primary without standbys.
#[derive(Debug)]
pub(crate) struct Server {
    sandbox: Sandbox,
    tls: Option<Tls>,
    /// What it keeps of the role's password.
    pub(crate) verifier: String,
}

/// How a client comes with TLS: it trusts the authority that vouches for the server, and every proxy has the server's
/// certificate.
#[derive(Clone)]
pub(crate) struct Tls(MakeRustlsConnect);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    fn trusting(authority: &Path) -> Result<Self, BenchError> {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_file(authority)
            .map_err(|error| BenchError::Tls(format!("{}: {error}", authority.display())))?;
        roots.add(certificate).map_err(|error| BenchError::Tls(error.to_string()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| BenchError::Tls(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(MakeRustlsConnect::new(config)))
    }
}

impl Server {
    pub(crate) async fn start(pg_version: u32, scale: u32, tls: bool) -> Result<Self, BenchError> {
        // Room for a proxy's pool and for those who come past them.
        let builder = Sandbox::builder().pg_version(pg_version).standbys(0).tls(tls);
        let sandbox = builder.setting("max_connections", "300").start().await?;
        let tls = sandbox.ca_file().map(|file| Tls::trusting(&file)).transpose()?;
        let verifier = verifier(&sandbox).await?;
        let server = Self { sandbox, tls, verifier };
        let address = server.direct()?;
        pgbench::initialise(&address, scale).await?;
        bulk::initialise(&address).await?;
        Ok(server)
    }

    /// The server itself, past every proxy.
    pub(crate) fn direct(&self) -> Result<Address, BenchError> {
        let password = self.sandbox.credentials().password(ROLE)?.to_owned();
        Ok(Address { port: self.sandbox.server_port(NODE)?, password, tls: self.tls.clone() })
    }

    /// Certificate and key of the server, where clients come with TLS.
    pub(crate) fn certificate(&self) -> Option<[PathBuf; 2]> {
        let folder = self.sandbox.ca_file()?.parent()?.to_owned();
        Some(["server.pem", "server.key"].map(|name| folder.join(name)))
    }

    /// What a `herdsman.yml` begins with: this server and how to watch it. No proxy uses TLS towards the server.
    pub(crate) fn hosts(&self) -> Result<String, BenchError> {
        let mut keys = self.sandbox.conninfo(NODE, "herdsman")?;
        keys.insert("port".to_owned(), self.sandbox.server_port(NODE)?.to_string());
        keys.insert("sslmode".to_owned(), "disable".to_owned());
        keys.remove("sslrootcert");
        // A JSON string is a YAML string.
        let pairs = keys.iter().map(|(key, value)| format!("{key}: {}", quoted(value)));
        Ok(format!("hosts:\n  {NODE}: {{ {} }}\n", pairs.collect::<Vec<_>>().join(", ")))
    }
}

async fn verifier(sandbox: &Sandbox) -> Result<String, BenchError> {
    let superuser = sandbox.sql(NODE, "postgres").await?;
    let row = superuser
        .query_one("SELECT rolpassword FROM pg_catalog.pg_authid WHERE rolname = $1", &[&ROLE])
        .await
        .and_then(|row| row.try_get(0));
    row.map_err(|source| BenchError::Sql { whom: "the server".to_owned(), source })
}

/// Where [`ROLE`] logs in, on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) port: u16,
    pub(crate) password: String,
    pub(crate) tls: Option<Tls>,
}

impl Address {
    /// Logs in. The task carries what the client says, until it is dropped.
    pub(crate) async fn login(&self) -> Result<(Client, JoinHandle<()>), Refused> {
        use tokio_postgres::config::SslMode;
        let mode = if self.tls.is_some() { SslMode::Require } else { SslMode::Disable };
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user(ROLE).password(&self.password);
        config.dbname(DATABASE).ssl_mode(mode);
        // How a connection ended shows in its client.
        let login = async {
            Ok(match &self.tls {
                Some(Tls(connector)) => {
                    let (client, connection) = config.connect(connector.clone()).await?;
                    (client, tokio::spawn(async { drop(connection.await) }))
                }
                None => {
                    let (client, connection) = config.connect(NoTls).await?;
                    (client, tokio::spawn(async { drop(connection.await) }))
                }
            })
        };
        timeout(IN_WITHIN, login).await.map_err(|_| Refused::Silent)?.map_err(Refused::Sql)
    }
}

/// Nobody was let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("no answer within {IN_WITHIN:?}")]
    Silent,
    #[error("{}", with_cause(.0))]
    Sql(tokio_postgres::Error),
}

/// "db error" alone says nothing.
fn with_cause(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
