//! What outlasts a statement, beside settings.

use super::{LOCK, TEMPORARY, assert_all};
use crate::effects::{Effect, effect};

const SETTING: Effect = Effect::Sticky("a setting made by a function");

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
            "notify a, 'b'",
            "fetch 1 from c",
            "move c",
            "close c",
            "lock table t in share mode",
            "declare c cursor for select 1",
            "declare c scroll cursor without hold for select 1",
            "select pg_advisory_unlock(1)",
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
fn what_lets_go_of_state_says_of_which() {
    for (sql, what) in [
        ("unlisten *", "LISTEN"),
        ("CLOSE ALL", "a cursor WITH HOLD"),
        ("SELECT pg_advisory_unlock_all()", "a session advisory lock"),
    ] {
        assert!(matches!(effect(sql), Effect::Releases([only]) if *only == what), "{sql}");
    }
    for sql in ["unlisten a", "close a", "select pg_advisory_unlock_all(), f()"] {
        assert_eq!(effect(sql), Effect::Uses, "{sql}");
    }
}
