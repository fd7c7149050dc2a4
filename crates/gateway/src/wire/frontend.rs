//! What clients say.

use super::{Malformed, cstr, message};

/// Simple query.
pub const QUERY: u8 = b'Q';
/// Prepares a statement.
pub const PARSE: u8 = b'P';
/// Binds values to a statement.
pub const BIND: u8 = b'B';
/// Asks what a statement or portal looks like.
pub const DESCRIBE: u8 = b'D';
/// Runs a portal.
pub const EXECUTE: u8 = b'E';
/// Closes a statement or portal.
pub const CLOSE: u8 = b'C';
/// Ends a sequence of extended messages.
pub const SYNC: u8 = b'S';
/// Asks for the answers so far.
pub const FLUSH: u8 = b'H';
/// Calls a function the old way.
pub const FUNCTION_CALL: u8 = b'F';
/// Data for a `COPY`.
pub const COPY_DATA: u8 = b'd';
/// The end of a `COPY`'s data.
pub const COPY_DONE: u8 = b'c';
/// The client gives up a `COPY`.
pub const COPY_FAIL: u8 = b'f';
/// Goodbye.
pub const TERMINATE: u8 = b'X';
/// A password or another step of a login.
pub const PASSWORD: u8 = b'p';

/// Sync, whole.
pub const SYNC_MESSAGE: [u8; 5] = [SYNC, 0, 0, 0, 4];

/// `Parse`, without its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parse<'a> {
    /// The statement's name; empty for the unnamed one.
    pub name: &'a [u8],
    /// Its text.
    pub query: &'a [u8],
    /// The number of parameter types and the types, as they came.
    pub types: &'a [u8],
}

/// `Bind`, without its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind<'a> {
    /// The portal's name; empty for the unnamed one.
    pub portal: &'a [u8],
    /// The statement's name.
    pub statement: &'a [u8],
    /// Formats and values, as they came.
    pub rest: &'a [u8],
}

/// The name in `Describe` and `Close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// A prepared statement.
    Statement(&'a [u8]),
    /// A portal.
    Portal(&'a [u8]),
}

/// Reads the body of `Parse`.
///
/// # Errors
/// [`Malformed`] where it ends early.
pub fn parse(body: &[u8]) -> Result<Parse<'_>, Malformed> {
    let (name, rest) = cstr(body)?;
    let (query, types) = cstr(rest)?;
    Ok(Parse { name, query, types })
}

/// Reads the body of `Bind`, or as much of it as holds the names.
///
/// # Errors
/// [`Malformed`] where it ends early.
pub fn bind(body: &[u8]) -> Result<Bind<'_>, Malformed> {
    let (portal, rest) = cstr(body)?;
    let (statement, rest) = cstr(rest)?;
    Ok(Bind { portal, statement, rest })
}

/// Reads the body of `Describe` or `Close`.
///
/// # Errors
/// [`Malformed`] where it ends early or names neither.
pub fn named(body: &[u8]) -> Result<Named<'_>, Malformed> {
    match body {
        [b'S', rest @ ..] => Ok(Named::Statement(cstr(rest)?.0)),
        [b'P', rest @ ..] => Ok(Named::Portal(cstr(rest)?.0)),
        _ => Err(Malformed("it names neither a statement nor a portal")),
    }
}

/// Reads the body of `Query`.
///
/// # Errors
/// [`Malformed`] where it does not end.
pub fn query(body: &[u8]) -> Result<&[u8], Malformed> {
    Ok(cstr(body)?.0)
}

/// Reads the portal's name in the body of `Execute`.
///
/// # Errors
/// [`Malformed`] where it ends early.
pub fn execute(body: &[u8]) -> Result<&[u8], Malformed> {
    Ok(cstr(body)?.0)
}

/// Appends a simple query.
pub fn put_query(out: &mut Vec<u8>, sql: &[u8]) {
    message(out, QUERY, |out| {
        out.extend_from_slice(sql);
        out.push(0);
    });
}

/// Appends a `Parse`; `types` with its count, as it came.
pub fn put_parse(out: &mut Vec<u8>, name: &[u8], query: &[u8], types: &[u8]) {
    message(out, PARSE, |out| {
        out.extend_from_slice(name);
        out.push(0);
        out.extend_from_slice(query);
        out.push(0);
        out.extend_from_slice(types);
    });
}

/// Appends a `Describe` or `Close` of a statement; `tag` says which.
pub fn put_statement(out: &mut Vec<u8>, tag: u8, name: &[u8]) {
    message(out, tag, |out| {
        out.push(b'S');
        out.extend_from_slice(name);
        out.push(0);
    });
}
