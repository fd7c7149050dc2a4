//! Publications on real servers: the smallest change, and nothing that would break the application or the slot.

use herdsman_sandbox::on_each_version;
use herdsman_wal::publication::{
    self, Operations, Outcome, PublicationError, PublicationSpec, TableSpec, create_or_alter,
    list_tables, matching, prepare,
};
use herdsman_wal::slot::{self, CreateOptions};
use herdsman_wal::{Glob, PublicationName, Session, quote_identifier, quote_literal};
use tokio_postgres::Client;

use crate::slots::{name, sandbox, session};

fn publication(name: &str) -> PublicationName {
    PublicationName::new(name).unwrap()
}

fn spec(tables: &[&str]) -> PublicationSpec {
    let tables = tables.iter().map(|table| TableSpec::whole("public", table)).collect();
    PublicationSpec::of(publication("p"), tables)
}

fn with(table: TableSpec) -> PublicationSpec {
    PublicationSpec::of(publication("p"), vec![table])
}

fn columns(table: &str, columns: &[&str]) -> TableSpec {
    let columns = Some(columns.iter().map(|c| (*c).to_owned()).collect());
    TableSpec { columns, ..TableSpec::whole("public", table) }
}

fn rows(table: &str, filter: &str) -> TableSpec {
    TableSpec { row_filter: Some(filter.to_owned()), ..TableSpec::whole("public", table) }
}

async fn execute(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap();
}

/// The kinds of messages the slot would send, or what the server says instead.
async fn peek(session: &Session, publication: &str) -> Result<String, String> {
    let publication = quote_literal(&quote_identifier(publication));
    let sql = format!(
        "select coalesce(string_agg(chr(get_byte(data, 0)), '' order by lsn, ordinality), '') from pg_logical_slot_peek_binary_changes('s', null, null, 'proto_version', '1', 'publication_names', {publication}) with ordinality"
    );
    match session.client().query_one(&sql, &[]).await {
        Ok(row) => Ok(row.get(0)),
        Err(error) => Err(error.as_db_error().unwrap().message().to_owned()),
    }
}

