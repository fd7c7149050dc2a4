use rcgen::{CertificateParams, KeyPair};

use super::*;

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        let files = Self { folder };
        files.write("good.crt", &certificate.pem());
        files.write("good.key", &key.serialize_pem());
        files.write("other.key", &KeyPair::generate().unwrap().serialize_pem());
        files.write("empty", "");
        files.write("broken", "-----BEGIN PRIVATE KEY-----\nsecret!\n-----END PRIVATE KEY-----\n");
        files
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn load(&self, cert: &str, key: &str, ca: Option<&str>) -> Result<Identity, TlsError> {
        self.load_revoking(cert, key, ca, None)
    }

    fn load_revoking(
        &self,
        cert: &str,
        key: &str,
        ca: Option<&str>,
        crl: Option<&str>,
    ) -> Result<Identity, TlsError> {
        let path = |name: &str| self.folder.path().join(name);
        let (client_ca, client_crl) = (ca.map(path), crl.map(path));
        let (cert, key) = (path(cert), path(key));
        Identity::load(&TlsConfig { cert, key, client_ca, client_crl, required: false })
    }
}

#[test]
fn a_certificate_with_its_key_is_taken() {
    let files = Files::new();
    let identity = files.load("good.crt", "good.key", Some("good.crt")).unwrap();
    assert!(identity.end_point.is_some());
}

#[test]
fn what_is_wrong_with_a_file_is_said_and_nothing_of_what_is_in_it() {
    let files = Files::new();
    let wrong = [
        ("none", "good.key", None, "`gateway.tls.cert`"),
        ("empty", "good.key", None, "no certificate"),
        ("good.crt", "none", None, "`gateway.tls.key`"),
        ("good.crt", "empty", None, "no private key"),
        ("good.crt", "broken", None, "broken"),
        ("good.crt", "other.key", None, "belong together"),
        ("good.crt", "good.key", Some("none"), "`gateway.tls.client_ca`"),
        ("good.crt", "good.key", Some("empty"), "no certificate"),
    ];
    for (cert, key, ca, words) in wrong {
        let error = files.load(cert, key, ca).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
    for (crl, words) in
        [("none", "`gateway.tls.client_crl`"), ("good.crt", "no certificate revocation list")]
    {
        let loaded = files.load_revoking("good.crt", "good.key", Some("good.crt"), Some(crl));
        let error = loaded.expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    }
}
