//! Errors that the gateway itself gives to a client.

use std::borrow::Cow;

use super::backend;
use super::message;

/// An error for a client: what failed, on which node, and what to do. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// SQLSTATE.
    pub code: &'static str,
    /// What failed.
    pub message: Cow<'static, str>,
    /// More about it.
    pub detail: Option<String>,
    /// What to do.
    pub hint: Option<Cow<'static, str>>,
}

/// The SQLSTATEs the gateway uses.
pub mod code {
    /// `08006`: a connection to a server broke before anything was sent that could have an effect.
    pub const CONNECTION_FAILURE: &str = "08006";
    /// `08007`: what was sent may or may not have been done.
    pub const OUTCOME_UNKNOWN: &str = "08007";
    /// `08P01`: the client does not speak the protocol.
    pub const PROTOCOL_VIOLATION: &str = "08P01";
    /// `0A000`: the gateway does not do this.
    pub const NOT_SUPPORTED: &str = "0A000";
    /// `25P02`: the transaction has failed; only its end is accepted.
    pub const FAILED_TRANSACTION: &str = "25P02";
    /// `26000`: there is no such prepared statement.
    pub const NO_STATEMENT: &str = "26000";
    /// `28000`: who this is may not log in.
    pub const NOT_AUTHORISED: &str = "28000";
    /// `28P01`: the password is wrong.
    pub const WRONG_PASSWORD: &str = "28P01";
    /// `3D000`: there is no such database.
    pub const NO_DATABASE: &str = "3D000";
    /// `40001`: the transaction did not happen and may be tried again.
    pub const TRY_AGAIN: &str = "40001";
    /// `42P05`: there is such a prepared statement already.
    pub const STATEMENT_EXISTS: &str = "42P05";
    /// `42601`: a command that cannot be read.
    pub const SYNTAX: &str = "42601";
    /// `53300`: too many connections.
    pub const TOO_MANY: &str = "53300";
    /// `57014`: cancelled.
    pub const CANCELLED: &str = "57014";
    /// `57P01`: the gateway is shutting down, or an operator ended this.
    pub const SHUTDOWN: &str = "57P01";
    /// `57P03`: nobody can do this now.
    pub const CANNOT_CONNECT_NOW: &str = "57P03";
    /// `57P05`: idle for too long.
    pub const IDLE_TOO_LONG: &str = "57P05";
    /// `58000`: something in the system failed.
    pub const SYSTEM: &str = "58000";
}

impl Problem {
    /// An error without details.
    // Cold, as all of these: what leads to them is kept apart from what runs for every statement.
    #[cold]
    #[must_use]
    pub fn new(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), detail: None, hint: None }
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds more about it.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Appends it as an error after which the session goes on.
    pub fn put(&self, out: &mut Vec<u8>) {
        self.put_as(out, "ERROR");
    }

    /// Appends it as an error that ends the session.
    pub fn put_fatal(&self, out: &mut Vec<u8>) {
        self.put_as(out, "FATAL");
    }

    fn put_as(&self, out: &mut Vec<u8>, severity: &str) {
        message(out, backend::ERROR, |out| {
            let mut field = |letter: u8, text: &str| {
                out.push(letter);
                // A zero byte would end the field early.
                out.extend(text.bytes().filter(|&byte| byte != 0));
                out.push(0);
            };
            field(b'S', severity);
            field(b'V', severity);
            field(b'C', self.code);
            field(b'M', &self.message);
            if let Some(detail) = &self.detail {
                field(b'D', detail);
            }
            if let Some(hint) = &self.hint {
                field(b'H', hint);
            }
            out.push(0);
        });
    }
}
