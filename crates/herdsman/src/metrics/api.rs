//! The API's own: who asks, and what they are answered.

use std::fmt::Error;

use herdsman_api::ApiStatistics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::write::{Labels, Writer};

#[derive(Debug)]
pub(super) struct Api(pub(super) ApiStatistics);

/// What answers are told apart by: a label of five values.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl Collector for Api {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut to = Writer(encoder);
        to.counters(
            ("herdsman_api_requests", None),
            "Requests that were answered, by status; a health check that says no is 5xx",
            CLASSES.into_iter().zip(self.0.answers).map(|(class, n)| (vec![("code", class)], n)),
        )?;
        to.gauges(
            ("herdsman_api_connections", None),
            "Connections of clients that are open",
            [(Labels::new(), self.0.connections)],
        )?;
        to.counters(
            ("herdsman_api_agent_checks", None),
            "Agent checks of balancers that were answered",
            [(Labels::new(), self.0.agent_checks)],
        )
    }
}
