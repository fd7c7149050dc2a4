use herdsman_ledger::node::Checksum;

use super::*;

#[test]
fn the_node_is_chosen_whose_dialect_most_people_write() {
    let best = |nodes: &[(&str, Engine)]| {
        best(nodes.iter().map(|(name, engine)| ((*name).to_owned(), *engine)).collect())
    };
    let all = [
        ("a", Engine::Sqlite),
        ("b", Engine::MariaDb),
        ("d", Engine::Postgres),
        ("c", Engine::Postgres),
    ];
    assert_eq!(best(&all).as_deref(), Some("c"));
    assert_eq!(best(&all[..2]).as_deref(), Some("b"));
    assert_eq!(best(&[]), None);
}

#[test]
fn a_table_that_differs_or_lacks_is_named_and_who_was_away_spoils_the_verdict() {
    let sum = |rows| Checksum { rows, sum: [u128::from(rows), 0] };
    let tables = |list: &[(&str, u64)]| {
        list.iter().map(|(name, rows)| ((*name).to_owned(), sum(*rows))).collect::<BTreeMap<_, _>>()
    };
    let mut verified = Verified {
        at: Offset(7),
        nodes: [
            ("a".to_owned(), tables(&[("t", 1), ("u", 2), ("v", 3)])),
            ("b".to_owned(), tables(&[("t", 1), ("u", 3)])),
        ]
        .into(),
        absent: BTreeMap::new(),
    };
    let found = verdict(verified.clone());
    let told: Vec<_> = found.tables.iter().map(|it| (it.table.as_str(), it.alike)).collect();
    assert_eq!((found.entry, found.alike), (7, false));
    assert_eq!(told, [("t", true), ("u", false), ("v", false)]);
    assert_eq!(found.tables[2].nodes["b"], None);
    verified.nodes.remove("b");
    assert!(verdict(verified.clone()).alike);
    verified.absent.insert("b".to_owned(), "away".to_owned());
    assert!(!verdict(verified).alike);
}

#[test]
fn every_refusal_names_its_sqlstate_once() {
    let id = RequestId([7; 16]);
    let sql = |state: &str| SqlError::Refused { state: state.to_owned(), message: "m".to_owned() };
    let cases = [
        (RequestError::Sql(sql("23505")), "m (SQLSTATE 23505)", false),
        (
            RequestError::Refused("42P07".to_owned()),
            "there is a table of that name already (SQLSTATE 42P07)",
            false,
        ),
        (
            RequestError::Refused("0A000".to_owned()),
            "every node refuses it (SQLSTATE 0A000)",
            false,
        ),
        (
            RequestError::Conflict { attempts: 3 },
            "could not commit: other transactions changed the same rows first, 3 times (SQLSTATE 40001)",
            false,
        ),
        (
            RequestError::Node("n".to_owned(), "away".to_owned()),
            "node \"n\" cannot be asked: away (SQLSTATE 57P03)",
            true,
        ),
    ];
    for (error, expected, unavailable) in cases {
        let told = refusal(&error);
        assert_eq!((told.message.as_str(), told.unavailable), (expected, unavailable));
    }
    let unknown = refusal(&RequestError::Unknown(id)).message;
    assert!(unknown.contains("SQLSTATE 08007") && unknown.contains(&format!("--request {id}")));
}
