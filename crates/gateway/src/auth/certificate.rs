//! Whose certificate it is.

use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Tag, Tagged as _};

/// `commonName`.
const COMMON_NAME: &str = "2.5.4.3";

/// The one common name of a certificate's subject, which is what PostgreSQL compares to the user. `None` where there is
/// none, more than one, or one that is not plain text.
pub(super) fn common_name(certificate: &[u8]) -> Option<String> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let parts = parsed.tbs_certificate.subject.0.iter().flat_map(|part| part.0.iter());
    let mut names = parts.filter(|part| part.oid.to_string() == COMMON_NAME);
    let (name, None) = (names.next()?, names.next()) else { return None };
    match name.value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String => {}
        _ => return None,
    }
    let text = str::from_utf8(name.value.value()).ok()?;
    // A zero byte would end the name early for those who come after us.
    (!text.is_empty() && !text.contains('\0')).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn certificate(names: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["san.example".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "herd");
        for name in names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_common_name_is_found_and_no_other_name() {
        assert_eq!(common_name(&certificate(&["app"])).as_deref(), Some("app"));
        assert_eq!(common_name(&certificate(&[])), None);
        assert_eq!(common_name(&certificate(&["app\0admin"])), None);
        assert_eq!(common_name(b"no certificate"), None);
    }
}
