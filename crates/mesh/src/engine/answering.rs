//! Answers of policies: whose version lost against one that did not know it may write an ordinary new version over the
//! winner ([`crate::resolve::answer`] says why that converges and ends).
//!
//! Asked is only the member that wrote the loser, once for each conflict it has recorded, in their order: how far it is
//! stands in `herdsman.answers` and moves in the same transaction as the answer, so that nothing is answered twice or left
//! out, whatever crashes and however many processes are at it. A conflict waits until all members have been heard of since:
//! a deletion that explains it may still be on its way.

mod sql;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Row};

use super::{backoff, roster};
use crate::config::{ConflictPolicy, PolicyConfig};
use crate::error::MeshError;
use crate::install;
use crate::parts;
use crate::resolve::Version;
use crate::resolve::answer::{Answer, Policy, answer};
use crate::setup::{Member, Setup};
use crate::stamp::{NodeId, Stamp};
use crate::table::Table;
use sql::Statements;

const PAUSE: Duration = Duration::from_millis(250);
/// Bound on one answer.
const LIMIT: Duration = Duration::from_secs(30);

/// Whether there is anything for it to do.
pub(crate) fn is_needed(setup: &Setup) -> bool {
    setup.config.policies.values().any(|policy| answers(policy.conflict))
}

const fn answers(policy: ConflictPolicy) -> bool {
    use ConflictPolicy::{FirstInsertWins, Handler, NodePriority};
    matches!(policy, FirstInsertWins | NodePriority | Handler)
}

/// Answers until it is dropped.
pub(crate) async fn run(setup: Arc<Setup>, member: Member) {
    let mut failures = 0;
    loop {
        let Err(error) = work(&setup, &member, &mut failures).await else { return };
        failures += 1;
        let node = &member.name;
        if failures == 1 {
            tracing::warn!(%node, %error, "conflicts are not answered for now");
        } else {
            tracing::debug!(%node, %error, failures, "conflicts are still not answered");
        }
        tokio::time::sleep(backoff::pause(failures, error.is_transient(), fastrand::f64())).await;
    }
}

/// A conflict that this member may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Conflict {
    id: i64,
    rel: String,
    key: String,
    kind: String,
    loser: Option<String>,
    loser_at: (i64, i16),
    winner_at: (i64, i16),
}

async fn work(setup: &Setup, member: &Member, failures: &mut u32) -> Result<(), MeshError> {
    let late = || MeshError::TimedOut {
        node: member.name.clone(),
        what: "answering a conflict".to_owned(),
        seconds: LIMIT.as_secs(),
    };
    let opening = async {
        let client = roster::connect(setup, &member.name).await?;
        let set = "SET search_path = pg_catalog, pg_temp; SET statement_timeout = '30s'; SET lock_timeout = '5s'";
        client.batch_execute(set).await.map_err(|error| failed(member, error))?;
        let tables = install::tables(setup, &member.name, &client).await?;
        Ok::<_, MeshError>((client, tables))
    };
    let opened = tokio::time::timeout(LIMIT, Box::pin(opening)).await;
    let (client, tables) = opened.map_err(|_| late())??;
    let policies: BTreeMap<String, (&Table, &PolicyConfig)> = tables
        .iter()
        .filter_map(|table| {
            let policy = parts::policy(&setup.config.policies, &table.name)?;
            answers(policy.conflict).then(|| (table.name.to_string(), (table, policy)))
        })
        .collect();
    let rels: Vec<&str> = policies.keys().map(String::as_str).collect();
    let places = places(setup, member, &client).await?;
    loop {
        let one = one(&client, member, &rels, &policies, &places);
        let done = tokio::time::timeout(LIMIT, Box::pin(one)).await.map_err(|_| late())?;
        match done {
            Ok(true) => {}
            Ok(false) => tokio::time::sleep(PAUSE).await,
            // Somebody else had the row in hand.
            Err(error) if is_again(&error) => {
                client.batch_execute("ROLLBACK").await.map_err(|error| failed(member, error))?;
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(failed(member, error)),
        }
        *failures = 0;
    }
}

/// The members' numbers by name, for priorities.
async fn places(
    setup: &Setup,
    member: &Member,
    client: &Client,
) -> Result<BTreeMap<String, i16>, MeshError> {
    let known = install::members(&member.name, client).await?;
    let named = known.into_iter().filter(|other| setup.nodes.contains_key(&other.name));
    Ok(named.map(|other| (other.name.to_string(), other.id.0)).collect())
}

/// Answers the next conflict, or sees that it needs none. False: there is none that could be answered by now.
async fn one(
    client: &Client,
    member: &Member,
    rels: &[&str],
    policies: &BTreeMap<String, (&Table, &PolicyConfig)>,
    places: &BTreeMap<String, i16>,
) -> Result<bool, tokio_postgres::Error> {
    // A look without locks first: nearly always there is nothing.
    let Some(row) = client.query_opt(&sql::next(), &[&rels]).await? else { return Ok(false) };
    if !row.try_get::<_, bool>("settled")? {
        return Ok(false);
    }
    client.batch_execute("BEGIN").await?;
    let last: i64 = client.query_one(sql::TAKE, &[]).await?.try_get(0)?;
    let conflict = read(&row)?;
    if last >= conflict.id {
        client.batch_execute("ROLLBACK").await?;
        return Ok(true);
    }
    if let Some((table, policy)) = policies.get(&conflict.rel) {
        client.batch_execute("SAVEPOINT answer").await?;
        match settle(client, member, table, policy, places, &conflict).await {
            Ok(true) => {}
            Ok(false) => {
                client.batch_execute("ROLLBACK").await?;
                return Ok(false);
            }
            Err(error) if error.as_db_error().is_some() && !is_again(&error) => {
                let problem = herdsman_node::describe(&error);
                tracing::warn!(node = %member.name, table = conflict.rel, conflict = conflict.id, problem,
                    "a conflict cannot be answered as its policy says, and the later version stays");
                client.batch_execute("ROLLBACK TO SAVEPOINT answer").await?;
            }
            Err(error) => return Err(error),
        }
    }
    client.execute(sql::DONE, &[&conflict.id]).await?;
    client.batch_execute("COMMIT").await?;
    Ok(true)
}

fn read(row: &Row) -> Result<Conflict, tokio_postgres::Error> {
    let held = (row.try_get("held_stamp")?, row.try_get("held_node")?);
    let arriving = (row.try_get("arriving_stamp")?, row.try_get("arriving_node")?);
    let (loser, loser_at, winner_at) = match row.try_get("arriving_won")? {
        true => (row.try_get("held")?, held, arriving),
        false => (row.try_get("arriving")?, arriving, held),
    };
    Ok(Conflict {
        id: row.try_get("id")?,
        rel: row.try_get("rel")?,
        key: row.try_get("key")?,
        kind: row.try_get("kind")?,
        loser,
        loser_at,
        winner_at,
    })
}

/// What is held where the conflict was.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    /// `None`: a tombstone.
    row: Option<String>,
    at: (i64, i16),
    /// An insertion earlier than the loser's was not known to any of them either: that one answers.
    earlier: bool,
}

