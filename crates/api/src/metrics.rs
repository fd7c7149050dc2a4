//! `/metrics`: what somebody else has counted, as text; and the same for `/v2/overview`.

use std::fmt;

use herdsman_watch::{Moment, Topology};
use hyper::StatusCode;
use serde_json::Value;

use crate::ApiStatistics;
use crate::problem::Problem;
use crate::reply::Reply;
use crate::state::View;

/// What `/metrics` answers with.
pub trait Metrics: fmt::Debug + Send + Sync + 'static {
    /// Everything there is to tell at this moment, in the text format of OpenMetrics 1.0; `api` is what the server that is
    /// asked has counted itself. Must not block.
    fn text(&self, topology: &Topology, now: Moment, api: &ApiStatistics) -> String;

    /// The gateway at this moment, as JSON. `None`: there is none. Must not block.
    fn gateway(&self) -> Option<Value> {
        None
    }

    /// The stream of changes at this moment, as JSON. `None`: there is none. Must not block.
    fn stream(&self) -> Option<Value> {
        None
    }

    /// The ledger at this moment, as JSON. `None`: there is none. Must not block.
    fn ledger(&self) -> Option<Value> {
        None
    }
}

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(crate) fn answer(view: &View<'_>) -> Result<Reply, Problem> {
    let metrics = view.metrics.ok_or(Problem::NoMetrics)?;
    Ok(Reply::new(
        StatusCode::OK,
        OPENMETRICS,
        metrics.text(view.topology, view.now, &view.counted),
    ))
}
