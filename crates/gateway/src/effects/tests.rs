use herdsman::classify::{Class, Functions, classify};
use herdsman_node::NodeName;

use super::{Effect, Hint, effect, hint, needs_look};

fn set(name: &str, value: &str) -> Effect {
    Effect::Set { name: name.to_owned(), value: value.to_owned() }
}

fn reset(name: &str) -> Effect {
    Effect::Reset(name.to_owned())
}

const SQL_BEGIN: Effect = Effect::Begin { read_only: false };
const SQL_BEGIN_READ_ONLY: Effect = Effect::Begin { read_only: true };
const TEMPORARY: Effect = Effect::Sticky("a temporary table");
const LOCK: Effect = Effect::Sticky("a session advisory lock");
const SETTING: Effect = Effect::Sticky("a setting made by a function");

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
        &SQL_BEGIN,
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
        &SQL_BEGIN_READ_ONLY,
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
fn a_setting_is_known_by_its_name_and_value() {
    let cases: &[(&str, Effect)] = &[
        ("SET work_mem TO '4MB'", set("work_mem", "'4MB'")),
        ("SET SESSION Work_Mem = 64", set("work_mem", "64")),
        ("SET \"Work_Mem\" = $$4MB$$", set("work_mem", "'4MB'")),
        ("SET random_page_cost TO -1.5e3", set("random_page_cost", "-1.5e3")),
        ("SET x=+5", set("x", "+5")),
        ("SET enable_seqscan TO OFF", set("enable_seqscan", "'off'")),
        ("SET datestyle TO ISO, DMY", set("datestyle", "'iso', 'dmy'")),
        (
            "SET search_path TO \"$user\", Farm, 'a''b'",
            set("search_path", "'$user', 'farm', 'a''b'"),
        ),
        ("SET app.user_id = '4;2'", set("app.user_id", "'4;2'")),
        ("SET app.\"User\".x TO E'a\\'b'", set("app.user.x", "E'a\\'b'")),
        ("SET SCHEMA 'farm'", set("search_path", "'farm'")),
        ("SET NAMES 'latin1'", set("client_encoding", "'latin1'")),
        ("SET NAMES", reset("client_encoding")),
        ("SET NAMES DEFAULT", reset("client_encoding")),
        ("SET TIME ZONE 'Europe/Berlin'", set("timezone", "'Europe/Berlin'")),
        ("SET TIME ZONE UTC", set("timezone", "'utc'")),
        ("SET SESSION TIME ZONE -7", set("timezone", "-7")),
        ("SET TIME ZONE LOCAL", reset("timezone")),
        ("SET TIME ZONE DEFAULT", reset("timezone")),
        (
            "SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE",
            set("timezone", "INTERVAL '-08:00' HOUR TO MINUTE"),
        ),
        ("SET XML OPTION DOCUMENT", set("xmloption", "'document'")),
        ("SET ROLE admin", set("role", "'admin'")),
        ("SET ROLE NONE", set("role", "'none'")),
        ("SET ROLE 'admin'", set("role", "'admin'")),
        ("SET SESSION ROLE \"Admin\"", set("role", "'Admin'")),
        ("SET role TO admin", set("role", "'admin'")),
        ("SET SESSION AUTHORIZATION bob", set("session_authorization", "'bob'")),
        ("SET SESSION SESSION AUTHORIZATION bob", set("session_authorization", "'bob'")),
        ("SET SESSION AUTHORIZATION DEFAULT", reset("session_authorization")),
        ("SET work_mem TO DEFAULT", reset("work_mem")),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            set("default_transaction_read_only", "'on'"),
        ),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            set("default_transaction_isolation", "'repeatable read'"),
        ),
        ("RESET Work_Mem", reset("work_mem")),
        ("RESET app.user_id", reset("app.user_id")),
        ("RESET TIME ZONE", reset("timezone")),
        ("RESET SESSION AUTHORIZATION", reset("session_authorization")),
        ("RESET ROLE", reset("role")),
        ("RESET ALL", Effect::ResetAll),
        ("SELECT set_config('Work_Mem', '4MB', false)", set("work_mem", "'4MB'")),
        (
            "SELECT pg_catalog.set_config('search_path', '\"A\", b', 'f') AS path",
            set("search_path", "'A', 'b'"),
        ),
        ("SELECT pg_catalog.set_config('search_path', '', false)", set("search_path", "''")),
    ];
    for (sql, expected) in cases {
        assert_eq!(effect(sql), *expected, "{sql:?}");
        assert_eq!(effect(&format!("{sql} ;")), *expected, "{sql:?}");
        // What is set is what the settings can hold.
        if let Effect::Set { name, value } = expected {
            let settings = crate::settings::Settings::default().with(name, Some(value));
            assert_eq!(settings.get(name), Some(value.as_str()), "{sql:?}");
        }
    }
}

