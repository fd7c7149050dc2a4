//! What ties a SCRAM login to the TLS connection it is made over (RFC 5929, `tls-server-end-point`).

use aws_lc_rs::digest::{Algorithm, SHA256, SHA384, SHA512, digest};
use rustls_pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// The certificate's hash, with the hash its own signature uses; SHA-256 instead of MD5 and SHA-1. `None` where the
/// signature has no hash that both sides would agree on, such as Ed25519: then the login is not bound.
#[must_use]
pub fn end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let algorithm = hash_of(&parsed.signature_algorithm.oid.to_string())?;
    Some(digest(algorithm, certificate).as_ref().to_vec())
}

fn hash_of(signature: &str) -> Option<&'static Algorithm> {
    match signature {
        // RSA with MD5, SHA-1 or SHA-256; ECDSA with SHA-1 or SHA-256.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2" => Some(&SHA256),
        // RSA and ECDSA with SHA-384.
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Some(&SHA384),
        // RSA and ECDSA with SHA-512.
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Some(&SHA512),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_hashed_as_its_signature_is() {
        assert_eq!(hash_of("1.2.840.10045.4.3.3"), Some(&SHA384));
        assert_eq!(hash_of("1.2.840.113549.1.1.5"), Some(&SHA256));
        assert!(hash_of("1.3.101.112").is_none());
    }

    #[test]
    fn what_is_no_certificate_binds_nothing() {
        assert_eq!(end_point(&CertificateDer::from(vec![1, 2, 3])), None);
    }
}
