//! Deletions and truncations against everything.

use super::case::Case;

/// c
pub(super) async fn a_later_update_survives_a_deletion(case: &Case<'_>) {
    case.begin("(1, 'v0', '')").await;
    case.apart();
    case.on(&case.a, "DELETE FROM {t} WHERE id = 1").await;
    case.on(&case.b, "UPDATE {t} SET col1 = 'B' WHERE id = 1").await;
    case.ends_as(&["1|B|"]).await;
    case.recorded(&[&case.a, &case.b], "update_delete", Some("B"), None).await;
}

/// c2
pub(super) async fn a_later_deletion_survives_an_update(case: &Case<'_>) {
    case.begin("(1, 'v0', '')").await;
    case.apart();
    case.on(&case.b, "UPDATE {t} SET col1 = 'B' WHERE id = 1").await;
    case.on(&case.a, "DELETE FROM {t} WHERE id = 1").await;
    case.ends_as(&[]).await;
    case.recorded(&[&case.a, &case.b], "update_delete", None, Some("B")).await;
}

/// d
pub(super) async fn a_row_inserted_again_elsewhere_survives_its_late_deletion(case: &Case<'_>) {
    let mesh = case.mesh;
    case.begin("(1, 'v0', '')").await;
    mesh.hold(&case.a, &case.c);
    case.on(&case.a, "DELETE FROM {t} WHERE id = 1").await;
    mesh.seen_by_itself(&case.a).await;
    mesh.carried(&case.a, &case.b).await;
    case.on(&case.b, "INSERT INTO {t} VALUES (1, 'again', '')").await;
    mesh.carried(&case.b, &case.c).await;
    case.ends_as(&["1|again|"]).await;
    // C cannot know that the insertion knew of the deletion, and may tell of two insertions.
    case.not_recorded(&[&case.a, &case.b]).await;
}

/// d2
pub(super) async fn a_row_inserted_again_arrives_before_its_first_life(case: &Case<'_>) {
    let mesh = case.mesh;
    mesh.hold(&case.a, &case.c);
    case.on(&case.a, "INSERT INTO {t} VALUES (1, 'first', '')").await;
    case.on(&case.a, "DELETE FROM {t} WHERE id = 1").await;
    mesh.seen_by_itself(&case.a).await;
    mesh.carried(&case.a, &case.b).await;
    case.on(&case.b, "INSERT INTO {t} VALUES (1, 'again', '')").await;
    mesh.carried(&case.b, &case.c).await;
    case.on(&case.a, "INSERT INTO {t} VALUES (2, 'behind', '')").await;
    case.ends_as(&["1|again|", "2|behind|"]).await;
    case.not_recorded(&[&case.a, &case.b]).await;
}

/// d3
pub(super) async fn deleted_here_and_replaced_there(case: &Case<'_>) {
    case.begin("(1, 'v0', '')").await;
    case.apart();
    case.on(&case.a, "DELETE FROM {t} WHERE id = 1").await;
    let replace = "DELETE FROM {t} WHERE id = 1; INSERT INTO {t} VALUES (1, 'B', '')";
    case.on(&case.b, replace).await;
    case.ends_as(&["1|B|"]).await;
}

/// d4
pub(super) async fn replaced_here_and_deleted_there_later(case: &Case<'_>) {
    case.begin("(1, 'v0', '')").await;
    case.apart();
    let replace = "DELETE FROM {t} WHERE id = 1; INSERT INTO {t} VALUES (1, 'B', '')";
    case.on(&case.b, replace).await;
    case.on(&case.a, "DELETE FROM {t} WHERE id = 1").await;
    case.ends_as(&[]).await;
    case.recorded(&[&case.b], "update_delete", None, Some("B")).await;
}

/// g
pub(super) async fn a_later_insert_survives_a_truncate(case: &Case<'_>) {
    case.begin("(1, 'v0', ''), (2, 'v0', '')").await;
    case.apart();
    case.on(&case.a, "TRUNCATE {t}").await;
    case.on(&case.b, "INSERT INTO {t} VALUES (50, 'B', '')").await;
    case.ends_as(&["50|B|"]).await;
}

/// g2
pub(super) async fn an_update_survives_a_truncate_and_a_new_row(case: &Case<'_>) {
    case.begin("(1, 'v0', ''), (2, 'v0', ''), (3, 'v0', '')").await;
    case.apart();
    case.on(&case.a, "TRUNCATE {t}; INSERT INTO {t} VALUES (1, 'A', '')").await;
    case.on(&case.b, "UPDATE {t} SET col1 = 'B' WHERE id < 3").await;
    case.ends_as(&["1|B|", "2|B|"]).await;
}

/// g4
pub(super) async fn a_truncate_that_comes_late_leaves_what_came_with_a_later_one(case: &Case<'_>) {
    let mesh = case.mesh;
    case.begin("(1, 'v0', ''), (2, 'v0', '')").await;
    mesh.hold(&case.b, &case.a);
    mesh.hold(&case.b, &case.c);
    case.on(&case.b, "TRUNCATE {t}").await;
    case.on(&case.a, "TRUNCATE {t}; INSERT INTO {t} VALUES (1, 'A', '')").await;
    // The later one is on record where the other comes.
    mesh.carried(&case.a, &case.c).await;
    mesh.seen_by_itself(&case.a).await;
    case.ends_as(&["1|A|"]).await;
}

/// g3
pub(super) async fn a_later_truncate_removes_what_it_did_not_know(case: &Case<'_>) {
    case.begin("(1, 'v0', '')").await;
    case.apart();
    case.on(&case.b, "INSERT INTO {t} VALUES (50, 'B', '')").await;
    case.on(&case.a, "TRUNCATE {t}").await;
    case.on(&case.a, "INSERT INTO {t} VALUES (60, 'after', '')").await;
    case.ends_as(&["60|after|"]).await;
    // Whether it came before the row or after.
    case.recorded(&[&case.a, &case.b, &case.c], "truncate", None, Some("B")).await;
}

/// unmade
pub(super) async fn what_a_transaction_made_and_unmade_is_nowhere(case: &Case<'_>) {
    case.begin("(1, 'v0', '')").await;
    let all = "INSERT INTO {t} VALUES (2, 'x', ''); DELETE FROM {t} WHERE id = 2;
               DELETE FROM {t} WHERE id = 1; INSERT INTO {t} VALUES (1, 'v1', ''); DELETE FROM {t} WHERE id = 1;
               INSERT INTO {t} VALUES (1, 'v2', ''); UPDATE {t} SET col1 = 'v3' WHERE id = 1";
    case.on(&case.b, all).await;
    case.ends_as(&["1|v3|"]).await;
    case.not_recorded(&[&case.a, &case.b, &case.c]).await;
}
