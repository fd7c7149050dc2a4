use super::*;

fn created(sql: &str) -> Table {
    match TableChange::of_sql(sql) {
        Ok(Some(TableChange::Create(table))) => table,
        other => panic!("{sql}: {other:?}"),
    }
}

#[test]
fn a_table_is_read_as_it_is_written() {
    let table = created(
        "create table Orders (id bigint, \"line\" int not null, mail varchar(40) unique, price numeric(12, 2) NOT NULL,
         open bool null, weight double precision, note text, sum bytea(16), day date, at timestamp with time zone,
         ref uuid, more jsonb, primary key (id, line), unique (ref, day));",
    );
    assert_eq!(table.name, "orders");
    assert_eq!(
        (table.key.clone(), table.uniques.clone()),
        (vec![0, 1], vec![vec![2], vec![10, 8]])
    );
    let columns: Vec<_> = table
        .columns
        .iter()
        .map(|it| format!("{} {}{}", it.name, it.kind, if it.nullable { "" } else { " not null" }))
        .collect();
    let expected = [
        "id bigint not null",
        "line integer not null",
        "mail varchar(40)",
        "price numeric(12,2) not null",
        "open boolean",
        "weight double precision",
        "note text",
        "sum bytea(16)",
        "day date",
        "at timestamptz",
        "ref uuid",
        "more jsonb",
    ];
    assert_eq!(columns, expected);
    assert_eq!(table.check(), Ok(()));
}

#[test]
fn other_changes_are_read_and_other_statements_left_alone() {
    let add = TableChange::of_sql("ALTER TABLE t ADD COLUMN note varchar(9) NULL").unwrap();
    let column =
        Column { name: "note".to_owned(), kind: Kind::Text { max: Some(9) }, nullable: true };
    assert_eq!(add, Some(TableChange::AddColumn { table: "t".to_owned(), column }));
    let drop = TableChange::of_sql(" drop table t ;").unwrap();
    assert_eq!(drop, Some(TableChange::Drop { table: "t".to_owned() }));
    for sql in ["", "SELECT 1", "insert into t values (1)", "created"] {
        assert_eq!(TableChange::of_sql(sql), Ok(None), "{sql}");
    }
}

#[test]
fn foreign_keys_are_read() {
    use crate::table::{OnDelete, Reference};
    let sql = "create table t (id int primary key, a int references o on delete no action on update restrict, \
               b int references o (c) on delete cascade not null, d int, foreign key (a, d) references p (x, y) on delete set null)";
    let Ok(Some(TableChange::Create(table))) = TableChange::of_sql(sql) else { panic!() };
    let reference = |columns: &[usize], parent: &str, key: &[&str], on_delete| Reference {
        columns: columns.to_vec(),
        parent: parent.to_owned(),
        key: key.iter().map(|it| (*it).to_owned()).collect(),
        on_delete,
    };
    assert_eq!(
        table.references,
        [
            reference(&[1], "o", &[], OnDelete::Refuse),
            reference(&[2], "o", &["c"], OnDelete::Cascade),
            reference(&[1, 3], "p", &["x", "y"], OnDelete::SetNull),
        ]
    );
    assert!(!table.columns[2].nullable);
}

#[test]
fn what_is_not_understood_is_refused() {
    let cases = [
        ("create index i on t (a)", "0A000"),
        ("create table if not exists t (id int primary key)", "0A000"),
        ("create table t (id serial primary key)", "0A000"),
        ("create table t (id int primary key default 1)", "0A000"),
        ("create table t (id int primary key, o int references o on update cascade)", "0A000"),
        ("create table t (id int primary key, o int references o on delete set default)", "0A000"),
        ("create table t (id int primary key, o int references o deferrable)", "42601"),
        ("create table t (id int primary key, foreign key (o) references o)", "42703"),
        ("alter table t add column o int references o", "0A000"),
        ("create table t (id int primary key, check (id > 0))", "0A000"),
        ("create table t (id int primary key, price numeric)", "0A000"),
        ("create table t (id int primary key) -- tail", "0A000"),
        ("create table t (id int primary key); drop table t", "42601"),
        ("create table t (id int primary key", "42601"),
        ("create table t (id int, primary key (other))", "42703"),
        ("create table t (id int primary key, primary key (id))", "42P16"),
        ("create table \"t (id int)", "42601"),
        ("create table a.t (id int primary key)", "0A000"),
        ("alter table t drop column a", "0A000"),
        ("alter table t add column a int not null", "0A000"),
        ("drop table t cascade", "0A000"),
        ("drop table if exists t", "0A000"),
        ("create table t (id varchar(99999999999))", "42601"),
    ];
    for (sql, expected) in cases {
        match TableChange::of_sql(sql) {
            Err(SqlError::Refused { state, .. }) => assert_eq!(state, expected, "{sql}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
    let why = TableChange::of_sql("create table t (id int primary key default 1)").unwrap_err();
    assert!(why.to_string().contains("would differ"), "{why}");
}
