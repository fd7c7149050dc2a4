//! The extended protocol: statements, portals, and what they look like.

use std::collections::HashMap;
use std::fmt;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Console, Engine, utf8};
use crate::admin::command::{self, Command};
use crate::admin::reply::{Formats, Row, put_columns};
use crate::wire::error::code;
use crate::wire::frontend::Named;
use crate::wire::{Malformed, Problem, backend, cstr, frontend, message};

/// Statements, and portals, that one client may keep.
const MOST: usize = 200;

/// What a client has prepared.
#[derive(Debug, Default)]
pub(super) struct Extended {
    /// Without a command: an empty text.
    statements: HashMap<Vec<u8>, Option<Command>>,
    portals: HashMap<Vec<u8>, Portal>,
    /// Everything up to the next `Sync` is left out.
    failed: bool,
}

struct Portal {
    command: Option<Command>,
    formats: Formats,
    /// What has not been fetched, once it was begun.
    rows: Option<Box<dyn Iterator<Item = Row> + Send>>,
}

impl fmt::Debug for Portal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Portal").field("command", &self.command).finish_non_exhaustive()
    }
}

impl Extended {
    pub(super) fn failed(&self) -> bool {
        self.failed
    }

    pub(super) fn fail(&mut self) {
        self.failed = true;
    }

    pub(super) fn recover(&mut self) {
        self.failed = false;
        // Portals live as long as the transaction, and there are none here.
        self.portals.clear();
    }

    fn parse(&mut self, body: &[u8]) -> Result<(), Problem> {
        let parse = frontend::parse(body).map_err(malformed)?;
        let mut commands = command::parse(utf8(parse.query)?)?;
        if commands.len() > 1 {
            return Err(Problem::new(code::SYNTAX, "a prepared statement holds one command"));
        }
        if !parse.name.is_empty() && self.statements.contains_key(parse.name) {
            return Err(Problem::new(
                code::STATEMENT_EXISTS,
                "there is a statement of this name already",
            ));
        }
        room(self.statements.len(), "prepared statements")?;
        self.statements.insert(parse.name.to_vec(), commands.pop());
        Ok(())
    }

    fn bind(&mut self, body: &[u8]) -> Result<(), Problem> {
        let bind = frontend::bind(body).map_err(malformed)?;
        let command = self.statement(bind.statement)?.clone();
        let formats = result_formats(bind.rest)?;
        room(self.portals.len(), "portals")?;
        self.portals.insert(bind.portal.to_vec(), Portal { command, formats, rows: None });
        Ok(())
    }

    fn statement(&self, name: &[u8]) -> Result<&Option<Command>, Problem> {
        let missing =
            || Problem::new(code::NO_STATEMENT, "there is no prepared statement of this name");
        self.statements.get(name).ok_or_else(missing)
    }

