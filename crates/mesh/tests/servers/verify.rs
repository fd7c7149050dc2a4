//! Whether differences are found, only real ones, and put right.

use std::sync::Arc;
use std::time::Duration;

use herdsman_mesh::verify::{self, Options, Report, Verdict, compare::Held};

use crate::harness::{BOTH, Busy, TABLES};
use crate::proof::{DEADLINE, Mesh, mixed, three_of};

/// Types whose text depends on settings, a key of two columns of which one has two texts for one value.
const MANY: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'it''s fine');
    CREATE TABLE many (
        a numeric NOT NULL, b varchar(9) NOT NULL DEFAULT 'x', f float8, at timestamptz, i interval, y bytea, j jsonb,
        m mood, r text[], PRIMARY KEY (a, b));
    CREATE TABLE parent (id int PRIMARY KEY);
    CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent (id))";

const ROWS: &str = "
    INSERT INTO many (a, b, f, at, i, y, j, m, r)
    SELECT n / 4.0, 'k' || n % 7, n / 3.0, now() + n * interval '1 hour', n * interval '1 day 1 minute', decode(md5(n::text), 'hex'),
        jsonb_build_object('n', n), (ARRAY['sad', 'ok', 'it''s fine'])[1 + n % 3]::mood, ARRAY[n::text, NULL, 'a,\"b\\']
    FROM generate_series(1, 3000) AS n";

async fn verified(mesh: &Mesh, options: &Options) -> Report {
    let setup = Arc::new(mesh.setup.clone());
    let looking = verify::run(&setup, options, |_| {});
    tokio::time::timeout(DEADLINE, looking).await.expect("verify ends").unwrap()
}

/// As somebody would who goes past the mesh: no trigger fires, and nothing is sent on.
async fn forge(mesh: &Mesh, node: &str, statements: &str) {
    let root = mesh.root(node).await;
    let origin = "SELECT pg_replication_origin_create('past the mesh'), pg_replication_origin_session_setup('past the mesh')";
    root.batch_execute(origin).await.unwrap();
    let all = format!(
        "SET session_replication_role = replica; SET TimeZone = 'Asia/Tokyo'; {statements}"
    );
    root.batch_execute(&all).await.unwrap();
    let origin =
        "SELECT pg_replication_origin_session_reset(), pg_replication_origin_drop('past the mesh')";
    root.batch_execute(origin).await.unwrap();
}

