//! `herdsman ledger sql`: statements at a node, as one transaction that every node gets.

use clap::Args;
use herdsman_ledger::RequestId;
use herdsman_ledger::engine::request::random_request;
use serde_json::{Value, json};

use super::work::{self, Answer, Done, Request, Sql, Told};
use super::{printed, target};
use crate::cli::Global;
use crate::exit::{Exit, Failed};
use crate::output;

/// `herdsman ledger sql`.
#[derive(Debug, Args)]
pub(super) struct SqlArgs {
    /// The statements, each as one argument
    #[arg(value_name = "STATEMENT", required = true)]
    statements: Vec<String>,
    /// A value for $1, the next one for $2 and so on, of the one statement there is
    #[arg(long = "param", value_name = "VALUE", allow_hyphen_values = true)]
    params: Vec<String>,
    /// Where to run them [default: a node that follows the log, a PostgreSQL server if there is one]
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Print results as JSON
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print rows as CSV, and nothing else on standard output
    #[arg(long)]
    csv: bool,
    /// Read what the node has now, without what was just committed elsewhere
    #[arg(long)]
    stale: bool,
    /// The transaction's id, 32 hexadecimal digits: under the same id nothing is done twice
    #[arg(long, value_name = "ID", value_parser = request_id)]
    request: Option<RequestId>,
}

fn request_id(text: &str) -> Result<RequestId, String> {
    RequestId::parse(text).ok_or_else(|| "expected 32 hexadecimal digits".to_owned())
}

/// Runs them, and tells what came of them.
pub(super) async fn run(args: &SqlArgs, global: &Global) -> Result<Exit, Failed> {
    let (_, setup) = target::find(global.config.as_deref())?;
    let known = |node: &String| setup.config.nodes.contains_key(node);
    if let Some(node) = args.node.as_ref().filter(|node| !known(node)) {
        let names: Vec<_> = setup.config.nodes.keys().map(String::as_str).collect();
        let problem =
            format!("`{node}` is no node of the ledger, expected one of {}", names.join(", "));
        return Err(Exit::Usage.with(problem));
    }
    if !args.params.is_empty() && args.statements.len() > 1 {
        let problem =
            "--param is for one statement: which of several a value is for cannot be said";
        return Err(Exit::Usage.with(problem));
    }
    let request = Request::Sql(Sql {
        node: args.node.clone(),
        request: args.request.unwrap_or_else(random_request).to_string(),
        statements: args.statements.clone(),
        params: args.params.clone(),
        stale: args.stale,
    });
    let Answer::Sql(done) = work::ask(&setup, &request).await? else {
        return Err(
            Exit::Unavailable.with("the running program answers something else than a result")
        );
    };
    if args.json {
        output::line(&document(&done).to_string());
    } else {
        for told in &done.results {
            show(told, args.csv);
        }
        if let Some(entry) = done.entry {
            let line = format!("{}entry {entry}, at {}", changed(&done.results), done.node);
            if args.csv { output::note(&line) } else { output::line(&line) }
        }
    }
    if !done.acknowledged {
        output::note("it has committed, and fewer nodes have it yet than `ledger.ack` asks for");
    }
    Ok(Exit::Success)
}

fn show(told: &Told, csv: bool) {
    if told.columns.is_empty() {
        return;
    }
    output::line(&if csv {
        printed::csv(&told.columns, &told.rows)
    } else {
        printed::table(&told.columns, &told.rows)
    });
}

/// How many rows; nothing of a change of a table.
fn changed(results: &[Told]) -> String {
    if results.is_empty() {
        return "table changed, ".to_owned();
    }
    match results.iter().map(|told| told.affected).sum::<u64>() {
        1 => "1 row changed, ".to_owned(),
        rows => format!("{rows} rows changed, "),
    }
}

fn document(done: &Done) -> Value {
    let results = done
        .results
        .iter()
        .map(|told| json!({"affected": told.affected, "columns": told.columns, "rows": told.rows}));
    json!({
        "node": done.node,
        "entry": done.entry,
        "acknowledged": done.acknowledged,
        "results": results.collect::<Vec<_>>(),
    })
}
