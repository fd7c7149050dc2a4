//! What happens when no server is given: one is started, and things happen to it.

use std::time::Duration;

use herdsman_node::Conninfo;
use herdsman_sandbox::Sandbox;
use tokio::time::{Instant, sleep};

use crate::index::{Words, set};
use crate::{Problem, Running};

/// How long the index may be behind, at worst: a server that was killed needs a while.
const PATIENCE: Duration = Duration::from_secs(60);

/// An update that does not touch a large text leaves it out; with the whole row before, it is taken from there.
const TABLE: &str = "
    CREATE TABLE articles (id bigint PRIMARY KEY, title text NOT NULL, body text NOT NULL);
    ALTER TABLE articles REPLICA IDENTITY FULL;
    INSERT INTO articles VALUES
        (1, 'Hay', 'how to dry grass'),
        (2, 'Water', 'a horse drinks forty litres'),
        (3, 'Salt', 'a lick for every horse');";

/// Large enough to be kept out of line, and hard to compress.
const LARGE: &str = "
    INSERT INTO articles
    SELECT 4, 'Herds', string_agg(md5(n::text), ' ') || ' mustang' FROM generate_series(1, 1000) n;";

pub async fn tell() -> Result<(), Problem> {
    let sandbox = Sandbox::builder().start().await?;
    let state = tempfile::tempdir()?;
    let server = || -> Result<Conninfo, Problem> {
        Ok(Conninfo::from_pairs(sandbox.conninfo("n1", "postgres")?)?)
    };
    run(&sandbox, TABLE).await?;
    println!("three articles are there before the index is");
    let running = Running::start(server()?, state.path())?;
    search(&running, "horse", &[2, 3]).await?;

    println!("one is written, one is changed, one goes");
    run(&sandbox, LARGE).await?;
    run(&sandbox, "UPDATE articles SET body = 'a cow licks, too' WHERE id = 3").await?;
    run(&sandbox, "DELETE FROM articles WHERE id = 1").await?;
    search(&running, "mustang", &[4]).await?;
    search(&running, "horse", &[2]).await?;
    search(&running, "grass", &[]).await?;

    println!("the server is killed (kill -9) and started again");
    sandbox.kill("n1").await?;
    sandbox.start("n1").await?;
    run(&sandbox, "UPDATE articles SET title = 'Wild herds' WHERE id = 4").await?;
    search(&running, "wild", &[4]).await?;
    search(&running, "mustang", &[4]).await?;

    println!("the index is stopped, and articles are written without it");
    running.stop().await?;
    run(&sandbox, "INSERT INTO articles VALUES (5, 'Oats', 'a horse would eat them all')").await?;
    run(&sandbox, "UPDATE articles SET id = 20 WHERE id = 2").await?;
    println!("it is started again, and goes on where it was");
    let running = Running::start(server()?, state.path())?;
    search(&running, "horse", &[5, 20]).await?;
    search(&running, "mustang", &[4]).await?;

    compare(&sandbox, &running).await?;
    println!("the table is emptied");
    run(&sandbox, "TRUNCATE articles").await?;
    search(&running, "horse", &[]).await?;
    compare(&sandbox, &running).await?;
    running.stop().await
}

async fn run(sandbox: &Sandbox, sql: &str) -> Result<(), Problem> {
    Ok(sandbox.sql("n1", "postgres").await?.batch_execute(sql).await?)
}

/// Searches until this is found.
async fn search(running: &Running, word: &str, expected: &[i64]) -> Result<(), Problem> {
    let deadline = Instant::now() + PATIENCE;
    let mut found = running.index.search(word);
    while found != expected {
        if Instant::now() > deadline || running.service.is_finished() {
            return Err(format!("`{word}` is found in {found:?}, not in {expected:?}").into());
        }
        sleep(Duration::from_millis(10)).await;
        found = running.index.search(word);
    }
    println!("    {word}: {found:?}");
    Ok(())
}

/// Whether the index is what the table makes.
async fn compare(sandbox: &Sandbox, running: &Running) -> Result<(), Problem> {
    let client = sandbox.sql("n1", "postgres").await?;
    let mut expected = Words::new();
    let rows = client.query("SELECT id, title || ' ' || body FROM articles", &[]).await?;
    for row in &rows {
        set(&mut expected, Some(row.get(0)), row.get(1));
    }
    let indexed = running.index.words();
    if indexed != expected {
        return Err(
            format!("the index has {} words, the table {}", indexed.len(), expected.len()).into()
        );
    }
    println!(
        "the index is what the table says: {} words of {} articles",
        indexed.len(),
        rows.len()
    );
    Ok(())
}
