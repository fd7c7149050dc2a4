//! What members hold of keys, whole, and which of it is to be everywhere. The choice is pure.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::types::ToSql;

use super::sql::Commands;
use crate::error::MeshError;
use crate::resolve::{Verdict, Version, join};
use crate::stamp::{NodeId, Stamp};
use crate::table::Table;
use crate::verify::compare::Key;
use crate::verify::scan::{stamp, transposed};
use crate::verify::session::Seat;

const READ: &str = "read versions of rows that differ";

/// What one member holds of one key.
#[derive(Clone, Debug, Default)]
pub(super) struct Copies {
    /// Its row.
    pub(super) row: Option<Copy>,
    /// Its tombstone: its version and the one it deleted.
    pub(super) tombstone: Option<(Stamp, Stamp)>,
    /// The last TRUNCATE it knows.
    pub(super) truncated: Option<Stamp>,
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) stamp: Stamp,
    /// Its written columns as text, in the order of the first member's table.
    pub(super) values: Vec<Option<String>>,
}

/// What is to be everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) stamp: Stamp,
    /// What a tombstone deleted.
    pub(super) seen: Stamp,
    /// The place of a member that holds the row; `None`: the key is deleted.
    pub(super) row: Option<usize>,
    /// Places of the members that do not hold it.
    pub(super) targets: BTreeSet<usize>,
}

/// Joins what members hold of one key. `None` where there is nothing to do.
pub(super) fn choose(ids: &[NodeId], members: &[&Copies]) -> Option<Choice> {
    let mut best: Option<Version<()>> = None;
    let mut take = |version: Version<()>| {
        if join(best.as_ref(), &version) == Verdict::Apply {
            best = Some(version);
        }
    };
    for copies in members {
        if let Some(row) = &copies.row {
            take(Version { stamp: row.stamp, seen: Stamp::NONE, row: Some(()) });
        }
        if let Some((stamp, seen)) = copies.tombstone {
            take(Version { stamp, seen, row: None });
        }
        if let Some(stamp) = copies.truncated {
            take(Version { stamp, seen: Stamp::NONE, row: None });
        }
    }
    let best = best?;
    let row = best.row.is_some().then(|| holder(ids, members, best.stamp)).flatten();
    let chosen = row.and_then(|place| members.get(place)?.row.as_ref());
    let lacks = |copies: &Copies| match chosen {
        Some(row) => copies.row.as_ref() != Some(row),
        None => {
            let knows = [copies.tombstone.map(|(stamp, _)| stamp), copies.truncated];
            copies.row.is_some() || knows.into_iter().flatten().max() < Some(best.stamp)
        }
    };
    let targets: BTreeSet<usize> = members
        .iter()
        .enumerate()
        .filter(|(_, copies)| lacks(copies))
        .map(|(place, _)| place)
        .collect();
    let choice = Choice { stamp: best.stamp, seen: best.seen, row, targets };
    (!choice.targets.is_empty()).then_some(choice)
}

/// The place of a member that holds the row of this version: the row that most hold, then that of its writer, then that of
/// the first.
fn holder(ids: &[NodeId], members: &[&Copies], stamp: Stamp) -> Option<usize> {
    let holders: Vec<(usize, &Copy)> = members
        .iter()
        .enumerate()
        .filter_map(|(place, copies)| Some((place, copies.row.as_ref()?)))
        .filter(|(_, row)| row.stamp == stamp)
        .collect();
    let mut votes: BTreeMap<&[Option<String>], usize> = BTreeMap::new();
    for (_, row) in &holders {
        *votes.entry(&row.values).or_default() += 1;
    }
    let rank = |(place, row): &(usize, &Copy)| {
        let votes = votes.get(row.values.as_slice()).copied().unwrap_or(0);
        (votes, ids.get(*place) == Some(&stamp.node), usize::MAX - place)
    };
    holders.iter().max_by_key(|holder| rank(holder)).map(|(place, _)| *place)
}

