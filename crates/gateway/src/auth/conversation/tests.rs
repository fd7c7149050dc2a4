use aws_lc_rs::digest::{SHA256, digest};
use herdsman_node::raw::Credential;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use proptest::prelude::*;

use super::*;
use crate::config::{GatewayConfig, UserConfig};

mod properties;

fn user(password: Option<&str>, auth: Option<AuthMethod>) -> UserConfig {
    let password = password.map(|text| text.to_owned().into());
    UserConfig { password, auth, ..UserConfig::default() }
}

/// A gateway that knows a few users, all with the password `secret`.
fn gateway(change: impl FnOnce(&mut GatewayConfig)) -> Users {
    let md5 = |name| postgres_protocol::password::md5(b"secret", name);
    let mut config = GatewayConfig::default();
    for (name, entry) in [
        ("plain", user(Some("secret"), None)),
        ("stored", user(Some(&stored("secret", 7)), None)),
        ("md5", user(Some("secret"), Some(AuthMethod::Md5))),
        ("md5stored", user(Some(&md5("md5stored")), Some(AuthMethod::Md5))),
        ("md5scram", user(Some(&stored("secret", 7)), Some(AuthMethod::Md5))),
        ("scrammd5", user(Some(&md5("scrammd5")), None)),
        ("cert", user(None, Some(AuthMethod::Cert))),
        ("trust", user(None, Some(AuthMethod::Trust))),
        ("none", user(None, None)),
    ] {
        config.users.insert(name.to_owned(), entry);
    }
    change(&mut config);
    Users::new(&config, Box::new(Vec::new)).unwrap()
}

/// What PostgreSQL would store.
fn stored(password: &str, rounds: u32) -> String {
    use std::num::NonZeroU32;

    use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
    use aws_lc_rs::pbkdf2;
    let (mut salted, rounds) = ([0; 32], NonZeroU32::new(rounds).unwrap());
    let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
    pbkdf2::derive(algorithm, rounds, b"saltsalt", password.as_bytes(), &mut salted);
    let key = |name: &[u8]| sign(&Key::new(HMAC_SHA256, &salted), name);
    let client = digest(&SHA256, key(b"Client Key").as_ref());
    let salt = STANDARD.encode("saltsalt");
    let (client, server) = (STANDARD.encode(client), STANDARD.encode(key(b"Server Key")));
    format!("SCRAM-SHA-256${rounds}:{salt}${client}:{server}")
}

fn login(users: &Users, name: &str, peer: Peer) -> Conversation {
    Conversation::new(users, name, users.listed(name), peer).unwrap()
}

fn remote() -> Peer {
    Peer::default()
}

fn local() -> Peer {
    Peer { local: true, ..Peer::default() }
}

fn over_tls() -> Peer {
    Peer { binding: Some(vec![9; 32]), ..Peer::default() }
}

/// The messages in `out`, each without tag and length: its kind and what follows.
fn said(out: &mut Vec<u8>) -> Vec<(i32, Vec<u8>)> {
    let mut messages = Vec::new();
    let mut rest = out.as_slice();
    while let Ok(Some(header)) = crate::wire::header(rest) {
        assert_eq!(header.tag, backend::AUTHENTICATION);
        let (message, after) = rest.split_at(header.len);
        let kind = i32::from_be_bytes(message[5..9].try_into().unwrap());
        messages.push((kind, message[9..].to_vec()));
        rest = after;
    }
    assert!(rest.is_empty());
    out.clear();
    messages
}

/// The first SASL response of a client.
fn initial(mechanism: &str, response: &[u8]) -> Vec<u8> {
    let length = i32::try_from(response.len()).unwrap().to_be_bytes();
    [mechanism.as_bytes(), b"\0", &length, response].concat()
}

