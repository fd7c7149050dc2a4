//! Clocks: the same microsecond on two nodes, and one that is behind.

use std::time::Duration;

use tokio::time::sleep;

use super::case::Case;

/// What the mesh's functions on a node take for the time instead, until they are put back.
struct Clock<'c> {
    case: &'c Case<'c>,
    node: &'c str,
    originals: Vec<String>,
}

/// As the functions ask for it.
const CLOCK: &str = "(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.*) 1000000)::bigint";

impl<'c> Clock<'c> {
    /// Replaces the clock by an expression of microseconds.
    async fn replace(case: &'c Case<'c>, node: &'c str, by: &str) -> Self {
        let root = case.mesh.root(node).await;
        let question = "SELECT pg_get_functiondef(oid) FROM pg_proc
                        WHERE pronamespace IN ('herdsman'::regnamespace, 'herdsman_gone'::regnamespace)
                          AND strpos(prosrc, $1) > 0";
        let rows = root.query(question, &[&CLOCK]).await.unwrap();
        let originals: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert!(originals.len() > 3, "the functions are not as the test knows them: {originals:?}");
        for original in &originals {
            root.batch_execute(&original.replace(CLOCK, by)).await.unwrap();
        }
        Self { case, node, originals }
    }

    /// Five seconds behind, as its own clock; the floor stays.
    async fn behind(case: &'c Case<'c>, node: &'c str) -> Self {
        Self::replace(case, node, &format!("({CLOCK} - 5000000)")).await
    }

    async fn put_back(self) {
        let root = self.case.mesh.root(self.node).await;
        for original in &self.originals {
            root.batch_execute(original).await.unwrap();
        }
    }
}

/// h
pub(super) async fn of_equal_stamps_the_greater_node_wins(case: &Case<'_>) {
    case.begin("(1, 'v0', ''), (2, 'v0', '')").await;
    case.apart();
    // A little ahead, so that no sign of life comes between.
    let question = format!("SELECT {CLOCK} + 3000000");
    let time = format!("{}::bigint", case.mesh.ask(&case.a, &question).await.unwrap());
    let on_a = Clock::replace(case, &case.a, &time).await;
    let on_b = Clock::replace(case, &case.b, &time).await;
    let both = "UPDATE {t} SET col1 = 'B' WHERE id = 1; DELETE FROM {t} WHERE id = 2";
    case.on(&case.b, both).await;
    case.on(&case.a, "UPDATE {t} SET col1 = 'A'").await;
    on_a.put_back().await;
    on_b.put_back().await;
    case.ends_as(&["1|B|"]).await;
    case.recorded(&[&case.a, &case.b], "update_update", Some("B"), Some("A")).await;
    case.recorded(&[&case.a, &case.b], "update_delete", None, Some("A")).await;
    let all = case.mesh.conflicts(&case.table()).await;
    for conflict in &all {
        let times = (conflict.held_stamp.unwrap().0, conflict.arriving_stamp.unwrap().0);
        assert_eq!(times.0, times.1, "{conflict:?}");
    }
    // What comes next should go by the clock again.
    sleep(Duration::from_secs(3)).await;
}

/// h2
pub(super) async fn a_clock_behind_loses_nothing_that_knew_the_other(case: &Case<'_>) {
    let mesh = case.mesh;
    let clock = Clock::behind(case, &case.a).await;
    case.on(&case.b, "INSERT INTO {t} VALUES (1, 'B', '')").await;
    mesh.carried(&case.b, &case.a).await;
    case.on(&case.a, "UPDATE {t} SET col1 = 'A' WHERE id = 1").await;
    mesh.carried(&case.a, &case.b).await;
    case.on(&case.b, "UPDATE {t} SET col1 = 'B2' WHERE id = 1").await;
    mesh.carried(&case.b, &case.a).await;
    case.on(&case.a, "UPDATE {t} SET col1 = 'A2' WHERE id = 1").await;
    case.on(&case.a, "INSERT INTO {t} VALUES (2, 'A', '')").await;
    case.ends_as(&["1|A2|", "2|A|"]).await;
    clock.put_back().await;
    case.not_recorded(&[&case.a, &case.b, &case.c]).await;
}

/// h3
pub(super) async fn a_clock_behind_deletes_and_inserts_again(case: &Case<'_>) {
    let mesh = case.mesh;
    let clock = Clock::behind(case, &case.a).await;
    case.on(&case.b, "INSERT INTO {t} VALUES (1, 'B', ''), (2, 'B', '')").await;
    mesh.carried(&case.b, &case.a).await;
    case.on(&case.a, "DELETE FROM {t} WHERE id = 1").await;
    mesh.carried(&case.a, &case.b).await;
    case.on(&case.b, "DELETE FROM {t} WHERE id = 2").await;
    mesh.carried(&case.b, &case.a).await;
    case.on(&case.a, "INSERT INTO {t} VALUES (2, 'A', '')").await;
    case.ends_as(&["2|A|"]).await;
    clock.put_back().await;
    case.not_recorded(&[&case.a, &case.b]).await;
}
