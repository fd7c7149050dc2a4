//! The hooks': how their runs ended, and what they did not tell.

use std::fmt::Error;

use herdsman_hooks::{HookStatus, Outcome, State};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::write::{Labels, Writer, flag};

#[derive(Debug)]
pub(super) struct Hooks(pub(super) Vec<HookStatus>);

impl Collector for Hooks {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut to = Writer(encoder);
        let runs = self.0.iter().flat_map(|hook| {
            let runs = [
                (Outcome::Succeeded, hook.runs.succeeded),
                (Outcome::Failed, hook.runs.failed),
                (Outcome::TimedOut, hook.runs.timed_out),
            ];
            runs.map(|(outcome, count)| {
                (vec![("hook", hook.name.as_str()), ("outcome", outcome.name())], count)
            })
        });
        to.counters(("herdsman_hook_runs", None), "Runs of a hook, by how they ended", runs)?;
        to.counters(
            ("herdsman_hook_events_dropped", None),
            "Events that a hook gave up, or that went because too many waited",
            self.hooks(|hook| hook.dropped),
        )?;
        to.gauges(
            ("herdsman_hook_events_waiting", None),
            "Events that wait for a hook",
            self.hooks(|hook| u64::try_from(hook.waiting).unwrap_or(u64::MAX)),
        )?;
        to.gauges(
            ("herdsman_hook_failing", None),
            "1 for a hook whose last run failed, and is tried again",
            self.hooks(|hook| flag(hook.state == State::Failing)),
        )
    }
}

impl Hooks {
    fn hooks<V>(&self, value: impl Fn(&HookStatus) -> V) -> impl Iterator<Item = (Labels<'_>, V)> {
        self.0.iter().map(move |hook| (vec![("hook", hook.name.as_str())], value(hook)))
    }
}
