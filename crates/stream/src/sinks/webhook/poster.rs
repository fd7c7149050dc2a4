//! Signed posts to one receiver.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, TRANSFER_ENCODING, USER_AGENT,
};
use http::{HeaderMap, HeaderValue};

use super::address::Address;
use super::client::Client;
use super::verdict::Answer;
use super::{Url, sign};
use crate::sink::SinkError;
use crate::sinks::Secret;

/// Who is posted to, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// Where to post, `http://` or `https://`. Only its host is ever shown.
    pub url: Url,
    /// Headers added to each request.
    pub headers: BTreeMap<String, Secret>,
    /// What bodies are signed with; not at all without.
    pub secret: Option<Secret>,
    /// A PEM file with what the receiver is known by; what this machine trusts when left out.
    pub ca_file: Option<PathBuf>,
    /// How long a request may take, from looking up the name to the last byte of the answer.
    pub timeout: Duration,
}

/// Posts JSON to one receiver, over connections that are kept.
pub struct Poster {
    client: Client,
    headers: HeaderMap,
    secret: Option<Secret>,
    timeout: Duration,
}

const SIGNATURE: HeaderName = HeaderName::from_static("herdsman-signature");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const AGENT: &str = concat!("herdsman/", env!("CARGO_PKG_VERSION"));

impl Poster {
    /// Prepares for a receiver; nothing is opened yet.
    ///
    /// # Errors
    /// [`SinkError`] where the URL, a header or the certificates cannot be used.
    pub fn new(receiver: &Receiver) -> Result<Self, SinkError> {
        let address = Address::new(&receiver.url.0, receiver.ca_file.as_deref());
        let address = address.map_err(|problem| receiver.wrong(problem))?;
        let mut headers = receiver.headers()?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
        let secret = receiver.secret.clone();
        Ok(Self { client: Client::new(address), headers, secret, timeout: receiver.timeout })
    }

    /// The receiver as it is shown: scheme, host and port.
    #[must_use]
    pub fn target(&self) -> String {
        self.client.target()
    }

    /// Posts a body once. `key` is the `idempotency-key`: the same whenever the same comes again.
    pub async fn post(&self, body: Bytes, key: &str) -> Answer {
        let mut headers = self.headers.clone();
        if let Ok(key) = HeaderValue::from_str(key) {
            headers.insert(IDEMPOTENCY_KEY, key);
        }
        let signature = self
            .secret
            .as_ref()
            .map(|secret| sign::header(secret.expose().as_bytes(), &body, SystemTime::now()));
        if let Some(Ok(signature)) = signature.map(HeaderValue::try_from) {
            headers.insert(SIGNATURE, signature);
        }
        let asked = self.client.post(headers, body);
        match tokio::time::timeout(self.timeout, Box::pin(asked)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(problem)) => Answer::None(problem),
            Err(_) => Answer::Late(self.timeout),
        }
    }
}

impl Receiver {
    fn headers(&self) -> Result<HeaderMap, SinkError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let problem = |problem: &str| {
                let name: String = name.chars().take(80).collect();
                self.wrong(format!("the header `{name}` {problem}"))
            };
            let name = HeaderName::try_from(name).map_err(|_| problem("has no valid name"))?;
            let ours = [HOST, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING];
            if ours.contains(&name) || name == SIGNATURE || name == IDEMPOTENCY_KEY {
                return Err(problem("is set by us"));
            }
            let mut value = HeaderValue::from_str(value.expose())
                .map_err(|_| problem("has a value that no header can have"))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }

    pub(super) fn wrong(&self, problem: String) -> SinkError {
        let target = Address::origin(&self.url.0).unwrap_or_else(|_| "webhook".to_owned());
        SinkError { what: "set up", target, problem, advice: "correct its settings", reopen: false }
    }
}

impl fmt::Debug for Poster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poster").field("target", &self.target()).finish_non_exhaustive()
    }
}
