//! Figures for people: a line per cycle, a summary, and the story of a cycle that went wrong.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use tokio::time::Instant;

use super::check::{Facts, Figures};
use super::plan::Kind;
use super::truth::Truth;
use super::writer::Counts;

/// What other rules let through when a standby is promoted beside a living primary, per promotion: one writer, a poll
/// every 100 ms, 8 promotions each on PostgreSQL 15, measured with a prototype before this watcher was written.
const OTHER_RULES: &str = "\
for comparison, acknowledged by the wrong primary per promotion beside the old one (100 ms poll, prototype):
  first node that takes writes                168
  freshest poll                               188
  majority of standbys                        248
  highest timeline                         9 - 15   (wrong when a restored copy promotes itself)
  nobody while two claim                       13   (never resumed)
  unanimous standbys, no guard                  4   (resumed 1 of 8)
  witnessed promotion, with a write guard       0
";

/// A finished cycle.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) cycle: u64,
    pub(super) seed: u64,
    pub(super) kind: Kind,
    pub(super) figures: Figures,
}

/// All cycles of a run.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) rows: Vec<Row>,
}

pub(super) fn heading() -> String {
    let cells = ["acked", "wrong", "last", "lost", "first", "withdrawn", "named", "resumed"];
    format!("{:>5}  {:>20}  {:<26}{}", "cycle", "seed", "fault", columns(cells))
}

pub(super) fn line(row: &Row) -> String {
    let Figures { acked, wrong, last_wrong, lost, first_lost, withdrawn, named, resumed, .. } =
        row.figures;
    let cells = [
        acked.to_string(),
        wrong.to_string(),
        millis(last_wrong),
        lost.to_string(),
        millis(first_lost),
        millis(withdrawn),
        millis(named),
        millis(resumed),
    ];
    let Row { cycle, seed, kind, .. } = row;
    let mut line = format!("{cycle:>5}  {seed:>20}  {kind:<26}{}", columns(cells));
    let excused = row.figures.excused;
    if excused > 0 {
        let _infallible =
            write!(line, "  ({excused} excused: the server was slow for the checker too)");
    }
    line
}

impl Report {
    /// Per kind of fault and over all: totals, medians, maxima.
    pub(super) fn summary(&self, title: &str, counts: &Counts) -> String {
        let mut text =
            format!("\n{title}\n{} writes acknowledged, {} not\n", counts.acked, counts.failed);
        text.push_str(
            "in ms, median/max where two. wrong: acknowledged by the old primary after the new one took writes, the last \
             of them so long after; lost: acknowledged before and not replicated, the first of them so long before\n",
        );
        let cells = ["cycles", "wrong", "med/max", "last", "lost", "first"];
        let _infallible = writeln!(
            text,
            "{:<26}{}{:>13}{:>13}{:>13}",
            "fault",
            columns(cells),
            "withdrawn",
            "named",
            "resumed"
        );
        let mut kinds: BTreeMap<Kind, Vec<&Figures>> = BTreeMap::new();
        for row in &self.rows {
            kinds.entry(row.kind).or_default().push(&row.figures);
        }
        for (kind, figures) in &kinds {
            text.push_str(&sums(&kind.to_string(), figures));
        }
        let all: Vec<_> = self.rows.iter().map(|row| &row.figures).collect();
        let promotions: Vec<_> = all.iter().copied().filter(|figures| figures.promoted).collect();
        text.push_str(&sums("all promotions", &promotions));
        text.push_str(&sums("all cycles", &all));
        text.push_str(OTHER_RULES);
        text
    }
}

fn sums(name: &str, figures: &[&Figures]) -> String {
    let total = |of: fn(&Figures) -> usize| figures.iter().map(|f| of(f)).sum::<usize>();
    let spans = |of: fn(&Figures) -> Option<Duration>| {
        let mut spans: Vec<_> = figures.iter().filter_map(|f| of(f)).collect();
        spans.sort_unstable();
        format!("{}/{}", millis(median(&spans)), millis(spans.last().copied()))
    };
    let mut wrong: Vec<_> = figures.iter().filter(|f| f.promoted).map(|f| f.wrong).collect();
    wrong.sort_unstable();
    let show = |count: Option<usize>| count.map_or("-".to_owned(), |count| count.to_string());
    let wrongs = format!("{}/{}", show(median(&wrong)), show(wrong.last().copied()));
    let cells = [
        figures.len().to_string(),
        total(|f| f.wrong).to_string(),
        wrongs,
        millis(figures.iter().filter_map(|f| f.last_wrong).max()),
        total(|f| f.lost).to_string(),
        millis(figures.iter().filter_map(|f| f.first_lost).max()),
    ];
    let [withdrawn, named, resumed] =
        [spans(|f| f.withdrawn), spans(|f| f.named), spans(|f| f.resumed)];
    format!("{name:<26}{}{withdrawn:>13}{named:>13}{resumed:>13}\n", columns(cells))
}

fn columns(cells: impl IntoIterator<Item = impl std::fmt::Display>) -> String {
    cells.into_iter().map(|cell| format!("{cell:>10}")).collect()
}

/// Everything that was done, true and said in a cycle, in order.
pub(super) fn story(facts: &Facts<'_>, truth: &Truth) -> String {
    let record = facts.record;
    let mut events: Vec<(Instant, String)> = Vec::new();
    events.extend(record.deeds.iter().map(|(at, deed)| (*at, format!("did    {deed}"))));
    events.extend(record.stages.iter().map(|s| (s.at, format!("expect {:?}", s.expect))));
    events.extend(
        facts
            .heard
            .iter()
            .map(|h| (h.at, format!("heard  v{} term {}: {}", h.version, h.term, h.words))),
    );
    for node in [&record.cast.old, &record.cast.chosen, &record.cast.other] {
        for sample in truth.changes_since(node, record.started) {
            events.push((sample.at, format!("truth  {node} is {:?}", sample.state)));
        }
        for (asked, answered) in facts.slow.get(node).into_iter().flatten() {
            events.push((
                *asked,
                format!("truth  {node} does not answer for {:?}", *answered - *asked),
            ));
        }
    }
    events.sort_by_key(|(at, _)| *at);
    let mut text = String::new();
    for (at, what) in events {
        let millis = at.saturating_duration_since(record.started).as_millis();
        let _infallible = writeln!(text, "  {millis:>6} ms  {what}");
    }
    text
}

fn median<T: Copy>(sorted: &[T]) -> Option<T> {
    sorted.get(sorted.len() / 2).copied()
}

fn millis(span: Option<Duration>) -> String {
    span.map_or("-".to_owned(), |span| span.as_millis().to_string())
}
