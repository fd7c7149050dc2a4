//! What `herdsman run` tells the service manager that started it.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::cluster::PATIENCE;
use crate::program::{Folder, closed_port, ended, get};

/// A manager that only listens.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(folder: &Folder) -> Self {
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, path }
    }

    /// `herdsman run` under it.
    fn run(&self, folder: &Folder, file: &str) -> Command {
        let mut command = folder.command(&["run", file]);
        command.env("NOTIFY_SOCKET", &self.path).env("WATCHDOG_USEC", "100000");
        command
    }

    /// The next word that is no mere sign of life.
    #[track_caller]
    fn told(&self) -> String {
        (0..10_000).map(|_| self.heard()).find(|told| told != "WATCHDOG=1\n").expect("only life")
    }

    #[track_caller]
    fn heard(&self) -> String {
        let mut word = [0; 4096];
        let length = self.socket.recv(&mut word).expect("nothing is told");
        String::from_utf8(word[..length].to_vec()).unwrap()
    }
}

fn config(rest: &str) -> String {
    let port = closed_port();
    format!(
        "hosts: {{n1: {{host: 127.0.0.1, port: {port}, sslmode: disable}}}}\nbind: 127.0.0.1\n{rest}"
    )
}

#[test]
fn a_service_manager_hears_of_start_life_reload_and_end() {
    let folder = Folder::new();
    let manager = Manager::new(&folder);
    let port = closed_port();
    let good = config(&format!("port: {port}\n"));
    let file = folder.file("h.yml", &good);
    let mut running = folder.start_command(manager.run(&folder, &file));
    assert_eq!(manager.told(), "READY=1\nSTATUS=serving\n");
    assert!(get(&format!("http://127.0.0.1:{port}"), "/livez").starts_with("HTTP/1.1 200 "));
    for _ in 0..3 {
        assert_eq!(manager.heard(), "WATCHDOG=1\n");
    }

    let mut last = 0_u64;
    for (text, then) in [("hosts: {n1: {port: x}}\n", "with the old configuration"), (&good, "")] {
        folder.file("h.yml", text);
        running.signal(Signal::HUP);
        let reloading = manager.told();
        let at = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        let at = at.and_then(|rest| rest.strip_suffix("\nSTATUS=reloading\n"));
        let at: u64 = at.unwrap_or_else(|| panic!("{reloading}")).parse().unwrap();
        assert!(at > last, "{at} is not after {last}");
        last = at;
        let ready = manager.told();
        assert!(ready.starts_with("READY=1\nSTATUS=serving") && ready.contains(then), "{ready}");
    }

    running.signal(Signal::TERM);
    assert_eq!(manager.told(), "STOPPING=1\nSTATUS=stopping: clients may finish\n");
    assert_eq!(running.code(), Some(0));
}

#[test]
fn what_cannot_start_never_says_that_it_is_ready() {
    let folder = Folder::new();
    let manager = Manager::new(&folder);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway =
        format!("gateway: {{listen: '{}', trust_loopback: true}}\n", taken.local_addr().unwrap());
    let file = folder.file("h.yml", &config(&format!("port: 0\n{gateway}")));
    assert_eq!(ended(&mut manager.run(&folder, &file)).code, Some(69));
    manager.socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    assert!(manager.socket.recv(&mut [0; 64]).is_err(), "something is told");
}

#[test]
fn a_manager_that_is_gone_disturbs_nothing() {
    let folder = Folder::new();
    let manager = Manager::new(&folder);
    std::fs::remove_file(&manager.path).unwrap();
    let file = folder.file("h.yml", &config("port: 0\n"));
    let mut running = folder.start_command(manager.run(&folder, &file));
    running.signal(Signal::TERM);
    assert_eq!(running.code(), Some(0));
}
