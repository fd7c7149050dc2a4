//! What the nodes hold, and what they have recorded.

use std::collections::{BTreeMap, BTreeSet};

use herdsman_mesh::config::Mode;

use super::Mesh;

/// A row of `herdsman.conflicts`.
#[derive(Clone, Debug)]
pub(crate) struct Conflict {
    pub(crate) node: String,
    pub(crate) key: String,
    pub(crate) kind: String,
    pub(crate) arriving_won: bool,
    pub(crate) held: Option<serde_json::Value>,
    pub(crate) held_stamp: Option<Version>,
    pub(crate) arriving: Option<serde_json::Value>,
    pub(crate) arriving_stamp: Option<Version>,
}

/// Time and node of a stamp.
pub(crate) type Version = (i64, i16);

impl Mesh {
    /// All rows of a table on every node, with stamps, by what identifies them.
    pub(crate) async fn rows(
        &self,
        table: &str,
        key: &str,
    ) -> BTreeMap<String, BTreeMap<String, String>> {
        let mut all = BTreeMap::new();
        for node in self.nodes() {
            let client = self.kept(&node, "postgres").await;
            client.batch_execute("SET TimeZone = 'UTC'").await.unwrap();
            // A version that is not in the row itself.
            let untouched = self.setup.config.mode == Mode::Untouched && !table.starts_with('(');
            let shown = match untouched {
                true => "ROW(t.*, herdsman.micros(t.xmin), herdsman.node(t.xmin))",
                false => "t",
            };
            let rows = client
                .query(&format!("SELECT ({key})::text, {shown}::text FROM {table} t"), &[])
                .await
                .unwrap();
            all.insert(node, rows.iter().map(|row| (row.get(0), row.get(1))).collect());
        }
        all
    }

    /// Keys that are not the same everywhere, with what each node has there.
    pub(crate) async fn differences(&self, table: &str, key: &str) -> Vec<String> {
        let all = self.rows(table, key).await;
        let keys: BTreeSet<&String> = all.values().flat_map(BTreeMap::keys).collect();
        let short = |text: &str| text.chars().take(160).collect::<String>();
        keys.into_iter()
            .filter_map(|key| {
                let seen: Vec<Option<&String>> = all.values().map(|rows| rows.get(key)).collect();
                let alike = seen.windows(2).all(|pair| pair[0] == pair[1]);
                (!alike).then(|| {
                    let each = all.iter().map(|(node, rows)| {
                        format!(
                            "{node}: {}",
                            rows.get(key).map_or("-".to_owned(), |row| short(row))
                        )
                    });
                    format!("{table} {key}: {}", each.collect::<Vec<_>>().join("; "))
                })
            })
            .collect()
    }

    /// What is recorded of a table of schema `public`, on every node.
    pub(crate) async fn conflicts(&self, table: &str) -> Vec<Conflict> {
        let mut all = Vec::new();
        for node in self.nodes() {
            let rows = self
                .kept(&node, "postgres")
                .await
                .query(
                    "SELECT key::text, kind, winner, held::text, held_stamp, held_node,
                            arriving::text, arriving_stamp, arriving_node
                     FROM herdsman.conflicts WHERE rel = 'public.' || $1::text ORDER BY id",
                    &[&table],
                )
                .await
                .unwrap();
            all.extend(rows.iter().map(|row| {
                let json = |text: Option<String>| {
                    let value = serde_json::from_str(&text?).unwrap();
                    (value != serde_json::Value::Null).then_some(value)
                };
                let stamp = |time: Option<i64>, node: Option<i16>| time.zip(node);
                Conflict {
                    node: node.clone(),
                    key: row.get::<_, Option<String>>(0).unwrap_or_default(),
                    kind: row.get(1),
                    arriving_won: row.get::<_, &str>(2) == "arriving",
                    held: json(row.get(3)),
                    held_stamp: stamp(row.get(4), row.get(5)),
                    arriving: json(row.get(6)),
                    arriving_stamp: stamp(row.get(7), row.get(8)),
                }
            }));
        }
        all
    }
}
