//! Processor time of processes, as the scheduler counts it.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Processor time of a process of one thread so far, as every one of a server is.
pub(crate) fn of(pid: i32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    let nanos = stat.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

/// Processor time of this process so far, with all its threads.
pub(crate) fn own() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
}

/// Of each process that one of these has begun, how much so far.
pub(crate) fn of_children(parents: &[i32]) -> BTreeMap<i32, Duration> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let children = pids.filter(|pid| parent(*pid).is_some_and(|parent| parents.contains(&parent)));
    children.map(|pid| (pid, of(pid))).collect()
}

fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything; the numbers come after it.
    let (_, numbers) = stat.rsplit_once(')')?;
    numbers.split_whitespace().nth(1)?.parse().ok()
}