/// Logs in as libpq would. What was offered, and how it ended.
fn scram(login: &mut Conversation, password: &str, peer: &Peer) -> (Vec<u8>, Step) {
    let mut out = Vec::new();
    assert!(matches!(login.start(&mut out), Step::More));
    let [(10, offered)] = &said(&mut out)[..] else { panic!("no SASL is offered") };
    let (mechanism, binding) = match &peer.binding {
        Some(hash) => (SCRAM_PLUS, ChannelBinding::tls_server_end_point(hash.clone())),
        None => (SCRAM, ChannelBinding::unsupported()),
    };
    let mut client = ScramSha256::new(password.as_bytes(), binding);
    let step = login.message(&initial(mechanism, client.message()), &mut out);
    assert!(matches!(step, Step::More), "{step:?}");
    let [(11, challenge)] = &said(&mut out)[..] else { panic!("no challenge") };
    client.update(challenge).unwrap();
    let step = login.message(client.message(), &mut out);
    if let Step::Accepted = &step {
        let [(12, last), (0, _)] = &said(&mut out)[..] else { panic!("no end") };
        client.finish(last).unwrap();
    }
    (offered.clone(), step)
}

fn refused(step: &Step) -> (&'static str, String) {
    match step {
        Step::Refused(problem) => (problem.code, problem.message.to_string()),
        other => panic!("{other:?}"),
    }
}

fn wrong(name: &str) -> (&'static str, String) {
    (code::WRONG_PASSWORD, format!("password authentication failed for user \"{name}\""))
}

