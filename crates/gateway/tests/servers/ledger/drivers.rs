//! sqlx, psql, psycopg, pgx and pgjdbc: transfers between accounts, which keep their sum.

use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor as _, Row as _};
use tokio::process::Command;

use super::{PASSWORD, PATIENCE, Served, environment, one};
use crate::drivers::scripts::{fetched, go_program, scripts};

const TOTAL: &str = "SELECT sum(balance) FROM account WHERE id <= 4";

pub(super) async fn sqlx(served: &Served) {
    let before = one(&served.client().await, TOTAL).await;
    let url = format!("postgres://app:{PASSWORD}@127.0.0.1:{}/shop?sslmode=disable", served.port());
    let pool =
        PgPoolOptions::new().max_connections(3).acquire_timeout(PATIENCE).connect(&url).await;
    let pool = pool.unwrap();
    let transfers = (0..3_i64).map(|client| {
        let pool = pool.clone();
        async move {
            for turn in 0..3_i64 {
                let (from, to) = (1 + (client + turn) % 4, 1 + (client + turn + 1) % 4);
                while let Err(error) = transfer(&pool, from, to).await {
                    let state = error.as_database_error().and_then(|it| it.code());
                    assert_eq!(state.as_deref(), Some("40001"), "{error}");
                }
            }
        }
    });
    futures_util::future::join_all(transfers).await;
    let row = sqlx::query("SELECT sum(balance)::text FROM account WHERE id <= $1").bind(4_i64);
    let after: String = row.fetch_one(&pool).await.unwrap().get(0);
    assert_eq!(after, before);
    // The simple protocol, with several statements in one text.
    pool.execute("BEGIN; SELECT 1; ROLLBACK").await.unwrap();
    pool.close().await;
}

async fn transfer(pool: &sqlx::PgPool, from: i64, to: i64) -> Result<(), sqlx::Error> {
    let mut open = pool.begin().await?;
    for (id, by) in [(from, -1_i64), (to, 1)] {
        let add = sqlx::query("UPDATE account SET balance = balance + $1 WHERE id = $2");
        add.bind(by).bind(id).execute(&mut *open).await?;
    }
    open.commit().await
}

pub(super) async fn psql(served: &Served) {
    let client = served.client().await;
    let before = one(&client, TOTAL).await;
    let mut psql = Command::new("psql");
    let script = "\\set ON_ERROR_STOP on\nBEGIN;\nUPDATE account SET balance = balance - 3 WHERE id = 1;\n\
                  UPDATE account SET balance = balance + 3 WHERE id = 2;\nCOMMIT;\n\\d account\n\
                  SELECT 'ok ' || count(*) FROM account;\n";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("script.sql");
    std::fs::write(&file, script).unwrap();
    psql.args(["-X", "-q", "-t", "-f"]).arg(&file);
    let said = said(served, psql).await;
    assert!(said.contains("ok ") && said.contains("balance"), "{said}");
    assert_eq!(one(&client, TOTAL).await, before);
}

pub(super) async fn psycopg(served: &Served) {
    let mut python = Command::new(fetched("python/bin/python"));
    python.arg("-B").arg(scripts().join("python/ledger_checks.py"));
    checked(served, python).await;
}

pub(super) async fn pgjdbc(served: &Served) {
    let mut java = Command::new("java");
    java.arg("-cp").arg(fetched("java").join("*")).arg(scripts().join("java/LedgerChecks.java"));
    checked(served, java).await;
}

pub(super) async fn pgx(served: &Served) {
    if let Some(program) = go_program() {
        let mut go = Command::new(program);
        go.arg("ledger");
        checked(served, go).await;
    }
}

/// Runs a program that prints a line for each check.
async fn checked(served: &Served, command: Command) {
    let said = said(served, command).await;
    assert!(said.lines().filter(|line| line.starts_with("ok ")).count() > 3, "{said}");
}

/// Runs a program that finds the ledger by libpq's variables; what it says.
async fn said(served: &Served, mut command: Command) -> String {
    command.envs(environment(served)).kill_on_drop(true);
    let ended = tokio::time::timeout(4 * PATIENCE, command.output()).await.unwrap().unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&ended.stdout),
        String::from_utf8_lossy(&ended.stderr)
    );
    assert!(ended.status.success(), "{text}");
    text
}
