//! The stream's: what it has delivered, what waits, and what its slot holds back at the server.

mod source;

use std::fmt::Error;

use herdsman_node::Lsn;
use herdsman_stream::engine::{SinkStats, SlotStats, StatsSnapshot};
use herdsman_stream::service::Phase;
use herdsman_wal::slot::WalStatus;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

pub(crate) use self::source::StreamSource;
use super::write::{Histogram, Labels, Writer, flag};

#[derive(Debug)]
pub(super) struct Stream {
    /// The name of its slot.
    pub(super) slot: String,
    pub(super) phase: Phase,
    pub(super) numbers: StatsSnapshot,
}

const PHASES: [&str; 5] = ["starting", "waiting", "snapshot", "streaming", "stopped"];

const WAL_STATUSES: [(WalStatus, &str); 4] = [
    (WalStatus::Reserved, "reserved"),
    (WalStatus::Extended, "extended"),
    (WalStatus::Unreserved, "unreserved"),
    (WalStatus::Lost, "lost"),
];

impl Collector for Stream {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut to = Writer(encoder);
        self.state(&mut to)?;
        self.lag(&mut to)?;
        self.work(&mut to)?;
        self.places(&mut to)?;
        self.slot(&mut to)?;
        self.sinks(&mut to)?;
        self.troubles(&mut to)?;
        self.queues(&mut to)
    }
}

impl Stream {
    fn state(&self, to: &mut Writer<'_>) -> Result<(), Error> {
        let (phase, node) = match &self.phase {
            Phase::Starting => ("starting", None),
            Phase::Snapshot { node } => ("snapshot", Some(node)),
            Phase::Streaming { node, .. } => ("streaming", Some(node)),
            Phase::Stopped => ("stopped", None),
            _ => ("waiting", None),
        };
        to.gauges(
            ("herdsman_stream_phase", None),
            "1 for what the stream does: it delivers the rows there were, or changes as they come, or neither",
            PHASES.map(|one| (self.with("phase", one), flag(one == phase))),
        )?;
        to.gauges(
            ("herdsman_stream_source", None),
            "1 for the node that is read from",
            node.map(|node| (self.with("node", node.as_str()), 1_u32)),
        )?;
        to.gauges(
            ("herdsman_stream_paused", None),
            "1 while nothing is read because too much waits for sinks",
            self.one(flag(self.numbers.paused)),
        )?;
        to.counters(
            ("herdsman_stream_reconnects", None),
            "How often the server was lost or refused, or left for another node",
            self.one(self.numbers.reconnects),
        )
    }

    fn lag(&self, to: &mut Writer<'_>) -> Result<(), Error> {
        to.gauges(
            ("herdsman_stream_lag", Some(Unit::Bytes)),
            "Log of the server, as far as it is known, that not every sink has",
            self.one(self.numbers.lag_bytes),
        )?;
        to.gauges(
            ("herdsman_stream_lag", Some(Unit::Seconds)),
            "Age of the oldest change that not every sink has; while the server is away, of its last word",
            self.one(self.numbers.lag_seconds),
        )
    }

    fn work(&self, to: &mut Writer<'_>) -> Result<(), Error> {
        to.counters(
            ("herdsman_stream_rows", None),
            "Changes received that are for the sinks",
            self.one(self.numbers.received.saturating_sub(self.numbers.left_out)),
        )?;
        to.counters(
            ("herdsman_stream_rows_left_out", None),
            "Changes received that the configuration leaves out",
            self.one(self.numbers.left_out),
        )?;
        to.counters(
            ("herdsman_stream_transactions", None),
            "Transactions received whole",
            self.one(self.numbers.transactions),
        )
    }

    fn places(&self, to: &mut Writer<'_>) -> Result<(), Error> {
        let places = [
            ("log_end", &self.numbers.wal_end),
            ("delivered", &self.numbers.safe),
            ("acknowledged", &self.numbers.acknowledged),
        ];
        let places = places.into_iter().filter_map(|(place, lsn)| {
            let lsn: Lsn = lsn.parse().ok()?;
            Some((self.with("place", place), lsn.0))
        });
        to.counters(
            ("herdsman_stream_position", Some(Unit::Bytes)),
            "Where in the log: its end as far as it is known, what every sink has, what the server may forget",
            places,
        )
    }

