//! `herdsman stream dlq`: changes that could not be delivered, kept below the folder `stream.state`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use herdsman_stream::StreamConfig;
use herdsman_stream::dead_letter::{DeadLetter, DeadLetters};
use herdsman_stream::sink::{Batch, DeliveryError, Sink, Why};
use herdsman_wal::json;
use serde_json::{Value, json as object};

use super::{JsonArgs, examples};
use crate::cli::Global;
use crate::config::{Config, Depth};
use crate::exit::{Exit, Failed};
use crate::output;
use crate::show;

/// `herdsman stream dlq`.
#[derive(Debug, Args)]
pub(super) struct DlqArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show what is kept, and why
    #[command(after_help = examples::DLQ_LIST)]
    List(JsonArgs),
    /// Print dead letters in full, as JSON lines
    #[command(after_help = examples::DLQ_SHOW)]
    Show(Which),
    /// Deliver dead letters once more, the oldest first
    #[command(after_help = examples::DLQ_REPLAY)]
    Replay(Which),
    /// Take dead letters off the list without delivering them
    #[command(after_help = examples::DLQ_DROP)]
    Drop(Which),
}

/// Which dead letters are meant.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Which {
    /// Dead letters by id, as `list` shows them
    #[arg(value_name = "ID", conflicts_with_all = ["all", "sink"])]
    ids: Vec<String>,
    /// All of them
    #[arg(long)]
    all: bool,
    /// All of this sink
    #[arg(long, value_name = "SINK", conflicts_with = "all")]
    sink: Option<String>,
}

const HEADER: [&str; 6] = ["ID", "AGE", "KIND", "TABLE", "TRIES", "WHY"];

/// Does what was asked.
pub(super) async fn run(args: &DlqArgs, global: &Global) -> Result<Exit, Failed> {
    let config = Config::load(global.config.as_deref(), Depth::Full)?.stream;
    let letters = open(&config)?;
    match &args.action {
        Action::List(args) => list(letters.as_ref(), args.json),
        Action::Show(which) => {
            for letter in which.of(letters.as_ref())? {
                output::line(&full(&letter).to_string());
            }
            Ok(Exit::Success)
        }
        Action::Replay(which) => {
            let chosen = which.of(letters.as_ref())?;
            match &letters {
                Some(letters) => Box::pin(replay(&config, letters, chosen)).await,
                None => Ok(Exit::Success),
            }
        }
        Action::Drop(which) => {
            let ids: Vec<_> =
                which.of(letters.as_ref())?.into_iter().map(|letter| letter.id).collect();
            if let Some(letters) = letters {
                letters.drop(&ids).map_err(|error| Exit::Failure.with(error))?;
            }
            output::line(&format!("dropped {}", ids.len()));
            Ok(Exit::Success)
        }
    }
}

/// How many there are, by sink.
pub(super) fn counts(config: &StreamConfig) -> Result<BTreeMap<String, usize>, Failed> {
    let mut counts = BTreeMap::new();
    for letter in all(open(config)?.as_ref())? {
        *counts.entry(letter.sink).or_default() += 1;
    }
    Ok(counts)
}

impl Which {
    /// The letters that are meant, the oldest first.
    fn of(&self, letters: Option<&DeadLetters>) -> Result<Vec<DeadLetter>, Failed> {
        let mut letters = all(letters)?;
        if let Some(unknown) =
            self.ids.iter().find(|id| !letters.iter().any(|letter| letter.id == **id))
        {
            return Err(Exit::Failure.with(format!(
                "there is no dead letter `{unknown}`; `herdsman stream dlq list` shows those there are"
            )));
        }
        letters.retain(|letter| {
            self.all
                || self.ids.contains(&letter.id)
                || self.sink.as_ref().is_some_and(|sink| *sink == letter.sink)
        });
        Ok(letters)
    }
}

/// `None` where no stream has ever kept any.
fn open(config: &StreamConfig) -> Result<Option<DeadLetters>, Failed> {
    let there = config.state.is_dir().then(|| DeadLetters::open(&config.state));
    there.transpose().map_err(|error| Exit::Failure.with(error))
}

