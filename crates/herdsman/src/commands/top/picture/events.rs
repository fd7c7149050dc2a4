//! What has happened, the newest first.

use ratatui_core::layout::Rect;
use ratatui_core::terminal::Frame;
use ratatui_core::text::Line;

use super::paint::{Paint, table};
use crate::commands::top::state::State;

const HEADER: [&str; 4] = ["UTC", "EVENT", "NODE", ""];

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, paint: Paint) {
    let events = &state.data().events;
    if events.is_empty() {
        return frame.render_widget(Line::styled("nothing has happened yet", paint.dim()), area);
    }
    let lines = events.iter().map(|happened| {
        let style = match happened.event.as_str() {
            "primary" | "node up" | "readable" | "unfenced" | "lag over" => paint.good(),
            "no primary" | "split brain" | "node down" | "fenced" => paint.bad(),
            "unreadable" | "gap" | "lag" | "conflict" => paint.warn(),
            _ => paint.plain(),
        };
        let cells = [&happened.at, &happened.event, &happened.node, &happened.text];
        (style, cells.map(Clone::clone))
    });
    table(frame, area, HEADER, lines.collect(), state.line, paint);
}
