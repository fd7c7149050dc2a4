use std::collections::BTreeMap;

use super::*;
use crate::table::tests::account;

const ENGINES: [Engine; 3] = [Engine::Postgres, Engine::MariaDb, Engine::Sqlite];

fn catalogue() -> Catalogue {
    let mut other = account();
    other.name = "other".to_owned();
    Catalogue(BTreeMap::from([("account".to_owned(), account()), ("other".to_owned(), other)]))
}

fn passes(sql: &str, engine: Engine) -> bool {
    check(sql, engine, &catalogue()).is_ok()
}

#[test]
fn ordinary_statements_pass_on_every_engine() {
    for sql in [
        "SELECT 1",
        "  select * from account where mail = 'it''s; DELETE FROM x' -- and so on",
        "/* why */ SELECT count(*) FROM strangers",
        "SELECT * FROM account WHERE id = 1 FOR UPDATE",
        "INSERT INTO account (id, mail) VALUES (1, 'x'), (2, 'UPDATE strangers SET a = 1')",
        "INSERT INTO \"account\" SELECT * FROM strangers",
        "UPDATE account SET balance = 1e3 * 2.5 WHERE id IN (1, 2)",
        "UPDATE account AS a SET balance = a.balance - 1",
        "DELETE FROM account WHERE id = 0x1",
        "WITH x AS (SELECT 1) SELECT * FROM x",
        "VALUES (1)",
    ] {
        for engine in ENGINES {
            assert_eq!(check(sql, engine, &catalogue()).map(|_| ()), Ok(()), "{engine}: {sql}");
        }
    }
}

#[test]
fn what_the_log_would_know_nothing_of_is_refused_on_every_engine() {
    for sql in [
        "",
        ";",
        "COMMIT",
        "/**/ COMMIT",
        "SET x = 1",
        "INSERT INTO strangers VALUES (1)",
        "INSERT strangers VALUES (1)",
        "INSERT INTO public.account VALUES (1)",
        "UPDATE strangers SET a = 1",
        "UPDATE public.account SET a = 1",
        "UPDATE account, strangers SET strangers.a = 1",
        "UPDATE account a, strangers s SET s.a = 1",
        "UPDATE account JOIN strangers SET strangers.a = 1",
        "UPDATE _ledger_state SET applied = 9",
        "DELETE FROM strangers",
        "DELETE strangers FROM strangers JOIN account",
        "DELETE FROM account, strangers USING account JOIN strangers",
        "WITH x AS (DELETE FROM strangers RETURNING 1) SELECT 1",
        "WITH x AS (SELECT 1) INSERT INTO strangers SELECT 1",
        "WITH x AS (MERGE INTO account USING x ON true WHEN MATCHED THEN DELETE) SELECT 1",
        "SELECT 1 INTO strangers",
        "SELECT 1 INTO OUTFILE '/tmp/x'",
        "INSERT INTO account SELECT 1 INTO strangers",
        "SELECT 'no end",
        "SELECT /* no end",
        "SELECT 1.INTO strangers",
        "SELECT \0",
        "REPLACE INTO strangers VALUES (1)",
    ] {
        for engine in ENGINES {
            assert!(!passes(sql, engine), "{engine}: {sql}");
        }
    }
}

#[test]
fn capturing_cannot_be_switched_off() {
    for sql in [
        "SELECT @herdsman_capture := NULL",
        "SELECT 1 /*! , @herdsman_apply := 1 */",
        "SELECT 1 /*M! , 2 */",
        "INSERT INTO account VALUES (@x)",
    ] {
        assert!(!passes(sql, Engine::MariaDb), "{sql}");
    }
    for sql in [
        "SELECT set_config('session_replication_role', 'replica', true)",
        "SELECT pg_catalog.\"set_config\"('herdsman.capture', 'off', true)",
        "SELECT SET_CONFIG('a.b', '', false)",
        "SELECT U&\"set\\005fconfig\"('a.b', '', false)",
        "UPDATE pg_settings SET setting = 'replica'",
    ] {
        assert!(!passes(sql, Engine::Postgres), "{sql}");
    }
}

#[test]
fn each_engine_is_read_in_its_own_quotes() {
    use Engine::{MariaDb, Postgres, Sqlite};
    let hidden = "DELETE FROM strangers";
    for (engine, sql, passing) in [
        (Postgres, format!("SELECT $a$ {hidden} $b$ $a$"), true),
        (Postgres, format!("SELECT $$ x $$ ; {hidden}"), false),
        (Postgres, format!("SELECT E'\\' {hidden} '"), true),
        (Postgres, format!("SELECT '\\' {hidden} --'"), false),
        (Postgres, format!("SELECT /* /* */ {hidden} */ 1"), true),
        (Sqlite, format!("SELECT /* /* */ {hidden} */ 1"), false),
        (MariaDb, format!("SELECT 1 --1 {hidden}"), false),
        (Postgres, format!("SELECT 1 --1 {hidden}"), true),
        (MariaDb, format!("SELECT 1 # {hidden}"), true),
        (Postgres, format!("SELECT 1 # {hidden}"), false),
        (MariaDb, "UPDATE `account` SET balance = 1".to_owned(), true),
        (Sqlite, "UPDATE [account] SET balance = 1".to_owned(), true),
        (Sqlite, "INSERT OR IGNORE INTO account VALUES (1)".to_owned(), true),
        (Sqlite, "INSERT OR IGNORE INTO strangers VALUES (1)".to_owned(), false),
        (
            MariaDb,
            "INSERT IGNORE INTO account VALUES (1) ON DUPLICATE KEY UPDATE id = 1".to_owned(),
            true,
        ),
        (
            Postgres,
            "INSERT INTO account VALUES (1) ON CONFLICT (id) DO UPDATE SET id = 1".to_owned(),
            true,
        ),
        // Names fold on some.
        (Postgres, "UPDATE Account SET id = 1".to_owned(), true),
        (Postgres, "UPDATE \"Account\" SET id = 1".to_owned(), false),
        (MariaDb, "UPDATE Account SET id = 1".to_owned(), false),
    ] {
        assert_eq!(passes(&sql, engine), passing, "{engine}: {sql}");
    }
}

#[test]
fn a_statement_tells_which_tables_it_names_and_what_it_calls() {
    let sql = "INSERT INTO account (id) SELECT Max(id) FROM other WHERE mail <> 'strangers'";
    let found = check(sql, Engine::Postgres, &catalogue()).unwrap();
    assert_eq!(found.named, ["account", "other"]);
    assert_eq!(found.calls, ["account", "max"]);
    assert_eq!(check("SELECT 'account'", Engine::Postgres, &catalogue()).unwrap().named, [""; 0]);
}
