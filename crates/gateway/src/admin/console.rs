//! The protocol of the admin database, simple and extended, over any stream.

mod extended;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::ops::ControlFlow;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::command::{self, Command, Show};
use super::reply::{Column, Formats, Row, Table, put_columns, put_notice, put_row};
use super::rights::Rights;
use crate::wire::backend::{self, Status};
use crate::wire::error::code;
use crate::wire::{HEADER, Problem, frontend, header};
use extended::Extended;

/// No command is longer; nor is what a client may send ahead while one is carried out.
const LONGEST: usize = 64 * 1024;
/// Rows are sent, and others get a turn, after so many.
const ROWS_AT_ONCE: u32 = 200;

/// What the console is a console of.
pub(super) trait Engine: Send + Sync {
    /// What the client may do, by the configuration of now.
    fn rights(&self) -> Rights;

    fn columns(&self, show: Show) -> &'static [Column];

    fn show(&self, show: Show) -> Table;

    /// Carries out a command other than `SHOW`; gives the tag that says so.
    fn act(
        &self,
        command: Command,
        notices: mpsc::Sender<String>,
    ) -> impl Future<Output = Result<&'static str, Problem>> + Send;

    /// Ends when the client has to leave, with the reason. While a command is carried out, `busy`, only for what cannot
    /// wait.
    fn leave(&self, busy: bool) -> impl Future<Output = Problem> + Send;

    /// Ends when the client asks to cancel what is carried out.
    fn cancelled(&self) -> impl Future<Output = ()> + Send;
}

/// One client of the admin database.
pub(super) struct Console<S, E> {
    stream: S,
    engine: E,
    unread: BytesMut,
    out: Vec<u8>,
    status: Status,
    extended: Extended,
}

/// Why a session ended early.
type Ended = ControlFlow<()>;

impl<S: AsyncRead + AsyncWrite + Unpin + Send, E: Engine> Console<S, E> {
    pub(super) fn new(stream: S, unread: BytesMut, engine: E) -> Self {
        let extended = Extended::default();
        Self { stream, engine, unread, out: Vec::new(), status: Status::Idle, extended }
    }

    /// Serves the client until it leaves.
    ///
    /// # Errors
    /// The connection's own.
    pub(super) async fn serve(mut self) -> io::Result<()> {
        loop {
            let Some((tag, body)) = self.message().await? else {
                self.send().await?;
                return self.stream.shutdown().await;
            };
            if self.answer(tag, &body).await?.is_break() {
                self.send().await?;
                return self.stream.shutdown().await;
            }
        }
    }

    /// The next message; `None` where the session is over.
    async fn message(&mut self) -> io::Result<Option<(u8, BytesMut)>> {
        loop {
            match header(&self.unread) {
                Ok(Some(header)) if header.len <= LONGEST && self.unread.len() >= header.len => {
                    let mut message = self.unread.split_to(header.len);
                    message.advance(HEADER);
                    return Ok(Some((header.tag, message)));
                }
                Ok(Some(header)) if header.len > LONGEST => {
                    return Ok(
                        self.fatal(&format!("a message of {} bytes is too long here", header.len))
                    );
                }
                Ok(_) => {}
                Err(malformed) => return Ok(self.fatal(&malformed.to_string())),
            }
            if self.unread.is_empty() {
                self.send().await?;
                if self.unread.capacity() > LONGEST {
                    self.unread = BytesMut::new();
                }
            }
            let read = tokio::select! {
                biased;
                read = self.stream.read_buf(&mut self.unread) => read?,
                problem = self.engine.leave(false) => {
                    problem.put_fatal(&mut self.out);
                    return Ok(None);
                }
            };
            if read == 0 {
                return Ok(None);
            }
        }
    }

    fn fatal<T>(&mut self, message: &str) -> Option<T> {
        Problem::new(code::PROTOCOL_VIOLATION, message.to_owned()).put_fatal(&mut self.out);
        None
    }

    async fn answer(&mut self, tag: u8, body: &[u8]) -> io::Result<Ended> {
        match tag {
            frontend::TERMINATE => return Ok(Ended::Break(())),
            frontend::QUERY => {
                self.extended.recover();
                let done = match frontend::query(body) {
                    Ok(text) => self.query(text).await?,
                    Err(malformed) => return Ok(self.end(&malformed.to_string())),
                };
                self.finish(done);
                self.ready();
            }
            frontend::SYNC => {
                self.extended.recover();
                self.ready();
            }
            frontend::FLUSH => self.send().await?,
            frontend::FUNCTION_CALL => {
                let problem =
                    Problem::new(code::NOT_SUPPORTED, "the admin database has no functions");
                self.finish(Err(problem));
                self.ready();
            }
            // As PostgreSQL does outside of a COPY: the client may have sent them before it learnt of an error.
            frontend::COPY_DATA | frontend::COPY_DONE | frontend::COPY_FAIL => {}
            _ if self.extended.failed() => {}
            frontend::PARSE
            | frontend::BIND
            | frontend::DESCRIBE
            | frontend::EXECUTE
            | frontend::CLOSE => {
                let done = self.step(tag, body).await?;
                if done.is_err() {
                    self.extended.fail();
                }
                self.finish(done);
            }
            _ => return Ok(self.end("a message that has no place here")),
        }
        Ok(Ended::Continue(()))
    }

