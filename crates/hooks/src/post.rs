//! Messages over HTTP: a receiver of the user's, and Slack.

use std::collections::BTreeMap;
use std::time::Duration;

use herdsman_config::Secret;
use herdsman_stream::sinks::webhook::{Poster, Receiver, Url, Verdict};

use crate::config::{SlackConfig, WebhookConfig};
use crate::failure::{Failure, Kind};

/// A receiver, which takes at most so long.
pub(crate) fn webhook(config: &WebhookConfig, timeout: Duration) -> Result<Poster, String> {
    let mut headers = config.headers.clone();
    if let Some(token) = &config.token {
        let value = format!("Bearer {}", token.expose());
        headers.insert("authorization".to_owned(), Secret::from(value));
    }
    let receiver = Receiver {
        url: config.url.clone(),
        headers,
        secret: config.secret.clone(),
        ca_file: config.ca_file.clone(),
        timeout,
    };
    Poster::new(&receiver).map_err(|error| error.to_string())
}

/// Slack, or what has its interface.
pub(crate) fn slack(config: &SlackConfig, timeout: Duration) -> Result<Poster, String> {
    let url = config.url.as_ref().map_or("", Secret::expose);
    let receiver = Receiver {
        url: Url(url.to_owned()),
        headers: BTreeMap::new(),
        secret: None,
        ca_file: config.ca_file.clone(),
        timeout,
    };
    Poster::new(&receiver).map_err(|error| error.to_string())
}

/// Posts once. Says how long the receiver wants to be left alone, where it does.
pub(crate) async fn post(
    poster: &Poster,
    body: String,
    id: &str,
) -> Result<String, (Failure, Option<Duration>)> {
    let answer = poster.post(body.into(), id).await;
    let wait = answer.retry_after();
    let late = matches!(answer, herdsman_stream::sinks::webhook::Answer::Late(_));
    let kind = |kind| if late { Kind::Late } else { kind };
    match answer.verdict(&poster.target()) {
        Verdict::Taken => Ok(format!("told {}", poster.target())),
        Verdict::Refused(error) => {
            Err((Failure { kind: kind(Kind::Refused), problem: error.to_string() }, None))
        }
        Verdict::Failed(error) | Verdict::Down(error) => {
            Err((Failure { kind: kind(Kind::Failed), problem: error.to_string() }, wait))
        }
    }
}
