//! The login of one client: what it says in, what we answer out. No I/O and no clock.
//!
//! A name that nobody has and a name with another method's verifier go through the same steps as a wrong password, to the
//! same words, so that names cannot be found out by trying. Only [`Conversation::cause`], which is for the log, tells them
//! apart.

use std::sync::Arc;

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use herdsman_node::certificate::common_name;

use super::scram::{Exchange, Outcome};
use super::verifier::{Scram, Verifier, same};
use super::{User, Users};
use crate::config::AuthMethod;
use crate::wire::error::code;
use crate::wire::{Malformed, Problem, backend, cstr, message};

/// No message of a login is longer, without its header; whoever reads it refuses a longer one by its length.
pub(crate) const LONGEST_MESSAGE: usize = 2048;

const SCRAM: &str = "SCRAM-SHA-256";
const SCRAM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// The connection a client logs in over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    /// A unix socket, or both ends on the loopback interface; by the PROXY header's addresses where there is one.
    pub(crate) local: bool,
    /// `tls-server-end-point`: the hash of our own certificate. `None` without TLS, or where it has no such hash.
    pub(crate) binding: Option<Vec<u8>>,
    /// The client's own certificate in DER, if it showed one and TLS has verified it against `client_ca`.
    pub(crate) certificate: Option<Vec<u8>>,
}

/// What becomes of a login.
#[derive(Debug)]
pub(crate) enum Step {
    /// Send what was written, and wait for the next `p` message.
    More,
    /// Send what was written, which ends with `AuthenticationOk`. The keys that a SCRAM login has shown are the user's now:
    /// see [`User::server_login`].
    Accepted,
    /// Send this as a fatal error and close.
    Refused(Problem),
}

/// The login of one client.
pub(crate) struct Conversation {
    name: String,
    user: Option<Arc<User>>,
    state: State,
    /// Why it is bound to fail, or has failed.
    cause: Option<&'static str>,
}

enum State {
    /// Before the first message.
    New { kind: Kind, peer: Peer },
    /// The client has to choose a SCRAM mechanism.
    Mechanism { scram: Exchange, plus: bool },
    /// The client has chosen, and its first message is still to come.
    First { scram: Exchange, plus: bool },
    /// The client has to prove that it knows the password.
    Proof { scram: Exchange },
    /// The client has to send this digest. `None`: nothing is right.
    Digest { expected: Option<String> },
    /// Over.
    Done,
}

/// What will be asked.
enum Kind {
    Trust,
    Certificate,
    Scram { verifier: Scram, nonce: String },
    Md5 { salt: [u8; 4] },
    Never,
}

impl Conversation {
    /// Begins the login of a client as `name`, who is `user` if [`Users::find`] knows one.
    ///
    /// # Errors
    /// The system has no randomness.
    pub(crate) fn new(
        users: &Users,
        name: &str,
        user: Option<Arc<User>>,
        peer: Peer,
    ) -> Result<Self, Problem> {
        let mut random = [0; 22];
        if rand::fill(&mut random).is_err() {
            return Err(Problem::new(code::SYSTEM, "there is no randomness for a login"));
        }
        let ([a, b, c, d, ..], (_, nonce)) = (random, random.split_at(4));
        let seed = Seed { salt: [a, b, c, d], nonce: STANDARD.encode(nonce) };
        Ok(Self::seeded(users, name, user, peer, seed))
    }

    fn seeded(users: &Users, name: &str, user: Option<Arc<User>>, peer: Peer, seed: Seed) -> Self {
        let (kind, cause) = kind(users, name, user.as_deref(), peer.local, seed);
        Self { name: name.to_owned(), user, state: State::New { kind, peer }, cause }
    }

