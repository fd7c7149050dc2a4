//! Who may do what: tokens and certificates, and the scope that each of them has.

mod config;
mod guest;

use std::fmt;

use serde::Deserialize;

pub use self::config::{CertificateConfig, ClientConfig, TokenConfig};
pub(crate) use self::guest::{Denied, Guest, Names};

/// What somebody may do. Who may operate may read as well.
///
/// ```
/// use herdsman_api::Scope;
/// assert!(Scope::Operate > Scope::Read);
/// assert_eq!(Scope::Read.to_string(), "read");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// See what may show rows.
    Read,
    /// Change something, or have servers work.
    Operate,
}

/// Somebody who is known: what a token or a certificate stands for.
///
/// It is shown as what goes into logs: `token deploy`, `certificate ops.example`. Never the token itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    by: Proof,
    /// What the configuration calls it.
    name: String,
    scope: Scope,
}

/// What somebody is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    Token,
    Certificate,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Operate => "operate",
        })
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.by {
            Proof::Token => "token",
            Proof::Certificate => "certificate",
        };
        write!(f, "{by} {}", self.name)
    }
}