async fn found_and_repaired(majors: Vec<u32>) {
    let mesh = Mesh::start(majors, MANY).await;
    mesh.on("n1", ROWS).await;
    mesh.settle().await;
    let report = verified(&mesh, &Options::default()).await;
    assert_eq!(report.verdict, Verdict::Equal, "{report:#?}");
    let many = report.tables.iter().find(|table| table.table == "public.many").unwrap();
    assert!(many.rows.values().all(|rows| *rows == 3000) && many.bytes > 900_000, "{many:#?}");

    forge(&mesh, "n2", "UPDATE many SET f = 5 WHERE a = 1").await;
    forge(&mesh, "n3", "DELETE FROM many WHERE a = 2").await;
    forge(&mesh, "n1", "INSERT INTO many (a, b) VALUES (999.50, 'extra')").await;
    let report = verified(&mesh, &Options::default()).await;
    assert_eq!(report.verdict, Verdict::Differs);
    let many = report.tables.iter().find(|table| table.table == "public.many").unwrap();
    assert_eq!((many.differing, many.uncertain, many.keys.len()), (3, 0, 3), "{many:#?}");
    let key = |key: &[&str]| many.keys.iter().find(|one| one.key == key).unwrap();
    let absent = |one: &verify::KeyReport| -> Vec<String> {
        let absent = one.held.iter().filter(|(_, held)| **held == Held::Absent);
        absent.map(|(node, _)| node.clone()).collect()
    };
    assert_eq!(absent(key(&["1", "k4"])), Vec::<String>::new());
    assert_eq!(absent(key(&["2", "k1"])), ["n3"]);
    let others: Vec<String> = mesh.nodes().into_iter().filter(|node| node != "n1").collect();
    assert_eq!(absent(key(&["999.5", "extra"])), others);
    assert!(
        report
            .tables
            .iter()
            .all(|table| table.table == many.table || table.verdict == Verdict::Equal)
    );

    let repair = Options { repair: true, ..Options::default() };
    let report = verified(&mesh, &repair).await;
    assert_eq!(report.verdict, Verdict::Repaired, "{report:#?}");
    let report = verified(&mesh, &Options::default()).await;
    assert_eq!(report.verdict, Verdict::Equal, "{report:#?}");
    assert_eq!(mesh.differences("many", "(a, b)").await, Vec::<String>::new());
    // The row of the two that were not tampered with.
    assert_eq!(mesh.ask("n2", "SELECT f <> 5 FROM many WHERE a = 1").await.as_deref(), Some("t"));
    mesh.stop_engine().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_a_missing_and_an_extra_row_are_found_and_put_right_on_15() {
    if let Some(majors) = three_of(15) {
        found_and_repaired(majors).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_a_missing_and_an_extra_row_are_found_and_put_right_on_18() {
    if let Some(majors) = three_of(18) {
        found_and_repaired(majors).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_several_versions_sum_rows_up_to_the_same() {
    let Some(majors) = mixed() else { return };
    found_and_repaired(majors).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_are_written_all_the_time_are_found_equal() {
    let Some(majors) = three_of(18) else { return };
    let mesh = Arc::new(Mesh::start(majors, TABLES).await);
    let busy = Busy::write(&mesh, Duration::from_millis(1));
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..3 {
        let report = verified(&mesh, &Options::default()).await;
        assert_eq!(report.verdict, Verdict::Equal, "{report:#?}");
    }
    // And what differs is found among all that moves, without a false find beside it.
    forge(&mesh, "n2", "INSERT INTO log VALUES ('forged', 'n2', 0)").await;
    let report = verified(&mesh, &Options::default()).await;
    let log = report.tables.iter().find(|table| table.table == "public.log").unwrap();
    assert_eq!((report.verdict, log.differing), (Verdict::Differs, 1), "{report:#?}");
    assert_eq!(log.keys.first().unwrap().key, ["forged"]);
    let repair = Options { repair: true, ..Options::default() };
    assert_eq!(verified(&mesh, &repair).await.verdict, Verdict::Repaired);
    assert!(!busy.stop().await.is_empty());
    mesh.settle().await;
    mesh.assert_equal(&BOTH).await;
    assert_eq!(verified(&mesh, &Options::default()).await.verdict, Verdict::Equal);
    mesh.stop_engine().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_up_is_uncertain_and_not_a_difference() {
    let Some(majors) = three_of(18) else { return };
    let mesh = Mesh::start(majors, "CREATE TABLE t (id int PRIMARY KEY, v text)").await;
    mesh.on("n1", "INSERT INTO t VALUES (1, 'a'), (2, 'b')").await;
    mesh.settle().await;
    mesh.hold("n1", "n3");
    mesh.on("n1", "UPDATE t SET v = 'held up' WHERE id = 1").await;
    mesh.carried("n1", "n2").await;
    let options = Options {
        patience: Duration::from_secs(3),
        tables: vec!["public.t".to_owned()],
        ..Options::default()
    };
    let report = verified(&mesh, &options).await;
    let [table] = report.tables.as_slice() else { panic!("{report:#?}") };
    assert_eq!((table.verdict, table.uncertain), (Verdict::Uncertain, 1), "{table:#?}");
    assert_eq!(table.behind, ["n1 to n3"]);
    mesh.settle().await;
    assert_eq!(verified(&mesh, &options).await.verdict, Verdict::Equal);
    mesh.stop_engine().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_whose_parent_was_deleted_elsewhere_is_found_and_deleted_everywhere() {
    let Some(majors) = three_of(18) else { return };
    let mesh = Mesh::start(majors, MANY).await;
    mesh.on(
        "n1",
        "INSERT INTO parent VALUES (1), (2); INSERT INTO child VALUES (20, 2), (21, NULL)",
    )
    .await;
    mesh.settle().await;
    mesh.apart("n1", "n2");
    mesh.on("n1", "DELETE FROM parent WHERE id = 1").await;
    mesh.on("n2", "INSERT INTO child VALUES (10, 1)").await;
    mesh.settle().await;
    let setup = Arc::new(mesh.setup.clone());
    let patience = Duration::from_secs(20);
    let orphans = verify::orphans(&setup, patience, false).await.unwrap();
    let [one] = orphans.as_slice() else { panic!("{orphans:?}") };
    assert_eq!((one.table.as_str(), one.rows, one.deleted), ("public.child", 1, 0));
    assert_eq!(one.keys, [["10"]]);
    let orphans = verify::orphans(&setup, patience, true).await.unwrap();
    assert_eq!(orphans.first().unwrap().deleted, 1);
    mesh.settle().await;
    assert_eq!(verify::orphans(&setup, patience, false).await.unwrap(), []);
    for node in mesh.nodes() {
        let left = mesh.ask(&node, "SELECT string_agg(id::text, ',' ORDER BY id) FROM child").await;
        assert_eq!(left.as_deref(), Some("20,21"), "{node}");
    }
    mesh.stop_engine().await;
}
