use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

/// The certificate the API shows its clients: pgroute66's `ssl:` section.
///
/// Either `cert` and `key`, or `b64cert` and `b64key`. Each value is base64 of PEM (as pgroute66 has it), the path of
/// a PEM file, or PEM itself. An empty value is as good as none.
///
/// ```
/// use herdsman_api::Ssl;
/// let ssl: Ssl = serde_json::from_str(r#"{"cert": "/etc/herdsman/tls.crt"}"#)?;
/// let error = ssl.load().unwrap_err().to_string();
/// assert_eq!(error, "`ssl` has `cert` but not `key`; give both, or neither for plain HTTP");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ssl {
    /// The certificate, and those between it and its authority.
    pub cert: Option<String>,
    /// Its private key.
    #[serde(deserialize_with = "secret")]
    pub key: Option<SecretString>,
    /// As `cert`, under pgroute66's name for it.
    pub b64cert: Option<String>,
    /// As `key`, under pgroute66's name for it.
    #[serde(deserialize_with = "secret")]
    pub b64key: Option<SecretString>,
    /// The authorities whose certificates clients may show; in the same forms as `cert`. Default none: no certificate is
    /// asked for.
    pub client_ca: Option<String>,
    /// Which of their certificates were taken back, in the same forms: a list (CRL) of every authority that signs any, none of
    /// them past its next update. Default: none was.
    pub client_crl: Option<String>,
    /// Whether clients have to show one. Default `optional` with `client_ca`, else `off`.
    pub client_auth: Option<ClientAuth>,
}

/// Whether clients have to show a certificate. One that is shown and not good ends the connection, unless it is `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// They are not asked for one.
    Off,
    /// They may: what it opens is in `api.certificates`.
    Optional,
    /// They have to, for whatever they ask, health checks included.
    Required,
}

/// A certificate with its key, ready to serve with: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.
#[derive(Clone)]
pub struct TlsIdentity {
    pub(crate) config: Arc<ServerConfig>,
}

/// The `ssl:` section does not make a certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub enum SslError {
    /// Neither a certificate nor a key.
    #[error(
        "`ssl` names no certificate; give `cert` and `key`, or remove the section for plain HTTP"
    )]
    Empty,
    /// One without the other.
    #[error("`ssl` has `{given}` but not `{missing}`; give both, or neither for plain HTTP")]
    Half {
        /// The one that is there.
        given: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
    /// Both pairs of names.
    #[error(
        "`ssl` has `{one}` and `{other}`; use either `cert` and `key` or `b64cert` and `b64key`"
    )]
    Both {
        /// A name of one pair.
        one: &'static str,
        /// A name of the other.
        other: &'static str,
    },
    /// A file cannot be read.
    #[error(
        "failed to read `ssl.{field}` from {place}: {source}; give base64 of PEM, or the path of a PEM file"
    )]
    File {
        /// The key of the section.
        field: &'static str,
        /// The path, or words in its place where it might be a secret.
        place: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// There is no PEM of the right kind.
    #[error("`ssl.{field}` holds no {what} in PEM form{detail}")]
    NoPem {
        /// The key of the section.
        field: &'static str,
        /// What was looked for.
        what: &'static str,
        /// More, where more is known.
        detail: String,
    },
    /// Clients are to show certificates of nobody in particular.
    #[error(
        "`ssl.client_auth` asks for certificates, but `ssl.client_ca` names no authority; give one"
    )]
    NoAuthority,
    /// Certificates of nobody in particular were taken back.
    #[error(
        "`ssl.client_crl` takes certificates back, but `ssl.client_ca` names no authority; give one"
    )]
    LoneRevocations,
    /// The authorities cannot be used.
    #[error("the certificates in `ssl.client_ca` cannot be used: {0}")]
    Authority(String),
    /// Certificate and key do not work, or do not belong together.
    #[error(
        "the certificate and key in `ssl` cannot be used: {0}; check that they belong together"
    )]
    Unusable(#[from] rustls::Error),
}

