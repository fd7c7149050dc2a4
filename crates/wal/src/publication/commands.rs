//! What is asked of the server about publications.

use serde::Deserialize;
use tokio_postgres::{GenericClient, Row};

use super::{
    Operations, Publication, PublicationError, PublicationSpec, TableFacts, TableSpec, checks,
    plan, tables,
};
use crate::inspect::{Place, Session};
use crate::slot::{self, CreateOptions, Created};
use crate::{PublicationName, SlotName, WalError, quote_identifier};

/// The publication's own row is older than what a slot still has to see of the catalogue, or it may be missing there.
const INSPECT: &str = "
select to_jsonb(t)::text from (select p.puballtables as all_tables, p.pubinsert as insert, p.pubupdate as update,
  p.pubdelete as delete, p.pubtruncate as truncate, p.pubviaroot as via_partition_root,
  pg_has_role(p.pubowner, 'usage') as owned,
  array(select n.nspname from pg_publication_namespace s join pg_namespace n on n.oid = s.pnnspid
    where s.pnpubid = p.oid order by 1) as schemas,
  array(select s.slot_name from pg_replication_slots s where s.database = current_database()
    and s.catalog_xmin is not null and age(p.xmin) <= age(s.catalog_xmin) order by 1) as newer_than,
  (select coalesce(jsonb_agg(jsonb_build_object('schema', n.nspname, 'name', c.relname,
      'row_filter', pg_get_expr(r.prqual, r.prrelid),
      'columns', case when r.prattrs is not null then (select jsonb_agg(a.attname order by a.attnum) from pg_attribute a
        where a.attrelid = c.oid and a.attnum = any(r.prattrs)) end) order by n.nspname, c.relname), '[]')
    from pg_publication_rel r join pg_class c on c.oid = r.prrelid join pg_namespace n on n.oid = c.relnamespace
    where r.prpubid = p.oid) as tables
  from pg_publication p where p.pubname = $1) t";

/// For each table with a row filter, the columns that the filter looks at: the filter is kept as a tree, in which columns
/// are numbers.
const FILTERED: &str = "
select n.nspname::text, c.relname::text, array(select a.attname::text from pg_attribute a where a.attrelid = c.oid
  and a.attnum in (select (regexp_matches(r.prqual::text, ':varattno (\\d+)', 'g'))[1]::int))
from pg_publication p join pg_publication_rel r on r.prpubid = p.oid join pg_class c on c.oid = r.prrelid
  join pg_namespace n on n.oid = c.relnamespace
where p.pubname = $1 and r.prqual is not null";

/// What became of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not there, and is now.
    Created,
    /// It was there and was changed, by these statements.
    Altered(Vec<String>),
    /// It was as wanted.
    Unchanged,
}

/// A publication and its slot are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// What became of the publication.
    pub publication: Outcome,
    /// The slot that was made; none where it was there.
    pub slot: Option<Created>,
}

/// Tells about one publication of the database; none where there is no such publication.
///
/// # Errors
/// [`WalError`] when the server cannot be asked.
pub async fn inspect(
    session: &Session,
    name: &PublicationName,
) -> Result<Option<Publication>, WalError> {
    look(session.client(), session.place(), name).await
}

/// Makes the publication what `wanted` says, by the smallest change, all of it or nothing.
///
/// # Errors
/// [`PublicationError`]; nothing was changed then.
pub async fn create_or_alter(
    session: &mut Session,
    wanted: &PublicationSpec,
) -> Result<Outcome, PublicationError> {
    const WHAT: &str = "change the publication";
    let (client, place) = session.parts();
    let failed = |error: tokio_postgres::Error| place.failed(WHAT, &error);
    // Dropped before its commit, it is rolled back.
    let transaction = client.transaction().await.map_err(failed)?;
    let existing = look(&transaction, place, &wanted.name).await?;
    let statements = plan(existing.as_ref(), wanted);
    if statements.is_empty() {
        return Ok(Outcome::Unchanged);
    }
    let rows = place.rows(&transaction, "list its tables", tables::TABLES, &[]).await?;
    let facts = rows.iter().map(|row| tables::read(place, row)).collect::<Result<Vec<_>, _>>()?;
    checks::check(wanted, &facts, &place.endpoint)?;
    for statement in &statements {
        place.rows(&transaction, WHAT, statement, &[]).await?;
    }
    check_filters(&transaction, place, wanted, &facts).await?;
    // Only now it is known how the server writes the row filters.
    let now = look(&transaction, place, &wanted.name).await?;
    let same = |one: &Publication, other: &Publication| {
        one.spec == other.spec && one.schemas == other.schemas
    };
    if existing.as_ref().zip(now.as_ref()).is_some_and(|(before, now)| same(before, now)) {
        return Ok(Outcome::Unchanged);
    }
    transaction.commit().await.map_err(failed)?;
    Ok(if existing.is_some() { Outcome::Altered(statements) } else { Outcome::Created })
}

