//! TLS towards servers, with the meaning libpq gives each `sslmode`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{Conninfo, SslMode};

/// What a connection needs for TLS: trusted authorities, our certificate, how strictly to look.
///
/// Files are read once, when it is built; build it again to pick up renewed certificates.
#[derive(Clone)]
pub struct Tls {
    pub(crate) connector: MakeRustlsConnect,
    config: Arc<ClientConfig>,
}

/// TLS could not be set up from the files the connection parameters name.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be read.
    #[error("failed to read {what} from `{path}`: {problem}")]
    File {
        /// Which parameter named it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        problem: String,
    },
    /// The mode needs something that is not there.
    #[error(
        "sslmode {mode} needs trusted certificates; set `sslrootcert` to the file that holds them"
    )]
    NoRoots {
        /// The mode asked for.
        mode: &'static str,
    },
    /// The certificates do not work together.
    #[error("certificates cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

impl Tls {
    /// Reads the files `info` names and prepares TLS as its `sslmode` asks.
    ///
    /// # Errors
    /// [`TlsError`] when a file is missing or broken, or the mode needs a root certificate and none is named.
    pub fn new(info: &Conninfo) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = verifier(info, &provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match (&info.sslcert, &info.sslkey) {
            (Some(cert), Some(key)) if info.sslmode != SslMode::Disable => {
                builder.with_client_auth_cert(certificates("sslcert", cert)?, private_key(key)?)?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(Self { connector: MakeRustlsConnect::new(config.clone()), config: Arc::new(config) })
    }

    /// The same for a connection that is not the driver's.
    pub(crate) fn client_config(&self) -> &Arc<ClientConfig> {
        &self.config
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let problem = |problem: String| TlsError::File { what, path: path.to_owned(), problem };
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|e| problem(e.to_string()))?.collect();
    match found {
        Ok(found) if found.is_empty() => {
            Err(problem("it holds no certificate in PEM form".to_owned()))
        }
        Ok(found) => Ok(found),
        Err(error) => Err(problem(error.to_string())),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| TlsError::File {
        what: "sslkey",
        path: path.to_owned(),
        problem: e.to_string(),
    })
}

fn verifier(
    info: &Conninfo,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let strictness = match info.sslmode {
        SslMode::VerifyFull => Strictness::Name,
        SslMode::VerifyCa => Strictness::Authority,
        // libpq: with a root certificate at hand, `require` checks it like `verify-ca`.
        SslMode::Require if info.sslrootcert.is_some() => Strictness::Authority,
        SslMode::Disable | SslMode::Allow | SslMode::Prefer | SslMode::Require => {
            Strictness::Nothing
        }
    };
    let algorithms = provider.signature_verification_algorithms;
    if strictness == Strictness::Nothing {
        return Ok(Arc::new(Lenient { webpki: None, algorithms }));
    }
    let mode = if info.sslmode == SslMode::VerifyFull { "verify-full" } else { "verify-ca" };
    let path = info.sslrootcert.as_deref().ok_or(TlsError::NoRoots { mode })?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates("sslrootcert", path)? {
        roots.add(certificate)?;
    }
    let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|e| TlsError::File {
            what: "sslrootcert",
            path: path.to_owned(),
            problem: e.to_string(),
        })?;
    match strictness {
        Strictness::Name => Ok(webpki),
        Strictness::Authority | Strictness::Nothing => {
            Ok(Arc::new(Lenient { webpki: Some(webpki), algorithms }))
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Strictness {
    Nothing,
    Authority,
    Name,
}

/// Accepts what the weaker modes accept: any certificate, or one of a trusted authority whatever name it bears.
///
/// The handshake's signature is checked in every mode.
#[derive(Debug)]
struct Lenient {
    webpki: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(webpki) = &self.webpki else { return Ok(ServerCertVerified::assertion()) };
        match webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
