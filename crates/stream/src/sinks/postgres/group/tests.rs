use std::sync::Arc;

use herdsman_node::{Lsn, SystemId, Timeline};
use herdsman_wal::decode::{Field, Old, TupleWriter};
use herdsman_wal::{
    Change, ChangeRef, Column, Relation, ReplicaIdentity, Source, Transaction, TypeBook,
};
use proptest::prelude::*;

use super::super::plan::{TargetColumn, TargetTable};
use super::*;

use Freedom::{AsTheyCame as STRICT, SameResult as QUICK};

fn relation(name: &str) -> Arc<Relation> {
    let types = TypeBook::default();
    let column = |name: &str, key| Column {
        name: name.into(),
        data_type: types.get(25),
        type_modifier: -1,
        key,
        primary: key,
    };
    Arc::new(Relation {
        oid: 1,
        schema: "s".into(),
        name: name.into(),
        identity: ReplicaIdentity::Default,
        columns: vec![column("k", true), column("v", false), column("w", false)],
    })
}

fn plan(relation: &Relation) -> Option<SharedPlan> {
    let column = |name: &str| TargetColumn { name: name.to_owned(), ..TargetColumn::default() };
    let target = TargetTable {
        name: relation.name.to_string(),
        columns: ["k", "v", "w"].map(column).into(),
        primary: vec!["k".to_owned()],
        unique: vec![vec!["k".to_owned()]],
        ..TargetTable::default()
    };
    let id = relation.name.bytes().map(u64::from).sum();
    Some(Arc::new(Plan::new(id, relation, &target)))
}

/// A change in words: `+k v` inserts, `=k v` updates, `~k v` updates without telling `w`, `-k` deletes, `k>l v` moves,
/// `!` truncates.
fn change(table: &Arc<Relation>, word: &str, lsn: u64) -> Arc<Change> {
    let (kind, rest) = word.split_at(1);
    let (key, value) = rest.split_once(' ').unwrap_or((rest, ""));
    let (old, key) = key.split_once('>').map_or((None, key), |(old, key)| (Some(old), key));
    let write = |cells: [Field<'_>; 3]| {
        let mut writer = TupleWriter::default();
        cells.into_iter().for_each(|cell| writer.push(cell));
        writer
    };
    let text = |text: &'static str| Field::Text(text.as_bytes());
    let (key, value) = (Field::Text(key.as_bytes()), Field::Text(value.as_bytes()));
    let before =
        write([old.map_or(key, |old| Field::Text(old.as_bytes())), Field::Null, Field::Null]);
    let untold = if kind == "~" { Field::Unchanged } else { text("w") };
    let after = write([key, value, untold]);
    let (old_tuple, new) = (Old::Key(before.tuple()), after.tuple());
    let body = match kind {
        "+" => Body::Insert { table, new },
        "-" => Body::Delete { table, old: old_tuple },
        "!" => Body::Truncate {
            tables: std::slice::from_ref(table),
            cascade: true,
            restart_identity: false,
        },
        _ => Body::Update { table, old: old.map(|_| old_tuple), new },
    };
    let source = Arc::new(Source {
        system_id: SystemId(1),
        timeline: Timeline(1),
        database: "d".into(),
        slot: "s".into(),
    });
    let transaction = Arc::new(Transaction::default());
    let (source, transaction) = (&source, &transaction);
    Arc::new(ChangeRef { source, transaction, ordinal: lsn, lsn: Lsn(lsn), body }.into())
}

fn batch(words: &[(&Arc<Relation>, &str)]) -> Batch {
    let numbered = words.iter().zip(0..);
    let changes = numbered.map(|((table, word), n)| change(table, word, n)).collect();
    Batch { changes, position: None }
}

/// Statements in words: form, table, rows' values.
fn said(batch: &Batch, freedom: Freedom) -> Vec<String> {
    let indexes: Vec<usize> = (0..batch.changes.len()).collect();
    let done = steps(batch, &indexes, freedom, plan);
    assert_eq!(done.refused, []);
    let row = |item: &Item<'_>| {
        let values: Vec<_> = item.values.iter().map(|value| value.unwrap_or("-")).collect();
        values.join(",")
    };
    done.steps
        .iter()
        .map(|step| match step {
            Step::Truncate { sql, .. } => sql.clone(),
            Step::Rows(group) => {
                let form = match group.shape {
                    Shape::Upsert => "upsert",
                    Shape::Update(_) => "update",
                    Shape::Delete => "delete",
                    _ => "whole",
                };
                let rows: Vec<_> = group.rows.iter().map(row).collect();
                format!("{form} {} {}", group.plan.table, rows.join(" "))
            }
        })
        .collect()
}

#[test]
fn changes_of_one_form_share_a_statement() {
    let (a, b) = (relation("a"), relation("b"));
    let batch = batch(&[
        (&a, "+1 x"),
        (&b, "+1 x"),
        (&a, "=2 y"),
        (&b, "-7"),
        (&a, "~1 z"),
        (&b, "-8"),
        (&a, "=1 q"),
    ]);
    assert_eq!(
        said(&batch, QUICK),
        [
            "upsert a 1,x,w 2,y,w",
            "upsert b 1,x,w",
            "delete b 7 8",
            "update a z,1",
            "upsert a 1,q,w"
        ]
    );
    assert_eq!(
        said(&batch, STRICT),
        [
            "upsert a 1,x,w",
            "upsert b 1,x,w",
            "upsert a 2,y,w",
            "delete b 7",
            "update a z,1",
            "delete b 8",
            "upsert a 1,q,w"
        ]
    );
}

