//! `herdsman mesh` as a user types it, on three real servers that know nothing of each other.

mod control;
mod running;
mod tables;

use std::path::PathBuf;
use std::process::{Child, Stdio};

use herdsman_sandbox::Sandbox;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use crate::cluster::{PATIENCE, Turn, sql_within, until};
use crate::program::{Ended, Folder};

/// What the configuration of a yard has as the token.
pub const TOKEN: &str = "s3cret-token";

/// Three writers, a folder with a configuration that makes them a mesh, and the program in that folder.
pub struct Yard {
    pub folder: Folder,
    // Before the runtime, in which its proxies live.
    sandbox: Option<Sandbox>,
    runtime: Runtime,
    _turn: Turn,
}

/// A program that runs until it is dropped.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _ended_already = self.0.wait();
    }
}

impl Running {
    #[track_caller]
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Yard {
    pub fn new() -> Self {
        let turn = Turn::take();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let sandbox = runtime.block_on(Box::pin(Sandbox::builder().writers(3).start())).unwrap();
        let yard = Self { folder: Folder::new(), sandbox: Some(sandbox), runtime, _turn: turn };
        let config = yard.sandbox().config_yaml(0).unwrap();
        yard.folder.file("herdsman.yml", &format!("{config}  control: {{ token: {TOKEN} }}\n"));
        for node in NODES {
            yard.sql(node, "create table public.t (id bigserial primary key, v text)");
        }
        yard
    }

    /// With everything in place, and nothing running.
    pub fn up() -> Self {
        let yard = Self::new();
        yard.prints(&["up", "--yes"]);
        yard
    }

    pub fn sandbox(&self) -> &Sandbox {
        self.sandbox.as_ref().unwrap()
    }

    /// What the application is told, past every proxy.
    #[track_caller]
    pub fn sql(&self, node: &str, statement: &str) -> String {
        let port = self.sandbox().server_port(node).unwrap();
        let password = self.sandbox().credentials().password("app").unwrap();
        sql_within(PATIENCE, port, "app", password, statement).unwrap()
    }

    pub fn mesh(&self, args: &[&str]) -> Ended {
        self.folder.herdsman(&[&["mesh"], args].concat())
    }

    /// What it prints when it works.
    #[track_caller]
    pub fn prints(&self, args: &[&str]) -> String {
        let ended = self.mesh(args);
        assert_eq!(ended.code, Some(0), "{args:?}: {}{}", ended.stdout, ended.stderr);
        ended.stdout
    }

    #[track_caller]
    pub fn refuses(&self, args: &[&str], code: i32, why: &str) {
        let ended = self.mesh(args);
        assert_eq!(ended.code, Some(code), "{args:?}: {}{}", ended.stdout, ended.stderr);
        assert!(ended.stderr.contains(why), "{args:?}: {}", ended.stderr);
    }

    /// The program as it runs for long, with its log in a file of this name.
    pub fn start(&self, args: &[&str], log: &str) -> Running {
        let file = std::fs::File::create(self.log(log)).unwrap();
        let mut command = self.folder.command(args);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn();
        Running(child.unwrap())
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `herdsman run`, and where its API listens.
    #[track_caller]
    pub fn run(&self) -> (Running, String) {
        let running = self.start(&["run"], "log");
        let told =
            until("the API is up", || self.read("log"), |log| log.contains("herdsman is up"));
        let api = told.split("api=\"").nth(1).unwrap().split('"').next().unwrap();
        (running, api.to_owned())
    }

    pub fn read(&self, log: &str) -> String {
        std::fs::read_to_string(self.log(log)).unwrap_or_default()
    }

    /// What every member tells, once all tell this.
    #[track_caller]
    pub fn all_tell(&self, statement: &str, expected: &str) {
        for node in NODES {
            until(
                &format!("{node} tells the same"),
                || self.sql(node, statement),
                |told| told == expected,
            );
        }
    }

    pub fn status(&self, args: &[&str]) -> Value {
        let ended = self.mesh(&[&["status", "--json"], args].concat());
        serde_json::from_str(&ended.stdout).unwrap_or_default()
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        let _entered = self.runtime.enter();
        drop(self.sandbox.take());
    }
}

pub const NODES: [&str; 3] = ["n1", "n2", "n3"];