/// What the policy says ([`crate::resolve::answer`]). `None`: what is held stays. `made` is what the function of a policy that
/// has one makes of both.
fn decide(
    conflict: &Conflict,
    held: &Held,
    policy: &PolicyConfig,
    places: &BTreeMap<String, i16>,
    made: Option<&String>,
) -> Option<Answer<String>> {
    let inserted = conflict.kind == "insert_insert";
    let version = |(micros, node), row: &Option<String>| {
        let stamp = Stamp::new(micros, NodeId(node));
        Version { stamp, seen: if inserted { Stamp::NONE } else { stamp }, row: row.clone() }
    };
    let loser = version(conflict.loser_at, &conflict.loser);
    let winner = version(held.at, &held.row);
    match policy.conflict {
        ConflictPolicy::FirstInsertWins if !held.earlier => {
            answer(&loser, &winner, &Policy::FirstInsertWins)
        }
        ConflictPolicy::NodePriority => {
            let ids = policy.priority.iter().filter_map(|name| places.get(name.as_str()));
            let order: Vec<NodeId> = ids.map(|id| NodeId(*id)).collect();
            answer(&loser, &winner, &Policy::NodePriority(&order))
        }
        ConflictPolicy::Handler => answer(&loser, &winner, &Policy::Handler(&|_, _| made.cloned())),
        _ => None,
    }
}

/// What is held now, where the conflict still stands; whether it can be told already.
async fn held(
    client: &Client,
    statements: &Statements<'_>,
    conflict: &Conflict,
) -> Result<(Option<Held>, bool), tokio_postgres::Error> {
    let (loser, winner) = (conflict.loser_at, conflict.winner_at);
    let key = &conflict.key;
    let row = client.query_opt(&statements.held(), &[key, &loser.0, &loser.1]).await?;
    let (row, at): (_, (i64, i16)) = match row {
        Some(row) if row.try_get("deleted")? => return Ok((None, true)),
        Some(row) => (row.try_get("row")?, (row.try_get("stamp")?, row.try_get("node")?)),
        None => match client.query_opt(&statements.gone(), &[key]).await? {
            Some(row) => (None, (row.try_get("stamp")?, row.try_get("node")?)),
            None => return Ok((None, true)),
        },
    };
    // Written here since: whoever did knew what was held.
    if at.1 == loser.1 {
        return Ok((None, true));
    }
    let standing = client
        .query_one(
            &sql::standing(),
            &[&conflict.rel, key, &at.0, &at.1, &loser.0, &loser.1, &winner.0, &winner.1],
        )
        .await?;
    let (unknowing, settled): (bool, bool) =
        (standing.try_get("unknowing")?, standing.try_get("settled")?);
    if at != winner && !unknowing {
        return Ok((None, true));
    }
    Ok((Some(Held { row, at, earlier: standing.try_get("earlier")? }), settled))
}

