//! What a table looks like in the catalogue, and how its rows are asked for.

use std::sync::Arc;

use tokio_postgres::types::Type;

use crate::snapshot::{SnapshotConnection, SnapshotError};
use crate::{Column, Relation, ReplicaIdentity, quote_identifier};

/// A table to read, and what of it is published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotTable {
    /// Its schema.
    pub schema: String,
    /// Its name. A partitioned table stands for all its partitions.
    pub name: String,
    /// The publication's column list; `None` for all columns that are published by default.
    pub columns: Option<Vec<String>>,
    /// The publication's row filter: a condition in SQL, taken as it is.
    pub condition: Option<String>,
    /// Whether a partitioned table's rows are published under its own name (`publish_via_partition_root`).
    pub via_root: bool,
    /// Whether stored generated columns are published without being listed (`publish_generated_columns`, PostgreSQL 18).
    pub generated: bool,
}

impl SnapshotTable {
    /// All of one table.
    #[must_use]
    pub fn new(schema: &str, name: &str) -> Self {
        Self { schema: schema.to_owned(), name: name.to_owned(), ..Self::default() }
    }

    /// `schema.name`, for people.
    pub(crate) fn shown(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// A table that is published under its own name.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub(crate) relation: Arc<Relation>,
    /// Types of the columns as SQL has them, with their modifiers.
    pub(crate) sql_types: Vec<String>,
    /// Where the rows are: itself, or its partitions.
    pub(crate) heaps: Vec<Heap>,
    /// Whether it has partitions, rather than rows of its own.
    pub(crate) partitioned: bool,
    pub(crate) condition: Option<String>,
}

/// A table that holds rows.
#[derive(Clone, Debug)]
pub(crate) struct Heap {
    pub(crate) oid: u32,
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) filenode: u32,
    pub(crate) pages: u32,
    pub(crate) page_bytes: u32,
}

/// A table and all its partitions, with the file that its rows are in as this snapshot has it.
const TREE: &str = "
    SELECT c.oid, c.relkind::text, c.relreplident::text, s.nspname::text, c.relname::text, c.relfilenode, r.root
    FROM (SELECT t.oid AS root, coalesce(p.relid::oid, t.oid) AS oid
          FROM pg_catalog.pg_class t
          JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
          LEFT JOIN LATERAL pg_catalog.pg_partition_tree(t.oid::regclass) p ON t.relkind = 'p'
          WHERE n.nspname = $1 AND t.relname = $2) r
    JOIN pg_catalog.pg_class c ON c.oid = r.oid
    JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p')
    ORDER BY c.oid <> r.root, c.oid";

/// The file that rows are in now, whatever the snapshot says, and its size.
const FILE: &str = "
    SELECT pg_catalog.pg_relation_filenode($1), pg_catalog.pg_relation_size($1),
           current_setting('block_size')::int4";

/// Columns in their order: number of the type, its modifier, its name, whether they are in the replica identity's index
/// and in the primary key, and whether they are generated.
const COLUMNS: &str = "
    SELECT a.attname::text, a.atttypid, a.atttypmod, pg_catalog.format_type(a.atttypid, a.atttypmod),
           coalesce(bool_or((i.indisreplident AND c.relreplident = 'i')
                            OR (i.indisprimary AND i.indimmediate AND c.relreplident = 'd')), false),
           coalesce(bool_or(i.indisprimary AND c.relreplident <> 'i'), false), a.attgenerated::text
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
    LEFT JOIN (pg_catalog.pg_index i
               CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place))
           ON i.indrelid = a.attrelid AND k.attnum = a.attnum AND k.place <= i.indnkeyatts
              AND (i.indisprimary OR i.indisreplident)
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
    GROUP BY a.attnum, a.attname, a.atttypid, a.atttypmod, a.attgenerated
    ORDER BY a.attnum";

const WHAT: &str = "describe a table";

/// Looks at a table within a transaction, and keeps it from being rewritten until the end of that.
///
/// Partitions are tables of their own unless they are published under the root's name.
pub(crate) async fn describe(
    connection: &SnapshotConnection,
    table: &SnapshotTable,
) -> Result<Vec<Described>, SnapshotError> {
    let names: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] =
        &[(&table.schema, Type::TEXT), (&table.name, Type::TEXT)];
    let rows = connection.query(WHAT, TREE, names).await?;
    let mut heaps = Vec::new();
    let mut root = None;
    for row in &rows {
        let kind: String = connection.field(row, 1, WHAT)?;
        let oid: u32 = connection.field(row, 0, WHAT)?;
        let letter: String = connection.field(row, 2, WHAT)?;
        let schema: String = connection.field(row, 3, WHAT)?;
        let name: String = connection.field(row, 4, WHAT)?;
        let identity = ReplicaIdentity::from_catalogue(*letter.as_bytes().first().unwrap_or(&b'd'));
        if oid == connection.field::<u32>(row, 6, WHAT)? {
            root = Some((oid, schema.clone(), name.clone(), identity, kind == "p"));
        }
        if kind == "r" {
            let filenode: u32 = connection.field(row, 5, WHAT)?;
            let heap = Heap { oid, schema, name, filenode, pages: 0, page_bytes: 0 };
            heaps.push((hold(connection, heap).await?, identity));
        }
    }
    let Some((oid, schema, name, identity, partitioned)) = root else {
        return Err(no_table(connection, table.shown()));
    };
    if partitioned && !table.via_root {
        let mut all = Vec::new();
        for (heap, identity) in heaps {
            let own = (heap.oid, heap.schema.clone(), heap.name.clone(), identity);
            all.push(shape(connection, table, own, vec![heap], false).await?);
        }
        return Ok(all);
    }
    let heaps = heaps.into_iter().map(|(heap, _)| heap).collect();
    let own = (oid, schema, name, identity);
    Ok(vec![shape(connection, table, own, heaps, partitioned).await?])
}

