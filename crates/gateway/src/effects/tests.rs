mod lasting;
mod settings;

use herdsman::classify::{Class, Functions, classify};
use herdsman_node::NodeName;

use super::{Effect, Hint, effect, hint, needs_look};

const BEGIN: Effect = Effect::Begin { read_only: false };
const BEGIN_READ_ONLY: Effect = Effect::Begin { read_only: true };
const TEMPORARY: Effect = Effect::Sticky("a temporary table");
const LOCK: Effect = Effect::Sticky("a session advisory lock");

/// Each text, alone and dressed up.
fn assert_all(expected: &Effect, texts: &[&str]) {
    for text in texts {
        let dressed = [
            (*text).to_owned(),
            format!("{text};"),
            format!(" /* one */ -- two\n{text} ; ;-- three"),
            format!("/* herdsman: target=east */ {text}"),
            format!("/* herdsman: writer */{text}"),
            text.replace(' ', " /**/\n\t"),
        ];
        for sql in &dressed {
            assert_eq!(effect(sql), *expected, "{sql:?}");
        }
        let shouted = text.to_uppercase();
        // Not the texts with names or strings in them.
        if !text.contains(['\'', '"', '$', '=']) && !text.contains("to ") {
            let same =
                std::mem::discriminant(&effect(&shouted)) == std::mem::discriminant(expected);
            assert!(same, "{shouted:?}");
        }
    }
}

#[test]
fn a_transaction_begins_only_with_a_text_that_is_certain_to_begin_one() {
    assert_all(
        &BEGIN,
        &[
            "begin",
            "begin work",
            "begin transaction",
            "start transaction",
            "begin read write",
            "begin isolation level repeatable read",
            "begin transaction isolation level read committed, not deferrable",
            "start transaction isolation level serializable read write deferrable",
            "begin isolation level read uncommitted",
            // A standby has no serializable transactions.
            "begin isolation level serializable, read only, deferrable",
        ],
    );
    assert_all(
        &BEGIN_READ_ONLY,
        &[
            "begin read only",
            "begin transaction read only",
            "start transaction read only",
            "begin isolation level repeatable read read only",
            "begin work isolation level repeatable read, read only, deferrable",
        ],
    );
    assert_all(
        &Effect::Unknown,
        &[
            "begin,",
            "begin , read only",
            "begin read only,",
            "begin read only,, deferrable",
            "begin read",
            "begin work transaction",
            "begin isolation level",
            "begin isolation read only",
            "begin read only, read write",
            "start",
            "start read only",
            "begin atomic",
            "begin (read only)",
        ],
    );
}

#[test]
fn a_transaction_ends_only_with_a_text_that_is_nothing_but_its_end() {
    assert_all(
        &Effect::Commit,
        &[
            "commit",
            "commit work",
            "commit transaction",
            "end",
            "end work",
            "commit and no chain",
            "end transaction and no chain",
        ],
    );
    assert_all(
        &Effect::Rollback,
        &["rollback", "rollback work", "abort", "abort transaction", "rollback and no chain"],
    );
    assert_all(
        &Effect::RollbackTo,
        &[
            "rollback to a",
            "rollback to savepoint a",
            "rollback work to savepoint \"A\"",
            "rollback transaction to a",
        ],
    );
    assert_all(
        &Effect::Unknown,
        &[
            "commit and chain",
            "rollback and chain",
            "abort work and chain",
            "commit a",
            "end to a",
            "commit and",
            "rollback to",
            "rollback to a b",
        ],
    );
    assert_all(
        &Effect::Uses,
        &[
            "commit prepared 'a'",
            "rollback prepared 'a'",
            "prepare transaction 'a'",
            "savepoint a",
            "release savepoint a",
            "release a",
        ],
    );
}

