//! What a stream does not tell: what types are made of, and which columns are the primary key.
//!
//! The catalogue may be newer than the change that is being read. For types that is harmless (a type's number is never
//! used again for another while columns of it exist); a primary key is the one of today.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use herdsman_node::{Conninfo, Tls, connect, describe};
use postgres_types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use crate::types::{DataType, TypeBook, TypeKind};

/// Looks up types and primary keys, over a connection of its own that is made when it is first needed.
///
/// A failure is logged and not returned: the stream goes on with what it knows, and a type that is not known is text.
pub struct Catalogue {
    info: Conninfo,
    tls: Tls,
    limit: Duration,
    client: Option<Client>,
}

/// The types asked for and all that they are made of, in one round trip. An array is what its element calls its array:
/// that leaves out the vectors of the system catalogue, which are written differently.
const TYPES: &str = "
    WITH RECURSIVE wanted (oid) AS (
        SELECT unnest($1)
        UNION
        SELECT CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE e.oid END
        FROM wanted w
        JOIN pg_catalog.pg_type t ON t.oid = w.oid
        LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
        WHERE t.typtype = 'd' OR e.oid IS NOT NULL
    )
    SELECT t.oid, n.nspname::text, t.typname::text, t.typtype::text,
           CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE e.oid END
    FROM wanted w
    JOIN pg_catalog.pg_type t ON t.oid = w.oid
    JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND e.typarray = t.oid";

const PRIMARY_KEY: &str = "
    SELECT a.attname::text
    FROM pg_catalog.pg_index i
    CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    WHERE i.indrelid = $1 AND i.indisprimary AND k.place <= i.indnkeyatts
    ORDER BY k.place";

impl Catalogue {
    /// Of the server and database of `info`. Every step, connecting included, ends after `limit`.
    #[must_use]
    pub fn new(info: Conninfo, tls: Tls, limit: Duration) -> Self {
        Self { info, tls, limit, client: None }
    }

    /// Learns these types and all they are made of, except those that are built in.
    pub async fn learn(&mut self, book: &mut TypeBook, types: &[u32]) {
        let wanted: HashSet<u32> =
            types.iter().copied().filter(|oid| Type::from_oid(*oid).is_none()).collect();
        if wanted.is_empty() {
            return;
        }
        let wanted: Vec<u32> = wanted.into_iter().collect();
        let rows = self.query("look up types", TYPES, (&wanted, Type::OID_ARRAY)).await;
        let found: HashMap<u32, Found> = rows.iter().filter_map(Found::read).collect();
        for &oid in &wanted {
            if let Some(data_type) = built(oid, &found, book, 0) {
                book.learn(DataType::clone(&data_type));
            }
        }
    }

    /// The columns of a table's primary key in the key's order; empty where there is none.
    pub async fn primary_key(&mut self, relation: u32) -> Vec<String> {
        let rows = self.query("look up a primary key", PRIMARY_KEY, (&relation, Type::OID)).await;
        rows.iter().filter_map(|row| row.try_get(0).ok()).collect()
    }

    /// No rows where it fails.
    async fn query(
        &mut self,
        what: &'static str,
        sql: &str,
        parameter: (&(dyn ToSql + Sync), Type),
    ) -> Vec<Row> {
        let limit = self.limit;
        let asking = async {
            let client = self.client().await?;
            client.query_typed(sql, &[parameter]).await.map_err(|error| describe(&error))
        };
        let problem = match tokio::time::timeout(limit, Box::pin(asking)).await {
            Ok(Ok(rows)) => return rows,
            Ok(Err(problem)) => problem,
            Err(_) => format!("no answer within {limit:?}"),
        };
        // The next question begins with a new connection.
        self.client = None;
        tracing::warn!(
            endpoint = self.info.endpoint(),
            problem,
            "failed to {what}; going on with what the stream itself tells"
        );
        Vec::new()
    }

    async fn client(&mut self) -> Result<&Client, String> {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            let connection = connect(&self.info, &self.tls, self.limit).await;
            let (client, driving) = connection.map_err(|error| error.to_string())?.split(|_| {});
            // Ends by itself once the client is dropped.
            tokio::spawn(driving);
            self.client = Some(client);
        }
        self.client.as_ref().ok_or_else(|| "the connection was closed".to_owned())
    }
}

impl fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalogue").field("endpoint", &self.info.endpoint()).finish_non_exhaustive()
    }
}

/// One row of the answer.
struct Found {
    schema: String,
    name: String,
    letter: String,
    part: Option<u32>,
}

impl Found {
    fn read(row: &Row) -> Option<(u32, Self)> {
        let found = Self {
            schema: row.try_get(1).ok()?,
            name: row.try_get(2).ok()?,
            letter: row.try_get(3).ok()?,
            part: row.try_get(4).ok()?,
        };
        Some((row.try_get(0).ok()?, found))
    }
}

/// Domains of arrays of domains…: no schema that people write comes near this.
const DEEPEST: u8 = 32;

fn built(
    oid: u32,
    found: &HashMap<u32, Found>,
    book: &TypeBook,
    depth: u8,
) -> Option<Arc<DataType>> {
    if Type::from_oid(oid).is_some() {
        return Some(book.get(oid));
    }
    let this = found.get(&oid)?;
    let part = |part: Option<u32>| {
        part.filter(|_| depth < DEEPEST).and_then(|part| built(part, found, book, depth + 1))
    };
    let kind = match (this.letter.as_str(), part(this.part)) {
        ("d", Some(base)) => TypeKind::Domain(base),
        ("b", Some(element)) => TypeKind::Array(element),
        ("c", _) => TypeKind::Composite,
        ("e", _) => TypeKind::Enum,
        ("r", _) => TypeKind::Range,
        ("m", _) => TypeKind::Multirange,
        _ => TypeKind::Base,
    };
    let (schema, name) = (this.schema.as_str().into(), this.name.as_str().into());
    Some(Arc::new(DataType { oid, schema, name, kind }))
}
