//! The replication connection before the stream begins: who the server is, slots, and the start.

mod copy;
mod feedback;
mod gathering;
mod starting;

use std::time::Duration;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use herdsman_node::raw::{RawConnection, ServerMessage, connect_raw};
use herdsman_node::{Conninfo, Lsn, SystemId, Timeline, Tls};
use postgres_protocol::message::backend::{DataRowBody, Message};
use postgres_protocol::message::frontend;

pub(crate) use copy::{CopyReader, Frame};
pub use feedback::Feedback;
pub(crate) use feedback::Sender;

use crate::stream::{Start, Stream};
use crate::{SlotName, WalError, pinned, quote_identifier};

/// A connection in replication mode, waiting for a command.
#[derive(Debug)]
pub struct Replication {
    connection: RawConnection,
    endpoint: String,
    limit: Duration,
}

/// Who the server is, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster it belongs to.
    pub system_id: SystemId,
    /// Its timeline.
    pub timeline: Timeline,
    /// The end of its log.
    pub wal_position: Lsn,
    /// The database the connection is to.
    pub database: String,
}

/// How a slot is made.
#[derive(Clone, Copy, Debug)]
pub struct CreateSlot {
    /// Whether it goes with the connection.
    pub temporary: bool,
    /// Whether standbys keep it too (PostgreSQL 17 and later).
    pub failover: bool,
    /// Whether prepared transactions are sent when they are prepared.
    pub two_phase: bool,
    /// Whether a snapshot that fits its beginning is kept for others to use.
    pub snapshot: SlotSnapshot,
    /// How long it may take: the server waits for every transaction that is open.
    pub limit: Duration,
}

/// What becomes of the snapshot a slot begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotSnapshot {
    /// Nothing.
    Nothing,
    /// Other connections may use it until the next command on this one.
    Export,
}

/// A slot that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedSlot {
    /// Every transaction committed after this is in the slot, every earlier one in the snapshot.
    pub consistent_point: Lsn,
    /// The snapshot's name, where it was asked for.
    pub snapshot: Option<String>,
}

impl Default for CreateSlot {
    fn default() -> Self {
        Self {
            temporary: false,
            failover: false,
            two_phase: false,
            snapshot: SlotSnapshot::Nothing,
            limit: Duration::from_secs(60),
        }
    }
}

impl Replication {
    /// Connects in replication mode to the database `info` names; each step and each later command may take `limit`.
    ///
    /// # Errors
    /// [`WalError::Connect`] with the reason and what to do.
    pub async fn connect(info: &Conninfo, tls: &Tls, limit: Duration) -> Result<Self, WalError> {
        let mut startup = vec![("replication", "database")];
        startup.extend(pinned::SETTINGS.iter().filter(|(name, _)| *name != "client_encoding"));
        let connection = connect_raw(info, tls, limit, &startup).await?;
        Ok(Self { connection, endpoint: info.endpoint(), limit })
    }

    /// The server's version as `server_version_num` has it, such as 150018.
    #[must_use]
    pub fn server_version(&self) -> u32 {
        self.connection.server_version()
    }

    /// `host:port`, as errors name the server.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Asks who the server is.
    ///
    /// # Errors
    /// [`WalError`] when it does not answer, or not as it should.
    pub async fn identify(&mut self) -> Result<Identity, WalError> {
        let rows = self.query("identify itself", "IDENTIFY_SYSTEM").await?;
        let row = rows.into_iter().next().unwrap_or_default();
        let field = |index: usize| row.get(index).cloned().flatten().unwrap_or_default();
        let strange = |what: &str| WalError::Protocol {
            endpoint: self.endpoint.clone(),
            problem: format!("it identifies itself without {what}"),
        };
        Ok(Identity {
            system_id: field(0).parse().map_err(|_| strange("a system identifier"))?,
            timeline: Timeline(field(1).parse().map_err(|_| strange("a timeline"))?),
            wal_position: field(2).parse().map_err(|_| strange("a position"))?,
            database: field(3),
        })
    }

