use super::*;

fn ids_of(message: &str, client: Option<&str>) -> Ids {
    Ids { message: message.to_owned(), client: client.map(str::to_owned) }
}

#[test]
fn requests_are_read_in_klusters_form_and_in_ours() {
    let klusters = read(br#"{"messageId": "1", "clientId": "web", "sqlString": "SELECT 1"}"#);
    let expected = Asked {
        ids: ids_of("1", Some("web")),
        text: Text::One(Statement::new("SELECT 1".to_owned(), None)),
        node: None,
        read: Read::Session,
        after: None,
    };
    assert_eq!(klusters, Ok(expected.clone()));
    let ours = read(
        br#"{"messageId": "1", "statements": ["A", "B"], "node": "pg", "read": "linearizable", "after": 7, "clientId": null}"#,
    );
    let expected = Asked {
        ids: ids_of("1", None),
        text: Text::Many(["A", "B"].map(|it| Statement::new(it.to_owned(), None)).into()),
        node: Some("pg".to_owned()),
        read: Read::Linearizable,
        after: Some(Offset(7)),
    };
    assert_eq!(ours, Ok(expected));
    // Values, in both.
    let values = [crate::Value::Int(7)];
    for body in [
        r#"{"messageId": "1", "sqlString": "A", "params": [7]}"#,
        r#"{"messageId": "1", "statements": [{"sql": "A", "params": [7]}, "B"]}"#,
    ] {
        let asked = read(body.as_bytes()).unwrap();
        assert_eq!(asked.text.statements()[0], Sql { text: "A", values: &values }, "{body}");
    }
}

#[test]
fn what_is_wrong_is_told_where_there_is_an_id() {
    let cases = [
        (r#"{"messageId": "1"}"#, "expected one of"),
        (r#"{"messageId": "1", "sqlString": "A", "statements": ["B"]}"#, "expected one of"),
        (r#"{"messageId": "1", "statements": []}"#, "`statements` has 0"),
        (r#"{"messageId": "1", "statements": ["A"], "params": [1]}"#, "`params` is of `sqlString`"),
        (r#"{"messageId": "1", "sqlString": "A", "params": [[]]}"#, "params[0]: expected null"),
        (r#"{"messageId": "1", "sqlString": "A", "topic": "other"}"#, "unknown field `topic`"),
        (r#"{"messageId": "1", "sqlString": 7}"#, "expected a string"),
        (r#"{"messageId": "1", "sqlString": "A", "after": -1}"#, "after"),
        (r#"{"messageId": "1", "sqlString": "A", "read": "dirty"}"#, "unknown variant `dirty`"),
        (r#"{"messageId": "1", "sqlString": "A", "sqlString": "B"}"#, "duplicate field"),
    ];
    for (body, expected) in cases {
        match read(body.as_bytes()) {
            Err(Unfit::Told(ids, why)) => {
                assert_eq!(ids, ids_of("1", None));
                let known = why.contains(expected) || expected == "after";
                assert!(known, "{body}: {why}");
            }
            other => panic!("{body}: {other:?}"),
        }
    }
    let large =
        format!(r#"{{"messageId": "1", "sqlString": "{}"}}"#, "x".repeat(REQUEST_BYTES_MOST));
    assert!(matches!(read(large.as_bytes()), Err(Unfit::Told(_, why)) if why.contains("bytes")));
}

#[test]
fn what_nobody_can_be_told_says_nothing_of_what_was_in_it() {
    let cases = [
        ("{\"messageId\": \"1\", \"sqlString\": \"secret", "it is not JSON"),
        ("", "it is not JSON"),
        ("[1]", "it is not a JSON object with each key once"),
        (r#"{"messageId": "1", "messageId": "2"}"#, "it is not a JSON object with each key once"),
        (r#"{"sqlString": "secret"}"#, "it has no text `messageId`"),
        (r#"{"messageId": 1, "sqlString": "secret"}"#, "it has no text `messageId`"),
        (
            r#"{"messageId": "", "sqlString": "A"}"#,
            "its `messageId` or `clientId` is empty or longer than 200 bytes",
        ),
        (r#"{"messageId": "1", "clientId": 7}"#, "its `clientId` is no text"),
    ];
    for (body, expected) in cases {
        assert_eq!(read(body.as_bytes()), Err(Unfit::Lost(expected)), "{body}");
    }
}

#[test]
fn a_requests_id_is_that_of_one_client_and_message() {
    let id = |message, client| ids_of(message, client).request();
    assert_eq!(id("1", None), id("1", None));
    let all = [
        id("1", None),
        id("2", None),
        id("1", Some("a")),
        id("1a", None),
        id("a", Some("1")),
        id("1", Some("1")),
    ];
    let different: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(different.len(), all.len());
}

#[test]
fn only_what_surely_reads_is_taken_for_a_read() {
    for sql in ["SELECT 1", " (select 1)", "-- x\n/* y */ VALUES (1)", "TABLE t"] {
        assert!(only_reads(sql), "{sql}");
    }
    for sql in ["WITH x AS (DELETE FROM t RETURNING *) TABLE x", "INSERT INTO t", "", "/*", "--"] {
        assert!(!only_reads(sql), "{sql}");
    }
}
