//! A `ReplicaSet` where a `sqlx::PgPool` stood: writes notes, reads them, and says who answered.
//!
//! ```sh
//! herdsman sandbox up --standbys 2 --dir herd
//! cargo run -p example-sqlx -- herd/herdsman.yml
//! ```

use std::error::Error;
use std::time::Duration;

use herdsman::ReplicaSet;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "herdsman.yml".to_owned());
    // The one line that changes; it was `PgPool::connect(&url).await?`.
    let db = ReplicaSet::from_config(path)?;

    sqlx::query("CREATE TABLE IF NOT EXISTS note (id bigserial PRIMARY KEY, text text NOT NULL)")
        .execute(&db)
        .await?;

    // In a session, reads see what it wrote, whichever node they go to.
    herdsman::session(async {
        for text in ["hay", "water", "salt"] {
            let id: i64 = sqlx::query_scalar("INSERT INTO note (text) VALUES ($1) RETURNING id")
                .bind(text)
                .fetch_one(&db)
                .await?;
            let back: String = sqlx::query_scalar("SELECT text FROM note WHERE id = $1")
                .bind(id)
                .fetch_one(&db)
                .await?;
            println!("note {id}: {back}");
        }
        Ok::<_, sqlx::Error>(())
    })
    .await?;

    // Writes go to the primary and wait while there is none, reads go to the standbys. Kill some while this runs:
    // `herdsman sandbox kill n1 --dir herd`, `herdsman sandbox promote n2 --dir herd`.
    for _ in 0..20 {
        let written = sqlx::query("INSERT INTO note (text) VALUES ('oats')").execute(&db).await;
        if let Err(error) = written {
            println!("not written: {error}");
        }
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM note").fetch_one(&db).await?;
        println!("{count} notes   {}", db.statistics());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    db.close().await;
    Ok(())
}
