//! A request's token and certificate → what it may do.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use herdsman_node::certificate::{alternative_names, common_name};
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HeaderMap};

use super::{Caller, Proof, Scope};
use crate::{ApiConfig, Verb};

/// The names in a certificate that a client has shown, and that was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names(Vec<String>);

/// Somebody at the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guest {
    caller: Option<Caller>,
    /// The most that anybody may, by what is configured. `None`: there is nothing to show.
    most: Option<Scope>,
}

/// Why somebody may not do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// It shows nothing, or nothing that is known.
    Unknown { takes: Scope },
    /// What it shows stands for less.
    Narrow { caller: Caller, takes: Scope },
    /// There is nothing that could be shown.
    Closed { takes: Scope },
}

/// What the one token of `mesh.control` is called in the log.
const MESH_TOKEN: &str = "mesh.control";

impl Names {
    /// The names in a certificate in DER.
    pub(crate) fn of(certificate: &[u8]) -> Self {
        let mut names = alternative_names(certificate);
        names.extend(common_name(certificate));
        Self(names)
    }

    fn have(&self, name: &str) -> bool {
        self.0.iter().any(|known| known == name)
    }
}

impl Guest {
    /// Who sends these headers over a connection whose client has shown this certificate. `mesh_token` is the one of
    /// `mesh.control`, which may operate.
    pub(crate) fn of(
        headers: &HeaderMap,
        certificate: Option<&Names>,
        config: &ApiConfig,
        mesh_token: Option<&str>,
    ) -> Self {
        let configured = config.tokens.iter().filter_map(|known| {
            Some((known.name.as_str(), known.scope, known.token.as_ref()?.expose()))
        });
        let tokens = || {
            let mesh = mesh_token.map(|token| (MESH_TOKEN, Scope::Operate, token));
            mesh.into_iter().chain(configured.clone())
        };
        let most = tokens()
            .map(|(_, scope, _)| scope)
            .chain(config.certificates.iter().map(|known| known.scope))
            .max();
        let mut caller = None;
        if let Some(shown) = bearer(headers) {
            // All of them, so that the time tells nothing about which it is.
            for (name, scope, token) in tokens() {
                if same(token, shown) {
                    caller = better(caller, Proof::Token, name, scope);
                }
            }
        }
        if let Some(names) = certificate {
            for known in config.certificates.iter().filter(|known| names.have(&known.name)) {
                caller = better(caller, Proof::Certificate, &known.name, known.scope);
            }
        }
        Self { caller, most }
    }

    /// Goes on only with at least this scope; with who it is.
    pub(crate) fn require(&self, takes: Scope) -> Result<&Caller, Denied> {
        match &self.caller {
            Some(caller) if caller.scope >= takes => Ok(caller),
            _ if self.most < Some(takes) => Err(Denied::Closed { takes }),
            Some(caller) => Err(Denied::Narrow { caller: caller.clone(), takes }),
            None => Err(Denied::Unknown { takes }),
        }
    }
}

impl Guest {
    /// Goes on only with what a verb takes; with who it is, for the log.
    pub(crate) fn may(&self, verb: Verb) -> Result<String, Denied> {
        match verb.takes() {
            Some(takes) => self.require(takes).map(ToString::to_string),
            None => Ok(self.shown()),
        }
    }

    /// Who it is, for the log.
    pub(crate) fn shown(&self) -> String {
        self.caller.as_ref().map_or_else(|| "nobody known".to_owned(), ToString::to_string)
    }
}

impl Denied {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Unknown { .. } => StatusCode::UNAUTHORIZED,
            Self::Narrow { .. } | Self::Closed { .. } => StatusCode::FORBIDDEN,
        }
    }

    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "unauthorized",
            Self::Narrow { .. } => "scope_too_narrow",
            Self::Closed { .. } => "no_token_configured",
        }
    }

    /// What to say, and what to do about it.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Unknown { takes } => format!(
                "this takes a token of the scope `{takes}`: send `Authorization: Bearer TOKEN`, with one of `api.tokens` \
                 or that of `mesh.control`, or show a certificate of `api.certificates`"
            ),
            Self::Narrow { caller, takes } => format!(
                "this takes the scope `{takes}`, and {caller} has `{}`; use another, or widen it in the configuration",
                caller.scope
            ),
            Self::Closed { takes: Scope::Operate } => {
                "nobody may change anything through the API: configure a token of the scope `operate` under `api.tokens`, \
                 a certificate under `api.certificates`, or `mesh.control.token`, and reload"
                    .to_owned()
            }
            Self::Closed { takes: Scope::Read } => {
                "nobody may see this through the API: configure a token under `api.tokens`, a certificate under \
                 `api.certificates`, or `mesh.control.token`, and reload"
                    .to_owned()
            }
        }
    }

    /// The header `www-authenticate`, as RFC 6750 has it; where a token would not help there is none.
    pub(crate) fn challenge(&self) -> Option<&'static str> {
        match self {
            Self::Unknown { takes: Scope::Read } => Some("Bearer scope=\"read\""),
            Self::Unknown { takes: Scope::Operate } => Some("Bearer scope=\"operate\""),
            Self::Narrow { .. } => Some("Bearer error=\"insufficient_scope\", scope=\"operate\""),
            Self::Closed { .. } => None,
        }
    }
}

/// Whoever may more; who came first where both may the same.
fn better(caller: Option<Caller>, by: Proof, name: &str, scope: Scope) -> Option<Caller> {
    match caller {
        Some(caller) if caller.scope >= scope => Some(caller),
        _ => Some(Caller { by, name: name.to_owned(), scope }),
    }
}

/// The one token that is shown.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut shown = headers.get_all(AUTHORIZATION).iter();
    let (Some(shown), None) = (shown.next(), shown.next()) else { return None };
    let (scheme, shown) = shown.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(shown)
}

/// Neither the time it takes nor the length tells anything about the token.
fn same(ours: &str, shown: &[u8]) -> bool {
    let (ours, theirs) = (digest(&SHA256, ours.as_bytes()), digest(&SHA256, shown));
    verify_slices_are_equal(ours.as_ref(), theirs.as_ref()).is_ok()
}

#[cfg(test)]
mod tests;
