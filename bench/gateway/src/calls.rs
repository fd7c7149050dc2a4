//! System calls of a proxy, counted by `strace`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::BenchError;

/// Counts from its first [`begin`](Self::begin) until it is asked.
#[derive(Debug)]
pub(crate) struct Counter {
    of: u32,
    file: PathBuf,
    strace: RefCell<Option<Result<Child, std::io::Error>>>,
}

impl Counter {
    pub(crate) fn of(proxy: u32, folder: &Path) -> Self {
        let file = folder.join("strace");
        // Of the load before this one; what is left is overwritten.
        let _none = std::fs::remove_file(&file);
        Self { of: proxy, file, strace: RefCell::new(None) }
    }

    /// Not again when it counts already.
    pub(crate) fn begin(&self) {
        self.strace.borrow_mut().get_or_insert_with(|| {
            let mut command = Command::new("strace");
            command.args(["-c", "-f", "-p", &self.of.to_string(), "-o"]).arg(&self.file);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
        });
    }

    /// How many there were of each.
    ///
    /// # Errors
    /// `strace` is not installed, or may not look at the proxy.
    pub(crate) fn end(self) -> Result<BTreeMap<String, u64>, BenchError> {
        let Some(strace) = self.strace.into_inner() else { return Ok(BTreeMap::new()) };
        let mut strace = strace.map_err(BenchError::system("run strace"))?;
        if let Some(pid) = i32::try_from(strace.id()).ok().and_then(Pid::from_raw) {
            // Gone already: it has said nothing then, which is seen below.
            let _gone = kill_process(pid, Signal::INT);
        }
        strace.wait().map_err(BenchError::system("wait for strace"))?;
        let counted = counts(&std::fs::read_to_string(&self.file).unwrap_or_default());
        if counted.is_empty() {
            return Err(BenchError::Program {
                program: "strace".to_owned(),
                problem: "counted nothing: it may not look at other processes here".to_owned(),
                log: String::new(),
            });
        }
        Ok(counted)
    }
}

/// From the table of `strace -c`: share, seconds, microseconds for each, calls, errors or nothing, name.
fn counts(table: &str) -> BTreeMap<String, u64> {
    let lines = table.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (name, calls) = (*fields.last()?, fields.get(3)?.parse().ok()?);
        (name != "total").then(|| (name.to_owned(), calls))
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_strace_is_read() {
        let table = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.10    0.200000           2    100000           sendto
 39.90    0.100000           1    110000     10000 recvfrom
------ ----------- ----------- --------- --------- ----------------
100.00    0.300000           1    210000     10000 total
";
        let expected = [("recvfrom".to_owned(), 110_000), ("sendto".to_owned(), 100_000)];
        assert_eq!(counts(table), BTreeMap::from(expected));
        assert!(counts("").is_empty());
    }
}
