//! The readers that are ours to write: each runs as a process of its own, so that its processor time is its own.

use std::hint::black_box;
use std::io::{self, Write as _};
use std::time::{Duration, SystemTime};

use clap::ValueEnum;
use herdsman_node::{Conninfo, Lsn, Tls};
use herdsman_wal::decode::Field;
use herdsman_wal::{
    ChangeRef, Event, Kind, PublicationName, Replication, SlotName, Start, StreamOptions, json,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::error::BenchError;
use crate::service;

const LIMIT: Duration = Duration::from_secs(60);

/// A reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Client {
    /// Every value of every row decoded and looked at; transactions whole, as protocol version 1 sends them.
    HerdsmanV1,
    /// The same, transactions in progress as they come.
    Herdsman,
    /// Changes of transactions in progress, given out while those run, from a server with little memory for decoding.
    HerdsmanEager,
    /// As JSON lines.
    HerdsmanJson,
    /// `pg_walstream`, undecoded.
    WalstreamRaw,
    /// `pg_walstream`, decoded.
    Walstream,
    /// `pg_logical_slot_get_changes`, 10,000 rows at a time.
    Polling,
    /// The whole engine, with a state folder, into a sink that does nothing and takes one batch after the other.
    ServiceNothing,
    /// The same into a handler that does nothing, called for each row, eight keys side by side.
    ServiceHandler,
    /// The same as JSON lines on standard output, which leads nowhere.
    ServiceJson,
    /// The same into the same table on another server.
    ServicePostgres,
    /// The same into Kafka.
    ServiceKafka,
}

/// What a reader found.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) rows: u64,
    /// Until the first row, in seconds.
    pub(crate) first: f64,
    /// Until the last, in seconds.
    pub(crate) total: f64,
    /// When the first row came, in microseconds since 1970, for a load that is written while it is read.
    #[serde(default)]
    pub(crate) first_at: u64,
}

/// Microseconds since 1970: the only clock that two processes share.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Reads until the message that ends all, and tells what was found.
pub(crate) async fn run(
    client: Client,
    conninfo: &str,
    slot: &str,
    rows: u64,
) -> Result<Found, BenchError> {
    match client {
        Client::HerdsmanV1 | Client::Herdsman | Client::HerdsmanEager | Client::HerdsmanJson => {
            herdsman(client, conninfo, slot).await
        }
        Client::WalstreamRaw | Client::Walstream => walstream(client, conninfo, slot, rows).await,
        Client::Polling => polling(conninfo, slot).await,
        Client::ServiceNothing
        | Client::ServiceHandler
        | Client::ServiceJson
        | Client::ServicePostgres
        | Client::ServiceKafka => service::read(client, conninfo, slot, rows).await,
    }
}

async fn herdsman(client: Client, conninfo: &str, slot: &str) -> Result<Found, BenchError> {
    let info: Conninfo = conninfo.parse()?;
    let tls = Tls::new(&info)?;
    let start = Start {
        slot: SlotName::new(slot)?,
        publications: vec![PublicationName::new("p")?],
        from: Lsn(0),
        options: StreamOptions {
            streaming: client != Client::HerdsmanV1,
            early: client == Client::HerdsmanEager,
            decoding_memory: (client == Client::HerdsmanEager).then_some(4 << 20),
            ..StreamOptions::default()
        },
    };
    let begin = Instant::now();
    let mut stream = Replication::connect(&info, &tls, LIMIT).await?.start(start).await?;
    let feedback = stream.feedback();
    let mut found = Found::default();
    let mut lines = (client == Client::HerdsmanJson).then(Lines::new).transpose()?;
    let mut stopping = false;
    loop {
        match stream.next().await? {
            Event::Change(change) if change.kind() == Kind::Message => stopping = true,
            Event::Change(change) | Event::Early { change, .. } => {
                if found.rows == 0 {
                    found.first = begin.elapsed().as_secs_f64();
                    found.first_at = now();
                }
                found.rows += 1;
                match &mut lines {
                    Some(lines) => lines.write(&change)?,
                    None => look_at(&change),
                }
            }
            Event::Commit { end_lsn, .. } | Event::EarlyCommit { end_lsn, .. } => {
                feedback.handled(end_lsn);
                if stopping {
                    found.total = begin.elapsed().as_secs_f64();
                    break;
                }
            }
            _ => {}
        }
    }
    stream.close().await;
    Ok(found)
}

