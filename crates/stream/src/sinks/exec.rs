//! A command that reads changes as lines and acknowledges them.
//!
//! The command gets one JSON value per line on its standard input, each with an offset:
//!
//! ```text
//! {"offset":1,"change":{…}}
//! {"offset":2,"change":{…}}
//! ```
//!
//! and answers on its standard output, whenever it likes, one line each:
//!
//! - `ok 2`: everything up to offset 2 is safe, and need never come again;
//! - `fail 3 no such customer`: this one will never be taken. It becomes a dead letter, with the reason; an `ok` of a
//!   higher offset does not change that, and what comes after it has been fed already. Reasons are kept with the dead
//!   letter, so they should not repeat the row.
//!
//! Nothing else may be on its standard output. Its standard error goes to our log, line by line.
//!
//! - Delivered means acknowledged by `ok`. What was not comes again, under a new offset, after the command was started
//!   anew: it is when it ends, answers something else, or has not answered for a whole batch within `timeout`. A command
//!   that must do each thing once remembers the change's own id.
//! - Offsets go up by one from the first line that this Herdsman feeds, across restarts of the command.
//! - Pauses between starts double while the command gets nothing done.
//! - A command that dies of a change, rather than refusing it, is fed that change again for as long as it dies first thing:
//!   from outside this cannot be told from a command that cannot work at all.
//! - At the end its input is closed. After `grace` it is sent SIGTERM, after another `grace` SIGKILL, always with its
//!   whole process group; on a timeout SIGTERM comes at once.
//!
//! In a shell, with a program that keeps what it gets:
//!
//! ```text
//! while IFS= read -r line; do
//!   offset=${line#*:}; offset=${offset%%,*}
//!   if store "$line"; then echo "ok $offset"; else echo "fail $offset not stored"; fi
//! done
//! ```

mod answer;
mod group;
mod lines;
mod process;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use herdsman_node::units;
use serde::{Deserialize, Deserializer};
use tokio::sync::Mutex;

pub use group::Group;

use self::answer::Tally;
use self::process::{Process, Trouble};
use super::{Secret, json};
use crate::config::Shape;
use crate::sink::{Batch, DeliveryError, Position, Sink, SinkError, Undelivered, Why};

/// Settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecConfig {
    /// The program and its arguments. No shell looks at them.
    pub command: Vec<String>,
    /// Variables added to the environment that we were started with. Their values are never shown.
    #[serde(default)]
    pub env: BTreeMap<String, Secret>,
    /// The folder it works in; ours when left out.
    #[serde(default)]
    pub directory: Option<PathBuf>,
    /// How long it may take for a batch. Default 30 s.
    #[serde(default = "default_timeout", deserialize_with = "time")]
    pub timeout: Duration,
    /// How long it gets to end by itself, and then again after SIGTERM. Default 2 s: twice that is less than any sink gets
    /// to close.
    #[serde(default = "default_grace", deserialize_with = "time")]
    pub grace: Duration,
    /// Bytes a line may have; a change that makes a longer one becomes a dead letter. Default 16 MiB.
    #[serde(default = "default_line", deserialize_with = "line")]
    pub max_line: usize,
}

/// The sink.
pub struct ExecSink {
    name: String,
    config: ExecConfig,
    shape: Shape,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    process: Option<Process>,
    /// Lines fed so far.
    offset: u64,
    /// How often it was of no use since it last acknowledged something.
    failures: u32,
}