    fn close(&mut self, body: &[u8]) -> Result<(), Problem> {
        match frontend::named(body).map_err(malformed)? {
            Named::Statement(name) => drop(self.statements.remove(name)),
            Named::Portal(name) => drop(self.portals.remove(name)),
        }
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send, E: Engine> Console<S, E> {
    /// One message of the extended protocol.
    pub(super) async fn step(&mut self, tag: u8, body: &[u8]) -> io::Result<Result<(), Problem>> {
        let (done, answer) = match tag {
            frontend::PARSE => (self.extended.parse(body), backend::PARSE_COMPLETE),
            frontend::BIND => (self.extended.bind(body), backend::BIND_COMPLETE),
            frontend::CLOSE => (self.extended.close(body), backend::CLOSE_COMPLETE),
            frontend::DESCRIBE => return Ok(self.describe(body)),
            _ => return self.execute(body).await,
        };
        if done.is_ok() {
            backend::put_empty(&mut self.out, answer);
        }
        Ok(done)
    }

    fn describe(&mut self, body: &[u8]) -> Result<(), Problem> {
        let plain = Formats::default();
        let (command, formats) = match frontend::named(body).map_err(malformed)? {
            Named::Statement(name) => {
                let command = self.extended.statement(name)?;
                message(&mut self.out, backend::PARAMETER_DESCRIPTION, |out| {
                    out.extend_from_slice(&[0, 0]);
                });
                (command, &plain)
            }
            Named::Portal(name) => {
                let portal = self.extended.portals.get(name).ok_or_else(no_portal)?;
                (&portal.command, &portal.formats)
            }
        };
        match command {
            Some(Command::Show(show)) => {
                put_columns(&mut self.out, self.engine.columns(*show), formats);
            }
            _ => backend::put_empty(&mut self.out, backend::NO_DATA),
        }
        Ok(())
    }

    async fn execute(&mut self, body: &[u8]) -> io::Result<Result<(), Problem>> {
        let (name, most) = match execute(body) {
            Ok(read) => read,
            Err(problem) => return Ok(Err(problem)),
        };
        let Some(mut portal) = self.extended.portals.remove(name) else {
            return Ok(Err(no_portal()));
        };
        let Some(command) = portal.command.clone() else {
            backend::put_empty(&mut self.out, backend::EMPTY_QUERY);
            return Ok(Ok(()));
        };
        if let Err(problem) = self.engine.rights().allow(&command) {
            return Ok(Err(problem));
        }
        let Command::Show(show) = command else {
            let done = self.act(command).await?;
            return Ok(done.map(|tag| backend::put_complete(&mut self.out, tag)));
        };
        let mut rows = portal.rows.take().unwrap_or_else(|| self.engine.show(show).rows).peekable();
        self.rows(&mut rows, &portal.formats, most).await?;
        if rows.peek().is_some() {
            backend::put_empty(&mut self.out, backend::SUSPENDED);
            portal.rows = Some(Box::new(rows));
        } else {
            backend::put_complete(&mut self.out, "SHOW");
            portal.rows = Some(Box::new(std::iter::empty()));
        }
        self.extended.portals.insert(name.to_vec(), portal);
        Ok(Ok(()))
    }
}

/// The portal's name and the most rows wanted.
fn execute(body: &[u8]) -> Result<(&[u8], u32), Problem> {
    let (name, rest) = cstr(body).map_err(malformed)?;
    let [a, b, c, d] = *rest else { return Err(malformed(Malformed("it ends early"))) };
    // Zero, and what libpq would call negative, mean all.
    let most = u32::try_from(i32::from_be_bytes([a, b, c, d])).ok().filter(|most| *most > 0);
    Ok((name, most.unwrap_or(u32::MAX)))
}

/// The formats of the results in what follows the names in `Bind`. There are no parameters here.
fn result_formats(rest: &[u8]) -> Result<Formats, Problem> {
    let (_, rest) = shorts(rest)?;
    let (parameters, rest) =
        rest.split_first_chunk().ok_or_else(|| malformed(Malformed("it ends early")))?;
    if u16::from_be_bytes(*parameters) != 0 {
        return Err(Problem::new(
            code::PROTOCOL_VIOLATION,
            "commands of the admin database have no parameters",
        ));
    }
    let (formats, _) = shorts(rest)?;
    if formats.iter().any(|format| !(0..=1).contains(format)) {
        return Err(malformed(Malformed("a format that is neither text nor binary")));
    }
    Ok(Formats(formats))
}

/// A count of two bytes and as many numbers of two bytes, and what follows them.
fn shorts(bytes: &[u8]) -> Result<(Vec<i16>, &[u8]), Problem> {
    let early = || malformed(Malformed("it ends early"));
    let (count, rest) = bytes.split_first_chunk().ok_or_else(early)?;
    let length = usize::from(u16::from_be_bytes(*count)) * 2;
    let (numbers, rest) = rest.split_at_checked(length).ok_or_else(early)?;
    let number = |pair: &[u8]| pair.try_into().map_or(0, i16::from_be_bytes);
    Ok((numbers.chunks_exact(2).map(number).collect(), rest))
}

fn room(kept: usize, what: &str) -> Result<(), Problem> {
    if kept < MOST {
        return Ok(());
    }
    Err(Problem::new(code::TOO_MANY, format!("no more than {MOST} {what} are kept here"))
        .hint("close some"))
}

fn malformed(problem: Malformed) -> Problem {
    Problem::new(code::PROTOCOL_VIOLATION, problem.to_string())
}

fn no_portal() -> Problem {
    Problem::new("34000", "there is no portal of this name")
}
