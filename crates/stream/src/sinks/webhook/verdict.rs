//! What an answer means. Pure.

use std::time::Duration;

use http::StatusCode;

use crate::sink::SinkError;

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An answer, whose body is never looked at.
    Status {
        /// Its status.
        status: StatusCode,
        /// When to come again, where it says so in seconds.
        retry_after: Option<Duration>,
    },
    /// None, and why.
    None(String),
    /// None within this time.
    Late(Duration),
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is delivered.
    Taken,
    /// Something in it is never taken.
    Refused(SinkError),
    /// Something in it failed and may be taken later.
    Failed(SinkError),
    /// The receiver takes nothing now.
    Down(SinkError),
}

impl Answer {
    /// What it means. `target` is the receiver as it is shown.
    #[must_use]
    pub fn verdict(&self, target: &str) -> Verdict {
        let error = |problem: String, advice| SinkError {
            what: "post to",
            target: target.to_owned(),
            problem,
            advice,
            reopen: false,
        };
        let status = match self {
            Self::Status { status, .. } => *status,
            Self::None(problem) => {
                return Verdict::Down(error(
                    problem.clone(),
                    "check that it runs, its address, and the way to it",
                ));
            }
            Self::Late(limit) => {
                return Verdict::Down(error(
                    format!("no answer within {limit:?}"),
                    "check that it runs, its address, and the way to it",
                ));
            }
        };
        let answered = |advice| error(format!("it answered {status}"), advice);
        match status.as_u16() {
            200..=299 => Verdict::Taken,
            300..=399 => {
                Verdict::Down(answered("set `url` to where it redirects: it is not followed"))
            }
            401 | 407 => Verdict::Down(answered("check `headers` and the secret")),
            408 | 425 | 429 | 502..=504 => {
                Verdict::Down(answered("it is tried again; look at its log if this goes on"))
            }
            400..=499 => Verdict::Refused(answered("see its log for why it refuses this")),
            _ => Verdict::Failed(answered("see its log for why it fails on this")),
        }
    }

    /// Whether the receiver should be left alone for a moment.
    pub(super) fn is_failure(&self) -> bool {
        !matches!(self.verdict(""), Verdict::Taken | Verdict::Refused(_))
    }

    /// When the receiver wants to be asked again.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::None(_) | Self::Late(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_mean_what_the_documentation_says() {
        for (statuses, expected) in [
            (&[200, 202, 204][..], "taken"),
            (&[301, 302, 307, 308, 304], "down"),
            (&[401, 407, 408, 425, 429, 502, 503, 504], "down"),
            (&[400, 403, 404, 409, 410, 413, 415, 422], "refused"),
            (&[500, 501, 505, 507, 599], "failed"),
        ] {
            for status in statuses {
                let status = StatusCode::from_u16(*status).unwrap();
                let answer = Answer::Status { status, retry_after: None };
                let found = match answer.verdict("http://a") {
                    Verdict::Taken => "taken",
                    Verdict::Refused(_) => "refused",
                    Verdict::Failed(_) => "failed",
                    Verdict::Down(_) => "down",
                };
                assert_eq!(found, expected, "{status}");
                assert_eq!(answer.is_failure(), matches!(found, "failed" | "down"), "{status}");
            }
        }
    }
}
