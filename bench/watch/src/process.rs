//! Programs that are measured from outside: how they are run, and what they use of the machine.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::error::BenchError;
use crate::http;

/// A program that serves `/v1/primary`. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Served {
    program: String,
    child: Child,
    pid: u32,
    pub(crate) port: u16,
    log: PathBuf,
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    pub(crate) peak: u64,
}

/// How long a program may take until it names the primary.
const READY_WITHIN: Duration = Duration::from_secs(30);
const STOPS_WITHIN: Duration = Duration::from_secs(10);
const ASK_EVERY: Duration = Duration::from_millis(50);

/// The `herdsman` to measure: the one named, or the one beside this program.
pub(crate) fn herdsman(named: Option<PathBuf>) -> Result<PathBuf, BenchError> {
    let path = match named {
        Some(path) => path,
        None => std::env::current_exe()
            .map_err(BenchError::system("find this program"))?
            .with_file_name("herdsman"),
    };
    if path.is_file() {
        return Ok(path);
    }
    let advice = "build it with `cargo build --release`, or name it with --herdsman";
    Err(BenchError::NoProgram { path: path.display().to_string(), advice })
}

/// A program that was named on the command line.
pub(crate) fn program(path: &Path) -> Result<PathBuf, BenchError> {
    path.canonicalize().ok().filter(|path| path.is_file()).ok_or_else(|| BenchError::NoProgram {
        path: path.display().to_string(),
        advice: "name a pgroute66 that is installed",
    })
}

/// A port of 127.0.0.1 that nobody listens on.
pub(crate) fn free_port() -> Result<u16, BenchError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(BenchError::system("get a free port"))
}

impl Served {
    /// Runs `PROGRAM -c FILE`, which both Herdsman and the peer understand, and waits until it names a primary.
    /// `folder` gets the file and the log.
    pub(crate) async fn start(
        program: &Path,
        config: &str,
        port: u16,
        folder: &Path,
    ) -> Result<Self, BenchError> {
        let name = program.file_name().map_or_else(String::new, |n| n.to_string_lossy().into());
        let (file, log) = (folder.join("bench.yml"), folder.join("bench.log"));
        write_private(&file, config).map_err(BenchError::system("write a configuration"))?;
        let errors = File::create(&log).map_err(BenchError::system("write a log"))?;
        let child = Command::new(program)
            .args([OsStr::new("-c"), file.as_os_str()])
            .env("GIN_MODE", "release")
            .stdin(Stdio::null())
            // The peer writes a line per request there; where it goes must not be part of the measurement.
            .stdout(Stdio::null())
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .map_err(BenchError::system(format!("run {}", program.display())))?;
        let pid = child.id().unwrap_or_default();
        let mut served = Self { program: name, child, pid, port, log };
        served.ready().await?;
        Ok(served)
    }

    async fn ready(&mut self) -> Result<(), BenchError> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let last = match http::get(self.port, "/v1/primary").await {
                Ok((200, _)) => return Ok(()),
                Ok((status, body)) => format!("{status} {}", String::from_utf8_lossy(&body)),
                Err(error) => error.to_string(),
            };
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.failed(&format!("ended at once ({status})")));
            }
            if Instant::now() > deadline {
                return Err(self.failed(&format!("never named a primary ({last})")));
            }
            sleep(ASK_EVERY).await;
        }
    }

    /// Processor seconds used so far, by all its threads.
    pub(crate) fn cpu_seconds(&self) -> Result<f64, BenchError> {
        let text = self.read("stat")?;
        let ticks = ticks(&text).ok_or_else(|| self.failed("has no processor time in /proc"))?;
        Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    pub(crate) fn memory(&self) -> Result<Memory, BenchError> {
        let text = self.read("status")?;
        memory(&text).ok_or_else(|| self.failed("has no memory in /proc"))
    }

    /// Ends it with SIGTERM, or with SIGKILL when it takes too long.
    pub(crate) async fn stop(mut self) -> Result<(), BenchError> {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            // Gone already: that is seen below.
            let _gone = kill_process(pid, Signal::TERM);
        }
        if timeout(STOPS_WITHIN, self.child.wait()).await.is_err() {
            self.child.kill().await.map_err(BenchError::system("end a program"))?;
        }
        Ok(())
    }

    /// An error about this program, with the end of its log.
    pub(crate) fn failed(&self, problem: &str) -> BenchError {
        BenchError::Program {
            program: self.program.clone(),
            problem: problem.to_owned(),
            log: end_of(&self.log).unwrap_or_else(|error| format!("({error})")),
        }
    }

    fn read(&self, what: &str) -> Result<String, BenchError> {
        fs::read_to_string(format!("/proc/{}/{what}", self.pid))
            .map_err(|_| self.failed("has ended by itself"))
    }
}

/// User and system time in `/proc/PID/stat`. The name before them may hold blanks and brackets.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    Some(times.next()?.ok()? + times.next()?.ok()?)
}

fn memory(status: &str) -> Option<Memory> {
    let kib = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').split_whitespace().next()?.parse().ok()
    };
    Some(Memory { resident: kib("VmRSS")? * 1024, peak: kib("VmHWM")? * 1024 })
}

/// It holds passwords.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)?.write_all(text.as_bytes())
}

fn end_of(log: &Path) -> io::Result<String> {
    const READ_BACK: u64 = 2000;
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(READ_BACK)))?;
    let mut end = Vec::new();
    file.take(READ_BACK).read_to_end(&mut end)?;
    Ok(String::from_utf8_lossy(&end).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 250 17 0 0 20 0 4 0 999";
        assert_eq!(ticks(stat), Some(267));
        assert_eq!(ticks("42 (x) S 1"), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let status = "Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n";
        assert_eq!(memory(status), Some(Memory { resident: 1 << 20, peak: 2 << 20 }));
        assert_eq!(memory("Name:\tx\n"), None);
    }
}
