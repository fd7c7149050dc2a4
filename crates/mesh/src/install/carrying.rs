//! Doing what was planned.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use herdsman_node::{NodeName, Tls};
use herdsman_wal::slot::CreateOptions;
use herdsman_wal::{Session, SlotName, WalError, quote_literal, slot};

use super::surveying::sql;
use super::{How, POSITION, Plan, Step};
use crate::error::MeshError;
use crate::setup::Setup;

/// What connecting, and any one statement, may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The lock that keeps two of us from preparing a node at once: the letters "mesh up".
const LOCK: i64 = 0x6d_6573_6820_7570;

/// How long a table's lock is waited for. Everybody who writes the table waits behind us meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Each time.
    pub lock: Duration,
    /// Between two times: the writers' turn.
    pub pause: Duration,
    /// How often.
    pub tries: u32,
}

impl Default for Patience {
    /// Five times 2 s with 1 s between: longer than what ordinary transactions hold a lock for.
    fn default() -> Self {
        Self { lock: Duration::from_secs(2), pause: Duration::from_secs(1), tries: 5 }
    }
}

/// Connects to a node, for questions and commands.
///
/// # Errors
/// The configuration does not know it, or it cannot be reached.
pub async fn connect(setup: &Setup, node: &NodeName) -> Result<Session, MeshError> {
    let info = setup.nodes.get(node).ok_or_else(|| {
        let problem = format!("node `{node}` is named by the mesh and not by `hosts`");
        MeshError::refused(problem, "say there how it is reached")
    })?;
    let tls = Tls::new(info).map_err(|source| MeshError::Tls { node: node.clone(), source })?;
    Session::connect(info, &tls, LIMIT).await.map_err(|source| match source {
        herdsman_wal::WalError::Connect(source) => {
            MeshError::Connect { node: node.clone(), source }
        }
        source => MeshError::Wal { node: node.clone(), source: source.into() },
    })
}

/// Does it, and tells each step before it is done.
///
/// # Errors
/// A step failed; those before it are done, and the next `mesh up` goes on from there. Nothing is done where there are
/// problems, or where another one is at work.
pub async fn carry_out(
    setup: &Arc<Setup>,
    plan: &Plan,
    tell: impl FnMut(&Step),
) -> Result<(), MeshError> {
    carry_out_within(setup, plan, Patience::default(), tell).await
}

/// As [`carry_out`], with as much patience as is said.
///
/// # Errors
/// As [`carry_out`].
pub async fn carry_out_within(
    setup: &Arc<Setup>,
    plan: &Plan,
    patience: Patience,
    mut tell: impl FnMut(&Step),
) -> Result<(), MeshError> {
    if let Some(problem) = plan.problems.first() {
        let advice = match plan.problems.len() {
            1 => "nothing was changed".to_owned(),
            more => format!("nothing was changed, and there are {} more problems", more - 1),
        };
        return Err(MeshError::refused(problem, advice));
    }
    let mut sessions: BTreeMap<NodeName, Session> = BTreeMap::new();
    // Locks first, in one order everywhere.
    let mut nodes: Vec<&NodeName> = plan.steps.iter().map(|step| &step.node).collect();
    nodes.sort();
    nodes.dedup();
    for node in nodes {
        let session = connect(setup, node).await?;
        lock(node, &session).await?;
        sessions.insert(node.clone(), session);
    }
    for step in &plan.steps {
        tell(step);
        let position = match &step.how {
            How::AtSlot { node, slot } => {
                if !sessions.contains_key(node) {
                    sessions.insert(node.clone(), connect(setup, node).await?);
                }
                match sessions.get(node) {
                    Some(session) => Some(position(node, session, slot).await?),
                    None => None,
                }
            }
            _ => None,
        };
        if let Some(session) = sessions.get(&step.node) {
            run(session, step, position.as_deref(), patience).await?;
        }
    }
    Ok(())
}

/// Keeps others from preparing a node as long as this session lives.
pub(crate) async fn lock(node: &NodeName, session: &Session) -> Result<(), MeshError> {
    let failed = sql(node, "take the lock of `mesh up`");
    let client = session.client();
    client
        .batch_execute("SET search_path = pg_catalog; SET application_name = 'herdsman mesh up'")
        .await
        .map_err(&failed)?;
    let row =
        client.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK]).await.map_err(&failed)?;
    if row.try_get::<_, bool>(0).map_err(&failed)? {
        return Ok(());
    }
    let problem = format!("node `{node}` is being prepared by another process right now");
    Err(MeshError::refused(problem, "wait until that has ended"))
}

