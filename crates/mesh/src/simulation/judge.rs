//! Conflicts are found, recorded and answered.

use super::apply::{Arrival, Snapshot};
use super::history::Id;
use super::node::{Gone, Record, Row, Truncate, UNIQUE, id, place, spots, table};
use super::{Answers, World};
use crate::resolve::answer::{Answer, Policy, answer};
use crate::resolve::{Conflict, ConflictKind, Verdict, Version, join, knew, met, truncated_unseen};
use crate::stamp::Stamp;

/// The greatest of what is held of a key.
enum Held {
    Nothing,
    Row(Row),
    Gone(Gone),
    Truncate(Truncate),
}

impl World {
    fn held(&self, t: usize, spot: usize, view: &Snapshot) -> Held {
        let state = &self.nodes[t].state;
        let row = state.rows[spot].or(state.evicted[spot]);
        let mut held = row.map_or(Held::Nothing, Held::Row);
        let mut stamp = row.map(|row| row.stamp);
        if let Some(gone) = view.gone[spot].filter(|gone| Some(gone.stamp) > stamp) {
            (stamp, held) = (Some(gone.stamp), Held::Gone(gone));
        }
        let truncate = view.truncates[table(spot)].as_ref();
        if let Some(truncate) = truncate.filter(|truncate| Some(truncate.stamp) > stamp) {
            held = Held::Truncate(truncate.clone());
        }
        held
    }

    /// Records a conflict of what is held and what arrives, and complains where there is one and it is not recorded.
    pub(super) fn judge(&mut self, t: usize, spot: usize, arrival: &Arrival, view: &Snapshot) {
        let arriving = &arrival.version;
        let own: &[Stamp] = arrival.replaced.as_slice();
        let (held, held_id) = match self.held(t, spot, view) {
            Held::Nothing => return,
            Held::Truncate(truncate) => return self.judge_emptied(t, arrival, &truncate),
            Held::Row(row) => {
                (Version { stamp: row.stamp, seen: Stamp::NONE, row: Some(row) }, row.id)
            }
            Held::Gone(gone) => {
                (Version { stamp: gone.stamp, seen: gone.seen, row: None }, gone.id)
            }
        };
        let mut replaced = self.nodes[t].recent.replaced(&spot, held.stamp).to_vec();
        if replaced.is_empty() && held.row.is_none() {
            replaced.push(held.seen);
        }
        let conflict = if self.rules.exact {
            met(&held, &replaced, arriving, own)
        } else {
            as_the_sheet_had_it(&held, &replaced, arriving)
        };
        let applies = join(Some(&held), arriving) == Verdict::Apply && held.stamp != arriving.stamp;
        if let Some(conflict) = conflict {
            let (winner, loser) =
                if applies { (arrival.id, held_id) } else { (held_id, arrival.id) };
            self.record(t, Some(winner), Some(loser), conflict.sure, false);
            self.answer(t, &conflict, &held, &replaced, arriving, spot);
        } else if applies && held.row.is_none() && held.stamp.node == id(t) {
            // Rows are accounted for in the end. A deletion may give way to another, or to a row of a later life.
            let later_life = arriving.seen == Stamp::NONE
                || !self.history.descends(held_id, self.history.birth(arrival.id));
            let known = self.history.knew(arrival.id, held_id);
            if arriving.row.is_some() && !later_life && !known {
                self.complain(format!(
                    "n{} takes {arrival:?} for its own {held:?}, which the writer did not know, without a record",
                    t + 1
                ));
            }
        }
    }

    fn judge_emptied(&mut self, t: usize, arrival: &Arrival, truncate: &Truncate) {
        let arriving = &arrival.version;
        if arriving.row.is_none() {
            return;
        }
        let known = truncate.knew.get(place(arriving.stamp.node)).copied();
        if truncated_unseen(truncate.stamp, known, arriving.stamp) {
            self.record(t, None, Some(arrival.id), false, false);
        } else if arriving.stamp < truncate.stamp {
            self.blurred.push(arrival.id);
        }
        let updated = arrival.replaced.is_some_and(|seen| seen != Stamp::NONE);
        if arriving.stamp > truncate.stamp
            && updated
            && knew(arriving.stamp, arrival.replaced.as_slice(), truncate.stamp) != Some(true)
        {
            self.record(t, Some(arrival.id), None, true, false);
        }
    }

    pub(super) fn record(
        &mut self,
        t: usize,
        winner: Option<Id>,
        loser: Option<Id>,
        sure: bool,
        unique: bool,
    ) {
        let node = &mut self.nodes[t];
        node.records.truncate(node.state.records);
        node.records.push(Record { winner, loser, sure, unique });
        node.state.records += 1;
    }

    fn answer(
        &mut self,
        t: usize,
        conflict: &Conflict,
        held: &Version<Row>,
        replaced: &[Stamp],
        arriving: &Version<Row>,
        spot: usize,
    ) {
        let mine = held.stamp.node == id(t) && conflict.verdict == Verdict::Apply;
        if !mine || !conflict.sure || spot >= spots(UNIQUE).start {
            return;
        }
        let policy = match self.policy {
            Answers::None => return,
            Answers::Priority => Policy::NodePriority(&[]),
            Answers::First => Policy::FirstInsertWins,
        };
        let order: Vec<_> = (0..self.nodes.len()).map(id).collect();
        let policy = match policy {
            Policy::NodePriority(_) => Policy::NodePriority(&order),
            other => other,
        };
        let seen = if replaced.is_empty() { held.stamp } else { replaced[0] };
        let held = Version { seen, ..held.clone() };
        match answer(&held, arriving, &policy) {
            Some(Answer::Write(_)) => self.nodes[t].answers.push((spot, arriving.stamp, true)),
            Some(Answer::Delete) => self.nodes[t].answers.push((spot, arriving.stamp, false)),
            None => {}
        }
    }
}

/// The rule that the simulation showed to be wrong: by the order of stamps alone.
fn as_the_sheet_had_it(
    held: &Version<Row>,
    replaced: &[Stamp],
    arriving: &Version<Row>,
) -> Option<Conflict> {
    let verdict = join(Some(held), arriving);
    let deletion_gives_way = held.row.is_none()
        && (arriving.row.is_none() || arriving.seen == Stamp::NONE && held.stamp < arriving.stamp);
    let late = replaced.first().is_some_and(|seen| *seen >= arriving.stamp);
    let unseen = held.stamp > arriving.seen && held.stamp != arriving.stamp;
    (unseen && !late && !deletion_gives_way).then_some(Conflict {
        kind: ConflictKind::UpdateUpdate,
        verdict,
        sure: true,
    })
}
