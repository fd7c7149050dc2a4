//! Learns from the database which functions only read.

use std::sync::Weak;
use std::time::Duration;

use sqlx::Row;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::ReplicaSet;
use crate::classify::{CATALOGUE_SQL, Functions};
use crate::operation::{FetchAll, Routed};
use crate::policy::Want;
use crate::set::{Hand, Inner};

/// How often the catalogue is read again. A function that is new counts as writing until then; one that has become
/// volatile is refused by the reader's server, and its statement then goes to the writer.
const AGAIN: Duration = Duration::from_secs(60);
/// How soon it is tried again after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// Keeps the classifier's knowledge of functions current until `stop`, or until the set is gone.
pub(crate) async fn learn(set: Weak<Inner>, stop: CancellationToken) {
    let work = async {
        loop {
            let Some(inner) = set.upgrade() else { return };
            let set = ReplicaSet { inner, hand: Hand::default() };
            let pause = match read(&set).await {
                Ok(functions) => {
                    set.inner.classifier.learn(functions);
                    AGAIN
                }
                Err(error) => {
                    tracing::debug!(%error, "the catalogue of functions could not be read");
                    RETRY
                }
            };
            drop(set);
            sleep(pause.mul_f64(0.75 + 0.5 * fastrand::f64())).await;
        }
    };
    stop.run_until_cancelled(work).await;
}

async fn read(set: &ReplicaSet) -> Result<Functions, sqlx::Error> {
    let query = Routed::new(sqlx::query(CATALOGUE_SQL))?;
    let rows = set.ask(&FetchAll, query, set.attempt(Want::Read)).await?;
    let entries: Result<Vec<(String, bool)>, sqlx::Error> =
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect();
    Ok(Functions::from_catalogue(entries?))
}
