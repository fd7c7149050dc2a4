//! pgbench, and what it says.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{ChildStderr, Command};
use tokio::time::timeout;

use crate::error::BenchError;
use crate::proxy::tail;
use crate::server::{Address, DATABASE, ROLE};

/// What pgbench is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// `simple`, `extended` or `prepared`.
    pub(crate) mode: &'static str,
    pub(crate) clients: usize,
    pub(crate) script: Script,
    /// A connection for each transaction.
    pub(crate) reconnect: bool,
    /// That count.
    pub(crate) seconds: u64,
    pub(crate) scale: u32,
}

/// What a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    /// pgbench's select by primary key.
    Select,
    /// pgbench's seven statements between accounts, tellers and branches.
    TpcB,
    /// The bench's own.
    Own(&'static str),
}

/// What came of it, without the first second.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) transactions: f64,
    pub(crate) seconds: f64,
    pub(crate) cpu: Duration,
    /// Microseconds, of a sample of the transactions.
    pub(crate) latencies: Vec<u64>,
}

/// It is ended from here: pgbench counts the time that its clients need to log in.
const FOR_EVER: &str = "600";
const LOGGED_IN_WITHIN: Duration = Duration::from_secs(120);

/// Where a line of progress stands.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    /// In the first second after everybody is logged in.
    Early,
    /// From now on it counts.
    Begin,
    /// So many seconds after the line before.
    After(f64),
}

/// Seconds since the epoch, as pgbench says them.
#[derive(Debug, Default)]
struct Clock {
    first: Option<f64>,
    last: Option<f64>,
    cpu: Duration,
}

impl Clock {
    fn at(&mut self, now: f64) -> Moment {
        let first = *self.first.get_or_insert(now);
        match self.last {
            Some(last) => {
                self.last = Some(now);
                Moment::After(now - last)
            }
            // The first line may come a second after the beginning, or with it.
            None if now - first < 0.9 => Moment::Early,
            None => {
                self.last = Some(now);
                Moment::Begin
            }
        }
    }
}

/// Makes pgbench's tables.
pub(crate) async fn initialise(address: &Address, scale: u32) -> Result<(), BenchError> {
    let mut command = pgbench(address);
    command.args(["-i", "-q", "-s", &scale.to_string()]);
    let output = command.output().await.map_err(BenchError::system("run pgbench"))?;
    if output.status.success() { Ok(()) } else { Err(failed(&output.stderr)) }
}

/// Runs it. `cpu` says how much processor time the proxy has used so far; it is asked at the beginning of the second
/// second, when everybody is logged in and warm, and at the end.
pub(crate) async fn run(
    address: &Address,
    load: Load,
    folder: &Path,
    cpu: impl Fn() -> Duration,
) -> Result<Outcome, BenchError> {
    clear(folder);
    let mut command = pgbench(address);
    command.args(["-n", "-P", "1", "--progress-timestamp", "-l", "-M", load.mode]);
    let (clients, threads) = (load.clients.to_string(), load.clients.min(2).to_string());
    command.args(["-c", &clients, "-j", &threads, "-T", FOR_EVER]);
    // Every transaction of a slow load, a tenth of a fast one: writing the log is work too.
    let fast = load.clients > 1 && load.script == Script::Select && !load.reconnect;
    let rate = if fast { "0.1" } else { "1" };
    command.args(["--sampling-rate", rate]);
    if load.reconnect {
        command.arg("-C");
    }
    match load.script {
        Script::Select => drop(command.arg("-S")),
        Script::TpcB => drop(command.args(["-b", "tpcb-like"])),
        Script::Own(script) => {
            let file = folder.join("script.sql");
            std::fs::write(&file, script).map_err(BenchError::system("write a script"))?;
            command.arg("-D").arg(format!("scale={}", load.scale)).arg("-f").arg(file);
        }
    }
    command.current_dir(folder).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(BenchError::system("run pgbench"))?;
    let (mut outcome, mut said, mut clock) = (Outcome::default(), String::new(), Clock::default());
    if let Some(stderr) = child.stderr.take() {
        let mut lines = BufReader::new(stderr).lines();
        while let Some(line) = line_of(&mut lines, load.seconds).await? {
            let Some((at, per_second)) = progress(&line) else {
                said.push_str(&line);
                said.push('\n');
                continue;
            };
            match clock.at(at) {
                Moment::Early => {}
                Moment::Begin => clock.cpu = cpu(),
                Moment::After(seconds) => {
                    outcome.seconds += seconds;
                    outcome.transactions += per_second * seconds;
                    outcome.cpu = cpu().saturating_sub(clock.cpu);
                }
            }
            if outcome.seconds > load.seconds as f64 - 0.1 {
                break;
            }
        }
    }
    child.kill().await.map_err(BenchError::system("end pgbench"))?;
    // A client that is sent away is only a line on standard error; the others go on.
    if said.contains("aborted") || outcome.transactions < 1.0 {
        return Err(failed(said.as_bytes()));
    }
    outcome.latencies = latencies(folder)?;
    Ok(outcome)
}

