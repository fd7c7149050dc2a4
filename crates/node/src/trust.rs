//! Knowing another Herdsman by its certificate.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

/// Certificates by which an HTTPS server is known: exactly these under any name, or signed by one of them for the name
/// that is asked for.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Authorities, or servers' own certificates.
    certificates: Vec<CertificateDer<'static>>,
    /// What we show ourselves.
    identity: Option<Arc<Identity>>,
}

/// A certificate of ours with its key.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Trust {
    /// Trusts these certificates.
    #[must_use]
    pub fn of_certificates(certificates: Vec<CertificateDer<'static>>) -> Self {
        Self { certificates, identity: None }
    }

    /// Trusts the certificates in a PEM file.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn of_file(path: &Path) -> Result<Self, String> {
        Ok(Self::of_certificates(certificates(path)?))
    }

    /// Shows this certificate to whom we connect to, where one is asked for: PEM files with the certificate (and those between
    /// it and its authority), and with its key.
    ///
    /// # Errors
    /// What is wrong with the files; never what is in the key.
    pub fn showing(self, cert: &Path, key: &Path) -> Result<Self, String> {
        let place = format!("the key in `{}`", key.display());
        let chain = certificates(cert)?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| match error {
            pem::Error::Io(error) => format!("{place} cannot be read: {error}"),
            // What else the reader says may quote the line it stumbled over.
            _ => format!("{place} is none in PEM form without a passphrase"),
        })?;
        Ok(Self { identity: Some(Arc::new(Identity { chain, key })), ..self })
    }

    /// How to connect to whom we trust.
    ///
    /// # Errors
    /// Why the certificates cannot be used.
    pub fn client(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.certificates.iter().cloned());
        // Without any authority (a server's own certificate need not be one) only equality is left.
        let webpki =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .ok();
        let verifier = Arc::new(Known {
            certificates: self.certificates.clone(),
            webpki,
            provider: Arc::clone(&provider),
        });
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let Some(identity) = &self.identity else { return Ok(builder.with_no_client_auth()) };
        builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key()).map_err(
            |error| {
                format!(
                    "our own certificate cannot be used: {error}; check that its key belongs to it"
                )
            },
        )
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

/// The certificates in a PEM file, of which there is at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let place = format!("`{}`", path.display());
    let unreadable =
        |error: &dyn fmt::Display| format!("the certificates in {place} cannot be read: {error}");
    let pem = std::fs::read(path).map_err(|error| unreadable(&error))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(&error))?;
    if certificates.is_empty() {
        return Err(format!("{place} holds no certificate in PEM form"));
    }
    Ok(certificates)
}

/// Accepts exactly the certificates we know, under any name, and those that an authority we know has signed for the
/// name we asked for.
#[derive(Debug)]
struct Known {
    certificates: Vec<CertificateDer<'static>>,
    webpki: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.certificates.iter().any(|known| known == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        match &self.webpki {
            Some(webpki) => {
                webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp, now)
            }
            None => Err(rustls::CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
