//! The heartbeat row that availability is measured by: `"public"."pgr66_avc"`, the table pgroute66 uses.
//!
//! Times are kept in UTC whatever the session's time zone is, so that nodes with different settings agree.

use std::time::Duration;

use herdsman_node::describe;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::Moment;
use crate::topology::Heartbeat;

const EXISTS: &str = r#"select to_regclass('"public"."pgr66_avc"') is not null"#;
const AGE: &str = r#"select extract(epoch from (clock_timestamp() at time zone 'UTC') - "pgr66_avc")::float8
  from "public"."pgr66_avc" limit 1"#;
const TOUCH: &str =
    r#"update "public"."pgr66_avc" set "pgr66_avc" = clock_timestamp() at time zone 'UTC'"#;
const CREATE: &str = r#"create table if not exists "public"."pgr66_avc" ("pgr66_avc" timestamp)"#;
const INSERT: &str = r#"insert into "public"."pgr66_avc"
  select clock_timestamp() at time zone 'UTC' where not exists (select from "public"."pgr66_avc")"#;

/// Reads a node's copy of the row.
pub(crate) async fn read(client: &Client, now: Moment) -> Heartbeat {
    match try_read(client, now).await {
        Ok(heartbeat) => heartbeat,
        Err(error) => Heartbeat::Failed(describe(&error)),
    }
}

async fn try_read(client: &Client, now: Moment) -> Result<Heartbeat, tokio_postgres::Error> {
    if !client.query_one(EXISTS, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(Heartbeat::Missing);
    }
    let Some(row) = client.query_opt(AGE, &[]).await? else { return Ok(Heartbeat::Missing) };
    let age = row.try_get::<_, f64>(0)?;
    // A row from the future of a faster clock is as fresh as can be told.
    Ok(Heartbeat::Beat(now - Duration::try_from_secs_f64(age.max(0.0)).unwrap_or_default()))
}

/// Writes the row, making table and row where they are missing.
pub(crate) async fn touch(client: &Client) -> Result<(), String> {
    match client.execute(TOUCH, &[]).await {
        Ok(1..) => return Ok(()),
        Ok(0) => {}
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => {
            client.batch_execute(CREATE).await.map_err(|e| describe(&e))?;
        }
        Err(error) => return Err(describe(&error)),
    }
    client.execute(INSERT, &[]).await.map(drop).map_err(|e| describe(&e))
}
