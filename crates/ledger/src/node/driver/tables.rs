//! What the ledger's tables are, kept for as long as no entry changes one.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::notes;
use crate::{
    Offset,
    node::{
        NodeError,
        dialect::{Dialect, Failure, Session as _},
    },
    table::Catalogue,
};

/// How long a look at what there is to write to is believed where the numbers of what is new tell nothing: they begin anew
/// after four thousand million.
const BELIEVED: Duration = Duration::from_secs(60);

/// What was read last.
#[derive(Default)]
pub(super) struct Tables {
    catalogue: Mutex<Option<(Offset, Arc<Catalogue>)>>,
    known: Mutex<Option<Arc<Known>>>,
}

impl Tables {
    /// The tables as they are since this entry; they are read where that is not known.
    pub(super) async fn of<D: Dialect>(
        &self,
        defined: Offset,
        dialect: &D,
        session: &mut D::Session,
    ) -> Result<Arc<Catalogue>, NodeError> {
        if let Some((of, catalogue)) = &*lock(&self.catalogue)
            && *of == defined
        {
            return Ok(Arc::clone(catalogue));
        }
        let catalogue =
            notes::catalogue(dialect, session).await.map_err(Failure::while_applying)??;
        let catalogue = Arc::new(catalogue);
        *lock(&self.catalogue) = Some((defined, Arc::clone(&catalogue)));
        Ok(catalogue)
    }

    /// What was known last; it may be out of date.
    pub(super) fn known(&self) -> Option<Arc<Known>> {
        lock(&self.known).clone()
    }

    /// What is known as of the transaction that is open, whose place this is.
    pub(super) async fn learn<D: Dialect>(
        &self,
        place: &notes::Place,
        dialect: &D,
        session: &mut D::Session,
    ) -> Result<Arc<Known>, NodeError> {
        let catalogue = self.of(place.defined, dialect, session).await?;
        let mut known = Known {
            defined: place.defined,
            catalogue,
            since: Instant::now(),
            newest: None,
            relations: Vec::new(),
            place: notes::PLACE.to_owned(),
            captured: dialect.captured_at_once().unwrap_or_default().to_owned(),
        };
        if let Some(counts) = dialect.counts() {
            let sql = format!("SELECT {}", counts.newest);
            let newest = session.select(&sql, &[]).await.map_err(Failure::while_applying)?;
            known.newest = newest.into_iter().flatten().flatten().next();
            let found = session.select(counts.relations, &[]).await;
            let found = found.map_err(Failure::while_applying)?;
            let named = found.into_iter().filter_map(|row| <[_; 2]>::try_from(row).ok());
            let (numbers, names): (Vec<String>, Vec<String>) = named
                .map(|[number, name]| (number.unwrap_or_default(), name.unwrap_or_default()))
                .unzip();
            let written = (counts.written)(&numbers);
            known.place = notes::place_and(&[counts.newest, &written]);
            known.captured = known.captured.replacen(" FROM ", &format!(", {written} FROM "), 1);
            known.relations = names;
        }
        let known = Arc::new(known);
        *lock(&self.known) = Some(Arc::clone(&known));
        Ok(known)
    }
}

/// What a client's transaction needs to know, and how it asks.
pub(super) struct Known {
    defined: Offset,
    pub(super) catalogue: Arc<Catalogue>,
    since: Instant,
    /// The newest of what there is to write to.
    newest: Option<String>,
    /// The names of what there is to write to, in the order in which the engine counts.
    pub(super) relations: Vec<String>,
    /// The query for [`notes::Place`], the newest, and what has been written so far.
    pub(super) place: String,
    /// The query for what was captured, and for what has been written.
    pub(super) captured: String,
}

impl Known {
    /// Whether it is what is there: as of the answer to its question for the place.
    pub(super) fn fits(&self, place: &notes::Place, newest: Option<&str>) -> bool {
        self.defined == place.defined
            && self.newest.as_deref() == newest
            && (self.newest.is_none() || self.since.elapsed() < BELIEVED)
    }
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
