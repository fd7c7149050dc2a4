//! The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677) for one who has keys instead of the password.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::ScramKeys;

/// Bytes of randomness in our nonce, as libpq has them.
const NONCE: usize = 18;

/// How a login is tied to its TLS connection.
#[derive(Debug)]
pub(super) enum Binding {
    /// There is no TLS, or nothing to bind to.
    Impossible,
    /// There is TLS, and the server does not offer it.
    NotOffered,
    /// The hash of the server's certificate.
    EndPoint(Vec<u8>),
}

impl Binding {
    fn header(&self) -> &'static str {
        match self {
            Self::Impossible => "n,,",
            Self::NotOffered => "y,,",
            Self::EndPoint(_) => "p=tls-server-end-point,,",
        }
    }
}

/// One login. Its messages in order: [`Exchange::first`], [`Exchange::answer`], and [`Exchange::verify`] at the end.
pub(super) struct Exchange<'a> {
    keys: &'a ScramKeys,
    binding: Binding,
    nonce: String,
    /// The first message without its header.
    bare: String,
    /// What both sides sign.
    signed: Vec<u8>,
}

impl<'a> Exchange<'a> {
    /// Begins one with a random nonce; `None` where the system has no randomness.
    pub(super) fn new(keys: &'a ScramKeys, binding: Binding) -> Option<Self> {
        let mut random = [0; NONCE];
        rand::fill(&mut random).ok()?;
        // PostgreSQL takes the name from the start-up packet.
        Some(Self::with(keys, binding, "", &STANDARD.encode(random)))
    }

    fn with(keys: &'a ScramKeys, binding: Binding, user: &str, nonce: &str) -> Self {
        let bare = format!("n={user},r={nonce}");
        Self { keys, binding, nonce: nonce.to_owned(), bare, signed: Vec::new() }
    }

    /// The first message to the server.
    pub(super) fn first(&self) -> Vec<u8> {
        [self.binding.header().as_bytes(), self.bare.as_bytes()].concat()
    }

    /// The proof, for what the server answers to the first message.
    ///
    /// # Errors
    /// What is wrong with the server's answer.
    pub(super) fn answer(&mut self, message: &[u8]) -> Result<Vec<u8>, &'static str> {
        let text = str::from_utf8(message).map_err(|_| "its SCRAM challenge is not text")?;
        let mut parts = text.split(',');
        let mut part = |name: &str| parts.next().and_then(|part| part.strip_prefix(name));
        let nonce = part("r=").ok_or("its SCRAM challenge has no nonce")?;
        let salt = part("s=").ok_or("its SCRAM challenge has no salt")?;
        let rounds = part("i=").ok_or("its SCRAM challenge has no iteration count")?;
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err("its SCRAM challenge is for another login");
        }
        if STANDARD.decode(salt).is_err() || rounds.parse::<u32>().is_err() {
            return Err("its SCRAM challenge is malformed");
        }
        let mut bound = self.binding.header().as_bytes().to_vec();
        if let Binding::EndPoint(hash) = &self.binding {
            bound.extend_from_slice(hash);
        }
        let mut answer = format!("c={},r={nonce}", STANDARD.encode(bound));
        self.signed = [self.bare.as_bytes(), message, answer.as_bytes()].join(&b","[..]);
        let stored = digest(&SHA256, &self.keys.client);
        let signature = sign(&Key::new(HMAC_SHA256, stored.as_ref()), &self.signed);
        let pairs = self.keys.client.iter().zip(signature.as_ref());
        let proof: Vec<u8> = pairs.map(|(key, mask)| key ^ mask).collect();
        answer.push_str(",p=");
        STANDARD.encode_string(proof, &mut answer);
        Ok(answer.into_bytes())
    }

    /// Checks that the server knows the user's verifier as well.
    ///
    /// # Errors
    /// It does not.
    pub(super) fn verify(&self, message: &[u8]) -> Result<(), &'static str> {
        const UNPROVEN: &str = "the server could not prove that it knows the password";
        let claimed = message.strip_prefix(b"v=").ok_or(UNPROVEN)?;
        let claimed = claimed.split(|&byte| byte == b',').next().unwrap_or_default();
        let claimed = STANDARD.decode(claimed).map_err(|_| UNPROVEN)?;
        let signature = sign(&Key::new(HMAC_SHA256, &self.keys.server), &self.signed);
        if self.signed.is_empty() {
            return Err(UNPROVEN);
        }
        verify_slices_are_equal(&claimed, signature.as_ref()).map_err(|_| UNPROVEN)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use aws_lc_rs::pbkdf2;

    use super::*;

    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn keys(password: &str) -> ScramKeys {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let mut salted = [0; 32];
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            NonZeroU32::new(4096).unwrap(),
            &salt,
            password.as_bytes(),
            &mut salted,
        );
        let key =
            |name: &[u8]| sign(&Key::new(HMAC_SHA256, &salted), name).as_ref().try_into().unwrap();
        ScramKeys { client: key(b"Client Key"), server: key(b"Server Key") }
    }

    fn rfc_7677(keys: &ScramKeys) -> Exchange<'_> {
        Exchange::with(keys, Binding::Impossible, "user", "rOprNGfwEbeRWgbNEkqO")
    }

    #[test]
    fn the_example_of_rfc_7677_comes_out() {
        let keys = keys("pencil");
        let mut login = rfc_7677(&keys);
        assert_eq!(login.first(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let proof = login.answer(SERVER_FIRST.as_bytes()).unwrap();
        assert_eq!(
            String::from_utf8(proof).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        login.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap();
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_not_believed() {
        let keys = keys("pencil");
        let mut login = rfc_7677(&keys);
        let claims: [&[u8]; 5] = [
            b"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4",
            b"v=",
            b"",
            b"e=other-error",
        ];
        login.verify(b"v=").unwrap_err();
        login.answer(SERVER_FIRST.as_bytes()).unwrap();
        for claim in claims {
            login.verify(claim).unwrap_err();
        }
    }

    #[test]
    fn a_challenge_for_another_login_is_refused() {
        let keys = keys("pencil");
        for challenge in [
            "r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=xOprNGfwEbeRWgbNEkqO%hv,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=rOprNGfwEbeRWgbNEkqO%hv,s=W22ZaJ0SNY7soEsUEjb6gQ==",
            "r=rOprNGfwEbeRWgbNEkqO%hv,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=-1",
            "r=rOprNGfwEbeRWgbNEkqO%hv,s=W22ZaJ0SNY7soEsUEjb6gQ,i=4096",
            "m=x,r=rOprNGfwEbeRWgbNEkqO%hv,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "",
        ] {
            rfc_7677(&keys).answer(challenge.as_bytes()).expect_err(challenge);
        }
        rfc_7677(&keys).answer(&[0xff]).unwrap_err();
    }

    #[test]
    fn a_login_over_tls_carries_the_hash_of_the_certificate() {
        let keys = keys("pencil");
        let mut login = Exchange::new(&keys, Binding::EndPoint(vec![1, 2, 3])).unwrap();
        assert!(login.first().starts_with(b"p=tls-server-end-point,,n=,r="));
        let challenge = format!("r={}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", login.nonce);
        let answer = String::from_utf8(login.answer(challenge.as_bytes()).unwrap()).unwrap();
        let bound = answer.strip_prefix("c=").unwrap().split(',').next().unwrap();
        assert_eq!(STANDARD.decode(bound).unwrap(), b"p=tls-server-end-point,,\x01\x02\x03");
    }
}
