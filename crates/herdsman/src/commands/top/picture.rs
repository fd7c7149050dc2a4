//! From what is known to a picture of it. Pure.

mod events;
mod gateway;
mod herd;
mod hooks;
mod ledger;
mod mesh;
mod paint;
mod stream;

use std::time::Duration;

use herdsman_watch::Verdict;
use ratatui_core::layout::{Constraint, Layout, Rect};
use ratatui_core::terminal::Frame;
use ratatui_core::text::{Line, Span};
use ratatui_widgets::paragraph::{Paragraph, Wrap};

pub(super) use self::gateway::POOLS;
pub(super) use self::hooks::HOOKS;
pub(super) use self::ledger::FOLLOWERS;
pub(super) use self::mesh::LINKS;
pub(super) use self::paint::Paint;
pub(super) use self::stream::SINKS;
use super::state::{PAGES, Page, State};
use crate::show::clean;

/// Below this there is no room for a picture.
const LEAST: (u16, u16) = (40, 8);

/// Lines for the verdict with its reason: what does not fit into them is in `herdsman status`.
const VERDICT: u16 = 2;

const HELP: &str = "\
  1 to 7          a page: herd, events, gateway, stream, mesh, ledger, hooks
  Tab, ← →        the next page, the one before
  ↑ ↓ PgUp PgDn   along the lines; the node that is chosen is told of below
  Home End        the first line, the last one
  p or blank      hold the picture, and let it go on
  ?               this
  q or Ctrl-C     end

The bars are a node's lag at each look, the newest to the right:
  ▁ less than 0.1 s  ▂ 0.5 s  ▃ 1 s  ▄ 5 s  ▅ 15 s  ▆ 30 s  ▇ a minute  █ more  · not known

What it shows comes from /v2/topology, /v2/events and /metrics of the Herdsman that it asks.";

/// Draws it.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State, paint: Paint) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = format!("{} × {} is too small; q ends", area.width, area.height);
        return frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
    }
    let parts = [
        Constraint::Length(1),
        Constraint::Length(VERDICT),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ];
    let [title, verdict, notice, body, keys] = Layout::vertical(parts).areas(area);
    frame.render_widget(headline(state, title.width, paint), title);
    frame.render_widget(what_holds(state, paint), verdict);
    frame.render_widget(noticed(state, paint), notice);
    if state.help {
        frame.render_widget(Paragraph::new(HELP), body);
    } else {
        page(frame, body, state, paint);
    }
    frame.render_widget(foot(state, keys.width, paint), keys);
}

fn page(frame: &mut Frame<'_>, area: Rect, state: &State, paint: Paint) {
    match state.page {
        Page::Herd => herd::draw(frame, area, state, paint),
        Page::Events => events::draw(frame, area, state, paint),
        Page::Gateway => gateway::draw(frame, area, state, paint),
        Page::Stream => stream::draw(frame, area, state, paint),
        Page::Mesh => mesh::draw(frame, area, state, paint),
        Page::Ledger => ledger::draw(frame, area, state, paint),
        Page::Hooks => hooks::draw(frame, area, state, paint),
    }
}

/// The program, to the left, and the pages, to the right.
fn headline(state: &State, width: u16, paint: Paint) -> Line<'static> {
    let mut spans = Vec::new();
    let mut taken = 0;
    for (number, (page, name)) in PAGES.iter().enumerate() {
        let text = format!(" {} {name} ", number + 1);
        taken += text.chars().count();
        let style = if *page == state.page { paint.chosen() } else { paint.dim() };
        spans.push(Span::styled(text, style));
    }
    let room = usize::from(width).saturating_sub(taken);
    let left: String = "herdsman".chars().take(room).collect();
    spans.insert(0, Span::styled(format!("{left:room$}"), paint.head()));
    Line::from(spans)
}

/// What keys do, to the left, and whom we ask, to the right.
fn foot(state: &State, width: u16, paint: Paint) -> Line<'static> {
    const KEYS: &str = " 1-7 Tab page  ↑↓ line  p hold  ? help  q end";
    let room = usize::from(width).saturating_sub(KEYS.chars().count() + 2);
    let mut url = clean(&state.url);
    if url.chars().count() > room {
        url = url.chars().take(room.saturating_sub(1)).chain(['…']).collect();
    }
    let url = if room < 8 { String::new() } else { url };
    Line::styled(format!("{KEYS}  {url:>room$}"), paint.dim())
}

fn what_holds(state: &State, paint: Paint) -> Paragraph<'static> {
    let Some(topology) = &state.data().topology else {
        return Paragraph::new(Line::styled("nothing is known yet", paint.dim()));
    };
    let style = match &topology.verdict {
        // What nobody confirms any more is not shown as if it held.
        _ if state.data().away.is_some() => paint.dim(),
        Verdict::Primary { .. } => paint.good(),
        Verdict::SplitBrain { .. } => paint.bad(),
        Verdict::None { why: herdsman_watch::Why::Mesh, .. } => paint.good(),
        Verdict::None { .. } => paint.bad(),
    };
    let text = clean(&topology.verdict.to_string());
    Paragraph::new(Line::styled(text, style)).wrap(Wrap { trim: true })
}

/// What the reader must know before believing the rest.
fn noticed(state: &State, paint: Paint) -> Line<'static> {
    let data = state.data();
    if let Some((since, why)) = &data.away {
        let seconds = state.now.saturating_sub(*since).as_secs();
        let old = if data.topology.is_some() { "; below is what was last seen" } else { "" };
        return Line::styled(format!("away for {seconds} s{old}: {why}"), paint.bad());
    }
    if state.is_held() {
        return Line::styled("held: p lets the picture go on", paint.warn());
    }
    Line::default()
}

/// Bytes, where they are a number at all.
fn bytes(number: f64) -> String {
    // Larger than any log; what is not a number is 0.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, which is as good as any number here"
    )]
    let whole = number as u64;
    crate::show::bytes(whole)
}

/// Seconds as they are read at a glance.
fn seconds(number: f64) -> String {
    if number < 60.0 {
        return format!("{number:.1} s");
    }
    let whole = Duration::try_from_secs_f64(number.floor()).unwrap_or_default();
    humantime::format_duration(whole).to_string()
}

/// A number that may be missing.
fn number(number: Option<f64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| format!("{number:.0}"))
}

fn rate(number: Option<f64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| format!("{number:.1}"))
}

#[cfg(test)]
mod tests;
