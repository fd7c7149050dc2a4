use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;

use super::*;

const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const CHALLENGE: &str =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const PROOF: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
    p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

/// The keys of a password, as RFC 5802 has them.
fn keys(password: &str, salt: &str, rounds: u32) -> ScramKeys {
    let mut salted = [0; 32];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        NonZeroU32::new(rounds).unwrap(),
        &STANDARD.decode(salt).unwrap(),
        password.as_bytes(),
        &mut salted,
    );
    let key =
        |name: &[u8]| sign(&Key::new(HMAC_SHA256, &salted), name).as_ref().try_into().unwrap();
    ScramKeys { client: key(b"Client Key"), server: key(b"Server Key") }
}

fn verifier(keys: &ScramKeys, salt: &str, rounds: u32) -> Scram {
    let stored = digest(&SHA256, &keys.client).as_ref().try_into().unwrap();
    Scram { rounds, salt: salt.into(), stored, server: keys.server }
}

fn rfc_7677(binding: Option<Vec<u8>>) -> Exchange {
    let salt = "W22ZaJ0SNY7soEsUEjb6gQ==";
    let verifier = verifier(&keys("pencil", salt, 4096), salt, 4096);
    Exchange::new(verifier, binding, SERVER_NONCE.to_owned())
}

fn begun() -> Exchange {
    let mut login = rfc_7677(None);
    login.begin(false, CLIENT_FIRST.as_bytes()).unwrap();
    login
}

#[test]
fn the_example_of_rfc_7677_is_accepted_and_gives_the_keys_away() {
    let mut login = rfc_7677(None);
    assert_eq!(login.begin(false, CLIENT_FIRST.as_bytes()).unwrap(), CHALLENGE);
    let Ok(Outcome::Proven(last, shown)) = login.finish(PROOF.as_bytes()) else {
        panic!("the example is refused")
    };
    assert_eq!(last, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    let known = keys("pencil", "W22ZaJ0SNY7soEsUEjb6gQ==", 4096);
    assert_eq!((shown.client, shown.server), (known.client, known.server));
}

#[test]
fn a_proof_of_another_password_is_wrong() {
    let proof = PROOF.replace("dHzb", "dHzc");
    assert!(matches!(begun().finish(proof.as_bytes()), Ok(Outcome::Wrong)));
}

#[test]
fn a_first_message_that_is_none_is_refused() {
    for (plus, message) in [
        (false, ""),
        (false, "n"),
        (false, "n,"),
        (false, "n,,"),
        (false, "n,,n=,"),
        (false, "n,,n="),
        (false, "n,,r=abc"),
        (false, "n,,n=,r="),
        (false, "n,,n=,r=a b"),
        (false, "n,,n=,r=\u{e9}"),
        (false, "n,,n=,r=a\0b"),
        (false, "n,,n=a\0b,r=abc"),
        (false, "n,,n=,s=abc"),
        (false, "n,,m=x,n=,r=abc"),
        (false, "n,,n=,r=abc,"),
        (false, "n,,n=,r=abc,x"),
        (false, "n,,n=,r=abc,1=x"),
        (false, "n,a=postgres,n=,r=abc"),
        (false, "n,a=,n=,r=abc"),
        (false, "N,,n=,r=abc"),
        (false, "x,,n=,r=abc"),
        (false, "p,,n=,r=abc"),
        (false, "p=tls-unique,,n=,r=abc"),
        (false, "p=tls-server-end-point,,n=,r=abc"),
        (true, "n,,n=,r=abc"),
        (true, "y,,n=,r=abc"),
        (true, "p=tls-server-end-point,,n=,r=abc"),
    ] {
        rfc_7677(None).begin(plus, message.as_bytes()).expect_err(message);
    }
    rfc_7677(None).begin(false, b"n,,n=,r=\xff").unwrap_err();
}

#[test]
fn channel_binding_cannot_be_talked_away() {
    let offered = || rfc_7677(Some(vec![7; 32]));
    for (plus, flag, taken) in [
        (true, "p=tls-server-end-point", true),
        // It has no channel binding, which is its right.
        (false, "n", true),
        // It has, and believes that we have not: somebody has cut it out of what we offered.
        (false, "y", false),
        (true, "y", false),
        (true, "n", false),
        (false, "p=tls-server-end-point", false),
        (true, "p=tls-unique", false),
        (true, "p=tls-exporter", false),
    ] {
        let message = format!("{flag},,n=,r=abc");
        let outcome = offered().begin(plus, message.as_bytes());
        assert_eq!(outcome.is_ok(), taken, "{plus} {flag}: {outcome:?}");
    }
}

#[test]
fn a_client_without_channel_binding_may_believe_that_we_have_none_either() {
    rfc_7677(None).begin(false, b"y,,n=,r=abc").unwrap();
}

#[test]
fn a_second_message_that_is_none_is_refused() {
    let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let proof = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    let long = STANDARD.encode([0; 33]);
    for message in [
        String::new(),
        "c=biws".to_owned(),
        format!("c=biws,r={nonce}"),
        format!("c=biws,p={proof}"),
        format!("r={nonce},p={proof}"),
        format!("r={nonce},c=biws,p={proof}"),
        // Another header, and another binding.
        format!("c=eSws,r={nonce},p={proof}"),
        format!("c=biwsAAAA,r={nonce},p={proof}"),
        format!("c=,r={nonce},p={proof}"),
        // The client's half alone, and too much.
        format!("c=biws,r=rOprNGfwEbeRWgbNEkqO,p={proof}"),
        format!("c=biws,r={nonce}x,p={proof}"),
        format!("c=biws,r={nonce},p="),
        format!("c=biws,r={nonce},p={long}"),
        format!("c=biws,r={nonce},p={}", proof.trim_end_matches('=')),
        format!("c=biws,r={nonce},p={proof}="),
        format!("c=biws,r={nonce},p={proof}\n"),
        format!("c=biws,r={nonce},p={proof},x=y"),
        format!("c=biws,r={nonce},p={proof},p={proof}"),
        format!("c=biws,r={nonce},x,p={proof}"),
        // Bits that no byte needs.
        format!("c=biws,r={nonce},p={}", proof.replace("dVQ=", "dVR=")),
    ] {
        let outcome = begun().finish(message.as_bytes());
        assert!(outcome.is_err(), "{message}");
    }
    assert!(rfc_7677(None).finish(PROOF.as_bytes()).is_err());
}

#[test]
fn a_proof_counts_once() {
    let mut login = begun();
    assert!(matches!(login.finish(PROOF.as_bytes()), Ok(Outcome::Proven(..))));
    assert!(login.finish(PROOF.as_bytes()).is_err());
}
