use super::*;
use crate::{Decimal, table::tests::account};

fn catalogue() -> Catalogue {
    Catalogue(BTreeMap::from([("account".to_owned(), account())]))
}

fn row(id: i64, mail: Option<&str>, cents: i128) -> Vec<Value> {
    vec![
        Value::Int(id),
        mail.map_or(Value::Null, |mail| Value::Text(mail.to_owned())),
        Value::Decimal(Decimal { scale: 2, unscaled: cents }),
        Value::Null,
    ]
}

fn change(before: Option<Vec<Value>>, after: Option<Vec<Value>>) -> RowChange {
    RowChange { table: "account".to_owned(), before, after }
}

#[test]
fn many_changes_of_a_row_become_one() {
    let (a, b, c) = (row(1, None, 1), row(1, None, 2), row(1, None, 3));
    let folded = |changes| fold(changes, &catalogue()).unwrap();
    let up = |from: &Vec<Value>, to: &Vec<Value>| change(Some(from.clone()), Some(to.clone()));
    let (new, gone) = (change(None, Some(a.clone())), change(Some(a.clone()), None));
    assert_eq!(folded(vec![up(&a, &b), up(&b, &c)]), [up(&a, &c)]);
    assert_eq!(folded(vec![up(&a, &b), up(&b, &a)]), []);
    assert_eq!(folded(vec![new.clone(), up(&a, &b)]), [change(None, Some(b.clone()))]);
    assert_eq!(folded(vec![new.clone(), gone.clone()]), []);
    assert_eq!(folded(vec![gone.clone(), new]), []);
    assert_eq!(folded(vec![gone, change(None, Some(b.clone()))]), [up(&a, &b)]);
}

#[test]
fn a_row_with_another_key_is_another_row() {
    let (one, two) = (row(1, None, 1), row(2, None, 1));
    let moved = vec![change(Some(one.clone()), Some(two.clone()))];
    let folded = fold(moved, &catalogue()).unwrap();
    assert_eq!(folded, [change(Some(one), None), change(None, Some(two))]);
}

#[test]
fn two_rows_that_change_places_are_two_changes() {
    let (one, two) = (row(1, Some("a"), 1), row(2, Some("b"), 2));
    let aside = row(3, Some("a"), 1);
    let (one_after, two_after) = (row(1, Some("b"), 2), row(2, Some("a"), 1));
    let steps = vec![
        change(Some(one.clone()), Some(aside.clone())),
        change(Some(two.clone()), Some(one_after.clone())),
        change(Some(aside), Some(two_after.clone())),
    ];
    let folded = fold(steps, &catalogue()).unwrap();
    assert_eq!(folded, [change(Some(one), Some(one_after)), change(Some(two), Some(two_after))]);
}

#[test]
fn a_value_that_one_engine_cannot_hold_is_not_folded_in() {
    let long = row(1, Some(&"x".repeat(41)), 1);
    assert!(fold(vec![change(None, Some(long))], &catalogue()).is_err());
    let elsewhere = RowChange { table: "other".to_owned(), ..change(None, Some(row(1, None, 1))) };
    assert!(fold(vec![elsewhere.clone()], &catalogue()).is_err());
    assert!(claims(&[elsewhere], &[], &catalogue()).is_err());
}

fn conflicting(one: &[RowChange], other: &[RowChange]) -> bool {
    let of = |changes| claims(changes, &[], &catalogue()).unwrap();
    let write = |claims: Vec<Claim>| -> Vec<KeyHash> {
        claims.into_iter().filter(|it| it.mode == Mode::Write).map(|it| it.key).collect()
    };
    let (one, other) = (write(of(one)), write(of(other)));
    one.iter().any(|key| other.contains(key))
}

#[test]
fn what_takes_the_same_row_or_the_same_unique_value_conflicts() {
    let insert = |id, mail| vec![change(None, Some(row(id, mail, 1)))];
    let update = |id, from, to| vec![change(Some(row(id, from, 1)), Some(row(id, to, 2)))];
    assert!(conflicting(&insert(1, None), &insert(1, Some("a"))));
    assert!(conflicting(&insert(1, Some("a")), &insert(2, Some("a"))));
    assert!(conflicting(&insert(1, Some("a")), &update(2, Some("b"), Some("a"))));
    assert!(conflicting(&update(1, None, None), &[change(Some(row(1, None, 1)), None)]));
    assert!(!conflicting(&insert(1, None), &insert(2, None)));
    assert!(!conflicting(&insert(1, Some("a")), &insert(2, Some("b"))));
    // Null is never taken, and a value a row keeps is not taken anew.
    assert!(!conflicting(&update(1, Some("a"), Some("a")), &insert(2, Some("a"))));
}

