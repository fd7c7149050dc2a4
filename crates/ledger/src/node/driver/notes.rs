//! What a node writes down about itself.

use super::plan::lots;
use crate::{
    ChainHash, LogId, Offset, RequestId, Value,
    entry::{Attempt, Genesis},
    identity::{hex_of, unhex},
    node::{
        NodeError,
        dialect::{Ask, Dialect, Failure, Session},
        session::Rows,
    },
    replica::{Durable, Outcome, Settled, Step},
    table::{Catalogue, Table},
    value::Kind,
};

/// Makes our tables, and the node a follower.
pub(super) async fn install<D: Dialect>(
    dialect: &D,
    session: &mut D::Session,
    genesis: &Genesis,
    hash: ChainHash,
) -> Result<(), NodeError> {
    let (key, text, options) = (own_key(dialect), dialect.own_text(), dialect.table_options());
    let number_type = dialect.captured(Kind::Int64);
    let tables = [
        format!(
            "CREATE TABLE IF NOT EXISTS _ledger_state (one {number_type} PRIMARY KEY, log {text} NOT NULL, entries {number_type} NOT NULL, \
             keys_most {number_type} NOT NULL, applied {number_type} NOT NULL, hash {text} NOT NULL, defined {number_type} NOT NULL, pending {number_type}, fenced {text}){options}"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS _ledger_outcome (at {number_type} PRIMARY KEY, hash {text} NOT NULL, request {text}, \
             attempt {number_type}, outcome {text} NOT NULL){options}"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS _ledger_table (name {key} PRIMARY KEY, definition {text} NOT NULL){options}"
        ),
    ];
    let run = async |session: &mut D::Session| -> Result<Rows, Failure> {
        for table in &tables {
            session.command(table).await?;
        }
        session.command(dialect.begin_apply()).await?;
        let found = session.select("SELECT log FROM _ledger_state", &[]).await?;
        if found.is_empty() {
            let values = [
                Value::Text(genesis.log.to_string()),
                number(genesis.window),
                number(genesis.keys),
                Value::Text(hash.to_string()),
            ];
            let kinds = [TEXT, Kind::Int64, Kind::Int64, TEXT];
            let [log, entries, keys, hash] = places(dialect, kinds);
            let sql = format!(
                "INSERT INTO _ledger_state (one, log, entries, keys_most, applied, hash, defined) VALUES (1, {log}, {entries}, {keys}, 0, {hash}, 0)"
            );
            session.execute(&sql, &values).await?;
        }
        Ok(found)
    };
    let found = run(session).await.map_err(Failure::while_applying)?;
    if found.is_empty() {
        let first = Settled { at: Offset::GENESIS, hash, attempt: None, outcome: Outcome::Noted };
        let asks = notes(dialect, std::iter::once(first));
        session.together(asks).await.all().map_err(Failure::while_applying)?;
    }
    session.command("COMMIT").await.map_err(Failure::while_applying)?;
    let theirs = found.into_iter().flatten().flatten().next();
    match theirs {
        Some(theirs) if theirs != genesis.log.to_string() => Err(NodeError::Diverged(format!(
            "it follows log {theirs}, not {}; a node of another ledger has to be emptied first",
            genesis.log
        ))),
        _ => Ok(()),
    }
}

/// Reads all of it.
pub(super) async fn read<D: Dialect>(
    dialect: &D,
    session: &mut D::Session,
) -> Result<Durable, NodeError> {
    let state =
        "SELECT log, entries, keys_most, applied, hash, fenced FROM _ledger_state WHERE one = 1";
    let rows = select(dialect, session, state).await?;
    let row = rows.first().ok_or_else(|| bad("no state"))?;
    let [Some(log), Some(window), Some(keys), Some(applied), Some(hash), fenced] = row.as_slice()
    else {
        return Err(bad("state"));
    };
    let genesis = Genesis {
        log: LogId::parse(log).ok_or_else(|| bad("log"))?,
        window: window.parse().map_err(|_| bad("window"))?,
        keys: keys.parse().map_err(|_| bad("keys"))?,
    };
    let applied = Offset(applied.parse().map_err(|_| bad("place"))?);
    let outcomes = "SELECT at, hash, request, attempt, outcome FROM _ledger_outcome ORDER BY at";
    let settled = select(dialect, session, outcomes).await?;
    let settled = settled.iter().map(|row| settled_of(row)).collect::<Result<_, _>>()?;
    let catalogue = catalogue(dialect, session).await.map_err(Failure::while_applying)??;
    let hash = hash_of(hash)?;
    Ok(Durable { genesis, applied, hash, catalogue, settled, fenced: fenced.clone() })
}

