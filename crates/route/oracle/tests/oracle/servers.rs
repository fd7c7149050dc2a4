//! What real servers say of functions, and whether the classifier agrees.

use herdsman::classify::{CATALOGUE_SQL, Functions, Why, classify};
use herdsman_classify_oracle::Volatility;
use herdsman_sandbox::Sandbox;

/// What one server's catalogue says: plainly, and as the library asks.
pub(crate) struct Catalogue {
    pub(crate) major: u32,
    /// Each name, and whether no function of that name is volatile.
    pub(crate) plain: Vec<(String, bool)>,
    pub(crate) learnt: Vec<(String, bool)>,
}

const PLAIN: &str = "SELECT proname::text, bool_and(provolatile <> 'v') FROM pg_proc GROUP BY 1";

/// The catalogues of every version asked for (`HERDSMAN_TEST_PG_VERSIONS`, 15 and 18 by default).
pub(crate) async fn catalogues() -> Vec<Catalogue> {
    let mut catalogues = Vec::new();
    for major in herdsman_sandbox::tested_versions() {
        let sandbox = Sandbox::builder().standbys(0).pg_version(major).start().await.unwrap();
        let client = sandbox.sql("n1", "postgres").await.unwrap();
        let mut rows = [Vec::new(), Vec::new()];
        for (rows, sql) in rows.iter_mut().zip([PLAIN, CATALOGUE_SQL]) {
            let answer = client.query(sql, &[]).await.unwrap();
            rows.extend(answer.iter().map(|row| (row.get::<_, String>(0), row.get::<_, bool>(1))));
        }
        let [plain, learnt] = rows;
        catalogues.push(Catalogue { major, plain, learnt });
    }
    assert!(!catalogues.is_empty(), "HERDSMAN_TEST_PG_VERSIONS names no version");
    catalogues
}

#[tokio::test]
async fn no_function_counts_as_harmless_that_a_server_calls_volatile() {
    for Catalogue { major, plain, learnt } in catalogues().await {
        let mut volatility = Volatility::default();
        plain.iter().for_each(|(name, safe)| volatility.add(name, *safe));
        for functions in [Functions::builtin(), Functions::from_catalogue(learnt.clone())] {
            let reads = plain.iter().filter(|(name, _)| {
                let read =
                    classify(&format!("SELECT pg_catalog.\"{name}\"()"), &functions).is_read();
                assert!(!read || volatility.may_be_read(name), "{name} is volatile on {major}");
                read
            });
            println!(
                "PostgreSQL {major}: {} of {} names may be called in a read",
                reads.count(),
                plain.len()
            );
        }
    }
}

#[tokio::test]
async fn what_users_define_is_learnt_from_the_catalogue() {
    let sandbox = Sandbox::builder().standbys(0).start().await.unwrap();
    let client = sandbox.sql("n1", "postgres").await.unwrap();
    let setup = "
        CREATE SEQUENCE ids;
        CREATE SCHEMA farm;
        CREATE FUNCTION farm.total(int) RETURNS int STABLE LANGUAGE sql AS 'SELECT 1';
        CREATE FUNCTION farm.book(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
        CREATE FUNCTION farm.lower(int) RETURNS bigint LANGUAGE sql AS $$SELECT nextval('ids')$$;
        CREATE FUNCTION farm.random(int) RETURNS bigint LANGUAGE sql AS $$SELECT nextval('ids')$$;
        CREATE FUNCTION farm.\"Odd \"\"one\"(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';
        CREATE FUNCTION farm.step(int, int) RETURNS int LANGUAGE sql AS 'SELECT 1';
        CREATE AGGREGATE farm.tally(int) (SFUNC = farm.step, STYPE = int);
        CREATE AGGREGATE farm.calm(int) (SFUNC = int4pl, STYPE = int)";
    client.batch_execute(setup).await.unwrap();
    let rows = client.query(CATALOGUE_SQL, &[]).await.unwrap();
    let functions = Functions::from_catalogue(rows.iter().map(|row| (row.get(0), row.get(1))));
    for (call, expected) in [
        ("total(1)", Why::PlainRead),
        ("farm.total(1)", Why::PlainRead),
        ("farm.calm(1)", Why::PlainRead),
        ("upper('a')", Why::PlainRead),
        ("gen_random_uuid()", Why::PlainRead),
        ("book(1)", Why::VolatileFunction),
        ("lower('a')", Why::VolatileFunction),
        ("random()", Why::VolatileFunction),
        ("farm.tally(1)", Why::VolatileFunction),
        ("farm.\"Odd \"\"one\"(1)", Why::UnknownFunction),
        ("farm.none(1)", Why::UnknownFunction),
        ("nextval('ids')", Why::Calls("nextval")),
    ] {
        assert_eq!(classify(&format!("SELECT {call}"), &functions).why, expected, "{call}");
    }
}
