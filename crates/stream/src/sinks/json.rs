//! The one place where sinks turn changes into JSON.

use herdsman_wal::{Change, json};

use crate::config::Shape;
use crate::sink::Batch;

/// Appends the change as one JSON value without a line end.
pub(crate) fn write(shape: Shape, change: &Change, out: &mut Vec<u8>) {
    json::write(shape, &change.view(), out);
}

/// All changes of a batch as lines, each with its line end.
pub(crate) fn lines(shape: Shape, batch: &Batch) -> Vec<u8> {
    // JSON takes about as much as the change in memory. Growing step by step would copy what is there each time.
    let weight = batch.changes.iter().map(|change| change.weight()).sum();
    let mut lines = Vec::with_capacity(weight);
    for change in &batch.changes {
        write(shape, change, &mut lines);
        lines.push(b'\n');
    }
    lines
}
