//! Keys: the same one twice, changed ones, and those that others point to.

use super::case::Case;

/// e
pub(super) async fn the_same_key_inserted_twice(case: &Case<'_>) {
    case.apart();
    case.on(&case.a, "INSERT INTO {t} VALUES (1, 'A', '')").await;
    case.on(&case.b, "INSERT INTO {t} VALUES (1, 'B', '')").await;
    case.on(&case.a, "INSERT INTO {t} VALUES (2, 'behind', '')").await;
    case.on(&case.b, "INSERT INTO {t} VALUES (3, 'behind', '')").await;
    case.ends_as(&["1|B|", "2|behind|", "3|behind|"]).await;
    case.recorded(&[&case.a, &case.b, &case.c], "insert_insert", Some("B"), Some("A")).await;
}

/// e2
pub(super) async fn of_rows_with_one_key_one_is_taken_with_the_number_it_was_given(
    case: &Case<'_>,
) {
    case.begin("(8, 'counts', ''), (9, 'goes', '')").await;
    case.apart();
    case.on(&case.a, "INSERT INTO {t} VALUES (1, 'A', '')").await;
    // Something that meets just what its writer saw comes along.
    case.on(&case.b, "DELETE FROM {t} WHERE id = 9; INSERT INTO {t} VALUES (1, 'B', '')").await;
    case.ends_as(&["1|B|", "8|counts|"]).await;
    // The numbers that B gives begin here.
    let given = format!("concat_ws('|', id, numbered >= {})", 1_i64 << 31);
    case.holds(&case.table(), &given, &["1|t", "8|f"]).await;
    case.recorded(&[&case.a, &case.b], "insert_insert", Some("B"), Some("A")).await;
}

/// j
pub(super) async fn a_child_whose_parent_goes_elsewhere_stays(case: &Case<'_>) {
    case.begin("(1, 'parent', '')").await;
    case.apart();
    case.on(&case.a, "DELETE FROM {t} WHERE id = 1").await;
    case.on(&case.b, "INSERT INTO child_j VALUES (7, 1)").await;
    case.ends_as(&[]).await;
    // An orphan, and the same one everywhere: `herdsman mesh verify` names it.
    case.holds("child_j", "concat_ws('|', id, parent)", &["7|1"]).await;
}

/// k0
pub(super) async fn a_row_moved_here_and_updated_there_later_is_two(case: &Case<'_>) {
    case.begin("(1, 'v0', '')").await;
    case.apart();
    case.on(&case.a, "UPDATE {t} SET id = 2, col1 = 'moved' WHERE id = 1").await;
    case.on(&case.b, "UPDATE {t} SET col1 = 'B' WHERE id = 1").await;
    case.ends_as(&["1|B|", "2|moved|"]).await;
    case.recorded(&[&case.a, &case.b], "update_delete", Some("B"), None).await;
}

/// k1
pub(super) async fn a_row_moved_later_takes_nothing_of_what_it_did_not_know(case: &Case<'_>) {
    case.begin("(1, 'v0', '')").await;
    case.apart();
    case.on(&case.b, "UPDATE {t} SET col1 = 'B' WHERE id = 1").await;
    case.on(&case.a, "UPDATE {t} SET id = 2 WHERE id = 1").await;
    case.ends_as(&["2|v0|"]).await;
    case.recorded(&[&case.a, &case.b], "update_delete", None, Some("B")).await;
}

/// moved_back
pub(super) async fn keys_changed_in_a_circle(case: &Case<'_>) {
    case.begin("(1, 'one', ''), (2, 'two', '')").await;
    let circle = "UPDATE {t} SET id = 3 WHERE id = 1; UPDATE {t} SET id = 1 WHERE id = 2; UPDATE {t} SET id = 2 WHERE id = 3";
    case.on(&case.b, circle).await;
    case.ends_as(&["1|two|", "2|one|"]).await;
    case.not_recorded(&[&case.a, &case.b, &case.c]).await;
}
