//! The hooks: who is told when the herd changes, and whether that works.

use ratatui_core::layout::Rect;
use ratatui_core::terminal::Frame;
use ratatui_core::text::Line;

use super::number;
use super::paint::{Paint, table};
use crate::commands::top::samples::{Sample, Samples};
use crate::commands::top::state::State;
use crate::show::clean;

/// Of which there is one for each hook.
pub(in crate::commands::top) const HOOKS: &str = "herdsman_hook_failing";

const HEADER: [&str; 7] = ["HOOK", "STATE", "DONE", "FAILED", "TIMED OUT", "WAITING", "NOT TOLD"];

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, paint: Paint) {
    let Some(samples) = state.data().samples().filter(|all| !all.all(HOOKS).is_empty()) else {
        let text = "no hooks: the configuration has no section `hooks`";
        return frame.render_widget(Line::styled(text, paint.dim()), area);
    };
    let lines = samples.all(HOOKS).iter().map(|hook| {
        let style = if hook.value > 0.0 { paint.bad() } else { paint.plain() };
        (style, row(samples, hook))
    });
    table(frame, area, HEADER, lines.collect(), state.line, paint);
}

fn row(samples: &Samples, hook: &Sample) -> [String; 7] {
    let of = |name| number(samples.alike(name, hook, &["hook"]));
    let runs = |outcome: &str| {
        let all = samples.all("herdsman_hook_runs_total").iter();
        let of_hook = |one: &&Sample| one.label("hook") == hook.label("hook");
        let mut found = all.filter(of_hook).filter(|one| one.label("outcome") == outcome);
        number(found.next().map(|one| one.value))
    };
    [
        clean(hook.label("hook")),
        if hook.value > 0.0 { "fails" } else { "works" }.to_owned(),
        runs("succeeded"),
        runs("failed"),
        runs("timed_out"),
        of("herdsman_hook_events_waiting"),
        of("herdsman_hook_events_dropped_total"),
    ]
}
