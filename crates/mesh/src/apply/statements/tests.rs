use super::*;
use crate::stamp::Stamp;
use crate::table::{TableName, Unique};

fn column(name: &str, sql_type: &str) -> Column {
    Column {
        name: name.into(),
        sql_type: sql_type.into(),
        nullable: true,
        generated: false,
        identity_always: false,
    }
}

/// Two columns as the key (the second one first), one that is computed, one that counts itself.
fn table() -> Table {
    let generated = Column { generated: true, ..column("twice", "integer") };
    let identity = Column { identity_always: true, ..column("seq", "bigint") };
    Table {
        name: TableName::new("public", "it's \"odd\""),
        columns: vec![
            column("a b", "character varying(5)"),
            column("k", "numeric(10,2)"),
            generated,
            identity,
            column("tags", "text[]"),
        ],
        key: vec![1, 0],
        uniques: vec![
            Unique { name: "one".into(), columns: vec![4, 0], plain: true },
            Unique { name: "over expressions".into(), columns: Vec::new(), plain: false },
        ],
        foreign_keys: Vec::new(),
        stamped: true,
        full_identity: true,
        parts: crate::parts::Parts::default(),
        untouched: false,
    }
}

fn columns(table: &Table) -> Vec<usize> {
    let taken = taken(table, ["k", "a b", "tags", "seq", "twice"].into_iter()).unwrap();
    // What is computed there is not written.
    assert_eq!(taken, [Some(1), Some(0), Some(4), Some(3), None]);
    taken.into_iter().flatten().collect()
}

/// `HERDSMAN_WRITE=1` writes the file anew: look at what has changed.
#[test]
fn the_statements_of_an_odd_table_are_these() {
    let table = table();
    let columns = columns(&table);
    let statements = Statements::new(&table, &columns, NodeId(3));
    let kinds = [
        Kind::Take,
        Kind::Put,
        Kind::Plain,
        Kind::Bury,
        Kind::Drop,
        Kind::Keep,
        Kind::Recheck,
        Kind::Fresh,
        Kind::Lock,
        Kind::Clash,
        Kind::Upsert,
        Kind::Clear,
        Kind::Rivals,
        Kind::Evict,
        Kind::Forget,
    ];
    let texts = kinds.iter().map(|kind| format!("-- {kind:?}\n{};\n", statements.text(*kind)));
    let emptied = [false, true]
        .map(|own| format!("-- empty, own: {own}\n{};\n", statements.empty(own, Stamp::NONE)));
    let all: String = texts.chain(emptied).collect();
    if std::env::var_os("HERDSMAN_WRITE").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/apply/statements/expected.sql");
        std::fs::write(path, &all).unwrap();
    }
    assert_eq!(all, include_str!("expected.sql"));
}

#[test]
fn a_table_that_is_all_key_is_stamped_all_the_same() {
    let mut table = table();
    table.columns.truncate(2);
    let merge = Statements::new(&table, &[0, 1], NodeId(1)).text(Kind::Put);
    assert!(merge.contains("THEN UPDATE SET \"k\" = v.c1, _herdsman_stamp = v.s"), "{merge}");
}

#[test]
fn a_column_that_only_one_side_has_is_named() {
    let table = table();
    let unknown = taken(&table, ["k", "a b", "tags", "seq", "new"].into_iter());
    assert_eq!(unknown, Err(Missing { column: "new".into(), here: false }));
    let missing = taken(&table, ["k", "a b", "seq"].into_iter());
    assert_eq!(missing, Err(Missing { column: "tags".into(), here: true }));
}

#[test]
fn bounded_strings_are_not_cut() {
    for (of, to) in [
        ("character varying(5)", "character varying"),
        ("character varying(5)[]", "character varying[]"),
        ("character(3)", "bpchar"),
        ("bit(3)", "bit varying"),
        ("numeric(10,2)", "numeric(10,2)"),
        ("text", "text"),
    ] {
        assert_eq!(cast(of), to);
    }
}