/// The tables' definitions.
pub(super) const CATALOGUE: &str = "SELECT definition FROM _ledger_table";

pub(super) async fn catalogue<D: Dialect>(
    _dialect: &D,
    session: &mut D::Session,
) -> Result<Result<Catalogue, NodeError>, Failure> {
    Ok(catalogue_of(&session.select(CATALOGUE, &[]).await?))
}

/// As [`CATALOGUE`] gives them.
pub(super) fn catalogue_of(rows: &Rows) -> Result<Catalogue, NodeError> {
    let table = |row: &Vec<Option<String>>| {
        let text = row.first().and_then(Option::as_deref).unwrap_or_default();
        let table = unhex(text).and_then(|bytes| Table::of_bytes(&bytes).ok());
        table.map(|table| (table.name.clone(), table)).ok_or_else(|| bad("a table's definition"))
    };
    rows.iter().map(table).collect::<Result<_, _>>().map(Catalogue)
}

/// What came of an entry, as it is written down.
pub(super) fn note_of(step: &Step) -> Settled {
    let &Step { at, hash, attempt, outcome, .. } = step;
    Settled { at, hash, attempt, outcome }
}

/// Writes down all that another node has written down, and that this one is no longer fenced; in one transaction.
pub(super) async fn become_like<D: Dialect>(
    dialect: &D,
    session: &mut D::Session,
    durable: &Durable,
) -> Result<(), Failure> {
    /// How many statements are said at a time.
    const AT_ONCE: usize = 1024;
    session.command(dialect.begin_apply()).await?;
    session.execute("DELETE FROM _ledger_outcome", &[]).await?;
    for settled in durable.settled.chunks(AT_ONCE) {
        let asks = notes(dialect, settled.iter().copied());
        session.together(asks).await.all()?;
    }
    let [applied, hash, defined] = places(dialect, [Kind::Int64, TEXT, Kind::Int64]);
    let sql = format!(
        "UPDATE _ledger_state SET applied = {applied}, hash = {hash}, defined = {defined}, pending = NULL, fenced = NULL WHERE one = 1"
    );
    let applied = number(durable.applied.0);
    let values = [applied.clone(), Value::Text(durable.hash.to_string()), applied];
    session.execute(&sql, &values).await?;
    session.command("COMMIT").await
}

/// The statements that write down what came of entries.
pub(super) fn notes<D: Dialect>(dialect: &D, settled: impl Iterator<Item = Settled>) -> Vec<Ask> {
    let kinds = [Kind::Int64, TEXT, TEXT, Kind::Int64, TEXT];
    let settled: Vec<Settled> = settled.collect();
    let mut asks = Vec::new();
    for lot in lots(&settled, usize::MAX, |_| 0) {
        let mut values = Vec::with_capacity(lot.len().saturating_mul(kinds.len()));
        let mut lines = Vec::with_capacity(lot.len());
        for note in lot {
            let first = values.len();
            values.extend([
                number(note.at.0),
                Value::Text(note.hash.to_string()),
                note.attempt.map_or(Value::Null, |it| Value::Text(it.request.to_string())),
                note.attempt.map_or(Value::Null, |it| Value::Int(i64::from(it.number))),
                Value::Text(note.outcome.to_string()),
            ]);
            let places = kinds.iter().zip(first + 1..).map(|(kind, at)| dialect.value(*kind, at));
            lines.push(format!("({})", places.collect::<Vec<_>>().join(", ")));
        }
        let sql = format!(
            "INSERT INTO _ledger_outcome (at, hash, request, attempt, outcome) VALUES {}",
            lines.join(", ")
        );
        asks.push(Ask::Execute(sql, values));
    }
    asks
}