/// The key of the lists of certificates that were taken back.
const CRL: &str = "client_crl";
const CERTIFICATE: &str = "certificate";
const PRIVATE_KEY: &str = "private key";
/// Longer than any path worth printing, shorter than any private key in base64 of PEM.
const MAX_SHOWN_PATH: usize = 150;

impl Ssl {
    /// Whether the section says nothing, which pgroute66 takes for plain HTTP.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        // Whoever asks for certificates of clients does not want plain HTTP.
        let asks = self.client_auth.is_some_and(|auth| auth != ClientAuth::Off);
        !asks && self.authority().is_none() && !self.given().iter().any(|(_, given)| *given)
    }

    /// Whether clients may, or have to, show certificates.
    #[must_use]
    pub fn client_auth(&self) -> ClientAuth {
        let default = || self.authority().map_or(ClientAuth::Off, |_| ClientAuth::Optional);
        self.client_auth.unwrap_or_else(default)
    }

    /// Reads the certificate and the key. Files are read now; load again to pick up renewed ones.
    ///
    /// # Errors
    /// [`SslError`] when one of the two is missing, both pairs of names are used, a file cannot be read, or the two do
    /// not belong together. No error holds a key.
    pub fn load(&self) -> Result<TlsIdentity, SslError> {
        let (cert_field, key_field) = self.fields()?;
        let (cert, key) = if cert_field == "cert" {
            (&self.cert, &self.key)
        } else {
            (&self.b64cert, &self.b64key)
        };
        let cert = cert.as_deref().unwrap_or_default();
        let key = key.as_ref().map(ExposeSecret::expose_secret).unwrap_or_default();
        let chain = certificates(cert_field, &pem(cert_field, cert)?)?;
        let key = private_key(key_field, &pem(key_field, key)?)?;
        TlsIdentity::new(chain, key, self.verifier()?)
    }

    /// Who knows the certificates of clients; `None` where none is asked for.
    fn verifier(&self) -> Result<Option<Arc<dyn ClientCertVerifier>>, SslError> {
        let auth = self.client_auth();
        let revocations = self.client_crl.as_deref().filter(|value| !value.trim().is_empty());
        if revocations.is_some() && self.authority().is_none() {
            return Err(SslError::LoneRevocations);
        }
        if auth == ClientAuth::Off {
            return Ok(None);
        }
        let authority = self.authority().ok_or(SslError::NoAuthority)?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates("client_ca", &pem("client_ca", authority)?)? {
            roots.add(certificate).map_err(|error| SslError::Authority(error.to_string()))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        if auth == ClientAuth::Optional {
            builder = builder.allow_unauthenticated();
        }
        if let Some(given) = revocations {
            let lists = revocation_lists(&pem(CRL, given)?)?;
            // An old list says nothing of what was taken back since.
            builder = builder.with_crls(lists).enforce_revocation_expiration();
        }
        builder.build().map(Some).map_err(|error| SslError::Authority(error.to_string()))
    }

    fn authority(&self) -> Option<&str> {
        self.client_ca.as_deref().filter(|value| !value.trim().is_empty())
    }

    /// The certificates alone, for whoever wants to know this server again: the key is neither needed nor read.
    ///
    /// # Errors
    /// [`SslError`] when no certificate is named, or it cannot be read.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, SslError> {
        let given = [("cert", &self.cert), ("b64cert", &self.b64cert)];
        let named = given.into_iter().find_map(|(field, value)| {
            Some((field, value.as_deref().filter(|v| !v.trim().is_empty())?))
        });
        let (field, value) = named.ok_or(SslError::Empty)?;
        certificates(field, &pem(field, value)?)
    }

    fn given(&self) -> [(&'static str, bool); 4] {
        let plain = |value: &Option<String>| value.as_ref().is_some_and(|v| !v.trim().is_empty());
        let secret = |value: &Option<SecretString>| {
            value.as_ref().is_some_and(|v| !v.expose_secret().trim().is_empty())
        };
        [
            ("cert", plain(&self.cert)),
            ("key", secret(&self.key)),
            ("b64cert", plain(&self.b64cert)),
            ("b64key", secret(&self.b64key)),
        ]
    }

    /// The names of the pair in use.
    fn fields(&self) -> Result<(&'static str, &'static str), SslError> {
        let [cert, key, b64cert, b64key] = self.given();
        let first = |pair: [(&'static str, bool); 2]| pair.iter().find(|f| f.1).map(|f| f.0);
        match (first([cert, key]), first([b64cert, b64key])) {
            (None, None) => Err(SslError::Empty),
            (Some(one), Some(other)) => Err(SslError::Both { one, other }),
            (Some(_), None) => both(cert, key),
            (None, Some(_)) => both(b64cert, b64key),
        }
    }
}

impl TlsIdentity {
    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        clients: Option<Arc<dyn ClientCertVerifier>>,
    ) -> Result<Self, SslError> {
        // Named, not installed for the whole process: which provider is used must not depend on who came first.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])?;
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => builder.with_client_cert_verifier(clients),
        };
        let mut config = builder.with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config) })
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsIdentity")
    }
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretString::from))
}

