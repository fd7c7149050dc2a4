//! TLS towards clients.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use herdsman_node::raw::end_point;
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::TlsConfig;

/// What a client that speaks TLS from its first byte says it will speak inside.
pub(super) const ALPN: &[u8] = b"postgresql";

/// A certificate with its key, ready to be shown to clients.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(super) acceptor: TlsAcceptor,
    /// What a login is bound to (RFC 5929, `tls-server-end-point`).
    pub(super) end_point: Option<Arc<[u8]>>,
}

/// The `tls:` section makes no certificate to be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A file cannot be read, or holds something else.
    #[error("failed to read `gateway.tls.{field}` from `{path}`: {problem}")]
    File {
        /// The key of the section.
        field: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The files do not work together.
    #[error(
        "the files in `gateway.tls` cannot be used: {0}; check that key and certificate belong together"
    )]
    Unusable(String),
}

impl Identity {
    /// Reads the files now; load them again to pick up renewed ones.
    pub(crate) fn load(config: &TlsConfig) -> Result<Self, TlsError> {
        let unusable = |error: rustls::Error| TlsError::Unusable(error.to_string());
        let chain = certificates("cert", &config.cert)?;
        let end_point = chain.first().and_then(end_point).map(Arc::from);
        let key = private_key(&config.key)?;
        // Named, not installed for the whole process: which provider is used must not depend on who came first.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(unusable)?;
        let builder = match &config.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates("client_ca", path)? {
                    roots.add(certificate).map_err(unusable)?;
                }
                // Who need not log in with a certificate need not have one.
                let mut verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .allow_unauthenticated();
                if let Some(path) = &config.client_crl {
                    // An old list says nothing of what was taken back since.
                    verifier =
                        verifier.with_crls(revocations(path)?).enforce_revocation_expiration();
                }
                let verifier =
                    verifier.build().map_err(|error| TlsError::Unusable(error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(unusable)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), end_point })
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity")
    }
}

fn certificates(
    field: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let problem = |problem: String| TlsError::File { field, path: path.to_owned(), problem };
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| problem(error.to_string()))?.collect();
    match found {
        Ok(found) if found.is_empty() => {
            Err(problem("it holds no certificate in PEM form".to_owned()))
        }
        Ok(found) => Ok(found),
        Err(error) => Err(problem(error.to_string())),
    }
}

fn revocations(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let problem =
        |problem: String| TlsError::File { field: "client_crl", path: path.to_owned(), problem };
    let lists = CertificateRevocationListDer::pem_file_iter(path);
    let found: Result<Vec<_>, _> = lists.map_err(|error| problem(error.to_string()))?.collect();
    match found {
        Ok(found) if found.is_empty() => {
            Err(problem("it holds no certificate revocation list in PEM form".to_owned()))
        }
        Ok(found) => Ok(found),
        Err(error) => Err(problem(error.to_string())),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| {
        let problem = match error {
            rustls_pki_types::pem::Error::Io(error) => error.to_string(),
            rustls_pki_types::pem::Error::NoItemsFound => {
                "it holds no private key in PEM form without a passphrase".to_owned()
            }
            // What else the reader says may quote the line it stumbled over.
            _ => "its PEM is broken".to_owned(),
        };
        TlsError::File { field: "key", path: path.to_owned(), problem }
    })
}

#[cfg(test)]
mod tests;
