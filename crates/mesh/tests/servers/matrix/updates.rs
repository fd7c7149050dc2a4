//! Updates against updates.

use super::case::Case;

/// a
pub(super) async fn the_later_of_two_updates_wins(case: &Case<'_>) {
    case.begin("(1, 'v0', 'x')").await;
    case.apart();
    case.on(&case.a, "UPDATE {t} SET col1 = 'A' WHERE id = 1").await;
    case.on(&case.b, "UPDATE {t} SET col1 = 'B' WHERE id = 1").await;
    case.ends_as(&["1|B|x"]).await;
    case.recorded(&[&case.a, &case.b, &case.c], "update_update", Some("B"), Some("A")).await;
}

/// a2
pub(super) async fn rows_win_whole(case: &Case<'_>) {
    case.begin("(1, 'v0', 'w0')").await;
    case.apart();
    case.on(&case.a, "UPDATE {t} SET col1 = 'A' WHERE id = 1").await;
    case.on(&case.b, "UPDATE {t} SET col2 = 'B' WHERE id = 1").await;
    case.ends_as(&["1|v0|B"]).await;
    case.recorded(&[&case.a, &case.b], "update_update", Some("v0"), Some("A")).await;
}

/// b
pub(super) async fn an_update_overtakes_its_insert(case: &Case<'_>) {
    let mesh = case.mesh;
    mesh.hold(&case.a, &case.c);
    case.on(&case.a, "INSERT INTO {t} VALUES (1, 'v1', 'x')").await;
    mesh.carried(&case.a, &case.b).await;
    case.on(&case.b, "UPDATE {t} SET col1 = 'v2' WHERE id = 1").await;
    mesh.carried(&case.b, &case.c).await;
    let there = mesh.ask(&case.c, "SELECT col1 FROM case_b").await;
    assert_eq!(there.as_deref(), Some("v2"), "the insertion is held back");
    case.ends_as(&["1|v2|x"]).await;
    case.not_recorded(&[&case.a, &case.b, &case.c]).await;
}

/// b2
pub(super) async fn two_updates_arrive_the_wrong_way_round(case: &Case<'_>) {
    let mesh = case.mesh;
    case.begin("(1, 'v0', 'x')").await;
    mesh.hold(&case.a, &case.c);
    case.on(&case.a, "UPDATE {t} SET col1 = 'v1' WHERE id = 1").await;
    mesh.carried(&case.a, &case.b).await;
    case.on(&case.b, "UPDATE {t} SET col2 = 'y' WHERE id = 1").await;
    mesh.carried(&case.b, &case.c).await;
    case.ends_as(&["1|v1|y"]).await;
    case.not_recorded(&[&case.a, &case.b, &case.c]).await;
}

/// i
pub(super) async fn transfers_keep_rows_but_not_sums(case: &Case<'_>) {
    case.begin("(1, '100', ''), (2, '100', ''), (3, '100', '')").await;
    case.apart();
    let transfer = |from: u8, to: u8, amount: u8| {
        format!(
            "UPDATE {{t}} SET col1 = (col1::int - {amount})::text WHERE id = {from};
             UPDATE {{t}} SET col1 = (col1::int + {amount})::text WHERE id = {to}"
        )
    };
    case.on(&case.a, &transfer(1, 2, 10)).await;
    case.on(&case.b, &transfer(2, 3, 20)).await;
    // 290: of row 2 the later transaction's value stands. Columns that add up are `delta`.
    case.ends_as(&["1|90|", "2|80|", "3|120|"]).await;
    case.recorded(&[&case.a, &case.b], "update_update", Some("80"), Some("110")).await;
}

/// toast
pub(super) async fn a_large_value_is_never_of_another_version(case: &Case<'_>) {
    case.begin("(1, 'v0', repeat('0', 9000))").await;
    case.apart();
    case.on(&case.a, "UPDATE {t} SET col2 = repeat('A', 9000) WHERE id = 1").await;
    case.on(&case.b, "UPDATE {t} SET col1 = 'B' WHERE id = 1").await;
    case.ends_as(&["1|B|000000000000"]).await;
    let all = "concat_ws('|', id, length(col2), md5(col2) = md5(repeat('0', 9000)))";
    case.holds("case_toast", all, &["1|9000|t"]).await;
    case.recorded(&[&case.a, &case.b], "update_update", Some("B"), Some("v0")).await;
}

/// half
pub(super) async fn a_transaction_half_overwritten(case: &Case<'_>) {
    case.begin("(1, 'v0', ''), (2, 'v0', ''), (3, 'v0', '')").await;
    case.apart();
    case.on(&case.a, "UPDATE {t} SET col1 = 'A'").await;
    case.on(&case.b, "UPDATE {t} SET col1 = 'B' WHERE id = 2").await;
    case.ends_as(&["1|A|", "2|B|", "3|A|"]).await;
    case.recorded(&[&case.a, &case.b], "update_update", Some("B"), Some("A")).await;
    let all = case.mesh.conflicts(&case.table()).await;
    assert!(all.iter().all(|conflict| conflict.key.contains('2')), "{all:#?}");
}

/// twice
pub(super) async fn the_second_update_of_a_transaction_is_not_lost(case: &Case<'_>) {
    case.begin("(1, 'v0', '')").await;
    let twice = "UPDATE {t} SET col1 = 'v1' WHERE id = 1; UPDATE {t} SET col1 = 'v2' WHERE id = 1;
                 INSERT INTO {t} VALUES (2, 'w1', ''); UPDATE {t} SET col1 = 'w2' WHERE id = 2";
    case.on(&case.b, twice).await;
    case.ends_as(&["1|v2|", "2|w2|"]).await;
    case.not_recorded(&[&case.a, &case.b, &case.c]).await;
}

/// three
pub(super) async fn three_at_once(case: &Case<'_>) {
    case.begin("(1, 'v0', '')").await;
    for (one, other) in [(&case.a, &case.b), (&case.b, &case.c), (&case.a, &case.c)] {
        case.mesh.apart(one, other);
    }
    for (node, value) in [(&case.c, "C"), (&case.a, "A"), (&case.b, "B")] {
        case.on(node, &format!("UPDATE {{t}} SET col1 = '{value}' WHERE id = 1")).await;
    }
    // One after another, in an order that differs by node.
    case.mesh.release(&case.b, &case.c);
    case.mesh.carried(&case.b, &case.c).await;
    case.mesh.release(&case.c, &case.a);
    case.mesh.carried(&case.c, &case.a).await;
    case.ends_as(&["1|B|"]).await;
    case.recorded(&[&case.c], "update_update", Some("B"), Some("C")).await;
    case.recorded(&[&case.a], "update_update", Some("A"), Some("C")).await;
    case.recorded(&[&case.a], "update_update", Some("B"), Some("A")).await;
}
