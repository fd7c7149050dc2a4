//! What a server has to be, and what our role has to be allowed there.

use herdsman_node::NodeName;
use herdsman_wal::{publication, quote_identifier};

use super::Planning;
use crate::config::Mode;
use crate::install::found::Found;
use crate::install::layout;
use crate::names;

/// The first version whose replication tells where a change comes from and which parameter may be granted.
const OLDEST: u32 = 150_000;

/// The first version that publishes computed columns.
const GENERATED_SINCE: u32 = 180_000;

impl Planning<'_> {
    pub(super) fn rights(&mut self) {
        let nodes = self.setup.config.nodes.clone();
        let count = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
        for node in nodes {
            match self.nodes.get(&node).cloned() {
                None => {
                    self.problem(format!("node `{node}` was not looked at; name it in `hosts`"));
                }
                Some(found) => {
                    self.server(&node, &found, count);
                    self.role(&node, &found);
                }
            }
        }
        self.distinct();
    }

    fn server(&mut self, node: &NodeName, found: &Found, count: u32) {
        let facts = &found.facts;
        if facts.version < OLDEST {
            self.problem(format!(
                "node `{node}` runs PostgreSQL {}; the mesh needs 15 or later",
                facts.version_text
            ));
            return;
        }
        if facts.in_recovery {
            self.problem(format!("node `{node}` is a standby; name the primary in its place"));
        }
        if facts.wal_level != "logical" {
            self.problem(format!(
                "node `{node}` has wal_level = {}; ALTER SYSTEM SET wal_level = logical, and restart it",
                facts.wal_level
            ));
        }
        let ours = found.slots.iter().filter(|slot| self.is_ours(slot.name.as_str())).count();
        let all = u32::try_from(found.slots.len()).unwrap_or(u32::MAX);
        let others = all - u32::try_from(ours).unwrap_or(0).min(all);
        if facts.max_slots < others.saturating_add(count) {
            self.problem(format!(
                "node `{node}` has room for {} replication slots, and {others} are taken; the mesh needs {count}: raise max_replication_slots and restart it",
                facts.max_slots
            ));
        }
        if facts.max_senders < facts.used_senders.saturating_add(count) {
            self.problem(format!(
                "node `{node}` may send its log to {} readers, and {} others do read it; the mesh needs {count}: raise max_wal_senders and restart it",
                facts.max_senders, facts.used_senders
            ));
        }
        let setting = if facts.version >= 180_000 {
            "max_active_replication_origins"
        } else {
            "max_replication_slots"
        };
        if facts.max_origins == 0 {
            self.problem(format!(
                "node `{node}` has no room for a replication origin; raise {setting} and restart it"
            ));
        } else if facts.used_origins > facts.max_origins {
            self.note(format!(
                "node `{node}` has {} replication origins and room for {} at work; raise {setting} if the mesh finds none",
                facts.used_origins, facts.max_origins
            ));
        }
        self.commit_times(node, found, count);
        if found.foreign_schema {
            self.problem(format!(
                "node `{node}` has a schema `{}` that the mesh has not made; rename or drop it",
                names::SCHEMA
            ));
        }
    }

    /// What `mode: untouched` needs besides.
    fn commit_times(&mut self, node: &NodeName, found: &Found, count: u32) {
        let untouched = self.setup.config.mode == Mode::Untouched;
        if found.own.is_some() && found.relations.contains(layout::untouched::RELATION) != untouched
        {
            let (was, wanted) =
                if untouched { ("columns", "untouched") } else { ("untouched", "columns") };
            self.problem(format!(
                "node `{node}` is in the mesh with `mode: {was}`, and `mode` now says {wanted}; take the mesh down first (`herdsman mesh remove` of all nodes), or set it back"
            ));
        }
        if !untouched {
            return;
        }
        let facts = &found.facts;
        if !facts.commit_times {
            self.problem(format!(
                "node `{node}` does not keep commit times, which `mode: untouched` goes by; ALTER SYSTEM SET track_commit_timestamp = on, and restart it"
            ));
        }
        if (1..count.saturating_add(1)).contains(&facts.max_origins) {
            self.problem(format!(
                "node `{node}` has room for {} replication origins; `mode: untouched` needs one for each member and one more: raise max_replication_slots (from PostgreSQL 18 on max_active_replication_origins) and restart it",
                facts.max_origins
            ));
        }
    }

    fn role(&mut self, node: &NodeName, found: &Found) {
        let facts = &found.facts;
        if facts.superuser || facts.version < OLDEST {
            return;
        }
        let role = quote_identifier(&facts.role);
        if !facts.replication {
            self.problem(format!(
                "node `{node}`: role {role} may not use replication; ALTER ROLE {role} REPLICATION"
            ));
        }
        if !facts.may_be_replica {
            self.problem(format!(
                "node `{node}`: role {role} may not apply without the tables' own triggers; GRANT SET ON PARAMETER session_replication_role TO {role}"
            ));
        }
        if !facts.forbidden.is_empty() {
            self.problem(format!(
                "node `{node}`: role {role} may not mark what it applies; GRANT EXECUTE ON FUNCTION {} TO {role}",
                facts.forbidden.join(", ")
            ));
        }
        if !facts.may_create && found.own.is_none() {
            self.problem(format!(
                "node `{node}`: role {role} may create neither schemas nor publications; GRANT CREATE ON DATABASE {} TO {role}",
                quote_identifier(&facts.database)
            ));
        }
        if found.publication.as_ref().is_some_and(|publication| !publication.owned) {
            let name = publication_name(&self.setup.config.name);
            self.problem(format!(
                "node `{node}`: publication {name} belongs to another role; ALTER PUBLICATION {name} OWNER TO {role}"
            ));
        }
    }

    /// Two names for one database would make it answer itself.
    fn distinct(&mut self) {
        let nodes: Vec<(NodeName, String)> = self
            .nodes
            .iter()
            .filter(|(_, found)| !found.facts.identity.is_empty())
            .map(|(node, found)| (node.clone(), found.facts.identity.clone()))
            .collect();
        for (at, (node, identity)) in nodes.iter().enumerate() {
            let same = nodes.iter().skip(at + 1).find(|(_, other)| other == identity);
            if let Some((other, _)) = same {
                self.problem(format!(
                    "nodes `{node}` and `{other}` are the same database, or one is a physical copy of the other; give every node a database of its own (initdb, then pg_dump --schema-only)"
                ));
            }
        }
    }

    fn is_ours(&self, slot: &str) -> bool {
        slot.strip_prefix(&format!("herdsman_{}_to_", self.setup.config.name))
            .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    }

    /// The mesh's publication: with nothing but what every node has; tables come with their columns and triggers.
    pub(super) fn publication(&mut self) {
        let Ok(name) = names::publication(&self.setup.config.name) else { return };
        let untouched = self.setup.config.mode == Mode::Untouched;
        for node in self.order() {
            let Some(found) = self.nodes.get(&node) else { continue };
            let mut wanted = publication::PublicationSpec::of(
                name.clone(),
                crate::install::layout::published()
                    .iter()
                    .filter(|table| !untouched || &*table.name == "heartbeats")
                    .map(|table| publication::TableSpec::whole(&table.schema, &table.name))
                    .collect(),
            );
            // Deletions are rows of their own where triggers write them down.
            wanted.operations.delete = untouched;
            wanted.operations.truncate = untouched;
            let existing = found.publication.as_ref();
            // Of those that are there, all columns and rows.
            for table in existing.map(|there| there.spec.tables.as_slice()).unwrap_or_default() {
                let whole = publication::TableSpec::whole(&table.schema, &table.name);
                if !wanted.tables.contains(&whole) {
                    wanted.tables.push(whole);
                }
            }
            let mut sql = publication::plan(existing, &wanted);
            // From 18 on, an UPDATE of a table whose whole row identifies it fails where not all of the row is published.
            if found.facts.version >= GENERATED_SINCE && !found.publishes_generated {
                sql.push(format!(
                    "ALTER PUBLICATION {} SET (publish_generated_columns = stored)",
                    quote_identifier(name.as_str())
                ));
            }
            if !sql.is_empty() {
                let what = format!("publish what the mesh reads, as {name}");
                self.plan.steps.push(crate::install::Step::new(&node, what, sql));
            }
        }
    }
}

fn publication_name(mesh: &str) -> String {
    names::publication(mesh).map(|name| quote_identifier(name.as_str())).unwrap_or_default()
}
