//! `herdsman top` in a real terminal, or what a program takes for one.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::cluster::{Cluster, until};
use crate::program::{Folder, closed_port};

/// A terminal with a program in it.
struct Pty {
    master: File,
    /// Kept open, to look at what the program leaves of it.
    slave: File,
    child: Child,
    screen: Arc<Mutex<Screen>>,
    before: Termios,
}

/// What a terminal would show. It knows what the program under test sends, and nothing else.
struct Screen {
    cells: Vec<Vec<char>>,
    at: (usize, usize),
    unread: Vec<u8>,
    alternate: bool,
    cursor: bool,
    coloured: bool,
}

impl Screen {
    fn new(columns: usize, lines: usize) -> Self {
        Self {
            cells: vec![vec![' '; columns]; lines],
            at: (0, 0),
            unread: Vec::new(),
            alternate: false,
            cursor: true,
            coloured: false,
        }
    }

    fn text(&self) -> String {
        let line = |line: &Vec<char>| line.iter().collect::<String>().trim_end().to_owned();
        self.cells.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn take(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        while let Some(taken) = self.step() {
            self.unread.drain(..taken);
        }
    }

    /// Does what comes next, and tells how many bytes that was; nothing where it has not come whole.
    fn step(&mut self) -> Option<usize> {
        let first = *self.unread.first()?;
        if first == 0x1b {
            if *self.unread.get(1)? != b'[' {
                return Some(2);
            }
            let end = self.unread.iter().skip(2).position(|byte| (0x40..0x7f).contains(byte))? + 2;
            let parameters = String::from_utf8_lossy(&self.unread[2..end]).into_owned();
            self.command(self.unread[end], &parameters);
            return Some(end + 1);
        }
        let length = match first {
            0x00..0x80 => 1,
            0x80..0xe0 => 2,
            0xe0..0xf0 => 3,
            _ => 4,
        };
        let letter = String::from_utf8_lossy(self.unread.get(..length)?).chars().next()?;
        match letter {
            '\r' => self.at.1 = 0,
            '\n' => self.at.0 += 1,
            letter => {
                let (line, column) = self.at;
                if let Some(cell) = self.cells.get_mut(line).and_then(|line| line.get_mut(column)) {
                    *cell = letter;
                }
                self.at.1 += 1;
            }
        }
        Some(length)
    }

    fn command(&mut self, command: u8, parameters: &str) {
        let number = |at: usize| {
            parameters.split(';').nth(at).and_then(|n| n.parse::<usize>().ok()).unwrap_or(1)
        };
        match (command, parameters) {
            (b'H', _) => self.at = (number(0) - 1, number(1) - 1),
            (b'J', _) => self.cells.iter_mut().for_each(|line| line.fill(' ')),
            (b'h' | b'l', "?1049") => self.alternate = command == b'h',
            (b'h' | b'l', "?25") => self.cursor = command == b'h',
            (b'm', _) => {
                let coloured = |n: &str| matches!(n.parse(), Ok(30..=38 | 40..=48 | 90..=107));
                self.coloured |= parameters.split(';').any(coloured);
            }
            _ => {}
        }
    }
}

fn size(columns: u16, lines: u16) -> Winsize {
    Winsize { ws_col: columns, ws_row: lines, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Pty {
    fn start(folder: &Folder, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        tcsetwinsize(&master, size(80, 24)).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let no_ctty = i32::try_from(OFlags::NOCTTY.bits()).unwrap();
        let slave = OpenOptions::new().read(true).write(true).custom_flags(no_ctty).open(name);
        let slave = slave.unwrap();
        let before = tcgetattr(&slave).unwrap();
        // Makes it the terminal that the program is controlled by, as a shell's is.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(env!("CARGO_BIN_EXE_herdsman")).args(args);
        command.current_dir(folder.path()).env_clear().env("HOME", folder.path());
        command.env("TERM", "xterm-256color").envs(variables.iter().copied());
        let end = || slave.try_clone().unwrap();
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let screen = Arc::new(Mutex::new(Screen::new(80, 24)));
        let (copy, mut reader) = (Arc::clone(&screen), File::from(master.try_clone().unwrap()));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut bytes) {
                copy.lock().unwrap().take(&bytes[..length]);
            }
        });
        Self { master: File::from(master), slave, child, screen, before }
    }

