//! Letters on a real disk.

use std::io::Write;

use herdsman_wal::decode::{Field, Old, TupleWriter};
use herdsman_wal::{Body, DataType, ReplicaIdentity, Transaction, TypeKind};
use proptest::prelude::*;

use super::*;
use crate::lanes::fixture::{
    change, insert, message, relation, table, transaction, truncate, update_of_unknown,
};

fn record(change: Arc<Change>) -> Record {
    Record { change, error: "it was refused".to_owned(), attempts: 8 }
}

fn ids(letters: &[DeadLetter]) -> Vec<&str> {
    letters.iter().map(|letter| letter.id.as_str()).collect()
}

/// All of a change, in a form that can be compared.
fn whole(change: &Change) -> String {
    format!("{change:?}")
}

#[test]
fn letters_are_listed_read_and_taken_off_the_list() {
    let folder = tempfile::tempdir().unwrap();
    let letters = DeadLetters::open(folder.path()).unwrap();
    assert!(letters.list().unwrap().is_empty());
    let (tx, users) = (transaction(0x10), table("users"));
    let records: Vec<_> = (0..3).map(|n| record(insert(&tx, n, &users, "a"))).collect();
    letters.append("hook", &records).unwrap();
    letters.append("other/../sink", &records[..1]).unwrap();
    assert_eq!(
        ids(&letters.list().unwrap()),
        ["hook:0/10:0", "hook:0/10:1", "hook:0/10:2", "other/../sink:0/10:0"]
    );
    let one = letters.get("hook:0/10:1").unwrap();
    assert_eq!(
        (one.sink.as_str(), one.attempts, one.error.as_str()),
        ("hook", 8, "it was refused")
    );
    assert_eq!(one.idempotency_key, "7:0/10:1");

    let asked = ["hook:0/10:2".to_owned(), "hook:0/10:0".to_owned()];
    let changes = letters.replay(&asked).unwrap();
    assert_eq!(changes.iter().map(|c| c.ordinal).collect::<Vec<_>>(), [2, 0]);
    assert_eq!(letters.list().unwrap().len(), 4, "until it is known that they arrived");
    letters.replayed(&asked).unwrap();
    letters.drop(&["other/../sink:0/10:0".to_owned()]).unwrap();
    assert_eq!(ids(&letters.list().unwrap()), ["hook:0/10:1"]);

    let unknown = letters.drop(&["hook:0/10:1".to_owned(), "hook:0/10:9".to_owned()]).unwrap_err();
    assert!(unknown.to_string().contains("`hook:0/10:9`"), "{unknown}");
    assert_eq!(letters.list().unwrap().len(), 1, "all or none");
}

#[test]
fn a_letter_that_comes_again_after_a_crash_is_kept_once() {
    let folder = tempfile::tempdir().unwrap();
    let letters = DeadLetters::open(folder.path()).unwrap();
    let one = record(insert(&transaction(0x10), 0, &table("users"), "a"));
    letters.append("hook", &[one.clone(), one.clone()]).unwrap();
    letters.append("hook", std::slice::from_ref(&one)).unwrap();
    assert_eq!(letters.list().unwrap().len(), 1);
    // Once it is off the list it may come anew.
    letters.drop(&["hook:0/10:0".to_owned()]).unwrap();
    letters.append("hook", &[one]).unwrap();
    assert_eq!(letters.list().unwrap().len(), 1);
}

#[test]
fn rows_of_snapshots_are_all_kept() {
    let folder = tempfile::tempdir().unwrap();
    let letters = DeadLetters::open(folder.path()).unwrap();
    let (tx, users) = (transaction(0x10), table("users"));
    let mut new = TupleWriter::default();
    new.push(Field::Text(b"1"));
    let read = change(&tx, 0, Body::Read { table: &users, new: new.tuple() });
    letters.append("hook", &[record(read.clone()), record(read)]).unwrap();
    assert_eq!(ids(&letters.list().unwrap()), ["hook:0/10:0:1", "hook:0/10:0:2"]);
}

#[test]
fn half_a_line_is_what_a_crash_left_and_is_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let letters = DeadLetters::open(folder.path()).unwrap();
    let (tx, users) = (transaction(0x10), table("users"));
    letters.append("hook", &[record(insert(&tx, 0, &users, "a"))]).unwrap();
    let path = letters.path("hook");
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"{\"id\":\"hook:0/10:1\",\"ti").unwrap();
    assert_eq!(ids(&letters.list().unwrap()), ["hook:0/10:0"]);
    letters.append("hook", &[record(insert(&tx, 2, &users, "a"))]).unwrap();
    assert_eq!(ids(&letters.list().unwrap()), ["hook:0/10:0", "hook:0/10:2"]);
}

