//! The PostgreSQL sink on real servers.

mod chaos;
mod fixture;
mod rights;

use herdsman_sandbox::on_each_version;
use herdsman_stream::{DeliveryError, Sink, Why};
use herdsman_wal::ReplicaIdentity::{Default as ByKey, Full};
use serde_json::json;

use fixture::{Does, INT4, INT8, Maker, TEXT, TOAST, Target, deliver, table};

const ORDERS: &str = "CREATE TABLE orders (id int8 PRIMARY KEY, what text, note text);";

/// Rows of `orders` in one line.
const SHOWN: &str = "SELECT coalesce(string_agg(concat_ws(',', id, coalesce(what, '-'), coalesce(note, '-')), ' ' ORDER BY id), '')
                     FROM orders";

on_each_version! {
    async fn rows_follow_their_source(version: u32) {
        let target = Target::start(version, ORDERS).await;
        let sink = target.opened(json!({})).await;
        let t = table("orders", ByKey, &[("id", INT8, true), ("what", TEXT, false), ("note", TEXT, false)]);
        let mut maker = Maker::new();
        let first = maker.batch(&[
            (&t, Does::Insert(&[Some("1"), Some("a"), None])),
            (&t, Does::Insert(&[Some("2"), Some("b'\\\"é"), Some("")])),
            (&t, Does::Insert(&[Some("3"), Some("c"), Some("n")])),
            (&t, Does::Update(&[Some("1"), Some("A"), None])),
            (&t, Does::Update(&[Some("1"), Some("AA"), Some("x")])),
            (&t, Does::Delete(&[Some("3"), None, None])),
            (&t, Does::Insert(&[Some("3"), Some("again"), None])),
        ]);
        assert_eq!(deliver(&sink, &first).await, [0; 0]);
        assert_eq!(target.text(SHOWN).await, "1,AA,x 2,b'\\\"é, 3,again,-");
        // A large value that was not sent stays; a changed key moves the row, both at once too.
        let second = maker.batch(&[
            (&t, Does::Update(&[Some("1"), Some("B"), TOAST])),
            (&t, Does::Move(&[Some("2"), None, None], &[Some("20"), TOAST, Some("moved")])),
            (&t, Does::Move(&[Some("20"), None, None], &[Some("21"), Some("twice"), TOAST])),
            (&t, Does::Update(&[Some("3"), TOAST, TOAST])),
        ]);
        assert_eq!(deliver(&sink, &second).await, [0; 0]);
        assert_eq!(target.text(SHOWN).await, "1,B,x 3,again,- 21,twice,moved");
        let third = maker.batch(&[(&t, Does::Truncate), (&t, Does::Insert(&[Some("9"), None, None]))]);
        assert_eq!(deliver(&sink, &third).await, [0; 0]);
        assert_eq!(target.text(SHOWN).await, "9,-,-");
        assert_eq!(sink.open().await.unwrap(), Some(maker.position()));
        // A row of a snapshot is written whenever it comes, and moves no position.
        let read = maker.batch(&[(&t, Does::Read(&[Some("9"), Some("read"), None]))]);
        let before = sink.open().await.unwrap();
        for _ in 0..2 {
            assert_eq!(deliver(&sink, &read).await, [0; 0]);
            assert_eq!(target.text(SHOWN).await, "9,read,-");
        }
        assert_eq!(sink.open().await.unwrap(), before);
        // What is covered is not applied again.
        assert_eq!(deliver(&sink, &first).await, [0; 0]);
        assert_eq!(target.text(SHOWN).await, "9,read,-");
        sink.close().await;
    }

    async fn a_table_without_a_key_changes_one_row_at_a_time(version: u32) {
        let target = Target::start(version, "CREATE TABLE points (p point, j json, n numeric)").await;
        let sink = target.opened(json!({})).await;
        let t = table("points", Full, &[("p", 600, false), ("j", 114, false), ("n", 1700, false)]);
        let twin = [Some("(1,2)"), Some("{\"a\": 1}"), Some("1.0")];
        let like = [Some("(1,2)"), Some("{\"a\": 1}"), Some("1.00")];
        let nothing = [None, None, None];
        let changed = [Some("(3,4)"), None, Some("2")];
        let mut maker = Maker::new();
        let batch = maker.batch(&[
            (&t, Does::Insert(&like)),
            (&t, Does::Insert(&twin)),
            (&t, Does::Insert(&twin)),
            (&t, Does::Insert(&nothing)),
            (&t, Does::FullUpdate(&twin, &changed)),
            (&t, Does::FullDelete(&nothing)),
            // Not sent again, and told by the old row.
            (&t, Does::FullUpdate(&like, &[Some("(9,9)"), TOAST, Some("1.00")])),
        ]);
        assert_eq!(deliver(&sink, &batch).await, [0; 0]);
        let rows = target.column("SELECT concat_ws(' ', p, j, n) FROM points ORDER BY 1").await;
        let rows: Vec<_> = rows.iter().flatten().map(String::as_str).collect();
        assert_eq!(rows, ["(1,2) {\"a\": 1} 1.0", "(3,4) 2", "(9,9) {\"a\": 1} 1.00"]);
    }

    async fn one_bad_row_is_rejected_alone_and_everything_else_is_kept(version: u32) {
        let schema = "CREATE TABLE orders (id int8 PRIMARY KEY, what varchar(4) NOT NULL UNIQUE, note text)";
        let target = Target::start(version, schema).await;
        let sink = target.opened(json!({})).await;
        let t = table("orders", ByKey, &[("id", INT8, true), ("what", TEXT, false), ("note", TEXT, false)]);
        let mut maker = Maker::new();
        let batch = maker.batch(&[
            (&t, Does::Insert(&[Some("1"), Some("a"), None])),
            (&t, Does::Insert(&[Some("2"), Some("secret value"), None])),
            (&t, Does::Insert(&[Some("3"), Some("c"), None])),
            (&t, Does::Insert(&[Some("x-secret"), Some("d"), None])),
            (&t, Does::Insert(&[Some("4"), None, None])),
            (&t, Does::Insert(&[Some("5"), Some("a"), None])),
            (&t, Does::Update(&[Some("77"), Some("gone"), TOAST])),
            (&t, Does::Insert(&[Some("6"), Some("e"), None])),
            (&t, Does::Update(&[Some("88"), Some("new"), None])),
        ]);
        let Err(DeliveryError::Partly(left)) = sink.deliver(&batch).await else {
            panic!("some are rejected")
        };
        let indexes: Vec<usize> = left.iter().map(|left| left.index).collect();
        assert_eq!(indexes, [1, 3, 4, 5, 6]);
        for left in &left {
            let Why::Rejected(error) = &left.why else { panic!("{left:?}") };
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        assert_eq!(target.text(SHOWN).await, "1,a,- 3,c,- 6,e,- 88,new,-");
        let kept = "SELECT string_agg(ordinal || ' ' || (content::jsonb -> 'new' ->> 'id'), ', ' ORDER BY ordinal)
                    FROM herdsman_stream.rejected";
        assert_eq!(target.text(kept).await, "1 2, 3 x-secret, 4 4, 5 5, 6 77");
        assert_eq!(sink.open().await.unwrap(), Some(maker.position()));
        // Replayed, after somebody has seen to it: without a position, and whatever the position says.
        target.admin.batch_execute("ALTER TABLE orders ALTER what TYPE text").await.unwrap();
        let again = herdsman_stream::Batch { changes: vec![batch.changes[1].clone()], position: None };
        assert_eq!(deliver(&sink, &again).await, [0; 0]);
        assert_eq!(target.text("SELECT what FROM orders WHERE id = 2").await, "secret value");
    }

    async fn values_of_every_type_arrive_as_they_were(version: u32) {
        let columns = [
            ("b", 16, "true"), ("i", INT4, "-7"), ("f", 701, "1e-300"), ("inf", 701, "-Infinity"),
            ("n", 1700, "123456789012345678901234567890.1234567890"), ("nan", 1700, "NaN"),
            ("t", TEXT, " x\u{1F40F}\n\\"), ("c", 1042, "ab"), ("by", 17, "\\x00ff27"), ("u", 2950, "00000000-0000-0000-0000-00000000000f"),
            ("d", 1082, "0044-03-15 BC"), ("ts", 1114, "infinity"), ("tz", 1184, "2026-01-02 03:04:05.678901+02"),
            ("iv", 1186, "-1 years +3 days 04:05:06.7"), ("j", 114, "{\"b\":1, \"a\":[null]}"), ("jb", 3802, "{\"a\": [1.00]}"),
            ("ia", 1007, "[0:1][1:2]={{1,NULL},{3,4}}"), ("ta", 1009, "{\"a,b\",NULL,\"\\\"\",\"NULL\"}"),
            ("r", 3904, "[1,5)"), ("mr", 4451, "{[1,3),[5,7)}"), ("net", 869, "10.0.0.1/8"), ("bit", 1560, "101"), ("vb", 1562, "1100"),
            ("xml", 142, "<a/>"), ("pt", 600, "(1.5,-2)"), ("tsv", 3614, "'a':1 'b'"), ("lsn", 3220, "16/B374D848"),
        ];
        let target = Target::start(version, "CREATE TYPE mood AS ENUM ('sad', 'happy');
            CREATE TYPE pair AS (a int, b text); CREATE DOMAIN small AS int CHECK (value < 10)").await;
        let sink = target.opened(json!({"create_tables": true, "tables": {"public.*": "copied.*"}})).await;
        let mut relation = (*table("all_types", ByKey, &[("id", INT4, true)])).clone();
        let mut row = vec![Some("1")];
        for (name, oid, value) in columns {
            relation.columns.extend(table("x", ByKey, &[(name, oid, false)]).columns.iter().cloned());
            row.push(Some(value));
        }
        // A modifier is made part of the column; a type of the user's is found by its name.
        relation.columns.iter_mut().filter(|c| &*c.name == "bit").for_each(|c| c.type_modifier = 3);
        for (name, data_type, value) in [("mood", "mood", "happy"), ("pair", "pair", "(1,\"x y\")"), ("small", "small", "9"), ("odd", "missing", "?")] {
            let mut column = relation.columns[1].clone();
            column.name = name.into();
            let kind = herdsman_wal::TypeKind::Base;
            column.data_type = herdsman_wal::DataType { oid: 99_999, schema: "public".into(), name: data_type.into(), kind }.into();
            relation.columns.push(column);
            row.push(Some(value));
        }
        let t = std::sync::Arc::new(relation);
        let nulls: Vec<_> = std::iter::once(Some("2")).chain(row.iter().skip(1).map(|_| None)).collect();
        let batch = Maker::new().batch(&[(&t, Does::Insert(&row)), (&t, Does::Insert(&nulls))]);
        assert_eq!(deliver(&sink, &batch).await, [0; 0]);
        target.admin.batch_execute("SET timezone = 'Africa/Tripoli'; SET datestyle = ISO").await.unwrap();
        for (column, value) in t.columns.iter().zip(&row) {
            let sql = format!("SELECT \"{}\"::text FROM copied.all_types ORDER BY id", column.name);
            let value = if &*column.name == "iv" { Some("-1 years +3 days 04:05:06.7") } else { *value };
            let found = target.column(&sql).await;
            assert_eq!(found[0].as_deref(), value, "{}", column.name);
            assert_eq!(found[1].as_deref(), (&*column.name == "id").then_some("2"), "{}", column.name);
        }
        let types = "SELECT string_agg(format_type(atttypid, atttypmod), ' ' ORDER BY attnum) FROM pg_attribute
                     WHERE attrelid = 'copied.all_types'::regclass AND attname IN ('bit', 'mood', 'small', 'odd')";
        assert_eq!(target.text(types).await, "bit(3) mood small text");
        let key = "SELECT count(*)::text FROM pg_index WHERE indrelid = 'copied.all_types'::regclass AND indisprimary";
        assert_eq!(target.text(key).await, "1");
    }

    async fn a_column_that_the_target_lacks_stops_is_added_or_left_out(version: u32) {
        for (setting, stops, shown) in [("error", true, ""), ("add_columns", false, "1,a,n"), ("ignore", false, "1,a")] {
            let target = Target::start(version, "CREATE TABLE orders (id int8 PRIMARY KEY, what text)").await;
            let sink = target.opened(json!({"on_schema_change": setting})).await;
            let t = table("orders", ByKey, &[("id", INT8, true), ("what", TEXT, false), ("note", TEXT, false)]);
            let batch = Maker::new().batch(&[(&t, Does::Insert(&[Some("1"), Some("a"), Some("n")]))]);
            match sink.deliver(&batch).await {
                Err(DeliveryError::Unavailable(error)) => {
                    assert!(stops && error.to_string().contains("public.orders lacks `note`"), "{error}");
                    // Somebody adds it: nothing has to be restarted.
                    target.admin.batch_execute("ALTER TABLE orders ADD note text").await.unwrap();
                    assert_eq!(deliver(&sink, &batch).await, [0; 0]);
                    assert_eq!(target.text(SHOWN).await, "1,a,n");
                }
                outcome => {
                    assert!(outcome.is_ok() && !stops, "{setting}: {outcome:?}");
                    let rows = target.text("SELECT concat_ws(',', t.*) FROM orders t").await;
                    assert_eq!(rows.trim_matches(['(', ')']), shown, "{setting}");
                }
            }
        }
    }

    async fn a_table_altered_at_the_target_is_looked_at_again(version: u32) {
        let target = Target::start(version, ORDERS).await;
        let sink = target.opened(json!({})).await;
        let t = table("orders", ByKey, &[("id", INT8, true), ("what", TEXT, false), ("note", TEXT, false)]);
        let mut maker = Maker::new();
        let mut row = async |id: &str, what: &str| {
            let batch = maker.batch(&[(&t, Does::Insert(&[Some(id), Some(what), None]))]);
            assert_eq!(deliver(&sink, &batch).await, [0; 0], "{id}");
        };
        row("1", "a").await;
        target.admin.batch_execute("DROP TABLE orders; CREATE TABLE orders (note text, what text, id numeric UNIQUE)").await.unwrap();
        row("2", "b").await;
        row("2", "c").await;
        target.admin.batch_execute("ALTER TABLE orders DROP CONSTRAINT orders_id_key; ALTER TABLE orders ALTER what TYPE varchar").await.unwrap();
        row("3", "d").await;
        assert_eq!(target.text(SHOWN).await, "2,c,- 3,d,-");
    }

    async fn every_change_is_listed_in_append_mode(version: u32) {
        let target = Target::start(version, "").await;
        let sink = target.opened(json!({"mode": "append", "schema": "log"})).await;
        let t = table("orders", ByKey, &[("id", INT8, true), ("what", TEXT, false)]);
        let batch = Maker::new().batch(&[
            (&t, Does::Insert(&[Some("1"), Some("é")])),
            (&t, Does::Update(&[Some("1"), TOAST])),
            (&t, Does::Delete(&[Some("1"), None])),
            (&t, Does::Truncate),
        ]);
        for _ in 0..2 {
            assert_eq!(deliver(&sink, &batch).await, [0; 0]);
        }
        let listed = "SELECT string_agg(concat_ws(' ', ordinal, kind, table_name, content), '; ' ORDER BY ordinal) FROM log.changes";
        assert_eq!(
            target.text(listed).await,
            "0 insert orders {\"new\": {\"id\": \"1\", \"what\": \"é\"}}; 1 update orders {\"new\": {\"id\": \"1\"}}; \
             2 delete orders {\"old\": {\"id\": \"1\"}}; 3 truncate orders {}"
        );
        let at = "SELECT min(committed_at)::timestamptz(0) AT TIME ZONE 'UTC' || '' FROM log.changes";
        assert_eq!(target.text(at).await, "2025-05-08 06:13:20");
    }
}
