//! Spreading what only some members had received from one that is lost.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join_all;

use super::{Healed, keys};
use crate::error::MeshError;
use crate::names::{self, NODE, STAMP};
use crate::stamp::NodeId;
use crate::table::Table;
use crate::verify::compare::Key;
use crate::verify::scan::stamp;
use crate::verify::session::Seat;
use crate::verify::sql::text_of;

const READ: &str = "look for what a lost member wrote last";

/// What was spread.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Spread {
    /// By table, what it came to.
    pub tables: BTreeMap<String, Healed>,
    /// Keys that only some members had received.
    pub keys: u64,
}

impl Spread {
    /// Adds another.
    pub(crate) fn add(&mut self, more: &Self) {
        self.keys += more.keys;
        for (table, healed) in &more.tables {
            let all = self.tables.entry(table.clone()).or_default();
            all.keys += healed.keys;
            all.same += healed.same;
            all.rows += healed.rows;
            all.deletions += healed.deletions;
            all.clashes += healed.clashes;
        }
    }
}

/// Gives every survivor what any of them has received from `lost`.
///
/// What `lost` stamped before the last sign of life that a survivor has of it has come there whole, so that only what is
/// newer than the oldest of these has to be looked at.
pub(crate) async fn lost(seats: &[Seat], lost: NodeId) -> Result<Spread, MeshError> {
    let since = try_join_all(seats.iter().map(|seat| heartbeat(seat, lost))).await?;
    let since = since.into_iter().min().flatten().unwrap_or(i64::MIN);
    let mut spread = Spread::default();
    let Some(first) = seats.first() else { return Ok(spread) };
    for table in &first.tables {
        let found =
            try_join_all(seats.iter().map(|seat| written(seat, table, lost, since))).await?;
        let all: BTreeSet<&(Key, i64, bool)> = found.iter().flatten().collect();
        // The same version everywhere needs nothing.
        let here_and_there = all
            .into_iter()
            .filter(|version| found.iter().any(|versions| !versions.contains(*version)));
        let differing: BTreeSet<&Key> = here_and_there.map(|(key, _, _)| key).collect();
        let differing: Vec<&Key> = differing.into_iter().collect();
        // Also where no key differs: a TRUNCATE may be all it did.
        let healed = if differing.is_empty() {
            super::truncate_only(seats, table).await?;
            Healed::default()
        } else {
            keys(seats, table, &differing).await?
        };
        spread.keys += healed.keys;
        if healed.keys > 0 || healed.clashes > 0 {
            spread.tables.insert(table.name.to_string(), healed);
        }
    }
    Ok(spread)
}

/// The last sign of life a member has of another; `None` without one.
async fn heartbeat(seat: &Seat, of: NodeId) -> Result<Option<i64>, MeshError> {
    let sql = format!("SELECT heartbeat FROM {} WHERE source = $1", names::own("progress"));
    let rows = seat.session.rows(READ, &sql, &[&of.0]).await?;
    rows.first().map_or(Ok(None), |row| seat.session.get(READ, row, 0))
}

/// Versions by `lost` that a member holds: key, time, whether it is a row.
async fn written(
    seat: &Seat,
    table: &Table,
    lost: NodeId,
    since: i64,
) -> Result<BTreeSet<(Key, i64, bool)>, MeshError> {
    let texts = |alias| -> String {
        let texts: Vec<String> =
            table.key_columns().map(|column| text_of(column, alias, true)).collect();
        texts.join(", ")
    };
    let (time, node) = (table.time_of("t"), table.node_of("t"));
    let sql = format!(
        "SELECT {}, {time}, {node}, true FROM ONLY {} AS t WHERE {time} >= $2 AND {node} = $1
UNION ALL SELECT {}, g.{STAMP}, g.{NODE}, false FROM {} AS g WHERE g.{NODE} = $1 AND g.{STAMP} >= $2",
        texts("t"),
        table.name.quoted(),
        texts("g"),
        names::gone(&table.name)
    );
    let width = table.key.len();
    let mut versions = BTreeSet::new();
    for row in seat.session.rows(READ, &sql, &[&lost.0, &since]).await? {
        let key: Result<Key, MeshError> =
            (0..width).map(|at| seat.session.get(READ, &row, at)).collect();
        let micros = stamp(seat, &row, width)?.map_or(0, |stamp| stamp.micros);
        versions.insert((key?, micros, seat.session.get(READ, &row, width + 2)?));
    }
    Ok(versions)
}
