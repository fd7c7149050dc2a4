//! Readers that go through the whole engine, as a program that uses it would: from the slot to where a sink has
//! everything.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use herdsman_node::{Conninfo, NodeName};
use herdsman_stream::config::Shape;
use herdsman_stream::service::{Service, Setup};
use herdsman_stream::sinks::SinkConfig;
use herdsman_stream::sinks::stdout::StdoutConfig;
use herdsman_stream::{
    Batch, DeliveryError, Handlers, Order, Position, Sink, SinkError, StreamConfig, handler_fn,
};
use herdsman_wal::{Kind, PublicationName, SlotName};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clients::{Client, Found, now};
use crate::error::BenchError;

/// A reader that has not got everything by then never will.
const LIMIT: Duration = Duration::from_secs(600);
/// What the sink is called, and with it what it keeps at its target.
const NAME: &str = "bench";

/// Reads until the sink has all rows and the message behind them.
pub(crate) async fn read(
    client: Client,
    conninfo: &str,
    slot: &str,
    rows: u64,
) -> Result<Found, BenchError> {
    let output = (client == Client::ServiceJson).then(Hidden::new).transpose()?;
    let state = tempfile::tempdir()?;
    let stop = CancellationToken::new();
    let begin = Instant::now();
    let counted = Arc::new(Counted {
        sink: sink(client)?,
        rows,
        begin,
        seen: Mutex::default(),
        stop: stop.clone(),
    });
    let running = service(conninfo, slot, state.path(), Arc::clone(&counted) as _)?.run(stop);
    let ended = tokio::time::timeout(LIMIT, Box::pin(running)).await;
    ended.map_err(|_| BenchError::Wrong(format!("no end after {LIMIT:?}")))??;
    output.map(Hidden::show).transpose()?;
    let seen = counted.seen.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(seen.found)
}

/// A service for a slot and publication that are there, with everything else as it comes.
pub(crate) fn service(
    conninfo: &str,
    slot: &str,
    state: &Path,
    sink: Arc<dyn Sink>,
) -> Result<Service, BenchError> {
    let info: Conninfo = conninfo.parse()?;
    let config = StreamConfig {
        slot: SlotName::new(slot)?,
        publication: PublicationName::new("p")?,
        create: false,
        // It would write into the log that is measured.
        heartbeat: None,
        state: state.to_owned(),
        ..StreamConfig::default()
    };
    let setup = Setup {
        config,
        nodes: [(NodeName::new("n1")?, info)].into(),
        watch: None,
        sinks: vec![(NAME.to_owned(), sink)],
    };
    Ok(Service::new(setup)?)
}

fn sink(client: Client) -> Result<Arc<dyn Sink>, BenchError> {
    let config = match client {
        Client::ServiceHandler => {
            return Ok(Arc::new(Handlers::new().all(handler_fn(|change| async move {
                black_box(&change);
                Ok(())
            }))));
        }
        Client::ServiceJson => SinkConfig::Stdout(StdoutConfig {}),
        Client::ServicePostgres | Client::ServiceKafka => {
            serde_json::from_str(&std::env::var("SINK").unwrap_or_default())?
        }
        _ => return Ok(Arc::new(Nothing)),
    };
    Ok(config.build(NAME, Shape::Herdsman)?)
}

/// Takes everything and does nothing.
pub(crate) struct Nothing;

#[async_trait]
impl Sink for Nothing {
    async fn deliver(&self, batch: &Batch) -> Result<(), DeliveryError> {
        black_box(batch);
        Ok(())
    }
}

/// Notes what a sink has taken, and ends the service when that is everything.
struct Counted {
    sink: Arc<dyn Sink>,
    /// How many rows there are.
    rows: u64,
    begin: Instant,
    seen: Mutex<Seen>,
    stop: CancellationToken,
}

#[derive(Default)]
struct Seen {
    found: Found,
    last_message: bool,
}

#[async_trait]
impl Sink for Counted {
    async fn open(&self) -> Result<Option<Position>, SinkError> {
        self.sink.open().await
    }

    async fn deliver(&self, batch: &Batch) -> Result<(), DeliveryError> {
        self.sink.deliver(batch).await?;
        let messages = batch.changes.iter().filter(|change| change.kind() == Kind::Message).count();
        let rows = batch.changes.len().saturating_sub(messages);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.found.rows == 0 && rows > 0 {
            seen.found.first = self.begin.elapsed().as_secs_f64();
            seen.found.first_at = now();
        }
        seen.found.rows += u64::try_from(rows).unwrap_or(u64::MAX);
        seen.found.total = self.begin.elapsed().as_secs_f64();
        // Where keys have no order among them, the message may come before the last rows.
        seen.last_message |= messages > 0;
        if seen.last_message && seen.found.rows >= self.rows {
            self.stop.cancel();
        }
        Ok(())
    }

    async fn close(&self) {
        self.sink.close().await;
    }

    fn order(&self) -> Order {
        self.sink.order()
    }
}

/// Standard output leads nowhere for a while: what the sink writes there is not our answer.
struct Hidden {
    before: File,
}

impl Hidden {
    fn new() -> io::Result<Self> {
        let before = File::from(rustix::io::dup(rustix::stdio::stdout())?);
        let nowhere = OpenOptions::new().write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdout(nowhere)?;
        Ok(Self { before })
    }

    fn show(self) -> io::Result<()> {
        rustix::stdio::dup2_stdout(self.before)?;
        Ok(())
    }
}