/// Writes a table's definition down, or that it has gone.
pub(super) async fn define<D: Dialect>(
    dialect: &D,
    session: &mut D::Session,
    name: &str,
    table: Option<&Table>,
) -> Result<(), Failure> {
    let [first, second] = places(dialect, [TEXT, TEXT]);
    let delete = format!("DELETE FROM _ledger_table WHERE name = {first}");
    session.execute(&delete, &[Value::Text(name.to_owned())]).await?;
    let Some(table) = table else { return Ok(()) };
    let insert = format!("INSERT INTO _ledger_table (name, definition) VALUES ({first}, {second})");
    let values = [Value::Text(name.to_owned()), Value::Text(hex_of(&table.to_bytes()))];
    session.execute(&insert, &values).await.map(|_| ())
}

/// Writes down that the tables' definitions are those of this entry.
pub(super) async fn defined<D: Dialect>(
    dialect: &D,
    session: &mut D::Session,
    at: Offset,
) -> Result<(), Failure> {
    let [at_place] = places(dialect, [Kind::Int64]);
    let sql = format!("UPDATE _ledger_state SET defined = {at_place} WHERE one = 1");
    session.execute(&sql, &[number(at.0)]).await.map(|_| ())
}

/// Writes down why the node may not go on, whatever was written there.
pub(super) async fn fence_anew<D: Dialect>(
    dialect: &D,
    session: &mut D::Session,
    why: &str,
) -> Result<(), Failure> {
    let sql = format!(
        "UPDATE _ledger_state SET fenced = {}, pending = NULL WHERE one = 1",
        dialect.value(TEXT, 1)
    );
    session.execute(&sql, &[Value::Text(why.to_owned())]).await.map(|_| ())
}

pub(super) async fn fence<D: Dialect>(
    dialect: &D,
    session: &mut D::Session,
    why: &str,
) -> Result<(), Failure> {
    let sql = format!(
        "UPDATE _ledger_state SET fenced = {} WHERE one = 1 AND fenced IS NULL",
        dialect.value(TEXT, 1)
    );
    let why = why.replace('\0', "");
    session.execute(&sql, &[Value::Text(why)]).await.map(|_| ())
}

/// Where the node is, the log up to there, where tables were last changed, the change of one that is under way, why it may
/// not go on, and whose it is.
pub(super) struct Place {
    pub(super) applied: Offset,
    pub(super) hash: ChainHash,
    pub(super) window: u64,
    /// The entry that the tables' definitions are of: as long as it stays, so do they.
    pub(super) defined: Offset,
    pub(super) pending: Option<Offset>,
    pub(super) fenced: Option<String>,
    /// Who drives it: the token and the name.
    pub(super) guard: Option<(String, String)>,
}

/// Where a node is.
pub(super) const PLACE: &str = "SELECT s.applied, s.hash, s.entries, s.defined, s.pending, s.fenced, g.token, g.holder FROM _ledger_state s \
     LEFT JOIN _ledger_guard g ON g.one = s.one WHERE s.one = 1";

/// How many columns [`PLACE`] has.
pub(super) const PLACE_COLUMNS: usize = 8;

/// [`PLACE`], and more columns.
pub(super) fn place_and(more: &[&str]) -> String {
    let more: String = more.iter().map(|it| format!(", {it}")).collect();
    PLACE.replacen(" FROM ", &format!("{more} FROM "), 1)
}

/// Whose the node is: the token and the name.
pub(super) const GUARD: &str = "SELECT token, holder FROM _ledger_guard WHERE one = 1";

/// As [`GUARD`] gives it.
pub(super) fn guard_of(rows: &Rows) -> Option<(String, String)> {
    let [token, holder] = rows.first()?.as_slice() else { return None };
    token.clone().zip(holder.clone())
}

