use super::*;
use crate::requests::message;

fn ids() -> Ids {
    Ids { message: "m1".to_owned(), client: Some("web".to_owned()) }
}

fn one() -> Text {
    Text::One(message::Statement::new("SELECT".to_owned(), None))
}

fn rows_answer(types: &[&str], rows: Vec<Vec<Option<String>>>) -> node::Answer {
    let columns = (0..types.len()).map(|i| format!("c{i}")).collect();
    let types = types.iter().map(|it| (*it).to_owned()).collect();
    node::Answer { columns, types, rows, ..node::Answer::default() }
}

fn told(text: Option<&Text>, outcome: &Result<Done, Fault>) -> Value {
    serde_json::from_slice(&encode(&ids(), Topic::One, text, outcome)).unwrap()
}

#[test]
fn values_are_of_their_type_where_json_has_them_exactly() {
    let cases = [
        ("boolean", "t", json!(true)),
        ("boolean", "0", json!(false)),
        ("integer", "-7", json!(-7)),
        ("bigint", "9007199254740991", json!(9_007_199_254_740_991_i64)),
        ("bigint", "9007199254740992", json!("9007199254740992")),
        ("bigint", "-9223372036854775808", json!("-9223372036854775808")),
        ("double precision", "0.1", json!(0.1)),
        ("double precision", "NaN", json!("NaN")),
        ("numeric", "12.50", json!("12.50")),
        ("text", "7", json!("7")),
        ("bytea", "\\x00ff", json!("00ff")),
        ("bytea", "00ff", json!("00ff")),
        ("jsonb", "{\"a\": 1}", json!("{\"a\": 1}")),
        ("timestamptz", "2026-01-02 03:04:05+00", json!("2026-01-02 03:04:05+00")),
        ("bigint", "no number", json!("no number")),
    ];
    for (kind, text, expected) in cases {
        assert_eq!(cell(kind, Some(text)), expected, "{kind} {text}");
        assert_eq!(cell(kind, None), Value::Null);
    }
}

#[test]
fn one_statement_is_answered_in_klusters_form_and_several_in_a_list() {
    let rows =
        vec![vec![Some("1".to_owned()), None], vec![Some("2".to_owned()), Some("b".to_owned())]];
    let answer = rows_answer(&["bigint", "text"], rows);
    let done = Done {
        node: Some("pg".to_owned()),
        offset: Some(Offset(5)),
        answers: vec![answer.clone()],
        ..Done::default()
    };
    let columns = json!([{"name": "c0", "type": "bigint"}, {"name": "c1", "type": "text"}]);
    let id = ids().request().to_string();
    assert_eq!(
        told(Some(&one()), &Ok(done.clone())),
        json!({
            "messageId": id, "requestId": "m1", "clientId": "web", "requestTopic": "ONE", "nodeId": "pg", "resultCode": "OK",
            "offset": 5, "rowsChanged": 0, "columns": columns, "rows": [[1, null], [2, "b"]],
            "result": [{"c0": 1, "c1": null}, {"c0": 2, "c1": "b"}],
        })
    );
    let changed = node::Answer { affected: 3, ..node::Answer::default() };
    let done = Done { answers: vec![changed, answer], ..done };
    let statement = |sql: &str| message::Statement::new(sql.to_owned(), None);
    let many = Text::Many(["A", "B"].map(statement).into());
    let said = told(Some(&many), &Ok(done));
    assert_eq!(said["rowsChanged"], 3);
    assert_eq!(
        said["results"],
        json!([{"rowsChanged": 3}, {"rowsChanged": 0, "columns": columns, "rows": [[1, null], [2, "b"]]}])
    );
    assert_eq!(said.get("rows"), None);
}

#[test]
fn what_was_done_before_is_told_without_another_runs_rows() {
    let answer = rows_answer(&["bigint"], vec![vec![Some("2".to_owned())]]);
    let done =
        Done { answers: vec![answer], again: true, wrote: true, behind: true, ..Done::default() };
    let said = told(Some(&one()), &Ok(done));
    assert_eq!((&said["duplicate"], &said["acknowledged"]), (&json!(true), &json!(false)));
    assert!(said.get("rows").is_none() && said.get("rowsChanged").is_none(), "{said}");
}

#[test]
fn an_error_has_its_sqlstate_and_klusters_result_code() {
    let said = told(None, &Err(Fault::new("23505", "there is one")));
    assert_eq!(said["resultCode"], "ERR: there is one");
    assert_eq!((&said["sqlstate"], &said["error"]), (&json!("23505"), &json!("there is one")));
    assert_eq!((said.get("offset"), &said["nodeId"]), (None, &Value::Null));
}

#[test]
fn an_answer_has_its_limits_and_a_write_is_told_to_be_done_all_the_same() {
    let many = vec![vec![Some("1".to_owned())]; ROWS_MOST + 1];
    let wide = vec![vec![Some("x".repeat(ANSWER_BYTES_MOST))]];
    let few = vec![vec![Some("1".to_owned())]];
    // The last one was cut when it was read.
    for (rows, beyond) in [(many, 0), (wide, 0), (few, 1)] {
        let answer = node::Answer { affected: 9, beyond, ..rows_answer(&["text"], rows) };
        let read = Done { answers: vec![answer], ..Done::default() };
        let said = told(Some(&one()), &Ok(read.clone()));
        assert_eq!(said["sqlstate"], "54000", "{said}");
        let said = told(Some(&one()), &Ok(Done { wrote: true, ..read }));
        assert_eq!((&said["resultCode"], &said["rowsChanged"]), (&json!("OK"), &json!(9)));
        assert!(said["omitted"].is_string() && said.get("rows").is_none(), "{said}");
    }
}

/// What is published says the same keys as the code.
#[test]
fn the_schema_names_every_key() {
    let schema: Value =
        serde_json::from_str(include_str!("../../../../../docs/ledger-messages.schema.json"))
            .unwrap();
    let keys = |of: &str| -> Vec<String> {
        schema["$defs"][of]["properties"].as_object().unwrap().keys().cloned().collect()
    };
    for key in keys("request") {
        // A key that is not known is told before one that is missing or wrong.
        let body = json!({"messageId": "1", key.clone(): null}).to_string();
        let why = format!("{:?}", message::read(body.as_bytes()));
        assert!(!why.contains("unknown field"), "{key}: {why}");
    }
    let why = format!("{:?}", message::read(br#"{"messageId": "1", "nonsense": 1}"#));
    let listed = why.split("expected one of").nth(1).unwrap();
    assert_eq!(listed.matches('`').count() / 2, keys("request").len(), "{why}");

    let answer = node::Answer { affected: 1, ..rows_answer(&["text"], vec![vec![None]]) };
    let done = Done { answers: vec![answer], wrote: true, behind: true, ..Done::default() };
    let too_many = rows_answer(&["text"], vec![vec![None]; ROWS_MOST + 1]);
    let all = [
        told(Some(&one()), &Ok(done.clone())),
        told(Some(&Text::Many(Vec::new())), &Ok(done.clone())),
        told(None, &Ok(Done { again: true, ..done.clone() })),
        told(None, &Ok(Done { answers: vec![too_many], ..done })),
        told(None, &Err(Fault::new("XX000", "no"))),
    ];
    let said: std::collections::BTreeSet<String> =
        all.iter().flat_map(|it| it.as_object().unwrap().keys().cloned()).collect();
    assert_eq!(said.into_iter().collect::<Vec<_>>(), keys("answer"));
}
