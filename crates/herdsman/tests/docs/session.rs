//! One shell that runs the commands of a page.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::time::Instant;

use super::compare;
use super::page::Shown;
use crate::cluster::open_temp_dir;
use crate::program::Folder;

/// All that a page shows.
const WHOLE: Duration = Duration::from_secs(180);
/// How long what a command prints may take to settle.
const SETTLING: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(200);

/// Ends a command's output. No command prints it.
const SENTINEL: &str = "-- end of the output, status ";

pub(super) struct Session {
    folder: Folder,
    shell: Child,
    output: Receiver<Vec<u8>>,
    deadline: Instant,
    commands: u32,
    /// How the last command ended, for the next one's `$?`.
    status: i32,
    over: bool,
}

/// What happened to a command.
struct Printed {
    text: String,
    ended: bool,
}

impl Session {
    /// With an empty working folder, home and `TMPDIR` of its own.
    pub(super) fn start() -> Self {
        let folder = Folder::within(&open_temp_dir());
        // The servers may run as another user, who must be able to pass through.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let [cwd, home, tmp] = places(&folder);
        for place in [&cwd, &home, &tmp] {
            fs::create_dir(place).unwrap();
            fs::set_permissions(place, fs::Permissions::from_mode(0o711)).unwrap();
        }
        let (read, write) = std::io::pipe().unwrap();
        let shell = shell(&folder)
            .stdin(Stdio::piped())
            .stdout(write.try_clone().unwrap())
            .stderr(write)
            .process_group(0)
            .spawn()
            .unwrap();
        let output = listen(read);
        let deadline = Instant::now() + WHOLE;
        Self { folder, shell, output, deadline, commands: 0, status: 0, over: false }
    }

    /// Runs a command until it prints what is shown; if it does not, gives what it printed instead.
    pub(super) fn run(&mut self, shown: &Shown) -> Result<(), String> {
        let [cwd, home, tmp] = places(&self.folder);
        // What readers find in /tmp is in our own temporary folder.
        let text = shown.text.replace("/tmp/", &format!("{}/", tmp.display()));
        let status = self.status;
        if is_background(&text) {
            return self.run_in_background(&text, shown);
        }
        let begun = Instant::now();
        loop {
            let printed = self.once(&text, status, None);
            let actual = compare::with_usual_places(&printed.text, &tmp, [&cwd, &home]);
            if !printed.ended {
                self.over = true;
                return Err(format!(
                    "{actual}\n(it did not end, or the whole page took over {WHOLE:?})"
                ));
            }
            if compare::agree(&shown.expected, &actual) {
                return Ok(());
            }
            if changes_state(&text) || begun.elapsed() > SETTLING {
                return Err(actual.trim_end().to_owned());
            }
            std::thread::sleep(AGAIN);
        }
    }

    /// Whether no further command can be run.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// What it prints is kept from the output of later commands, and compared where something is shown.
    fn run_in_background(&mut self, text: &str, shown: &Shown) -> Result<(), String> {
        let [cwd, home, tmp] = places(&self.folder);
        let file = self.folder.path().join(format!("background-{}", self.commands));
        if !self.once(text, self.status, Some(&file)).ended {
            self.over = true;
            return Err("(it did not go to the background)".to_owned());
        }
        // `[1] 4711` is what an interactive shell says by itself.
        let expected: Vec<_> =
            shown.expected.lines().filter(|line| !line.starts_with('[')).collect();
        let expected = expected.join("\n");
        let begun = Instant::now();
        loop {
            let printed = fs::read_to_string(&file).unwrap_or_default();
            let actual = compare::with_usual_places(&printed, &tmp, [&cwd, &home]);
            if expected.trim().is_empty() || compare::agree(&expected, &actual) {
                return Ok(());
            }
            if begun.elapsed() > SETTLING {
                return Err(actual.trim_end().to_owned());
            }
            std::thread::sleep(AGAIN);
        }
    }

