use super::*;

#[test]
fn texts_are_taken_apart_where_a_server_does_so() {
    let sql = " SELECT ';' ; -- ;\n INSERT INTO t VALUES (1);;";
    assert_eq!(split(sql).unwrap(), ["SELECT ';'", "INSERT INTO t VALUES (1)"]);
    assert_eq!(split(" ; /* */").unwrap(), [""; 0]);
    assert_eq!(split("SELECT 'never ends"), None);
}

#[test]
fn what_begins_ends_and_sets_is_known() {
    let begin = |read_only, serializable| Said::Begin { read_only, serializable };
    for (sql, expected) in [
        ("BEGIN", begin(None, None)),
        (
            "start transaction isolation level serializable, read only",
            begin(Some(true), Some(true)),
        ),
        ("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", begin(Some(false), Some(false))),
        ("END", Said::Commit),
        ("ROLLBACK TO SAVEPOINT a", Said::BackTo),
        ("SAVEPOINT a", Said::Savepoint("SAVEPOINT")),
        ("SET TRANSACTION READ ONLY", Said::Modes { read_only: Some(true), serializable: None }),
        ("SET LOCAL statement_timeout = 5", Said::SetLocal),
        ("RESET timezone", Said::Reset("timezone".to_owned())),
        ("show herdsman . Offset", Said::Show(Own::Offset)),
        ("SHOW timezone", Said::Server(None)),
        ("DEALLOCATE ALL", Said::Forget(None)),
        ("CREATE TABLE t (id int)", Said::Define("CREATE TABLE")),
        ("EXPLAIN (ANALYZE, COSTS off) DELETE FROM t", Said::Server(Some(29))),
        ("EXPLAIN ANALYZE SELECT 1", Said::Server(Some(16))),
        ("DECLARE c CURSOR FOR SELECT 1", Said::Server(Some(21))),
        ("SELECT 1", Said::Server(Some(0))),
        ("(SELECT 1)", Said::Server(Some(0))),
    ] {
        assert_eq!(said(sql), expected, "{sql}");
    }
    assert!(
        matches!(said("SET herdsman.read = linearizable"), Said::Set { name, .. } if name == "herdsman.read")
    );
}

#[test]
fn what_would_get_out_of_the_transaction_or_of_capturing_is_refused() {
    for sql in [
        "COMMIT AND CHAIN",
        "PREPARE TRANSACTION 'a'",
        "COMMIT PREPARED 'a'",
        "SET search_path = other",
        "SET LOCAL search_path = other",
        "SET herdsman.capture = off",
        "SET session_replication_role = replica",
        "SET ROLE other",
        "SET standard_conforming_strings = off",
        "SET client_encoding = latin1",
        "RESET herdsman.capture",
        "SET TRANSACTION SNAPSHOT 'a'",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "PREPARE p AS DELETE FROM t",
        "EXECUTE p",
        "COPY t FROM STDIN",
        "DO $$ BEGIN END $$",
        "LISTEN a",
    ] {
        assert!(matches!(said(sql), Said::Refused("0A000", _)), "{sql}: {:?}", said(sql));
    }
}