/// The next line, of which there is one a second once everybody is logged in.
async fn line_of(
    lines: &mut Lines<BufReader<ChildStderr>>,
    seconds: u64,
) -> Result<Option<String>, BenchError> {
    let within = LOGGED_IN_WITHIN + Duration::from_secs(seconds);
    match timeout(within, lines.next_line()).await {
        Ok(line) => line.map_err(BenchError::system("read pgbench")),
        Err(_) => Err(failed(format!("nothing for {within:?}: clients wait to log in").as_bytes())),
    }
}

fn pgbench(address: &Address) -> Command {
    let mut command = Command::new("pgbench");
    command
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", address.port.to_string())
        .env("PGUSER", ROLE)
        .env("PGPASSWORD", &address.password)
        .env("PGDATABASE", DATABASE)
        .env("PGSSLMODE", if address.tls.is_some() { "require" } else { "disable" })
        .env("PGGSSENCMODE", "disable")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

fn failed(said: &[u8]) -> BenchError {
    let said = String::from_utf8_lossy(said);
    let log = tail(&said);
    BenchError::Program { program: "pgbench".to_owned(), problem: "failed".to_owned(), log }
}

/// When, and how many transactions per second since the line before: `progress: 1700000000.123 s, 12345.6 tps, lat …`.
fn progress(line: &str) -> Option<(f64, f64)> {
    let (at, rest) = line.strip_prefix("progress: ")?.split_once(" s, ")?;
    let (per_second, _) = rest.split_once(" tps")?;
    Some((at.parse().ok()?, per_second.parse().ok()?))
}

fn clear(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with("pgbench_log") {
            // What cannot be removed would be counted; `latencies` then has too many, which shows.
            let _left = std::fs::remove_file(entry.path());
        }
    }
}

/// From all logs in the folder, without the first second of each.
fn latencies(folder: &Path) -> Result<Vec<u64>, BenchError> {
    let mut all = Vec::new();
    let entries = std::fs::read_dir(folder).map_err(BenchError::system("read pgbench's logs"))?;
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with("pgbench_log") {
            let text = std::fs::read_to_string(entry.path());
            all.extend(of_log(&text.map_err(BenchError::system("read pgbench's log"))?));
        }
    }
    Ok(all)
}

/// `client transaction microseconds script seconds microseconds`, in the order of the ends.
fn of_log(text: &str) -> Vec<u64> {
    let lines = text.lines().filter_map(|line| {
        let mut fields = line.split(' ').map(str::parse::<u64>);
        let mut next = || fields.next()?.ok();
        let (_, _, took, _, second, micros) =
            (next()?, next()?, next()?, next()?, next()?, next()?);
        Some((second * 1_000_000 + micros, took))
    });
    let lines: Vec<_> = lines.collect();
    let begin = lines.first().map_or(0, |(at, _)| at + 1_000_000);
    lines.into_iter().filter(|(at, _)| *at >= begin).map(|(_, took)| took).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read() {
        let line = "progress: 1700000000.250 s, 12345.6 tps, lat 0.081 ms stddev 0.020, 0 failed";
        assert_eq!(progress(line), Some((1_700_000_000.25, 12345.6)));
        assert_eq!(progress("pgbench (15.18)"), None);
    }

    #[test]
    fn a_second_passes_before_anything_counts() {
        let mut clock = Clock::default();
        let said = [10.0, 10.1, 11.0, 12.0, 13.5].map(|now| clock.at(now));
        let (early, begin) = (Moment::Early, Moment::Begin);
        assert_eq!(said, [early, early, begin, Moment::After(1.0), Moment::After(1.5)]);
    }

    #[test]
    fn the_first_second_of_a_log_does_not_count() {
        let log =
            "0 1 900 0 100 500000\n0 2 80 0 101 400000\n0 3 90 0 101 500000\n1 1 70 0 102 0\n";
        assert_eq!(of_log(log), [90, 70]);
    }
}