fn all(letters: Option<&DeadLetters>) -> Result<Vec<DeadLetter>, Failed> {
    let letters = letters.map(DeadLetters::list).transpose();
    letters.map(Option::unwrap_or_default).map_err(|error| Exit::Failure.with(error))
}

fn list(letters: Option<&DeadLetters>, as_json: bool) -> Result<Exit, Failed> {
    let letters = all(letters)?;
    if as_json {
        let told: Vec<_> = letters.iter().map(full).collect();
        output::line(&Value::from(told).to_string());
    } else if letters.is_empty() {
        output::note("there are no dead letters");
    } else {
        output::line(&show::table(HEADER, letters.iter().map(row).collect()));
    }
    Ok(Exit::Success)
}

fn row(letter: &DeadLetter) -> [String; 6] {
    let given_up = SystemTime::UNIX_EPOCH + Duration::from_secs(letter.time);
    let age = SystemTime::now().duration_since(given_up).unwrap_or_default().as_secs();
    [
        letter.id.clone(),
        match age {
            0..120 => format!("{age} s"),
            120..7200 => format!("{} min", age / 60),
            _ => format!("{} h", age / 3600),
        },
        letter.change.kind().name().to_owned(),
        show::or_dash(letter.change.table().map(|table| show::clean(&table.to_string()))),
        letter.attempts.to_string(),
        show::clean(&letter.error),
    ]
}

fn full(letter: &DeadLetter) -> Value {
    let mut change = Vec::new();
    json::write(json::Shape::Herdsman, &letter.change.view(), &mut change);
    object!({
        "id": letter.id,
        "time": letter.time,
        "sink": letter.sink,
        "attempts": letter.attempts,
        "error": letter.error,
        "idempotency_key": letter.idempotency_key,
        "change": serde_json::from_slice::<Value>(&change).unwrap_or_default(),
    })
}

/// Delivers one after the other. A sink whose letter fails again gets none of those behind it: they may be about the
/// same row.
async fn replay(
    config: &StreamConfig,
    letters: &DeadLetters,
    chosen: Vec<DeadLetter>,
) -> Result<Exit, Failed> {
    let mut by_sink: BTreeMap<String, Vec<DeadLetter>> = BTreeMap::new();
    for letter in chosen {
        by_sink.entry(letter.sink.clone()).or_default().push(letter);
    }
    let (mut delivered, mut left) = (0, 0);
    for (name, chosen) in by_sink {
        let Some(sink) = config.sinks.get(&name) else {
            return Err(Exit::Failure.with(format!(
                "dead letters for `{name}`, which is no sink of the configuration; add it, or drop them"
            )));
        };
        let sink = sink.build(&name, config.shape).map_err(|error| Exit::Config.with(error))?;
        let before = delivered;
        let number = chosen.len();
        let outcome = deliver(&*sink, letters, chosen, &mut delivered).await;
        sink.close().await;
        if let Err(problem) = outcome {
            left += number - (delivered - before);
            output::note(&format!("{name}: {problem}"));
        }
    }
    output::line(&format!("replayed {delivered}"));
    if left == 0 {
        return Ok(Exit::Success);
    }
    Err(Exit::Failure.with(format!("{left} stay on the list")))
}

async fn deliver(
    sink: &dyn Sink,
    letters: &DeadLetters,
    chosen: Vec<DeadLetter>,
    delivered: &mut usize,
) -> Result<(), String> {
    sink.open().await.map_err(|error| error.to_string())?;
    for letter in chosen {
        let batch = Batch { changes: vec![Arc::new(letter.change)], position: None };
        sink.deliver(&batch).await.map_err(|error| why(&error))?;
        letters.replayed(&[letter.id]).map_err(|error| error.to_string())?;
        *delivered += 1;
    }
    Ok(())
}

/// What a sink said, where it said it of single changes.
pub(super) fn why(error: &DeliveryError) -> String {
    let DeliveryError::Partly(parts) = error else { return error.to_string() };
    let told = parts.iter().find_map(|part| match &part.why {
        Why::Failed(error) | Why::Rejected(error) => Some(error.to_string()),
        Why::Behind => None,
    });
    told.unwrap_or_else(|| error.to_string())
}
