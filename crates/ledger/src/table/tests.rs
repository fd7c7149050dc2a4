use super::*;

/// `account (id bigint primary key, mail varchar(40) unique null, balance numeric(12,2), note text null)`.
pub(crate) fn account() -> Table {
    let column = |name: &str, kind, nullable| Column { name: name.to_owned(), kind, nullable };
    Table {
        name: "account".to_owned(),
        columns: vec![
            column("id", Kind::Int64, false),
            column("mail", Kind::Text { max: Some(40) }, true),
            column("balance", Kind::Decimal { precision: 12, scale: 2 }, false),
            column("note", Kind::Text { max: None }, true),
        ],
        key: vec![0],
        uniques: vec![vec![1]],
        references: Vec::new(),
    }
}

/// A way to spoil a table, and its name.
type Spoiled = (&'static str, fn(&mut Table));

#[test]
fn tables_that_not_every_engine_can_hold_are_refused() {
    assert_eq!(account().check(), Ok(()));
    let cases: [Spoiled; 12] = [
        ("without a key", |table| table.key.clear()),
        ("with a key that may be null", |table| table.key = vec![1]),
        ("with a text of any length in a key", |table| table.uniques.push(vec![3])),
        ("with a key that names no column", |table| table.key = vec![9]),
        ("with a column twice in a key", |table| table.key = vec![0, 0]),
        ("with a column twice", |table| table.columns[1].name = "id".to_owned()),
        ("without columns", |table| table.columns.clear()),
        ("in capital letters", |table| table.name = "Account".to_owned()),
        ("of ours", |table| table.name = "_ledger_state".to_owned()),
        ("with a long name", |table| table.name = "x".repeat(41)),
        ("with a long key", |table| table.columns[1].kind = Kind::Text { max: Some(700) }),
        ("with 39 digits", |table| {
            table.columns[2].kind = Kind::Decimal { precision: 39, scale: 0 };
        }),
    ];
    for (what, spoil) in cases {
        let mut table = account();
        spoil(&mut table);
        assert!(table.check().is_err(), "a table {what}");
    }
}

#[test]
fn a_change_that_cannot_be_leaves_the_catalogue_as_it_was() {
    let mut catalogue = Catalogue::default();
    let create = TableChange::Create(account());
    let column =
        |name: &str, nullable| Column { name: name.to_owned(), kind: Kind::Bool, nullable };
    let add = |name: &str, nullable| TableChange::AddColumn {
        table: "account".to_owned(),
        column: column(name, nullable),
    };
    let drop = TableChange::Drop { table: "account".to_owned() };
    assert_eq!(drop.apply(&mut catalogue), Err(Refused("42P01")));
    assert_eq!(add("open", true).apply(&mut catalogue), Err(Refused("42P01")));
    assert_eq!(create.apply(&mut catalogue), Ok(()));
    let before = catalogue.clone();
    for (change, state) in
        [(&create, "42P07"), (&add("id", true), "42701"), (&add("open", false), "42P16")]
    {
        assert_eq!(change.apply(&mut catalogue), Err(Refused(state)));
        assert_eq!(catalogue, before);
    }
    assert_eq!(add("open", true).apply(&mut catalogue), Ok(()));
    assert_eq!(catalogue.0["account"].columns.len(), 5);
    assert_eq!(drop.apply(&mut catalogue), Ok(()));
    assert_eq!(catalogue, Catalogue::default());
}

#[test]
fn tables_and_their_changes_come_back_from_their_bytes() {
    let table = account();
    assert_eq!(Table::of_bytes(&table.to_bytes()), Ok(table.clone()));
    let column = table.columns[1].clone();
    let changes = [
        TableChange::Create(table),
        TableChange::AddColumn { table: "a".to_owned(), column },
        TableChange::Drop { table: "a".to_owned() },
    ];
    for change in changes {
        let mut writer = crate::codec::Writer::default();
        change.encode(&mut writer);
        let mut reader = crate::codec::Reader::new(&writer.0);
        assert_eq!(TableChange::decode(&mut reader), Ok(change));
    }
}

#[test]
fn a_row_that_does_not_fit_names_its_column() {
    let decimal = |unscaled| Value::Decimal(crate::Decimal { scale: 2, unscaled });
    let row = |mail: Value, balance: Value| vec![Value::Int(1), mail, balance, Value::Null];
    assert_eq!(account().fits(&row(Value::Null, decimal(5))), Ok(()));
    let long = account().fits(&row(Value::Text("é".repeat(41)), decimal(5))).unwrap_err();
    assert!(long.to_string().contains("account.mail"), "{long}");
    assert!(account().fits(&row(Value::Null, Value::Null)).is_err());
    assert!(account().fits(&row(Value::Null, Value::Int(5))).is_err());
    assert!(account().fits(&[]).is_err());
}
