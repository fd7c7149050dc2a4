//! Logins over TLS.

use std::path::Path;

use herdsman_node::raw::end_point;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::json;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

/// An authority, and a folder with a certificate for `localhost`.
struct Yard {
    folder: tempfile::TempDir,
    authority: Issuer<'static, KeyPair>,
    roots: RootCertStore,
    server: CertificateDer<'static>,
}

impl Yard {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        write(folder.path(), "ca.crt", &certificate.pem());
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let authority = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        write(folder.path(), "server.crt", &certificate.pem());
        write(folder.path(), "server.key", &key.serialize_pem());
        Self { folder, authority, roots, server: certificate.der().clone() }
    }

    fn config(&self, with: Value) -> Value {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let mut tls = json!({ "cert": path("server.crt"), "key": path("server.key") });
        let Value::Object(mut with) = with else { panic!("{with}") };
        tls.as_object_mut().unwrap().append(&mut with);
        json!({ "tls": tls })
    }

    /// Writes `ca.crl`, which takes this name's certificate back and is good until this year.
    fn takes_back(&self, name: &str, until: i32) {
        let revoked = RevokedCertParams {
            serial_number: serial(name),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(until, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        write(
            self.folder.path(),
            "ca.crl",
            &list.signed_by(&self.authority).unwrap().pem().unwrap(),
        );
    }

    /// Shakes hands on a socket, offering these protocols, as `name` if there is one.
    async fn shake<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        alpn: &[&[u8]],
        name: Option<&str>,
    ) -> std::io::Result<Guest<TlsStream<S>>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone());
        let mut config = match name {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let key = KeyPair::generate().unwrap();
                let mut params = CertificateParams::new(Vec::new()).unwrap();
                params.distinguished_name.push(DnType::CommonName, name);
                params.serial_number = Some(serial(name));
                let certificate = params.signed_by(&key, &self.authority).unwrap();
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
            }
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let connector = TlsConnector::from(Arc::new(config));
        let host = ServerName::try_from("localhost").unwrap();
        Ok(Guest(connector.connect(host, stream).await?))
    }

    /// Asks for TLS as clients have for twenty years, and gets it.
    async fn asked(&self, shared: &Arc<Shared>, name: Option<&str>) -> Guest<TlsStream<TcpStream>> {
        let mut guest = at_tcp(shared).await;
        guest.say(&SSL_REQUEST).await;
        assert_eq!(guest.byte().await, b'S');
        self.shake(guest.0, &[], name).await.unwrap()
    }
}

