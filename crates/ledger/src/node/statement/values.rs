//! Values for a statement's parameters. Clients write `$1`, as PostgreSQL does; each engine is told in its own way, and is
//! handed the values beside the text.

use std::borrow::Cow;

use super::tokens::{Token, placed};
use crate::{
    Value,
    node::{Engine, dialect::Failure},
};

/// MariaDB has places, and a value that is named twice is sent twice: so many bytes at most, which fit its least packet.
const SENT_BYTES_MOST: usize = 15 * 1024 * 1024;
/// The most places that MariaDB takes.
const PLACES_MOST: usize = 65_535;

/// A statement as an engine is told it.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::node) struct Placed<'s> {
    /// With the engine's own signs for parameters.
    pub(in crate::node) sql: Cow<'s, str>,
    /// In the order that these have.
    pub(in crate::node) values: Vec<&'s Value>,
}

/// Has each value find its place. There must be as many as the statement has parameters, each named somewhere; SQLSTATEs
/// are those that PostgreSQL gives.
pub(in crate::node) fn place<'s>(
    sql: &'s str,
    values: &'s [Value],
    engine: Engine,
) -> Result<Placed<'s>, Failure> {
    // Most have none.
    if values.is_empty() && !sql.contains(['$', '?', ':', '@']) {
        return Ok(Placed { sql: Cow::Borrowed(sql), values: Vec::new() });
    }
    let all = placed(sql, engine).map_err(super::refused)?;
    let (mut text, mut end, mut order) = (String::with_capacity(sql.len()), 0, Vec::new());
    for (token, place) in &all {
        match token {
            Token::Parameter(digits) => {
                order.push(number(digits)?);
                text.push_str(sql.get(end..place.start).unwrap_or_default());
                match engine {
                    Engine::Postgres => text.push_str(sql.get(place.clone()).unwrap_or_default()),
                    Engine::MariaDb => text.push('?'),
                    Engine::Sqlite => {
                        text.push('?');
                        text.push_str(digits);
                    }
                }
                end = place.end;
            }
            Token::Sign(sign) if is_placeholder(*sign, engine) => {
                let message = format!("{sign}: parameters are written $1, $2 and so on");
                return Err(Failure::refused("42601", message));
            }
            _ => {}
        }
    }
    text.push_str(sql.get(end..).unwrap_or_default());
    expect_all(&order, values.len())?;
    let values: Vec<&Value> = match engine {
        Engine::Postgres | Engine::Sqlite => values.iter().collect(),
        Engine::MariaDb => order.iter().filter_map(|number| values.get(number - 1)).collect(),
    };
    let bytes: usize = values.iter().map(|it| size(it)).sum();
    if values.len() > PLACES_MOST || bytes > SENT_BYTES_MOST {
        let message = "the statement names values more often than can be sent with it";
        return Err(Failure::refused("54000", message));
    }
    Ok(Placed { sql: Cow::Owned(text), values })
}

/// From 1.
fn number(digits: &str) -> Result<usize, Failure> {
    let number = digits.parse::<u16>().ok().filter(|it| *it > 0);
    let none = || Failure::refused("42P02", format!("there is no parameter ${digits}"));
    number.map(usize::from).ok_or_else(none)
}

fn expect_all(named: &[usize], given: usize) -> Result<(), Failure> {
    let highest = named.iter().max().copied().unwrap_or_default();
    if highest != given {
        let message = format!(
            "the statement's parameters go up to ${highest}, and the number of values given is {given}"
        );
        return Err(Failure::refused("08P01", message));
    }
    let mut unnamed: Vec<bool> = vec![true; given];
    for number in named {
        if let Some(one) = unnamed.get_mut(number - 1) {
            *one = false;
        }
    }
    let Some(at) = unnamed.iter().position(|it| *it) else { return Ok(()) };
    let number = at + 1;
    let message = format!("a value is given for ${number}, which the statement does not name");
    Err(Failure::refused("42P18", message))
}

/// What an engine would take for a parameter of its own, and without a value for null or worse.
fn is_placeholder(sign: char, engine: Engine) -> bool {
    match engine {
        Engine::Postgres => false,
        Engine::MariaDb => sign == '?',
        Engine::Sqlite => matches!(sign, '?' | ':' | '@' | '$'),
    }
}

