//! What the triggers of a prepared table do to the application's statements: nothing it would notice, and a stamp that
//! only grows.

use herdsman_sandbox::on_each_version;
use tokio_postgres::Client;

use crate::nodes::Nodes;

/// One node with a table `t (id, v)`, prepared.
async fn prepared(version: u32) -> (Nodes, Client) {
    let nodes = Nodes::start(vec![version], |_| {}).await;
    nodes.run("n1", "app", "CREATE TABLE t (id int PRIMARY KEY, v text)").await;
    nodes.up().await;
    let app = nodes.sql("n1", "app").await;
    (nodes, app)
}

/// A question's one value as text.
async fn one(client: &Client, question: &str) -> Option<String> {
    let rows = client.simple_query(question).await;
    let rows = rows.unwrap_or_else(|error| panic!("{question}: {error:?}"));
    rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}

async fn stamp(nodes: &Nodes, from: &str) -> i64 {
    let question = format!("SELECT _herdsman_stamp FROM {from}");
    nodes.ask("n1", &question).await.unwrap_or_else(|| panic!("no row: {from}")).parse().unwrap()
}

const GONE: &str = "herdsman_gone.\"public.t\"";

on_each_version! {
    /// What the example's triggers lose on one node: `specs/mesh.md` §1.1.
    async fn no_update_is_lost_on_one_node(version: u32) {
        let (_nodes, app) = prepared(version).await;
        // The second change of a row in one transaction, and of a row made in it.
        app.batch_execute("BEGIN; INSERT INTO t VALUES (1, 'v0'); UPDATE t SET v = 'v1'; UPDATE t SET v = 'v2'; COMMIT").await.unwrap();
        assert_eq!(one(&app, "SELECT v FROM t").await.unwrap(), "v2");
        app.batch_execute("BEGIN; UPDATE t SET v = 'v3'; UPDATE t SET v = 'v4'; COMMIT").await.unwrap();
        assert_eq!(one(&app, "SELECT v FROM t").await.unwrap(), "v4");
        // A transaction that began earlier and writes later.
        let other = _nodes.sql("n1", "app").await;
        app.batch_execute("BEGIN; SELECT 1").await.unwrap();
        other.batch_execute("UPDATE t SET v = 'theirs'").await.unwrap();
        assert_eq!(one(&app, "UPDATE t SET v = 'ours' RETURNING v").await.unwrap(), "ours");
        app.batch_execute("COMMIT").await.unwrap();
        assert_eq!(one(&app, "SELECT v FROM t").await.unwrap(), "ours");
        // Another time zone, both ways.
        app.batch_execute("SET TimeZone = 'Asia/Tokyo'; UPDATE t SET v = 'tokyo'; SET TimeZone = 'UTC'; UPDATE t SET v = 'utc'; SET TimeZone = 'America/Los_Angeles'; UPDATE t SET v = 'la'").await.unwrap();
        assert_eq!(one(&app, "SELECT v FROM t").await.unwrap(), "la");
        // A clock that is behind what has come from elsewhere.
        _nodes.run("n1", "mesh", "SELECT setval('herdsman.floor', (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + 5000000)").await;
        assert_eq!(one(&app, "UPDATE t SET v = 'behind' RETURNING v").await.unwrap(), "behind");
        assert_eq!(one(&app, "SELECT v FROM t").await.unwrap(), "behind");
    }

    async fn stamps_grow_with_every_statement_even_with_the_clock_behind(version: u32) {
        let (nodes, app) = prepared(version).await;
        for ahead in [0_i64, 5_000_000] {
            let behind = format!("SELECT setval('herdsman.floor', (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + {ahead})");
            nodes.run("n1", "mesh", &behind).await;
            let mut last = stamp(&nodes, "(SELECT last_value AS _herdsman_stamp FROM herdsman.floor) f").await;
            for id in 0..5 {
                app.batch_execute(&format!("INSERT INTO t VALUES ({id}, '')")).await.unwrap();
                let inserted = stamp(&nodes, &format!("t WHERE id = {id}")).await;
                app.batch_execute(&format!("UPDATE t SET v = v || 'x' WHERE id = {id}; UPDATE t SET v = v || 'x' WHERE id = {id}")).await.unwrap();
                let updated = stamp(&nodes, &format!("t WHERE id = {id}")).await;
                app.batch_execute(&format!("DELETE FROM t WHERE id = {id}")).await.unwrap();
                let deleted = stamp(&nodes, &format!("{GONE} WHERE id = {id}")).await;
                app.batch_execute(&format!("INSERT INTO t VALUES ({id}, '')")).await.unwrap();
                let again = stamp(&nodes, &format!("t WHERE id = {id}")).await;
                assert!(last < inserted && inserted < updated && updated < deleted && deleted < again);
                last = again;
            }
            app.batch_execute("TRUNCATE t; INSERT INTO t VALUES (9)").await.unwrap();
            let truncated = stamp(&nodes, "herdsman.truncates WHERE rel = 'public.t'").await;
            assert!(last < truncated && truncated < stamp(&nodes, "t").await);
            app.batch_execute("DELETE FROM t").await.unwrap();
        }
    }

    async fn a_clock_that_goes_back_does_not_put_a_row_below_its_tombstone(version: u32) {
        let (nodes, app) = prepared(version).await;
        app.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
        // As if it had been written before the clock went back by a minute.
        nodes.run("n1", "postgres", "SET session_replication_role = replica; UPDATE t SET _herdsman_stamp = _herdsman_stamp + 60000000").await;
        app.batch_execute("DELETE FROM t; INSERT INTO t VALUES (1, 'again')").await.unwrap();
        assert!(stamp(&nodes, GONE).await < stamp(&nodes, "t").await);
        nodes.run("n1", "postgres", "SET session_replication_role = replica; UPDATE t SET _herdsman_stamp = _herdsman_stamp + 1000000").await;
        let newest = stamp(&nodes, "t").await;
        app.batch_execute("TRUNCATE t").await.unwrap();
        assert!(newest < stamp(&nodes, "herdsman.truncates").await);
    }

    async fn a_key_deleted_and_made_again_in_one_statement_or_transaction_is_there(version: u32) {
        let (nodes, app) = prepared(version).await;
        app.batch_execute("INSERT INTO t VALUES (1, 'old')").await.unwrap();
        let old = stamp(&nodes, "t").await;
        app.batch_execute("BEGIN; DELETE FROM t; INSERT INTO t VALUES (1, 'new'); COMMIT").await.unwrap();
        let (gone, new) = (stamp(&nodes, GONE).await, stamp(&nodes, "t").await);
        assert!(old < gone && gone < new);
        assert_eq!(one(&nodes.sql("n1", "postgres").await, &format!("SELECT _herdsman_seen FROM {GONE}")).await.unwrap(), old.to_string());
        // In one statement: a function in it deletes before the row is made.
        app.batch_execute("CREATE FUNCTION clear() RETURNS int LANGUAGE sql AS 'DELETE FROM t WHERE id = 1; SELECT 1'; INSERT INTO t SELECT clear(), 'newer'").await.unwrap();
        assert!(stamp(&nodes, GONE).await > new && stamp(&nodes, GONE).await < stamp(&nodes, "t").await);
        assert_eq!(one(&app, "SELECT v FROM t").await.unwrap(), "newer");
    }

    async fn a_changed_key_leaves_a_tombstone_and_an_unchanged_one_none(version: u32) {
        let (nodes, app) = prepared(version).await;
        app.batch_execute("INSERT INTO t VALUES (1, 'a'); UPDATE t SET id = 1, v = 'b'").await.unwrap();
        assert_eq!(nodes.ask("n1", &format!("SELECT count(*) FROM {GONE}")).await.unwrap(), "0");
        let before = stamp(&nodes, "t").await;
        app.batch_execute("UPDATE t SET id = 2").await.unwrap();
        assert_eq!(one(&nodes.sql("n1", "postgres").await, &format!("SELECT (id, _herdsman_node, _herdsman_seen, _herdsman_seen_node) FROM {GONE}")).await.unwrap(), format!("(1,1,{before},1)"));
        assert!(before < stamp(&nodes, GONE).await);
        assert_eq!(one(&app, "SELECT (id, v) FROM t").await.unwrap(), "(2,b)");
        // A trigger of the application's that changes the key is seen too.
        app.batch_execute("
            CREATE FUNCTION shift() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.id := NEW.id + 10; RETURN NEW; END';
            CREATE TRIGGER zzz BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION shift(); UPDATE t SET v = 'c'").await.unwrap();
        assert_eq!(nodes.ask("n1", &format!("SELECT string_agg(id::text, ' ' ORDER BY id) FROM {GONE}")).await.unwrap(), "1 2");
    }

    async fn returning_and_every_way_to_write_give_what_was_written(version: u32) {
        let (nodes, app) = prepared(version).await;
        assert_eq!(one(&app, "INSERT INTO t VALUES (1, 'a') RETURNING (id, v)").await.unwrap(), "(1,a)");
        assert_eq!(one(&app, "INSERT INTO t VALUES (1, 'b') ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v || t.v RETURNING v").await.unwrap(), "ba");
        assert_eq!(one(&app, "INSERT INTO t VALUES (1, 'c') ON CONFLICT DO NOTHING RETURNING v").await, None);
        assert_eq!(one(&app, "MERGE INTO t USING (VALUES (1, 'm'), (2, 'n')) s (id, v) ON t.id = s.id WHEN MATCHED THEN UPDATE SET v = s.v WHEN NOT MATCHED THEN INSERT (id, v) VALUES (s.id, s.v)").await, None);
        assert_eq!(one(&app, "SELECT string_agg(id || v, ' ' ORDER BY id) FROM t").await.unwrap(), "1m 2n");
        app.batch_execute("MERGE INTO t USING (VALUES (2)) s (id) ON t.id = s.id WHEN MATCHED THEN DELETE").await.unwrap();
        let copy = app.copy_in("COPY t (id, v) FROM STDIN").await.unwrap();
        let mut copy = std::pin::pin!(copy);
        futures_util::SinkExt::send(&mut copy, bytes::Bytes::from_static(b"3\tx\n4\ty\n")).await.unwrap();
        assert_eq!(copy.finish().await.unwrap(), 2);
        let stamped = "SELECT count(*) FROM t WHERE _herdsman_node = 1 AND _herdsman_stamp > 1600000000000000";
        assert_eq!(one(&app, stamped).await.unwrap(), "3");
        assert_eq!(nodes.ask("n1", &format!("SELECT string_agg(id::text, ' ') FROM {GONE}")).await.unwrap(), "2");
        // What somebody writes into the mesh's own columns does not count.
        assert_eq!(one(&app, "INSERT INTO t (id, _herdsman_stamp, _herdsman_node) VALUES (5, 99999999999999999, 7) RETURNING _herdsman_stamp < 99999999999999999 AND _herdsman_node = 1").await.unwrap(), "t");
    }

    async fn nothing_fires_for_what_is_applied(version: u32) {
        let (nodes, _app) = prepared(version).await;
        nodes.run("n1", "mesh", "SET session_replication_role = replica;
            INSERT INTO t VALUES (1, 'a', 5, 7); UPDATE t SET v = 'b'; UPDATE t SET id = 2").await;
        assert_eq!(nodes.ask("n1", "SELECT t FROM t").await.unwrap(), "(2,b,5,7)");
        nodes.run("n1", "mesh", "SET session_replication_role = replica; DELETE FROM t; TRUNCATE t").await;
        assert_eq!(nodes.ask("n1", &format!("SELECT (SELECT count(*) FROM {GONE}) + (SELECT count(*) FROM herdsman.truncates)")).await.unwrap(), "0");
    }

    async fn a_user_with_no_rights_on_the_mesh_writes_and_cannot_forge(version: u32) {
        let (nodes, app) = prepared(version).await;
        app.batch_execute("GRANT ALL ON t TO plain").await.unwrap();
        let plain = nodes.sql("n1", "plain").await;
        plain.batch_execute("SET search_path = ''; INSERT INTO public.t VALUES (1, 'a'), (2, 'b'); UPDATE public.t SET v = 'c'; UPDATE public.t SET id = 3 WHERE id = 2; DELETE FROM public.t WHERE id = 1; TRUNCATE public.t").await.unwrap();
        assert_eq!(nodes.ask("n1", &format!("SELECT string_agg(id::text, ' ' ORDER BY id) FROM {GONE}")).await.unwrap(), "1 2");
        for forbidden in [
            "SELECT * FROM herdsman.members",
            "DELETE FROM herdsman.truncates",
            "SELECT * FROM herdsman_gone.\"public.t\"",
            "SELECT setval('herdsman.floor', 9000000000000000000)",
            "CREATE TEMP TABLE mine (id int); CREATE TRIGGER x BEFORE TRUNCATE ON mine EXECUTE FUNCTION herdsman.truncated()",
        ] {
            let error = plain.batch_execute(forbidden).await.expect_err(forbidden);
            assert_eq!(error.code().unwrap().code(), "42501", "{forbidden}");
        }
    }

    async fn ids_of_one_node_are_its_own_and_different(version: u32) {
        let (nodes, _app) = prepared(version).await;
        let plain = nodes.sql("n1", "plain").await;
        let all = one(&plain, "SELECT count(DISTINCT herdsman.id()) FROM generate_series(1, 10000)").await.unwrap();
        assert_eq!(all, "10000");
        assert_eq!(one(&plain, "SELECT (herdsman.id() >> 12) & 1023").await.unwrap(), "1");
        let soon = "SELECT abs((herdsman.id() >> 22) + 1704067200000 - extract(epoch FROM clock_timestamp()) * 1000) < 60000";
        assert_eq!(one(&plain, soon).await.unwrap(), "t");
    }

    async fn long_names_and_keys_of_many_columns_have_tombstones_too(version: u32) {
        let nodes = Nodes::start(vec![version], |_| {}).await;
        let long = "a".repeat(60);
        nodes.run("n1", "app", &format!("CREATE TABLE {long} (\"q\"\"x\" numeric(8, 2), \"held\" text COLLATE \"C\", rel date, v int, PRIMARY KEY (rel, \"held\", \"q\"\"x\"))")).await;
        nodes.up().await;
        nodes.run("n1", "app", &format!("INSERT INTO {long} VALUES (1.5, 'x', '2024-01-01', 1); DELETE FROM {long}; INSERT INTO {long} VALUES (1.5, 'x', '2024-01-01', 1); UPDATE {long} SET rel = '2024-01-02'")).await;
        let table = nodes.ask("n1", "SELECT tablename FROM pg_tables WHERE schemaname = 'herdsman_gone'").await.unwrap();
        assert_eq!(table.len(), 63);
        let keys = format!("SELECT string_agg(rel || ' ' || held || ' ' || \"q\"\"x\", ',') FROM herdsman_gone.\"{table}\"");
        assert_eq!(nodes.ask("n1", &keys).await.unwrap(), "2024-01-01 x 1.50");
    }
}