/// That of this name's certificates.
fn serial(name: &str) -> SerialNumber {
    SerialNumber::from_slice(name.as_bytes())
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

#[tokio::test]
async fn a_login_over_tls_is_bound_to_our_certificate() {
    let yard = Yard::new();
    let shared = shared(yard.config(json!({})));
    let mut guest = yard.asked(&shared, None).await;
    guest.say(&to_console("root")).await;
    guest.scram("secret", end_point(&yard.server)).await;
    guest.welcomed().await;

    // Somebody in the middle has another certificate.
    let mut guest = yard.asked(&shared, None).await;
    guest.say(&to_console("root")).await;
    guest.scram("secret", Some(vec![7; 32])).await;
    assert_eq!(guest.refused().await.0, "08P01");
}

#[tokio::test]
async fn tls_may_come_first_if_it_names_the_protocol() {
    let yard = Yard::new();
    let shared = shared(yard.config(json!({})));
    let stream = at_tcp(&shared).await.0;
    let mut guest = yard.shake(stream, &[b"postgresql"], None).await.unwrap();
    guest.say(&to_console("root")).await;
    guest.scram("secret", end_point(&yard.server)).await;
    guest.welcomed().await;

    let stream = at_tcp(&shared).await.0;
    let mut guest = yard.shake(stream, &[], None).await.unwrap();
    assert_eq!(guest.refused().await.0, "08P01");

    let stream = at_tcp(&shared).await.0;
    let mut guest = yard.shake(stream, &[b"http/1.1"], None).await;
    // The client may learn of the refusal with its handshake or just after.
    if let Ok(guest) = &mut guest {
        assert!(guest.0.read_u8().await.is_err());
    }
}

#[tokio::test]
async fn nothing_may_be_sent_ahead_of_the_handshake() {
    let yard = Yard::new();
    let shared = shared(yard.config(json!({})));
    let mut guest = at_tcp(&shared).await;
    guest.say(&[&SSL_REQUEST[..], &to_console("root")].concat()).await;
    let (code, message) = guest.refused().await;
    assert_eq!((&*code, &*message), ("08P01", "something was sent ahead of the TLS handshake"));
}

#[tokio::test]
async fn inside_tls_there_is_no_asking_for_it() {
    let yard = Yard::new();
    let shared = shared(yard.config(json!({})));
    for request in [SSL_REQUEST, GSS_REQUEST] {
        let stream = at_tcp(&shared).await.0;
        let mut guest = yard.shake(stream, &[b"postgresql"], None).await.unwrap();
        guest.say(&request).await;
        assert_eq!(guest.refused().await.0, "08P01");
    }
}

#[tokio::test]
async fn where_tls_is_required_only_the_unix_socket_goes_without() {
    let yard = Yard::new();
    let shared = shared(yard.config(json!({ "required": true })));
    let mut guest = at_tcp(&shared).await;
    guest.say(&to_console("root")).await;
    assert_eq!(
        guest.refused().await,
        ("28000".into(), "connections without TLS are refused".into())
    );
    let mut guest = at_unix(&shared);
    guest.say(&SSL_REQUEST).await;
    assert_eq!(guest.byte().await, b'N');
    guest.say(&to_console("root")).await;
    guest.scram("secret", None).await;
    guest.welcomed().await;
}

#[tokio::test]
async fn a_certificate_of_the_authority_lets_the_user_in_whose_name_it_bears() {
    let yard = Yard::new();
    let ca = yard.folder.path().join("ca.crt").display().to_string();
    let mut config = yard.config(json!({ "client_ca": ca }));
    config["auth"] = json!("cert");
    let shared = shared(config);

    let mut guest = yard.asked(&shared, Some("root")).await;
    guest.say(&to_console("root")).await;
    guest.welcomed().await;

    for name in [Some("ann"), None] {
        let mut guest = yard.asked(&shared, name).await;
        guest.say(&to_console("root")).await;
        assert_eq!(guest.refused().await.0, "28000", "{name:?}");
    }

    // Another authority's.
    let stranger = Yard::new();
    let mut guest = at_tcp(&shared).await;
    guest.say(&SSL_REQUEST).await;
    assert_eq!(guest.byte().await, b'S');
    let both = Yard { roots: yard.roots.clone(), ..stranger };
    if let Ok(mut guest) = both.shake(guest.0, &[], Some("root")).await {
        drop(guest.0.write_all(&to_console("root")).await);
        assert!(guest.0.read_u8().await.is_err());
    }
}

#[tokio::test]
async fn a_certificate_that_was_taken_back_ends_the_handshake_and_an_old_list_ends_all() {
    let yard = Yard::new();
    let path = |name: &str| yard.folder.path().join(name).display().to_string();
    let mut config =
        yard.config(json!({ "client_ca": path("ca.crt"), "client_crl": path("ca.crl") }));
    config["auth"] = json!("cert");
    for (taken_back, until, is_let_in) in
        [("ann", 4000, true), ("root", 4000, false), ("ann", 2021, false)]
    {
        yard.takes_back(taken_back, until);
        let shared = shared(config.clone());
        let mut guest = at_tcp(&shared).await;
        guest.say(&SSL_REQUEST).await;
        assert_eq!(guest.byte().await, b'S');
        let shaken = yard.shake(guest.0, &[], Some("root")).await;
        if is_let_in {
            let mut guest = shaken.unwrap();
            guest.say(&to_console("root")).await;
            guest.welcomed().await;
        } else if let Ok(mut guest) = shaken {
            // With TLS 1.3 the client hears of it with the first answer.
            drop(guest.0.write_all(&to_console("root")).await);
            assert!(guest.0.read_u8().await.is_err(), "{taken_back} until {until}");
        }
    }
}

#[tokio::test]
async fn cancel_requests_may_come_over_tls() {
    let yard = Yard::new();
    let shared = shared(yard.config(json!({ "required": true })));
    let mut guest = yard.asked(&shared, None).await;
    guest.say(&cancel(1, &[1, 2, 3, 4])).await;
    let mut said = Vec::new();
    drop(guest.0.read_to_end(&mut said).await);
    assert!(said.is_empty());
}
