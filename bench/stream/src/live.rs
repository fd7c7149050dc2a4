//! How soon the first row of a large transaction is with a reader that was there before it began.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::clients::{Found, now};
use crate::error::BenchError;
use crate::servers::{NO_WAITING, Source};

/// Seconds from when the transaction began to the first row.
pub(crate) async fn first_row(reader: &str, rows: u64, pg_version: u32) -> Result<f64, BenchError> {
    let source = Source::empty(rows, pg_version, &NO_WAITING).await?;
    let reading = Command::new(std::env::current_exe()?)
        .args(["read", reader, "origin", &rows.to_string()])
        .env("CONNINFO", source.conninfo()?)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()?;
    source.wait_for_reader("origin").await?;
    let began = source.write_slowly(now).await?;
    let output = tokio::time::timeout(Duration::from_secs(300), reading.wait_with_output()).await;
    let output = output.map_err(|_| BenchError::Wrong("the reader does not end".to_owned()))??;
    let found: Found = serde_json::from_slice(&output.stdout)?;
    if found.rows != rows {
        return Err(BenchError::Wrong(format!("{reader} read {} rows", found.rows)));
    }
    Ok(Duration::from_micros(found.first_at.saturating_sub(began)).as_secs_f64())
}
