//! `herdsman stream slots`: what keeps a stream's place on the server.

use clap::{Args, Subcommand};
use herdsman_node::Lsn;
use herdsman_stream::publication;
use herdsman_wal::inspect::Session;
use herdsman_wal::publication::Outcome;
use herdsman_wal::slot::{self, CreateOptions, Slot};
use herdsman_wal::{SlotName, WalError};

use super::target::Target;
use super::{JsonArgs, examples};
use crate::cli::Global;
use crate::exit::{Exit, Failed};
use crate::output;
use crate::show::{self, bytes, or_dash};

/// `herdsman stream slots`.
#[derive(Debug, Args)]
pub(super) struct SlotsArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show every slot of the server: who reads it, how much log is kept for it
    #[command(after_help = examples::SLOTS_LIST)]
    List(JsonArgs),
    /// Make the publication and the slot, where they are missing
    #[command(after_help = examples::SLOTS_CREATE)]
    Create(CreateArgs),
    /// Drop a slot; what was not read from it is lost
    #[command(after_help = examples::SLOTS_DROP)]
    Drop(DropArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// The slot [default: that of the configuration]
    slot: Option<SlotName>,
}

#[derive(Debug, Args)]
struct DropArgs {
    /// The slot [default: that of the configuration]
    slot: Option<SlotName>,
    /// Really drop it
    #[arg(long)]
    yes: bool,
}

const HEADER: [&str; 8] =
    ["SLOT", "PLUGIN", "DATABASE", "READ BY", "CONFIRMED", "WAITING", "KEPT", "REMARKS"];

/// Does what was asked.
pub(super) async fn run(args: &SlotsArgs, global: &Global) -> Result<Exit, Failed> {
    let target = Target::find(global).await?;
    match &args.action {
        Action::List(args) => list(&target, args.json).await,
        Action::Create(args) => create(&target, args.slot.as_ref()).await,
        Action::Drop(args) => drop(&target, args).await,
    }
}

async fn list(target: &Target, json: bool) -> Result<Exit, Failed> {
    let session = target.session().await?;
    let slots = slot::list(&session).await.map_err(|error| target.failed(&error))?;
    if json {
        output::line(&serde_json::to_string_pretty(&slots).unwrap_or_default());
    } else if slots.is_empty() {
        output::note(&format!("{} has no replication slots", target.node));
    } else {
        output::line(&show::table(HEADER, slots.iter().map(row).collect()));
    }
    Ok(Exit::Success)
}

fn row(slot: &Slot) -> [String; 8] {
    [
        slot.name.to_string(),
        or_dash(slot.plugin.as_deref()),
        or_dash(slot.database.as_deref()),
        or_dash(slot.active_pid.map(|pid| format!("PID {pid}"))),
        or_dash(slot.confirmed),
        or_dash(slot.waiting().map(bytes)),
        or_dash(slot.retained().map(bytes)),
        show::clean(&remarks(slot)),
    ]
}

/// Everything odd or good to know about a slot, in one cell.
pub(super) fn remarks(slot: &Slot) -> String {
    let mut remarks = Vec::new();
    if let Some(why) = slot.lost() {
        remarks.push(format!("lost: {why}"));
    }
    let flags = [
        (!slot.is_logical(), "physical"),
        (slot.temporary, "temporary"),
        (slot.failover, "kept by standbys"),
        (slot.synced, "copied from the primary"),
    ];
    remarks.extend(flags.iter().filter(|(is, _)| *is).map(|(_, word)| (*word).to_owned()));
    remarks.join("; ")
}

async fn create(target: &Target, named: Option<&SlotName>) -> Result<Exit, Failed> {
    let name = named.unwrap_or(&target.config.stream.slot);
    let mut session = target.session().await?;
    let there = slot::inspect(&session, name).await.map_err(|error| target.failed(&error))?;
    if let Some(there) = there {
        let at = or_dash(there.confirmed);
        output::line(&format!("slot `{name}` is there already on {}, at {at}", target.node));
        return Ok(Exit::Success);
    }
    make(target, &mut session, name).await?;
    Ok(Exit::Success)
}

/// Makes the publication where it is missing, then the slot, which must not be older than it.
pub(super) async fn make(
    target: &Target,
    session: &mut Session,
    name: &SlotName,
) -> Result<Lsn, Failed> {
    let stream = &target.config.stream;
    let failed = |error: &WalError| target.failed(error);
    let publication = publication::make(session, stream)
        .await
        .map_err(|error| Exit::Failure.with(format!("{}: {error}", target.node)))?;
    let shown = &stream.publication;
    match publication {
        Outcome::Created => {
            output::line(&format!("publication `{shown}` created on {}", target.node));
        }
        Outcome::Altered(_) => {
            output::line(&format!("publication `{shown}` brought up to date on {}", target.node));
        }
        Outcome::Unchanged => {}
    }
    let options = CreateOptions { failover: stream.failover, ..CreateOptions::default() };
    let made = slot::create(session, name, &options).await.map_err(|error| failed(&error))?;
    output::line(&format!(
        "slot `{name}` created on {}: every change committed after {} is kept for it",
        target.node, made.consistent_point
    ));
    if stream.failover && !made.failover {
        output::note(
            "it will not survive a promotion: slots on standbys need PostgreSQL 17 or later",
        );
    }
    Ok(made.consistent_point)
}

async fn drop(target: &Target, args: &DropArgs) -> Result<Exit, Failed> {
    let name = args.slot.as_ref().unwrap_or(&target.config.stream.slot);
    let session = target.session().await?;
    let there = slot::inspect(&session, name).await.map_err(|error| target.failed(&error))?;
    let Some(there) = there else {
        return Err(Exit::Failure.with(format!("there is no slot `{name}` on {}", target.node)));
    };
    if !args.yes {
        return Err(Exit::Usage.with(format!(
            "dropping slot `{name}` on {} loses what waits in it, up to {} of log; to do that, add `--yes`",
            target.node,
            bytes(there.waiting().unwrap_or(0))
        )));
    }
    slot::drop(&session, name).await.map_err(|error| target.failed(&error))?;
    output::line(&format!("slot `{name}` dropped on {}", target.node));
    Ok(Exit::Success)
}
