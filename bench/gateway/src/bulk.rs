//! Much in one piece, each way: what a transaction is to the other loads, a mebibyte is to these.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::{Instant, timeout};
use tokio_postgres::SimpleQueryMessage;

use crate::error::BenchError;
use crate::pgbench::Outcome;
use crate::server::Address;

/// Where it goes, 1 GiB of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bulk {
    /// One result of a million rows of 1 KiB each.
    Result,
    /// `COPY FROM STDIN`, of which the server keeps nothing.
    CopyIn,
}

const MEBIBYTES: usize = 1024;
const ROWS: usize = MEBIBYTES * 1024;
/// With the 11 bytes that begin a row of one column, and with the 1 that ends a line.
const WIDTH: [usize; 2] = [1024 - 11, 1024 - 1];
/// Lines in one message.
const LINES: usize = 64;
const WITHIN: Duration = Duration::from_secs(300);

/// Makes the table that is copied to.
pub(crate) async fn initialise(address: &Address) -> Result<(), BenchError> {
    let (client, running) =
        address.login().await.map_err(|refused| failed("let nobody in", &refused))?;
    let made = client.batch_execute("CREATE TABLE bench_copy (line text)").await;
    running.abort();
    made.map_err(|error| failed("made no table", &error))
}

/// Moves it once. `cpu` says how much processor time the proxy has used so far.
pub(crate) async fn run(
    address: &Address,
    bulk: Bulk,
    cpu: impl Fn() -> Duration,
) -> Result<Outcome, BenchError> {
    let (client, running) =
        address.login().await.map_err(|refused| failed("let nobody in", &refused))?;
    let (before, began) = (cpu(), Instant::now());
    let moved = match bulk {
        Bulk::Result => timeout(WITHIN, result(&client)).await,
        Bulk::CopyIn => timeout(WITHIN, copy_in(&client)).await,
    };
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu().saturating_sub(before));
    running.abort();
    match moved {
        Ok(Ok(rows)) if rows == ROWS as u64 => {
            Ok(Outcome { transactions: MEBIBYTES as f64, seconds, cpu, latencies: Vec::new() })
        }
        Ok(Ok(rows)) => Err(failed("moved another number of rows", &rows)),
        Ok(Err(error)) => Err(failed("failed", &error)),
        Err(_) => Err(failed("did not end", &format!("within {WITHIN:?}"))),
    }
}

async fn result(client: &tokio_postgres::Client) -> Result<u64, tokio_postgres::Error> {
    let sql = format!(
        "SELECT pg_catalog.repeat('x', {}) FROM pg_catalog.generate_series(1, {ROWS})",
        WIDTH[0]
    );
    let mut rows = 0;
    let mut messages = std::pin::pin!(client.simple_query_raw(&sql).await?);
    while let Some(message) = messages.next().await {
        rows += u64::from(matches!(message?, SimpleQueryMessage::Row(_)));
    }
    Ok(rows)
}

/// How many lines were sent: the server keeps, and therefore counts, none.
async fn copy_in(client: &tokio_postgres::Client) -> Result<u64, tokio_postgres::Error> {
    let line = format!("{}\n", "x".repeat(WIDTH[1]));
    let lines = bytes::Bytes::from(line.repeat(LINES));
    let sink = client.copy_in::<_, bytes::Bytes>("COPY bench_copy FROM STDIN WHERE false").await?;
    let mut sink = std::pin::pin!(sink);
    for _ in 0..ROWS / LINES {
        sink.feed(lines.clone()).await?;
    }
    sink.finish().await?;
    Ok(ROWS as u64)
}

fn failed(problem: &str, log: &dyn std::fmt::Display) -> BenchError {
    let program = "the bench's own client".to_owned();
    BenchError::Program { program, problem: problem.to_owned(), log: log.to_string() }
}
