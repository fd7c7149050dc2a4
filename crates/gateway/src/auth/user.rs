//! One user.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use herdsman_node::raw::{Credential, ScramKeys};
use secrecy::SecretString;

use super::verifier::Verifier;
use super::{Origin, ServerLogin};
use crate::config::{AuthMethod, UserConfig};

/// A user: how a client proves to be one, and who it then is on the servers. Printing it shows no secret.
pub(crate) struct User {
    pub(crate) name: String,
    /// How a client proves to be this user. [`AuthMethod::Md5`] becomes SCRAM where only a SCRAM verifier is known.
    pub(crate) method: AuthMethod,
    /// Where it is known from.
    pub(crate) origin: Origin,
    pub(super) verifier: Option<Verifier>,
    server_user: Option<String>,
    server_password: Option<SecretString>,
    /// Keys that a client has shown.
    learnt: Mutex<Option<ScramKeys>>,
    /// A login has failed: what is known of the password may be out of date.
    doubted: AtomicBool,
}

impl User {
    /// A user as the file has it, with what is known of its password.
    pub(super) fn new(
        name: &str,
        config: &UserConfig,
        method: AuthMethod,
        verifier: Option<Verifier>,
        origin: Origin,
    ) -> Self {
        let password = config.server_password.as_ref();
        Self {
            name: name.to_owned(),
            method: config.auth.unwrap_or(method),
            origin,
            verifier,
            server_user: config.server_user.clone().filter(|user| !user.is_empty()),
            server_password: password.map(|secret| SecretString::from(secret.expose())),
            learnt: Mutex::new(None),
            doubted: AtomicBool::new(false),
        }
    }

    /// Who to be on the servers for this user. Complete once a client has logged in: then the keys it has shown are part of
    /// it, where nothing better is known.
    pub(crate) fn server_login(&self) -> ServerLogin {
        let user = self.server_user.as_ref().unwrap_or(&self.name).clone();
        ServerLogin { user, credential: self.credential() }
    }

    fn credential(&self) -> Credential {
        if let Some(password) = &self.server_password {
            return Credential::Password(password.clone());
        }
        // What a client of ours proved says nothing of somebody else.
        if self.server_user.as_ref().is_some_and(|user| *user != self.name) {
            return Credential::None;
        }
        match &self.verifier {
            // Whoever it is does not get the password that `hosts` has for the watcher.
            None if self.origin == Origin::Nowhere => Credential::Password("".into()),
            Some(Verifier::Plain(password, _)) => Credential::Password(password.clone()),
            Some(Verifier::Md5(stored)) => Credential::Md5(stored.clone()),
            Some(Verifier::Scram(_)) | None => {
                let learnt = self.learnt.lock().ok().and_then(|learnt| learnt.clone());
                learnt.map_or(Credential::None, Credential::Scram)
            }
        }
    }

    /// The password, where it is known: for what the gateway itself does as this user.
    pub(super) fn password(&self) -> Option<SecretString> {
        match &self.verifier {
            Some(Verifier::Plain(password, _)) => Some(password.clone()),
            _ => None,
        }
    }

    /// Keeps the keys that a client has shown.
    pub(super) fn learn(&self, keys: &ScramKeys) {
        if let Ok(mut learnt) = self.learnt.lock() {
            *learnt = Some(keys.clone());
        }
    }

    /// Takes over what another of the same name and password has learnt.
    pub(super) fn inherit(&self, from: &Self) {
        let (Some(own), Some(other)) = (&self.verifier, &from.verifier) else { return };
        if !own.is(other) {
            return;
        }
        own.inherit(other);
        let keys = from.learnt.lock().ok().and_then(|keys| keys.clone());
        if let (Some(keys), Ok(mut learnt)) = (keys, self.learnt.lock()) {
            learnt.get_or_insert(keys);
        }
    }

    /// Notes that a client had another password.
    pub(super) fn doubt(&self) {
        self.doubted.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .field("method", &self.method)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}