#[test]
fn what_is_set_for_the_transaction_ends_with_it() {
    assert_all(
        &Effect::Local,
        &[
            "set local work_mem to 64",
            "set local time zone 'UTC'",
            "set local session authorization bob",
            "set transaction read only",
            "set transaction isolation level serializable, read only",
            "set transaction snapshot '00000003-1'",
            "set transaction_read_only = on",
            "set constraints all deferred",
            "reset transaction_isolation",
            "reset transaction isolation level",
            "select set_config('a.b', 'c', true)",
            "select set_config('a.b', $1, true), 1 from t",
            "insert into t select pg_catalog.set_config('a.b', 'c', 't')",
            "create temp table t (a int) on commit drop",
            "create local temporary table if not exists t on commit drop as select 1",
        ],
    );
}

#[test]
fn a_setting_that_cannot_be_told_is_unknown() {
    assert_all(
        &Effect::Unknown,
        &[
            "set work_mem",
            "set work_mem to",
            "set work_mem to 1,",
            "set work_mem to 1 2",
            "set work_mem to (1)",
            "set work_mem to $1",
            "set work_mem from current",
            // Depends on standard_conforming_strings.
            "set app.path to 'C:\\a'",
            "set app.name to 'a' 'b'",
            "set app.name to N'a'",
            "set app.name to X'aa'",
            "set app.name to U&'a'",
            "set search_path to E'a\\x41'",
            "set ünlaut.a to 1",
            "set \"a b\" to 1",
            "set \"a;b\" to 1",
            "set session characteristics as transaction read only, deferrable",
            "set time zone interval '1' foo",
            "reset",
            "reset a b",
            "reset all b",
        ],
    );
}

#[test]
fn what_only_one_session_has_is_sticky() {
    assert_all(
        &TEMPORARY,
        &[
            "create temp table t (a int)",
            "create temporary table t as select 1",
            "create local temp table t (a int) on commit delete rows",
            "create global temporary table t (a int)",
            "create or replace temp view v as select 1",
            "create temp recursive view v (a) as select 1",
            "create temp sequence s",
            "create temp view v as select 1 as on_commit_drop",
            "create table pg_temp.t (a int)",
            "create function pg_temp.f() returns int language sql as 'select 1'",
            "create view \"pg_temp\".v as select 1",
            "select 1 as a into temp t",
            "select 1 as a into temporary table t",
            "select 1 as a into local temp t",
            "select 1 as a into pg_temp.t",
            "select * into table pg_temp.t from u",
            "with a as (insert into b values (1) returning c) select * into temp t from a",
            "select nextval('s') into temp t",
        ],
    );
    assert_all(
        &LOCK,
        &[
            "select pg_advisory_lock(1)",
            "select pg_catalog.pg_try_advisory_lock(1, 2)",
            "select 1 from t where \"pg_advisory_lock_shared\"(1) is null",
            "insert into t select pg_try_advisory_lock_shared(1)",
            "select * from t, pg_advisory_lock(t.a) for update",
            "with a as (delete from t returning b) select pg_advisory_lock(b) from a",
            "copy (select pg_advisory_lock(1)) to stdout",
            "explain analyze select pg_advisory_lock(1)",
            "create table t as select pg_advisory_lock(1)",
            "declare c cursor for select pg_advisory_lock(a) from t",
            "execute p(pg_advisory_lock(1))",
            "call p(pg_advisory_lock(1))",
        ],
    );
    assert_all(
        &SETTING,
        &[
            "select set_config('a.b', $1, false)",
            "select set_config('a.b', 'c', $1)",
            "select set_config('a.b', 'c', 1 = 1)",
            "select set_config('a.b', 'c', false) from t",
            "select set_config('a.b', 'c', true), set_config('a.b', 'c', false)",
            "select set_config($1, $2, $3)",
            "select set_config('search_path', 'pg_temp', false)",
            "select set_config(is_local => true, new_value => 'c', setting_name => 'a.b')",
            "update t set a = set_config('a.b', 'c', (true, false))",
            "select set_limit(0.5)",
        ],
    );
    let others: &[(&str, &str)] = &[
        ("LISTEN a", "LISTEN"),
        ("LOAD 'a'", "LOAD"),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "a cursor WITH HOLD"),
        (
            "DECLARE c BINARY INSENSITIVE NO SCROLL CURSOR WITH HOLD FOR SELECT 1",
            "a cursor WITH HOLD",
        ),
        ("SELECT setseed(0.5)", "a random seed"),
        ("SET seed TO 0.5", "a random seed"),
        ("SELECT dblink_connect('dbname=a')", "a dblink connection"),
        ("SELECT pg_replication_origin_session_setup('a')", "a replication origin"),
        ("SET search_path TO pg_temp, public", "a search_path with pg_temp"),
        ("SET LOCAL search_path = 'pg_temp'", "a search_path with pg_temp"),
        ("SET SCHEMA 'pg_temp'", "a search_path with pg_temp"),
    ];
    for (sql, what) in others {
        assert_eq!(effect(sql), Effect::Sticky(what), "{sql:?}");
    }
}

