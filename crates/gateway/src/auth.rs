//! Who clients are, and who to be on the servers for them.
//!
//! Reading a start-up packet, the owner of the socket asks [`Users::find`] who the user is and begins a
//! [`Conversation`], which says what to send and takes what comes, without a socket or a clock:
//!
//! ```text
//! let user = users.find(name).await?;
//! let mut login = Conversation::new(&users, name, user.clone(), peer)?;
//! let mut step = login.start(&mut out);
//! loop { match step {
//!     Step::More => { send(&mut out); step = login.message(&read_p_message(LONGEST_MESSAGE), &mut out) }
//!     Step::Accepted => break,                       // `out` ends with AuthenticationOk; send it with what follows
//!     Step::Refused(problem) => { log(login.cause()); send(problem.put_fatal()); close() }
//! } }
//! let server_login = user.server_login();            // after the login: it has the keys that the client showed
//! ```
//!
//! A login costs no password hashing here: a plain password is made into a verifier once, and a client's proof is checked
//! with four hashes. The keys a SCRAM proof reveals log in on the servers where the verifier is the same as there.

mod conversation;
mod link;
mod lookup;
mod scram;
mod user;
mod userlist;
mod users;
mod verifier;

pub(crate) use conversation::{Conversation, LONGEST_MESSAGE, Peer, Step};
pub(crate) use herdsman_node::raw::Credential;
pub(crate) use link::Places;
pub(crate) use user::User;
pub(crate) use users::{Users, UsersError, names_of_file};

/// Who to be on a server: for `Conninfo::for_login(Some(&login.user), …)` and `connect_raw_as(…, &login.credential)`.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerLogin {
    /// The role; empty: the host's own.
    pub(crate) user: String,
    /// How to prove it. `None`: with what `hosts` has where the user is the same, or with nothing.
    pub(crate) credential: Credential,
}

/// Where a user is known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// `users` of the configuration.
    Config,
    /// `auth_file`.
    File,
    /// `auth_query`.
    Query,
    /// Nowhere: a gateway that knows no users and asks for no password lets anybody in from the loopback interface, or with
    /// a certificate.
    Nowhere,
}

#[cfg(test)]
mod servers;
