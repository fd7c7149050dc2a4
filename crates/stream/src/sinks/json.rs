//! The one place where sinks turn changes into JSON.

use herdsman_wal::{Change, json};

use crate::config::Shape;

/// Appends the change as one JSON value without a line end.
pub(crate) fn write(shape: Shape, change: &Change, out: &mut Vec<u8>) {
    json::write(shape, &change.view(), out);
}

/// Appends all changes as lines, each with its line end.
pub(crate) fn write_lines<'a>(
    shape: Shape,
    changes: impl IntoIterator<Item = &'a Change>,
    out: &mut Vec<u8>,
) {
    for change in changes {
        write(shape, change, out);
        out.push(b'\n');
    }
}