/// What a member holds of these keys.
pub(super) async fn read(
    seat: &Seat,
    table: &Table,
    keys: &[&Key],
) -> Result<Vec<Copies>, MeshError> {
    let session = &seat.session;
    // The first member's table also here: by name, so that the order of columns does not matter.
    let commands = Commands::of(table);
    session.run(READ, "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
    let truncated = truncated(seat, &commands).await?;
    let mut held = vec![Copies { truncated, ..Copies::default() }; keys.len()];
    let columns = transposed(keys, table.key.len());
    let parameters: Vec<&(dyn ToSql + Sync)> =
        columns.iter().map(|column| column as &(dyn ToSql + Sync)).collect();
    for row in session.rows(READ, &commands.read, &parameters).await? {
        let place: i64 = session.get(READ, &row, 0)?;
        let place = usize::try_from(place).unwrap_or(0).saturating_sub(1);
        let Some(copies) = held.get_mut(place) else { continue };
        if let Some(stamp) = stamp(seat, &row, 1)? {
            let values = (7..row.len()).map(|at| session.get(READ, &row, at));
            copies.row = Some(Copy { stamp, values: values.collect::<Result<_, _>>()? });
        }
        if let Some(gone) = stamp(seat, &row, 3)? {
            copies.tombstone = Some((gone, stamp(seat, &row, 5)?.unwrap_or(Stamp::NONE)));
        }
    }
    session.run(READ, "COMMIT").await?;
    Ok(held)
}

/// The last TRUNCATE of a table that a member knows.
pub(super) async fn truncated(
    seat: &Seat,
    commands: &Commands,
) -> Result<Option<Stamp>, MeshError> {
    let rows = seat.session.rows(READ, &commands.last_truncate, &[]).await?;
    Ok(rows.first().map(|row| stamp(seat, row, 0)).transpose()?.flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

    fn at(micros: i64, node: i16) -> Stamp {
        Stamp::new(micros, NodeId(node))
    }

    fn row(stamp: Stamp, value: &str) -> Copies {
        Copies {
            row: Some(Copy { stamp, values: vec![Some(value.to_owned())] }),
            ..Copies::default()
        }
    }

    fn gone(stamp: Stamp) -> Copies {
        Copies { tombstone: Some((stamp, at(1, 1))), ..Copies::default() }
    }

    fn chosen(members: &[Copies]) -> Option<(Stamp, Option<usize>, Vec<usize>)> {
        let choice = choose(&IDS, &members.iter().collect::<Vec<_>>())?;
        Some((choice.stamp, choice.row, choice.targets.into_iter().collect()))
    }

    #[test]
    fn the_greatest_version_goes_where_it_is_not() {
        let cases = [
            (
                vec![row(at(5, 1), "a"), row(at(6, 2), "b"), Copies::default()],
                Some((at(6, 2), Some(1), vec![0, 2])),
            ),
            (
                vec![row(at(5, 1), "a"), gone(at(6, 2)), Copies::default()],
                Some((at(6, 2), None, vec![0, 2])),
            ),
            (
                vec![row(at(7, 1), "a"), gone(at(6, 2)), gone(at(6, 2))],
                Some((at(7, 1), Some(0), vec![1, 2])),
            ),
            (
                vec![row(at(7, 1), "a"), gone(at(7, 1)), Copies::default()],
                Some((at(7, 1), Some(0), vec![1, 2])),
            ),
            (vec![row(at(7, 1), "a"), row(at(7, 1), "a"), row(at(7, 1), "a")], None),
            (vec![Copies::default(), Copies::default(), Copies::default()], None),
        ];
        for (members, expected) in cases {
            assert_eq!(chosen(&members), expected, "{members:?}");
        }
    }

    #[test]
    fn a_truncate_deletes_what_is_older_only() {
        let emptied = Copies { truncated: Some(at(6, 2)), ..Copies::default() };
        let members = [row(at(5, 1), "a"), emptied.clone(), emptied.clone()];
        assert_eq!(chosen(&members), Some((at(6, 2), None, vec![0])));
        let members = [row(at(8, 1), "a"), emptied.clone(), emptied];
        assert_eq!(chosen(&members), Some((at(8, 1), Some(0), vec![1, 2])));
    }

    #[test]
    fn of_two_rows_of_one_version_that_of_the_most_members_is_right_then_the_writers() {
        let members = [row(at(5, 1), "forged"), row(at(5, 1), "a"), row(at(5, 1), "a")];
        assert_eq!(chosen(&members), Some((at(5, 1), Some(1), vec![0])));
        let members = [row(at(5, 2), "a"), row(at(5, 2), "b"), Copies::default()];
        assert_eq!(chosen(&members), Some((at(5, 2), Some(1), vec![0, 2])));
    }
}