#[test]
fn who_knows_the_password_is_let_in_with_and_without_channel_binding() {
    let users = gateway(|_| {});
    for (peer, offers) in [
        (remote(), b"SCRAM-SHA-256\0\0".to_vec()),
        (over_tls(), b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0".to_vec()),
    ] {
        for name in ["plain", "stored", "md5scram"] {
            let mut login = login(&users, name, peer.clone());
            let (offered, step) = scram(&mut login, "secret", &peer);
            assert!(matches!(step, Step::Accepted), "{name}: {step:?}");
            assert_eq!((offered, login.cause()), (offers.clone(), None));
        }
    }
}

#[test]
fn the_keys_a_client_shows_are_what_its_user_is_on_the_servers_with() {
    let users = gateway(|config| {
        let mut entry = user(Some(&stored("secret", 7)), None);
        entry.server_user = Some("other".to_owned());
        config.users.insert("mapped".to_owned(), entry);
    });
    for name in ["stored", "plain", "mapped", "md5stored", "none"] {
        let known = users.listed(name).unwrap();
        assert!(!matches!(known.server_login().credential, Credential::Scram(_)), "{name}");
    }
    for name in ["stored", "plain", "mapped"] {
        let (_, step) = scram(&mut login(&users, name, remote()), "secret", &remote());
        assert!(matches!(step, Step::Accepted), "{step:?}");
        let server = users.listed(name).unwrap().server_login();
        match (name, server.credential) {
            ("stored", Credential::Scram(learnt)) => {
                let known = users.listed("stored").unwrap();
                let Some(Verifier::Scram(of)) = &known.verifier else { panic!("no verifier") };
                assert_eq!(digest(&SHA256, &learnt.client).as_ref(), of.stored);
                assert_eq!(learnt.server, of.server);
            }
            ("plain", Credential::Password(_)) => assert_eq!(server.user, "plain"),
            ("mapped", Credential::None) => assert_eq!(server.user, "other"),
            (name, other) => panic!("{name}: {other:?}"),
        }
    }
    let md5 = users.listed("md5stored").unwrap().server_login();
    assert!(matches!(md5.credential, Credential::Md5(_)));
}

#[test]
fn a_login_that_is_bound_to_another_certificate_is_refused() {
    // Somebody in between shows a certificate of its own, and passes on what is said.
    let users = gateway(|_| {});
    let theirs = Peer { binding: Some(vec![8; 32]), ..Peer::default() };
    let mut login = login(&users, "stored", over_tls());
    let (_, step) = scram(&mut login, "secret", &theirs);
    assert_eq!(refused(&step).0, code::PROTOCOL_VIOLATION);
    let known = users.listed("stored").unwrap();
    assert!(matches!(known.server_login().credential, Credential::None));
}

#[test]
fn names_cannot_be_told_from_wrong_passwords() {
    let users = gateway(|_| {});
    let mut seen = Vec::new();
    for name in ["plain", "nobody", "none", "scrammd5"] {
        let mut login = login(&users, name, over_tls());
        let (offered, step) = scram(&mut login, "guess", &over_tls());
        assert_eq!(refused(&step), wrong(name));
        seen.push((offered, login.cause()));
    }
    let causes: Vec<_> = seen.iter().map(|(_, cause)| cause.unwrap()).collect();
    assert!(seen.iter().all(|(offered, _)| *offered == seen[0].0));
    // The log can tell them apart.
    assert_eq!(
        causes[..3],
        ["the password is wrong", "there is no such user", "the user has no password"]
    );
}

#[test]
fn a_name_nobody_has_gets_the_same_salt_each_time() {
    let users = gateway(|_| {});
    let challenge = |name: &str| {
        let (mut login, mut out) = (login(&users, name, remote()), Vec::new());
        login.start(&mut out);
        out.clear();
        login.message(&initial(SCRAM, b"n,,n=,r=abc"), &mut out);
        let text = String::from_utf8(said(&mut out)[0].1.clone()).unwrap();
        text.split_once(",s=").unwrap().1.to_owned()
    };
    assert_eq!(challenge("nobody"), challenge("nobody"));
    assert_eq!(challenge("plain"), challenge("plain"));
    assert_ne!(challenge("nobody"), challenge("noone"));
    let length = |name| challenge(name).len();
    assert_eq!(length("nobody"), length("plain"));
}

fn md5(login: &mut Conversation, name: &str, password: &str) -> Step {
    let mut out = Vec::new();
    assert!(matches!(login.start(&mut out), Step::More));
    let [(5, salt)] = &said(&mut out)[..] else { panic!("no md5 is asked for") };
    let salt = salt.as_slice().try_into().unwrap();
    let hash =
        postgres_protocol::authentication::md5_hash(name.as_bytes(), password.as_bytes(), salt);
    let step = login.message(format!("{hash}\0").as_bytes(), &mut out);
    assert_eq!(matches!(step, Step::Accepted), said(&mut out).len() == 1);
    step
}

#[test]
fn md5_lets_in_who_knows_the_password_and_nobody_else() {
    let users = gateway(|config| config.auth = AuthMethod::Md5);
    for name in ["md5", "md5stored"] {
        let step = md5(&mut login(&users, name, remote()), name, "secret");
        assert!(matches!(step, Step::Accepted), "{name}: {step:?}");
        let step = md5(&mut login(&users, name, remote()), name, "guess");
        assert_eq!(refused(&step), wrong(name));
    }
    for name in ["nobody", "none"] {
        let step = md5(&mut login(&users, name, remote()), name, "secret");
        assert_eq!(refused(&step), wrong(name));
    }
}

#[test]
fn an_md5_challenge_is_another_each_time() {
    let users = gateway(|_| {});
    let salts: std::collections::BTreeSet<_> = (0..8)
        .map(|_| {
            let mut out = Vec::new();
            login(&users, "md5", remote()).start(&mut out);
            said(&mut out)[0].1.clone()
        })
        .collect();
    assert!(salts.len() > 1);
}

#[test]
fn a_malformed_password_is_refused() {
    let users = gateway(|_| {});
    for body in [&b""[..], b"md5", b"md5\0\0", b"md5\0more\0"] {
        let (mut login, mut out) = (login(&users, "md5", remote()), Vec::new());
        login.start(&mut out);
        out.clear();
        let step = login.message(body, &mut out);
        assert_eq!(refused(&step).0, code::PROTOCOL_VIOLATION, "{body:?}");
        assert!(out.is_empty());
    }
}

#[test]
fn trust_is_for_the_loopback_interface_and_known_users_only() {
    let trusting = gateway(|config| config.trust_loopback = true);
    let users = gateway(|_| {});
    let step = |users, name, peer| {
        let mut out = Vec::new();
        let step = login(users, name, peer).start(&mut out);
        (matches!(step, Step::Accepted), said(&mut out).first().map(|(kind, _)| *kind))
    };
    assert_eq!(step(&trusting, "plain", local()), (true, Some(0)));
    assert_eq!(step(&trusting, "plain", remote()), (false, Some(10)));
    assert_eq!(step(&trusting, "nobody", local()), (false, Some(10)));
    assert_eq!(step(&users, "plain", local()), (false, Some(10)));
    assert_eq!(step(&users, "trust", local()), (true, Some(0)));
    assert_eq!(step(&users, "trust", remote()), (false, None));
}

#[tokio::test]
async fn anybody_from_the_loopback_interface_is_nobody_from_elsewhere() {
    let config = GatewayConfig { trust_loopback: true, ..GatewayConfig::default() };
    let users = Users::new(&config, Box::new(Vec::new)).unwrap();
    let x = users.find("x").await.unwrap();
    let begin = |peer| Conversation::new(&users, "x", x.clone(), peer).unwrap();
    assert!(matches!(begin(local()).start(&mut Vec::new()), Step::Accepted));
    let (_, step) = scram(&mut begin(remote()), "", &remote());
    assert_eq!(refused(&step), wrong("x"));
}

#[test]
fn a_certificate_lets_in_whose_name_it_bears() {
    use rcgen::{CertificateParams, DnType, KeyPair};
    let users = gateway(|_| {});
    let certificate = |name: &str| {
        let mut params = CertificateParams::new(vec!["cert".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    };
    for (certificate, let_in) in [
        (None, false),
        (Some(certificate("cert")), true),
        // An alternative name is none.
        (Some(certificate("other")), false),
        (Some(certificate("CERT")), false),
    ] {
        let peer = Peer { certificate, ..over_tls() };
        let mut login = login(&users, "cert", peer);
        let mut out = Vec::new();
        match login.start(&mut out) {
            Step::Accepted => assert!(let_in),
            step => {
                assert_eq!(refused(&step).0, code::NOT_AUTHORISED);
                assert!(!let_in && login.cause().is_some());
            }
        }
    }
}

#[test]
fn a_client_may_want_to_be_asked_before_it_says_anything() {
    let users = gateway(|_| {});
    let (mut login, mut out) = (login(&users, "stored", remote()), Vec::new());
    login.start(&mut out);
    out.clear();
    let nothing = [SCRAM.as_bytes(), b"\0", &(-1_i32).to_be_bytes()].concat();
    assert!(matches!(login.message(&nothing, &mut out), Step::More));
    assert_eq!(said(&mut out), [(11, Vec::new())]);
    assert!(matches!(login.message(b"n,,n=,r=abc", &mut out), Step::More));
    assert!(said(&mut out)[0].1.starts_with(b"r=abc"));
}

#[test]
fn a_malformed_beginning_is_refused() {
    let users = gateway(|_| {});
    let first = b"n,,n=,r=abc";
    let length = |claimed: i32| [SCRAM.as_bytes(), b"\0", &claimed.to_be_bytes(), first].concat();
    for body in [
        Vec::new(),
        SCRAM.as_bytes().to_vec(),
        b"SCRAM-SHA-256\0".to_vec(),
        b"SCRAM-SHA-256\0\0\0\0".to_vec(),
        initial("SCRAM-SHA-1", first),
        initial("PLAIN", b"\0plain\0secret"),
        // Not offered on this connection.
        initial(SCRAM_PLUS, b"p=tls-server-end-point,,n=,r=abc"),
        length(-1),
        length(-2),
        length(i32::MIN),
        length(i32::MAX),
        length(10),
        length(12),
        initial(SCRAM, &[b"n,,n=,r=".as_slice(), &[b'a'; LONGEST_MESSAGE]].concat()),
    ] {
        let (mut login, mut out) = (login(&users, "stored", remote()), Vec::new());
        login.start(&mut out);
        out.clear();
        let step = login.message(&body, &mut out);
        assert_eq!(refused(&step).0, code::PROTOCOL_VIOLATION, "{body:?}");
        assert!(out.is_empty());
        // It is over.
        let step = login.message(&initial(SCRAM, first), &mut out);
        assert_eq!(refused(&step).0, code::PROTOCOL_VIOLATION);
        assert!(out.is_empty());
    }
}

#[test]
fn nothing_is_accepted_after_an_end() {
    let users = gateway(|_| {});
    let mut login = login(&users, "stored", remote());
    let (_, step) = scram(&mut login, "secret", &remote());
    assert!(matches!(step, Step::Accepted));
    let mut out = Vec::new();
    assert!(matches!(login.message(b"", &mut out), Step::Refused(_)));
    assert!(matches!(login.start(&mut out), Step::Refused(_)));
    assert!(out.is_empty());
}
