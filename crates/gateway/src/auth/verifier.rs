//! What is known of a password, and what that is enough for.

use std::sync::OnceLock;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{Key, sign};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroize as _;
use secrecy::{ExposeSecret as _, SecretString};

const SCRAM: &str = "SCRAM-SHA-256$";
/// Rounds of a SCRAM verifier that says nothing else, as PostgreSQL makes them.
const ROUNDS: u32 = 4096;

/// What is known of a user's password. Has no `Debug`: all of it is secret.
#[derive(Clone)]
pub(super) enum Verifier {
    /// The password itself, and the verifier that was made of it at the first login.
    Plain(SecretString, OnceLock<Scram>),
    /// `md5` and the digest of password and name.
    Md5(SecretString),
    /// What PostgreSQL stores.
    Scram(Scram),
}

/// A SCRAM-SHA-256 verifier. Enough to check a login, not to make one.
#[derive(Clone)]
pub(super) struct Scram {
    pub(super) rounds: u32,
    /// In base64, as it is sent.
    pub(super) salt: Box<str>,
    pub(super) stored: [u8; 32],
    pub(super) server: [u8; 32],
}

impl Verifier {
    /// Reads what stands in a file or in `pg_authid`: a verifier by its prefix, anything else is a password.
    ///
    /// # Errors
    /// What is wrong with it: empty, or it begins as a verifier and is none. It is then not taken as a password, which it
    /// would be an easy one to guess as.
    pub(super) fn read(text: &SecretString) -> Result<Self, &'static str> {
        let exposed = text.expose_secret();
        if exposed.is_empty() {
            Err("the password is empty")
        } else if exposed.contains('\0') {
            Err("the password has a zero byte")
        } else if is_md5(exposed) {
            Ok(Self::Md5(text.clone()))
        } else if exposed.starts_with(SCRAM) {
            Scram::read(exposed)
                .map(Self::Scram)
                .ok_or("a SCRAM-SHA-256 verifier is malformed or cut off")
        } else {
            Ok(Self::Plain(text.clone(), OnceLock::new()))
        }
    }

    /// What SCRAM logins are checked against; made once where the password is plain, which takes about a millisecond.
    pub(super) fn scram(&self) -> Option<&Scram> {
        match self {
            Self::Plain(password, made) => {
                if made.get().is_none() {
                    let text = postgres_protocol::password::scram_sha_256(
                        password.expose_secret().as_bytes(),
                    );
                    // Whoever was first has made it; both are right.
                    drop(made.set(Scram::read(&text)?));
                }
                made.get()
            }
            Self::Md5(_) => None,
            Self::Scram(scram) => Some(scram),
        }
    }

    /// What an md5 login of `user` with `salt` has to answer.
    pub(super) fn md5(&self, user: &str, salt: [u8; 4]) -> Option<String> {
        match self {
            Self::Plain(password, _) => Some(postgres_protocol::authentication::md5_hash(
                user.as_bytes(),
                password.expose_secret().as_bytes(),
                salt,
            )),
            Self::Md5(stored) => {
                let digits = stored.expose_secret().strip_prefix("md5")?;
                let salted = [digits.as_bytes(), &salt].concat();
                Some(postgres_protocol::password::md5(&salted, ""))
            }
            Self::Scram(_) => None,
        }
    }

    /// Takes over what was made of the same password before, so that its salt stays: a new one would tell those who ask for
    /// it that the name is somebody's.
    pub(super) fn inherit(&self, from: &Self) {
        if let (Self::Plain(_, own), Self::Plain(_, made)) = (self, from)
            && let Some(made) = made.get()
        {
            // Its own, if there is one, has been told to somebody by now.
            drop(own.set(made.clone()));
        }
    }

    /// Whether both are made of the same text. Not for passwords that somebody sends.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Plain(one, _), Self::Plain(two, _)) | (Self::Md5(one), Self::Md5(two)) => {
                one.expose_secret() == two.expose_secret()
            }
            (Self::Scram(one), Self::Scram(two)) => {
                (one.rounds, &one.salt, one.stored, one.server)
                    == (two.rounds, &two.salt, two.stored, two.server)
            }
            _ => false,
        }
    }
}

