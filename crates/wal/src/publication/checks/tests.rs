use super::*;
use crate::PublicationName;

fn keyed() -> TableFacts {
    TableFacts {
        schema: "public".to_owned(),
        name: "t".to_owned(),
        partitioned: false,
        partition_of: None,
        has_primary_key: true,
        deferrable_key: false,
        identity: ReplicaIdentity::Default,
        identity_columns: vec!["id".to_owned()],
        unidentified: vec![],
    }
}

fn keyless() -> TableFacts {
    TableFacts {
        has_primary_key: false,
        identity_columns: vec![],
        unidentified: vec!["public.t".to_owned()],
        ..keyed()
    }
}

fn spec(table: TableSpec) -> PublicationSpec {
    PublicationSpec::of(PublicationName::new("p").unwrap(), vec![table])
}

fn whole() -> PublicationSpec {
    spec(TableSpec::whole("public", "t"))
}

fn columns(columns: &[&str]) -> PublicationSpec {
    let columns = Some(columns.iter().map(|c| (*c).to_owned()).collect());
    spec(TableSpec { columns, ..TableSpec::whole("public", "t") })
}

fn refused(wanted: &PublicationSpec, facts: TableFacts) -> String {
    check(wanted, &[facts], "db1:5432").unwrap_err().to_string()
}

#[test]
fn a_table_whose_updates_would_fail_is_refused_with_the_statement_that_helps() {
    let text = refused(&whole(), keyless());
    assert!(text.contains("public.t on db1:5432"), "{text}");
    assert!(text.contains("no primary key"), "{text}");
    assert!(text.contains("`ALTER TABLE public.t REPLICA IDENTITY FULL`"), "{text}");
    let all = PublicationSpec { all_tables: true, tables: vec![], ..whole() };
    assert!(refused(&all, keyless()).contains("no primary key"));
}

#[test]
fn the_reason_is_the_one_the_server_goes_by() {
    let nothing = TableFacts { identity: ReplicaIdentity::Nothing, ..keyless() };
    assert!(refused(&whole(), nothing).contains("set to NOTHING"));
    let deferrable = TableFacts { deferrable_key: true, has_primary_key: true, ..keyless() };
    assert!(refused(&whole(), deferrable).contains("deferrable"));
    let gone = TableFacts { identity: ReplicaIdentity::Index, ..keyless() };
    assert!(refused(&whole(), gone).contains("index of its replica identity is gone"));
    let parent = TableFacts {
        partitioned: true,
        unidentified: vec!["public.t1".to_owned(), "public.t2".to_owned()],
        ..keyed()
    };
    let text = refused(&whole(), parent);
    assert!(text.contains("public.t1, public.t2"), "{text}");
    assert!(text.contains("ALTER TABLE public.t2 REPLICA IDENTITY FULL"), "{text}");
}

#[test]
fn inserts_alone_need_no_identity() {
    let inserts = Operations { insert: true, update: false, delete: false, truncate: true };
    let wanted = PublicationSpec { operations: inserts, ..whole() };
    check(&wanted, &[keyless()], "db1:5432").unwrap();
    let deletes = Operations { delete: true, ..inserts };
    check(&PublicationSpec { operations: deletes, ..whole() }, &[keyless()], "db1:5432")
        .unwrap_err();
}

#[test]
fn a_column_list_has_to_have_the_identity_in_it() {
    check(&columns(&["id", "a"]), &[keyed()], "db1:5432").unwrap();
    assert!(
        refused(&columns(&["a"]), keyed())
            .contains("leaves out a part of its replica identity (id)")
    );
    let full = TableFacts { identity: ReplicaIdentity::Full, identity_columns: vec![], ..keyed() };
    assert!(refused(&columns(&["id"]), full).contains("whole row"));
}

#[test]
fn a_table_that_is_not_there_is_named() {
    let wanted = spec(TableSpec::whole("public", "T"));
    let text = refused(&wanted, keyed());
    assert!(text.contains("no table public.T"), "{text}");
}