fn no_table(connection: &SnapshotConnection, table: String) -> SnapshotError {
    SnapshotError::NoTable { endpoint: connection.endpoint().to_owned(), table }
}

/// Locks a table against being rewritten, and makes sure that it has not been since the snapshot was taken: rewritten
/// rows look new, so that an older snapshot shows an empty table.
async fn hold(connection: &SnapshotConnection, mut heap: Heap) -> Result<Heap, SnapshotError> {
    let table = format!("{}.{}", heap.schema, heap.name);
    let sql = format!("LOCK TABLE ONLY {} IN ACCESS SHARE MODE", heap.sql_name());
    connection.run("lock a table against being rewritten", &sql).await.map_err(
        |error| match error {
            SnapshotError::Refused { sqlstate, .. } if sqlstate == "42P01" => {
                no_table(connection, table.clone())
            }
            other => other,
        },
    )?;
    let rows = connection.query(WHAT, FILE, &[(&heap.oid, Type::OID)]).await?;
    let row = rows.first().ok_or_else(|| connection.malformed(WHAT, "no row"))?;
    let file: Option<u32> = connection.field(row, 0, WHAT)?;
    if file != Some(heap.filenode) {
        return Err(SnapshotError::Rewritten { endpoint: connection.endpoint().to_owned(), table });
    }
    let bytes: i64 = connection.field(row, 1, WHAT)?;
    let page: i32 = connection.field(row, 2, WHAT)?;
    heap.page_bytes = u32::try_from(page).unwrap_or(8192);
    let pages = u64::try_from(bytes).unwrap_or(0).div_ceil(heap.page_bytes.max(1).into());
    heap.pages = u32::try_from(pages).unwrap_or(u32::MAX);
    Ok(heap)
}

async fn shape(
    connection: &SnapshotConnection,
    table: &SnapshotTable,
    (oid, schema, name, identity): (u32, String, String, ReplicaIdentity),
    heaps: Vec<Heap>,
    partitioned: bool,
) -> Result<Described, SnapshotError> {
    let rows = connection.query(WHAT, COLUMNS, &[(&oid, Type::OID)]).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let column: String = connection.field(row, 0, WHAT)?;
        let generated: String = connection.field(row, 6, WHAT)?;
        let listed = table.columns.as_ref().map(|columns| columns.contains(&column));
        let published = match generated.as_str() {
            "" => listed.unwrap_or(true),
            "s" => listed.unwrap_or(table.generated),
            _ => false,
        };
        if published {
            found.push((column, row));
        }
    }
    let missing = |column: &&String| !found.iter().any(|(name, _)| name == *column);
    if let Some(column) = table.columns.iter().flatten().find(missing) {
        return Err(SnapshotError::NoColumn {
            endpoint: connection.endpoint().to_owned(),
            table: table.shown(),
            column: column.clone(),
        });
    }
    let types = found.iter().map(|(_, row)| connection.field(row, 1, WHAT));
    let types: Vec<u32> = types.collect::<Result<_, _>>()?;
    let book = connection.types(&types).await;
    let (mut columns, mut sql_types) = (Vec::new(), Vec::new());
    for ((column, row), type_oid) in found.into_iter().zip(types) {
        let key: bool = connection.field(row, 4, WHAT)?;
        columns.push(Column {
            name: column.into(),
            data_type: book.get(type_oid),
            type_modifier: connection.field(row, 2, WHAT)?,
            key: key || identity == ReplicaIdentity::Full,
            primary: connection.field(row, 5, WHAT)?,
        });
        sql_types.push(connection.field(row, 3, WHAT)?);
    }
    let relation = Relation { oid, schema: schema.into(), name: name.into(), identity, columns };
    let condition = table.condition.clone();
    Ok(Described { relation: Arc::new(relation), sql_types, heaps, partitioned, condition })
}

impl Described {
    /// `SELECT columns FROM source WHERE all conditions`, with the publication's own among them.
    pub(crate) fn select(&self, source: &str, conditions: &[String]) -> String {
        let columns = self.relation.columns.iter().map(|column| quote_identifier(&column.name));
        let columns: Vec<String> = columns.collect();
        let mut sql = format!("SELECT {} FROM {source}", columns.join(", "));
        for (index, condition) in conditions.iter().chain(&self.condition).enumerate() {
            sql.push_str(if index == 0 { " WHERE (" } else { " AND (" });
            sql.push_str(condition);
            sql.push(')');
        }
        sql
    }
}

impl Heap {
    pub(crate) fn sql_name(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }
}
