//! `herdsman mesh conflicts`: what the members have recorded.

use std::time::Duration;

use clap::Args;
use herdsman_mesh::conflicts::{Conflict, Reader, Wanted};

use super::target::{Target, failed};
use crate::cli::{Global, time};
use crate::exit::{Exit, Failed};
use crate::output;
use crate::show::{self, clean};

/// `herdsman mesh conflicts`.
#[derive(Debug, Args)]
pub(super) struct ConflictsArgs {
    /// Only of tables that match
    #[arg(long, value_name = "GLOB")]
    table: Option<String>,
    /// Only those of this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Duration>,
    /// At most so many, the last ones
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: u32,
    /// Print one JSON object for each
    #[arg(long)]
    json: bool,
    /// Go on with those to come until Ctrl-C
    #[arg(long)]
    follow: bool,
}

const HEADER: [&str; 7] = ["AT", "MEMBER", "TABLE", "KEY", "KIND", "WINNER", "WHY"];
/// How often those to come are looked for.
const PAUSE: Duration = Duration::from_millis(500);

/// Shows them.
pub(super) async fn run(args: &ConflictsArgs, global: &Global) -> Result<Exit, Failed> {
    let Target { setup, .. } = Target::find(global.config.as_deref())?;
    let reader = Reader::open(&setup, args.table.as_deref()).await;
    let mut reader = reader.map_err(|error| failed(&error))?;
    let wanted = Wanted { since: args.since, limit: args.limit };
    let found = reader.last(&wanted).await.map_err(|error| failed(&error))?;
    if found.is_empty() && !args.follow && !args.json {
        output::note("there are no conflicts");
    }
    tell(&found, args, true);
    if !args.follow {
        return Ok(Exit::Success);
    }
    loop {
        tokio::time::sleep(PAUSE).await;
        let found = reader.next().await.map_err(|error| failed(&error))?;
        tell(&found, args, false);
    }
}

fn tell(found: &[Conflict], args: &ConflictsArgs, whole: bool) {
    if args.json {
        for conflict in found {
            output::line(&serde_json::to_string(conflict).unwrap_or_default());
        }
    } else if args.follow {
        // Those to come cannot be lined up.
        for conflict in found {
            output::line(&row(conflict).join("  "));
        }
    } else if whole && !found.is_empty() {
        output::line(&show::table(HEADER, found.iter().map(row).collect()));
    }
}

fn row(conflict: &Conflict) -> [String; 7] {
    let winner = if conflict.winner == "held" { &conflict.held } else { &conflict.arriving };
    [
        conflict.at.clone(),
        conflict.member.clone(),
        clean(&conflict.table),
        clean(&conflict.key.to_string()),
        conflict.kind.clone(),
        format!("{} ({})", show::or_dash(winner.node.as_ref()), conflict.winner),
        clean(&conflict.why),
    ]
}