#[test]
fn what_needs_its_session_and_leaves_nothing_new_uses_it() {
    assert_all(
        &Effect::Uses,
        &[
            "unlisten *",
            "notify a, 'b'",
            "fetch 1 from c",
            "move c",
            "close c",
            "close all",
            "lock table t in share mode",
            "declare c cursor for select 1",
            "declare c scroll cursor without hold for select 1",
            "select pg_advisory_unlock(1)",
            "select pg_advisory_unlock_all()",
            "select currval('s')",
            "select pg_backend_pid()",
            "select * from pg_temp.t",
            "insert into pg_temp.t values (1)",
            "drop table pg_temp.t",
            "with a as (insert into b select * from pg_temp.c returning d) select * from a",
        ],
    );
}

#[test]
fn prepared_statements_are_known_by_their_names() {
    let cases: &[(&str, Effect)] = &[
        ("PREPARE A AS SELECT 1", Effect::Prepare("a".to_owned())),
        ("PREPARE \"A\"\"b\" (int) AS SELECT 1", Effect::Prepare("A\"b".to_owned())),
        ("PREPARE transaction AS SELECT 1", Effect::Prepare("transaction".to_owned())),
        ("EXECUTE a(1, 2)", Effect::Execute("a".to_owned())),
        ("EXPLAIN (ANALYZE) EXECUTE a", Effect::Execute("a".to_owned())),
        ("EXPLAIN ANALYZE VERBOSE EXECUTE a(1)", Effect::Execute("a".to_owned())),
        ("CREATE TABLE t AS EXECUTE a", Effect::Execute("a".to_owned())),
        ("DEALLOCATE a", Effect::Deallocate("a".to_owned())),
        ("DEALLOCATE PREPARE \"A\"", Effect::Deallocate("A".to_owned())),
        ("DEALLOCATE prepare", Effect::Deallocate("prepare".to_owned())),
        ("DEALLOCATE \"all\"", Effect::Deallocate("all".to_owned())),
        ("DEALLOCATE ALL", Effect::DeallocateAll),
        ("DEALLOCATE PREPARE ALL", Effect::DeallocateAll),
        ("DEALLOCATE", Effect::Unknown),
        ("DEALLOCATE a b", Effect::Unknown),
        ("DISCARD ALL", Effect::DiscardAll),
        ("DISCARD PLANS", Effect::Discard),
        ("DISCARD SEQUENCES", Effect::Discard),
        ("DISCARD TEMPORARY", Effect::Discard),
        ("DISCARD TEMP", Effect::Discard),
        ("DISCARD", Effect::Unknown),
        ("DISCARD ALL PLANS", Effect::Unknown),
    ];
    for (sql, expected) in cases {
        assert_eq!(effect(sql), *expected, "{sql:?}");
    }
}

