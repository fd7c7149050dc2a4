//! How several commands show the same things: tables, bytes, and what others have written.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

/// Narrower than this, wrapping makes it harder to read, not easier.
const MIN_WIDTH: u16 = 80;

/// A table without lines: as wide as the terminal, elsewhere one line for each row.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: Vec<[String; N]>) -> String {
    lined_up(header.map(str::to_owned).into(), rows.into_iter().map(Vec::from).collect())
}

/// As [`table`], of as many columns as there happen to be.
pub(crate) fn lined_up(header: Vec<String>, rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    match width() {
        Some(width) => table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width.max(MIN_WIDTH)),
        // Programs such as grep want one line per row.
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    table.add_rows(rows);
    // Without borders every line begins with one blank for nothing.
    let lines: Vec<_> = table
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned())
        .collect();
    lines.join("\n")
}

/// The value, or a dash.
pub(crate) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Bytes in the largest unit that leaves a whole number to the left.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut whole = bytes;
    let mut tenths = 0;
    let mut unit = 0;
    while whole >= 1024 && unit + 1 < UNITS.len() {
        tenths = whole % 1024 * 10 / 1024;
        whole /= 1024;
        unit += 1;
    }
    let unit_name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{whole} B") } else { format!("{whole}.{tenths} {unit_name}") }
}

/// Without what would move a terminal's cursor: what is shown may repeat what servers and rows say.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Columns of the terminal that standard error is.
pub(crate) fn error_width() -> Option<usize> {
    columns(io::stderr()).map(usize::from)
}

/// Columns of the terminal that standard output is; elsewhere what most people's have.
pub(crate) fn width_or_default() -> usize {
    usize::from(width().unwrap_or(MIN_WIDTH).max(MIN_WIDTH))
}

/// Lines of the terminal that standard output is.
pub(crate) fn height() -> Option<usize> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let lines = rustix::termios::tcgetwinsize(stdout).ok()?.ws_row;
    (lines > 0).then_some(usize::from(lines))
}

fn width() -> Option<u16> {
    columns(io::stdout())
}

fn columns(stream: impl IsTerminal + AsFd) -> Option<u16> {
    if !stream.is_terminal() {
        return None;
    }
    let columns = rustix::termios::tcgetwinsize(stream).ok()?.ws_col;
    (columns > 0).then_some(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_units_a_person_reads() {
        let shown: Vec<_> =
            [0, 1023, 1024, 1536, 5 * 1024 * 1024, u64::MAX].map(bytes).into_iter().collect();
        assert_eq!(shown, ["0 B", "1023 B", "1.0 kB", "1.5 kB", "5.0 MB", "16777215.9 TB"]);
    }

    #[test]
    fn a_table_has_one_line_per_row_and_no_blanks_around() {
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        let table = table(["NAME", "X"], vec![row("a", "1"), row("longer", "")]);
        assert_eq!(table, "NAME    X\na       1\nlonger");
    }
}
