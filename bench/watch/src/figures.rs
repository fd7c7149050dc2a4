//! What samples come to, and tables of it.

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

/// What samples come to. Percentiles are samples that occurred (nearest rank), never in between.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) count: usize,
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

/// One thing that was measured many times, in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Series {
    pub(crate) what: &'static str,
    /// The worst sample may take this long, in milliseconds.
    pub(crate) goal: Option<f64>,
    pub(crate) samples: Vec<f64>,
    /// Rounds in which it was waited for in vain.
    pub(crate) unseen: usize,
}

impl Summary {
    /// `None` of nothing.
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            count: sorted.len(),
            min: *sorted.first()?,
            median: percentile(&sorted, 500)?,
            p99: percentile(&sorted, 990)?,
            max: *sorted.last()?,
        })
    }
}

/// The sample that this many per mille of all are not above. `None` of nothing.
pub(crate) fn percentile<T: Copy>(sorted: &[T], per_mille: usize) -> Option<T> {
    let rank = (sorted.len() * per_mille).div_ceil(1000);
    sorted.get(rank.saturating_sub(1)).copied()
}

/// What `value` finds in each of `items`. `None` of nothing.
pub(crate) fn summary_of<T>(
    items: impl IntoIterator<Item = T>,
    value: impl Fn(T) -> f64,
) -> Option<Summary> {
    Summary::of(&items.into_iter().map(value).collect::<Vec<_>>())
}

impl Series {
    pub(crate) const fn new(what: &'static str, goal: Option<f64>) -> Self {
        Self { what, goal, samples: Vec::new(), unseen: 0 }
    }

    /// Takes in one round; `None` when it was waited for in vain.
    pub(crate) fn push(&mut self, sample: Option<f64>) {
        match sample {
            Some(sample) => self.samples.push(sample),
            None => self.unseen += 1,
        }
    }

    /// Whether every round kept to the goal, if there is one and anything was measured.
    pub(crate) fn is_met(&self) -> Option<bool> {
        let goal = self.goal?;
        let worst = Summary::of(&self.samples).map(|summary| summary.max);
        match worst {
            Some(worst) => Some(self.unseen == 0 && worst <= goal),
            None => (self.unseen > 0).then_some(false),
        }
    }

    /// Cells: what, rounds, min, median, max, goal, met or missed.
    pub(crate) fn row(&self) -> Vec<String> {
        let mut rounds = self.samples.len().to_string();
        if self.unseen > 0 {
            rounds.push_str(&format!(" (+{} unseen)", self.unseen));
        }
        let dash = || "-".to_owned();
        let [min, median, max] = match Summary::of(&self.samples) {
            Some(summary) => [summary.min, summary.median, summary.max].map(decimal),
            None => [dash(), dash(), dash()],
        };
        let goal = self.goal.map_or_else(dash, |goal| format!("<= {goal:.0}"));
        let met = match self.is_met() {
            Some(true) => "met".to_owned(),
            Some(false) => "missed".to_owned(),
            None => dash(),
        };
        vec![self.what.to_owned(), rounds, min, median, max, goal, met]
    }
}

/// A number with as many decimals as its size deserves.
pub(crate) fn decimal(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        // A difference of noise and noise is nothing, on either side.
        size if size < 0.000_05 => "0".to_owned(),
        _ => format!("{value:.4}"),
    }
}

/// The median, and the extremes in brackets where they tell something.
pub(crate) fn spread(summary: Option<Summary>) -> String {
    match summary {
        Some(s) if s.count > 1 => {
            format!("{} ({}..{})", decimal(s.median), decimal(s.min), decimal(s.max))
        }
        Some(s) => decimal(s.median),
        None => "-".to_owned(),
    }
}

/// A titled table without borders.
pub(crate) fn table(
    title: &str,
    header: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    format!("{title}\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_that_occurred() {
        let hundred: Vec<u32> = (1..=100).collect();
        assert_eq!(percentile(&hundred, 500), Some(50));
        assert_eq!(percentile(&hundred, 990), Some(99));
        assert_eq!(percentile(&hundred, 1000), Some(100));
        assert_eq!(percentile(&hundred, 0), Some(1));
        assert_eq!(percentile(&[7], 990), Some(7));
        assert_eq!(percentile(&[1, 2], 990), Some(2));
        assert_eq!(percentile::<u32>(&[], 500), None);
    }

    #[test]
    fn a_summary_does_not_depend_on_the_order_of_samples() {
        let summary = Summary::of(&[3.0, 1.0, 2.0, 10.0]).unwrap();
        let expected = Summary { count: 4, min: 1.0, median: 2.0, p99: 10.0, max: 10.0 };
        assert_eq!(summary, expected);
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn a_goal_is_missed_by_one_slow_round_or_one_unseen() {
        let mut series = Series::new("x", Some(50.0));
        assert_eq!(series.is_met(), None, "nothing was measured");
        series.push(Some(50.0));
        assert_eq!(series.is_met(), Some(true));
        series.push(Some(50.1));
        assert_eq!(series.is_met(), Some(false));

        let mut series = Series::new("x", Some(50.0));
        series.push(Some(1.0));
        series.push(None);
        assert_eq!(series.is_met(), Some(false));
        assert_eq!(series.row()[1], "1 (+1 unseen)");
    }

    #[test]
    fn a_series_without_a_goal_is_neither_met_nor_missed() {
        let mut series = Series::new("x", None);
        series.push(Some(1.0));
        assert_eq!(series.row(), ["x", "1", "1.00", "1.00", "1.00", "-", "-"]);
    }

    #[test]
    fn numbers_have_the_decimals_they_deserve() {
        let shown = [12345.6, 99.94, 1.234, 0.5, 0.0123, 0.0, -0.00001, -3.456].map(decimal);
        assert_eq!(shown, ["12346", "99.9", "1.23", "0.50", "0.0123", "0", "0", "-3.46"]);
    }

    #[test]
    fn a_spread_shows_extremes_only_where_there_are_several() {
        assert_eq!(spread(Summary::of(&[1.0])), "1.00");
        assert_eq!(spread(Summary::of(&[3.0, 1.0, 2.0])), "2.00 (1.00..3.00)");
        assert_eq!(spread(None), "-");
    }
}
