//! Tables of every shape that may be in a mesh: what is written to them anywhere is the same everywhere.

use std::collections::BTreeSet;

use herdsman_mesh::engine::Engine;
use herdsman_sandbox::on_each_version;
use tokio::time::{Instant, sleep};

use crate::nodes::Nodes;
use crate::proof::DEADLINE;

impl Nodes {
    /// Waits until all nodes give one answer, and this one.
    async fn all_say(&self, question: &str, answer: &str) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let mut said = BTreeSet::new();
            for node in self.sandbox.node_names() {
                said.insert(self.ask(&node, question).await.unwrap_or_default());
            }
            if said.len() == 1 && said.contains(answer) {
                return;
            }
            assert!(Instant::now() < deadline, "{question}: {said:#?} instead of {answer}");
            sleep(std::time::Duration::from_millis(100)).await;
        }
    }
}

on_each_version! {
    async fn tables_whose_names_look_alike_are_not_taken_for_each_other(version: u32) {
        let nodes = Nodes::start(vec![version; 2], |config| config.tables = vec!["*.*".to_owned()]).await;
        for node in nodes.sandbox.node_names() {
            nodes.run(&node, "postgres", "CREATE SCHEMA \"a.b\" AUTHORIZATION app; CREATE SCHEMA a AUTHORIZATION app; GRANT USAGE ON SCHEMA a, \"a.b\" TO mesh").await;
        }
        nodes.run_everywhere("CREATE TABLE \"a.b\".c (id int PRIMARY KEY, v text); CREATE TABLE a.\"b.c\" (id text PRIMARY KEY, n int)").await;
        nodes.up().await;
        let engine = Engine::start((*nodes.setup).clone()).unwrap();
        nodes.run("n1", "app", "INSERT INTO \"a.b\".c VALUES (1, 'x'), (2, 'y'), (3, 'z'); DELETE FROM \"a.b\".c WHERE id = 1").await;
        nodes.run("n2", "app", "INSERT INTO a.\"b.c\" VALUES ('1', 1), ('k', 2); DELETE FROM a.\"b.c\" WHERE id = 'k'").await;
        nodes.all_say("SELECT string_agg(id || v, ' ' ORDER BY id) FROM \"a.b\".c", "2y 3z").await;
        nodes.all_say("SELECT string_agg(id || n, ' ' ORDER BY id) FROM a.\"b.c\"", "11").await;
        nodes.run("n2", "app", "TRUNCATE a.\"b.c\"").await;
        nodes.all_say("SELECT count(*) FROM a.\"b.c\"", "0").await;
        nodes.all_say("SELECT string_agg(rel, ' ') FROM herdsman.truncates", "a.\"b.c\"").await;
        nodes.run("n1", "app", "INSERT INTO a.\"b.c\" VALUES ('new', 5); UPDATE \"a.b\".c SET v = 'w' WHERE id = 2").await;
        nodes.all_say("SELECT string_agg(id || n, ' ' ORDER BY id) FROM a.\"b.c\"", "new5").await;
        nodes.all_say("SELECT string_agg(id || v, ' ' ORDER BY id) FROM \"a.b\".c", "2w 3z").await;
        engine.stop().await;
    }

    async fn keys_of_several_columns_and_computed_columns_are_carried(version: u32) {
        let nodes = Nodes::start(vec![version; 2], |_| {}).await;
        nodes.run_everywhere("
            CREATE TABLE t (b text COLLATE \"C\", v int, a int, d date, PRIMARY KEY (a, d, b));
            CREATE TABLE g (id int PRIMARY KEY, n numeric, twice numeric GENERATED ALWAYS AS (n * 2) STORED)").await;
        nodes.up().await;
        let engine = Engine::start((*nodes.setup).clone()).unwrap();
        nodes.run("n1", "app", "
            INSERT INTO t (a, b, d, v) SELECT n % 3, 'b' || n % 2, date '2024-01-01' + n, n FROM generate_series(1, 12) AS n;
            UPDATE t SET v = -v WHERE a = 0; DELETE FROM t WHERE a = 1; UPDATE t SET b = 'moved' WHERE v = 2;
            INSERT INTO g (id, n) VALUES (1, 1.5), (2, 2)").await;
        nodes.all_say("SELECT string_agg(concat(a, b, d - date '2024-01-01', ':', v), ' ' ORDER BY d) FROM t", "2moved2:2 0b13:-3 2b15:5 0b06:-6 2b08:8 0b19:-9 2b111:11 0b012:-12").await;
        nodes.all_say("SELECT string_agg(n || '=' || twice, ' ' ORDER BY id) FROM g", "1.5=3.0 2=4").await;
        nodes.run("n2", "app", "UPDATE t SET a = 7 WHERE a = 2; UPDATE g SET n = n + 1").await;
        nodes.all_say("SELECT string_agg(DISTINCT a::text, ' ') || count(*) FROM t", "0 78").await;
        nodes.all_say("SELECT string_agg(n || '=' || twice, ' ' ORDER BY id) FROM g", "2.5=5.0 3=6").await;
        nodes.run("n1", "app", "UPDATE g SET n = 0 WHERE id = 1; DELETE FROM g WHERE id = 2; DELETE FROM t").await;
        nodes.all_say("SELECT string_agg(n || '=' || twice, ' ' ORDER BY id) FROM g", "0=0").await;
        nodes.all_say("SELECT count(*) FROM t", "0").await;
        nodes.all_say("SELECT count(*) FROM herdsman.conflicts", "0").await;
        engine.stop().await;
    }
}