/// About what it takes on its way.
fn size(value: &Value) -> usize {
    match value {
        Value::Text(text) | Value::Json(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        _ => 16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENGINES: [Engine; 3] = [Engine::Postgres, Engine::MariaDb, Engine::Sqlite];

    #[test]
    fn each_engine_is_told_of_parameters_in_its_own_way() {
        let values = [Value::Int(10), Value::Int(20)];
        // The statement, as MariaDB gets it, the numbers of its values, and as SQLite gets it.
        let cases: [(&str, &str, &[i64], &str); 6] = [
            ("VALUES ($1,$2)", "VALUES (?,?)", &[10, 20], "VALUES (?1,?2)"),
            ("SELECT $2, $1, $2", "SELECT ?, ?, ?", &[20, 10, 20], "SELECT ?2, ?1, ?2"),
            (
                "SELECT '$1', \"$9\", $1 -- $7\n, $2 /* $8 */",
                "SELECT '$1', \"$9\", ? -- $7\n, ? /* $8 */",
                &[10, 20],
                "SELECT '$1', \"$9\", ?1 -- $7\n, ?2 /* $8 */",
            ),
            ("SELECT a$1, $1,$2", "SELECT a$1, ?,?", &[10, 20], "SELECT a$1, ?1,?2"),
            (
                "SELECT 'it''s $1 é', $1 = $2",
                "SELECT 'it''s $1 é', ? = ?",
                &[10, 20],
                "SELECT 'it''s $1 é', ?1 = ?2",
            ),
            ("SELECT $1,$02", "SELECT ?,?", &[10, 20], "SELECT ?1,?02"),
        ];
        for (sql, maria, order, lite) in cases {
            let of = |engine| {
                let placed = place(sql, &values, engine).unwrap();
                let numbers = placed.values.iter().map(|it| match it {
                    Value::Int(number) => *number,
                    other => panic!("{other:?}"),
                });
                (placed.sql.clone().into_owned(), numbers.collect::<Vec<_>>())
            };
            assert_eq!(of(Engine::Postgres), (sql.to_owned(), vec![10, 20]));
            assert_eq!(of(Engine::MariaDb), (maria.to_owned(), order.to_vec()));
            assert_eq!(of(Engine::Sqlite), (lite.to_owned(), vec![10, 20]));
        }
    }

    #[test]
    fn each_engines_quotes_hide_what_looks_like_a_parameter() {
        for (engine, sql) in [
            (Engine::Postgres, "SELECT $$ $1 $$, $a$ $1 $a$, E'\\' $1'"),
            (Engine::Postgres, "SELECT doc ? 'a', a::text, doc @> '{}' FROM t"),
            (Engine::MariaDb, "SELECT `$1` # $1 ?"),
            (Engine::Sqlite, "SELECT [$1], `?`, ':a'"),
        ] {
            let placed = place(sql, &[], engine);
            assert_eq!(placed.map(|it| it.sql), Ok(Cow::Borrowed(sql)), "{engine}");
        }
    }

    #[test]
    fn values_that_do_not_match_are_refused_on_every_engine() {
        let one = [Value::Null];
        let cases: [(&str, &[Value], &str); 7] = [
            ("SELECT $1", &[], "08P01"),
            ("SELECT $1, $2", &one, "08P01"),
            ("SELECT 1", &one, "08P01"),
            ("SELECT '$1'", &one, "08P01"),
            ("SELECT $2, $2", &[Value::Null, Value::Null], "42P18"),
            ("SELECT $0", &one, "42P02"),
            ("SELECT $65536", &one, "42P02"),
        ];
        for (sql, values, expected) in cases {
            for engine in ENGINES {
                let Err(Failure::Refused { state, .. }) = place(sql, values, engine) else {
                    panic!("{engine}: {sql}")
                };
                assert_eq!(state, expected, "{engine}: {sql}");
            }
        }
    }

    #[test]
    fn an_engines_own_parameters_are_refused_where_they_would_be_taken_for_such() {
        for (engine, sql) in [
            (Engine::MariaDb, "SELECT ?"),
            (Engine::Sqlite, "SELECT ?"),
            (Engine::Sqlite, "SELECT ?1"),
            (Engine::Sqlite, "SELECT :a"),
            (Engine::Sqlite, "SELECT @a"),
            (Engine::Sqlite, "SELECT $a"),
        ] {
            let refused = matches!(place(sql, &[], engine), Err(Failure::Refused { state, .. }) if state == "42601");
            assert!(refused, "{engine}: {sql}");
        }
    }

    #[test]
    fn a_value_is_not_sent_so_often_that_no_packet_holds_it() {
        let long = [Value::Text("x".repeat(1024 * 1024))];
        let often = format!("SELECT $1{}", ", $1".repeat(20));
        assert!(place(&often, &long, Engine::Postgres).is_ok());
        assert!(place(&often, &long, Engine::Sqlite).is_ok());
        let refused = place(&often, &long, Engine::MariaDb);
        assert!(matches!(refused, Err(Failure::Refused { state, .. }) if state == "54000"));
    }
}