#[test]
fn deletes_are_done_early_and_nothing_else_passes_them() {
    let a = relation("a");
    let words = ["+1 x", "-2", "+3 x", "-1", "-4", "+1 y", "-3", "+5 x"];
    let batch = batch(&words.map(|word| (&a, word)));
    assert_eq!(
        said(&batch, QUICK),
        [
            "upsert a 1,x,w",
            "delete a 2 1 4",
            "upsert a 3,x,w 1,y,w",
            "delete a 3",
            "upsert a 5,x,w"
        ]
    );
}

#[test]
fn a_row_written_twice_is_never_twice_in_a_statement() {
    let a = relation("a");
    let batch = batch(&[(&a, "+1 x"), (&a, "+2 x"), (&a, "=1 y"), (&a, "~2 p"), (&a, "~2 q")]);
    assert_eq!(said(&batch, QUICK), ["upsert a 1,y,w 2,x,w", "update a q,2"]);
    assert_eq!(
        said(&batch, STRICT),
        ["upsert a 1,x,w 2,x,w", "upsert a 1,y,w", "update a p,2", "update a q,2"]
    );
}

#[test]
fn a_moved_row_and_a_truncate_stand_alone() {
    let (a, b) = (relation("a"), relation("b"));
    let batch = batch(&[
        (&a, "+1 x"),
        (&a, "=1>2 x"),
        (&a, "=2>3 y"),
        (&a, "+1 z"),
        (&b, "!"),
        (&a, "+4 z"),
        (&a, "=4>4 r"),
    ]);
    let expected = [
        "upsert a 1,x,w",
        "update a 2,x,w,1",
        "update a 3,y,w,2",
        "upsert a 1,z,w",
        "TRUNCATE TABLE b CASCADE",
        "upsert a 4,r,w",
    ];
    assert_eq!(said(&batch, QUICK), expected);
}

#[test]
fn what_cannot_be_said_is_refused() {
    let a = relation("a");
    let mut odd = batch(&[(&a, "+1 x")]);
    let mut writer = TupleWriter::default();
    [Field::Text(b"2"), Field::Text(b"\xff"), Field::Null].into_iter().for_each(|f| writer.push(f));
    let view = odd.changes[0].view();
    let body = Body::Insert { table: &a, new: writer.tuple() };
    let broken = Arc::new(Change::from(ChangeRef { body, ..view }));
    odd.changes.push(broken);
    let done = steps(&odd, &[0, 1], QUICK, plan);
    assert_eq!(done.refused, [(1, "a value is not UTF-8".to_owned())]);
    assert_eq!(done.steps.len(), 1);
}

/// A table as its changes leave it, one after the other.
#[derive(Debug, Default, PartialEq, Eq, Clone)]
struct Model(std::collections::BTreeMap<String, (String, String)>);

impl Model {
    fn statement(&mut self, statement: &str) {
        let mut words = statement.split(' ');
        let form = words.next().unwrap_or_default();
        if form == "TRUNCATE" {
            return self.0.clear();
        }
        let mut seen = std::collections::BTreeSet::new();
        for row in words.skip(1) {
            let cells: Vec<String> = row.split(',').map(str::to_owned).collect();
            match (form, cells.as_slice()) {
                ("upsert", [key, v, w]) => {
                    assert!(seen.insert(key.clone()), "{key} twice in {statement}");
                    self.0.insert(key.clone(), (v.clone(), w.clone()));
                }
                ("update", [v, key]) => {
                    assert!(seen.insert(key.clone()), "{key} twice in {statement}");
                    if let Some(row) = self.0.get_mut(key) {
                        row.0.clone_from(v);
                    }
                }
                ("update", [key, v, w, old]) => {
                    if self.0.remove(old).is_some() {
                        self.0.insert(key.clone(), (v.clone(), w.clone()));
                    }
                }
                ("delete", [key]) => drop(self.0.remove(key)),
                other => panic!("{other:?}"),
            }
        }
    }
}

proptest! {
    #[test]
    fn statements_leave_what_the_changes_leave(
        words in prop::collection::vec(("[ab]", "[-+=~]", 0..5_u32, 0..5_u32, 0..9_u32, 0..20_u32), 0..60)
    ) {
        let tables = [("a", relation("a")), ("b", relation("b"))];
        let words: Vec<(Arc<Relation>, String)> = words
            .into_iter()
            .map(|(table, kind, key, other, value, rare)| {
                let table = Arc::clone(&tables.iter().find(|(name, _)| *name == table).unwrap().1);
                let word = match rare {
                    0 => "!".to_owned(),
                    1..=3 => format!("={key}>{other} {value}"),
                    _ => format!("{kind}{key} {value}"),
                };
                (table, word)
            })
            .collect();
        let borrowed: Vec<_> = words.iter().map(|(table, word)| (table, word.as_str())).collect();
        let all = batch(&borrowed);
        for table in ["a", "b"] {
            // One change at a time is what happened.
            let mut expected = Model::default();
            for one in &borrowed {
                let own = said(&batch(std::slice::from_ref(one)), STRICT);
                own.iter().filter(|s| s.contains(&format!(" {table}"))).for_each(|s| expected.statement(s));
            }
            for freedom in [QUICK, STRICT] {
                let mut found = Model::default();
                said(&all, freedom).iter().filter(|s| s.contains(&format!(" {table}"))).for_each(|s| found.statement(s));
                prop_assert_eq!(&found, &expected, "{} {:?}", table, freedom);
            }
        }
    }
}
