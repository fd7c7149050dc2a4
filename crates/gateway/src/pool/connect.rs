//! Opening a connection to a node.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use futures_util::future::BoxFuture;
use herdsman_node::raw::{RawStream, connect_raw_as};
use herdsman_node::{ConnectError, ConnectErrorKind, Conninfo, Tls};

use super::set::Rules;
use super::talk;
use crate::herd::Seat;

/// What a login does not tell.
const FIRST_QUESTION: &str =
    "SELECT pg_catalog.current_setting('synchronous_commit'), pg_catalog.pg_is_in_recovery()";

/// What opens connections: the real thing, or a test's.
pub(crate) trait Connect: fmt::Debug + Send + Sync {
    /// What the node is called.
    fn name(&self, node: usize) -> Arc<str>;

    /// Opens a connection on the current runtime, and logs in.
    fn connect<'a>(
        &'a self,
        node: usize,
        rules: &'a Rules,
    ) -> BoxFuture<'a, Result<Opened, ConnectError>>;

    /// Forgets what it keeps of files: certificates may have been renewed.
    fn reload(&self) {}
}

/// A new connection, before it has a place in a pool.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) stream: RawStream,
    pub(crate) unread: BytesMut,
    pub(crate) backend: Option<(i32, i32)>,
    pub(crate) conninfo: Arc<Conninfo>,
    pub(crate) reported: Vec<(Box<str>, Box<str>)>,
    pub(crate) commits_early: bool,
    pub(crate) in_recovery: bool,
}

/// Opens connections to the nodes of the herd.
pub(super) struct Dial {
    /// The nodes as they are now.
    seats: Box<dyn Fn() -> Arc<[Seat]> + Send + Sync>,
    tls: Certificates,
}

/// What TLS needs for each node, read from files once. Kept with the parameters it was made from.
type Certificates = Mutex<HashMap<usize, (Arc<Conninfo>, Tls)>>;

impl Dial {
    pub(super) fn new(seats: impl Fn() -> Arc<[Seat]> + Send + Sync + 'static) -> Self {
        Self { seats: Box::new(seats), tls: Certificates::default() }
    }

    fn tls(&self, node: usize, conninfo: &Arc<Conninfo>) -> Result<Tls, ConnectError> {
        let mut known = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made_from, tls)) = known.get(&node)
            && Arc::ptr_eq(made_from, conninfo)
        {
            return Ok(tls.clone());
        }
        let tls = Tls::new(conninfo).map_err(|error| ConnectError {
            kind: ConnectErrorKind::Tls,
            endpoint: conninfo.endpoint(),
            problem: error.to_string(),
        })?;
        known.insert(node, (Arc::clone(conninfo), tls.clone()));
        Ok(tls)
    }

    async fn open(&self, node: usize, rules: &Rules) -> Result<Opened, ConnectError> {
        let Some(seat) = (self.seats)().get(node).cloned() else {
            return Err(ConnectError {
                kind: ConnectErrorKind::Other,
                endpoint: format!("node {node}"),
                problem: "it is not in the configuration".to_owned(),
            });
        };
        let tls = self.tls(node, &seat.conninfo)?;
        let user = Some(rules.login.user.as_str()).filter(|user| !user.is_empty());
        let info = seat.conninfo.for_login(user, None, Some(&rules.dbname));
        let credential = &rules.login.credential;
        let limit = rules.pool.connect_timeout;
        let mut raw = connect_raw_as(&info, &tls, limit, &[], credential).await?;
        let mut reported: Vec<(Box<str>, Box<str>)> = raw
            .parameters
            .drain()
            .map(|(name, value)| (name.into_boxed_str(), value.into_boxed_str()))
            .collect();
        reported.sort_unstable();
        let answer = talk::query(&mut raw.stream, &mut raw.buffer, FIRST_QUESTION, |_, _| {});
        let told = |problem: String| ConnectError {
            kind: ConnectErrorKind::Other,
            endpoint: info.endpoint(),
            problem,
        };
        let row = match tokio::time::timeout(limit, answer).await {
            Ok(row) => row.map_err(|error| told(error.to_string()))?,
            Err(_) => return Err(told(format!("no answer to a first query within {limit:?}"))),
        };
        let says = |column: usize, text: &str| {
            row.get(column).and_then(Option::as_deref).is_some_and(|value| value == text)
        };
        Ok(Opened {
            commits_early: says(0, "off"),
            in_recovery: says(1, "t"),
            stream: raw.stream,
            unread: raw.buffer,
            backend: raw.backend,
            conninfo: Arc::new(info),
            reported,
        })
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dial")
    }
}

impl Connect for Dial {
    fn name(&self, node: usize) -> Arc<str> {
        match (self.seats)().get(node) {
            Some(seat) => seat.name.to_string().into(),
            None => format!("node {node}").into(),
        }
    }

    fn connect<'a>(
        &'a self,
        node: usize,
        rules: &'a Rules,
    ) -> BoxFuture<'a, Result<Opened, ConnectError>> {
        Box::pin(self.open(node, rules))
    }

    fn reload(&self) {
        self.tls.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
