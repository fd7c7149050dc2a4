//! `SET` and `RESET`, and what else changes settings.

use super::assert_all;
use crate::effects::{Effect, effect};

fn set(name: &str, value: &str) -> Effect {
    Effect::Set { name: name.to_owned(), value: value.to_owned() }
}

fn reset(name: &str) -> Effect {
    Effect::Reset(name.to_owned())
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
        ("SET local.a = 1", set("local.a", "1")),
        ("SET SESSION session.a TO 1", set("session.a", "1")),
        ("SET transaction.a = 1", set("transaction.a", "1")),
        ("SET role.a = 1", set("role.a", "1")),
        ("SET time.zone = 1", set("time.zone", "1")),
        ("RESET session.authorization", reset("session.authorization")),
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
