//! Looking at and signalling the processes of a server.

use std::{collections::BTreeMap, fs, path::Path};

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

/// How a Java program of ours names its data folder on its command line.
pub(crate) const JAVA_MARK: &str = "-Dherdsman.sandbox.data=";

/// One process, told apart from a later one that was given the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(crate) pid: i32,
    /// Clock ticks after boot; 0 where the system does not tell.
    started: u64,
}

/// What the process table says of one process.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) id: ProcessId,
    parent: i32,
    state: char,
}

impl Process {
    /// Stopped by SIGSTOP.
    pub(crate) fn is_frozen(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }

    /// Ended, whether or not its parent has taken note.
    fn is_gone(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

impl ProcessId {
    /// The process of that number that runs now.
    pub(crate) fn running(pid: i32) -> Option<Self> {
        look(pid).map(|process| process.id)
    }

    /// Whether it still runs: a zombie does not, nor does another process under its number.
    pub(crate) fn is_alive(self) -> bool {
        self.look().is_some()
    }

    pub(crate) fn look(self) -> Option<Process> {
        look(self.pid).filter(|process| process.id == self)
    }

    /// Sends a signal unless the process has ended. A process that ends meanwhile is no error.
    pub(crate) fn signal(self, signal: Signal) {
        if self.is_alive()
            && let Some(pid) = Pid::from_raw(self.pid)
            && let Err(error) = rustix::process::kill_process(pid, signal)
        {
            tracing::debug!(pid = self.pid, %error, "signal not delivered");
        }
    }
}

/// Children of a process, oldest first.
pub(crate) fn children_of(parent: ProcessId) -> Vec<ProcessId> {
    let mut found: Vec<ProcessId> = table()
        .into_iter()
        .filter(|process| process.parent == parent.pid && !process.is_gone())
        .map(|process| process.id)
        .collect();
    found.sort_unstable_by_key(|id| (id.started, id.pid));
    found
}

/// Every process that works for the server of `data`, alive or frozen, also when its postmaster is gone.
///
/// A postmaster and its helpers (`initdb`, `pg_basebackup`, `pg_rewind`) name the folder on their command line. Backends
/// do not, but have it as their working folder, which we may read of our own account's processes, and of all as a
/// root that has not been deprived of it.
pub(crate) fn working_on(data: &Path) -> Vec<ProcessId> {
    let all = table();
    let children: BTreeMap<i32, Vec<ProcessId>> = all
        .iter()
        .filter(|process| !process.is_gone())
        .fold(BTreeMap::new(), |mut map, process| {
            map.entry(process.parent).or_insert_with(Vec::new).push(process.id);
            map
        });
    let mut found = Vec::new();
    for process in all.iter().filter(|process| !process.is_gone()) {
        if names_folder(process.id.pid, data) || is_backend_in(process.id.pid, data) {
            found.push(process.id);
            found.extend(children.get(&process.id.pid).into_iter().flatten());
        }
    }
    found.sort_unstable();
    found.dedup();
    found.retain(|id| u32::try_from(id.pid).is_ok_and(|pid| pid != std::process::id()));
    found
}

/// Whether the process is a PostgreSQL program, a MariaDB, or a Kafka of ours, whose arguments name exactly this data folder.
pub(crate) fn names_folder(pid: i32, data: &Path) -> bool {
    const PROGRAMS: [&str; 7] =
        ["postgres", "postmaster", "initdb", "pg_basebackup", "pg_rewind", "java", "mariadbd"];
    let arguments = command_line(pid);
    let Some(program) = arguments.first().and_then(|first| Path::new(first).file_name()?.to_str())
    else {
        return false;
    };
    let data = data.to_string_lossy();
    PROGRAMS.contains(&program)
        && arguments.iter().any(|argument| {
            *argument == data
                || argument.strip_prefix("--target-pgdata=") == Some(&*data)
                || argument.strip_prefix(JAVA_MARK) == Some(&*data)
                || argument.strip_prefix("--datadir=") == Some(&*data)
        })
}

#[cfg(target_os = "linux")]
fn look(pid: i32) -> Option<Process> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
        .filter(|process| !process.is_gone())
}

#[cfg(target_os = "linux")]
fn table() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
        .collect()
}

#[cfg(target_os = "linux")]
fn command_line(pid: i32) -> Vec<String> {
    fs::read(format!("/proc/{pid}/cmdline"))
        .unwrap_or_default()
        .split(|byte| *byte == 0)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect()
}

/// `pid (name) state ppid … starttime`: the name may hold blanks and parentheses, so fields count from the last `)`.
#[cfg(any(target_os = "linux", test))]
fn parse_stat(stat: &str) -> Option<Process> {
    let (head, tail) = stat.rsplit_once(')')?;
    let pid = head.split_whitespace().next()?.parse().ok()?;
    let mut fields = tail.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    // Field 22 of the line; two of those behind the name are already taken.
    let started = fields.nth(17)?.parse().ok()?;
    Some(Process { id: ProcessId { pid, started }, parent, state })
}

#[cfg(not(target_os = "linux"))]
fn look(pid: i32) -> Option<Process> {
    table().into_iter().find(|process| process.id.pid == pid && !process.is_gone())
}

/// Elsewhere than on Linux there is no `/proc`; `ps` is slower and does not tell when a process began in a way that
/// could be compared.
#[cfg(not(target_os = "linux"))]
fn table() -> Vec<Process> {
    let Ok(output) = std::process::Command::new("ps").args(["-axo", "pid=,ppid=,state="]).output()
    else {
        return Vec::new();
    };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let pid = fields.next()?.parse().ok()?;
            let parent = fields.next()?.parse().ok()?;
            let state = fields.next()?.chars().next()?;
            Some(Process { id: ProcessId { pid, started: 0 }, parent, state })
        })
        .collect()
}

#[cfg(not(target_os = "linux"))]
fn command_line(pid: i32) -> Vec<String> {
    std::process::Command::new("ps")
        .args(["-o", "command=", "-p", &pid.to_string()])
        .output()
        .map(|output| {
            String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect()
        })
        .unwrap_or_default()
}

/// The program is asked for too: somebody's shell may stand in the folder. A backend has a title in place of a command
/// line; the server `initdb` runs has the folder in its environment only.
fn is_backend_in(pid: i32, data: &Path) -> bool {
    let is_server = |first: &String| {
        first.starts_with("postgres")
            || Path::new(first).file_name().is_some_and(|name| name == "postgres")
    };
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|folder| folder == data)
        && command_line(pid).first().is_some_and(is_server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_parentheses_does_not_shift_the_fields() {
        let line = "77 (a) (b c) T 5 77 77 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 991122 0 0";
        let process = parse_stat(line).unwrap();
        assert_eq!((process.id, process.parent), (ProcessId { pid: 77, started: 991_122 }, 5));
        assert!(process.is_frozen() && !process.is_gone());
    }

    #[test]
    fn our_own_process_is_alive_and_is_no_server() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(ProcessId::running(pid).unwrap().is_alive());
        assert!(!names_folder(pid, Path::new("/")));
    }

    #[test]
    fn a_number_given_to_another_process_is_not_the_one_remembered() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let mut other = ProcessId::running(pid).unwrap();
        other.started += 1;
        assert!(!other.is_alive());
    }
}