    fn type_in(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    fn resize(&self, columns: u16, lines: u16) {
        *self.screen.lock().unwrap() =
            Screen { alternate: true, cursor: false, ..Screen::new(columns.into(), lines.into()) };
        tcsetwinsize(&self.master, size(columns, lines)).unwrap();
    }

    #[track_caller]
    fn until_shown(&self, what: &str, seen: impl Fn(&str) -> bool) -> String {
        until(what, || self.screen.lock().unwrap().text(), |text| seen(text))
    }

    /// Waits for its end, and checks that the terminal is as it was.
    #[track_caller]
    fn ends_well(mut self) {
        let mut code = None;
        until(
            "it ends",
            || {
                code = self.child.try_wait().unwrap().map(|status| status.code());
                format!("{code:?}")
            },
            |code| code != "None",
        );
        assert_eq!(code, Some(Some(0)), "{}", self.screen.lock().unwrap().text());
        let after = tcgetattr(&self.slave).unwrap();
        let modes =
            |all: &Termios| (all.input_modes, all.output_modes, all.control_modes, all.local_modes);
        assert_eq!(modes(&after), modes(&self.before), "the terminal is not as it was");
        let given_back = || {
            let screen = self.screen.lock().unwrap();
            (!screen.alternate && screen.cursor).to_string()
        };
        until("the screen that was there before", given_back, |given| given == "true");
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[test]
fn top_shows_the_writer_its_loss_and_what_happened_and_leaves_the_terminal_as_it_was() {
    let cluster = Cluster::start(1);
    let folder = Folder::new();
    let itself = |node: &str| node.to_owned();
    let config = format!(
        "{}bind: 127.0.0.1\nport: {}\nwatch:\n{}",
        cluster.hosts(itself),
        closed_port(),
        cluster.replication_addresses(itself),
    );
    folder.file("herdsman.yml", &config);
    let running = folder.start(&["run"]);
    let mut top = Pty::start(&folder, &["top", "--interval", "0.1"], &[]);
    let shown = top.until_shown("the writer and its standby", |text| {
        text.contains("\nprimary is n1 on timeline 1: ")
            && text
                .lines()
                .any(|line| line.starts_with("n2 ") && line.contains("standby  yes   n1"))
    });
    assert!(
        shown.lines().any(|line| line.starts_with("n1 ") && line.contains("primary")),
        "{shown}"
    );
    assert!(shown.starts_with("herdsman ") && shown.contains("http://127.0.0.1:"), "{shown}");

    cluster.kill("n1");
    top.until_shown("nobody may be written to", |text| text.contains("\nno primary: n1, "));
    top.type_in("2");
    top.until_shown("what happened", |text| {
        let row = |event: &str| text.lines().any(|line| line.contains(event));
        row("  no primary  ") && row("  node down ") && row("  primary ")
    });
    top.resize(100, 30);
    top.until_shown("the last line of a larger terminal", |text| {
        text.lines().nth(29).is_some_and(|line| line.contains("q end"))
    });

    drop(running);
    top.until_shown("that nobody answers", |text| text.contains("\naway for "));
    let _again = folder.start(&["run"]);
    top.until_shown("that somebody answers again", |text| {
        text.contains("\nno primary: ") && !text.contains("away for")
    });
    assert!(top.screen.lock().unwrap().coloured);
    top.type_in("q");
    top.ends_well();
}

#[test]
fn top_waits_for_who_is_away_without_colours_and_ends_at_a_signal() {
    let folder = Folder::new();
    let url = format!("http://127.0.0.1:{}", closed_port());
    for signal in [Signal::TERM, Signal::INT] {
        let top = Pty::start(&folder, &["top", "--url", &url], &[("NO_COLOR", "1")]);
        top.until_shown("that nobody answers", |text| text.contains("\naway for "));
        assert!(!top.screen.lock().unwrap().coloured);
        kill_process(Pid::from_child(&top.child), signal).unwrap();
        top.ends_well();
    }
    let piped = folder.herdsman(&["top", "--url", &url]);
    assert_eq!((piped.code, piped.stdout.as_str()), (Some(2), ""));
    assert!(piped.stderr.contains("`herdsman status --watch`"), "{}", piped.stderr);
}
