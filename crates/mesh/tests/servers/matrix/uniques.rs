//! A unique constraint besides the key.

use super::case::Case;

/// f
pub(super) async fn of_two_rows_with_one_value_the_later_stays(case: &Case<'_>) {
    inserted_twice(case).await;
    case.ends_as(&["2|x|", "3|behind|"]).await;
    evicted(case, "1").await;
}

/// f2
pub(super) async fn of_two_updates_to_one_value_the_later_stays(case: &Case<'_>) {
    case.begin("(1, 'a', ''), (2, 'b', '')").await;
    case.apart();
    case.on(&case.a, "UPDATE {t} SET col1 = 'x' WHERE id = 1").await;
    case.on(&case.b, "UPDATE {t} SET col1 = 'x' WHERE id = 2").await;
    case.ends_as(&["2|x|"]).await;
    evicted(case, "1").await;
}

/// f3
pub(super) async fn an_evicted_row_comes_back_when_its_value_is_free(case: &Case<'_>) {
    inserted_twice(case).await;
    case.ends_as(&["2|x|", "3|behind|"]).await;
    case.on(&case.c, "UPDATE {t} SET col1 = 'y' WHERE id = 2").await;
    case.ends_as(&["1|x|", "2|y|", "3|behind|"]).await;
    evicted(case, "").await;
}

async fn inserted_twice(case: &Case<'_>) {
    case.apart();
    case.on(&case.a, "INSERT INTO {t} VALUES (1, 'x', '')").await;
    case.on(&case.b, "INSERT INTO {t} VALUES (2, 'x', '')").await;
    case.on(&case.a, "INSERT INTO {t} VALUES (3, 'behind', '')").await;
}

/// These rows wait on every node.
async fn evicted(case: &Case<'_>, ids: &str) {
    let question = format!(
        "SELECT coalesce(string_agg(key ->> 'id', ' ' ORDER BY key), '') FROM herdsman.evicted WHERE rel = 'public.{}'",
        case.table()
    );
    for node in case.mesh.nodes() {
        let waiting = case.mesh.ask(&node, &question).await;
        assert_eq!(waiting.as_deref(), Some(ids), "case {} on {node}", case.name);
    }
}
