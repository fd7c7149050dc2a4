//! `herdsman mesh loadtest`: load on every member, and whether they are alike afterwards.

use std::time::Duration;

use clap::{Args, ValueEnum};
use herdsman_mesh::loadtest::{self, Options, Outcome, Progress, TABLE, Test};
use herdsman_mesh::table::TableName;
use herdsman_mesh::verify;
use serde_json::json;

use super::target::{Target, failed};
use super::verify::{compare, exit, text};
use crate::cli::Global;
use crate::exit::{Exit, Failed};
use crate::output;

/// `herdsman mesh loadtest`.
#[derive(Debug, Args)]
pub(super) struct LoadtestArgs {
    /// What to do again and again
    #[arg(value_enum)]
    test: TestArg,
    /// Statements in all [default: as the python example: 800 insert, 75 update, 280 select]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    rows: Option<u64>,
    /// How long at most
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// How many at the same time [default: 2 insert, 3 update or select]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1000))]
    writers: Option<u32>,
    /// The table, as the python example's
    #[arg(long, value_name = "SCHEMA.TABLE", default_value_t = format!("public.{TABLE}"))]
    table: String,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TestArg {
    Insert,
    Update,
    Select,
}

/// Loads, then compares.
pub(super) async fn run(args: &LoadtestArgs, global: &Global) -> Result<Exit, Failed> {
    let Target { setup, .. } = Target::find(global.config.as_deref())?;
    let Some((schema, name)) = args.table.split_once('.') else {
        let problem = format!("`{}` is no table, expected SCHEMA.TABLE", args.table);
        return Err(Exit::Usage.with(problem));
    };
    let options = Options {
        test: match args.test {
            TestArg::Insert => Test::Insert,
            TestArg::Update => Test::Update,
            TestArg::Select => Test::Select,
        },
        table: TableName::new(schema, name),
        rows: args.rows,
        seconds: args.seconds.map(Duration::from_secs),
        writers: args.writers,
    };
    let outcome =
        loadtest::run(&setup, &options, |progress| output::progress(&bar(progress))).await;
    output::progress("");
    let outcome = outcome.map_err(|error| failed(&error))?;
    if !args.json {
        output::line(&told(&outcome));
    }
    let look = verify::Options { tables: vec![args.table.clone()], ..verify::Options::default() };
    let report = compare(&setup, &look).await.map_err(|error| failed(&error))?;
    if args.json {
        let document = json!({"outcome": outcome, "verify": report});
        output::line(&serde_json::to_string_pretty(&document).unwrap_or_default());
    } else {
        output::line(&text(&report));
    }
    Ok(exit(&report))
}

fn bar(progress: &Progress) -> String {
    let of = progress.of.map(|of| format!(" of {of}")).unwrap_or_default();
    let seconds = progress.elapsed.as_secs_f64();
    let failed = match progress.failed {
        0 => String::new(),
        failed => format!(", {failed} failed and were tried again"),
    };
    format!("{}{of} in {seconds:.1} s{failed}", progress.done)
}

fn told(outcome: &Outcome) -> String {
    let what = match outcome.test {
        Test::Insert => "rows inserted",
        Test::Update => "updates",
        Test::Select => "reads",
    };
    let (half, most) = outcome.latency_ms;
    let mut lines = vec![format!(
        "{} {what} through {} in {:.1} s; half within {half:.1} ms, 99 % within {most:.1} ms",
        outcome.done,
        herdsman_config::and(&outcome.members),
        outcome.seconds,
    )];
    if let Some(problem) = &outcome.problem {
        lines.push(format!("{} failed and were tried again: {problem}", outcome.failed));
    }
    lines.push(String::new());
    lines.join("\n")
}