    fn once(&mut self, text: &str, status: i32, into: Option<&Path>) -> Printed {
        self.commands += 1;
        let file = self.folder.path().join(format!("command-{}", self.commands));
        fs::write(&file, format!("{text}\n")).unwrap();
        let into = into.map_or_else(String::new, |file| format!(">'{}' 2>&1", file.display()));
        let number = self.commands;
        let line = format!(
            "(exit {status}); . '{}' </dev/null {into}\nprintf '\\n{SENTINEL}%d of {number}\\n' $?\n",
            file.display()
        );
        // A shell that has ended is noticed below.
        let _told = self.shell.stdin.as_mut().unwrap().write_all(line.as_bytes());
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((printed, end)) = text.split_once(&format!("\n{SENTINEL}"))
                && let Some((status, _)) = end.split_once(&format!(" of {number}\n"))
            {
                self.status = status.parse().unwrap();
                return Printed { text: printed.to_owned(), ended: true };
            }
            match self.output.recv_timeout(self.deadline.saturating_duration_since(Instant::now()))
            {
                Ok(more) => bytes.extend(more),
                Err(_) => return Printed { text, ended: false },
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Jobs in the background are in the shell's process group; servers are not, and go with their sandbox.
        let _ended_already = kill_process_group(Pid::from_child(&self.shell), Signal::TERM);
        std::thread::sleep(AGAIN);
        let _ended_already = kill_process_group(Pid::from_child(&self.shell), Signal::KILL);
        let _reaped = self.shell.wait();
        for place in places(&self.folder) {
            for entry in fs::read_dir(place).into_iter().flatten().flatten() {
                if herdsman_sandbox::is_sandbox(&entry.path()) {
                    let dir = entry.path().display().to_string();
                    self.folder.herdsman(&["sandbox", "destroy", "--dir", &dir]);
                }
            }
        }
    }
}

/// The working folder, the home and the folder for temporary files.
fn places(folder: &Folder) -> [PathBuf; 3] {
    ["cwd", "home", "tmp"].map(|name| folder.path().join(name))
}

fn shell(folder: &Folder) -> Command {
    let [cwd, home, tmp] = places(folder);
    let program = Path::new(env!("CARGO_BIN_EXE_herdsman")).parent().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("bash");
    shell
        .args(["--noprofile", "--norc"])
        .current_dir(cwd)
        .env("HOME", home)
        .env("TMPDIR", tmp)
        .env("PATH", format!("{}:{path}", program.display()))
        // The servers fetched for tests are where they are, whatever the home.
        .envs(herdsman_sandbox::postgres::cache_folder().map(|cache| ("HERDSMAN_PG_CACHE", cache)));
    for variable in ["HERDSMAN_CONFIG", "PGROUTE66CONFIG", "HERDSMAN_LOG", "RUST_LOG"] {
        shell.env_remove(variable);
    }
    shell
}

fn listen(mut pipe: std::io::PipeReader) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = pipe.read(&mut buffer) {
            if sender.send(buffer.get(..length).unwrap().to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

fn is_background(text: &str) -> bool {
    text.ends_with('&') && !text.ends_with("&&")
}

/// Such a command is run once: a second time it does something else.
fn changes_state(text: &str) -> bool {
    let after = text.split("herdsman sandbox ").skip(1);
    after.into_iter().any(|action| !action.starts_with("status"))
        || text.starts_with("herdsman switchover ")
}

#[test]
fn a_session_keeps_variables_folders_and_the_last_status() {
    let shown = |text: &str, expected: &str| Shown {
        line: 1,
        text: text.to_owned(),
        expected: expected.to_owned(),
    };
    let mut session = Session::start();
    let good = [
        ("A=one; mkdir d; cd d", ""),
        ("echo $A; basename $PWD", "one\nd"),
        ("echo /tmp/x; echo problem >&2", "/tmp/x\nproblem"),
        ("cat", ""),
        ("(sleep 0.1; echo later) &", "later"),
        ("sleep 60 &", "[1] 4711"),
        ("echo a \\\n  b", "a b"),
        ("printf 'no newline'", "no newline"),
    ];
    for (text, expected) in good {
        assert_eq!(session.run(&shown(text, expected)), Ok(()), "{text}");
    }
    assert_eq!(session.run(&shown("(exit 7)", "")), Ok(()));
    assert_eq!(session.run(&shown("[ $? = 7 ] && echo seven", "seven")), Ok(()));
    assert_eq!(
        session.run(&shown("herdsman sandbox nonsense 2>/dev/null; echo no", "yes")),
        Err("no".to_owned())
    );
    assert!(!session.is_over());
    assert!(session.run(&shown("exit", "")).is_err());
    assert!(session.is_over());
}
