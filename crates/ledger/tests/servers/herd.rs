//! A PostgreSQL, a MariaDB and an SQLite that are to be kept alike.

use std::{path::PathBuf, time::Duration};

use herdsman_ledger::{
    Kind, Offset,
    engine::{Condition, Ledger},
    node::{Node, mariadb::mariadb, postgres::postgres, sqlite::sqlite},
    table::{Column, Table},
};
use herdsman_node::{Conninfo, Tls};
use herdsman_sandbox::{MariaDb, Sandbox};
use sqlx::mysql::MySqlConnectOptions;

/// Servers of each make.
pub(crate) struct Herd {
    pub(crate) postgres: Sandbox,
    pub(crate) mariadb: MariaDb,
    pub(crate) folder: tempfile::TempDir,
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

impl Herd {
    /// Starts them.
    pub(crate) async fn start(version: u32) -> Self {
        let (postgres, mariadb) =
            tokio::join!(Sandbox::builder().pg_version(version).start(), MariaDb::start());
        Self {
            postgres: postgres.unwrap(),
            mariadb: mariadb.unwrap(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn sqlite_file(&self) -> PathBuf {
        self.folder.path().join("node.db")
    }

    pub(crate) fn conninfo(&self) -> Conninfo {
        Conninfo::from_pairs(self.postgres.conninfo("n1", "postgres").unwrap()).unwrap()
    }

    pub(crate) fn mysql(&self) -> MySqlConnectOptions {
        MySqlConnectOptions::new()
            .host("127.0.0.1")
            .port(self.mariadb.port())
            .username(MariaDb::USER)
            .password(self.mariadb.password())
            .database(MariaDb::DATABASE)
            .ssl_mode(sqlx::mysql::MySqlSslMode::Disabled)
    }

    pub(crate) fn nodes(&self) -> Vec<Box<dyn Node>> {
        let info = self.conninfo();
        let tls = Tls::new(&info).unwrap();
        vec![
            postgres("pg", info, tls),
            mariadb("maria", self.mysql()),
            sqlite("lite", &self.sqlite_file()),
        ]
    }
}

pub(crate) const NODES: [&str; 3] = ["pg", "maria", "lite"];

pub(crate) fn column(name: &str, kind: Kind, nullable: bool) -> Column {
    Column { name: name.to_owned(), kind, nullable }
}

/// `account (id bigint primary key, mail varchar(40) unique null, balance bigint)`.
pub(crate) fn account() -> Table {
    Table {
        name: "account".to_owned(),
        columns: vec![
            column("id", Kind::Int64, false),
            column("mail", Kind::Text { max: Some(40) }, true),
            column("balance", Kind::Int64, false),
        ],
        key: vec![0],
        uniques: vec![vec![1]],
        references: Vec::new(),
    }
}

/// Waits until it is so.
pub(crate) async fn until(what: &str, mut there: impl FnMut() -> bool) {
    let come = async {
        while !there() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, come).await.unwrap_or_else(|_| panic!("{what}"));
}

/// Waits until every node follows and has come to `at`.
pub(crate) async fn all_at(ledger: &Ledger, at: Offset) {
    for node in NODES {
        ledger.reached(node, at, PATIENCE).await.unwrap();
    }
}

/// Waits until every node follows.
pub(crate) async fn all_follow(ledger: &Ledger) {
    let there = async {
        while ledger.status().iter().any(|(_, _, it)| it.condition != Condition::Following) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, there).await;
    assert!(in_time.is_ok(), "{:?}", ledger.status());
}