    /// Runs one command, of replication or of SQL, and returns its rows as text. `what` completes "refused to …".
    ///
    /// # Errors
    /// [`WalError::Server`] when it is refused, others when the connection fails or time is up.
    pub async fn query(
        &mut self,
        what: &'static str,
        command: &str,
    ) -> Result<Vec<Vec<Option<String>>>, WalError> {
        self.query_within(what, command, self.limit).await
    }

    async fn query_within(
        &mut self,
        what: &'static str,
        command: &str,
        limit: Duration,
    ) -> Result<Vec<Vec<Option<String>>>, WalError> {
        self.send(command, what).await?;
        let mut rows = Vec::new();
        let mut refused = None;
        let reading = async {
            loop {
                match self.connection.message().await? {
                    Message::DataRow(row) => rows.push(texts(&row)?),
                    Message::ErrorResponse(body) => refused = Some(ServerMessage::read(&body)),
                    Message::ReadyForQuery(_) => return Ok::<_, std::io::Error>(()),
                    _ => {}
                }
            }
        };
        match tokio::time::timeout(limit, reading).await {
            Err(_) => return Err(self.timed_out(what, limit)),
            // A server that ends the connection says why first.
            Ok(Err(error)) if refused.is_none() => return Err(self.lost(&error)),
            Ok(_) => {}
        }
        match refused {
            Some(said) => Err(self.refused(what, said)),
            None => Ok(rows),
        }
    }

    /// Makes a slot for pgoutput.
    ///
    /// # Errors
    /// [`WalError::TimedOut`] when transactions that were open before have not ended in time; others as for
    /// [`Replication::query`].
    pub async fn create_slot(
        &mut self,
        slot: &SlotName,
        options: &CreateSlot,
    ) -> Result<CreatedSlot, WalError> {
        let version = self.server_version();
        if options.failover && version < 170_000 {
            return Err(self.too_old("a slot that standbys keep", 17));
        }
        let mut command = format!("CREATE_REPLICATION_SLOT {}", quote_identifier(slot.as_str()));
        if options.temporary {
            command.push_str(" TEMPORARY");
        }
        let snapshot = match options.snapshot {
            SlotSnapshot::Nothing => "nothing",
            SlotSnapshot::Export => "export",
        };
        command.push_str(&format!(" LOGICAL pgoutput (SNAPSHOT '{snapshot}'"));
        if options.two_phase {
            command.push_str(", TWO_PHASE true");
        }
        if options.failover {
            command.push_str(", FAILOVER true");
        }
        command.push(')');
        let rows = self.query_within("create a replication slot", &command, options.limit).await?;
        let row = rows.into_iter().next().unwrap_or_default();
        let field = |index: usize| row.get(index).cloned().flatten();
        let consistent_point = field(1).and_then(|text| text.parse().ok());
        Ok(CreatedSlot {
            consistent_point: consistent_point.ok_or_else(|| WalError::Protocol {
                endpoint: self.endpoint.clone(),
                problem: "it made a slot and does not say where it begins".to_owned(),
            })?,
            snapshot: field(2).filter(|name| !name.is_empty()),
        })
    }

    /// Begins to stream.
    ///
    /// # Errors
    /// [`WalError::SlotActive`] with the other reader's process, [`WalError::SlotMissing`], [`WalError::SlotLost`], and
    /// whatever else the server says.
    pub async fn start(mut self, start: Start) -> Result<Stream, WalError> {
        let identity = self.identify().await?;
        let timeout = self.query("tell its settings", "SHOW wal_sender_timeout").await;
        let timeout = timeout.ok().and_then(|rows| rows.into_iter().flatten().flatten().next());
        if let Some(bytes) = start.options.decoding_memory {
            let set = format!("SET logical_decoding_work_mem = '{}kB'", (bytes >> 10).max(64));
            self.query("set the memory for decoding", &set).await?;
        }
        let command = starting::command(&start, self.server_version());
        self.send(&command, "start streaming").await?;
        let answer = async {
            loop {
                match copy::first_answer(&mut self.connection).await? {
                    copy::Answer::Copying => return Ok(None),
                    copy::Answer::Refused(said) => return Ok(Some(said)),
                    copy::Answer::Other => {}
                }
            }
        };
        let answer: Result<_, std::io::Error> = tokio::time::timeout(self.limit, answer)
            .await
            .map_err(|_| self.timed_out("start streaming", self.limit))?;
        match answer {
            Err(error) => Err(self.lost(&error)),
            Ok(Some(said)) => Err(self.not_started(&start.slot, said)),
            Ok(None) => {
                let pause = starting::status_interval(timeout.as_deref());
                Ok(Stream::new(self.connection, self.endpoint, &identity, &start, pause))
            }
        }
    }

