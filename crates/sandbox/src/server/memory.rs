//! Shared memory a killed server leaves behind.

use std::{fs, path::Path, process::Command};

/// Gives back the System V segment of a server that is down. PostgreSQL keeps one tiny segment as an interlock; a killed
/// server that is never started again would leave it for good, and the system has room for a few thousand only.
pub(super) fn release(data: &Path) {
    let Some((key, id)) =
        fs::read_to_string(data.join("postmaster.pid")).ok().and_then(|text| segment(&text))
    else {
        return;
    };
    // Numbers begin anew when the machine does: the segment must still be the one noted, and unused.
    let unused =
        fs::read_to_string("/proc/sysvipc/shm").is_ok_and(|table| is_unused(&table, key, id));
    if unused && let Err(error) = Command::new("ipcrm").arg("-m").arg(id.to_string()).output() {
        tracing::debug!(%error, "shared memory not given back");
    }
}

/// Line 7 of `postmaster.pid`: key and number of the segment.
fn segment(pid_file: &str) -> Option<(i64, i64)> {
    let mut numbers = pid_file.lines().nth(6)?.split_whitespace();
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The table shows keys signed, PostgreSQL unsigned, so their low 32 bits are compared. Columns: key, number, mode, size, creator, last process, attached processes, …
fn is_unused(table: &str, key: i64, id: i64) -> bool {
    table.lines().skip(1).any(|line| {
        let fields: Vec<i64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
        matches!(fields.as_slice(), [k, i, _, _, _, _, 0, ..] if (*k ^ key) & 0xffff_ffff == 0 && *i == id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_noted_and_unused_segment_is_given_back() {
        let pid_file = "4711\n/d\n1700000000\n5432\n\n127.0.0.1\n  2097155         3\nready   \n";
        assert_eq!(segment(pid_file), Some((2_097_155, 3)));
        let table = "key shmid perms size cpid lpid nattch uid\n2097155 3 600 56 1 1 0 101\n2097156 4 600 56 1 1 6 101\n";
        assert!(is_unused(table, 2_097_155, 3));
        assert!(!is_unused(table, 2_097_155, 4), "another key");
        assert!(!is_unused(table, 2_097_156, 4), "still attached");
    }
}
