//! `herdsman mesh sequences`: keys that no two members give out.

use clap::Args;
use herdsman_mesh::install;
use herdsman_mesh::sequences::{self, SequenceStatus};

use super::target::{Target, failed};
use super::up;
use crate::cli::Global;
use crate::exit::{Exit, Failed};
use crate::output;
use crate::show::{self, clean};

/// `herdsman mesh sequences`.
#[derive(Debug, Args)]
pub(super) struct SequencesArgs {
    /// Give every member numbers of its own where it has none
    #[arg(long)]
    fix: bool,
    /// Show every statement of that, and do nothing
    #[arg(long)]
    plan: bool,
    /// Print them as JSON
    #[arg(long, conflicts_with_all = ["fix", "plan"])]
    json: bool,
}

const HEADER: [&str; 8] = ["MEMBER", "COLUMN", "KIND", "NEXT", "STEP", "LAST", "USED", "REMARKS"];

/// Shows, or mends.
pub(super) async fn run(args: &SequencesArgs, global: &Global) -> Result<Exit, Failed> {
    let Target { setup, .. } = Target::find(global.config.as_deref())?;
    if args.fix || args.plan {
        let found = install::survey(&setup).await.map_err(|error| failed(&error))?;
        let plan = sequences::plan(&setup, &found);
        for note in &plan.notes {
            output::note(&format!("note: {}", clean(note)));
        }
        up::refuse(&plan)?;
        if plan.steps.is_empty() {
            output::line("nothing to do");
            return Ok(Exit::Success);
        }
        output::line(&up::shown(&plan, args.plan));
        if !args.plan {
            install::carry_out(&setup, &plan, |_| {}).await.map_err(|error| failed(&error))?;
        }
        return Ok(Exit::Success);
    }
    let mut found = sequences::look(&setup).await.map_err(|error| failed(&error))?;
    found.sort_by(|a, b| (&a.table, &a.column, &a.node).cmp(&(&b.table, &b.column, &b.node)));
    if args.json {
        output::line(&serde_json::to_string_pretty(&found).unwrap_or_default());
    } else if found.is_empty() {
        output::line("there are no sequences");
    } else {
        output::line(&show::table(HEADER, found.iter().map(row).collect()));
    }
    let bad = found.iter().any(|sequence| !sequence.problems.is_empty());
    Ok(if bad { Exit::Failure } else { Exit::Success })
}

fn row(sequence: &SequenceStatus) -> [String; 8] {
    let remarks: Vec<_> =
        sequence.problems.iter().chain(&sequence.warnings).map(String::as_str).collect();
    // The same words as in the configuration.
    let kind = serde_json::to_value(sequence.kind).unwrap_or_default();
    [
        sequence.node.to_string(),
        clean(&format!("{}.{}", sequence.table, sequence.column)),
        kind.as_str().unwrap_or_default().to_owned(),
        sequence.next.to_string(),
        sequence.increment.to_string(),
        sequence.last.to_string(),
        format!("{:.1} %", sequence.used),
        clean(&remarks.join("; ")),
    ]
}
