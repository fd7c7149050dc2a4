//! The tables of a database, and what tells their rows apart.

use serde::{Deserialize, Serialize};

use crate::inspect::{Place, Session};
use crate::{Glob, ReplicaIdentity, WalError, quote_identifier};

/// Tables that can be published. Of a partitioned table, its partitions are what updates look at: `unidentified` names
/// those without an identity, and a table itself where it has none. An index counts as the server counts it: valid, and
/// checked at once (a deferrable primary key is no identity).
pub(super) const TABLES: &str = "
with usable as (
  select i.indrelid, i.indisprimary, i.indisreplident, i.indkey from pg_index i
  where i.indisvalid and i.indisunique and i.indimmediate and i.indpred is null and (i.indisprimary or i.indisreplident)
), facts as (
  select c.oid, n.nspname, c.relname, c.relkind, c.relreplident, c.relispartition,
    exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary) as has_primary_key,
    exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary and not i.indimmediate) as deferrable,
    case c.relreplident when 'f' then true when 'n' then false
      when 'd' then exists (select from usable u where u.indrelid = c.oid and u.indisprimary)
      else exists (select from usable u where u.indrelid = c.oid and u.indisreplident) end as identified,
    array(select a.attname from usable u join pg_attribute a on a.attrelid = c.oid and a.attnum = any(u.indkey)
      where u.indrelid = c.oid and case c.relreplident when 'd' then u.indisprimary when 'i' then u.indisreplident
        else false end order by a.attnum) as identity_columns,
    case when c.relispartition then pg_partition_root(c.oid)::oid end as root
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p') and c.relpersistence = 'p' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
)
select to_jsonb(t)::text from (
  select f.nspname as schema, f.relname as name, f.relkind = 'p' as partitioned, f.relreplident::text as identity,
    f.has_primary_key, f.deferrable, f.identity_columns, r.nspname as root_schema, r.relname as root_name,
    case when f.relkind = 'p'
      then array(select format('%I.%I', l.nspname, l.relname) from pg_partition_tree(f.oid) p join facts l on l.oid = p.relid
        where p.isleaf and not l.identified order by 1)
      when f.identified then '{}' else array[format('%I.%I', f.nspname, f.relname)] end as unidentified
  from facts f left join facts r on r.oid = f.root order by 1, 2) t";

/// A table whose changes can be published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableFacts {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Whether it has partitions instead of rows.
    pub partitioned: bool,
    /// The table it is, at the top, a partition of.
    pub partition_of: Option<(String, String)>,
    /// Whether it has a primary key.
    pub has_primary_key: bool,
    /// Whether that is deferrable, which makes it no replica identity.
    pub deferrable_key: bool,
    /// What it is set to log of a row before an update or delete.
    pub identity: ReplicaIdentity,
    /// The columns of that, where it is a key or an index.
    pub identity_columns: Vec<String>,
    /// The tables, quoted, on which an UPDATE or DELETE fails while they are published: itself or partitions of it.
    pub unidentified: Vec<String>,
}

impl TableFacts {
    /// The statement that gives it a replica identity where it has none.
    #[must_use]
    pub fn fix(&self) -> String {
        let statement = |table: &String| format!("ALTER TABLE {table} REPLICA IDENTITY FULL");
        let statements: Vec<String> = self.unidentified.iter().map(statement).collect();
        statements.join("; ")
    }

    /// Its name in quotes, as SQL takes it.
    #[must_use]
    pub fn quoted(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }
}

/// All tables of the database that can be published, by name: ordinary and partitioned ones and partitions.
///
/// # Errors
/// [`WalError`] when the server cannot be asked.
pub async fn list_tables(session: &Session) -> Result<Vec<TableFacts>, WalError> {
    let rows = session.rows("list its tables", TABLES, &[]).await?;
    rows.iter().map(|row| read(session.place(), row)).collect()
}

/// Those of `tables` that one of `wanted` matches and none of `excluded` does. A partition is left out where the table it
/// is a partition of is in: that one brings it along.
#[must_use]
pub fn matching<'a>(
    tables: &'a [TableFacts],
    wanted: &[Glob],
    excluded: &[Glob],
) -> Vec<&'a TableFacts> {
    let any =
        |globs: &[Glob], schema: &str, name: &str| globs.iter().any(|g| g.matches(schema, name));
    let is_in =
        |schema: &str, name: &str| any(wanted, schema, name) && !any(excluded, schema, name);
    let root_is_in =
        |t: &TableFacts| t.partition_of.as_ref().is_some_and(|(schema, name)| is_in(schema, name));
    tables.iter().filter(|t| is_in(&t.schema, &t.name) && !root_is_in(t)).collect()
}

#[derive(Deserialize)]
struct Seen {
    schema: String,
    name: String,
    partitioned: bool,
    root_schema: Option<String>,
    root_name: Option<String>,
    has_primary_key: bool,
    deferrable: bool,
    identity: String,
    identity_columns: Vec<String>,
    unidentified: Vec<String>,
}

pub(super) fn read(place: &Place, row: &tokio_postgres::Row) -> Result<TableFacts, WalError> {
    let text: String = row.try_get(0).map_err(|e| place.senseless("its tables", e))?;
    let seen: Seen = serde_json::from_str(&text).map_err(|e| place.senseless("its tables", e))?;
    let identity = seen.identity.bytes().next().unwrap_or(b'd');
    Ok(TableFacts {
        schema: seen.schema,
        name: seen.name,
        partitioned: seen.partitioned,
        partition_of: seen.root_schema.zip(seen.root_name),
        has_primary_key: seen.has_primary_key,
        deferrable_key: seen.deferrable,
        identity: ReplicaIdentity::from_catalogue(identity),
        identity_columns: seen.identity_columns,
        unidentified: seen.unidentified,
    })
}
