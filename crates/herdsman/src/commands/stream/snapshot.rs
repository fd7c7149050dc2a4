//! `herdsman stream snapshot`: all rows of tables as they are now, to every sink.
//!
//! A stream that runs is asked to do it, with a word in the log: it puts each row where it belongs between the changes.
//! Otherwise it is done here: once the stream runs again, what happened since its last position comes after the rows, and
//! they end up as they should.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use herdsman_stream::StreamConfig;
use herdsman_stream::checkpoint::Checkpoint;
use herdsman_stream::filter::{Filter, MaskKey};
use herdsman_stream::service::SNAPSHOT_PREFIX;
use herdsman_stream::sink::{Batch, DeliveryError, Sink};
use herdsman_wal::snapshot::{
    Copying, HeldSnapshot, Snapshot, SnapshotEvent, SnapshotProgress, SnapshotTable, progress_bar,
};
use herdsman_wal::{Change, Glob, Replication, Session, SlotName, Source, publication, slot};

use super::target::{LIMIT, Target};
use crate::cli::Global;
use crate::exit::{Exit, Failed};
use crate::{output, show};

/// `herdsman stream snapshot`.
#[derive(Debug, Args)]
pub(super) struct SnapshotArgs {
    /// Tables, as schema.table with * and ?
    #[arg(value_name = "TABLE", required = true)]
    tables: Vec<Glob>,
}

/// A sink with its name.
type Named = (String, Arc<dyn Sink>);

/// How often the progress is shown anew.
const SHOWN: Duration = Duration::from_millis(200);

/// Reads and delivers.
pub(super) async fn run(args: &SnapshotArgs, global: &Global) -> Result<Exit, Failed> {
    let target = Target::find(global).await?;
    let stream = &target.config.stream;
    if stream.sinks.is_empty() {
        return Err(Exit::Config.with("there is no sink: add one below `stream.sinks`"));
    }
    let tables = tables(&target, &args.tables).await?;
    let number = tables.len();
    let session = target.session().await?;
    let slot = slot::inspect(&session, &stream.slot).await.map_err(|e| target.failed(&e))?;
    if slot.is_some_and(|slot| slot.active_pid.is_some()) {
        return ask(&target, &session, &tables).await;
    }
    drop(session);
    // Nobody else delivers to these sinks while we have it.
    let _alone = Checkpoint::open(&stream.state).map_err(|error| Exit::Failure.with(error))?;
    let mut filter = filter(stream)?;
    let sinks = open(stream).await?;
    let copying = Box::pin(begin(&target, tables)).await?;
    let outcome = Box::pin(copy(stream, copying, &mut filter, &sinks)).await;
    for (_, sink) in &sinks {
        sink.close().await;
    }
    let rows = outcome?;
    output::note(&format!(
        "delivered {rows} {} of {number} {}",
        if rows == 1 { "row" } else { "rows" },
        if number == 1 { "table" } else { "tables" }
    ));
    Ok(Exit::Success)
}

/// Asks the stream that runs, wherever it does.
async fn ask(target: &Target, session: &Session, tables: &[SnapshotTable]) -> Result<Exit, Failed> {
    const ASK: &str = "SELECT pg_logical_emit_message(true, $1, $2)";
    for table in tables {
        let name = format!("{}.{}", table.schema, table.name);
        let asked = session.rows("write into its log", ASK, &[&SNAPSHOT_PREFIX, &name]).await;
        asked.map_err(|error| target.failed(&error))?;
        output::note(&format!(
            "asked the stream that reads slot `{}` for the rows of {name}; its log says when they are delivered",
            target.config.stream.slot
        ));
    }
    Ok(Exit::Success)
}

/// The published tables that are asked for.
async fn tables(target: &Target, asked: &[Glob]) -> Result<Vec<SnapshotTable>, Failed> {
    let session = target.session().await?;
    let name = &target.config.stream.publication;
    let found =
        publication::inspect(&session, name).await.map_err(|error| target.failed(&error))?;
    let Some(found) = found else {
        return Err(Exit::Failure.with(format!(
            "there is no publication `{name}` on {}; `herdsman stream slots create` makes it",
            target.node
        )));
    };
    let published = found.spec.tables.into_iter();
    let tables: Vec<_> = published
        .filter(|table| asked.iter().any(|glob| glob.matches(&table.schema, &table.name)))
        .map(|table| SnapshotTable {
            columns: table.columns,
            condition: table.row_filter,
            via_root: found.spec.via_partition_root,
            ..SnapshotTable::new(&table.schema, &table.name)
        })
        .collect();
    if tables.is_empty() {
        return Err(Exit::Failure.with(format!(
            "no table of publication `{name}` on {} matches; see `herdsman stream status --json`",
            target.node
        )));
    }
    Ok(tables)
}

