//! How far a snapshot is, for people. Pure, but for the counters that the connections add to.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// How far a snapshot is.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct SnapshotStats {
    /// All tables together.
    pub total: TableStats,
    /// Each table or partition, as `schema.name`, in the order they are read.
    pub tables: Vec<(String, TableStats)>,
}

/// How far one table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct TableStats {
    /// Rows read.
    pub rows: u64,
    /// Bytes received for them, as text.
    pub bytes: u64,
    /// Pieces read to their end, those of an earlier attempt included.
    pub chunks_done: u32,
    /// Pieces in all.
    pub chunks: u32,
    /// Size on the server's disk of what has been read, bytes. Without values kept out of line.
    pub disk_done: u64,
    /// Size on the server's disk of all of it, bytes.
    pub disk: u64,
}

impl TableStats {
    /// How much of it is done, from 0 to 1, by size on disk; by pieces where that is nothing.
    #[must_use]
    pub fn fraction(&self) -> f64 {
        let of = |done: u64, all: u64| {
            // Exact enough for a bar: tables have less than 2⁵³ bytes.
            #[allow(clippy::cast_precision_loss, reason = "an estimate")]
            let fraction = done as f64 / all as f64;
            fraction.clamp(0.0, 1.0)
        };
        match (self.disk, self.chunks) {
            (0, 0) => 1.0,
            (0, chunks) => of(self.chunks_done.into(), chunks.into()),
            (disk, _) => of(self.disk_done, disk),
        }
    }
}

/// How long it will still take, if it goes on as it went for `elapsed`. `None` while there is too little to tell by.
///
/// ```
/// use std::time::Duration;
/// use herdsman_wal::snapshot::time_left;
/// assert_eq!(time_left(0.25, Duration::from_secs(10)), Some(Duration::from_secs(30)));
/// assert_eq!(time_left(0.0, Duration::from_secs(10)), None);
/// ```
#[must_use]
pub fn time_left(fraction: f64, elapsed: Duration) -> Option<Duration> {
    if !(fraction > 0.0 && fraction <= 1.0) || elapsed < Duration::from_secs(1) {
        return None;
    }
    Duration::try_from_secs_f64(elapsed.as_secs_f64() * (1.0 - fraction) / fraction).ok()
}

/// One line of text for all of it, `width` characters wide where there is room for a bar, never wider: share, rows,
/// bytes, time left.
///
/// ```
/// use std::time::Duration;
/// use herdsman_wal::snapshot::{SnapshotStats, TableStats, progress_bar};
/// let total = TableStats { rows: 1_500_000, bytes: 96_000_000, disk_done: 1, disk: 2, ..TableStats::default() };
/// let stats = SnapshotStats { total, tables: Vec::new() };
/// let line = progress_bar(&stats, Duration::from_secs(60), 60);
/// assert_eq!(line, "[##########..........]  50%  1.5M rows  91.5 MiB  1m 0s left");
/// ```
#[must_use]
pub fn progress_bar(stats: &SnapshotStats, elapsed: Duration, width: usize) -> String {
    let fraction = stats.total.fraction();
    let mut facts = format!(
        "{:3.0}%  {} rows  {}",
        (fraction * 100.0).floor(),
        short(stats.total.rows),
        bytes(stats.total.bytes)
    );
    if fraction >= 1.0 {
        facts.push_str("  done");
    } else if let Some(left) = time_left(fraction, elapsed) {
        // Written to a string, which cannot fail.
        let _written = write!(facts, "  {} left", span(left));
    }
    // Brackets, a space, and something between the brackets.
    let room = width.saturating_sub(facts.chars().count() + 3);
    if room == 0 {
        return facts.trim_start().chars().take(width).collect();
    }
    let full = (0..room).filter(|cell| share(*cell + 1, room) <= fraction).count();
    format!("[{}{}] {facts}", "#".repeat(full), ".".repeat(room - full))
}

fn share(cells: usize, of: usize) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "cells of a line of text")]
    let share = cells as f64 / of as f64;
    share
}

fn short(number: u64) -> String {
    for (unit, letter) in [(1_000_000_000, 'G'), (1_000_000, 'M'), (10_000, 'k')] {
        if number >= unit {
            let unit = if letter == 'k' { 1000 } else { unit };
            return format!("{}.{}{letter}", number / unit, number % unit / (unit / 10));
        }
    }
    number.to_string()
}

fn bytes(number: u64) -> String {
    for (shift, name) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if number >> shift > 0 {
            let tenths = ((number >> (shift - 10)) & 1023) * 10 / 1024;
            return format!("{}.{tenths} {name}", number >> shift);
        }
    }
    format!("{number} B")
}

fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m {s}s"),
        (h, m, _) => format!("{h}h {m}m"),
    }
}

/// What the connections count for one table.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) name: String,
    pub(crate) rows: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) chunks_done: AtomicU32,
    pub(crate) chunks: u32,
    pub(crate) disk_done: AtomicU64,
    pub(crate) disk: u64,
}

impl Counters {
    fn look(&self) -> TableStats {
        TableStats {
            rows: self.rows.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            chunks_done: self.chunks_done.load(Ordering::Relaxed),
            chunks: self.chunks,
            disk_done: self.disk_done.load(Ordering::Relaxed),
            disk: self.disk,
        }
    }

    /// Adds up what was counted.
    pub(crate) fn sum<'a>(all: impl Iterator<Item = &'a Self>) -> SnapshotStats {
        let mut stats = SnapshotStats::default();
        for counters in all {
            let own = counters.look();
            let total = &mut stats.total;
            total.rows += own.rows;
            total.bytes += own.bytes;
            total.chunks_done += own.chunks_done;
            total.chunks += own.chunks;
            total.disk_done += own.disk_done;
            total.disk += own.disk;
            stats.tables.push((counters.name.clone(), own));
        }
        stats
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stats(disk_done: u64, disk: u64, rows: u64) -> SnapshotStats {
        let total = TableStats { rows, bytes: rows * 60, disk_done, disk, ..TableStats::default() };
        SnapshotStats { total, tables: Vec::new() }
    }

    #[test]
    fn an_empty_snapshot_is_done() {
        let line = progress_bar(&SnapshotStats::default(), Duration::ZERO, 40);
        assert_eq!(line, "[##############] 100%  0 rows  0 B  done");
    }

    #[test]
    fn without_room_for_a_bar_the_figures_stay() {
        let line = progress_bar(&stats(1, 3, 12_345), Duration::ZERO, 28);
        assert_eq!(line, "33%  12.3k rows  723.3 KiB");
    }

    #[test]
    fn empty_tables_count_by_their_pieces() {
        let table = TableStats { chunks: 4, chunks_done: 1, ..TableStats::default() };
        assert!((table.fraction() - 0.25).abs() < f64::EPSILON);
    }

    proptest! {
        #[test]
        fn the_line_is_as_wide_as_asked_and_never_full_before_the_end(
            done in 0_u64..1000, disk in 1_u64..1000, rows: u32, seconds in 0_u64..1_000_000, width in 0_usize..200,
        ) {
            let line = progress_bar(&stats(done, disk, rows.into()), Duration::from_secs(seconds), width);
            prop_assert!(line.chars().count() <= width);
            if line.starts_with('[') {
                prop_assert_eq!(line.chars().count(), width);
                prop_assert_eq!(!line.contains('.') || !line.contains(".]"), done >= disk);
            }
        }
    }
}
