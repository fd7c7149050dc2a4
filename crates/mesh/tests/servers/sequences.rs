//! Keys that no two nodes give.

use herdsman_mesh::config::SequenceKind;
use herdsman_mesh::install::{self, Plan};
use herdsman_mesh::sequences;
use herdsman_sandbox::on_each_version;

use crate::nodes::Nodes;

async fn next(nodes: &Nodes, node: &str, table: &str) -> i64 {
    let client = nodes.sql(node, "app").await;
    let sql = format!("INSERT INTO {table} DEFAULT VALUES RETURNING id::bigint");
    client.query_one(&sql, &[]).await.unwrap().get(0)
}

on_each_version! {
    async fn ranges_begin_as_in_the_example(version: u32) {
        let nodes = Nodes::start(vec![version; 3], |_| {}).await;
        nodes.run_everywhere("CREATE TABLE t (id bigserial PRIMARY KEY); CREATE TABLE s (id serial PRIMARY KEY); CREATE TABLE i (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY); CREATE TABLE tiny (id smallserial PRIMARY KEY)").await;
        nodes.up().await;
        for (node, big, small, tiny) in
            [("n1", 2, 2, 2), ("n2", 2_147_483_649, 134_217_729, 2049), ("n3", 4_294_967_296, 268_435_456, 4096)]
        {
            assert_eq!(next(&nodes, node, "t").await, big);
            assert_eq!(next(&nodes, node, "i").await, big);
            assert_eq!(next(&nodes, node, "s").await, small);
            assert_eq!(next(&nodes, node, "tiny").await, tiny);
            // Emptied with its numbers, it begins again in its own range.
            nodes.run(node, "app", "TRUNCATE t RESTART IDENTITY").await;
            assert_eq!(next(&nodes, node, "t").await, big);
        }
        assert_eq!(nodes.plan().await.steps, []);
        let statuses = sequences::look(&nodes.setup).await.unwrap();
        assert_eq!(statuses.len(), 12);
        for status in statuses {
            assert_eq!((status.kind, &status.problems), (SequenceKind::Ranges, &vec![]), "{status:?}");
        }
    }

    async fn what_the_example_sets_itself_is_kept(version: u32) {
        let nodes = Nodes::start(vec![version; 3], |_| {}).await;
        for (index, node) in (0_i64..).zip(nodes.sandbox.node_names()) {
            nodes.run(&node, "app", &format!("CREATE TABLE table1 (id bigserial PRIMARY KEY); SELECT setval('table1_id_seq', {index} * 2147483647::bigint + 1, true)")).await;
        }
        nodes.up().await;
        for (node, first) in [("n1", 2), ("n2", 2_147_483_649), ("n3", 4_294_967_296)] {
            assert_eq!(next(&nodes, node, "table1").await, first);
        }
    }

    async fn no_node_gives_a_key_that_a_row_has(version: u32) {
        let nodes = Nodes::start(vec![version; 2], |_| {}).await;
        nodes.run_everywhere("CREATE TABLE t (id bigserial PRIMARY KEY); CREATE TABLE s (id serial PRIMARY KEY)").await;
        // Into the second node's range, by hand; and more integers than the first range holds.
        nodes.run("n1", "app", "INSERT INTO t SELECT generate_series(1, 100); INSERT INTO t VALUES (2147483700); SELECT setval('t_id_seq', 100);
            INSERT INTO s VALUES (150000000); SELECT setval('s_id_seq', 150000000)").await;
        nodes.up().await;
        assert_eq!(next(&nodes, "n1", "t").await, 101);
        assert_eq!(next(&nodes, "n2", "t").await, 2_147_483_701);
        assert_eq!(next(&nodes, "n1", "s").await, 2);
        // The first node's sequence stood in what would be the second's.
        assert_eq!(next(&nodes, "n2", "s").await, 15 * 134_217_727 + 2);
    }

    async fn a_sequence_that_goes_on_is_never_set_back(version: u32) {
        let nodes = Nodes::start(vec![version; 2], |_| {}).await;
        nodes.run_everywhere("CREATE TABLE t (id bigserial PRIMARY KEY)").await;
        nodes.up().await;
        // A row of the first one's range, made by the second: the plan is to go past it.
        nodes.run("n2", "app", "INSERT INTO t VALUES (500)").await;
        let plan = nodes.plan().await;
        assert_eq!(plan.steps.len(), 1, "{:#?}", plan.steps);
        nodes.run("n1", "app", "INSERT INTO t SELECT nextval('t_id_seq') FROM generate_series(1, 600)").await;
        install::carry_out(&nodes.setup, &plan, |_| {}).await.unwrap();
        assert_eq!(next(&nodes, "n1", "t").await, 602);
        assert_eq!(nodes.plan().await.steps, []);
    }

    async fn random_keys_do_not_hide_a_range(version: u32) {
        let nodes = Nodes::start(vec![version; 2], |_| {}).await;
        nodes.run_everywhere("CREATE TABLE t (id bigserial PRIMARY KEY)").await;
        nodes.run("n1", "app", "INSERT INTO t SELECT i * 100000000000 FROM generate_series(1, 11000) i; INSERT INTO t VALUES (40)").await;
        nodes.up().await;
        assert_eq!(next(&nodes, "n1", "t").await, 41);
    }

    async fn a_used_up_range_is_an_error_and_then_another_range(version: u32) {
        let nodes = Nodes::start(vec![version; 2], |_| {}).await;
        nodes.run_everywhere("CREATE TABLE t (id smallserial PRIMARY KEY)").await;
        nodes.up().await;
        nodes.run("n1", "app", "INSERT INTO t SELECT nextval('t_id_seq') FROM generate_series(1, 1700)").await;
        let of_n1 = |statuses: Vec<sequences::SequenceStatus>| statuses.into_iter().find(|status| status.node.as_str() == "n1").unwrap();
        let status = of_n1(sequences::look(&nodes.setup).await.unwrap());
        assert_eq!(status.warnings, ["83 % of it are used"]);
        nodes.run("n1", "app", "INSERT INTO t SELECT nextval('t_id_seq') FROM generate_series(1, 347)").await;
        let full = nodes.sql("n1", "app").await.batch_execute("INSERT INTO t DEFAULT VALUES").await.unwrap_err();
        assert_eq!(full.code().unwrap().code(), "2200H");
        assert_eq!(of_n1(sequences::look(&nodes.setup).await.unwrap()).problems.len(), 1);
        let found = install::survey(&nodes.setup).await.unwrap();
        let plan = sequences::plan(&nodes.setup, &found);
        install::carry_out(&nodes.setup, &plan, |_| {}).await.unwrap();
        assert_eq!(next(&nodes, "n1", "t").await, 15 * 2047 + 2);
        assert_eq!(nodes.plan().await.steps, []);
    }

    async fn interleaved_keys_go_in_steps_with_room_to_grow(version: u32) {
        let nodes = Nodes::start(vec![version; 3], |config| config.sequences.kind = SequenceKind::Interleaved).await;
        nodes.run_everywhere("CREATE TABLE t (id serial PRIMARY KEY)").await;
        nodes.run("n2", "app", "INSERT INTO t SELECT nextval('t_id_seq') FROM generate_series(1, 20)").await;
        nodes.up().await;
        let mut keys = Vec::new();
        for node in ["n1", "n2", "n3"] {
            keys.push([next(&nodes, node, "t").await, next(&nodes, node, "t").await]);
        }
        // Well beyond what the second gave and may have given meanwhile.
        assert_eq!(keys, [[100_025, 100_033], [100_026, 100_034], [100_027, 100_035]]);
        for status in sequences::look(&nodes.setup).await.unwrap() {
            assert_eq!((status.kind, &status.problems), (SequenceKind::Interleaved, &vec![]), "{status:?}");
        }
    }

    async fn snowflakes_take_the_place_of_serials_and_identities(version: u32) {
        let nodes = Nodes::start(vec![version; 2], |config| config.sequences.kind = SequenceKind::Snowflake).await;
        nodes.run_everywhere("CREATE TABLE t (id bigserial PRIMARY KEY); CREATE TABLE i (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY)").await;
        nodes.up().await;
        for (node, id) in [("n1", 1), ("n2", 2)] {
            for table in ["t", "i"] {
                assert_eq!((next(&nodes, node, table).await >> 12) & 1023, id);
            }
        }
        nodes.run_everywhere("CREATE TABLE small (id serial PRIMARY KEY)").await;
        assert!(nodes.plan().await.problems.iter().any(|problem| problem.contains("needs bigint")));
    }

    async fn sequences_that_were_set_to_the_same_numbers_are_a_problem_until_they_are_fixed(version: u32) {
        let nodes = Nodes::start(vec![version; 2], |config| config.sequences.kind = SequenceKind::Manual).await;
        nodes.run_everywhere("CREATE TABLE t (id bigserial PRIMARY KEY)").await;
        nodes.up().await;
        for status in sequences::look(&nodes.setup).await.unwrap() {
            assert_eq!(status.problems.len(), 1, "{status:?}");
            assert!(status.problems[0].contains("gives the same numbers"));
        }
        let mut fixed = herdsman_mesh::Setup::clone(&nodes.setup);
        fixed.config.sequences.kind = SequenceKind::Ranges;
        let found = install::survey(&nodes.setup).await.unwrap();
        let Plan { steps, problems, .. } = sequences::plan(&fixed, &found);
        assert_eq!((steps.len(), problems), (2, vec![]));
    }
}
