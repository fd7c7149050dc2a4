//! What a login is proved with.

use std::fmt;

use secrecy::SecretString;
use secrecy::zeroize::Zeroize as _;

/// What to prove a login with. Printing it shows which kind it is and nothing more.
#[derive(Clone, Default)]
pub enum Credential {
    /// The password of the [`Conninfo`](crate::Conninfo), if it has one.
    #[default]
    None,
    /// This password.
    Password(SecretString),
    /// What the server stores for an md5 password, `md5` and 32 digits: as good as the password where the server asks for
    /// md5, and useless elsewhere.
    Md5(SecretString),
    /// SCRAM keys: as good as the password where the server's verifier has the salt and iterations they were made with.
    Scram(ScramKeys),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "Credential::None",
            Self::Password(_) => "Credential::Password(…)",
            Self::Md5(_) => "Credential::Md5(…)",
            Self::Scram(_) => "Credential::Scram(…)",
        })
    }
}

/// SCRAM keys that stand for a password: what somebody who saw a login learns, and what is enough for another.
///
/// Printing them shows nothing, and dropping them wipes them.
#[derive(Clone)]
pub struct ScramKeys {
    /// `ClientKey`.
    pub client: [u8; 32],
    /// `ServerKey`.
    pub server: [u8; 32],
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramKeys(…)")
    }
}

impl Drop for ScramKeys {
    fn drop(&mut self) {
        self.client.zeroize();
        self.server.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printing_a_credential_shows_nothing_of_it() {
        let keys = ScramKeys { client: [77; 32], server: [78; 32] };
        for credential in [
            Credential::Password("secret".into()),
            Credential::Md5("md5secret".into()),
            Credential::Scram(keys),
        ] {
            let text = format!("{credential:?}");
            assert!(!text.contains("secret") && !text.contains("77"), "{text}");
            assert!(text.ends_with("(…)"), "{text}");
        }
    }
}