    fn end(&mut self, message: &str) -> Ended {
        self.fatal::<()>(message);
        Ended::Break(())
    }

    fn finish(&mut self, done: Result<(), Problem>) {
        if let Err(problem) = done {
            problem.put(&mut self.out);
            if self.status == Status::Transaction {
                self.status = Status::Failed;
            }
        }
    }

    fn ready(&mut self) {
        backend::put_ready(&mut self.out, self.status);
    }

    /// A simple query.
    async fn query(&mut self, text: &[u8]) -> io::Result<Result<(), Problem>> {
        let commands = match utf8(text).and_then(command::parse) {
            Ok(commands) => commands,
            Err(problem) => return Ok(Err(problem)),
        };
        if commands.is_empty() {
            backend::put_empty(&mut self.out, backend::EMPTY_QUERY);
        }
        for command in commands {
            if let Err(problem) = self.engine.rights().allow(&command) {
                return Ok(Err(problem));
            }
            let done = match command {
                Command::Show(show) => {
                    let Table { columns, mut rows } = self.engine.show(show);
                    put_columns(&mut self.out, columns, &Formats::default());
                    self.rows(&mut rows, &Formats::default(), u32::MAX).await?;
                    Ok("SHOW")
                }
                command => self.act(command).await?,
            };
            match done {
                Ok(tag) => backend::put_complete(&mut self.out, tag),
                Err(problem) => return Ok(Err(problem)),
            }
        }
        Ok(Ok(()))
    }

    /// Sends up to `most` rows. Others get their turn in between.
    async fn rows(
        &mut self,
        rows: &mut (dyn Iterator<Item = Row> + Send),
        formats: &Formats,
        most: u32,
    ) -> io::Result<()> {
        let mut sent = 0_u32;
        while sent < most
            && let Some(row) = rows.next()
        {
            put_row(&mut self.out, &row, formats);
            sent += 1;
            if sent.is_multiple_of(ROWS_AT_ONCE) {
                self.send().await?;
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Carries out what is not `SHOW`. Gives up when the client cancels it, leaves, or is sent away.
    async fn act(&mut self, command: Command) -> io::Result<Result<&'static str, Problem>> {
        if let Command::Ignored(tag) = command {
            return Ok(Ok(self.transaction(tag)));
        }
        self.send().await?;
        let Self { stream, engine, unread, out, .. } = self;
        let (notices, mut steps) = mpsc::channel(64);
        let act = engine.act(command, notices);
        let cancelled = engine.cancelled();
        tokio::pin!(act, cancelled);
        let mut noting = true;
        loop {
            let room = unread.len() < LONGEST;
            tokio::select! {
                biased;
                step = steps.recv(), if noting => match step {
                    Some(step) => {
                        put_notice(out, &step);
                        stream.write_all(out).await?;
                        stream.flush().await?;
                        out.clear();
                    }
                    None => noting = false,
                },
                done = &mut act => {
                    while let Ok(step) = steps.try_recv() {
                        put_notice(out, &step);
                    }
                    return Ok(done);
                }
                () = &mut cancelled => {
                    return Ok(Err(Problem::new(code::CANCELLED, "cancelled on request of the client")
                        .hint("a switchover that has begun goes on: see SHOW STATE")));
                }
                problem = engine.leave(true) => return Ok(Err(problem)),
                read = stream.read_buf(unread), if room => {
                    if read? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        }
    }

    /// Follows what a client says of transactions, which mean nothing here: drivers expect to be told that they are in one.
    fn transaction(&mut self, tag: &'static str) -> &'static str {
        match (tag, self.status) {
            ("BEGIN", _) => self.status = Status::Transaction,
            ("COMMIT", Status::Failed) => {
                self.status = Status::Idle;
                return "ROLLBACK";
            }
            ("COMMIT" | "ROLLBACK", _) => self.status = Status::Idle,
            _ => {}
        }
        tag
    }

    async fn send(&mut self) -> io::Result<()> {
        if !self.out.is_empty() {
            self.stream.write_all(&self.out).await?;
            self.out.clear();
            self.out.shrink_to(LONGEST);
        }
        self.stream.flush().await
    }
}

fn utf8(text: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(text)
        .map_err(|_invalid| Problem::new(code::SYNTAX, "the text is not UTF-8"))
}
