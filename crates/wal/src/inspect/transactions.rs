//! Which transactions a new slot has to wait for.

use std::fmt;
use std::time::Duration;

use super::Session;
use crate::WalError;

/// Read from the locks, which every role may see; of other roles' sessions, `pg_stat_activity` tells an unprivileged role
/// the user only.
const OLDEST: &str = "
select l.pid, a.usename::text, coalesce(a.datname, p.database)::text, a.state,
  extract(epoch from clock_timestamp() - coalesce(a.xact_start, p.prepared))::float8, p.gid, p.owner::text
from (select pid, max(age(transactionid)) as age, min(transactionid::text) filter (where pid is null) as prepared
    from pg_locks where locktype = 'transactionid' and mode = 'ExclusiveLock' and granted
      and pid is distinct from pg_backend_pid()
    group by pid, case when pid is null then transactionid::text end) l
  left join pg_stat_activity a on a.pid = l.pid
  left join pg_prepared_xacts p on p.transaction::text = l.prepared
order by l.age desc limit 10";

/// A transaction that has written something and is not over.
#[derive(Clone, Debug, PartialEq)]
pub struct OldTransaction {
    /// The server process it runs in; none when it is prepared and waits for `COMMIT PREPARED`.
    pub pid: Option<i32>,
    /// Its role.
    pub user: Option<String>,
    /// Its database.
    pub database: Option<String>,
    /// What its session does now, such as `idle in transaction`; none where our role may not see it.
    pub state: Option<String>,
    /// How long it has been open; none where our role may not see it.
    pub age: Option<Duration>,
    /// Its name when it is prepared.
    pub prepared: Option<String>,
}

/// The transactions that are open now and have written something, oldest first, ten at most.
///
/// # Errors
/// [`WalError`] when the server cannot be asked.
pub async fn oldest_transactions(session: &Session) -> Result<Vec<OldTransaction>, WalError> {
    let what = "name its open transactions";
    let unreadable = |e: tokio_postgres::Error| session.senseless("its open transactions", e);
    let rows = session.rows(what, OLDEST, &[]).await?;
    let read = |row: &tokio_postgres::Row| {
        let owner: Option<String> = row.try_get(6)?;
        let age: Option<f64> = row.try_get(4)?;
        Ok(OldTransaction {
            pid: row.try_get(0)?,
            user: row.try_get::<_, Option<String>>(1)?.or(owner),
            database: row.try_get(2)?,
            state: row.try_get(3)?,
            age: age.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            prepared: row.try_get(5)?,
        })
    };
    rows.iter().map(|row| read(row).map_err(unreadable)).collect()
}

/// As in `PID 42 (user app, database shop, open for 12 s, idle in transaction)`.
impl fmt::Display for OldTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, &self.prepared) {
            (Some(pid), _) => write!(f, "PID {pid}")?,
            (None, Some(name)) => write!(f, "the prepared transaction `{name}`")?,
            (None, None) => write!(f, "a prepared transaction")?,
        }
        let details = [
            self.user.as_ref().map(|user| format!("user {user}")),
            self.database.as_ref().map(|database| format!("database {database}")),
            self.age.map(|age| format!("open for {} s", age.as_secs())),
            self.state.clone(),
        ];
        let details: Vec<String> = details.into_iter().flatten().collect();
        if details.is_empty() { Ok(()) } else { write!(f, " ({})", details.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_told_with_as_much_as_the_role_may_see() {
        let hidden = OldTransaction {
            pid: Some(42),
            user: Some("app".to_owned()),
            database: None,
            state: None,
            age: None,
            prepared: None,
        };
        assert_eq!(hidden.to_string(), "PID 42 (user app)");
        let prepared = OldTransaction {
            pid: None,
            prepared: Some("order-7".to_owned()),
            age: Some(Duration::from_millis(61_500)),
            ..hidden
        };
        assert_eq!(
            prepared.to_string(),
            "the prepared transaction `order-7` (user app, open for 61 s)"
        );
    }
}
