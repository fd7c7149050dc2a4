//! All users: those of the configuration, those of `auth_file`, and those the servers know.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::hmac::{HMAC_SHA256, Key};
use aws_lc_rs::rand;
use secrecy::SecretString;

use super::link::Places;
use super::lookup::Lookup;
use super::userlist::{self, LONGEST_NAME};
use super::verifier::Verifier;
use super::{Origin, User};
use crate::config::{AuthMethod, AuthQuery, GatewayConfig, UserConfig};
use crate::wire::Problem;

/// No `auth_file` is larger: some 200,000 users.
const LARGEST_FILE: u64 = 32 << 20;

/// All users. Shared by every client that logs in.
pub(crate) struct Users {
    listed: ArcSwap<Listed>,
    /// What the salts of names are made with that nobody has.
    secret: Key,
    lookup: Lookup,
}

/// What the configuration says.
struct Listed {
    users: HashMap<String, Arc<User>>,
    /// Users of the configuration as they stand there, for those whose password is looked up.
    config: BTreeMap<String, UserConfig>,
    method: AuthMethod,
    trust_loopback: bool,
    has_file: bool,
    query: Option<AuthQuery>,
}

/// The users cannot be read. Never holds a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsersError {
    /// The file cannot be read.
    #[error("failed to read `auth_file` {path}: {problem}")]
    File { path: PathBuf, problem: String },
    /// A line of it cannot.
    #[error("`auth_file` {path}, line {line}: {problem}, expected `\"user\" \"password\"`")]
    Line { path: PathBuf, line: usize, problem: String },
    /// A password in the configuration cannot be one.
    #[error("`gateway.users.{user}.password`: {problem}")]
    User { user: String, problem: &'static str },
    /// No secret can be made.
    #[error("failed to get random bytes from the system")]
    Random,
}

impl Users {
    /// Reads the users of the configuration and of its `auth_file`. `places` says where `auth_query` may be asked, now, the
    /// best first: the proven primary, then readers.
    ///
    /// # Errors
    /// [`UsersError`] says which line or key is wrong.
    pub(crate) fn new(config: &GatewayConfig, places: Places) -> Result<Self, UsersError> {
        let mut secret = [0; 32];
        rand::fill(&mut secret).map_err(|_| UsersError::Random)?;
        Ok(Self {
            listed: ArcSwap::from_pointee(Listed::read(config)?),
            secret: Key::new(HMAC_SHA256, &secret),
            lookup: Lookup::new(places),
        })
    }

    /// Reads them again. What clients have shown of their passwords is kept where the password has stayed.
    ///
    /// # Errors
    /// As [`Users::new`]; then everything stays as it was.
    pub(crate) fn reload(&self, config: &GatewayConfig) -> Result<(), UsersError> {
        let new = Listed::read(config)?;
        let old = self.listed.load();
        for (name, user) in &new.users {
            if let Some(before) = old.users.get(name) {
                user.inherit(before);
            }
        }
        self.listed.store(Arc::new(new));
        self.lookup.outdate();
        Ok(())
    }

    /// The user of this name, asked of the servers where the configuration and its file have no password for it.
    ///
    /// # Errors
    /// The servers cannot be asked. What is wrong with them is in the log only.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<Arc<User>>, Problem> {
        let listed = self.listed.load_full();
        let known = listed.users.get(name);
        if known.is_some_and(|user| user.verifier.is_some() || needs_no_password(user)) {
            return Ok(known.cloned());
        }
        let Some(query) = &listed.query else {
            return Ok(known.cloned().or_else(|| listed.anybody(name)));
        };
        if name.is_empty() || name.len() > LONGEST_NAME {
            return Ok(None);
        }
        let as_user = |verifier| {
            let nothing = UserConfig::default();
            let config = listed.config.get(name).unwrap_or(&nothing);
            User::new(name, config, listed.method, verifier, Origin::Query)
        };
        match self.lookup.find(name, query, listed.password_of(query), as_user).await {
            Ok(Some(user)) => Ok(Some(user)),
            Ok(None) => Ok(known.cloned()),
            // On the loopback interface it may need no password.
            Err(_) if known.is_some() && listed.trust_loopback => Ok(known.cloned()),
            Err(problem) => Err(problem),
        }
    }

    /// Whether there is a server that could be asked.
    pub(crate) fn can_ask(&self) -> bool {
        self.lookup.has_places()
    }

    /// The user of this name as far as it is known without asking a server: for the admin database, and for reloads.
    pub(crate) fn known(&self, name: &str) -> Option<Arc<User>> {
        let listed = self.listed.load();
        let user = listed.users.get(name);
        match user {
            Some(user) if user.verifier.is_some() => Some(Arc::clone(user)),
            _ => self.lookup.known(name).or_else(|| user.cloned()),
        }
    }

    /// The user of this name if the configuration or its file have it: for the admin database, which nobody gets into whom
    /// only the servers know.
    pub(crate) fn listed(&self, name: &str) -> Option<Arc<User>> {
        self.listed.load().users.get(name).cloned()
    }

    pub(super) fn method(&self) -> AuthMethod {
        self.listed.load().method
    }

    pub(super) fn trusts_loopback(&self) -> bool {
        self.listed.load().trust_loopback
    }

    pub(super) fn secret(&self) -> &Key {
        &self.secret
    }
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Users({})", self.listed.load().users.len())
    }
}

