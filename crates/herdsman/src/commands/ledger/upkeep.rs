//! What an operator does to a ledger: nodes are taken out and brought back, what they hold is written into files, and the log
//! forgets what nobody needs.

use std::path::{Path, PathBuf};

use clap::Args;
use herdsman_ledger::engine::RequestError;
use herdsman_ledger::{Offset, snapshot};
use serde::{Deserialize, Serialize};

use super::keeper::Keeper;
use super::target;
use super::work::{self, Answer, Request};
use crate::cli::Global;
use crate::exit::{Exit, Failed};
use crate::output;

/// `herdsman ledger fence`.
#[derive(Debug, Args)]
pub(super) struct FenceArgs {
    /// The node, as `ledger.nodes` names it
    #[arg(value_name = "NODE")]
    node: String,
    /// What `ledger status` says of it then
    #[arg(long, value_name = "TEXT", default_value = "taken out by an operator")]
    why: String,
}

/// `herdsman ledger join`.
#[derive(Debug, Args)]
pub(super) struct JoinArgs {
    /// The node: fenced, or too far behind for what the log still has
    #[arg(value_name = "NODE")]
    node: String,
    /// Whose rows it takes [default: one that follows the log, PostgreSQL first]
    #[arg(long, value_name = "NODE")]
    from: Option<String>,
}

/// `herdsman ledger backup`.
#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// Where it is written, for you alone to read; what is there stays until the new one is whole
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Whose rows they are [default: one that follows the log, PostgreSQL first]
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
}

/// `herdsman ledger restore`.
#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The node, which must be fenced
    #[arg(value_name = "NODE")]
    node: String,
    /// The backup, of a node of any make
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// `herdsman ledger trim`.
#[derive(Debug, Args)]
pub(super) struct TrimArgs {
    /// A backup that is to be of use after it: what came after it stays in the log. May be given several times
    #[arg(long, value_name = "FILE")]
    backup: Vec<PathBuf>,
}

/// What is to be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Upkeep {
    Fence { node: String, why: String },
    Join { node: String, from: Option<String> },
    Backup { node: Option<String>, file: PathBuf },
    Restore { node: String, file: PathBuf },
    Trim { backup: Option<u64> },
}

/// What was done.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Upkept {
    Fenced,
    Joined { from: String, entry: u64 },
    BackedUp { node: String, entry: u64, tables: usize, rows: u64 },
    Restored { entry: u64 },
    Trimmed { first: u64 },
}

/// `herdsman ledger fence`.
pub(super) async fn fence(args: &FenceArgs, global: &Global) -> Result<Exit, Failed> {
    let FenceArgs { node, why } = args;
    ask(Upkeep::Fence { node: node.clone(), why: why.clone() }, global).await?;
    output::line(&format!(
        "{node} is out of the ledger: `herdsman ledger join {node}` brings it back"
    ));
    Ok(Exit::Success)
}

/// `herdsman ledger join`.
pub(super) async fn join(args: &JoinArgs, global: &Global) -> Result<Exit, Failed> {
    let JoinArgs { node, from } = args;
    let Upkept::Joined { from, entry } =
        ask(Upkeep::Join { node: node.clone(), from: from.clone() }, global).await?
    else {
        return Err(strange());
    };
    output::line(&format!(
        "{node} holds what {from} held at entry {entry}, and follows the log from there"
    ));
    Ok(Exit::Success)
}

/// `herdsman ledger backup`.
pub(super) async fn backup(args: &BackupArgs, global: &Global) -> Result<Exit, Failed> {
    let asked = Upkeep::Backup { node: args.node.clone(), file: absolute(&args.file)? };
    let Upkept::BackedUp { node, entry, tables, rows } = ask(asked, global).await? else {
        return Err(strange());
    };
    let tables = if tables == 1 { "1 table".to_owned() } else { format!("{tables} tables") };
    let rows = if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") };
    let file = args.file.display();
    output::line(&format!("{file} holds {tables} with {rows}: what {node} held at entry {entry}"));
    Ok(Exit::Success)
}

/// `herdsman ledger restore`.
pub(super) async fn restore(args: &RestoreArgs, global: &Global) -> Result<Exit, Failed> {
    let asked = Upkeep::Restore { node: args.node.clone(), file: absolute(&args.file)? };
    let Upkept::Restored { entry } = ask(asked, global).await? else { return Err(strange()) };
    output::line(&format!(
        "{} holds what {} holds, up to entry {entry}, and follows the log from there",
        args.node,
        args.file.display()
    ));
    Ok(Exit::Success)
}

/// `herdsman ledger trim`.
pub(super) async fn trim(args: &TrimArgs, global: &Global) -> Result<Exit, Failed> {
    let mut oldest: Option<u64> = None;
    for file in &args.backup {
        let path = file.clone();
        let found = tokio::task::spawn_blocking(move || snapshot::check(&path)).await;
        let found = found.map_err(|error| Exit::Failure.with(error))?;
        let found = found.map_err(|error| {
            Exit::Failure.with(format!("backup {}: {}", file.display(), error.reason))
        })?;
        oldest = Some(oldest.map_or(found.at.0, |at| at.min(found.at.0)));
    }
    let Upkept::Trimmed { first } = ask(Upkeep::Trim { backup: oldest }, global).await? else {
        return Err(strange());
    };
    output::line(&format!("the log begins with entry {first}"));
    Ok(Exit::Success)
}

async fn ask(upkeep: Upkeep, global: &Global) -> Result<Upkept, Failed> {
    let (_, setup) = target::find(global.config.as_deref())?;
    match work::ask(&setup, &Request::Upkeep(upkeep)).await? {
        Answer::Upkept(done) => Ok(done),
        _ => Err(strange()),
    }
}

fn strange() -> Failed {
    Exit::Unavailable.with("the running program answers something else; is it of another version?")
}

/// The program that does it stands in another folder.
fn absolute(file: &Path) -> Result<PathBuf, Failed> {
    std::path::absolute(file)
        .map_err(|error| Exit::Failure.with(format!("{}: {error}", file.display())))
}

/// Does it.
pub(super) async fn perform(keeper: &Keeper, upkeep: Upkeep) -> Result<Upkept, RequestError> {
    keeper.all_started().await;
    let ledger = &keeper.ledger;
    Ok(match upkeep {
        Upkeep::Fence { node, why } => {
            ledger.fence(&node, &why).await?;
            Upkept::Fenced
        }
        Upkeep::Join { node, from } => {
            let from = keeper.choose(from.as_deref()).await?;
            let entry = ledger.join(&node, &from).await?.0;
            Upkept::Joined { from, entry }
        }
        Upkeep::Backup { node, file } => {
            let node = keeper.choose(node.as_deref()).await?;
            let done = ledger.backup(&node, &file).await?;
            Upkept::BackedUp { node, entry: done.at.0, tables: done.tables, rows: done.rows }
        }
        Upkeep::Restore { node, file } => {
            Upkept::Restored { entry: ledger.restore(&node, &file).await?.0 }
        }
        Upkeep::Trim { backup } => {
            Upkept::Trimmed { first: ledger.trim(backup.map(Offset)).await?.0 }
        }
    })
}