/// Every value, as a consumer would get at it.
fn look_at(change: &ChangeRef<'_>) {
    if let Some(row) = change.new_row() {
        for (column, field) in row.iter() {
            if let Field::Text(text) = field {
                black_box((&column.name, text));
            }
        }
    }
}

/// JSON lines into nothing.
struct Lines {
    file: std::fs::File,
    bytes: Vec<u8>,
}

impl Lines {
    fn new() -> io::Result<Self> {
        let file = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
        Ok(Self { file, bytes: Vec::with_capacity(128 << 10) })
    }

    fn write(&mut self, change: &ChangeRef<'_>) -> io::Result<()> {
        json::write(json::Shape::Herdsman, change, &mut self.bytes);
        self.bytes.push(b'\n');
        if self.bytes.len() > 64 << 10 {
            self.file.write_all(&self.bytes)?;
            self.bytes.clear();
        }
        Ok(())
    }
}

async fn walstream(
    client: Client,
    conninfo: &str,
    slot: &str,
    rows: u64,
) -> Result<Found, BenchError> {
    use pg_walstream::{
        CancellationToken, EventType, LogicalReplicationStream, ReplicationStreamConfig,
        RetryConfig, StreamingMode,
    };
    let peer = |error: pg_walstream::ReplicationError| BenchError::Peer(error.to_string());
    let info: Conninfo = conninfo.parse()?;
    let password = info.password.as_ref().map(|p| secret(p).to_owned()).unwrap_or_default();
    let url = format!(
        "postgresql://{}:{password}@{}:{}/{}?replication=database&sslmode=disable",
        info.user, info.host, info.port, info.dbname
    );
    let config = ReplicationStreamConfig::new(
        slot.to_owned(),
        "p".to_owned(),
        1,
        StreamingMode::Off,
        Duration::from_secs(10),
        LIMIT,
        LIMIT,
        RetryConfig::default(),
    );
    let begin = Instant::now();
    let mut stream = LogicalReplicationStream::new(&url, config).await.map_err(peer)?;
    stream.start(None).await.map_err(peer)?;
    let cancel = CancellationToken::new();
    let mut found = Found::default();
    while found.rows < rows {
        let is_row = if client == Client::WalstreamRaw {
            let raw = stream.next_raw_event(&cancel).await.map_err(peer)?;
            black_box(&raw).data.first() == Some(&b'I')
        } else {
            let event = stream.next_event(&cancel).await.map_err(peer)?;
            matches!(black_box(&event).event_type, EventType::Insert { .. })
        };
        if is_row {
            if found.rows == 0 {
                found.first = begin.elapsed().as_secs_f64();
            }
            found.rows += 1;
        }
    }
    found.total = begin.elapsed().as_secs_f64();
    Ok(found)
}

fn secret(password: &secrecy::SecretString) -> &str {
    secrecy::ExposeSecret::expose_secret(password)
}

/// As the gem does it, with the rows bounded: a call takes what it takes off the slot.
async fn polling(conninfo: &str, slot: &str) -> Result<Found, BenchError> {
    const TAKE: &str = "SELECT data FROM pg_logical_slot_get_changes($1, NULL, 10000)";
    let info: Conninfo = conninfo.parse()?;
    let connection = herdsman_node::connect(&info, &Tls::new(&info)?, LIMIT).await?;
    let (client, driving) = connection.split(|_| {});
    tokio::spawn(driving);
    let begin = Instant::now();
    let mut found = Found::default();
    loop {
        let taken = client.query(TAKE, &[&slot]).await?;
        if taken.is_empty() {
            return Ok(found);
        }
        for row in &taken {
            let data: &str = row.get(0);
            if data.starts_with("table ") {
                if found.rows == 0 {
                    found.first = begin.elapsed().as_secs_f64();
                }
                found.rows += 1;
                black_box(data);
            }
        }
        found.total = begin.elapsed().as_secs_f64();
    }
}
