//! Has the stream diagnosed, and asks what its role may read.

use herdsman_node::{Conninfo, NodeName, Tls};
use herdsman_stream::diagnose::{Wanted, diagnose};
use herdsman_wal::inspect::Session;
use herdsman_wal::{WalError, quote_identifier};
use herdsman_watch::Topology;

use super::LIMIT;
use crate::commands::ask::Told;
use crate::commands::doctor::evidence::{Diagnosed, StreamSeen, Unreadable};
use crate::commands::{primary, stream};
use crate::config::Config;

/// Tables whose rows could be copied, and that our role may not read.
const UNREADABLE: &str = "
select n.nspname::text, c.relname::text, has_schema_privilege(n.oid, 'USAGE'), has_table_privilege(c.oid, 'SELECT')
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and c.relpersistence = 'p' and not c.relispartition
  and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
  and not (has_schema_privilege(n.oid, 'USAGE') and has_table_privilege(c.oid, 'SELECT'))";

/// Looks at the node the stream would read from; none where nothing is streamed.
pub(super) async fn look(config: &Config, told: Option<&Told>) -> Option<StreamSeen> {
    if config.stream.sinks.is_empty() {
        return None;
    }
    let diagnosed = match node(config, told) {
        Ok(node) => on_node(config, &node).await,
        Err(problem) => Err(problem),
    };
    Some(diagnosed.map_or_else(StreamSeen::NoNode, StreamSeen::Diagnosed))
}

async fn on_node(config: &Config, node: &NodeName) -> Result<Diagnosed, String> {
    let wanted = Wanted::of(&config.stream, stream::handled(&config.stream))
        .map_err(|error| error.to_string())?;
    let nodes = config.stream.nodes(&config.nodes);
    let info = nodes.get(node).ok_or_else(|| format!("`{node}` is not in `hosts`"))?;
    let tls = Tls::new(info).map_err(|error| format!("{node}: {error}"))?;
    let (report, unreadable) = tokio::join!(
        Box::pin(diagnose(info, &tls, &wanted, LIMIT)),
        Box::pin(unreadable(info, &tls, &wanted)),
    );
    let (node, role) = (node.clone(), info.user.clone());
    // Why it cannot be asked is in the report.
    Ok(Diagnosed { node, role, report, unreadable: unreadable.unwrap_or_default() })
}

async fn unreadable(info: &Conninfo, tls: &Tls, wanted: &Wanted) -> Result<Unreadable, WalError> {
    let session = Session::connect(info, tls, LIMIT).await?;
    let mut unreadable = Unreadable::default();
    for row in session.rows("tell what may be read", UNREADABLE, &[]).await? {
        let text = |column: usize| row.try_get::<_, String>(column).unwrap_or_default();
        let may = |column: usize| row.try_get::<_, bool>(column).unwrap_or(true);
        let (schema, name) = (text(0), text(1));
        if !wanted.tables.iter().any(|glob| glob.matches(&schema, &name))
            || wanted.exclude.iter().any(|glob| glob.matches(&schema, &name))
        {
            continue;
        }
        if !may(2) {
            unreadable.schemas.insert(quote_identifier(&schema));
        }
        if !may(3) {
            let table = format!("{}.{}", quote_identifier(&schema), quote_identifier(&name));
            unreadable.tables.insert(table);
        }
    }
    Ok(unreadable)
}

/// The node it would read from: the one that is named, the only one, or the primary.
fn node(config: &Config, told: Option<&Told>) -> Result<NodeName, String> {
    if let Some(node) = &config.stream.node {
        return Ok(node.clone());
    }
    let mut nodes = config.nodes.keys();
    if let (Some(only), None) = (nodes.next(), nodes.next()) {
        return Ok(only.clone());
    }
    let none = Topology::default();
    let (topology, groups) =
        told.map_or((&none, &config.groups), |told| (&told.topology, &told.groups));
    primary::answer(topology, groups, None).cloned().map_err(|failed| failed.message)
}
