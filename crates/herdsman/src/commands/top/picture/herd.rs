//! Every node, and below it more of the one that is chosen.

use herdsman_node::{NodeName, Role};
use herdsman_watch::{NodeView, Topology};
use ratatui_core::layout::{Constraint, Layout, Rect};
use ratatui_core::style::Style;
use ratatui_core::terminal::Frame;
use ratatui_core::text::Line;
use ratatui_widgets::paragraph::{Paragraph, Wrap};

use super::paint::{Paint, table};
use crate::commands::status::table::in_order;
use crate::commands::status::{edition, lag, remarks};
use crate::commands::top::data::Data;
use crate::commands::top::state::State;
use crate::show::or_dash;

const HEADER: [&str; 7] = ["NODE", "ROLE", "READ", "FOLLOWS", "LAG", "OF LATE", "REMARKS"];

/// Lines for the node that is chosen.
const MORE: u16 = 6;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, paint: Paint) {
    let data = state.data();
    let Some(topology) = &data.topology else { return };
    let nodes = in_order(topology);
    let chosen = state.line.min(nodes.len().saturating_sub(1));
    let more = if area.height > MORE * 2 { MORE } else { 0 };
    let [list, below] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(more)]).areas(area);
    let room = usize::from(list.height.saturating_sub(1)).max(1);
    let lines = nodes.iter().enumerate().map(|(at, (name, view))| {
        let style = look(topology, name, view, paint);
        let style = if at == chosen { style.patch(paint.chosen()) } else { style };
        (style, row(data, name, view))
    });
    table(frame, list, HEADER, lines.collect(), (chosen + 1).saturating_sub(room), paint);
    if let Some((name, view)) = nodes.get(chosen) {
        frame.render_widget(details(topology, name, view, paint), below);
    }
}

fn look(topology: &Topology, name: &NodeName, view: &NodeView, paint: Paint) -> Style {
    match view.role {
        _ if view.fenced => paint.bad(),
        Role::Unavailable => paint.bad(),
        _ if topology.primary() == Some(name) => paint.good(),
        _ if !view.readable => paint.warn(),
        _ => paint.plain(),
    }
}

fn row(data: &Data, name: &NodeName, view: &NodeView) -> [String; 7] {
    [
        name.to_string(),
        view.role.to_string(),
        if view.readable { "yes" } else { "no" }.to_owned(),
        or_dash(view.follows.as_ref()),
        lag(view.lag.as_ref()),
        data.bars(name),
        remarks(view),
    ]
}

fn details<'a>(
    topology: &Topology,
    name: &NodeName,
    view: &NodeView,
    paint: Paint,
) -> Paragraph<'a> {
    let seen = view
        .evidence_age_seconds
        .map_or_else(|| "never heard".to_owned(), |age| format!("heard {age:.1} s ago"));
    let place = format!(
        "{name}: timeline {}, log position {}, {seen}",
        or_dash(view.timeline),
        or_dash(view.lsn)
    );
    let lines = vec![
        Line::default(),
        Line::styled(place, paint.head()),
        Line::raw(remarks(view)),
        Line::styled(edition(topology), paint.dim()),
    ];
    Paragraph::new(lines).wrap(Wrap { trim: true })
}
