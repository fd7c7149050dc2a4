//! `herdsman mesh verify` and `herdsman mesh orphans`.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use herdsman_mesh::verify::{self, Options, Progress, Report, TableReport, Verdict};
use herdsman_mesh::{MeshError, Setup};

use super::target::{Target, failed};
use crate::cli::Global;
use crate::exit::{Exit, Failed};
use crate::output;
use crate::show::{self, clean};

/// `herdsman mesh verify`.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// Only tables that match
    #[arg(long = "table", value_name = "GLOB")]
    tables: Vec<String>,
    /// Put right what differs
    #[arg(long)]
    repair: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// `herdsman mesh orphans`.
#[derive(Debug, Args)]
pub(super) struct OrphansArgs {
    /// Delete them, on one member, for all
    #[arg(long)]
    repair: bool,
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

const HEADER: [&str; 5] = ["TABLE", "ROWS", "DIFFERING", "VERDICT", "REMARKS"];
/// Keys of a table that are shown.
const SHOWN: usize = 10;
/// How long orphans may still be on their way to the parents they seem to lack.
const PATIENCE: Duration = Duration::from_secs(30);

/// Compares and tells.
pub(super) async fn run(args: &VerifyArgs, global: &Global) -> Result<Exit, Failed> {
    let Target { setup, .. } = Target::find(global.config.as_deref())?;
    let options =
        Options { tables: args.tables.clone(), repair: args.repair, ..Options::default() };
    let report = compare(&setup, &options).await.map_err(|error| failed(&error))?;
    if args.json {
        output::line(&serde_json::to_string_pretty(&report).unwrap_or_default());
    } else {
        output::line(&text(&report));
    }
    Ok(exit(&report))
}

/// Compares, and shows how far it is.
pub(super) async fn compare(setup: &Arc<Setup>, options: &Options) -> Result<Report, MeshError> {
    let report = verify::run(setup, options, |progress| output::progress(&bar(progress))).await;
    output::progress("");
    report
}

/// How a command ends with this report.
pub(super) fn exit(report: &Report) -> Exit {
    match report.verdict {
        Verdict::Equal | Verdict::Repaired => Exit::Success,
        Verdict::Uncertain | Verdict::Differs => Exit::Failure,
    }
}

fn bar(progress: &Progress) -> String {
    const WIDTH: usize = 20;
    // At most so many are filled; a fraction is from 0 to 1.
    let filled = (1..=WIDTH)
        .filter(|place| f64::from(u32::try_from(*place).unwrap_or(0)) / 20.0 <= progress.fraction)
        .count();
    let left = progress.left.map(|left| format!(", {} s left", left.as_secs())).unwrap_or_default();
    let again = match progress.suspects {
        0 => String::new(),
        keys => format!(", {keys} keys are looked at again"),
    };
    format!(
        "[{}{}] {} ({} of {}){left}{again}",
        "#".repeat(filled),
        " ".repeat(WIDTH - filled),
        clean(&progress.table),
        progress.done + 1,
        progress.tables
    )
}

/// The report for a person.
pub(super) fn text(report: &Report) -> String {
    let rows = report.tables.iter().map(row).collect();
    let mut lines = vec![show::table(HEADER, rows)];
    for table in report.tables.iter().filter(|table| !table.keys.is_empty()) {
        lines.push(String::new());
        for key in table.keys.iter().take(SHOWN) {
            let held: Vec<_> = key
                .held
                .iter()
                .map(|(member, held)| {
                    let held = serde_json::to_string(held).unwrap_or_default();
                    format!("{member} {held}")
                })
                .collect();
            let columns = serde_json::to_string(&key.key).unwrap_or_default();
            lines.push(clean(&format!("{} {columns}: {}", table.table, held.join(", "))));
        }
        let more = table.differing.saturating_sub(u64::try_from(SHOWN).unwrap_or(0));
        if more > 0 {
            lines.push(format!("{} and {more} more", clean(&table.table)));
        }
    }
    lines.push(String::new());
    let verdict = match report.verdict {
        Verdict::Equal => "hold the same rows",
        Verdict::Repaired => "hold the same rows now",
        Verdict::Uncertain => "may hold the same rows: it cannot be said",
        Verdict::Differs => "do not hold the same rows",
    };
    lines.push(format!(
        "{} {verdict} ({:.1} s)",
        herdsman_config::and(&report.members),
        report.seconds
    ));
    lines.join("\n")
}

fn row(table: &TableReport) -> [String; 5] {
    let rows = table.rows.values().copied().max().unwrap_or(0);
    let mut remarks = Vec::new();
    if table.uncertain > 0 {
        remarks.push(format!("{} keys are being written or on their way", table.uncertain));
    }
    if !table.behind.is_empty() {
        remarks.push(format!("behind: {}", table.behind.join(", ")));
    }
    if table.repaired > 0 {
        remarks.push(format!("{} keys put right", table.repaired));
    }
    if table.clashes > 0 {
        remarks.push(format!("{} rows clash with others", table.clashes));
    }
    for (member, rows) in table.evicted.iter().filter(|(_, rows)| **rows > 0) {
        remarks.push(format!("{rows} evicted on {member}"));
    }
    let verdict = match table.verdict {
        Verdict::Equal => "equal",
        Verdict::Repaired => "repaired",
        Verdict::Uncertain => "uncertain",
        Verdict::Differs => "differs",
    };
    [
        clean(&table.table),
        rows.to_string(),
        table.differing.to_string(),
        verdict.to_owned(),
        clean(&remarks.join("; ")),
    ]
}

/// Looks for rows whose foreign key points to nothing.
pub(super) async fn orphans(args: &OrphansArgs, global: &Global) -> Result<Exit, Failed> {
    let Target { setup, .. } = Target::find(global.config.as_deref())?;
    let found = verify::orphans(&setup, PATIENCE, args.repair).await;
    let found = found.map_err(|error| failed(&error))?;
    if args.json {
        output::line(&serde_json::to_string_pretty(&found).unwrap_or_default());
    } else if found.is_empty() {
        output::line("there are no orphans");
    } else {
        let rows = found.iter().map(|orphans| {
            [
                clean(&orphans.table),
                clean(&orphans.foreign_key),
                clean(&orphans.to),
                orphans.rows.to_string(),
                orphans.deleted.to_string(),
            ]
        });
        let header = ["TABLE", "FOREIGN KEY", "TO", "ROWS", "DELETED"];
        output::line(&show::table(header, rows.collect()));
    }
    let left = found.iter().any(|orphans| orphans.deleted < orphans.rows);
    Ok(if left { Exit::Failure } else { Exit::Success })
}
