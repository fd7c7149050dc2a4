//! `herdsman stream` as a user types it, against real servers.

mod delivery;
mod files;
mod metrics;
mod server;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::program::{Ended, Folder, ended};

/// A cluster with a table, a folder with a configuration that streams it, and the program in that folder.
pub struct Yard {
    pub folder: Folder,
    pub cluster: Cluster,
}

impl Yard {
    pub fn new(version: u32, standbys: usize, stream: &str) -> Self {
        let cluster = Cluster::on(version, standbys);
        cluster.sql("n1", "create table public.users (id bigint primary key, name text)");
        let yard = Self { folder: Folder::new(), cluster };
        yard.configure(stream);
        yard
    }

    /// Writes `herdsman.yml` with this below `stream:`, beside the login.
    pub fn configure(&self, stream: &str) {
        let password = self.cluster.sandbox().credentials().password("postgres").unwrap();
        let text = format!(
            "{}watch:\n{}port: 0\nstream:\n  login: {{user: postgres, dbname: postgres, password: '{password}'}}\n{stream}",
            self.cluster.hosts(str::to_owned),
            self.cluster.replication_addresses(str::to_owned),
        );
        self.folder.file("herdsman.yml", &text);
    }

    pub fn stream(&self, args: &[&str]) -> Ended {
        self.folder.herdsman(&[&["stream"], args].concat())
    }

    pub fn stream_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Ended {
        let mut command = self.folder.command(&[&["stream"], args].concat());
        ended(command.envs(variables.iter().copied()))
    }

    /// What it prints when it works.
    #[track_caller]
    pub fn prints(&self, args: &[&str]) -> String {
        let ended = self.stream(args);
        assert_eq!(ended.code, Some(0), "{args:?}: {}{}", ended.stdout, ended.stderr);
        ended.stdout
    }

    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let printed = self.prints(args);
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
    }

    #[track_caller]
    pub fn refuses(&self, args: &[&str], code: i32, why: &str) {
        let ended = self.stream(args);
        assert_eq!(ended.code, Some(code), "{args:?}: {}{}", ended.stdout, ended.stderr);
        assert!(ended.stderr.contains(why), "{args:?}: {}", ended.stderr);
    }

    pub fn sql(&self, statement: &str) -> String {
        self.cluster.sql("n1", statement)
    }
}

/// One JSON value for each line.
pub fn lines(printed: &str) -> Vec<Value> {
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