async fn position(
    node: &NodeName,
    session: &Session,
    name: &SlotName,
) -> Result<String, MeshError> {
    let wal = |source: WalError| MeshError::Wal { node: node.clone(), source: source.into() };
    let slot = slot::inspect(session, name).await.map_err(wal)?;
    match slot.and_then(|slot| slot.confirmed) {
        Some(lsn) => Ok(lsn.to_string()),
        None => Err(MeshError::refused(
            format!("node `{node}` has no slot {name}, or is still making it"),
            "run `herdsman mesh up` again",
        )),
    }
}

async fn run(
    session: &Session,
    step: &Step,
    position: Option<&str>,
    patience: Patience,
) -> Result<(), MeshError> {
    let failed = sql(&step.node, &step.what);
    match &step.how {
        How::Slot { name, failover } => {
            let options = CreateOptions { failover: *failover, ..CreateOptions::default() };
            let made = slot::create(session, name, &options).await;
            made.map(drop)
                .map_err(|source| MeshError::Wal { node: step.node.clone(), source: source.into() })
        }
        How::Singly => {
            for statement in &step.sql {
                session.client().batch_execute(statement).await.map_err(&failed)?;
            }
            Ok(())
        }
        How::Together | How::AtSlot { .. } => {
            let text = step.sql.join(";\n");
            let text = match position {
                Some(position) => text.replace(POSITION, &quote_literal(position)),
                None => text,
            };
            together(session, step, &text, patience).await
        }
    }
}

/// Runs statements in one transaction, again and again while somebody else holds what they need.
async fn together(
    session: &Session,
    step: &Step,
    text: &str,
    patience: Patience,
) -> Result<(), MeshError> {
    let client = session.client();
    let wait = patience.lock.as_millis();
    let text = format!("BEGIN;\nSET LOCAL lock_timeout = {wait};\n{text};\nCOMMIT");
    let mut tries = 0;
    loop {
        let outcome = client.batch_execute(&text).await;
        let Err(error) = outcome else { return Ok(()) };
        let failed = sql(&step.node, &step.what);
        // The transaction is over one way or the other before anything else is asked.
        if !error.is_closed() {
            client.batch_execute("ROLLBACK").await.map_err(&failed)?;
        }
        tries += 1;
        let code = error.code().map(|code| code.code().to_owned());
        let busy = code.as_deref().is_some_and(|code| ["55P03", "40P01"].contains(&code));
        if !busy {
            return Err(failed(error));
        }
        let holders = holders(session, step).await?;
        if tries >= patience.tries {
            let problem = format!(
                "node `{}`: failed to {}: a lock it needs was not to be had in {tries} tries{holders}",
                step.node, step.what
            );
            let advice = "end that transaction or wait for it, then run the same command again; what was done stays";
            return Err(MeshError::refused(problem, advice));
        }
        tracing::info!(node = %step.node, step = step.what, tries, "{}", format!("waiting for a lock{holders}"));
        tokio::time::sleep(patience.pause).await;
    }
}

/// Who holds the table, in words; empty where that is not known.
async fn holders(session: &Session, step: &Step) -> Result<String, MeshError> {
    const HOLDERS: &str = "
        select l.pid, a.usename::text, a.state, extract(epoch from clock_timestamp() - a.xact_start)::int8
        from pg_locks l left join pg_stat_activity a on a.pid = l.pid
        where l.relation = to_regclass($1) and l.granted and l.pid is distinct from pg_backend_pid()
          and l.database = (select oid from pg_database where datname = current_database())
        order by a.xact_start limit 3";
    let Some(table) = &step.table else { return Ok(String::new()) };
    let failed = sql(&step.node, "name who holds the table");
    let rows = session.client().query(HOLDERS, &[&table.quoted()]).await.map_err(&failed)?;
    let mut told = Vec::new();
    for row in rows {
        let pid: Option<i32> = row.try_get(0).map_err(&failed)?;
        let (user, state): (Option<String>, Option<String>) =
            (row.try_get(1).map_err(&failed)?, row.try_get(2).map_err(&failed)?);
        let age: Option<i64> = row.try_get(3).map_err(&failed)?;
        let details: Vec<String> = [
            user.map(|user| format!("user {user}")),
            age.map(|age| format!("open for {age} s")),
            state,
        ]
        .into_iter()
        .flatten()
        .collect();
        let who =
            pid.map_or_else(|| "a prepared transaction".to_owned(), |pid| format!("PID {pid}"));
        told.push(if details.is_empty() { who } else { format!("{who} ({})", details.join(", ")) });
    }
    Ok(match told.is_empty() {
        true => String::new(),
        false => format!("; {table} is held by {}", told.join(", ")),
    })
}