    /// Why the login fails, for the log and never for the client. `None` while nothing is wrong.
    pub(crate) fn cause(&self) -> Option<&'static str> {
        self.cause
    }

    /// The first message to the client. Some methods are over at once.
    pub(crate) fn start(&mut self, out: &mut Vec<u8>) -> Step {
        match std::mem::replace(&mut self.state, State::Done) {
            State::New { kind: Kind::Trust, .. } => {
                put(out, 0, |_| {});
                Step::Accepted
            }
            State::New { kind: Kind::Certificate, peer } => self.certificate(&peer, out),
            State::New { kind: Kind::Scram { verifier, nonce }, peer } => {
                let plus = peer.binding.is_some();
                put(out, 10, |out| {
                    for mechanism in [SCRAM_PLUS, SCRAM].iter().skip(usize::from(!plus)) {
                        out.extend_from_slice(mechanism.as_bytes());
                        out.push(0);
                    }
                    out.push(0);
                });
                let scram = Exchange::new(verifier, peer.binding, nonce);
                self.state = State::Mechanism { scram, plus };
                Step::More
            }
            State::New { kind: Kind::Md5 { salt }, .. } => {
                put(out, 5, |out| out.extend_from_slice(&salt));
                let verifier = self.user.as_ref().and_then(|user| user.verifier.as_ref());
                let expected = verifier.and_then(|verifier| verifier.md5(&self.name, salt));
                self.state = State::Digest { expected };
                Step::More
            }
            State::New { kind: Kind::Never, .. } => self.wrong(),
            _ => self.malformed(Malformed("the login has begun already")),
        }
    }

    /// The body of a `p` message of the client.
    pub(crate) fn message(&mut self, body: &[u8], out: &mut Vec<u8>) -> Step {
        if body.len() > LONGEST_MESSAGE {
            self.state = State::Done;
            return self.malformed(Malformed("a message of a login is too long"));
        }
        let step = match std::mem::replace(&mut self.state, State::Done) {
            State::Mechanism { scram, plus } => self.mechanism(scram, plus, body, out),
            State::First { scram, plus } => self.challenge(scram, plus, body, out),
            State::Proof { scram } => self.proof(scram, body, out),
            State::Digest { expected } => self.digest(expected.as_deref(), body, out),
            State::New { .. } | State::Done => Err(Malformed("nothing is to be said now")),
        };
        step.unwrap_or_else(|error| self.malformed(error))
    }

    fn mechanism(
        &mut self,
        scram: Exchange,
        offered: bool,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Step, Malformed> {
        let (mechanism, rest) = cstr(body)?;
        let plus = mechanism == SCRAM_PLUS.as_bytes();
        if (plus && !offered) || (!plus && mechanism != SCRAM.as_bytes()) {
            return Err(Malformed("the client wants a login that is not offered"));
        }
        let (length, response) =
            rest.split_at_checked(4).ok_or(Malformed("a SCRAM login ends early"))?;
        let length = length.try_into().map(i32::from_be_bytes);
        match length {
            // Nothing yet: it wants to be asked first.
            Ok(-1) if response.is_empty() => {
                put(out, 11, |_| {});
                self.state = State::First { scram, plus };
                Ok(Step::More)
            }
            Ok(length) if usize::try_from(length) == Ok(response.len()) => {
                self.challenge(scram, plus, response, out)
            }
            _ => Err(Malformed("a SCRAM login has another length than it says")),
        }
    }

    fn challenge(
        &mut self,
        mut scram: Exchange,
        plus: bool,
        response: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Step, Malformed> {
        let challenge = scram.begin(plus, response)?;
        put(out, 11, |out| out.extend_from_slice(challenge.as_bytes()));
        self.state = State::Proof { scram };
        Ok(Step::More)
    }

    fn proof(
        &mut self,
        mut scram: Exchange,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Step, Malformed> {
        match (scram.finish(body)?, &self.user, self.cause) {
            (Outcome::Proven(last, keys), Some(user), None) => {
                user.learn(&keys);
                put(out, 12, |out| out.extend_from_slice(last.as_bytes()));
                put(out, 0, |_| {});
                Ok(Step::Accepted)
            }
            _ => Ok(self.wrong()),
        }
    }

    fn digest(
        &mut self,
        expected: Option<&str>,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Step, Malformed> {
        let (sent, []) = cstr(body)? else {
            return Err(Malformed("something follows a password"));
        };
        match expected {
            Some(expected) if same(sent, expected.as_bytes()) && self.cause.is_none() => {
                put(out, 0, |_| {});
                Ok(Step::Accepted)
            }
            _ => Ok(self.wrong()),
        }
    }

    fn certificate(&mut self, peer: &Peer, out: &mut Vec<u8>) -> Step {
        let shown = peer.certificate.as_deref().map(common_name);
        self.cause = self.cause.or(match &shown {
            None => Some("the client has shown no certificate"),
            Some(name) if name.as_ref() != Some(&self.name) => {
                Some("the common name of the client's certificate is not the user")
            }
            Some(_) => None,
        });
        if self.cause.is_none() {
            put(out, 0, |_| {});
            return Step::Accepted;
        }
        let message = format!("certificate authentication failed for user \"{}\"", self.name);
        Step::Refused(Problem::new(code::NOT_AUTHORISED, message))
    }

    fn wrong(&mut self) -> Step {
        if self.cause.is_none() {
            if let Some(user) = &self.user {
                user.doubt();
            }
            self.cause = Some("the password is wrong");
        }
        let message = format!("password authentication failed for user \"{}\"", self.name);
        Step::Refused(Problem::new(code::WRONG_PASSWORD, message))
    }

    fn malformed(&mut self, error: Malformed) -> Step {
        self.cause = self.cause.or(Some(error.0));
        let problem = Problem::new(code::PROTOCOL_VIOLATION, "malformed message in a login");
        Step::Refused(problem.detail(error.0))
    }
}

/// What is random in one login.
struct Seed {
    salt: [u8; 4],
    nonce: String,
}

/// What will be asked of a client, and why it will be in vain.
fn kind(
    users: &Users,
    name: &str,
    user: Option<&User>,
    local: bool,
    seed: Seed,
) -> (Kind, Option<&'static str>) {
    const UNKNOWN: &str = "there is no such user";
    const NO_PASSWORD: &str = "the user has no password";
    let method = user.map_or_else(|| users.method(), |user| user.method);
    if local && user.is_some() && (users.trusts_loopback() || method == AuthMethod::Trust) {
        return (Kind::Trust, None);
    }
    let verifier = user.and_then(|user| user.verifier.as_ref());
    let mut cause = match (user, verifier) {
        (None, _) => Some(UNKNOWN),
        (Some(_), None) => Some(NO_PASSWORD),
        _ => None,
    };
    match (method, verifier) {
        (AuthMethod::Cert, _) => (Kind::Certificate, cause.filter(|&cause| cause == UNKNOWN)),
        (AuthMethod::Trust, _) => (
            Kind::Never,
            cause.filter(|&cause| cause == UNKNOWN).or(Some("`trust` is for loopback only")),
        ),
        (AuthMethod::Md5, None | Some(Verifier::Plain(..) | Verifier::Md5(_))) => {
            (Kind::Md5 { salt: seed.salt }, cause)
        }
        (AuthMethod::Scram | AuthMethod::Md5, _) => {
            let known = verifier.and_then(Verifier::scram);
            if known.is_none() {
                cause = cause.or(Some("only an md5 verifier is known and the method is `scram`"));
            }
            let verifier = known.cloned().unwrap_or_else(|| Scram::mock(users.secret(), name));
            (Kind::Scram { verifier, nonce: seed.nonce }, cause)
        }
    }
}

/// Appends an authentication message of this kind.
fn put(out: &mut Vec<u8>, kind: i32, rest: impl FnOnce(&mut Vec<u8>)) {
    message(out, backend::AUTHENTICATION, |out| {
        out.extend_from_slice(&kind.to_be_bytes());
        rest(out);
    });
}

#[cfg(test)]
mod tests;