#[test]
fn of_several_statements_the_stickiest_counts() {
    let cases: &[(&str, Effect)] = &[
        ("SELECT 1; SELECT 2", Effect::None),
        ("SELECT 1; INSERT INTO t VALUES (1)", Effect::None),
        ("; ;; SELECT 1", Effect::None),
        ("; SET a = 1", Effect::Set { name: "a".to_owned(), value: "1".to_owned() }),
        ("; BEGIN;", BEGIN),
        ("SELECT 1; SET a = 1", Effect::Several(vec![set("a", "1")])),
        ("SET a = 1; INSERT INTO t VALUES (1)", Effect::Several(vec![set("a", "1")])),
        ("SET a = 1; RESET b", Effect::Several(vec![set("a", "1"), Effect::Reset("b".to_owned())])),
        ("SET a = 1; BEGIN", Effect::Unknown),
        (
            "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;",
            Effect::Several(vec![
                Effect::Releases(&["a session advisory lock"]),
                Effect::Releases(&["a cursor WITH HOLD"]),
                Effect::Releases(&["LISTEN"]),
                Effect::ResetAll,
            ]),
        ),
        ("SET LOCAL a = 1; INSERT INTO t VALUES (1)", Effect::Local),
        ("SET LOCAL a = 1; SAVEPOINT b", Effect::Uses),
        ("INSERT INTO t VALUES (1); CREATE TEMP TABLE u (a int)", TEMPORARY),
        ("SET a = 1; LISTEN b", Effect::Sticky("LISTEN")),
        ("INSERT INTO t VALUES (1); SELECT pg_advisory_lock(1)", LOCK),
        (
            "/* herdsman: writer */ INSERT INTO t VALUES (1); SET a = 1",
            Effect::Several(vec![set("a", "1")]),
        ),
        ("BEGIN; INSERT INTO t VALUES (1); COMMIT", Effect::None),
        ("BEGIN; SAVEPOINT a; ROLLBACK TO a; ROLLBACK;", Effect::Uses),
        ("BEGIN READ ONLY; SELECT 1", Effect::None),
        ("BEGIN; SET a = 1; COMMIT", Effect::Unknown),
        ("INSERT INTO t VALUES (1); COMMIT", Effect::Unknown),
        ("COMMIT; BEGIN", Effect::Unknown),
        ("COMMIT; SELECT 1", Effect::Unknown),
        (";(END", Effect::Unknown),
        ("(BEGIN)", Effect::Unknown),
        ("(DISCARD ALL", Effect::Unknown),
        ("ROLLBACK TO a; SELECT 1", Effect::Unknown),
        ("BEGIN; COMMIT AND CHAIN", Effect::Unknown),
        ("PREPARE a AS SELECT 1; EXECUTE a", Effect::Unknown),
        ("DEALLOCATE ALL; SELECT 1", Effect::Several(vec![Effect::DeallocateAll])),
        ("DISCARD ALL; SELECT 1", Effect::Unknown),
        ("INSERT INTO t VALUES ('a\\'); SET a = 1", Effect::Unknown),
        ("INSERT INTO t VALUES ('a\\', 'b;c')", Effect::Unknown),
    ];
    for (sql, expected) in cases {
        assert_eq!(effect(sql), *expected, "{sql:?}");
    }
}

#[test]
fn a_body_of_a_function_in_sql_is_one_statement() {
    let body = "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; INSERT INTO t VALUES (1); END";
    assert_eq!(effect(body), Effect::None);
    let several = Effect::Several(vec![set("a", "1")]);
    assert_eq!(effect(&format!("{body}; SET a = 1")), several);
    assert_eq!(effect(&format!("{body}; LISTEN a")), Effect::Sticky("LISTEN"));
    assert_eq!(
        effect("CREATE RULE r AS ON INSERT TO t DO (DELETE FROM u; DELETE FROM v)"),
        Effect::None
    );
}

#[test]
fn what_no_version_knows_is_unknown() {
    assert_all(&Effect::Unknown, &["frobnicate", "{", "1", "'a'", "\"select\" 1", "set", "$a"]);
}

#[test]
fn a_name_spelled_in_escapes_is_not_overlooked() {
    for sql in [
        "SELECT U&\"set\\005Fconfig\"('a', 'b', false)",
        "INSERT INTO t SELECT u&\"pg\\005Fadvisory\\005Flock\"(1)",
    ] {
        assert_eq!(effect(sql), Effect::Unknown, "{sql:?}");
    }
}

#[test]
fn hot_statements_need_no_look() {
    let functions = Functions::builtin();
    for sql in [
        "SELECT abalance FROM pgbench_accounts WHERE aid = $1",
        "UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2",
        "INSERT INTO t (a, b) VALUES ($1, $2) RETURNING id;",
        "DELETE FROM t WHERE a = 1",
        "SELECT * FROM t FOR UPDATE SKIP LOCKED",
        "SELECT my_function($1)",
        "SELECT nextval('s')",
    ] {
        assert!(!needs_look(&classify(sql, &functions), sql), "{sql:?}");
    }
    for sql in
        ["BEGIN", "SET a = 1", "SELECT set_config('x', 'y', false)", "SELECT pg_advisory_lock(1)"]
    {
        let class: Class = classify(sql, &functions);
        assert!(needs_look(&class, sql), "{sql:?}");
    }
}

#[test]
fn a_comment_sends_a_statement_where_it_says() {
    let node = |name| Some(Hint::Node(NodeName::new(name).expect("a name")));
    for (sql, expected) in [
        ("SELECT 1", None),
        ("SELECT 1 -- herdsman: writer", None),
        ("SELECT '/* herdsman: writer */'", None),
        ("/* herdsman: writer */ SELECT 1", Some(Hint::Writer)),
        ("SELECT 1 /*HERDSMAN:WRITER*/", Some(Hint::Writer)),
        // It vouches for functions, and a write stays one.
        ("/* herdsman: reader */ INSERT INTO t VALUES (1)", None),
        ("/* herdsman: target=reader */ SELECT 1", Some(Hint::Reader)),
        ("/* herdsman: target = Writer */ SELECT 1", Some(Hint::Writer)),
        ("/* herdsman: target=split */ SELECT 1", None),
        ("/* herdsman: target=east-1 */ SELECT 1", node("east-1")),
        (
            "/* herdsman: writer */ SELECT 1 /* herdsman: target=a */ /* herdsman: target=b */",
            node("a"),
        ),
        ("/* herdsman: target= */ SELECT 1", None),
        ("/* herdsman: target=a/b */ SELECT 1", None),
    ] {
        assert_eq!(hint(sql), expected, "{sql:?}");
    }
}

fn set(name: &str, value: &str) -> Effect {
    Effect::Set { name: name.to_owned(), value: value.to_owned() }
}
