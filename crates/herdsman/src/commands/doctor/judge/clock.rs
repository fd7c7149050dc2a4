//! Clocks.

use crate::codes::Code;
use crate::commands::doctor::evidence::Clock;
use crate::commands::doctor::finding::Finding;

/// A mesh's last writer is told by clocks: people who wait for each other's writes are slower than this.
const MESH: u64 = 500_000;
/// Elsewhere only pins and the ages that are shown go by them.
const ELSEWHERE: u64 = 2_000_000;

pub(super) fn findings(clock: Option<Clock>, is_mesh: bool) -> Option<Finding> {
    let Clock { ahead_micros, within_micros } = clock?;
    let off = ahead_micros.unsigned_abs();
    let word = if ahead_micros < 0 { "behind" } else { "ahead of" };
    let says = format!("{} ms {word} ours, give or take {}", tenths(off), tenths(within_micros));
    let bound = if is_mesh { MESH } else { ELSEWHERE };
    // What asking took is no difference.
    if off.saturating_sub(within_micros) <= bound {
        return Some(Finding::ok(Code::Clock, "clock", says));
    }
    let why = if is_mesh { "; in a mesh the row with the later time wins" } else { "" };
    Some(Finding::warning(
        Code::Clock,
        "clock",
        format!("{says}{why}"),
        "have this machine and the node set their clocks by the same source (chrony or another NTP client), slowly: a clock that is set back repeats time",
    ))
}

/// Microseconds as milliseconds.
fn tenths(micros: u64) -> String {
    format!("{}.{}", micros / 1000, micros % 1000 / 100)
}