    /// Named as postgres_exporter names them.
    fn slot(&self, to: &mut Writer<'_>) -> Result<(), Error> {
        let slot = self.numbers.slot;
        to.gauges(
            ("pg_replication_slot_slot_is_active", None),
            "1 while somebody reads the slot",
            slot.map(|slot| (self.of_slot(), flag(slot.active))),
        )?;
        let statuses = slot.and_then(|slot: SlotStats| slot.wal_status).into_iter();
        let statuses = statuses.flat_map(|found| {
            WAL_STATUSES.map(|(status, name)| {
                let mut labels = self.of_slot();
                labels.push(("wal_status", name));
                (labels, flag(status == found))
            })
        });
        to.gauges(
            ("pg_replication_slot_wal_status", None),
            "1 for whether the log the slot needs is there",
            statuses,
        )?;
        to.gauges(
            ("pg_replication_slot_safe_wal_size", Some(Unit::Bytes)),
            "Log that may still be written before the server lets go of the slot; left out where nothing limits it",
            slot.and_then(|slot| slot.safe_bytes).map(|bytes| (self.of_slot(), bytes)),
        )?;
        to.gauges(
            ("herdsman_stream_slot_retained", Some(Unit::Bytes)),
            "Log the server keeps for the slot",
            slot.map(|slot| (self.labels(), slot.retained_bytes)),
        )
    }

    fn sinks(&self, to: &mut Writer<'_>) -> Result<(), Error> {
        to.gauges(
            ("herdsman_stream_sink_open", None),
            "1 while the sink is open",
            self.by_sink(|sink| Some(flag(sink.open))),
        )?;
        to.counters(
            ("herdsman_stream_sink_rows", None),
            "Changes the sink has taken",
            self.by_sink(|sink| Some(sink.delivered)),
        )?;
        to.counters(
            ("herdsman_stream_sink_batches", None),
            "Batches handed to the sink, tries included",
            self.by_sink(|sink| Some(sink.batches)),
        )?;
        to.counters(
            ("herdsman_stream_sink_position", Some(Unit::Bytes)),
            "Commit of the last change taken, of sinks that take all changes in order",
            self.by_sink(|sink| sink.position.map(|position| position.commit_lsn.0)),
        )?;
        to.histograms(
            ("herdsman_stream_sink_delivery", Some(Unit::Seconds)),
            "From the commit of a batch's oldest change until the sink had it",
            self.by_sink(|sink| Some(delivery(sink))),
        )
    }

    fn troubles(&self, to: &mut Writer<'_>) -> Result<(), Error> {
        to.counters(
            ("herdsman_stream_sink_failures", None),
            "Changes the sink did not take, each time counted",
            self.by_sink(|sink| Some(sink.failed)),
        )?;
        to.counters(
            ("herdsman_stream_sink_unavailable", None),
            "How often the sink could not take anything",
            self.by_sink(|sink| Some(sink.unavailable)),
        )?;
        to.counters(
            ("herdsman_stream_sink_retries", None),
            "Tries that have to be repeated: changes that failed, and batches the sink could not take",
            self.by_sink(|sink| Some(sink.retries)),
        )?;
        to.counters(
            ("herdsman_stream_sink_dead_letters", None),
            "Changes that were given up and kept aside",
            self.by_sink(|sink| Some(sink.dead_letters)),
        )
    }

    fn queues(&self, to: &mut Writer<'_>) -> Result<(), Error> {
        to.gauges(
            ("herdsman_stream_sink_waiting_rows", None),
            "Changes that wait for the sink, those under way included",
            self.by_sink(|sink| Some(count(sink.waiting_changes))),
        )?;
        to.gauges(
            ("herdsman_stream_sink_waiting", Some(Unit::Bytes)),
            "Memory that these take",
            self.by_sink(|sink| Some(count(sink.waiting_bytes))),
        )?;
        to.gauges(
            ("herdsman_stream_sink_batches_under_way", None),
            "Batches the sink is at",
            self.by_sink(|sink| Some(count(sink.under_way))),
        )
    }

    fn labels(&self) -> Labels<'_> {
        vec![("slot", self.slot.as_str())]
    }

    /// As postgres_exporter has them.
    fn of_slot(&self) -> Labels<'_> {
        vec![("slot_name", self.slot.as_str()), ("slot_type", "logical")]
    }

    fn with<'a>(&'a self, label: &'a str, value: &'a str) -> Labels<'a> {
        vec![("slot", self.slot.as_str()), (label, value)]
    }

    fn one<V>(&self, value: V) -> [(Labels<'_>, V); 1] {
        [(self.labels(), value)]
    }

    /// A sample for each sink that has one.
    fn by_sink<V>(
        &self,
        value: impl Fn(&SinkStats) -> Option<V>,
    ) -> impl Iterator<Item = (Labels<'_>, V)> {
        self.numbers.sinks.iter().filter_map(move |sink| {
            value(sink).map(|value| (self.with("sink", sink.name.as_str()), value))
        })
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn delivery(sink: &SinkStats) -> Histogram {
    let latency = &sink.latency;
    let mut below = 0;
    let mut buckets = Vec::with_capacity(latency.buckets.len() + 1);
    for (millis, so_far) in &latency.buckets {
        buckets.push((seconds(millis.saturating_mul(1000)), so_far.saturating_sub(below)));
        below = *so_far;
    }
    buckets.push((f64::INFINITY, latency.count.saturating_sub(below)));
    (seconds(latency.sum_micros), latency.count, buckets)
}

fn seconds(micros: u64) -> f64 {
    std::time::Duration::from_micros(micros).as_secs_f64()
}
