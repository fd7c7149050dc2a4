//! The connection that users are looked up over: made when it is needed, to the best node there is, and kept.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use herdsman_node::{Conninfo, Tls, connect, describe};
use secrecy::SecretString;
use tokio_postgres::Client;

use crate::config::AuthQuery;

/// Where users may be looked up, now; the best first.
pub(crate) type Places = Box<dyn Fn() -> Vec<Arc<Conninfo>> + Send + Sync>;

/// For connecting and for the query, each, on each node: less than a client's time for its login even with two nodes down.
const LIMIT: Duration = Duration::from_secs(3);

/// A user as a server has it.
pub(super) struct Row {
    pub(super) name: String,
    /// `None`: there is no password, or it has run out.
    pub(super) verifier: Option<SecretString>,
}

/// The connection.
pub(super) struct Link {
    places: Places,
    /// To which endpoint it is, and as whom.
    open: Mutex<Option<(Key, Arc<Client>)>>,
    /// One connects at a time.
    connecting: tokio::sync::Mutex<()>,
}

/// Endpoint, user, database.
type Key = (String, String, String);

impl Link {
    pub(super) fn new(places: Places) -> Self {
        Self { places, open: Mutex::default(), connecting: tokio::sync::Mutex::default() }
    }

    /// Asks the nodes in their order until one answers.
    ///
    /// # Errors
    /// None did; what the last one said.
    pub(super) async fn ask(
        &self,
        name: &str,
        query: &AuthQuery,
        password: Option<SecretString>,
    ) -> Result<Option<Row>, String> {
        let mut problem = "no node can be asked".to_owned();
        for place in (self.places)() {
            let info = login(&place, query, password.clone());
            // Twice: a connection that was kept may have died unnoticed.
            for _ in 0..2 {
                let (client, kept) = match self.client(&info).await {
                    Ok(client) => client,
                    Err(error) => {
                        problem = error;
                        break;
                    }
                };
                match tokio::time::timeout(LIMIT, row(&client, &query.query, name)).await {
                    Ok(Ok(row)) => return Ok(row),
                    Ok(Err(error)) => problem = format!("{}: {error}", info.endpoint()),
                    Err(_) => problem = format!("{}: no answer within {LIMIT:?}", info.endpoint()),
                }
                self.forget(&client);
                if !kept {
                    break;
                }
            }
        }
        Err(problem)
    }

    /// Whether there is a node to ask.
    pub(super) fn has_places(&self) -> bool {
        !(self.places)().is_empty()
    }

    /// Has the next question asked over a new connection.
    pub(super) fn close(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The connection to a node, and whether it was there already.
    async fn client(&self, info: &Conninfo) -> Result<(Arc<Client>, bool), String> {
        let key = (info.endpoint(), info.user.clone(), info.dbname.clone());
        let _turn = self.connecting.lock().await;
        if let Some(client) = self.kept(&key) {
            return Ok((client, true));
        }
        let tls = Tls::new(info).map_err(|error| error.to_string())?;
        let connection = connect(info, &tls, LIMIT).await.map_err(|error| error.to_string())?;
        let (client, driving) = connection.split(|_| {});
        tokio::spawn(driving);
        let client = Arc::new(client);
        let opened = Some((key, Arc::clone(&client)));
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = opened;
        Ok((client, false))
    }

    fn kept(&self, key: &Key) -> Option<Arc<Client>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, client) = open.as_ref()?;
        (of == key && !client.is_closed()).then(|| Arc::clone(client))
    }

    fn forget(&self, client: &Arc<Client>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.as_ref().is_some_and(|(_, kept)| Arc::ptr_eq(kept, client)) {
            *open = None;
        }
    }
}

/// Who asks, with nothing on the way that could put another function or table in place of the one meant: settings of the
/// role and the database give way to those of the connection (CVE-2025-12819).
fn login(place: &Conninfo, query: &AuthQuery, password: Option<SecretString>) -> Conninfo {
    let mut info = place.for_login(Some(&query.user), password, Some(&query.database));
    "herdsman auth_query".clone_into(&mut info.application_name);
    let options = info.options.trim().to_owned();
    info.options = format!(
        "{options} -c search_path=pg_catalog -c default_transaction_read_only=on -c statement_timeout={}",
        LIMIT.as_millis()
    )
    .trim()
    .to_owned();
    info
}

async fn row(client: &Client, query: &str, name: &str) -> Result<Option<Row>, String> {
    let rows = client.query(query, &[&name]).await.map_err(|error| describe(&error))?;
    let Some(row) = rows.first() else { return Ok(None) };
    let text = |column: usize| {
        row.try_get::<_, Option<String>>(column)
            .map_err(|_| format!("column {} of the auth_query is no text", column + 1))
    };
    let Some(name) = text(0)? else { return Ok(None) };
    Ok(Some(Row { name, verifier: text(1)?.map(SecretString::from) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_has_a_search_path_of_its_own() {
        let place: Conninfo =
            "host=a user=mon password=m options='-c search_path=evil'".parse().unwrap();
        let query = r#"{"user": "asker", "database": "app"}"#;
        let query = serde_json::from_str(query).unwrap();
        let info = login(&place, &query, Some("p".into()));
        assert_eq!((info.user.as_str(), info.dbname.as_str()), ("asker", "app"));
        let last = info.options.rfind("search_path=").and_then(|at| info.options.get(at..));
        assert!(
            last.is_some_and(|text| text.starts_with("search_path=pg_catalog ")),
            "{}",
            info.options
        );
    }
}
