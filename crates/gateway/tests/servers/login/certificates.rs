//! An authority, and certificates of it in files.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// A folder with `ca.crt`, and `server.crt` and `server.key` for 127.0.0.1.
pub(super) struct Certificates {
    folder: TempDir,
    authority: Issuer<'static, KeyPair>,
}

impl Certificates {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Authorities of one name would be taken for each other, up to the signature.
        let name = format!("authority {}", fastrand::u64(..));
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        let certificates = Self { folder, authority: Issuer::new(params, key) };
        certificates.write("ca.crt", &certificate.pem());
        certificates.issue("server", "127.0.0.1");
        certificates
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// The section of the gateway's configuration.
    pub(super) fn yaml(&self, required: bool) -> String {
        let [cert, key, ca] = ["server.crt", "server.key", "ca.crt"].map(|name| self.path(name));
        format!("tls: {{ cert: {cert}, key: {key}, client_ca: {ca}, required: {required} }}")
    }

    /// Files with a client's certificate and key.
    pub(super) fn client(&self, name: &str) -> (String, String) {
        self.issue(&format!("client-{name}"), name);
        (self.path(&format!("client-{name}.crt")), self.path(&format!("client-{name}.key")))
    }

    fn issue(&self, file: &str, name: &str) {
        use std::os::unix::fs::PermissionsExt;
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        self.write(&format!("{file}.crt"), &certificate.pem());
        self.write(&format!("{file}.key"), &key.serialize_pem());
        // libpq takes no key that others can read.
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(self.path(&format!("{file}.key")), mode).unwrap();
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }
}
