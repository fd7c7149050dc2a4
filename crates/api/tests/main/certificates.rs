//! Clients that show certificates, in real handshakes.

use std::net::SocketAddr;
use std::sync::Arc;

use herdsman_api::{ApiConfig, CertificateConfig, Scope, Ssl};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, RevokedCertParams, SanType, SerialNumber,
};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::fixture::{Running, start, state};

/// An authority, and what it has signed.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// What a client shows.
type Shown = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn signs(&self, common: &str, uri: Option<&str>, until: i32) -> Shown {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common);
        params.subject_alt_names =
            uri.map(|uri| SanType::URI(uri.try_into().unwrap())).into_iter().collect();
        params.serial_number = Some(SerialNumber::from_slice(common.as_bytes()));
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        (vec![signed.der().clone()], key.serialize_der().try_into().unwrap())
    }
}

impl Authority {
    /// The list that takes back what was signed for this name, good until this year.
    fn takes_back(&self, common: &str, until: i32) -> String {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from_slice(common.as_bytes()),
            revocation_time: rcgen::date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(until, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

struct Yard {
    server: Running,
    trusted: CertificateDer<'static>,
}

const LATER: i32 = 4000;

impl Yard {
    async fn new(authority: &Authority, auth: &str) -> Self {
        Self::revoking(authority, auth, None).await
    }

    async fn revoking(authority: &Authority, auth: &str, crl: Option<String>) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let ssl: Ssl = serde_json::from_value(json!({
            "cert": made.cert.pem(),
            "key": made.signing_key.serialize_pem(),
            "client_ca": authority.pem,
            "client_crl": crl,
            "client_auth": auth,
        }))
        .unwrap();
        let server = start(config(), Some(ssl.load().unwrap())).await;
        server.handle.offer_mesh(Some(Arc::new(crate::control::Mesh::default())));
        Self { server, trusted: made.cert.der().clone() }
    }

    /// The status of an answer, or nothing where there was no connection.
    async fn ask(&self, shown: Option<&Shown>, request: &str) -> Option<u16> {
        let answer = ask(self.server.address, &self.trusted, shown, &TLS13, request).await;
        answer.map(|answer| answer.0).ok()
    }
}

fn config() -> ApiConfig {
    let known = |name: &str, scope| CertificateConfig { name: name.to_owned(), scope };
    let certificates =
        vec![known("dashboard", Scope::Read), known("spiffe://herd/operator", Scope::Operate)];
    ApiConfig { certificates, ..ApiConfig::default() }
}

async fn ask(
    address: SocketAddr,
    trusted: &CertificateDer<'static>,
    shown: Option<&Shown>,
    version: &'static SupportedProtocolVersion,
    request: &str,
) -> std::io::Result<(u16, String)> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let config = match shown {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            builder.with_client_auth_cert(chain.clone(), key.clone_key()).unwrap()
        }
    };
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let text = format!("{request} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await?;
    let mut answer = String::new();
    // With TLS 1.3 only reading shows that the certificate was not taken.
    match stream.read_to_string(&mut answer).await {
        Err(error) if answer.is_empty() => return Err(error),
        _ => {}
    }
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or(std::io::ErrorKind::UnexpectedEof)?, answer))
}

const LOOK: &str = "GET /primary";
const READ: &str = "GET /v2/mesh/job";
const CHANGE: &str = "POST /v2/mesh/pause";