#[test]
fn a_broken_line_is_named_and_nothing_is_written_over_it() {
    let folder = tempfile::tempdir().unwrap();
    let letters = DeadLetters::open(folder.path()).unwrap();
    let path = letters.path("hook");
    std::fs::write(&path, "nonsense\n").unwrap();
    let one = record(insert(&transaction(0x10), 0, &table("users"), "a"));
    for error in [letters.list().unwrap_err(), letters.append("hook", &[one]).unwrap_err()] {
        assert!(error.to_string().contains("line 1 of"), "{error}");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "nonsense\n");
}

#[test]
fn a_file_with_nothing_left_on_the_list_is_emptied() {
    let folder = tempfile::tempdir().unwrap();
    let letters = DeadLetters::open(folder.path()).unwrap();
    letters.append("hook", &[record(message(&transaction(0x10), 0, "note"))]).unwrap();
    letters.drop(&["hook:0/10:0".to_owned()]).unwrap();
    assert_eq!(std::fs::metadata(letters.path("hook")).unwrap().len(), 0);
}

#[test]
fn two_handles_on_one_folder_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let users = table("users");
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let letters = DeadLetters::open(folder.path()).unwrap();
            let users = users.clone();
            scope.spawn(move || {
                for n in 0..10 {
                    let one = record(insert(&transaction(0x100 + thread), n, &users, "a"));
                    letters.append("hook", &[one]).unwrap();
                    if n % 2 == 0 {
                        let id = format!("hook:0/{:X}:{n}", 0x100 + thread);
                        letters.drop(&[id]).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(DeadLetters::open(folder.path()).unwrap().list().unwrap().len(), 20);
}

#[test]
fn every_kind_of_change_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let letters = DeadLetters::open(folder.path()).unwrap();
    let mut tx = Transaction::clone(&transaction(0x10));
    tx.origin = Some("elsewhere".into());
    let tx = Arc::new(tx);
    let columns = [("id", true, true), ("b", true, false), ("c", true, false)];
    let mut odd = relation("Odd \"name\"", ReplicaIdentity::Full, &columns);
    let element = odd.columns[1].data_type.clone();
    let (schema, name) = ("public".into(), "my_domain".into());
    let domain = DataType { oid: 9, schema, name, kind: TypeKind::Domain(element.clone()) };
    odd.columns[1].data_type = Arc::new(domain);
    let odd = Arc::new(odd);
    let mut old = TupleWriter::default();
    old.push(Field::Text(b"1"));
    old.push(Field::Null);
    old.push(Field::Binary(&[0, 255, 1]));
    let mut new = TupleWriter::default();
    new.push(Field::Text(&[0xff, 0xfe]));
    new.push(Field::Unchanged);
    new.push(Field::Text("\u{0}\n\"é".as_bytes()));
    let (old, new) = (old.tuple(), new.tuple());
    let changes = [
        change(&tx, 0, Body::Insert { table: &odd, new }),
        change(&tx, 1, Body::Update { table: &odd, old: Some(Old::Full(old)), new }),
        change(&tx, 2, Body::Update { table: &odd, old: Some(Old::Key(old)), new }),
        change(&tx, 3, Body::Update { table: &odd, old: None, new }),
        change(&tx, 4, Body::Delete { table: &odd, old: Old::Full(old) }),
        change(&tx, 5, Body::Schema { table: &odd, previous: &table("before") }),
        change(&tx, 6, Body::Message { prefix: "p", content: &[0, 159, 146] }),
        truncate(&tx, 7, &[odd.clone(), table("users")]),
        update_of_unknown(&tx, 8, &table("users")),
    ];
    let records: Vec<_> = changes.iter().cloned().map(record).collect();
    letters.append("hook", &records).unwrap();
    let listed = letters.list().unwrap();
    for (before, after) in changes.iter().zip(&listed) {
        assert_eq!(whole(before), whole(&after.change));
    }
    assert_eq!(listed.len(), changes.len());
}

proptest! {
    #[test]
    fn any_row_comes_back_as_it_was(
        fields in prop::collection::vec(
            prop_oneof![
                Just(None),
                prop::collection::vec(any::<u8>(), 0..20).prop_map(|b| Some((false, b))),
                ".*".prop_map(|text| Some((false, text.into_bytes()))),
                prop::collection::vec(any::<u8>(), 0..20).prop_map(|b| Some((true, b))),
            ],
            0..6,
        ),
    ) {
        let mut new = TupleWriter::default();
        for field in &fields {
            new.push(match field {
                None => Field::Null,
                Some((true, bytes)) => Field::Binary(bytes),
                Some((false, bytes)) => Field::Text(bytes),
            });
        }
        let (tx, table) = (transaction(0x10), table("users"));
        let before = change(&tx, 0, Body::Insert { table: &table, new: new.tuple() });
        let form = serde_json::to_string(&ChangeForm::from(&*before)).unwrap();
        let after = serde_json::from_str::<ChangeForm>(&form).unwrap().read().unwrap();
        prop_assert_eq!(whole(&before), whole(&after));
    }
}
