//! `herdsman mesh up`: the nodes of the configuration become a mesh.

use std::io::{self, BufRead, IsTerminal};

use clap::Args;
use herdsman_mesh::heal;
use herdsman_mesh::install::{self, Options, Plan, Step};

use super::members::copying;
use super::target::{Target, failed};
use crate::cli::{ConfigFile, Global};
use crate::exit::{Exit, Failed};
use crate::output;
use crate::show::clean;

/// `herdsman mesh up`.
#[derive(Debug, Args)]
pub(super) struct UpArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Show every statement, and do nothing
    #[arg(long, conflicts_with = "yes")]
    plan: bool,
    /// Put together rows that several members have already
    #[arg(long)]
    merge: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Plans, shows, asks, does.
pub(super) async fn run(args: &UpArgs, global: &Global) -> Result<Exit, Failed> {
    let file = args.file.file.as_deref().or(global.config.as_deref());
    let Target { setup, .. } = Target::find(file)?;
    let options = Options { merge: args.merge, ..Options::default() };
    let (_, plan) = install::prepare(&setup, &options).await.map_err(|error| failed(&error))?;
    for note in &plan.notes {
        output::note(&format!("note: {}", clean(note)));
    }
    refuse(&plan)?;
    let name = &setup.config.name;
    if plan.steps.is_empty() && plan.copies.is_empty() {
        output::line(&format!("mesh `{name}`: nothing to do"));
        return Ok(Exit::Success);
    }
    output::line(&shown(&plan, args.plan));
    if args.plan {
        return Ok(Exit::Success);
    }
    if !args.yes {
        confirm(&count(&plan))?;
    }
    install::carry_out(&setup, &plan, |step| output::progress(&line(step)))
        .await
        .map_err(|error| failed(&error))?;
    heal::spread(&setup, &plan.copies, |from, to, how_far| {
        output::progress(&format!("{from} to {to}: {}", copying(how_far)));
    })
    .await
    .map_err(|error| failed(&error))?;
    output::progress("");
    output::line(&format!("mesh `{name}`: {} done", count(&plan)));
    Ok(Exit::Success)
}

/// Ends here while something is in the way.
pub(super) fn refuse(plan: &Plan) -> Result<(), Failed> {
    if plan.problems.is_empty() {
        return Ok(());
    }
    let problems: Vec<_> =
        plan.problems.iter().map(|problem| format!("- {}", clean(problem))).collect();
    let problem = format!("nothing was changed; in the way is:\n{}", problems.join("\n"));
    Err(Exit::Failure.with(problem))
}

/// The steps in words, and what is said to the server where `statements`.
pub(super) fn shown(plan: &Plan, statements: bool) -> String {
    let mut lines = Vec::new();
    for step in &plan.steps {
        lines.push(line(step));
        if statements {
            lines.extend(step.sql.iter().map(|sql| format!("    {sql};")));
        }
    }
    for copy in &plan.copies {
        lines.push(format!("{}: copy the rows of {} from {}", copy.to, copy.table, copy.from));
    }
    lines.join("\n")
}

pub(super) fn line(step: &Step) -> String {
    format!("{}: {}", step.node, clean(&step.what))
}

fn count(plan: &Plan) -> String {
    match plan.steps.len() {
        1 => "1 step".to_owned(),
        many => format!("{many} steps"),
    }
}

/// Asks whoever sits there.
pub(super) fn confirm(what: &str) -> Result<(), Failed> {
    let unconfirmed = || Exit::Usage.with("nothing was changed; to do this, add `--yes`");
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(unconfirmed());
    }
    output::progress(&format!("{what}: do this? [y/N] "));
    let mut answer = String::new();
    // What cannot be read is no yes.
    let _no_answer = io::stdin().lock().read_line(&mut answer);
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(unconfirmed()) }
}
