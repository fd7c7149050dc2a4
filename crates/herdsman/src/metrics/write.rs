//! Writing one metric with all its samples.

use std::fmt::Error;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric, MetricEncoder,
    NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Names and values. Both are few: nodes, pools, states; never what a client sends.
pub(super) type Labels<'a> = Vec<(&'a str, &'a str)>;

/// How often something took how long: sum, count, and how many took at most so long (each more than the last).
pub(super) type Histogram = (f64, u64, Vec<(f64, u64)>);

/// Writes metrics, one after another.
pub(super) struct Writer<'e>(pub(super) DescriptorEncoder<'e>);

impl Writer<'_> {
    /// What goes up and down. Without samples nothing is written, here and below.
    pub(super) fn gauges<'l, V: EncodeGaugeValue>(
        &mut self,
        metric: (&str, Option<Unit>),
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, V)>,
    ) -> Result<(), Error> {
        self.samples(metric, help, MetricType::Gauge, samples, |value, to| {
            ConstGauge::new(value).encode(to)
        })
    }

    /// What only grows, since the program began.
    pub(super) fn counters<'l, V: EncodeCounterValue>(
        &mut self,
        metric: (&str, Option<Unit>),
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, V)>,
    ) -> Result<(), Error> {
        self.samples(metric, help, MetricType::Counter, samples, |value, to| {
            ConstCounter::new(value).encode(to)
        })
    }

    /// How often something took how long.
    pub(super) fn histograms<'l>(
        &mut self,
        metric: (&str, Option<Unit>),
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, Histogram)>,
    ) -> Result<(), Error> {
        self.samples(
            metric,
            help,
            MetricType::Histogram,
            samples,
            |(sum, count, buckets), mut to| {
                to.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
            },
        )
    }

    fn samples<'l, V>(
        &mut self,
        (name, unit): (&str, Option<Unit>),
        help: &str,
        kind: MetricType,
        samples: impl IntoIterator<Item = (Labels<'l>, V)>,
        write: impl Fn(V, MetricEncoder<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut metric = self.0.encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (labels, value) in samples {
            write(value, metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

pub(super) fn flag(is: bool) -> u32 {
    u32::from(is)
}
