//! Whose certificate it is.

use std::net::IpAddr;

use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Tag, Tagged as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// `commonName`.
const COMMON_NAME: &str = "2.5.4.3";

/// The one common name of a certificate's subject, which is what PostgreSQL compares to the user. `None` where there is
/// none, more than one, or one that is not plain text.
///
/// ```
/// assert_eq!(herdsman_node::certificate::common_name(b"no certificate"), None);
/// ```
#[must_use]
pub fn common_name(certificate: &[u8]) -> Option<String> {
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

/// The alternative names of a certificate's subject: host names, mail addresses, URIs and IP addresses, as text. Other
/// kinds are left out.
///
/// ```
/// assert!(herdsman_node::certificate::alternative_names(b"no certificate").is_empty());
/// ```
#[must_use]
pub fn alternative_names(certificate: &[u8]) -> Vec<String> {
    let Ok(parsed) = Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some((_, SubjectAltName(names)))) = parsed.tbs_certificate.get() else {
        return Vec::new();
    };
    names.iter().filter_map(alternative).collect()
}

fn alternative(name: &GeneralName) -> Option<String> {
    let text = match name {
        GeneralName::DnsName(name) => name.to_string(),
        GeneralName::Rfc822Name(name) => name.to_string(),
        GeneralName::UniformResourceIdentifier(uri) => uri.to_string(),
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()?.to_string()
        }
        _ => return None,
    };
    (!text.is_empty() && !text.contains('\0')).then_some(text)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(names: &[&str], alternatives: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = alternatives;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "herd");
        for name in names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_common_name_is_found_and_no_other_name() {
        let dns = vec![SanType::DnsName("san.example".try_into().unwrap())];
        assert_eq!(common_name(&certificate(&["app"], dns.clone())).as_deref(), Some("app"));
        assert_eq!(common_name(&certificate(&[], dns)), None);
        assert_eq!(common_name(&certificate(&["app\0admin"], Vec::new())), None);
        assert_eq!(common_name(b"no certificate"), None);
    }

    #[test]
    fn alternative_names_of_every_kind_are_text_and_the_common_name_is_none_of_them() {
        let made = certificate(
            &["app"],
            vec![
                SanType::DnsName("a.example".try_into().unwrap()),
                SanType::Rfc822Name("ops@a.example".try_into().unwrap()),
                SanType::URI("spiffe://herd/ops".try_into().unwrap()),
                SanType::IpAddress("10.0.0.7".parse().unwrap()),
                SanType::IpAddress("fd00::7".parse().unwrap()),
            ],
        );
        let expected = ["a.example", "ops@a.example", "spiffe://herd/ops", "10.0.0.7", "fd00::7"];
        assert_eq!(alternative_names(&made), expected);
        assert!(alternative_names(&certificate(&["app"], Vec::new())).is_empty());
    }
}
