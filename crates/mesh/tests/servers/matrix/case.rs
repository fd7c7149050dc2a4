//! What the cases have in common.

use std::collections::BTreeMap;

use herdsman_mesh::config::Mode;

use crate::proof::{Conflict, Mesh};

/// A case, with a table of its own.
pub(super) struct Case<'m> {
    pub(super) mesh: &'m Mesh,
    pub(super) name: &'static str,
    pub(super) a: String,
    pub(super) b: String,
    pub(super) c: String,
}

/// A table for each case; `j` has children, too, those with an `f` a second unique constraint, and `e2` a column that cannot be
/// updated.
pub(crate) fn tables(names: &[&str]) -> String {
    let mut text = String::new();
    for name in names {
        text.push_str(&format!(
            "CREATE TABLE case_{name} (id int PRIMARY KEY, col1 text, col2 text);
             ALTER TABLE case_{name} ALTER col2 SET STORAGE EXTERNAL;"
        ));
    }
    for name in names.iter().filter(|name| name.starts_with('f')) {
        text.push_str(&format!("ALTER TABLE case_{name} ADD UNIQUE (col1);"));
    }
    if names.contains(&"j") {
        text += "CREATE TABLE child_j (id int PRIMARY KEY, parent int REFERENCES case_j);";
    }
    if names.contains(&"e2") {
        text += "ALTER TABLE case_e2 ADD numbered bigint GENERATED ALWAYS AS IDENTITY";
    }
    text
}

impl<'m> Case<'m> {
    pub(super) fn new(mesh: &'m Mesh, name: &'static str) -> Self {
        let nodes = mesh.nodes();
        let (a, b, c) = (nodes[0].clone(), nodes[1].clone(), nodes[nodes.len() - 1].clone());
        Self { mesh, name, a, b, c }
    }

    pub(super) fn table(&self) -> String {
        format!("case_{}", self.name)
    }

    /// Rows that every node has before anything happens, as `(1, 'v0', ''), …`.
    pub(super) async fn begin(&self, rows: &str) {
        self.on(&self.a, &format!("INSERT INTO {{t}} VALUES {rows}")).await;
        self.mesh.settle().await;
    }

    /// Statements in one transaction, `{t}` for the case's table.
    pub(super) async fn on(&self, node: &str, statements: &str) {
        self.mesh.on(node, &statements.replace("{t}", &self.table())).await;
    }

    /// Keeps A and B from each other.
    pub(super) fn apart(&self) {
        self.mesh.apart(&self.a, &self.b);
    }

    /// Waits until every node has everything, then holds the outcome against `expected`: `id|col1|col2` by id.
    pub(super) async fn ends_as(&self, expected: &[&str]) {
        self.mesh.settle().await;
        self.holds(&self.table(), "concat_ws('|', id, col1, left(col2, 12))", expected).await;
    }

    /// Every node holds the same rows with the same stamps, and these; the same deletions, too.
    pub(super) async fn holds(&self, table: &str, shown: &str, expected: &[&str]) {
        let differences = self.mesh.differences(table, "id").await;
        assert_eq!(differences, Vec::<String>::new(), "case {}", self.name);
        let gone = format!("herdsman_gone.\"public.{table}\"");
        // Those that a later row hides need not be sent.
        let deletions = format!(
            "SELECT string_agg(concat_ws(' ', id, _herdsman_stamp, _herdsman_node), ',' ORDER BY id)
             FROM {gone} WHERE id NOT IN (SELECT id FROM {table})"
        );
        let rows = format!("SELECT string_agg({shown}, ' ' ORDER BY id) FROM {table}");
        let mut all = BTreeMap::new();
        for node in self.mesh.nodes() {
            let held = self.mesh.ask(&node, &rows).await.unwrap_or_default();
            assert_eq!(held, expected.join(" "), "case {} on {node}", self.name);
            all.insert(node.clone(), self.mesh.ask(&node, &deletions).await);
        }
        let first = all.values().next().unwrap();
        assert!(all.values().all(|deletions| deletions == first), "case {}: {all:?}", self.name);
    }

    /// On each of these nodes a conflict of this kind is recorded, with this `col1` in the winner and that in the loser;
    /// `None` is a deletion.
    pub(super) async fn recorded(
        &self,
        nodes: &[&str],
        kind: &str,
        winner: Option<&str>,
        loser: Option<&str>,
    ) {
        let all = self.all_conflicts().await;
        for node in nodes {
            let found = all.iter().any(|conflict| {
                let (won, lost) = sides(conflict);
                conflict.node == *node
                    && conflict.kind == kind
                    && (won.as_deref(), lost.as_deref()) == (winner, loser)
            });
            assert!(
                found,
                "case {}: {node} has no record of {kind} that {winner:?} won against {loser:?}: {all:#?}",
                self.name
            );
        }
    }

    /// Nobody of these has recorded a conflict.
    pub(super) async fn not_recorded(&self, nodes: &[&str]) {
        let mut all = self.all_conflicts().await;
        // Where rows do not say what their writer had seen, a third node may take what comes late for a conflict.
        let untouched = self.mesh.setup.config.mode == Mode::Untouched;
        let third = |conflict: &Conflict| untouched && conflict.node == self.c;
        all.retain(|conflict| nodes.contains(&conflict.node.as_str()) && !third(conflict));
        assert!(all.is_empty(), "case {}: {all:#?}", self.name);
    }

    /// Whatever is recorded, the later stamp has won.
    async fn all_conflicts(&self) -> Vec<Conflict> {
        let all = self.mesh.conflicts(&self.table()).await;
        for conflict in &all {
            if let (Some(held), Some(arriving)) = (conflict.held_stamp, conflict.arriving_stamp) {
                assert_eq!(
                    arriving > held,
                    conflict.arriving_won,
                    "case {}: {conflict:?}",
                    self.name
                );
            }
        }
        all
    }
}

/// `col1` of the winner and of the loser.
fn sides(conflict: &Conflict) -> (Option<String>, Option<String>) {
    let text =
        |row: &Option<serde_json::Value>| Some(row.as_ref()?.get("col1")?.as_str()?.to_owned());
    let (held, arriving) = (text(&conflict.held), text(&conflict.arriving));
    if conflict.arriving_won { (arriving, held) } else { (held, arriving) }
}