on_each_version! {
    async fn a_publication_becomes_what_is_wanted_and_is_then_left_alone(version: u32) {
        let sandbox = sandbox(version).await;
        let mut session = session(&sandbox, "postgres").await;
        execute(session.client(), "create table a (id int primary key, v int); create table b (id int primary key, v int); create table c (id int primary key)").await;
        assert_eq!(publication::inspect(&session, &publication("p")).await.unwrap(), None);

        let mut wanted = PublicationSpec { tables: vec![columns("a", &["v", "id"]), rows("b", "id > 5 and id < 9")], ..spec(&[]) };
        assert_eq!(create_or_alter(&mut session, &wanted).await.unwrap(), Outcome::Created);
        let found = publication::inspect(&session, &publication("p")).await.unwrap().unwrap();
        assert_eq!(found.spec.tables[1].row_filter.as_deref(), Some("((id > 5) AND (id < 9))"));
        assert!(found.owned && found.newer_than.is_empty());
        // The server writes the filter in its own way: that is no difference.
        assert_eq!(create_or_alter(&mut session, &wanted).await.unwrap(), Outcome::Unchanged);

        wanted.tables.push(TableSpec::whole("public", "c"));
        wanted.tables.remove(0);
        wanted.operations.truncate = false;
        let Outcome::Altered(statements) = create_or_alter(&mut session, &wanted).await.unwrap() else { panic!("not altered") };
        assert!(statements.iter().any(|s| s.ends_with("DROP TABLE \"public\".\"a\", \"public\".\"b\"")), "{statements:?}");
        let found = publication::inspect(&session, &publication("p")).await.unwrap().unwrap().spec;
        assert_eq!(found.operations, wanted.operations);
        let names: Vec<&str> = found.tables.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["b", "c"]);

        execute(session.client(), "alter publication p add tables in schema public").await;
        create_or_alter(&mut session, &spec(&["c"])).await.unwrap();
        let found = publication::inspect(&session, &publication("p")).await.unwrap().unwrap();
        assert_eq!((found.schemas, found.spec), (vec![], spec(&["c"])));
        assert!(publication::drop(&session, &publication("p")).await.unwrap());
        assert!(!publication::drop(&session, &publication("p")).await.unwrap());
    }

    async fn a_table_whose_updates_would_fail_is_not_published(version: u32) {
        let sandbox = sandbox(version).await;
        let mut session = session(&sandbox, "postgres").await;
        execute(session.client(), "
            create table keyless (id int, v int);
            create table lazy (id int primary key deferrable, v int);
            create table keyed (id int primary key, v int);
            create table whole (id int primary key, v int); alter table whole replica identity full;
            create table \"Parts\" (id int, v int) partition by list (id);
            create table part1 partition of \"Parts\" for values in (1);
            create table part2 partition of \"Parts\" for values in (2);
            alter table part1 replica identity full").await;
        for table in ["keyless", "lazy", "keyed", "whole", "\"Parts\""] {
            execute(session.client(), &format!("insert into {table} values (2, 2)")).await;
        }
        let cases = [
            (spec(&["keyless"]), "keyless", "ALTER TABLE public.keyless REPLICA IDENTITY FULL"),
            (spec(&["lazy"]), "lazy", "deferrable"),
            (spec(&["Parts"]), "\"Parts\"", "`ALTER TABLE public.part2 REPLICA IDENTITY FULL`"),
            (with(columns("keyed", &["v"])), "keyed", "(id)"),
            (with(columns("whole", &["id"])), "whole", "whole row"),
            (with(rows("keyed", "v > 1")), "keyed", "looks at v"),
        ];
        for (wanted, table, says) in cases {
            let update = format!("update {table} set v = 3");
            let error = create_or_alter(&mut session, &wanted).await.unwrap_err();
            assert!(matches!(error, PublicationError::Harmful { .. }), "{error}");
            assert!(error.to_string().contains(says), "{error}");
            assert_eq!(publication::inspect(&session, &publication("p")).await.unwrap(), None);
            execute(session.client(), &update).await;
            // The control: published all the same, the application's update fails.
            for statement in publication::plan(None, &wanted) {
                execute(session.client(), &statement).await;
            }
            let error = session.client().batch_execute(&update).await.unwrap_err();
            assert!(error.as_db_error().unwrap().message().contains("cannot update table"), "{error}");
            execute(session.client(), "drop publication p").await;
            // Inserts alone are harmless.
            let inserts = Operations { update: false, delete: false, ..Operations::default() };
            let wanted = PublicationSpec { operations: inserts, ..wanted };
            assert_eq!(create_or_alter(&mut session, &wanted).await.unwrap(), Outcome::Created);
            execute(session.client(), &update).await;
            publication::drop(&session, &publication("p")).await.unwrap();
        }
        // The fix that the error names works.
        execute(session.client(), "alter table public.keyless replica identity full").await;
        create_or_alter(&mut session, &spec(&["keyless", "keyed", "whole"])).await.unwrap();
        for table in ["keyless", "keyed", "whole"] {
            execute(session.client(), &format!("update {table} set v = 3")).await;
        }
    }

    async fn a_slot_is_never_made_to_look_for_a_publication_that_came_later(version: u32) {
        let sandbox = sandbox(version).await;
        let mut session = session(&sandbox, "postgres").await;
        execute(session.client(), "create table t (id int primary key)").await;
        slot::create(&session, &name("s"), &CreateOptions::default()).await.unwrap();
        execute(session.client(), "insert into t values (1)").await;
        let error = prepare(&mut session, &spec(&["t"]), &name("s"), &CreateOptions::default()).await.unwrap_err();
        assert!(matches!(error, PublicationError::SlotIsOlder { .. }), "{error}");

        // The control: what the server makes of it, once it is done all the same.
        create_or_alter(&mut session, &spec(&["t"])).await.unwrap();
        let found = publication::inspect(&session, &publication("p")).await.unwrap().unwrap();
        assert_eq!(found.newer_than, [name("s")]);
        match peek(&session, "p").await {
            Err(message) => assert_eq!(message, "publication \"p\" does not exist"),
            Ok(sent) => assert!(version >= 18 && !sent.contains('I'), "{sent}"),
        }

        // In the right order all is well, and stays so when done again.
        slot::drop(&session, &name("s")).await.unwrap();
        publication::drop(&session, &publication("p")).await.unwrap();
        let made = prepare(&mut session, &spec(&["t"]), &name("s"), &CreateOptions::default()).await.unwrap();
        assert!(made.publication == Outcome::Created && made.slot.is_some());
        execute(session.client(), "insert into t values (2)").await;
        assert_eq!(peek(&session, "p").await.unwrap(), "BRIC");
        let found = publication::inspect(&session, &publication("p")).await.unwrap().unwrap();
        assert_eq!(found.newer_than, []);
        let again = prepare(&mut session, &spec(&["t"]), &name("s"), &CreateOptions::default()).await.unwrap();
        assert!(again.publication == Outcome::Unchanged && again.slot.is_none());
    }

    async fn a_publication_replaced_in_one_go_is_missing_at_no_position(version: u32) {
        let sandbox = sandbox(version).await;
        let mut session = session(&sandbox, "postgres").await;
        execute(session.client(), "create table t (id int primary key)").await;
        let all = PublicationSpec { all_tables: true, ..spec(&[]) };
        prepare(&mut session, &all, &name("s"), &CreateOptions::default()).await.unwrap();
        execute(session.client(), "insert into t values (1)").await;
        create_or_alter(&mut session, &spec(&["t"])).await.unwrap();
        execute(session.client(), "insert into t values (2)").await;
        assert_eq!(peek(&session, "p").await.unwrap().matches('I').count(), 2);
    }

    async fn names_of_any_letters_and_full_length_are_found_again(version: u32) {
        let sandbox = sandbox(version).await;
        let mut session = session(&sandbox, "postgres").await;
        execute(session.client(), "create schema \"My Shop\"; create table \"My Shop\".\"Or\"\"ders\" (\"Id\" int primary key)").await;
        slot::create(&session, &name(&"s".repeat(63)), &CreateOptions::default()).await.unwrap();
        assert!(slot::inspect(&session, &name(&"s".repeat(63))).await.unwrap().is_some());
        slot::drop(&session, &name(&"s".repeat(63))).await.unwrap();
        for text in ["Mixed Case", "quo\"te', and comma", &"Ü".repeat(31), "p--", "back\\slash"] {
            let table = TableSpec { columns: Some(vec!["Id".to_owned()]), ..TableSpec::whole("My Shop", "Or\"ders") };
            let wanted = PublicationSpec::of(publication(text), vec![table]);
            prepare(&mut session, &wanted, &name("s"), &CreateOptions::default()).await.unwrap();
            let found = publication::inspect(&session, &publication(text)).await.unwrap().unwrap();
            assert_eq!(found.spec, wanted);
            execute(session.client(), "insert into \"My Shop\".\"Or\"\"ders\" values (1); truncate \"My Shop\".\"Or\"\"ders\"").await;
            assert!(peek(&session, text).await.unwrap().contains('I'), "{text}");
            slot::drop(&session, &name("s")).await.unwrap();
            assert!(publication::drop(&session, &publication(text)).await.unwrap());
        }
    }

    async fn globs_find_the_tables_that_can_be_published(version: u32) {
        let sandbox = sandbox(version).await;
        let mut session = session(&sandbox, "postgres").await;
        execute(session.client(), "
            create table orders (id int primary key); create table \"Orders\" (id int primary key);
            create table order_parts (id int primary key) partition by list (id);
            create table order_part1 partition of order_parts for values in (1);
            create unlogged table order_cache (id int); create temp table order_temp (id int);
            create view order_view as select * from orders;
            create schema audit; create table audit.orders (id int)").await;
        let tables = list_tables(&session).await.unwrap();
        let found = |wanted: &[&str], excluded: &[&str]| {
            let globs = |texts: &[&str]| texts.iter().map(|t| Glob::new(t).unwrap()).collect::<Vec<_>>();
            let found = matching(&tables, &globs(wanted), &globs(excluded));
            found.iter().map(|t| format!("{}.{}", t.schema, t.name)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(found(&["*.order*"], &[]), "audit.orders public.order_parts public.orders");
        assert_eq!(found(&["public.?rders"], &[]), "public.Orders public.orders");
        assert_eq!(found(&["*.*"], &["audit.*", "*.Orders"]), "public.order_parts public.orders");
        // A partition stands for itself where what it is a partition of is not wanted.
        assert_eq!(found(&["public.order_part?"], &["*.order_parts"]), "public.order_part1");
        let audit = tables.iter().find(|t| t.schema == "audit").unwrap();
        assert!(!audit.has_primary_key && audit.unidentified == ["audit.orders"], "{audit:?}");

        let error = create_or_alter(&mut session, &spec(&["orders", "order_view"])).await.unwrap_err();
        assert!(error.to_string().contains("no table public.order_view"), "{error}");
    }
}