fn both(
    cert: (&'static str, bool),
    key: (&'static str, bool),
) -> Result<(&'static str, &'static str), SslError> {
    match (cert.1, key.1) {
        (true, true) => Ok((cert.0, key.0)),
        (true, false) => Err(SslError::Half { given: cert.0, missing: key.0 }),
        (false, _) => Err(SslError::Half { given: key.0, missing: cert.0 }),
    }
}

/// The PEM that a value is, encodes, or names the file of.
fn pem(field: &'static str, value: &str) -> Result<Zeroizing<Vec<u8>>, SslError> {
    if is_pem(value.as_bytes()) {
        return Ok(Zeroizing::new(value.as_bytes().to_vec()));
    }
    let packed: Zeroizing<String> =
        Zeroizing::new(value.chars().filter(|c| !c.is_whitespace()).collect());
    if let Ok(decoded) = STANDARD.decode(packed.as_bytes()).map(Zeroizing::new)
        && is_pem(&decoded)
    {
        return Ok(decoded);
    }
    let path = PathBuf::from(value.trim());
    std::fs::read(&path).map(Zeroizing::new).map_err(|source| SslError::File {
        field,
        place: place(value.trim()),
        source,
    })
}

fn is_pem(bytes: &[u8]) -> bool {
    const MARK: &[u8] = b"-----BEGIN ";
    bytes.windows(MARK.len()).any(|window| window == MARK)
}

/// A path for an error message. What is no file may well be a key that was pasted in some wrong form: only what cannot
/// be base64 of one is shown.
fn place(value: &str) -> String {
    let like_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    let absolute = value.starts_with('/') && value.len() < 40;
    let shown = value.len() <= MAX_SHOWN_PATH
        && !value.contains(char::is_control)
        && (absolute || !value.chars().all(like_base64));
    if shown {
        format!("`{value}`")
    } else {
        "the file it names (not shown: it may be a secret)".to_owned()
    }
}

fn certificates(field: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, SslError> {
    let missing = |detail| SslError::NoPem { field, what: CERTIFICATE, detail };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(missing(String::new())),
        Ok(found) => Ok(found),
        Err(error) => Err(missing(format!(": {error}"))),
    }
}

fn revocation_lists(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, SslError> {
    let missing =
        |detail| SslError::NoPem { field: CRL, what: "certificate revocation list", detail };
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(missing(String::new())),
        Ok(found) => Ok(found),
        Err(error) => Err(missing(format!(": {error}"))),
    }
}

fn private_key(field: &'static str, pem: &[u8]) -> Result<PrivateKeyDer<'static>, SslError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        let encrypted = pem.windows(9).any(|window| window == b"ENCRYPTED");
        let detail = match error {
            _ if encrypted => "; it is encrypted, give it without a passphrase".to_owned(),
            rustls_pki_types::pem::Error::NoItemsFound => String::new(),
            // What else the reader says may quote the line it stumbled over.
            _ => "; its PEM is broken".to_owned(),
        };
        SslError::NoPem { field, what: PRIVATE_KEY, detail }
    })
}

#[cfg(test)]
mod tests;