fn filter(stream: &StreamConfig) -> Result<Filter, Failed> {
    let wrong = |error| Exit::Config.with(error);
    let plain = Filter::new(stream, MaskKey::from_bytes(&[])).map_err(wrong)?;
    if !plain.hashes() {
        return Ok(plain);
    }
    let key = MaskKey::in_folder(&stream.state).map_err(|error| Exit::Failure.with(error))?;
    Filter::new(stream, key).map_err(wrong)
}

async fn open(stream: &StreamConfig) -> Result<Vec<Named>, Failed> {
    let mut sinks = Vec::new();
    for (name, sink) in &stream.sinks {
        let sink = sink.build(name, stream.shape).map_err(|error| Exit::Config.with(error))?;
        sink.open().await.map_err(|error| Exit::Failure.with(format!("sink `{name}`: {error}")))?;
        sinks.push((name.clone(), sink));
    }
    Ok(sinks)
}

/// Takes a snapshot that nothing else needs, and begins to read.
async fn begin(target: &Target, tables: Vec<SnapshotTable>) -> Result<Copying, Failed> {
    let failed = |error| target.failed(&error);
    let mut asking =
        Replication::connect(&target.info, &target.tls, LIMIT).await.map_err(failed)?;
    let identity = asking.identify().await.map_err(failed)?;
    let source = Source {
        system_id: identity.system_id,
        timeline: identity.timeline,
        database: identity.database.as_str().into(),
        slot: target.config.stream.slot.as_str().into(),
    };
    let name = format!("herdsman_snapshot_{}", std::process::id());
    let slot = SlotName::new(&name).map_err(|error| Exit::Internal.with(error))?;
    let held =
        HeldSnapshot::take(&target.info, &target.tls, &slot, LIMIT * 6).await.map_err(failed)?;
    let snapshot = Snapshot { tables, parallel: 2, ..Snapshot::default() };
    let progress = SnapshotProgress::default();
    snapshot
        .start(&target.info, &target.tls, held.exported(), Arc::new(source), progress)
        .await
        .map_err(|error| Exit::Failure.with(format!("{}: {error}", target.node)))
}

async fn copy(
    stream: &StreamConfig,
    mut copying: Copying,
    filter: &mut Filter,
    sinks: &[Named],
) -> Result<u64, Failed> {
    let mut shown = None::<tokio::time::Instant>;
    let mut delivered = 0;
    loop {
        let event = copying.next().await.map_err(|error| Exit::Failure.with(error))?;
        match event {
            Some(SnapshotEvent::Rows(rows)) => {
                let mut changes = Vec::with_capacity(rows.len());
                for row in rows.iter() {
                    let change = filter.apply(row).map_err(|error| Exit::Config.with(error))?;
                    changes.extend(change.map(Arc::new));
                }
                delivered += u64::try_from(changes.len()).unwrap_or(u64::MAX);
                deliver(stream, sinks, changes).await?;
            }
            Some(SnapshotEvent::Done) | None => break,
            Some(_) => {}
        }
        if shown.is_none_or(|at| at.elapsed() >= SHOWN) {
            show(&copying);
            shown = Some(tokio::time::Instant::now());
        }
    }
    show(&copying);
    output::end_progress();
    Ok(delivered)
}

fn show(copying: &Copying) {
    if let Some(width) = show::error_width() {
        output::progress(&progress_bar(&copying.stats(), copying.elapsed(), width));
    }
}

/// Delivers to every sink, each tried as often as the configuration says.
async fn deliver(
    stream: &StreamConfig,
    sinks: &[Named],
    changes: Vec<Arc<Change>>,
) -> Result<(), Failed> {
    if changes.is_empty() {
        return Ok(());
    }
    for (name, sink) in sinks {
        let mut batch = Batch { changes: changes.clone(), position: None };
        let mut failures = 0;
        while let Err(error) = sink.deliver(&batch).await {
            failures += 1;
            if failures >= stream.retry.attempts {
                return Err(Exit::Failure.with(format!(
                    "sink `{name}`: {}; not all rows are delivered",
                    super::dlq::why(&error)
                )));
            }
            if let DeliveryError::Partly(left) = error {
                let left = left.into_iter().filter_map(|one| batch.changes.get(one.index).cloned());
                batch.changes = left.collect();
            }
            tokio::time::sleep(stream.retry.backoff().pause(failures, 1.0)).await;
        }
    }
    Ok(())
}