#[test]
fn most_statements_leave_nothing() {
    assert_all(
        &Effect::None,
        &[
            "",
            "select 1",
            "show work_mem",
            "select nextval('s')",
            "select farm.f(1)",
            "select pg_advisory_xact_lock(1)",
            "select 'select pg_advisory_lock(1)'",
            "select a as set_config from t",
            "explain select pg_advisory_lock(1)",
            "insert into t values ('set a = 1; create temp table t', $$listen$$)",
            "insert into temp values (1)",
            "insert into temp (a) values (1)",
            "update t set temp = 1, temporary = 2",
            "delete from t where set_config = 1",
            "merge into temp using u on true when matched then delete",
            "select * from t for update",
            "select * into t from u",
            "create unlogged table t (a int)",
            "create table t (temp int)",
            "create index concurrently on t (a)",
            "create function f() returns int language plpgsql as 'begin set a = 1; return 1; end'",
            "alter role bob set work_mem to 1",
            "alter system set work_mem to 1",
            "copy t from stdin",
            "copy (select 1) to stdout",
            "call p()",
            "do $$ begin insert into t values (1); update t set a = 1; end $$",
            "do language plpgsql 'begin perform f(); end'",
            "do $$ begin if true then alter table t add b int; end if; end $$",
            "truncate t",
            "vacuum",
            "refresh materialized view v",
            "grant select on t to bob",
        ],
    );
}

#[test]
fn a_text_that_depends_on_the_servers_settings_leaves_nothing_if_nothing_in_it_could_matter() {
    for sql in ["SELECT '\\'", "INSERT INTO t VALUES ('C:\\', 'a');", "SELECT 12abc"] {
        assert_eq!(effect(sql), Effect::None, "{sql:?}");
    }
}

#[test]
fn a_block_is_looked_into() {
    for body in [
        "begin set work_mem to 1; end",
        "begin if true then reset all; end if; end",
        "begin execute 'set a = 1'; end",
        "begin create temp table t (a int); end",
        "begin perform pg_advisory_lock(1); end",
        "begin perform set_config('a.b', 'c', false); end",
        "begin listen a; end",
        "begin 'unterminated; end",
    ] {
        let effect = effect(&format!("DO $$ {body} $$"));
        assert!(matches!(effect, Effect::Unknown | Effect::Sticky(_)), "{body:?}: {effect:?}");
    }
    assert_eq!(effect("DO $$ begin set local work_mem to 1; end $$"), Effect::None);
    assert_eq!(effect("DO $$ begin perform set_config('a.b', 'c', true); end $$"), Effect::Local);
    assert_eq!(effect("DO LANGUAGE plperl $$ anything $$"), Effect::Unknown);
    assert_eq!(effect("DO E'begin end'"), Effect::Unknown);
}

#[test]
fn of_several_statements_the_stickiest_counts() {
    let cases: &[(&str, Effect)] = &[
        ("SELECT 1; SELECT 2", Effect::None),
        ("SELECT 1; INSERT INTO t VALUES (1)", Effect::None),
        ("; ;; SELECT 1", Effect::None),
        ("; SET a = 1", set("a", "1")),
        ("; BEGIN;", SQL_BEGIN),
        ("SELECT 1; SET a = 1", Effect::Unknown),
        ("SET a = 1; INSERT INTO t VALUES (1)", Effect::Unknown),
        ("SET a = 1; SET b = 2", Effect::Unknown),
        ("SET LOCAL a = 1; INSERT INTO t VALUES (1)", Effect::Local),
        ("SET LOCAL a = 1; SAVEPOINT b", Effect::Uses),
        ("INSERT INTO t VALUES (1); CREATE TEMP TABLE u (a int)", TEMPORARY),
        ("SET a = 1; LISTEN b", Effect::Sticky("LISTEN")),
        ("INSERT INTO t VALUES (1); SELECT pg_advisory_lock(1)", LOCK),
        ("/* herdsman: writer */ INSERT INTO t VALUES (1); SET a = 1", Effect::Unknown),
        ("BEGIN; INSERT INTO t VALUES (1); COMMIT", Effect::None),
        ("BEGIN; SAVEPOINT a; ROLLBACK TO a; ROLLBACK;", Effect::Uses),
        ("BEGIN READ ONLY; SELECT 1", Effect::None),
        ("BEGIN; SET a = 1; COMMIT", Effect::Unknown),
        ("INSERT INTO t VALUES (1); COMMIT", Effect::Unknown),
        ("COMMIT; BEGIN", Effect::Unknown),
        ("COMMIT; SELECT 1", Effect::Unknown),
        ("ROLLBACK TO a; SELECT 1", Effect::Unknown),
        ("BEGIN; COMMIT AND CHAIN", Effect::Unknown),
        ("PREPARE a AS SELECT 1; EXECUTE a", Effect::Unknown),
        ("DEALLOCATE ALL; SELECT 1", Effect::Unknown),
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
    assert_eq!(effect(&format!("{body}; SET a = 1")), Effect::Unknown);
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