/// Drops a publication; says whether there was one.
///
/// # Errors
/// [`WalError`] when the server refuses.
pub async fn drop(session: &Session, name: &PublicationName) -> Result<bool, WalError> {
    let there = inspect(session, name).await?.is_some();
    let sql = format!("DROP PUBLICATION IF EXISTS {}", quote_identifier(name.as_str()));
    session.rows("drop the publication", &sql, &[]).await?;
    Ok(there)
}

/// Makes publication and slot, whichever is missing: the publication first, since the server looks for it as of the
/// position the slot is at.
///
/// # Errors
/// [`PublicationError::SlotIsOlder`] where the slot is there already and the publication is not; otherwise as
/// [`create_or_alter`] and [`slot::create`].
pub async fn prepare(
    session: &mut Session,
    wanted: &PublicationSpec,
    slot: &SlotName,
    options: &CreateOptions,
) -> Result<Prepared, PublicationError> {
    check_order(session, &wanted.name, slot).await?;
    let there = slot::inspect(session, slot).await?;
    let publication = create_or_alter(session, wanted).await?;
    let slot = match there {
        Some(_) => None,
        None => Some(slot::create(session, slot, options).await?),
    };
    Ok(Prepared { publication, slot })
}

/// Refuses to go on where the slot is there already and the publication is not: made now, it would be missing at the
/// position the slot is at. For whoever makes the two without [`prepare`], before making the publication.
///
/// # Errors
/// [`PublicationError::SlotIsOlder`]; [`PublicationError::Wal`] when the server cannot be asked.
pub async fn check_order(
    session: &Session,
    publication: &PublicationName,
    slot: &SlotName,
) -> Result<(), PublicationError> {
    let slot_is_there = slot::inspect(session, slot).await?.is_some();
    if !slot_is_there || inspect(session, publication).await?.is_some() {
        return Ok(());
    }
    Err(PublicationError::SlotIsOlder {
        endpoint: session.endpoint().to_owned(),
        slot: slot.to_string(),
        publication: publication.to_string(),
    })
}

/// Refuses row filters that would make the application's statements fail: asked of the server, which has read them.
async fn check_filters<C: GenericClient + Sync>(
    client: &C,
    place: &Place,
    wanted: &PublicationSpec,
    facts: &[TableFacts],
) -> Result<(), PublicationError> {
    if !wanted.operations.update && !wanted.operations.delete {
        return Ok(());
    }
    let unreadable = |e: tokio_postgres::Error| place.senseless("its row filters", e);
    let rows =
        place.rows(client, "read its row filters", FILTERED, &[&wanted.name.as_str()]).await?;
    for row in rows {
        let (schema, name): (String, String) =
            (row.try_get(0).map_err(unreadable)?, row.try_get(1).map_err(unreadable)?);
        let columns: Vec<String> = row.try_get(2).map_err(unreadable)?;
        let Some(facts) = facts.iter().find(|f| f.schema == schema && f.name == name) else {
            continue;
        };
        if facts.identity == crate::ReplicaIdentity::Full {
            continue;
        }
        let outside: Vec<String> =
            columns.into_iter().filter(|c| !facts.identity_columns.contains(c)).collect();
        if !outside.is_empty() {
            return Err(checks::filter_outside(facts, &outside, &place.endpoint));
        }
    }
    Ok(())
}

async fn look<C: GenericClient + Sync>(
    client: &C,
    place: &Place,
    name: &PublicationName,
) -> Result<Option<Publication>, WalError> {
    let rows = place.rows(client, "look at its publications", INSPECT, &[&name.as_str()]).await?;
    rows.first().map(|row| read(place, row, name)).transpose()
}

#[derive(Deserialize)]
struct Seen {
    all_tables: bool,
    insert: bool,
    update: bool,
    delete: bool,
    truncate: bool,
    via_partition_root: bool,
    owned: bool,
    schemas: Vec<String>,
    newer_than: Vec<SlotName>,
    tables: Vec<SeenTable>,
}

#[derive(Deserialize)]
struct SeenTable {
    schema: String,
    name: String,
    columns: Option<Vec<String>>,
    row_filter: Option<String>,
}

fn read(place: &Place, row: &Row, name: &PublicationName) -> Result<Publication, WalError> {
    let text: String = row.try_get(0).map_err(|e| place.senseless("its publications", e))?;
    let seen: Seen =
        serde_json::from_str(&text).map_err(|e| place.senseless("its publications", e))?;
    let table = |t: SeenTable| TableSpec {
        schema: t.schema,
        name: t.name,
        columns: t.columns,
        row_filter: t.row_filter,
    };
    let Seen { insert, update, delete, truncate, .. } = seen;
    Ok(Publication {
        spec: PublicationSpec {
            name: name.clone(),
            tables: seen.tables.into_iter().map(table).collect(),
            all_tables: seen.all_tables,
            operations: Operations { insert, update, delete, truncate },
            via_partition_root: seen.via_partition_root,
        },
        schemas: seen.schemas,
        newer_than: seen.newer_than,
        owned: seen.owned,
    })
}
