//! `herdsman mesh pause` and `resume`: said to the running Herdsman.

use clap::Args;
use serde_json::{Value, json};

use super::RemoteArgs;
use super::target::Target;
use crate::cli::Global;
use crate::client::Answer;
use crate::commands::ask;
use crate::exit::{Exit, Failed};
use crate::output;

/// `herdsman mesh pause`, `herdsman mesh resume`.
#[derive(Debug, Args)]
pub(super) struct LinkArgs {
    /// Only what SOURCE wrote on its way to TARGET [default: everything]
    #[arg(value_name = "SOURCE:TARGET")]
    link: Option<String>,
    #[command(flatten)]
    ask: RemoteArgs,
}

/// Says it.
pub(super) async fn run(args: &LinkArgs, pause: bool, global: &Global) -> Result<Exit, Failed> {
    let Target { config, .. } = Target::find(global.config.as_deref())?;
    let Some(token) = &config.mesh.control.token else {
        let problem = "there is no `mesh.control.token` in the configuration; without one nobody may change the mesh";
        return Err(Exit::Unavailable.with(problem));
    };
    let endpoint = ask::endpoint(&args.ask.ask(), global)?;
    let path = if pause { "/v2/mesh/pause" } else { "/v2/mesh/resume" };
    let body = args.link.as_ref().map_or_else(|| json!({}), |link| json!({"link": link}));
    let answer = endpoint.post(path, token.expose(), &body.to_string()).await;
    let answer = answer.map_err(|error| Exit::Unavailable.with(error))?;
    if !answer.status.is_success() {
        return Err(refused(&answer));
    }
    let links = args.link.as_deref().unwrap_or("every link");
    output::line(&format!("{links}: {}", if pause { "held" } else { "goes on" }));
    Ok(Exit::Success)
}

/// What the API says is wrong.
fn refused(answer: &Answer) -> Failed {
    let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let told = document.pointer("/error/message").and_then(Value::as_str);
    let message = told.map_or_else(|| format!("the API answers {}", answer.status), str::to_owned);
    match answer.status.as_u16() {
        400 => Exit::Failure.with(message),
        404 if document.pointer("/error/code") == Some(&json!("not_found")) => {
            Exit::Failure.with(message)
        }
        _ => Exit::Unavailable.with(message),
    }
}