impl Scram {
    /// Reads `SCRAM-SHA-256$rounds:salt$stored:server`.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (parameters, keys) = text.strip_prefix(SCRAM)?.split_once('$')?;
        let (rounds, salt) = parameters.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        if !rounds.bytes().all(|byte| byte.is_ascii_digit())
            || STANDARD.decode(salt).ok()?.is_empty()
        {
            return None;
        }
        let rounds =
            rounds.parse().ok().filter(|rounds| (1..=i32::MAX.unsigned_abs()).contains(rounds))?;
        let key = |text: &str| <[u8; 32]>::try_from(STANDARD.decode(text).ok()?).ok();
        Some(Self { rounds, salt: salt.into(), stored: key(stored)?, server: key(server)? })
    }

    /// One for a user there is not: the same salt each time for the same name, and keys that fit no password.
    pub(super) fn mock(secret: &Key, name: &str) -> Self {
        let derived = |what: &[u8]| {
            let mut bytes = [0; 32];
            let tag = sign(secret, &[what, name.as_bytes()].concat());
            bytes.iter_mut().zip(tag.as_ref()).for_each(|(byte, derived)| *byte = *derived);
            bytes
        };
        let salt = derived(b"salt ");
        let (salt, _) = salt.split_at(16);
        Self {
            rounds: ROUNDS,
            salt: STANDARD.encode(salt).into(),
            stored: derived(b"stored "),
            server: derived(b"server "),
        }
    }
}

impl Drop for Scram {
    fn drop(&mut self) {
        self.stored.zeroize();
        self.server.zeroize();
    }
}

/// Whether two texts are the same, in a time that does not say where they differ.
pub(super) fn same(one: &[u8], two: &[u8]) -> bool {
    verify_slices_are_equal(one, two).is_ok()
}

fn is_md5(text: &str) -> bool {
    text.strip_prefix("md5").is_some_and(|digits| {
        digits.len() == 32 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
        WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    fn read(text: &str) -> Result<Verifier, &'static str> {
        Verifier::read(&SecretString::from(text))
    }

    #[test]
    fn what_postgresql_stores_is_told_from_a_password() {
        let md5 = format!("md5{}", "0123456789abcdef".repeat(2));
        assert!(matches!(read(STORED), Ok(Verifier::Scram(_))));
        assert!(matches!(read(&md5), Ok(Verifier::Md5(_))));
        for plain in [
            "secret",
            "md5",
            &md5.to_uppercase(),
            md5.trim_start_matches('m'),
            "SCRAM-SHA-256",
            "scram$",
        ] {
            assert!(matches!(read(plain), Ok(Verifier::Plain(..))), "{plain}");
        }
    }

    #[test]
    fn a_broken_verifier_is_not_taken_as_a_password() {
        for broken in [
            "",
            "a\0b",
            "SCRAM-SHA-256$",
            STORED.trim_end_matches('='),
            &STORED.replace("4096", "0"),
            &STORED.replace("4096", "+4096"),
            &STORED.replace("4096", "4294967295"),
            &STORED.replace("W22ZaJ0SNY7soEsUEjb6gQ==", ""),
            &STORED.replace("W22ZaJ0SNY7soEsUEjb6gQ==", "W22ZaJ0SNY7soEsUEjb6gQ"),
            &STORED.replace("WG5d", ""),
        ] {
            assert!(read(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_password_is_made_into_a_verifier_once() {
        let verifier = read("secret").unwrap_or_else(|error| panic!("{error}"));
        let salt = verifier.scram().map(|scram| scram.salt.clone());
        assert!(salt.is_some());
        assert_eq!(salt, verifier.scram().map(|scram| scram.salt.clone()));
    }

    #[test]
    fn an_md5_answer_is_the_same_from_the_password_and_from_what_is_stored() {
        let stored = postgres_protocol::password::md5(b"secret", "app");
        let answers = ["secret", &stored].map(|text| read(text).ok()?.md5("app", [1, 2, 0, 255]));
        assert!(answers[0].is_some());
        assert_eq!(answers[0], answers[1]);
    }

    #[test]
    fn a_mock_has_the_same_salt_for_the_same_name_only() {
        let secret = Key::new(aws_lc_rs::hmac::HMAC_SHA256, &[1; 32]);
        let salt = |name: &str| Scram::mock(&secret, name).salt.clone();
        assert_eq!(salt("a"), salt("a"));
        assert_ne!(salt("a"), salt("b"));
    }
}
