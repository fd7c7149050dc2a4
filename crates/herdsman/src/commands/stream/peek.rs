//! `herdsman stream peek`: what waits in the slot, and stays there.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use herdsman_node::Lsn;
use herdsman_wal::json::{self, Shape};
use herdsman_wal::slot::{self, Slot};
use herdsman_wal::{
    Catalogue, ChangeRef, Event, Replication, SlotName, Source, Start, StreamOptions, WalError,
    quote_literal,
};

use super::ShapeArg;
use super::target::{LIMIT, Target};
use crate::cli::Global;
use crate::exit::{Exit, Failed};
use crate::output;

/// `herdsman stream peek`.
#[derive(Debug, Args)]
pub(super) struct PeekArgs {
    /// Changes to show at most
    #[arg(short = 'n', long, value_name = "N")]
    number: Option<u64>,
    /// herdsman, herdsman_typed, debezium or wal2json [default: that of the configuration]
    #[arg(long, value_enum, value_name = "SHAPE", hide_possible_values = true)]
    shape: Option<ShapeArg>,
}

/// The server says where it is when it has nothing more to send. Where it stops just short of the end of its log, which
/// happens at the border of a page, silence for so long means the same.
const QUIET: Duration = Duration::from_secs(2);

/// Bytes of lines that are put together before they are written.
const PIECE: usize = 64 << 10;

/// Shows what waits in the slot of the configuration.
pub(super) async fn run(args: &PeekArgs, global: &Global) -> Result<Exit, Failed> {
    let target = Target::find(global).await?;
    let shape = args.shape.map_or(target.config.stream.shape, Shape::from);
    show(&target, args.number, shape).await
}

/// Writes up to `number` of the changes that wait, as lines.
pub(super) async fn show(
    target: &Target,
    number: Option<u64>,
    shape: Shape,
) -> Result<Exit, Failed> {
    let looking = async {
        let (end, mut stream) = open(target).await?;
        let source = Arc::new(Source {
            slot: target.config.stream.slot.as_str().into(),
            ..Source::clone(stream.source())
        });
        let mut lines = Vec::new();
        let mut left = number.unwrap_or(u64::MAX);
        while left > 0 {
            let Ok(event) = tokio::time::timeout(QUIET, stream.next()).await else { break };
            match event? {
                Event::Change(change) => {
                    // As it will be delivered: from the slot itself, not from its copy.
                    let change = ChangeRef { source: &source, ..change };
                    json::write(shape, &change, &mut lines);
                    lines.push(b'\n');
                    left -= 1;
                }
                Event::Commit { end_lsn, .. } if end_lsn >= end => break,
                Event::Idle { wal_end } if wal_end >= end => break,
                _ => {}
            }
            if lines.len() >= PIECE {
                output::bytes(&lines);
                lines.clear();
            }
        }
        output::bytes(&lines);
        stream.close().await;
        Ok::<_, WalError>(left)
    };
    let left = Box::pin(looking).await.map_err(|error| target.failed(&error))?;
    if left == number.unwrap_or(u64::MAX) {
        output::note(&format!("nothing waits in slot `{}`", target.config.stream.slot));
    }
    Ok(Exit::Success)
}

/// Reads a copy of the slot that goes with the connection; says where the server's log ends now.
async fn open(target: &Target) -> Result<(Lsn, herdsman_wal::Stream), WalError> {
    let name = &target.config.stream.slot;
    let session = herdsman_wal::inspect::Session::connect(&target.info, &target.tls, LIMIT).await?;
    let found = slot::inspect(&session, name).await?;
    let endpoint = || target.info.endpoint();
    let Some(found) = found else {
        return Err(WalError::SlotMissing { endpoint: endpoint(), slot: name.to_string() });
    };
    // Whether somebody else reads it makes no difference to a copy.
    let unread = Slot { active_pid: None, ..found };
    let from = slot::may_start(None, &unread, &endpoint())?.lsn();
    let mut replication = Replication::connect(&target.info, &target.tls, LIMIT).await?;
    let end = replication.identify().await?.wal_position;
    let copy = format!("herdsman_peek_{}", std::process::id());
    let sql = format!(
        "SELECT pg_copy_logical_replication_slot({}, {}, true)",
        quote_literal(name.as_str()),
        quote_literal(&copy)
    );
    replication.query("copy the replication slot", &sql).await?;
    let start = Start {
        slot: SlotName::new(&copy).map_err(|error| WalError::Protocol {
            endpoint: endpoint(),
            problem: error.to_string(),
        })?,
        publications: vec![target.config.stream.publication.clone()],
        from,
        options: StreamOptions {
            local_only: !target.config.stream.foreign_origins,
            ..StreamOptions::default()
        },
    };
    let catalogue = Catalogue::new(target.info.clone(), target.tls.clone(), LIMIT);
    Ok((end, replication.start(start).await?.with_catalogue(catalogue)))
}

impl From<ShapeArg> for Shape {
    fn from(shape: ShapeArg) -> Self {
        match shape {
            ShapeArg::Herdsman => Self::Herdsman,
            ShapeArg::HerdsmanTyped => Self::HerdsmanTyped,
            ShapeArg::Debezium => Self::Debezium,
            ShapeArg::Wal2json => Self::Wal2json,
        }
    }
}
