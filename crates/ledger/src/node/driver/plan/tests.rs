use fastrand::Rng;

use super::*;
use crate::{ChainHash, Kind, replica::Outcome, table::Column};

/// `(id bigint primary key, name bigint unique null, value bigint)`.
fn table() -> Table {
    let column = |name: &str| Column { name: name.to_owned(), kind: Kind::Int64, nullable: true };
    Table {
        name: "taken".to_owned(),
        columns: ["id", "name", "value"].map(column).into(),
        key: vec![0],
        uniques: vec![vec![1]],
        references: Vec::new(),
    }
}

fn catalogue() -> Catalogue {
    Catalogue([("taken".to_owned(), table())].into())
}

type Rows = BTreeMap<Value, Vec<Value>>;

/// What a database says to a statement that does not fit.
#[derive(Debug)]
struct Refused;

/// A database with the table: each row is checked as it comes.
#[derive(Clone, Debug, Default, PartialEq)]
struct Database(Rows);

impl Database {
    fn delete(&mut self, row: &[Value]) -> Result<(), Refused> {
        if self.0.get(&row[0]).map(Vec::as_slice) != Some(row) {
            return Err(Refused);
        }
        self.0.remove(&row[0]);
        Ok(())
    }

    fn insert(&mut self, row: &[Value]) -> Result<(), Refused> {
        let taken = |it: &Vec<Value>| !row[1].is_null() && it[1] == row[1];
        if self.0.contains_key(&row[0]) || self.0.values().any(taken) {
            return Err(Refused);
        }
        self.0.insert(row[0].clone(), row.to_vec());
        Ok(())
    }

    /// A run, in the order of its statements.
    fn run(&mut self, run: &[Change<'_>]) -> Result<(), Refused> {
        let Phases { gone, changed, new } = phases(run);
        gone.iter().try_for_each(|(_, (_, row))| self.delete(row))?;
        for (_, (_, before), after) in changed {
            self.delete(before)?;
            self.insert(after)?;
        }
        new.values().flat_map(|(_, rows)| rows).try_for_each(|(_, row)| self.insert(row))
    }
}

/// Entries as a log has them: each fits what those before it left.
fn entries(rng: &mut Rng, count: u64) -> Vec<Step> {
    let mut now = Rows::new();
    let mut steps = Vec::new();
    for at in 1..=count {
        let before = now.clone();
        let mut ids: Vec<i64> = (0..8).collect();
        rng.shuffle(&mut ids);
        for id in ids.into_iter().take(rng.usize(1..3)) {
            let key = Value::Int(id);
            let old = now.remove(&key);
            if old.is_some() && rng.u8(..3) == 0 {
                continue;
            }
            let taken = |name: &Value| now.values().any(|row| row[1] == *name);
            let name = Some(Value::Int(rng.i64(..4))).filter(|it| !taken(it));
            let name = match old {
                Some(old) if rng.bool() => old[1].clone(),
                _ => name.unwrap_or(Value::Null),
            };
            now.insert(key.clone(), vec![key, name, Value::Int(rng.i64(..))]);
        }
        let keys: std::collections::BTreeSet<&Value> = before.keys().chain(now.keys()).collect();
        let change = |key: &Value| RowChange {
            table: "taken".to_owned(),
            before: before.get(key).cloned(),
            after: now.get(key).cloned(),
        };
        let rows = keys.into_iter().map(change).filter(|it| it.before != it.after).collect();
        steps.push(step(at, Act::Rows(rows)));
    }
    steps
}

fn step(at: u64, act: Act) -> Step {
    let outcome = Outcome::Committed;
    Step { at: Offset(at), hash: ChainHash::default(), attempt: None, outcome, act }
}

/// Whether these entries in runs leave what they leave one by one, and how many runs there were.
fn alike(
    steps: &[Step],
    keys: impl Copy + for<'s> Fn(&Change<'s>) -> Vec<Key<'s>>,
) -> Result<usize, String> {
    let catalogue = catalogue();
    let mut one_by_one = Database::default();
    for step in steps {
        for run in runs_by(std::slice::from_ref(step), &catalogue, keys).unwrap() {
            one_by_one.run(&run).map_err(|_| format!("entry {} alone", step.at))?;
        }
    }
    let mut together = Database::default();
    let runs = runs_by(steps, &catalogue, keys).unwrap();
    for run in &runs {
        together.run(run).map_err(|_| "a run does not fit".to_owned())?;
    }
    if together == one_by_one { Ok(runs.len()) } else { Err("rows differ".to_owned()) }
}

