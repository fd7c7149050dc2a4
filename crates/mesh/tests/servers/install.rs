//! Preparing nodes: everything that is missing and nothing twice, and every obstacle by its name.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use herdsman_mesh::config::UniquePolicy;
use herdsman_mesh::install::{self, Options, Patience, Plan};
use herdsman_mesh::{MeshError, Setup};
use herdsman_sandbox::{Sandbox, on_each_version};

use crate::nodes::Nodes;
use crate::proof::{name, setup};

on_each_version! {
    async fn three_nodes_are_prepared_once(version: u32) {
        let nodes = Nodes::start(vec![version; 3], |_| {}).await;
        nodes.run_everywhere("CREATE TABLE t (id bigserial PRIMARY KEY, v text); CREATE TABLE \"My T\" (\"a b\" int, c text COLLATE \"C\", PRIMARY KEY (\"a b\", c))").await;
        let plan = nodes.up().await;
        assert_eq!(plan.copies, []);
        for (id, node) in (1..).zip(nodes.sandbox.node_names()) {
            let who = nodes.ask(&node, "SELECT (node, node_name, format)::text FROM herdsman.mesh").await;
            assert_eq!(who, Some(format!("({id},{node},1)")));
            let slots = "SELECT string_agg(slot_name, ' ' ORDER BY slot_name) FROM pg_replication_slots";
            assert_eq!(
                nodes.ask(&node, slots).await.unwrap(),
                "herdsman_mesh_to_1 herdsman_mesh_to_2 herdsman_mesh_to_3"
            );
            let sources = "SELECT string_agg(source::text, ' ' ORDER BY source) FROM herdsman.progress";
            assert_eq!(nodes.ask(&node, sources).await.unwrap(), "1 2 3");
            let published = "SELECT string_agg(schemaname || '.' || tablename, ' ' ORDER BY 1) FROM pg_publication_tables";
            let published = nodes.ask(&node, published).await.unwrap();
            for table in ["public.t", "public.My T", "herdsman_gone.public.t", "herdsman.truncates", "herdsman.heartbeats"] {
                assert!(published.contains(table), "{published}");
            }
            // Where somebody reads from is where its slot is.
            for target in 1..=3 {
                let begins = format!("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'herdsman_mesh_to_{target}'");
                let noted = format!("SELECT lsn FROM herdsman.progress WHERE source = {id}");
                assert_eq!(nodes.ask(&node, &begins).await, nodes.ask(&format!("n{target}"), &noted).await);
            }
        }
    }

    async fn a_table_that_only_one_node_has_is_made_on_the_others(version: u32) {
        let nodes = Nodes::start(vec![version; 2], |_| {}).await;
        nodes.run("n1", "app", "
            CREATE TABLE parent (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name varchar(20) NOT NULL UNIQUE CHECK (name <> ''));
            CREATE TABLE child (id bigserial, part smallint DEFAULT 1 + 1, parent int REFERENCES parent (id) ON DELETE CASCADE,
              at timestamptz DEFAULT now(), amount numeric(10, 2), twice numeric GENERATED ALWAYS AS (amount * 2) STORED,
              note text COLLATE \"C\", PRIMARY KEY (id, part));
            CREATE INDEX child_by_note ON child (lower(note)) WHERE amount > 0;
            GRANT SELECT, INSERT ON child TO plain; GRANT USAGE ON SEQUENCE child_id_seq TO plain;
            INSERT INTO parent (name) VALUES ('a'), ('b')").await;
        let plan = nodes.up().await;
        assert_eq!(plan.copies.iter().map(|c| (c.table.to_string(), c.from.to_string(), c.to.to_string())).collect::<Vec<_>>(),
            [("public.parent".to_owned(), "n1".to_owned(), "n2".to_owned())]);
        // The same goes on until somebody has noted that it is done.
        assert_eq!(nodes.plan().await.copies.len(), 1);
        nodes.run("n1", "mesh", "UPDATE herdsman.tables SET spread = true").await;
        assert_eq!(nodes.plan().await.copies, []);
        for node in ["n1", "n2"] {
            let definition = "SELECT string_agg(pg_get_constraintdef(oid), '; ' ORDER BY conname) FROM pg_constraint WHERE conrelid = 'child'::regclass AND contype IN ('p', 'f', 'c')";
            assert_eq!(nodes.ask(node, definition).await.unwrap(), "FOREIGN KEY (parent) REFERENCES parent(id) ON DELETE CASCADE; PRIMARY KEY (id, part)");
            assert_eq!(nodes.ask(node, "SELECT pg_get_serial_sequence('child', 'id')").await.unwrap(), "public.child_id_seq");
            assert_eq!(nodes.ask(node, "SELECT tableowner FROM pg_tables WHERE tablename = 'child'").await.unwrap(), "app");
            assert_eq!(nodes.ask(node, "SELECT count(*) FROM pg_indexes WHERE indexname = 'child_by_note'").await.unwrap(), "1");
            nodes.run(node, "app", "INSERT INTO parent (name) VALUES ('c'); INSERT INTO child (parent, amount) SELECT id, 1 FROM parent WHERE name = 'c'; UPDATE child SET amount = 1.5").await;
            nodes.run(node, "plain", "INSERT INTO child (amount) VALUES (2)").await;
            assert_eq!(nodes.ask(node, "SELECT twice FROM child WHERE amount = 1.5").await.unwrap(), "3.00");
        }
        // Keys of two nodes are two keys.
        let first = |node| nodes.ask(node, "SELECT min(id) FROM child");
        assert_eq!((first("n1").await.unwrap(), first("n2").await.unwrap()), ("2".to_owned(), "2147483649".to_owned()));
    }

    async fn what_no_table_may_be_is_named_with_node_and_table(version: u32) {
        let nodes = Nodes::start(vec![version], |_| {}).await;
        nodes.run("n1", "postgres", "CREATE EXTENSION IF NOT EXISTS citext; CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)").await;
        let whose = ["node `n1`", "table public.t"];
        for (make, what) in [
            ("CREATE TABLE t (id int)", "no primary key"),
            ("CREATE TABLE t (id int PRIMARY KEY DEFERRABLE)", "deferrable"),
            ("CREATE TABLE t (id float8 PRIMARY KEY)", "\"id\" (double precision)"),
            ("CREATE TABLE t (id real PRIMARY KEY)", "real"),
            ("CREATE TABLE t (id jsonb PRIMARY KEY)", "jsonb"),
            ("CREATE TABLE t (id interval PRIMARY KEY)", "interval"),
            ("CREATE TABLE t (id float8[] PRIMARY KEY)", "double precision[]"),
            ("CREATE TABLE t (id numeric[] PRIMARY KEY)", "\"id\" (numeric[])"),
            ("CREATE TABLE t (id citext PRIMARY KEY)", "citext"),
            ("CREATE TABLE t (id text COLLATE loose PRIMARY KEY)", "equal values with different texts"),
            ("CREATE TABLE t (a int, id int GENERATED ALWAYS AS (a + 1) STORED PRIMARY KEY)", "computed"),
            ("CREATE UNLOGGED TABLE t (id int PRIMARY KEY)", "unlogged"),
            ("CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id)", "partitioned"),
            ("CREATE TABLE t (id int PRIMARY KEY); CREATE RULE r AS ON DELETE TO t DO INSTEAD NOTHING", "rules"),
            ("CREATE TABLE t (id int PRIMARY KEY, v int UNIQUE DEFERRABLE)", "is deferrable"),
            ("CREATE TABLE t (id int PRIMARY KEY, v int); CREATE UNIQUE INDEX u ON t (v) WHERE v > 0", "some rows only"),
            ("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE UNIQUE INDEX u ON t (lower(v))", "over an expression"),
            ("CREATE TABLE t (id int PRIMARY KEY, v int UNIQUE NULLS NOT DISTINCT)", "NULLs as equal"),
            ("CREATE TABLE t (id int PRIMARY KEY, r int4range, EXCLUDE USING gist (r WITH &&))", "exclusion constraint"),
            ("CREATE TABLE t (id int PRIMARY KEY, _herdsman_stamp text)", "not as the mesh makes them"),
            ("CREATE TYPE pair AS (a int, b int); CREATE TABLE t (id pair PRIMARY KEY)", "\"id\" (public.pair) of its primary key is of a composite type"),
            ("CREATE TYPE pair AS (a int, b int); CREATE TABLE t (n int, id pair[], PRIMARY KEY (n, id))", "\"id\" (public.pair[]) of its primary key is of a composite type"),
            ("CREATE DOMAIN price AS float8; CREATE TABLE t (id price PRIMARY KEY)", "different texts"),
        ] {
            nodes.expect(make, &[whose[0], whose[1], what]).await;
            nodes.run("n1", "app", "DROP DOMAIN IF EXISTS price; DROP TYPE IF EXISTS pair").await;
        }
        if version >= 18 {
            nodes.expect("CREATE TABLE t (id int PRIMARY KEY, v int GENERATED ALWAYS AS (id) VIRTUAL)", &[whose[0], "make it STORED"]).await;
        }
        // A partition and its table are two problems.
        nodes.run("n1", "app", "CREATE TABLE parent (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE t PARTITION OF parent DEFAULT").await;
        assert!(nodes.plan().await.problems.iter().any(|problem| problem.contains("public.t: it is a partition")));
        nodes.run("n1", "app", "DROP TABLE parent; CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE t (PRIMARY KEY (id)) INHERITS (parent)").await;
        assert!(nodes.plan().await.problems.iter().any(|problem| problem.contains("public.t: it inherits")));
        nodes.run("n1", "app", "DROP TABLE parent CASCADE").await;
        nodes.run("n1", "postgres", "CREATE TABLE t (id int PRIMARY KEY)").await;
        let problem = nodes.problem().await;
        assert!(problem.contains("GRANT \"postgres\" TO \"mesh\""), "{problem}");
        nodes.run("n1", "postgres", "DROP TABLE t").await;
        assert_eq!(nodes.plan().await.problems, Vec::<String>::new());
    }

    async fn with_unique_log_any_unique_constraint_may_be(version: u32) {
        let nodes = Nodes::start(vec![version], |config| config.unique = UniquePolicy::Log).await;
        nodes.run("n1", "app", "CREATE TABLE t (id int PRIMARY KEY, v int UNIQUE DEFERRABLE, w text); CREATE UNIQUE INDEX u ON t (lower(w))").await;
        nodes.up().await;
    }

    async fn tables_that_differ_are_named_with_both_nodes_and_the_difference(version: u32) {
        let nodes = Nodes::start(vec![version; 2], |_| {}).await;
        for (here, there, what) in [
            ("(id int PRIMARY KEY, a int)", "(id int PRIMARY KEY)", "\"a\" is missing on the latter"),
            ("(id int PRIMARY KEY)", "(id int PRIMARY KEY, b int)", "\"b\" is missing on the former"),
            ("(id int PRIMARY KEY, a int)", "(id int PRIMARY KEY, a bigint)", "\"a\" is integer and bigint"),
            ("(id int PRIMARY KEY, a varchar(3))", "(id int PRIMARY KEY, a varchar(4))", "(3) and"),
            ("(id int PRIMARY KEY, a int NOT NULL)", "(id int PRIMARY KEY, a int)", "NULL on one of them"),
            ("(id int PRIMARY KEY, a int NOT NULL)", "(id int, a int NOT NULL, PRIMARY KEY (id, a))", "(id) and (id, a)"),
            ("(id int PRIMARY KEY, a int UNIQUE)", "(id int PRIMARY KEY, a int)", "(a) is unique on the former and nothing"),
            ("(id int PRIMARY KEY, a int, b int GENERATED ALWAYS AS (a) STORED)", "(id int PRIMARY KEY, a int, b int)", "computed on one"),
        ] {
            nodes.run("n1", "app", &format!("CREATE TABLE t {here}")).await;
            nodes.run("n2", "app", &format!("CREATE TABLE t {there}")).await;
            let problems = nodes.plan().await.problems;
            assert!(problems.iter().any(|p| p.contains("table public.t is not the same on `n1` and `n2`") && p.contains(what)), "{what}: {problems:#?}");
            nodes.run_everywhere("DROP TABLE t").await;
        }
        // The order of columns and the names of indexes may differ.
        nodes.run("n1", "app", "CREATE TABLE t (id int PRIMARY KEY, a int, b int CONSTRAINT one UNIQUE)").await;
        nodes.run("n2", "app", "CREATE TABLE t (b int CONSTRAINT other UNIQUE, a int, id int PRIMARY KEY)").await;
        nodes.up().await;
    }

    async fn a_table_made_of_what_is_not_there_asks_for_the_schema(version: u32) {
        let nodes = Nodes::start(vec![version; 2], |_| {}).await;
        nodes.run("n1", "app", "CREATE TYPE mood AS ENUM ('good'); CREATE TABLE t (id int PRIMARY KEY, m mood)").await;
        let problem = nodes.problem().await;
        assert!(problem.contains("type public.mood") && problem.contains("pg_dump --schema-only"), "{problem}");
        nodes.run("n2", "app", "CREATE TYPE mood AS ENUM ('good')").await;
        nodes.up().await;
        nodes.run("n1", "app", "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TABLE u (id int PRIMARY KEY); CREATE TRIGGER mine BEFORE INSERT ON u FOR EACH ROW EXECUTE FUNCTION f()").await;
        let problem = nodes.problem().await;
        assert!(problem.contains("triggers of its own"), "{problem}");
    }

    async fn servers_and_rights_that_do_not_do_are_named_with_what_mends_them(version: u32) {
        let sandbox = Sandbox::builder().versions(vec![version]).setting("wal_level", "replica").setting("max_replication_slots", "0")
            .start().await.unwrap();
        let nodes = Nodes { setup: Arc::new(setup(&sandbox, |_| {})), sandbox };
        nodes.run("n1", "app", "CREATE TABLE t (id int PRIMARY KEY)").await;
        nodes.run("n1", "postgres", "
            ALTER ROLE mesh NOREPLICATION; REVOKE CREATE ON DATABASE postgres FROM mesh;
            REVOKE SET ON PARAMETER session_replication_role FROM mesh;
            REVOKE EXECUTE ON FUNCTION pg_replication_origin_create(text) FROM mesh;
            CREATE SCHEMA herdsman").await;
        let problems = nodes.plan().await.problems;
        for mended_by in [
            "ALTER SYSTEM SET wal_level = logical",
            "raise max_replication_slots",
            "ALTER ROLE \"mesh\" REPLICATION",
            "GRANT CREATE ON DATABASE \"postgres\" TO \"mesh\"",
            "GRANT SET ON PARAMETER session_replication_role TO \"mesh\"",
            "GRANT EXECUTE ON FUNCTION pg_replication_origin_create(text) TO \"mesh\"",
            "schema `herdsman` that the mesh has not made",
        ] {
            assert!(problems.iter().any(|problem| problem.contains("node `n1`") && problem.contains(mended_by)), "{mended_by}: {problems:#?}");
        }
        let error = install::carry_out(&nodes.setup, &nodes.plan().await, |_| panic!("nothing may be done")).await.unwrap_err();
        assert!(matches!(error, MeshError::Refused { .. }), "{error}");
    }

    async fn a_node_that_cannot_be_reached_is_named(version: u32) {
        let nodes = Nodes::start(vec![version; 2], |_| {}).await;
        nodes.sandbox.stop("n2").await.unwrap();
        let error = install::survey(&nodes.setup).await.unwrap_err();
        assert!(matches!(&error, MeshError::Connect { node, .. } if node.as_str() == "n2"), "{error}");
    }

    async fn two_names_for_one_database_are_a_problem(version: u32) {
        let mut nodes = Nodes::start(vec![version; 2], |_| {}).await;
        let mut same = Setup::clone(&nodes.setup);
        let first = same.nodes[&name("n1")].clone();
        same.nodes.insert(name("n2"), first);
        nodes.setup = Arc::new(same);
        assert!(nodes.problem().await.contains("`n1` and `n2` are the same database"));
    }

    async fn a_table_that_is_named_and_nowhere_is_a_problem(version: u32) {
        let nodes = Nodes::start(vec![version], |config| config.tables = vec!["public.t".to_owned(), "other.*".to_owned()]).await;
        assert!(nodes.problem().await.contains("no node has a table `public.t`"));
        assert_eq!(nodes.plan().await.notes, ["no table matches `other.*`"]);
    }

    async fn rows_on_two_nodes_are_only_put_together_when_asked_to(version: u32) {
        let nodes = Nodes::start(vec![version; 2], |_| {}).await;
        nodes.run_everywhere("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
        let problem = nodes.problem().await;
        assert!(problem.contains("table public.t has rows on `n1` and `n2`"), "{problem}");
        let (_, plan) = nodes.look(&Options { merge: true, ..Options::default() }).await;
        assert_eq!(plan.problems, Vec::<String>::new());
        assert_eq!(plan.copies.len(), 2);
        install::carry_out(&nodes.setup, &plan, |_| {}).await.unwrap();
        // Rows from before bear the node they were on.
        assert_eq!(nodes.ask("n2", "SELECT (_herdsman_stamp, _herdsman_node) FROM t").await.unwrap(), "(0,2)");
        assert_eq!(nodes.plan().await.steps, []);
    }

    async fn a_node_comes_to_a_mesh_that_is_there_only_when_it_is_to_join(version: u32) {
        let nodes = Nodes::start(vec![version; 3], |config| config.nodes.truncate(2)).await;
        nodes.run_everywhere("CREATE TABLE t (id int PRIMARY KEY)").await;
        nodes.up().await;
        let mut three = Setup::clone(&nodes.setup);
        three.config.nodes.push(name("n3"));
        let three = Arc::new(three);
        let (_, plan) = install::prepare(&three, &Options::default()).await.unwrap();
        assert!(plan.problems.iter().any(|problem| problem.contains("herdsman mesh add n3")), "{:#?}", plan.problems);
        let joining = Options { joining: BTreeSet::from([name("n3")]), ..Options::default() };
        let (_, plan) = install::prepare(&three, &joining).await.unwrap();
        install::carry_out(&three, &plan, |_| {}).await.unwrap();
        for node in ["n1", "n2", "n3"] {
            let third = nodes.ask(node, "SELECT (name, state) FROM herdsman.members WHERE node = 3").await;
            assert_eq!(third.unwrap(), "(n3,joining)");
        }
        // From now on it is known.
        let (_, plan) = install::prepare(&three, &Options::default()).await.unwrap();
        assert_eq!((plan.problems, plan.steps), (vec![], vec![]));
        // A number is given once: gone, and back under its old name.
        for node in ["n1", "n2"] {
            nodes.run(node, "mesh", "UPDATE herdsman.members SET state = 'gone' WHERE node = 3").await;
        }
        let found = install::look(&three, &name("n3")).await.unwrap();
        let steps = install::removal("mesh", &name("n3"), &found, false);
        install::carry_out(&three, &Plan { steps, ..Plan::default() }, |_| {}).await.unwrap();
        let (_, plan) = install::prepare(&three, &joining).await.unwrap();
        assert_eq!(plan.problems, Vec::<String>::new());
        install::carry_out(&three, &plan, |_| {}).await.unwrap();
        let all = nodes.ask("n1", "SELECT string_agg(node || ' ' || name || ' ' || state, ', ' ORDER BY node) FROM herdsman.members").await;
        assert_eq!(all.unwrap(), "1 n1 active, 2 n2 active, 3 n3 (3) gone, 4 n3 joining");
        assert_eq!(nodes.ask("n3", "SELECT node FROM herdsman.mesh").await.unwrap(), "4");
    }

    async fn a_lost_slot_is_a_problem_and_not_made_again(version: u32) {
        let nodes = Nodes::start(vec![version; 2], |_| {}).await;
        nodes.run_everywhere("CREATE TABLE t (id int PRIMARY KEY)").await;
        nodes.up().await;
        nodes.run("n1", "postgres", "SELECT pg_drop_replication_slot('herdsman_mesh_to_2')").await;
        let problem = nodes.problem().await;
        assert!(problem.contains("node `n1` has lost the slot herdsman_mesh_to_2"), "{problem}");
    }

    async fn nodes_that_know_each_other_by_other_numbers_are_a_problem(version: u32) {
        let nodes = Nodes::start(vec![version; 2], |_| {}).await;
        nodes.run_everywhere("CREATE TABLE t (id int PRIMARY KEY)").await;
        nodes.up().await;
        nodes.run("n2", "postgres", "UPDATE herdsman.members SET node = 7 WHERE node = 1").await;
        assert!(nodes.problem().await.contains("member 7 for one node and 1 for") || nodes.problem().await.contains("member 1 for one node and 7 for"));
        nodes.run("n2", "postgres", "UPDATE herdsman.members SET node = 1 WHERE node = 7; UPDATE herdsman.mesh SET node_name = 'n9'").await;
        assert!(nodes.problem().await.contains("knows itself as `n9`"));
        nodes.run("n2", "postgres", "UPDATE herdsman.mesh SET node_name = 'n2', format = 2").await;
        assert!(nodes.problem().await.contains("newer herdsman"));
        nodes.run("n2", "postgres", "UPDATE herdsman.mesh SET format = 1, name = 'other'").await;
        assert!(nodes.problem().await.contains("belongs to the mesh `other`"));
    }

    async fn what_somebody_broke_or_changed_is_mended(version: u32) {
        let nodes = Nodes::start(vec![version; 2], |_| {}).await;
        nodes.run_everywhere("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY)").await;
        nodes.up().await;
        nodes.run("n1", "app", "
            INSERT INTO t VALUES (1), (2); DELETE FROM t WHERE id = 1;
            ALTER TABLE t DISABLE TRIGGER \"~herdsman_stamp\"; DROP TRIGGER \"~herdsman_gone\" ON t; ALTER TABLE t REPLICA IDENTITY DEFAULT").await;
        nodes.run("n1", "mesh", "ALTER PUBLICATION herdsman_mesh DROP TABLE u; DROP FUNCTION herdsman.id(); ALTER PUBLICATION herdsman_mesh SET (publish = 'insert')").await;
        // PostgreSQL changes no type that a trigger's condition looks at.
        nodes.run_everywhere("DROP TRIGGER IF EXISTS \"~herdsman_moved\" ON t; ALTER TABLE t ALTER COLUMN id TYPE bigint; ALTER TABLE t RENAME COLUMN id TO key").await;
        nodes.up().await;
        let kept = "SELECT string_agg(key || ' ' || pg_typeof(key), ' ') FROM herdsman_gone.\"public.t\"";
        assert_eq!(nodes.ask("n1", kept).await.unwrap(), "1 bigint");
        nodes.run("n1", "app", "UPDATE t SET key = 20000000000 WHERE key = 2; INSERT INTO t VALUES (3); DELETE FROM t WHERE key = 3").await;
        assert_eq!(nodes.ask("n1", "SELECT string_agg(key::text, ' ' ORDER BY key) FROM herdsman_gone.\"public.t\"").await.unwrap(), "1 2 3");
        nodes.run_everywhere("UPDATE t SET v = ''; ALTER TABLE t DROP CONSTRAINT t_pkey, ALTER COLUMN v SET NOT NULL, ADD PRIMARY KEY (key, v)").await;
        let problems = nodes.plan().await.problems;
        assert!(problems.iter().any(|problem| problem.contains("its primary key was (key)")), "{problems:#?}");
    }

    async fn a_table_that_is_left_out_later_is_as_it_was(version: u32) {
        let nodes = Nodes::start(vec![version; 2], |_| {}).await;
        nodes.run_everywhere("CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE u (id int PRIMARY KEY)").await;
        nodes.up().await;
        let mut fewer = Setup::clone(&nodes.setup);
        fewer.config.exclude.push("public.u".to_owned());
        let fewer = Arc::new(fewer);
        let (_, plan) = install::prepare(&fewer, &Options::default()).await.unwrap();
        install::carry_out(&fewer, &plan, |_| {}).await.unwrap();
        let (_, again) = install::prepare(&fewer, &Options::default()).await.unwrap();
        assert_eq!((again.problems, again.steps), (vec![], vec![]));
        let columns = "SELECT string_agg(attname, ' ') FROM pg_attribute WHERE attrelid = 'u'::regclass AND attnum > 0 AND NOT attisdropped";
        assert_eq!(nodes.ask("n1", columns).await.unwrap(), "id");
        assert_eq!(nodes.ask("n1", "SELECT to_regclass('herdsman_gone.\"public.u\"')").await, None);
        nodes.up().await;
    }

    async fn a_node_that_leaves_is_as_it_was(version: u32) {
        let nodes = Nodes::start(vec![version; 2], |_| {}).await;
        nodes.run_everywhere("CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL); CREATE UNIQUE INDEX by_v ON t (v); ALTER TABLE t REPLICA IDENTITY USING INDEX by_v").await;
        nodes.up().await;
        nodes.run("n1", "app", "INSERT INTO t VALUES (1, 1)").await;
        nodes.run("n1", "mesh", "SELECT pg_replication_origin_create('herdsman_mesh_0')").await;
        let found = install::look(&nodes.setup, &name("n1")).await.unwrap();
        let steps = install::removal("mesh", &name("n1"), &found, false);
        install::carry_out(&nodes.setup, &Plan { steps, ..Plan::default() }, |_| {}).await.unwrap();
        for (question, answer) in [
            ("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'herdsman%' AND nspname <> 'herdsman_monitor'", "0"),
            ("SELECT count(*) FROM pg_replication_slots", "0"),
            ("SELECT count(*) FROM pg_publication", "0"),
            ("SELECT count(*) FROM pg_replication_origin", "0"),
            ("SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass", "0"),
            ("SELECT relreplident FROM pg_class WHERE oid = 't'::regclass", "i"),
            ("SELECT t FROM t", "(1,1)"),
        ] {
            assert_eq!(nodes.ask("n1", question).await.as_deref(), Some(answer), "{question}");
        }
        nodes.run("n1", "app", "UPDATE t SET v = 2; DELETE FROM t").await;
    }

    async fn a_table_that_is_held_gives_an_error_that_names_who_holds_it(version: u32) {
        let nodes = Nodes::start(vec![version], |_| {}).await;
        nodes.run("n1", "app", "CREATE TABLE t (id int PRIMARY KEY)").await;
        let holder = nodes.sql("n1", "app").await;
        let pid: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        holder.batch_execute("BEGIN; LOCK TABLE t IN ACCESS SHARE MODE").await.unwrap();
        let plan = nodes.plan().await;
        let patience = Patience { lock: Duration::from_millis(50), pause: Duration::from_millis(10), tries: 2 };
        let error = install::carry_out_within(&nodes.setup, &plan, patience, |_| {}).await.unwrap_err().to_string();
        for word in ["node `n1`", "public.t", "2 tries", &format!("PID {pid} (user app"), "run the same command again"] {
            assert!(error.contains(word), "{error} does not say {word}");
        }
        // Those who write it were not held up for good, and the rest goes on from there.
        nodes.run("n1", "app", "INSERT INTO t VALUES (1)").await;
        holder.batch_execute("COMMIT").await.unwrap();
        nodes.up().await;
        assert_eq!(nodes.ask("n1", "SELECT spread FROM herdsman.tables").await.unwrap(), "false");
    }

    async fn two_do_not_prepare_one_node_at_once(version: u32) {
        let nodes = Nodes::start(vec![version], |_| {}).await;
        nodes.run("n1", "app", "CREATE TABLE t (id int PRIMARY KEY)").await;
        let plan = nodes.plan().await;
        let holder = nodes.sql("n1", "mesh").await;
        holder.batch_execute("SELECT pg_advisory_lock(x) FROM (VALUES (x'6d65736820757000'::bigint >> 8)) v (x)").await.unwrap();
        let error = install::carry_out(&nodes.setup, &plan, |_| {}).await.unwrap_err().to_string();
        assert!(error.contains("prepared by another process"), "{error}");
    }
}
