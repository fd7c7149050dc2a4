//! The stream, and its sinks.

use ratatui_core::layout::{Constraint, Layout, Rect};
use ratatui_core::terminal::Frame;
use ratatui_core::text::{Line, Text};

use super::paint::{Paint, table};
use super::{bytes, number, rate, seconds};
use crate::commands::top::data::Data;
use crate::commands::top::samples::Sample;
use crate::commands::top::state::State;
use crate::show::{clean, or_dash};

/// Of which there is one for each sink.
pub(in crate::commands::top) const SINKS: &str = "herdsman_stream_sink_open";

const HEADER: [&str; 8] =
    ["SINK", "OPEN", "ROWS", "ROWS/S", "WAITING", "RETRIES", "DEAD LETTERS", ""];

const LABELS: [&str; 1] = ["sink"];

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, paint: Paint) {
    let data = state.data();
    let stream = data.samples().and_then(|all| all.all("herdsman_stream_lag_bytes").first());
    let Some(stream) = stream else {
        let text = "no stream: `herdsman run` has none without `stream.sinks`";
        return frame.render_widget(Line::styled(text, paint.dim()), area);
    };
    let parts = [Constraint::Length(4), Constraint::Fill(1)];
    let [above, below] = Layout::vertical(parts).areas(area);
    frame.render_widget(summary(data, stream, paint), above);
    let sinks = data.samples().map_or(&[][..], |samples| samples.all(SINKS));
    let lines = sinks.iter().map(|sink| {
        let style = if sink.value > 0.0 { paint.plain() } else { paint.bad() };
        (style, row(data, sink))
    });
    table(frame, below, HEADER, lines.collect(), state.line, paint);
}

fn summary<'a>(data: &Data, stream: &Sample, paint: Paint) -> Text<'a> {
    let state = |name, label| data.samples().and_then(|samples| samples.state(name, label));
    let first = |name| data.samples().and_then(|samples| samples.first(name));
    let phase = state("herdsman_stream_phase", "phase").unwrap_or("not known");
    let style = match phase {
        "streaming" | "snapshot" => paint.good(),
        _ => paint.bad(),
    };
    let from = state("herdsman_stream_source", "node");
    let from = from.map(|node| format!(" from {}", clean(node))).unwrap_or_default();
    let slot = or_dash(state("pg_replication_slot_wal_status", "wal_status"));
    let kept = or_dash(first("herdsman_stream_slot_retained_bytes").map(bytes));
    let late = or_dash(first("herdsman_stream_lag_seconds").map(seconds));
    let rows = rate(data.rate("herdsman_stream_rows_total", stream, &["slot"]));
    let again = number(first("herdsman_stream_reconnects_total"));
    Text::from(vec![
        Line::styled(format!("slot {}: {phase}{from}", clean(stream.label("slot"))), style),
        Line::raw(format!("lag {}, {late}; {rows} rows a second", bytes(stream.value))),
        Line::raw(format!("log kept at the server {kept} ({slot}); connected again {again} times")),
    ])
}

fn row(data: &Data, sink: &Sample) -> [String; 8] {
    let now = |name: &str| number(data.samples().and_then(|all| all.alike(name, sink, &LABELS)));
    [
        clean(sink.label("sink")),
        if sink.value > 0.0 { "yes" } else { "no" }.to_owned(),
        now("herdsman_stream_sink_rows_total"),
        rate(data.rate("herdsman_stream_sink_rows_total", sink, &LABELS)),
        now("herdsman_stream_sink_waiting_rows"),
        now("herdsman_stream_sink_retries_total"),
        now("herdsman_stream_sink_dead_letters_total"),
        String::new(),
    ]
}
