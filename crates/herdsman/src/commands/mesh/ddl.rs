//! `herdsman mesh ddl`: tables are altered on all members at once.

use std::time::Duration;

use clap::Args;
use herdsman_mesh::ddl::{self, Altered, Options, Progress};

use super::target::{Target, failed};
use crate::cli::Global;
use crate::exit::{Exit, Failed};
use crate::output;
use crate::show::clean;

/// `herdsman mesh ddl`.
#[derive(Debug, Args)]
pub(super) struct DdlArgs {
    /// Statements, each an argument of its own: all of them take effect, or none
    #[arg(value_name = "STATEMENT", required_unless_present = "retry")]
    statements: Vec<String>,
    /// Run them as this role [default: who owns the mesh's tables, where it is one role]
    #[arg(long, value_name = "NAME", conflicts_with = "retry")]
    role: Option<String>,
    /// How long it may take; nothing is changed where that is not enough
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(5..=86_400))]
    timeout: u64,
    /// Complete a job that not all members have done, or do one again that was given up
    #[arg(long, value_name = "JOB", conflicts_with = "statements")]
    retry: Option<i64>,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

/// Alters, and shows how far it is.
pub(super) async fn run(args: &DdlArgs, global: &Global) -> Result<Exit, Failed> {
    let Target { setup, .. } = Target::find(global.config.as_deref())?;
    let timeout = Duration::from_secs(args.timeout);
    let tell = |progress: &Progress| output::progress(&line(progress));
    let altered = match args.retry {
        Some(id) => ddl::retry(&setup, id, timeout, tell).await,
        None => {
            let statements = args.statements.clone();
            let options = Options { statements, role: args.role.clone(), timeout };
            ddl::run(&setup, &options, tell).await
        }
    };
    output::progress("");
    let altered = altered.map_err(|error| failed(&error))?;
    if args.json {
        output::line(&serde_json::to_string_pretty(&altered).unwrap_or_default());
        return Ok(Exit::Success);
    }
    for note in &altered.notes {
        output::note(&format!("note: {}", clean(note)));
    }
    output::line(&text(&altered, setup.config.nodes.len()));
    Ok(Exit::Success)
}

fn line(progress: &Progress) -> String {
    let told = |what: &str, waiting: &[String]| format!("{what}: {}", waiting.join(", "));
    let line = match progress {
        Progress::Rehearsing => {
            "running the statements on each member, and taking them back".into()
        }
        Progress::Locking { waiting, attempt: 1 } => told("waiting for locks", waiting),
        Progress::Locking { waiting, attempt } => {
            told(&format!("waiting for locks (attempt {attempt})"), waiting)
        }
        Progress::Draining { waiting } => told("applying what was written before", waiting),
        Progress::Committing { waiting } => told("committing", waiting),
    };
    clean(&line)
}

fn text(altered: &Altered, members: usize) -> String {
    let locked = match altered.tables.len() {
        0 => String::new(),
        _ => format!(", {} locked", altered.tables.join(", ")),
    };
    clean(&format!(
        "job {}: done on {members} members in {:.1} s{locked}",
        altered.id, altered.seconds
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_where_it_was_done_and_what_was_locked() {
        let altered = Altered {
            id: 7,
            tables: vec!["public.acc".into()],
            attempts: 1,
            seconds: 1.25,
            notes: Vec::new(),
        };
        assert_eq!(text(&altered, 3), "job 7: done on 3 members in 1.2 s, public.acc locked");
        let waiting = vec!["n2".into(), "n3".into()];
        let locking = Progress::Locking { waiting, attempt: 2 };
        assert_eq!(line(&locking), "waiting for locks (attempt 2): n2, n3");
    }
}