fn needs_no_password(user: &User) -> bool {
    matches!(user.method, AuthMethod::Cert | AuthMethod::Trust)
}

impl Listed {
    fn read(config: &GatewayConfig) -> Result<Self, UsersError> {
        let mut secrets = match &config.auth_file {
            Some(path) => from_file(path)?,
            None => HashMap::new(),
        };
        let mut users = HashMap::new();
        for (name, user) in &config.users {
            let wrong = |problem| UsersError::User { user: name.clone(), problem };
            let own = user.password.as_ref().map(|secret| SecretString::from(secret.expose()));
            let own = own.as_ref().map(Verifier::read).transpose().map_err(wrong)?;
            // The file has the password of a user that the configuration says other things of.
            let verifier = match (own, secrets.remove(name)) {
                (Some(own), _) => Some(own),
                (None, listed) => listed.flatten(),
            };
            let user = User::new(name, user, config.auth, verifier, Origin::Config);
            users.insert(name.clone(), Arc::new(user));
        }
        for (name, verifier) in secrets {
            let plain = UserConfig::default();
            let user = User::new(&name, &plain, config.auth, verifier, Origin::File);
            users.insert(name, Arc::new(user));
        }
        Ok(Self {
            users,
            config: config.users.clone(),
            method: config.auth,
            trust_loopback: config.trust_loopback,
            has_file: config.auth_file.is_some(),
            query: config.auth_query.clone(),
        })
    }

    /// Anybody, where nobody is known and no password is asked for: a certificate or the loopback interface is enough.
    fn anybody(&self, name: &str) -> Option<Arc<User>> {
        let unasked =
            self.trust_loopback || matches!(self.method, AuthMethod::Cert | AuthMethod::Trust);
        let open = unasked && self.users.is_empty() && !self.has_file && !name.is_empty();
        let nothing = UserConfig::default();
        open.then(|| Arc::new(User::new(name, &nothing, self.method, None, Origin::Nowhere)))
    }

    /// The password of who asks the servers: its own, or that of the user it is.
    fn password_of(&self, query: &AuthQuery) -> Option<SecretString> {
        let own = query.password.as_ref().map(|secret| SecretString::from(secret.expose()));
        own.or_else(|| self.users.get(&query.user)?.password())
    }
}

/// The names in a `userlist.txt`, sorted.
///
/// # Errors
/// It cannot be read, or a line of it cannot; shows nothing of the line.
pub(crate) fn names_of_file(path: &Path) -> Result<Vec<String>, UsersError> {
    let mut names: Vec<_> = from_file(path)?.into_keys().collect();
    names.sort();
    Ok(names)
}

/// The users of the file; without a verifier where the password is empty, which lets nobody in.
fn from_file(path: &Path) -> Result<HashMap<String, Option<Verifier>>, UsersError> {
    let failed = |problem| UsersError::File { path: path.to_owned(), problem };
    let size = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if size > LARGEST_FILE {
        return Err(failed(format!("it has {size} bytes, and at most {LARGEST_FILE} are read")));
    }
    let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let text = SecretString::from(
        String::from_utf8(bytes).map_err(|_| failed("it is not UTF-8 text".to_owned()))?,
    );
    let wrong = |line, problem| UsersError::Line { path: path.to_owned(), line, problem };
    let entries = userlist::read(secrecy::ExposeSecret::expose_secret(&text))
        .map_err(|broken| wrong(broken.line, broken.problem.to_owned()))?;
    let mut users = HashMap::new();
    let mut lines = HashMap::new();
    for entry in entries {
        if let Some(first) = lines.insert(entry.name.clone(), entry.line) {
            let problem = format!("`{}` stands in line {first} already", entry.name);
            return Err(wrong(entry.line, problem));
        }
        let empty = secrecy::ExposeSecret::expose_secret(&entry.secret).is_empty();
        let verifier = (!empty).then(|| Verifier::read(&entry.secret)).transpose();
        let verifier = verifier.map_err(|problem| wrong(entry.line, problem.to_owned()))?;
        users.insert(entry.name, verifier);
    }
    Ok(users)
}

#[cfg(test)]
mod tests;
