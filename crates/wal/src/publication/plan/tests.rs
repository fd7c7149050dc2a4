use super::*;
use crate::PublicationName;

fn spec(tables: &[TableSpec]) -> PublicationSpec {
    PublicationSpec::of(PublicationName::new("Pub").unwrap(), tables.to_vec())
}

fn existing(tables: &[TableSpec]) -> Publication {
    Publication { spec: spec(tables), schemas: vec![], newer_than: vec![], owned: true }
}

fn table(name: &str) -> TableSpec {
    TableSpec::whole("public", name)
}

fn with_columns(name: &str, columns: &[&str]) -> TableSpec {
    let columns = columns.iter().map(|c| (*c).to_owned()).collect();
    TableSpec { columns: Some(columns), ..table(name) }
}

fn filtered(name: &str, filter: &str) -> TableSpec {
    TableSpec { row_filter: Some(filter.to_owned()), ..table(name) }
}

#[test]
fn a_new_publication_is_made_in_one_statement_with_every_name_quoted() {
    let odd = TableSpec::whole("My Shop", "a\"b");
    let rows = TableSpec {
        columns: Some(vec!["Id".to_owned(), "b".to_owned()]),
        row_filter: Some("a > 5 -- big".to_owned()),
        ..odd
    };
    assert_eq!(
        plan(None, &spec(&[rows, table("t")])),
        [
            "CREATE PUBLICATION \"Pub\" FOR TABLE \"My Shop\".\"a\"\"b\" (\"Id\", \"b\") WHERE (a > 5 -- big\n), \"public\".\"t\" WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = false)"
        ]
    );
    let empty = plan(None, &spec(&[]));
    assert!(empty[0].starts_with("CREATE PUBLICATION \"Pub\" WITH ("), "{empty:?}");
    let all = plan(None, &PublicationSpec { all_tables: true, ..spec(&[table("t")]) });
    assert!(all[0].starts_with("CREATE PUBLICATION \"Pub\" FOR ALL TABLES WITH ("), "{all:?}");
}

#[test]
fn what_is_right_already_is_left_alone() {
    let tables = [with_columns("t", &["a", "b"]), filtered("u", "((a > 5) AND (b < 3))")];
    let wanted = [filtered("u", "(a > 5)  AND (b < 3)"), with_columns("t", &["b", "a"])];
    assert_eq!(plan(Some(&existing(&tables)), &spec(&wanted)), [""; 0]);
}

#[test]
fn only_what_differs_is_changed() {
    let have = [table("stays"), table("goes"), table("changes")];
    let want = [table("stays"), with_columns("changes", &["a"]), table("comes")];
    assert_eq!(
        plan(Some(&existing(&have)), &spec(&want)),
        [
            "ALTER PUBLICATION \"Pub\" DROP TABLE \"public\".\"goes\", \"public\".\"changes\"",
            "ALTER PUBLICATION \"Pub\" ADD TABLE \"public\".\"changes\" (\"a\"), \"public\".\"comes\"",
        ]
    );
}

#[test]
fn options_and_whole_schemas_are_changed_too() {
    let mut have = existing(&[table("t")]);
    have.schemas = vec!["Sales".to_owned()];
    have.spec.via_partition_root = true;
    let inserts = Operations { insert: true, update: false, delete: false, truncate: false };
    let want = PublicationSpec { operations: inserts, ..spec(&[table("t")]) };
    assert_eq!(
        plan(Some(&have), &want),
        [
            "ALTER PUBLICATION \"Pub\" DROP TABLES IN SCHEMA \"Sales\"",
            "ALTER PUBLICATION \"Pub\" SET (publish = 'insert', publish_via_partition_root = false)",
        ]
    );
}

#[test]
fn from_all_tables_there_is_no_way_but_a_new_one() {
    let all = PublicationSpec { all_tables: true, ..spec(&[]) };
    let have = Publication { spec: all.clone(), ..existing(&[]) };
    assert_eq!(plan(Some(&have), &all), [""; 0]);
    let statements = plan(Some(&have), &spec(&[table("t")]));
    assert_eq!(statements[0], "DROP PUBLICATION \"Pub\"");
    assert!(statements[1].starts_with("CREATE PUBLICATION \"Pub\" FOR TABLE"), "{statements:?}");
}

#[test]
fn parentheses_that_do_not_belong_together_stay() {
    assert_eq!(bare("((a) or (b))"), "(a) or (b)");
    assert_eq!(bare("(a) or (b)"), "(a) or (b)");
    assert_eq!(bare("(a = ')')"), "(a = ')')");
}
