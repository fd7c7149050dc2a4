//! `herdsman mesh add`, `remove` and `down`: members come and go while writes run, and the mesh goes.

use clap::Args;
use herdsman_mesh::heal::Copying;
use herdsman_mesh::{join, leave};
use herdsman_node::NodeName;

use super::target::{Target, failed};
use super::up::line;
use crate::cli::Global;
use crate::exit::{Exit, Failed};
use crate::output;
use crate::show::{self, bytes};

/// `herdsman mesh add`.
#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// The node, which `hosts` and `mesh.nodes` list
    #[arg(value_name = "NODE")]
    node: String,
    /// Whose rows are copied [default: the member of the lowest number]
    #[arg(long, value_name = "NODE")]
    donor: Option<String>,
}

/// `herdsman mesh remove`.
#[derive(Debug, Args)]
pub(super) struct RemoveArgs {
    /// The member
    #[arg(value_name = "NODE")]
    node: String,
    /// It is lost: nothing is waited for, and what only some had received from it is spread
    #[arg(long)]
    dead: bool,
    /// With --dead, even if it answers
    #[arg(long, requires = "dead")]
    force: bool,
    /// Leave the mesh's two columns in its tables
    #[arg(long)]
    keep_columns: bool,
    /// Do not refuse users' writes while it is drained: what comes after the others have drained it stays there alone
    #[arg(long, conflicts_with = "dead")]
    keep_writable: bool,
    /// Call its leave off: a `remove` that was interrupted, or that waits, is undone
    #[arg(long, conflicts_with_all = ["dead", "force", "keep_columns", "keep_writable"])]
    cancel: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// `herdsman mesh down`.
#[derive(Debug, Args)]
pub(super) struct DownArgs {
    /// Off this node only, which was given up as lost and is there again [default: all]
    #[arg(value_name = "NODE")]
    node: Option<String>,
    /// Leave the mesh's two columns in the tables
    #[arg(long)]
    keep_columns: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Makes a node a member.
pub(super) async fn add(args: &AddArgs, global: &Global) -> Result<Exit, Failed> {
    let target = Target::find(global.config.as_deref())?;
    let node = target.node(&args.node)?;
    if !target.config.mesh.nodes.contains(&node) {
        let problem = format!(
            "`{node}` is not in `mesh.nodes` of {}; list it there, have the running Herdsman reload, and try again",
            target.config.path.display()
        );
        return Err(Exit::Config.with(problem));
    }
    let donor = args.donor.as_deref().map(|donor| target.node(donor)).transpose()?;
    let options = join::Options { donor, ..join::Options::default() };
    let joined =
        join::add(&target.setup, &node, &options, |progress| output::progress(&joining(progress)))
            .await;
    output::progress("");
    let joined = joined.map_err(|error| failed(&error))?;
    let from = match &joined.donor {
        Some(donor) => {
            let copied = &joined.copied;
            format!(" with {} rows ({}) from {donor}", copied.rows, bytes(copied.bytes))
        }
        None => String::new(),
    };
    output::line(&format!("{node} is member {}{from}, after {:.1} s", joined.id, joined.seconds));
    Ok(Exit::Success)
}

/// Takes a member out.
pub(super) async fn remove(args: &RemoveArgs, global: &Global) -> Result<Exit, Failed> {
    let target = Target::find(global.config.as_deref())?;
    let node = target.node(&args.node)?;
    if args.cancel {
        let called_off =
            leave::cancel(&target.setup, &node, |step| output::progress(&line(step))).await;
        output::progress("");
        called_off.map_err(|error| failed(&error))?;
        output::line(&format!("{node} stays a member, and can be written"));
        return Ok(Exit::Success);
    }
    if !args.yes {
        let what = if args.keep_columns { "its columns stay" } else { "its columns go" };
        let question = format!("{node} leaves the mesh; its rows stay, {what}");
        super::up::confirm(&question)?;
    }
    let options = leave::Options {
        dead: args.dead,
        force: args.force,
        keep_columns: args.keep_columns,
        keep_writable: args.keep_writable,
        ..leave::Options::default()
    };
    let left = leave::remove(&target.setup, &node, &options, |progress| {
        output::progress(&leaving(progress));
    })
    .await;
    output::progress("");
    let left = left.map_err(|error| failed(&error))?;
    let mut told = format!(
        "{node} has left; {} slots were dropped, which held {} of log",
        left.slots,
        bytes(left.freed)
    );
    if let Some(spread) = &left.spread {
        told.push_str(&format!("; {} keys that only some had received were spread", spread.keys));
    }
    output::line(&told);
    for note in &left.notes {
        output::note(&format!("note: {}", show::clean(note)));
    }
    Ok(Exit::Success)
}

/// Takes the mesh off the nodes.
pub(super) async fn down(args: &DownArgs, global: &Global) -> Result<Exit, Failed> {
    let target = Target::find(global.config.as_deref())?;
    let node = args.node.as_deref().map(|node| target.node(node)).transpose()?;
    if !args.yes {
        let which = node.as_ref().map_or("every node".to_owned(), ToString::to_string);
        let columns = if args.keep_columns { "columns stay" } else { "columns go" };
        super::up::confirm(&format!("the mesh is taken off {which}; rows stay, its {columns}"))?;
    }
    let off = leave::down(&target.setup, node.as_ref(), args.keep_columns, |step| {
        output::progress(&line(step));
    })
    .await;
    output::progress("");
    let off: Vec<_> =
        off.map_err(|error| failed(&error))?.iter().map(ToString::to_string).collect();
    output::line(&match off.as_slice() {
        [] => "there was nothing of a mesh".to_owned(),
        off => format!("the mesh is off {}", herdsman_config::and(off)),
    });
    Ok(Exit::Success)
}

/// What is copied, for a person who waits.
pub(super) fn copying(copying: &Copying) -> String {
    let left = copying.left.map(|left| format!(", {} s left", left.as_secs())).unwrap_or_default();
    format!(
        "{:.0} %: {} rows, {}, {} of {} tables{left}",
        copying.fraction * 100.0,
        copying.rows,
        bytes(copying.bytes),
        copying.done,
        copying.tables
    )
}

fn joining(progress: &join::Progress) -> String {
    match progress {
        join::Progress::Preparing(step) => line(step),
        join::Progress::WaitingForDonor { donor, bytes: behind } => {
            format!("{donor} has {} of the others' logs to apply yet", bytes(*behind))
        }
        join::Progress::Copying(what) => format!("copying, {}", copying(what)),
        join::Progress::CatchingUp { bytes: behind } => {
            format!("catching up, {} of log to go", bytes(*behind))
        }
    }
}

fn leaving(progress: &leave::Progress) -> String {
    match progress {
        leave::Progress::Draining { behind } => match behind.as_slice() {
            [] => "draining".to_owned(),
            behind => format!("draining: {}", behind.join(", ")),
        },
        leave::Progress::Healing => "spreading what only some had received".to_owned(),
        leave::Progress::Dropping => "dropping slots".to_owned(),
        leave::Progress::Removing(step) => line(step),
    }
}

impl Target {
    /// A node of the configuration.
    fn node(&self, name: &str) -> Result<NodeName, Failed> {
        let node = NodeName::new(name).ok().filter(|node| self.config.nodes.contains_key(node));
        node.ok_or_else(|| {
            let known: Vec<_> = self.config.nodes.keys().map(ToString::to_string).collect();
            let problem = format!(
                "`{name}` is no node of the configuration; it has {}",
                herdsman_config::and(&known)
            );
            Exit::Usage.with(problem)
        })
    }
}
