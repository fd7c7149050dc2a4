//! What samples come to, and tables of it.

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

/// The middle of many rounds, and the quarter on either side of it. Extremes of many short rounds on a shared machine
/// say what the machine did, not what was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Middle {
    pub(crate) median: f64,
    pub(crate) lower: f64,
    pub(crate) upper: f64,
}

impl Middle {
    /// `None` of nothing.
    pub(crate) fn of(samples: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            median: percentile(&sorted, 500)?,
            lower: percentile(&sorted, 250)?,
            upper: percentile(&sorted, 750)?,
        })
    }
}

/// The sample that this many per mille of all are not above. `None` of nothing.
pub(crate) fn percentile<T: Copy>(sorted: &[T], per_mille: usize) -> Option<T> {
    let rank = (sorted.len() * per_mille).div_ceil(1000);
    sorted.get(rank.saturating_sub(1)).copied()
}

/// The median, and the quartiles in brackets.
pub(crate) fn spread(middle: Option<Middle>) -> String {
    middle.map_or_else(
        || "-".to_owned(),
        |m| format!("{} ({}..{})", decimal(m.median), decimal(m.lower), decimal(m.upper)),
    )
}

/// As a change in per cent: 1.03 is `+3.0 %`.
pub(crate) fn change(ratio: Option<Middle>) -> String {
    let percent = |ratio: f64| format!("{:+.1}", (ratio - 1.0) * 100.0);
    ratio.map_or_else(
        || "-".to_owned(),
        |m| format!("{} % ({}..{})", percent(m.median), percent(m.lower), percent(m.upper)),
    )
}

/// The median alone.
pub(crate) fn median(middle: Option<Middle>) -> String {
    middle.map_or_else(|| "-".to_owned(), |m| decimal(m.median))
}

/// A number with as many decimals as its size deserves.
pub(crate) fn decimal(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
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
    fn the_middle_does_not_depend_on_the_order_or_on_an_outlier() {
        let middle = Middle::of([3.0, 1.0, 4.0, 1000.0, 2.0]);
        assert_eq!(middle, Some(Middle { median: 3.0, lower: 2.0, upper: 4.0 }));
        assert_eq!(Middle::of([]), None);
    }

    #[test]
    fn a_ratio_is_shown_as_a_change() {
        let ratio = Middle { median: 0.5, lower: 0.49, upper: 1.03 };
        assert_eq!(change(Some(ratio)), "-50.0 % (-51.0..+3.0)");
        assert_eq!(change(None), "-");
    }
}