    async fn send(&mut self, command: &str, what: &'static str) -> Result<(), WalError> {
        let mut out = BytesMut::new();
        frontend::query(command, &mut out).map_err(|error| self.lost(&error))?;
        match tokio::time::timeout(self.limit, self.connection.send(&mut out)).await {
            Ok(sent) => sent.map_err(|error| self.lost(&error)),
            Err(_) => Err(self.timed_out(what, self.limit)),
        }
    }

    fn not_started(&self, slot: &SlotName, said: ServerMessage) -> WalError {
        let (endpoint, name) = (self.endpoint.clone(), slot.to_string());
        match said.code.as_str() {
            "55006" => {
                let pid = said.message.rsplit(' ').next().and_then(|word| word.parse().ok());
                WalError::SlotActive { endpoint, slot: name, pid: pid.unwrap_or(0) }
            }
            "42704" if said.message.contains("replication slot") => {
                WalError::SlotMissing { endpoint, slot: name }
            }
            "55000" => WalError::SlotLost {
                endpoint,
                slot: name,
                reason: said.message,
                confirmed: Lsn::default(),
            },
            _ => self.refused("start streaming", said),
        }
    }

    fn refused(&self, what: &str, said: ServerMessage) -> WalError {
        refused(&self.endpoint, what, said)
    }

    fn lost(&self, error: &std::io::Error) -> WalError {
        WalError::Lost { endpoint: self.endpoint.clone(), problem: error.to_string() }
    }

    fn timed_out(&self, what: &'static str, limit: Duration) -> WalError {
        let advice = if what.contains("slot") {
            "; the server waits for every transaction that was open: end them (see pg_stat_activity.xact_start)"
        } else {
            ""
        };
        WalError::TimedOut {
            endpoint: self.endpoint.clone(),
            what,
            seconds: limit.as_secs(),
            advice: advice.to_owned(),
        }
    }

    fn too_old(&self, what: &'static str, needed: u32) -> WalError {
        let version = self.connection.parameters.get("server_version").cloned().unwrap_or_default();
        WalError::TooOld { endpoint: self.endpoint.clone(), version, what, needed }
    }
}

/// What the server refused, with what to do where that is known.
pub(crate) fn refused(endpoint: &str, what: &str, said: ServerMessage) -> WalError {
    let advice = match said.code.as_str() {
        "42704" if said.message.contains("publication") => {
            "; the slot is older than the publication, which must be made first: recreate the slot"
        }
        "42501" => "; give the role REPLICATION, and SELECT on the published tables",
        "53400" | "53300" => "; raise max_replication_slots and max_wal_senders",
        _ => "",
    };
    WalError::Server {
        endpoint: endpoint.to_owned(),
        what: what.to_owned(),
        message: if said.more.is_empty() {
            said.message
        } else {
            format!("{}: {}", said.message, said.more)
        },
        sqlstate: said.code,
        advice: advice.to_owned(),
    }
}

fn texts(row: &DataRowBody) -> std::io::Result<Vec<Option<String>>> {
    let buffer = row.buffer();
    row.ranges()
        .map(|range| {
            Ok(range
                .and_then(|range| buffer.get(range))
                .map(|b| String::from_utf8_lossy(b).into_owned()))
        })
        .collect()
}
