//! Asks what the ledger's databases and its log lack.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use futures_util::future::join_all;
use herdsman_ledger::config::{KafkaConfig, LedgerConfig, LogConfig, NodeConfig, PostgresNode};
use herdsman_node::{Conninfo, NodeName, Tls};
use herdsman_wal::WalError;
use herdsman_wal::inspect::Session;
use rustix::fs::{Access, access};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::LIMIT;
use crate::commands::doctor::evidence::{
    LedgerLogSeen, LedgerNodeSeen, LedgerRights, LedgerSeen, LedgerServer, Unreached,
};
use crate::config::Config;

/// May be asked by any role. `has_parameter_privilege` is there from 15 on, where a node has to be anyway.
const RIGHTS: &str = "
select to_jsonb(f)::text from (select r.rolname as role, pg_is_in_recovery() as in_recovery,
  has_parameter_privilege('session_replication_role', 'SET') as may_set, current_schema() as schema,
  coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) as may_create,
  (select coalesce(json_agg(format('%I.%I', n.nspname, c.relname) order by c.relname), '[]')
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = current_schema() and c.relkind = 'r' and not pg_has_role(c.relowner, 'USAGE')
      and (starts_with(c.relname, '_ledger_')
        or exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgname = '_ledger'))) as not_own
  from pg_roles r where r.rolname = current_user) f";

/// Every SQLite file begins so, and so does a log in a file.
const SQLITE: &[u8] = b"SQLite format 3\0";

/// Looks at every database and at the log; none where there is no ledger.
pub(super) async fn look(config: &Config) -> Option<LedgerSeen> {
    let ledger = &config.ledger;
    if ledger.nodes.is_empty() {
        return None;
    }
    let nodes = ledger.nodes.iter().map(|(name, node)| async move {
        let server = match node {
            NodeConfig::Postgres(node) => Some(Box::pin(server(node, &config.nodes)).await),
            NodeConfig::MariaDb(_) | NodeConfig::Sqlite(_) => None,
        };
        let place = match &server {
            // One look at a closed door is enough.
            Some(LedgerServer { rights: Err(unreached), .. }) => Err(unreached.problem.clone()),
            _ => Box::pin(place(ledger, name, node, &config.nodes)).await,
        };
        LedgerNodeSeen { name: name.clone(), config: node.clone(), server, place }
    });
    let (nodes, log) = tokio::join!(join_all(nodes), log(ledger.log.as_ref()));
    Some(LedgerSeen { nodes, log })
}

/// What the role of the ledger may do on a PostgreSQL server.
async fn server(node: &PostgresNode, hosts: &BTreeMap<NodeName, Conninfo>) -> LedgerServer {
    let host = node.host.clone();
    let Some(info) = hosts.get(&host).map(|host| node.login.apply(host)) else {
        // The section was checked: it is there.
        let problem = format!("`hosts` has no node {host}");
        let rights = Err(Unreached { kind: None, endpoint: String::new(), problem });
        return LedgerServer { host, user: String::new(), database: String::new(), rights };
    };
    let rights = Box::pin(rights(&info)).await;
    LedgerServer { host, user: info.user, database: info.dbname, rights }
}

async fn rights(info: &Conninfo) -> Result<Option<LedgerRights>, Unreached> {
    let endpoint = info.endpoint();
    let tls = Tls::new(info).map_err(|error| Unreached {
        kind: None,
        endpoint: endpoint.clone(),
        problem: error.to_string(),
    })?;
    let session = Session::connect(info, &tls, LIMIT).await.map_err(|error| match error {
        WalError::Connect(error) => {
            Unreached { kind: Some(error.kind), endpoint, problem: error.problem }
        }
        error => {
            let kind = Some(herdsman_node::ConnectErrorKind::Other);
            Unreached { kind, endpoint, problem: error.to_string() }
        }
    })?;
    // A server that is too old for the question is named for that.
    let Ok(rows) = session.rows("tell what the ledger's role may do", RIGHTS, &[]).await else {
        return Ok(None);
    };
    let text: Option<String> = rows.first().and_then(|row| row.try_get(0).ok());
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

/// Where it is in the log, as it has written down; nothing where it follows none yet.
async fn place(
    ledger: &LedgerConfig,
    name: &str,
    node: &NodeConfig,
    hosts: &BTreeMap<NodeName, Conninfo>,
) -> Result<Option<herdsman_ledger::node::Place>, String> {
    if let NodeConfig::Sqlite(file) = node {
        usable(&file.path)?;
        // Who only looks makes no files.
        if !file.path.exists() {
            return Ok(None);
        }
    }
    // By itself: what is wrong with another one is said of that.
    let alone = LedgerConfig { nodes: [(name.to_owned(), node.clone())].into(), ..ledger.clone() };
    let mut nodes = alone.nodes(hosts).map_err(|error| error.to_string())?;
    let Some(node) = nodes.pop() else { return Ok(None) };
    match timeout(LIMIT, node.place()).await {
        Ok(place) => place.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {LIMIT:?}")),
    }
}

async fn log(log: Option<&LogConfig>) -> LedgerLogSeen {
    match log {
        // The configuration is refused without.
        None => LedgerLogSeen::default(),
        Some(LogConfig::Embedded(file)) => LedgerLogSeen {
            what: format!("the file {}", file.path.display()),
            places: 1,
            problems: usable(&file.path).err().into_iter().collect(),
        },
        Some(LogConfig::Kafka(kafka)) => brokers(kafka).await,
    }
}

/// Whether brokers answer at all: to ask for the topic is to make it.
async fn brokers(kafka: &KafkaConfig) -> LedgerLogSeen {
    let asked = kafka.brokers.iter().map(|broker| async move {
        match timeout(LIMIT, TcpStream::connect(broker)).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(format!("{broker}: {error}")),
            Err(_) => Some(format!("{broker}: no answer within {LIMIT:?}")),
        }
    });
    LedgerLogSeen {
        what: format!("the topic {} of Kafka", kafka.topic),
        places: kafka.brokers.len(),
        problems: join_all(asked).await.into_iter().flatten().collect(),
    }
}

/// Whether a file can be had as an SQLite database, or made.
fn usable(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    // Other files are made beside it.
    access(folder, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
        format!("nothing can be made in the folder {}: {error}", folder.display())
    })?;
    if !path.exists() {
        return Ok(());
    }
    let opened = std::fs::OpenOptions::new().read(true).write(true).open(path);
    let file = opened.map_err(|error| format!("{shown} cannot be read and written: {error}"))?;
    let mut first = Vec::new();
    file.take(16)
        .read_to_end(&mut first)
        .map_err(|error| format!("{shown} cannot be read: {error}"))?;
    // One that is empty becomes one.
    if first.is_empty() || first == SQLITE {
        return Ok(());
    }
    Err(format!("{shown} is something else than an SQLite file"))
}