/// `item (id bigint primary key, owner bigint null references account)`.
fn with_items() -> Catalogue {
    use crate::table::{OnDelete, Reference};
    let mut catalogue = catalogue();
    let mut item = account();
    item.name = "item".to_owned();
    item.columns.truncate(1);
    item.columns.push(crate::table::Column {
        name: "owner".to_owned(),
        kind: crate::Kind::Int64,
        nullable: true,
    });
    item.uniques.clear();
    let on_delete = OnDelete::Refuse;
    let parent = "account".to_owned();
    item.references.push(Reference { columns: vec![1], parent, key: Vec::new(), on_delete });
    crate::table::TableChange::Create(item).apply(&mut catalogue).unwrap();
    catalogue
}

/// Whether the second one conflicts where both began before the first one committed.
fn beaten(first: &[RowChange], second: &[RowChange]) -> bool {
    use crate::{Offset, certify::Window, entry::Genesis, identity::LogId};
    let of = |changes| claims(changes, &[], &with_items()).unwrap();
    let mut window = Window::new(&Genesis { log: LogId([0; 16]), window: 10, keys: 100 });
    window.record(Offset(1), &of(first));
    !window.admits(Offset(0), &of(second))
}

#[test]
fn who_refers_to_a_row_and_who_takes_it_away_conflict_and_nobody_else() {
    let item =
        |id: i64, owner: Option<i64>| vec![Value::Int(id), owner.map_or(Value::Null, Value::Int)];
    let of_item = |before, after| vec![RowChange { table: "item".to_owned(), before, after }];
    let refer = |id, owner| of_item(None, Some(item(id, Some(owner))));
    let gone = |id| vec![change(Some(row(id, None, 1)), None)];
    let paid = vec![change(Some(row(7, None, 1)), Some(row(7, None, 2)))];
    let moved = vec![change(Some(row(7, None, 1)), None), change(None, Some(row(8, None, 1)))];
    assert!(beaten(&gone(7), &refer(1, 7)), "it would refer to nothing");
    assert!(beaten(&refer(1, 7), &gone(7)), "somebody refers to it");
    assert!(beaten(&moved, &refer(1, 7)) && beaten(&refer(1, 7), &moved));
    let taken = of_item(Some(item(1, Some(5))), Some(item(1, Some(7))));
    assert!(beaten(&gone(7), &taken) && beaten(&taken, &gone(7)));
    // Any number may refer to one row, and change the rest of it.
    assert!(!beaten(&refer(1, 7), &refer(2, 7)));
    assert!(!beaten(&refer(1, 7), &paid) && !beaten(&paid, &refer(1, 7)));
    assert!(!beaten(&gone(8), &refer(1, 7)) && !beaten(&refer(1, 7), &gone(8)));
    let nobody = of_item(None, Some(item(1, None)));
    assert!(!beaten(&gone(7), &nobody));
    // Who stops referring, or goes on, minds nobody; that it was there is seen where the other one runs.
    let freed = of_item(Some(item(1, Some(7))), None);
    assert!(!beaten(&freed, &gone(7)));
    let kept = of_item(Some(item(1, Some(7))), Some(item(1, Some(7))));
    assert!(!beaten(&kept, &gone(7)));
    // Who did not know yet that there could be references.
    let create = crate::table::TableChange::Create(with_items().0["item"].clone());
    assert!(
        claims_of_change(&create)
            .contains(&Claim { mode: Mode::Touch, key: KeyHash::of_schema("account") })
    );
}

#[test]
fn changes_and_claims_come_back_from_their_bytes() {
    let changes = [change(Some(row(1, Some("a"), 1)), None), change(None, Some(row(2, None, -5)))];
    let mut writer = Writer::default();
    for change in &changes {
        change.encode(&mut writer);
    }
    let claims = claims(&changes, &["account".to_owned()], &catalogue()).unwrap();
    claims.iter().for_each(|claim| claim.encode(&mut writer));
    let mut reader = Reader::new(&writer.0);
    for change in changes {
        assert_eq!(RowChange::decode(&mut reader), Ok(change));
    }
    for claim in claims {
        assert_eq!(Claim::decode(&mut reader), Ok(claim));
    }
    assert_eq!(reader.end(), Ok(()));
}