/// Pause before the first start after a failure; it doubles.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl ExecSink {
    /// Builds it.
    ///
    /// # Errors
    /// [`SinkError`] where there is no command.
    pub fn new(name: &str, config: &ExecConfig, shape: Shape) -> Result<Self, SinkError> {
        let sink =
            Self { name: name.to_owned(), config: config.clone(), shape, state: Mutex::default() };
        if config.command.first().is_none_or(String::is_empty) {
            let problem = "no command is given".to_owned();
            return Err(sink.error(
                "run",
                problem,
                "set `command` to a list: program and arguments",
            ));
        }
        Ok(sink)
    }

    /// The command, started where it is not running, after a pause where it was of no use before.
    async fn started(&self, state: &mut State) -> Result<Process, SinkError> {
        if let Some(process) = state.process.take() {
            return Ok(process);
        }
        if let Some(doublings) = state.failures.checked_sub(1) {
            let pause = PAUSE.saturating_mul(1 << doublings.min(16)).min(LONGEST_PAUSE);
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        }
        Process::start(&self.name, &self.config).map_err(|error| {
            state.failures = state.failures.saturating_add(1);
            self.error("start", error.to_string(), "check `command`, and that it may be executed")
        })
    }

    /// What is fed for a batch, and what of it is not worth feeding.
    fn lines(&self, batch: &Batch, state: &mut State) -> (Vec<u8>, Tally) {
        let mut bytes = Vec::new();
        let mut tally = Tally::starting_at(state.offset + 1);
        for change in &batch.changes {
            let begin = bytes.len();
            let offset = state.offset + 1;
            bytes.extend_from_slice(format!("{{\"offset\":{offset},\"change\":").as_bytes());
            json::write(self.shape, change, &mut bytes);
            bytes.extend_from_slice(b"}\n");
            if bytes.len() - begin > self.config.max_line {
                bytes.truncate(begin);
                tally.too_long();
            } else {
                state.offset = offset;
                tally.fed();
            }
        }
        (bytes, tally)
    }

    fn error(&self, what: &'static str, problem: String, advice: &'static str) -> SinkError {
        let program = self.config.command.first().map_or("", String::as_str);
        SinkError { what, target: format!("command `{program}`"), problem, advice, reopen: true }
    }

    fn refused(&self, tally: &Tally) -> Vec<Undelivered> {
        let max = self.config.max_line;
        let why = |reason: Option<&str>| match reason {
            Some(reason) => {
                self.error("hand a change to", reason.to_owned(), "see what the command says of it")
            }
            None => {
                let problem = format!("its line is longer than {max} bytes");
                self.error("hand a change to", problem, "raise `max_line`, or leave a column out")
            }
        };
        let refused = tally.refused();
        refused
            .map(|(index, reason)| Undelivered {
                index,
                why: Why::Rejected(SinkError { reopen: false, ..why(reason) }),
            })
            .collect()
    }
}

#[async_trait]
impl Sink for ExecSink {
    async fn open(&self) -> Result<Option<Position>, SinkError> {
        let mut state = self.state.lock().await;
        let process = self.started(&mut state).await?;
        state.process = Some(process);
        Ok(None)
    }

    async fn deliver(&self, batch: &Batch) -> Result<(), DeliveryError> {
        let mut state = self.state.lock().await;
        // Out of the state while it is fed: given up half way, it is killed, and with it what it half knows.
        let mut process = self.started(&mut state).await.map_err(DeliveryError::Unavailable)?;
        let (bytes, mut tally) = self.lines(batch, &mut state);
        let fed = process.feed(&bytes, &mut tally, self.config.timeout).await;
        if tally.progressed() {
            state.failures = 0;
        }
        let Err(trouble) = fed else {
            state.process = Some(process);
            let refused = self.refused(&tally);
            return if refused.is_empty() { Ok(()) } else { Err(DeliveryError::Partly(refused)) };
        };
        state.failures = state.failures.saturating_add(1);
        let error = self.trouble(trouble, process).await;
        tracing::warn!(sink = self.name, %error, "the command is started anew");
        if !tally.progressed() {
            return Err(DeliveryError::Unavailable(error));
        }
        // What it did acknowledge is done, and the first that it did not is the one to try again.
        let mut left = self.refused(&tally);
        let mut first = Some(error);
        left.extend(tally.pending().map(|index| Undelivered {
            index,
            why: first.take().map_or(Why::Behind, Why::Failed),
        }));
        left.sort_by_key(|undelivered| undelivered.index);
        if left.is_empty() { Ok(()) } else { Err(DeliveryError::Partly(left)) }
    }

    async fn close(&self) {
        let process = self.state.lock().await.process.take();
        if let Some(process) = process {
            process.end(self.config.grace).await;
        }
    }
}

impl ExecSink {
    /// Ends a command that is of no use any more, and says why it is not.
    async fn trouble(&self, trouble: Trouble, process: Process) -> SinkError {
        let status = process.terminate(self.config.grace).await;
        match trouble {
            Trouble::Ended => {
                let status = status.map_or("no status".to_owned(), |status| status.to_string());
                let problem = format!("it ended with {status}");
                self.error("feed", problem, "see what it wrote to the log; it is started anew")
            }
            Trouble::Late => {
                let problem = format!("it did not answer for all within {:?}", self.config.timeout);
                self.error("feed", problem, "raise `timeout`, or have it answer sooner")
            }
            Trouble::Nonsense(problem) => {
                let advice = "print `ok OFFSET` and `fail OFFSET reason` only, and all else to standard error";
                self.error("understand", problem, advice)
            }
            Trouble::Io(error) => self.error("feed", error.to_string(), "look at its log"),
        }
    }
}

impl fmt::Debug for ExecSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecSink").field("config", &self.config).finish_non_exhaustive()
    }
}

fn default_timeout() -> Duration {
    Duration::from_secs(30)
}

fn default_grace() -> Duration {
    Duration::from_secs(2)
}

fn default_line() -> usize {
    16 << 20
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    units::duration(deserializer, Duration::from_millis(10)..=Duration::from_secs(3600))
}

fn line<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    units::number(deserializer, 1024..=1 << 30)
}
