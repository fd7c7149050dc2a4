//! The mesh: how far every member is with what every other wrote.

use std::collections::BTreeSet;

use ratatui_core::layout::{Constraint, Layout, Rect};
use ratatui_core::style::Style;
use ratatui_core::terminal::Frame;
use ratatui_core::text::{Line, Text};
use ratatui_widgets::table::{Cell, Row, Table};

use super::paint::Paint;
use super::{bytes, number, seconds};
use crate::commands::top::samples::{Sample, Samples};
use crate::commands::top::state::State;
use crate::show::clean;

/// Of which there is one for each link.
pub(in crate::commands::top) const LINKS: &str = "herdsman_mesh_link_streaming";

/// Later than this is worth a colour: conflicts become likelier.
const LATE: f64 = 5.0;

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, paint: Paint) {
    let Some(samples) = state.data().samples().filter(|all| !all.all(LINKS).is_empty()) else {
        let text = "no mesh: the configuration has no section `mesh`";
        return frame.render_widget(Line::styled(text, paint.dim()), area);
    };
    let links = samples.all(LINKS);
    let names = |label| links.iter().map(|link| link.label(label)).collect::<BTreeSet<_>>();
    let (sources, targets) = (names("source"), names("target"));
    let head: Vec<_> = ["TARGET", "CONFLICTS"]
        .into_iter()
        .map(str::to_owned)
        .chain(sources.iter().map(|name| format!("FROM {}", clean(name))))
        .collect();
    let first = state.line.min(targets.len().saturating_sub(1));
    let rows = targets.iter().skip(first).map(|target| {
        let here = |sample: &&Sample| sample.label("node") == *target;
        let one = |name| samples.all(name).iter().find(here).map(|sample| sample.value);
        let works = one("herdsman_mesh_target_working").unwrap_or_default() > 0.0;
        let style = if works { paint.head() } else { paint.bad() };
        let mut cells = vec![
            Cell::new(clean(target)).style(style),
            Cell::new(number(one("herdsman_mesh_conflicts_total"))),
        ];
        let links = sources.iter().map(|source| {
            links.iter().find(|l| l.label("source") == *source && l.label("target") == *target)
        });
        cells.extend(links.map(|link| {
            let (text, style) =
                link.map_or(("-".to_owned(), paint.dim()), |link| cell(samples, link, paint));
            Cell::new(text).style(style)
        }));
        Row::new(cells)
    });
    let widths = std::iter::once(Constraint::Fill(1))
        .chain(head.iter().skip(1).map(|_| Constraint::Fill(1)));
    let parts = [Constraint::Fill(1), Constraint::Length(1)];
    let [matrix, below] = Layout::vertical(parts).areas(area);
    let table = Table::new(rows.collect::<Vec<_>>(), widths.collect::<Vec<_>>()).column_spacing(1);
    let head = Row::new(head.into_iter().map(Text::from).collect::<Vec<_>>()).style(paint.head());
    frame.render_widget(table.header(head), matrix);
    let text =
        "lag of what each member wrote, at each of the others; problems: herdsman mesh status";
    frame.render_widget(Line::styled(text, paint.dim()), below);
}

fn cell(samples: &Samples, link: &Sample, paint: Paint) -> (String, Style) {
    if link.value <= 0.0 {
        return ("stands".to_owned(), paint.bad());
    }
    let of = |name| samples.alike(name, link, &["source", "target"]).unwrap_or_default();
    let late = of("herdsman_mesh_link_lag_seconds");
    let text = format!("{}, {}", seconds(late), bytes(of("herdsman_mesh_link_lag_bytes")));
    (text, if late > LATE { paint.warn() } else { paint.good() })
}