/// Answers, or sees that nothing is to be said. False: it cannot be told yet.
async fn settle(
    client: &Client,
    member: &Member,
    table: &Table,
    policy: &PolicyConfig,
    places: &BTreeMap<String, i16>,
    conflict: &Conflict,
) -> Result<bool, tokio_postgres::Error> {
    let statements = Statements::new(table);
    let held = match held(client, &statements, conflict).await? {
        (Some(_), false) => return Ok(false),
        (None, _) => return Ok(true),
        (Some(held), true) => held,
    };
    let made: Option<String> = match (policy.conflict, &policy.handler) {
        (ConflictPolicy::Handler, Some(handler)) => {
            let asked = sql::handler(handler);
            client.query_one(&asked, &[&conflict.loser, &held.row]).await?.try_get(0)?
        }
        _ => None,
    };
    let row = match decide(conflict, &held, policy, places, made.as_ref()) {
        None => return Ok(true),
        Some(Answer::Write(row)) => Some(row),
        Some(Answer::Delete) => None,
    };
    let key = &conflict.key;
    let done = match (&row, held.row.is_some()) {
        (Some(row), true) => client.execute(&statements.update(), &[key, row]).await?,
        (Some(row), false) => client.execute(&statements.insert(), &[key, row]).await?,
        (None, true) => client.execute(&statements.delete(), &[key]).await?,
        (None, false) => 0,
    };
    tracing::debug!(node = %member.name, table = conflict.rel, conflict = conflict.id, done, "answered a conflict");
    Ok(true)
}

/// Whether the same may go well in a moment.
fn is_again(error: &tokio_postgres::Error) -> bool {
    let again = [
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::LOCK_NOT_AVAILABLE,
    ];
    error.code().is_some_and(|code| again.contains(code))
}

fn failed(member: &Member, source: tokio_postgres::Error) -> MeshError {
    MeshError::Sql { node: member.name.clone(), what: "answer a conflict".to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflict(kind: &str, loser: (Option<&str>, i16)) -> Conflict {
        Conflict {
            id: 1,
            rel: "public.t".into(),
            key: "{}".into(),
            kind: kind.into(),
            loser: loser.0.map(Into::into),
            loser_at: (5, loser.1),
            winner_at: (6, 9),
        }
    }

    fn held(row: Option<&str>, node: i16, earlier: bool) -> Held {
        Held { row: row.map(Into::into), at: (6, node), earlier }
    }

    #[test]
    fn the_first_of_insertions_is_answered_for_and_nothing_else() {
        let first =
            PolicyConfig { conflict: ConflictPolicy::FirstInsertWins, ..PolicyConfig::default() };
        let of = |kind, loser, held: &Held| {
            decide(&conflict(kind, loser), held, &first, &BTreeMap::new(), None)
        };
        let (row, there) = ((Some("{1}"), 1), held(Some("{}"), 2, false));
        assert_eq!(of("insert_insert", row, &there), Some(Answer::Write("{1}".to_owned())));
        assert_eq!(of("insert_insert", row, &held(Some("{}"), 2, true)), None, "a third was first");
        assert_eq!(of("update_update", row, &there), None);
        assert_eq!(of("update_delete", row, &held(None, 2, false)), None);
        assert_eq!(of("insert_insert", (None, 1), &there), None);
    }

    #[test]
    fn only_a_more_important_node_answers_and_those_that_are_not_named_are_the_least() {
        let places: BTreeMap<String, i16> =
            [("n1", 1), ("n2", 2), ("n3", 3)].map(|(name, id)| (name.to_owned(), id)).into();
        let policy = PolicyConfig {
            conflict: ConflictPolicy::NodePriority,
            priority: vec!["n2".parse().unwrap(), "n1".parse().unwrap()],
            ..PolicyConfig::default()
        };
        for (loser, winner, answers) in
            [(2, 1, true), (2, 3, true), (1, 3, true), (1, 2, false), (3, 1, false), (3, 3, false)]
        {
            for row in [Some("{1}"), None] {
                let conflict = conflict("update_update", (row, loser));
                let said =
                    decide(&conflict, &held(Some("{}"), winner, false), &policy, &places, None);
                assert_eq!(said.is_some(), answers, "{loser} against {winner}");
            }
        }
    }
}
