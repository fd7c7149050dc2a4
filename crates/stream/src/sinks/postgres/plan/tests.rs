use herdsman_wal::{Column, TypeBook};

use super::*;

fn relation(identity: ReplicaIdentity, columns: &[(&str, bool, bool)]) -> Relation {
    let types = TypeBook::default();
    let column = |&(name, key, primary): &(&str, bool, bool)| Column {
        name: name.into(),
        data_type: types.get(25),
        type_modifier: -1,
        key,
        primary,
    };
    let columns = columns.iter().map(column).collect();
    Relation { oid: 1, schema: "s".into(), name: "t".into(), identity, columns }
}

fn target(columns: &[&str], primary: &[&str], unique: &[&[&str]]) -> TargetTable {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let column = |name: &&str| TargetColumn {
        name: (*name).to_owned(),
        data_type: "T".to_owned(),
        equality: "E".to_owned(),
        ..TargetColumn::default()
    };
    TargetTable {
        name: "X".to_owned(),
        columns: columns.iter().map(column).collect(),
        primary: names(primary),
        unique: unique.iter().chain([&primary]).map(|unique| names(unique)).collect(),
        ..TargetTable::default()
    }
}

fn found_by(plan: &Plan) -> (Vec<usize>, Vec<usize>) {
    let indexes = |columns: &[PlanColumn]| columns.iter().map(|column| column.index).collect();
    (indexes(&plan.key), indexes(&plan.arbiter))
}

#[test]
fn rows_are_found_by_what_the_change_tells_of_the_old_row() {
    let both = target(&["a", "b"], &["a"], &[&["b"]]);
    let none = target(&["a", "b"], &[], &[]);
    let by = |identity, columns: &[_], target| {
        found_by(&Plan::new(1, &relation(identity, columns), target))
    };
    use ReplicaIdentity::{Default, Full, Index};
    let keyed = [("a", true, true), ("b", false, false)];
    assert_eq!(by(Default, &keyed, &both), (vec![0], vec![0]));
    assert_eq!(by(Default, &keyed, &none), (vec![0], vec![]), "nothing there is unique");
    // The primary key is known, and not told of old rows.
    let other = [("a", false, true), ("b", true, false)];
    assert_eq!(by(Index, &other, &both), (vec![1], vec![1]));
    let full = [("a", true, false), ("b", true, false)];
    assert_eq!(by(Full, &full, &both), (vec![0], vec![0]), "the target's key");
    assert_eq!(by(Full, &full, &none), (vec![], vec![]));
    let known = [("a", true, false), ("b", true, true)];
    assert_eq!(by(Full, &known, &both), (vec![1], vec![1]), "the source's key");
    // A key that the target lacks finds nothing there.
    assert_eq!(by(Default, &keyed, &target(&["b"], &[], &[])), (vec![], vec![]));
}

#[test]
fn updates_are_written_as_inserts_only_where_that_comes_to_the_same() {
    let relation = relation(ReplicaIdentity::Default, &[("a", true, true), ("b", false, false)]);
    let plan = |target: &TargetTable| Plan::new(1, &relation, target).upsert_updates;
    let mut there = target(&["a", "b", "c"], &["a"], &[]);
    assert!(plan(&there));
    there.columns[2].needed = true;
    assert!(!plan(&there), "an insert would lack `c`");
    assert!(!plan(&target(&["a", "b"], &[], &[])), "an insert would find no conflict");
}

#[test]
fn statements_quote_names_and_take_values_as_parameters() {
    let columns = [("a\"b", true, true), ("c", false, false)];
    let relation = relation(ReplicaIdentity::Default, &columns);
    let plan = Plan::new(1, &relation, &target(&["a\"b", "c"], &["a\"b"], &[]));
    let set: Box<[bool]> = [false, true].into();
    assert_eq!(
        plan.sql(&Shape::Upsert),
        "INSERT INTO X (\"a\"\"b\", \"c\") OVERRIDING SYSTEM VALUE SELECT v.c0::T, v.c1::T \
         FROM unnest($1::text[], $2::text[]) AS v(c0, c1) \
         ON CONFLICT (\"a\"\"b\") DO UPDATE SET \"c\" = excluded.\"c\""
    );
    assert_eq!(
        plan.sql(&Shape::Update(set.clone())),
        "UPDATE X AS t SET \"c\" = v.c0::T FROM unnest($1::text[], $2::text[]) AS v(c0, c1) \
         WHERE t.\"a\"\"b\" OPERATOR(E.=) v.c1::T"
    );
    assert_eq!(
        plan.sql(&Shape::Delete),
        "DELETE FROM X AS t USING unnest($1::text[]) AS v(c0) WHERE t.\"a\"\"b\" OPERATOR(E.=) v.c0::T"
    );
    assert_eq!(
        plan.sql(&Shape::UpdateWhole(set)),
        "UPDATE X AS t SET \"c\" = $1::text::T WHERE t.ctid = (SELECT s.ctid FROM X AS s \
         WHERE s.\"a\"\"b\"::text IS NOT DISTINCT FROM $2::text::T::text \
         AND s.\"c\"::text IS NOT DISTINCT FROM $3::text::T::text LIMIT 1)"
    );
}

#[test]
fn what_the_target_computes_itself_is_not_written() {
    let columns = [("a", true, true), ("b", false, false), ("c", false, false)];
    let relation = relation(ReplicaIdentity::Default, &columns);
    let mut there = target(&["a", "b", "c"], &["a"], &[]);
    there.columns[1].generated = true;
    there.columns[2].identity_always = true;
    let sql = Plan::new(1, &relation, &there).sql(&Shape::Upsert);
    assert!(
        sql.starts_with("INSERT INTO X (\"a\", \"c\") ") && sql.ends_with("DO NOTHING"),
        "{sql}"
    );
}
