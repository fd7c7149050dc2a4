//! A certification authority of the sandbox's own.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::SandboxError;

/// Certificate of a new authority, and a server's certificate and key signed by it, as PEM.
#[derive(Debug)]
pub(crate) struct Certificates {
    pub(crate) authority: String,
    pub(crate) server: String,
    pub(crate) server_key: String,
}

impl Certificates {
    /// Makes them, valid for `localhost` and 127.0.0.1. The authority's key is forgotten at once.
    pub(crate) fn issue() -> Result<Self, SandboxError> {
        let failed = SandboxError::Certificates;
        let mut authority = CertificateParams::new(Vec::new()).map_err(failed)?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        authority.distinguished_name.push(DnType::CommonName, "Herdsman sandbox authority");
        let authority_key = KeyPair::generate().map_err(failed)?;
        let authority_pem = authority.self_signed(&authority_key).map_err(failed)?.pem();
        let issuer = Issuer::new(authority, authority_key);

        let mut server =
            CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])
                .map_err(failed)?;
        server.distinguished_name.push(DnType::CommonName, "localhost");
        server.use_authority_key_identifier_extension = true;
        let server_key = KeyPair::generate().map_err(failed)?;
        let server_pem = server.signed_by(&server_key, &issuer).map_err(failed)?.pem();
        Ok(Self {
            authority: authority_pem,
            server: server_pem,
            server_key: server_key.serialize_pem(),
        })
    }
}
