//! `herdsman mesh pause` and `resume`: said to the running Herdsman.

use std::path::Path;

use clap::Args;
use herdsman_api::Scope;
use herdsman_config::Secret;
use serde_json::{Value, json};

use super::RemoteArgs;
use super::target::Target;
use crate::cli::Global;
use crate::client::Answer;
use crate::commands::ask;
use crate::config::Config;
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
    let token = token(args.ask.token_file.as_deref(), &config)?;
    let shows_certificate = args.ask.cert.is_some() || config.api.client.is_some();
    if token.is_none() && !shows_certificate {
        let problem = "there is no `mesh.control.token` in the configuration, nor a token of the scope `operate` under \
                       `api.tokens`, nor a certificate to show; without one nobody may change the mesh";
        return Err(Exit::Unavailable.with(problem));
    }
    let endpoint = ask::endpoint(&args.ask.ask(), global)?;
    let path = if pause { "/v2/mesh/pause" } else { "/v2/mesh/resume" };
    let body = args.link.as_ref().map_or_else(|| json!({}), |link| json!({"link": link}));
    let answer = endpoint.post(path, token.as_ref().map(Secret::expose), &body.to_string()).await;
    let answer = answer.map_err(|error| Exit::Unavailable.with(error))?;
    if !answer.status.is_success() {
        return Err(refused(&answer));
    }
    let links = args.link.as_deref().unwrap_or("every link");
    output::line(&format!("{links}: {}", if pause { "held" } else { "goes on" }));
    Ok(Exit::Success)
}

/// What is shown: the token in a file, or the first one in the configuration that may operate.
fn token(file: Option<&Path>, config: &Config) -> Result<Option<Secret>, Failed> {
    let Some(file) = file else {
        let tokens = config.api.tokens.iter().filter(|known| known.scope == Scope::Operate);
        let configured = tokens.filter_map(|known| known.token.as_ref()).next();
        return Ok(config.mesh.control.token.as_ref().or(configured).cloned());
    };
    let problem =
        |problem: String| Exit::Usage.with(format!("no token in `{}`: {problem}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| problem(error.to_string()))?;
    match text.lines().next().unwrap_or_default() {
        "" => Err(problem("the first line is empty".to_owned())),
        token => Ok(Some(token.to_owned().into())),
    }
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
