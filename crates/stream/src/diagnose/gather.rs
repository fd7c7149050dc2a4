//! Asks the server. Reads catalogues and statistics only.

use std::time::Duration;

use herdsman_node::{Conninfo, Tls};
use herdsman_wal::inspect::{self, Session};
use herdsman_wal::{WalError, publication, slot};

use super::{Facts, Report, Wanted, findings};

/// Looks at a server and says what stands in the way. Waits `limit` for the connection and for each answer.
pub async fn diagnose(info: &Conninfo, tls: &Tls, wanted: &Wanted, limit: Duration) -> Report {
    let facts = gather(info, tls, wanted, limit).await;
    Report { findings: findings(wanted, &facts), endpoint: facts.endpoint }
}

/// Asks a server for all that a diagnosis needs. What it does not answer is in [`Facts::unanswered`].
pub async fn gather(info: &Conninfo, tls: &Tls, wanted: &Wanted, limit: Duration) -> Facts {
    let mut facts = Facts {
        endpoint: info.endpoint(),
        unanswered: Vec::new(),
        server: None,
        slots: None,
        publication: None,
        tables: None,
    };
    let mut unanswered = Vec::new();
    match Session::connect(info, tls, limit).await {
        Ok(session) => {
            let mut note = |subject, error: WalError| unanswered.push((subject, error.to_string()));
            facts.server = inspect::inspect(&session).await.map_err(|e| note("server", e)).ok();
            facts.slots = slot::list(&session).await.map_err(|e| note("slots", e)).ok();
            facts.publication = publication::inspect(&session, &wanted.publication)
                .await
                .map_err(|e| note("publication", e))
                .ok()
                .flatten();
            facts.tables =
                publication::list_tables(&session).await.map_err(|e| note("tables", e)).ok();
        }
        Err(error) => unanswered.push(("connection", error.to_string())),
    }
    facts.unanswered = unanswered;
    facts
}
