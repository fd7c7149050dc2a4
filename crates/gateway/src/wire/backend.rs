//! What servers say, and what we say in their place.

use super::{Malformed, cstr, message};

/// A login step.
pub const AUTHENTICATION: u8 = b'R';
/// Key for cancelling.
pub const BACKEND_KEY: u8 = b'K';
/// The value of a parameter.
pub const PARAMETER_STATUS: u8 = b'S';
/// Ready for the next command.
pub const READY: u8 = b'Z';
/// An error.
pub const ERROR: u8 = b'E';
/// A notice.
pub const NOTICE: u8 = b'N';
/// A notification.
pub const NOTIFICATION: u8 = b'A';
/// A row.
pub const DATA_ROW: u8 = b'D';
/// What rows look like.
pub const ROW_DESCRIPTION: u8 = b'T';
/// There will be no rows.
pub const NO_DATA: u8 = b'n';
/// A statement's parameter types.
pub const PARAMETER_DESCRIPTION: u8 = b't';
/// A statement is done.
pub const COMPLETE: u8 = b'C';
/// The text held no statement.
pub const EMPTY_QUERY: u8 = b'I';
/// A portal stopped at its row limit.
pub const SUSPENDED: u8 = b's';
/// A statement is prepared.
pub const PARSE_COMPLETE: u8 = b'1';
/// Values are bound.
pub const BIND_COMPLETE: u8 = b'2';
/// Something is closed.
pub const CLOSE_COMPLETE: u8 = b'3';
/// A function's result.
pub const FUNCTION_RESULT: u8 = b'V';
/// The server wants `COPY` data.
pub const COPY_IN: u8 = b'G';
/// The server will send `COPY` data.
pub const COPY_OUT: u8 = b'H';
/// `COPY` data both ways.
pub const COPY_BOTH: u8 = b'W';
/// A row of `COPY` data.
pub const COPY_DATA: u8 = b'd';
/// The end of `COPY` data.
pub const COPY_DONE: u8 = b'c';
/// Which protocol the server has.
pub const NEGOTIATE: u8 = b'v';

/// Where a session stands when it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// In no transaction.
    Idle,
    /// In a transaction.
    Transaction,
    /// In a transaction that has failed.
    Failed,
}

impl Status {
    /// The byte in `ReadyForQuery`.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::Transaction => b'T',
            Self::Failed => b'E',
        }
    }

    /// Reads the body of `ReadyForQuery`.
    ///
    /// # Errors
    /// [`Malformed`] for any other byte.
    pub const fn read(body: &[u8]) -> Result<Self, Malformed> {
        match body {
            [b'I', ..] => Ok(Self::Idle),
            [b'T', ..] => Ok(Self::Transaction),
            [b'E', ..] => Ok(Self::Failed),
            _ => Err(Malformed("a transaction status nobody knows")),
        }
    }
}

/// Reads the body of `ParameterStatus`: name and value.
///
/// # Errors
/// [`Malformed`] where it ends early.
pub fn parameter(body: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (name, rest) = cstr(body)?;
    Ok((name, cstr(rest)?.0))
}

/// Puts an error whose position counts `by` characters too many; `false`, and nothing, where it has none.
pub(crate) fn put_moved(out: &mut Vec<u8>, body: &[u8], by: usize) -> bool {
    let position = field(body, b'P').and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
    let Some(position) = position.filter(|_| by > 0) else { return false };
    let position: usize = position;
    crate::wire::message(out, ERROR, |out| {
        for part in body.split_inclusive(|byte| *byte == 0) {
            if part.first() == Some(&b'P') {
                out.push(b'P');
                out.extend_from_slice(position.saturating_sub(by).to_string().as_bytes());
                out.push(0);
            } else {
                out.extend_from_slice(part);
            }
        }
    });
    true
}

/// One field of the body of an error or notice, by its letter: `C` is the SQLSTATE, `M` the message, `S` the severity.
#[must_use]
pub fn field(mut body: &[u8], letter: u8) -> Option<&[u8]> {
    while let [kind, rest @ ..] = body {
        if *kind == 0 {
            return None;
        }
        let (text, after) = cstr(rest).ok()?;
        if *kind == letter {
            return Some(text);
        }
        body = after;
    }
    None
}

/// Appends `ReadyForQuery`.
pub fn put_ready(out: &mut Vec<u8>, status: Status) {
    out.extend_from_slice(&[READY, 0, 0, 0, 5, status.byte()]);
}

/// Appends a message that has no body: `ParseComplete`, `CloseComplete`, `NoData` …
pub fn put_empty(out: &mut Vec<u8>, tag: u8) {
    out.extend_from_slice(&[tag, 0, 0, 0, 4]);
}

/// Appends `CommandComplete`.
pub fn put_complete(out: &mut Vec<u8>, tag: &str) {
    message(out, COMPLETE, |out| {
        out.extend_from_slice(tag.as_bytes());
        out.push(0);
    });
}

/// Appends `ParameterStatus`.
pub fn put_parameter(out: &mut Vec<u8>, name: &str, value: &str) {
    message(out, PARAMETER_STATUS, |out| {
        out.extend_from_slice(name.as_bytes());
        out.push(0);
        out.extend_from_slice(value.as_bytes());
        out.push(0);
    });
}

/// Appends `BackendKeyData`.
pub fn put_backend_key(out: &mut Vec<u8>, process: i32, secret: &[u8]) {
    message(out, BACKEND_KEY, |out| {
        out.extend_from_slice(&process.to_be_bytes());
        out.extend_from_slice(secret);
    });
}

/// Appends the description of rows whose columns are all text.
pub fn put_text_columns(out: &mut Vec<u8>, names: &[&str]) {
    message(out, ROW_DESCRIPTION, |out| {
        out.extend_from_slice(&u16::try_from(names.len()).unwrap_or(u16::MAX).to_be_bytes());
        for name in names {
            out.extend_from_slice(name.as_bytes());
            out.push(0);
            // No table, no column; type text (25) of variable length (-1), no modifier (-1), as text (0).
            out.extend_from_slice(&0_i32.to_be_bytes());
            out.extend_from_slice(&0_i16.to_be_bytes());
            out.extend_from_slice(&25_i32.to_be_bytes());
            out.extend_from_slice(&(-1_i16).to_be_bytes());
            out.extend_from_slice(&(-1_i32).to_be_bytes());
            out.extend_from_slice(&0_i16.to_be_bytes());
        }
    });
}

/// Appends a row of texts; `None` is null.
pub fn put_text_row(out: &mut Vec<u8>, values: &[Option<&str>]) {
    message(out, DATA_ROW, |out| {
        out.extend_from_slice(&u16::try_from(values.len()).unwrap_or(u16::MAX).to_be_bytes());
        for value in values {
            match value {
                None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
                Some(text) => {
                    let len = i32::try_from(text.len()).unwrap_or(i32::MAX);
                    out.extend_from_slice(&len.to_be_bytes());
                    out.extend_from_slice(text.as_bytes());
                }
            }
        }
    });
}