#[tokio::test]
async fn a_certificate_has_the_scope_of_its_name_and_an_unnamed_one_none() {
    let authority = Authority::new();
    let yard = Yard::new(&authority, "optional").await;
    let reader = authority.signs("dashboard", None, LATER);
    let operator = authority.signs("somebody", Some("spiffe://herd/operator"), LATER);
    let unnamed = authority.signs("somebody", None, LATER);
    for (who, shown, expected) in [
        ("nobody", None, [200, 401, 401]),
        ("unnamed", Some(&unnamed), [200, 401, 401]),
        ("reader", Some(&reader), [200, 200, 403]),
        ("operator", Some(&operator), [200, 200, 200]),
    ] {
        for (request, status) in [LOOK, READ, CHANGE].into_iter().zip(expected) {
            assert_eq!(yard.ask(shown, request).await, Some(status), "{who}: {request}");
        }
    }
    // TLS 1.2 asks for it at another moment.
    for (shown, status) in [(&reader, 403), (&operator, 200)] {
        let address = yard.server.address;
        let found = ask(address, &yard.trusted, Some(shown), &TLS12, CHANGE).await.unwrap();
        assert_eq!(found.0, status);
    }
    // What a name stands for is looked up at each request.
    yard.server.handle.reload(state(yard.server.topology.subscribe(), ApiConfig::default()));
    assert_eq!(yard.ask(Some(&operator), CHANGE).await, Some(403));
    yard.server.stop().await;
}

#[tokio::test]
async fn a_refusal_names_the_certificate() {
    let authority = Authority::new();
    let yard = Yard::new(&authority, "optional").await;
    let reader = authority.signs("dashboard", None, LATER);
    let asked = ask(yard.server.address, &yard.trusted, Some(&reader), &TLS13, CHANGE).await;
    let (_, answer) = asked.unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let told: Value = serde_json::from_str(body).unwrap();
    let message = told["error"]["message"].as_str().unwrap();
    assert!(message.contains("certificate dashboard") && message.contains("`operate`"), "{told}");
    yard.server.stop().await;
}

#[tokio::test]
async fn one_of_another_authority_or_that_has_run_out_is_not_taken_even_where_none_is_needed() {
    let authority = Authority::new();
    for auth in ["optional", "required"] {
        let yard = Yard::new(&authority, auth).await;
        let foreign = Authority::new().signs("dashboard", None, LATER);
        let expired = authority.signs("dashboard", None, 2021);
        for shown in [&foreign, &expired] {
            assert_eq!(yard.ask(Some(shown), LOOK).await, None, "{auth}");
        }
        // It goes on for others.
        let good = authority.signs("dashboard", None, LATER);
        assert_eq!(yard.ask(Some(&good), LOOK).await, Some(200), "{auth}");
        yard.server.stop().await;
    }
}

#[tokio::test]
async fn one_that_was_taken_back_ends_its_connection_and_an_old_list_ends_all() {
    let authority = Authority::new();
    let [lost, good] = ["lost", "good"].map(|name| authority.signs(name, None, LATER));
    for (until, expected) in [(LATER, Some(200)), (2021, None)] {
        let crl = authority.takes_back("lost", until);
        let yard = Yard::revoking(&authority, "optional", Some(crl)).await;
        assert_eq!(yard.ask(Some(&lost), LOOK).await, None, "{until}");
        assert_eq!(yard.ask(Some(&good), LOOK).await, expected, "{until}");
        assert_eq!(yard.ask(None, LOOK).await, Some(200), "who shows none is not concerned");
        yard.server.stop().await;
    }
}

#[tokio::test]
async fn required_means_required_of_health_checks_too() {
    let authority = Authority::new();
    let yard = Yard::new(&authority, "required").await;
    for request in [LOOK, "GET /liveness", "OPTIONS /", READ] {
        assert_eq!(yard.ask(None, request).await, None, "{request}");
    }
    // One that is named nowhere is enough for what takes nothing.
    let balancer = authority.signs("balancer", None, LATER);
    assert_eq!(yard.ask(Some(&balancer), LOOK).await, Some(200));
    assert_eq!(yard.ask(Some(&balancer), READ).await, Some(401));
    yard.server.stop().await;

    let yard = Yard::new(&authority, "off").await;
    let reader = authority.signs("dashboard", None, LATER);
    assert_eq!(yard.ask(Some(&reader), LOOK).await, Some(200));
    assert_eq!(yard.ask(Some(&reader), READ).await, Some(401));
    yard.server.stop().await;
}
