//! The ledger: how far each database is in the one log.

use ratatui_core::layout::{Constraint, Layout, Rect};
use ratatui_core::style::Style;
use ratatui_core::terminal::Frame;
use ratatui_core::text::Line;

use super::paint::{Paint, table};
use super::{number, rate, seconds};
use crate::commands::top::data::Data;
use crate::commands::top::samples::{Sample, Samples};
use crate::commands::top::state::State;
use crate::show::{clean, or_dash};

/// Of which there is one for each node of the ledger.
pub(in crate::commands::top) const FOLLOWERS: &str = "herdsman_ledger_node_following";

const HEADER: [&str; 9] =
    ["NODE", "DATABASE", "STATE", "ENTRY", "BEHIND", "LAG", "COMMITTED", "CONFLICTS", "TX/S"];

const LABELS: [&str; 2] = ["node", "engine"];
const TRANSACTIONS: &str = "herdsman_ledger_transactions_total";

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, paint: Paint) {
    let data = state.data();
    let Some(samples) = data.samples().filter(|all| !all.all(FOLLOWERS).is_empty()) else {
        let text = "no ledger: `herdsman run` has none without a section `ledger`";
        return frame.render_widget(Line::styled(text, paint.dim()), area);
    };
    let parts = [Constraint::Length(2), Constraint::Fill(1)];
    let [above, below] = Layout::vertical(parts).areas(area);
    let end = match samples.first("herdsman_ledger_end_entry") {
        Some(end) => Line::raw(format!("the log ends before entry {end:.0}")),
        None => Line::styled("the log cannot be asked where it ends", paint.bad()),
    };
    frame.render_widget(end, above);
    let nodes = samples.all(FOLLOWERS).iter();
    let lines = nodes.map(|node| row(data, samples, node, paint)).collect();
    table(frame, below, HEADER, lines, state.line, paint);
}

fn row(data: &Data, samples: &Samples, node: &Sample, paint: Paint) -> (Style, [String; 9]) {
    let of = |name| samples.alike(name, node, &LABELS);
    let fenced = of("herdsman_ledger_node_fenced").unwrap_or_default() > 0.0;
    let (style, word) = match (fenced, node.value > 0.0) {
        (true, _) => (paint.bad(), "fenced"),
        (false, true) => (paint.plain(), "follows"),
        (false, false) => (paint.bad(), "cannot follow"),
    };
    let done = |outcome: &str| {
        let all = samples.all(TRANSACTIONS).iter();
        all.filter(|one| one.label("node") == node.label("node"))
            .find(|one| one.label("outcome") == outcome)
    };
    let committed = done("committed");
    let grows = committed.and_then(|one| data.rate(TRANSACTIONS, one, &["node", "outcome"]));
    let cells = [
        clean(node.label("node")),
        clean(node.label("engine")),
        word.to_owned(),
        number(of("herdsman_ledger_node_applied_entry")),
        number(of("herdsman_ledger_node_lag_entries")),
        or_dash(of("herdsman_ledger_node_lag_seconds").map(seconds)),
        number(committed.map(|one| one.value)),
        number(done("conflict").map(|one| one.value)),
        rate(grows),
    ];
    (style, cells)
}