#[test]
fn entries_in_runs_leave_what_they_leave_one_by_one() {
    let (mut runs, mut all) = (0, 0);
    for seed in 0..3000 {
        let steps = entries(&mut Rng::with_seed(seed), 12);
        runs += alike(&steps, keys).unwrap_or_else(|why| panic!("seed {seed}: {why}: {steps:?}"));
        all += steps.len();
    }
    assert!(runs < all, "no two entries ever shared a run");
}

/// Negative control.
#[test]
fn rows_that_change_twice_in_a_run_are_found_out() {
    fn none<'s>(_: &Change<'s>) -> Vec<Key<'s>> {
        Vec::new()
    }
    let wrong = |seed| alike(&entries(&mut Rng::with_seed(seed), 12), none).is_err();
    assert!((0..100).any(wrong));
}

/// Negative control: that first goes what goes matters, too.
#[test]
fn new_rows_that_come_before_what_goes_are_found_out() {
    let wrong = |seed| {
        let (steps, catalogue) = (entries(&mut Rng::with_seed(seed), 12), catalogue());
        let mut database = Database::default();
        let mut refused = false;
        for run in runs(&steps, &catalogue).unwrap() {
            let Phases { new, .. } = phases(&run);
            let mut hasty = database.clone();
            let mut rows = new.values().flat_map(|(_, rows)| rows);
            refused |= rows.any(|(_, row)| hasty.insert(row).is_err());
            database.run(&run).unwrap();
        }
        refused
    };
    assert!((0..100).any(wrong));
}

#[test]
fn a_table_that_is_not_there_and_a_row_of_another_length_are_divergence() {
    let of = |table: &str, row: Vec<Value>| {
        let change = RowChange { table: table.to_owned(), before: None, after: Some(row) };
        let steps = [step(7, Act::Rows(vec![change]))];
        runs(&steps, &catalogue()).map(|runs| runs.len())
    };
    assert_eq!(of("taken", vec![Value::Int(1), Value::Null, Value::Null]), Ok(1));
    for wrong in [of("taken", vec![Value::Int(1)]), of("other", Vec::new())] {
        assert!(matches!(&wrong, Err(NodeError::Diverged(why)) if why.starts_with("entry 7: ")));
    }
}

#[test]
fn rows_share_statements_of_few_shapes_that_are_not_too_long() {
    let of = |sizes: &[usize], most| -> Vec<usize> {
        lots(sizes, most, |it| *it).iter().map(|lot| lot.len()).collect()
    };
    assert_eq!(of(&[], 64), [0; 0]);
    assert_eq!(of(&[1; 100], usize::MAX), [64, 32, 4]);
    assert_eq!(of(&[1; 7], 3), [2, 2, 2, 1]);
    assert_eq!(of(&[1; 2], 0), [1, 1]);
    let half = BYTES_MOST / 2;
    assert_eq!(of(&[half; 5], 64), [2, 2, 1]);
    assert_eq!(of(&[3 * BYTES_MOST, 1, 1], 64), [1, 2]);
}

#[test]
fn what_did_not_come_to_what_it_must_is_named() {
    let table = table();
    let mut plan = Plan::default();
    plan.say(Ask::command("first"));
    let row = [Value::Int(5), Value::Null, Value::Null];
    plan.change(&table, &[(Offset(9), &row)], Ask::command("second"));
    let (asks, judge) = plan.parts();
    assert_eq!(asks.len(), 2);
    let heard = |told: Vec<Told>, failed| judge.judge(Heard { told, failed });
    assert_eq!(heard(vec![Told::Done, Told::Changed(1)], None), Ok(()));
    let named = |judged: Result<(), NodeError>| matches!(judged, Err(NodeError::Diverged(why)) if why.starts_with("entry 9: table taken, row"));
    assert!(named(heard(vec![Told::Done, Told::Changed(0)], None)));
    let refused = crate::node::dialect::Failure::refused("23505", "twice");
    assert!(named(heard(vec![Told::Done], Some(refused))));
    let away = crate::node::dialect::Failure::Environmental("away".to_owned());
    let judged = heard(vec![Told::Done], Some(away));
    assert_eq!(judged, Err(NodeError::Environmental("away".to_owned())));
}