pub(super) async fn place<D: Dialect>(
    dialect: &D,
    session: &mut D::Session,
) -> Result<Place, NodeError> {
    place_of(&select(dialect, session, PLACE).await?)
}

/// As [`PLACE`] gives it, or [`place_and`].
pub(super) fn place_of(rows: &Rows) -> Result<Place, NodeError> {
    let row = rows.first().ok_or_else(|| bad("state"))?;
    let [
        Some(applied),
        Some(hash),
        Some(window),
        Some(defined),
        pending,
        fenced,
        token,
        holder,
        ..,
    ] = row.as_slice()
    else {
        return Err(bad("state"));
    };
    Ok(Place {
        applied: Offset(applied.parse().map_err(|_| bad("place"))?),
        hash: hash_of(hash)?,
        window: window.parse().map_err(|_| bad("window"))?,
        defined: Offset(defined.parse().map_err(|_| bad("place of the tables"))?),
        pending: pending.as_deref().and_then(|it| it.parse().ok()).map(Offset),
        fenced: fenced.clone(),
        guard: token.clone().zip(holder.clone()),
    })
}

/// Where a node is that may follow no log yet.
pub(super) async fn found<D: Dialect>(
    _dialect: &D,
    session: &mut D::Session,
) -> Result<Option<crate::node::Place>, NodeError> {
    let sql = "SELECT log, applied, hash, fenced FROM _ledger_state WHERE one = 1";
    let rows = match session.select(sql, &[]).await {
        // There is no such table.
        Err(Failure::Refused { state, message })
            if ["42P01", "42S02"].contains(&state.as_str())
                || message.contains("no such table") =>
        {
            return Ok(None);
        }
        rows => rows.map_err(Failure::while_applying)?,
    };
    let Some(row) = rows.first() else { return Ok(None) };
    let [Some(log), Some(applied), Some(hash), fenced] = row.as_slice() else {
        return Err(bad("state"));
    };
    Ok(Some(crate::node::Place {
        log: LogId::parse(log).ok_or_else(|| bad("log"))?,
        applied: Offset(applied.parse().map_err(|_| bad("place"))?),
        hash: hash_of(hash)?,
        fenced: fenced.clone(),
    }))
}

pub(super) const TEXT: Kind = Kind::Text { max: None };

pub(super) fn number(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn places<D: Dialect, const N: usize>(dialect: &D, kinds: [Kind; N]) -> [String; N] {
    let mut at = 0;
    kinds.map(|kind| {
        at += 1;
        dialect.value(kind, at)
    })
}

/// The type of a table's name as a key.
fn own_key<D: Dialect>(dialect: &D) -> String {
    dialect.captured(Kind::Text { max: Some(40) })
}

async fn select<D: Dialect>(
    _dialect: &D,
    session: &mut D::Session,
    sql: &str,
) -> Result<Rows, NodeError> {
    session.select(sql, &[]).await.map_err(Failure::while_applying)
}

fn settled_of(row: &[Option<String>]) -> Result<Settled, NodeError> {
    let [Some(at), Some(hash), request, attempt, Some(outcome)] = row else {
        return Err(bad("outcome"));
    };
    let request = request.as_deref().map(|it| RequestId::parse(it).ok_or_else(|| bad("request")));
    let number = attempt.as_deref().and_then(|it| it.parse().ok()).unwrap_or_default();
    Ok(Settled {
        at: Offset(at.parse().map_err(|_| bad("place"))?),
        hash: hash_of(hash)?,
        attempt: request.transpose()?.map(|request| Attempt { request, number }),
        outcome: outcome.parse().map_err(|_| bad("outcome"))?,
    })
}

fn hash_of(text: &str) -> Result<ChainHash, NodeError> {
    unhex(text).and_then(|it| it.try_into().ok()).map(ChainHash).ok_or_else(|| bad("hash"))
}

fn bad(what: &str) -> NodeError {
    NodeError::Diverged(format!("what it wrote down about itself cannot be read: {what}"))
}
