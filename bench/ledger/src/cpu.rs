//! Processor time, as the kernel counts it.

use std::time::Duration;

/// What the processes of a server have used so far, by the process that has begun them all; of those that are still there.
pub(crate) fn of_server(postmaster: i32) -> Duration {
    let children = format!("/proc/{postmaster}/task/{postmaster}/children");
    let children = std::fs::read_to_string(children).unwrap_or_default();
    children.split_whitespace().map(of_one_thread).sum()
}

fn of_one_thread(pid: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    let nanos = stat.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

/// What this process has used so far, with all its threads.
pub(crate) fn own() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let names = threads.filter_map(|thread| thread.file_name().into_string().ok());
    names.map(|name| of_one_thread(&format!("self/task/{name}"))).sum()
}
