//! What is known of each database's functions, and learning it: which of them only read.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use herdsman::classify::{CATALOGUE_SQL, Classifier, Functions};
use herdsman::policy::Want;
use tokio::time::{sleep, timeout};

use crate::checkout::{self, Need};
use crate::config::CONSOLES;
use crate::herd::Causal;
use crate::pool::PoolSet;
use crate::settings::Settings;
use crate::shared::Shared;

/// How often a catalogue is read again. A function that is new counts as writing until then; one that has become volatile
/// is refused by the reader's server, and its statement then goes to the writer.
const AGAIN: Duration = Duration::from_secs(60);
/// How soon databases that are new are looked for.
const LOOK: Duration = Duration::from_millis(500);
/// After so many looks what failed is tried again.
const RETRY: u128 = 6;
/// How long reading one may take.
const LIMIT: Duration = Duration::from_secs(10);

/// A classifier for each database on the servers.
#[derive(Debug, Default)]
pub(crate) struct Classifiers {
    by_database: Mutex<HashMap<String, Arc<Classifier>>>,
}

impl Classifiers {
    /// That of a database, by its name on the servers.
    pub(crate) fn of(&self, dbname: &str) -> Arc<Classifier> {
        let mut known = self.by_database.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(dbname) {
            Some(classifier) => Arc::clone(classifier),
            None => Arc::clone(known.entry(dbname.to_owned()).or_default()),
        }
    }
}

/// Keeps what is known current, for every database that clients use, until the gateway stops.
pub(crate) async fn learn(shared: Arc<Shared>) {
    let stop = shared.draining.clone();
    let work = async {
        let mut tried = BTreeSet::new();
        let mut failed = BTreeSet::new();
        let mut rounds = AGAIN.as_millis() / LOOK.as_millis();
        loop {
            for pools in shared.pools.all() {
                let dbname = pools.rules.load().dbname.clone();
                let console = CONSOLES.contains(&&*pools.database);
                // Once a round, or a little later again where it failed.
                if console || !tried.insert(dbname.clone()) {
                    continue;
                }
                match timeout(LIMIT, read(&shared, &pools)).await {
                    Ok(Ok(functions)) => {
                        shared.classifiers.of(&dbname).learn(functions);
                    }
                    Ok(Err(error)) => {
                        failed.insert(dbname.clone());
                        tracing::debug!(
                            database = dbname,
                            error,
                            "the catalogue of functions could not be read"
                        );
                    }
                    Err(_) => {
                        failed.insert(dbname.clone());
                        tracing::debug!(
                            database = dbname,
                            "reading the catalogue of functions took too long"
                        );
                    }
                }
            }
            sleep(LOOK).await;
            rounds = rounds.saturating_sub(1);
            if rounds.is_multiple_of(RETRY) {
                tried.retain(|dbname| !failed.contains(dbname));
                failed.clear();
            }
            if rounds == 0 {
                rounds = AGAIN.as_millis() / LOOK.as_millis();
                tried.clear();
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

async fn read(shared: &Arc<Shared>, pools: &Arc<PoolSet>) -> Result<Functions, String> {
    let mut causal = Causal::default();
    let settings = Settings::default();
    let mut need = Need {
        want: Want::Read,
        target: None,
        causal: &mut causal,
        settings: &settings,
        tried: &[],
        worker: 0,
        last: None,
    };
    let at_once = checkout::at_once(shared, pools, &pools.rules.load_full(), &mut need)
        .map_err(|error| error.message)?;
    let mut lease = match at_once {
        Some(lease) => lease,
        None => {
            checkout::wait_for_us(shared, pools, &mut need).await.map_err(|error| error.message)?
        }
    };
    lease.server.apply(&settings).await.map_err(|error| error.to_string())?;
    let answer = lease.server.query(&one_row()).await.map_err(|error| error.to_string())?;
    lease.give_back(0, shared.clock.now());
    let text = answer.into_iter().next().flatten().unwrap_or_default();
    let rows = text.lines().filter_map(|line| {
        let (safe, name) = line.split_once(' ')?;
        Some((name.to_owned(), safe == "true"))
    });
    Ok(Functions::from_catalogue(rows))
}

/// The catalogue as one value: a line for each name. Names with a line break in them are left out, and so count as writing.
fn one_row() -> String {
    let mut sql = String::new();
    let _fits = write!(
        sql,
        "SELECT pg_catalog.string_agg(f.safe::pg_catalog.text || ' ' || f.name, pg_catalog.chr(10)) \
         FROM ({CATALOGUE_SQL}) AS f(name, safe) \
         WHERE pg_catalog.strpos(f.name, pg_catalog.chr(10)) = 0"
    );
    sql
}
