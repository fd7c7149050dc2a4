//! Rows that several members had before the mesh, put together where nothing is added to tables.
//!
//! Copying gives each member the rows of keys that it lacks. What is left are keys of which members have rows that are not
//! the same: the greatest version is put where it is not, as everywhere. That is the row that was committed last, as far as
//! the servers still know; where they do not, each row is from before all versions and of the member that has it, so that
//! the one of the member with the greatest number stays.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::keys;
use crate::error::MeshError;
use crate::setup::Setup;
use crate::table::TableName;
use crate::verify::compare::{Key, differing};
use crate::verify::scan::{self, Pages};
use crate::verify::{MOST, session};

/// Puts the greatest version of every key of these tables where it is not.
pub(super) async fn merge(
    setup: &Arc<Setup>,
    tables: &BTreeSet<&TableName>,
) -> Result<(), MeshError> {
    let seats = session::active(setup).await?;
    let Some(first) = seats.first() else { return Ok(()) };
    for table in first.tables.iter().filter(|table| tables.contains(&table.name)) {
        let (sums, _) = scan::sums(&seats, table, &Pages::default()).await?;
        for buckets in differing(&sums, MOST) {
            let suspects: Vec<Key> =
                scan::suspects(&seats, table, &buckets).await?.into_keys().collect();
            let healed = keys(&seats, table, &suspects.iter().collect::<Vec<_>>()).await?;
            if healed.clashes > 0 {
                return Err(MeshError::refused(
                    format!(
                        "table {}: {} rows could not be put together with the others', as rows with other keys have their values of a unique constraint",
                        table.name, healed.clashes
                    ),
                    "change or delete them on one of the nodes, and run `herdsman mesh up --merge` again",
                ));
            }
        }
    }
    Ok(())
}
