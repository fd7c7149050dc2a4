use proptest::prelude::*;

use super::{Class, Classifier, Functions, Kind, classify};

/// Pieces of SQL that meet in every order, so that strings, comments and calls are cut in all ways.
const PIECES: &[&str] = &[
    "SELECT",
    "select",
    "WITH",
    "x AS",
    "VALUES",
    "EXPLAIN",
    "ANALYZE",
    "INSERT INTO t",
    "DELETE FROM t",
    "INTO",
    "FOR",
    "UPDATE",
    "f",
    "f(",
    "lower(",
    "nextval(",
    "(",
    ")",
    "()",
    ",",
    ";",
    ".",
    "::",
    "'",
    "''",
    "E'",
    "\\",
    "\\'",
    "$$",
    "$a$",
    "$1",
    "\"",
    "\"\"",
    "/*",
    "*/",
    "--",
    "\n",
    "\r",
    " ",
    "1",
    "407",
    "f2",
    "3.5",
    "1e",
    "0x",
    "U&'",
    "U&\"",
    "pg_temp",
    "DISTINCT ON",
    "OPERATOR",
    "é",
    "\0",
    "AS",
    "/* herdsman: reader */",
    "/* herdsman: writer */",
];

/// Statements token by token: anything may be put between two of them.
const WRITES: &[&[&str]] = &[
    &["SELECT", "nextval", "(", "'a'", ")"],
    &["SELECT", "farm", ".", "book", "(", "1", ")"],
    &["WITH", "a", "AS", "(", "DELETE", "FROM", "t", ")", "SELECT", "1"],
    &["SELECT", "*", "FROM", "t", "FOR", "NO", "KEY", "UPDATE"],
    &["SELECT", "1", "INTO", "t"],
    &["SELECT", "DISTINCT", "ON", "(", "a", ")", "book", "(", "a", ")", "FROM", "t"],
    &["EXPLAIN", "(", "ANALYZE", ")", "INSERT", "INTO", "t", "VALUES", "(", "1", ")"],
    &["SELECT", "'a'", ";", "DROP", "TABLE", "t"],
    &["SELECT", "a", "FROM", "pg_temp", ".", "t"],
];

const READS: &[&[&str]] = &[
    &["SELECT", "lower", "(", "a", ")", ",", "'b'", "FROM", "\"t\"", "WHERE", "c", "=", "$1"],
    &[
        "WITH", "a", "(", "b", ")", "AS", "(", "SELECT", "1", ")", "SELECT", "count", "(", "*",
        ")", "FROM", "a",
    ],
    &[
        "SELECT", "x", "::", "numeric", "(", "3", ",", "1", ")", "FROM", "(", "VALUES", "(", "1",
        ")", ")", "v", "(", "x", ")",
    ],
];

fn blanks() -> impl Strategy<Value = String> {
    let blank = prop_oneof![
        Just(" ".to_owned()),
        Just("\r\n\t".to_owned()),
        "-- [^\r\n\0]{0,12}[\r\n]",
        "/\\* [a-z'\"$;() ]{0,12} \\*/",
        "/\\*+ [a-z' ]{0,5}/\\* [a-z' ]{0,5} \\*/ \\*+/",
    ];
    prop::collection::vec(blank, 1..4).prop_map(|blanks| blanks.concat())
}

fn spaced(statements: &'static [&'static [&'static str]]) -> impl Strategy<Value = String> {
    prop::sample::select(statements).prop_flat_map(|tokens| {
        prop::collection::vec(blanks(), tokens.len() + 1).prop_map(move |blanks| {
            let (first, rest) = blanks.split_first().expect("one more than tokens");
            tokens.iter().zip(rest).fold(first.clone(), |sql, (token, blank)| sql + token + blank)
        })
    })
}

/// Any case, as a cheap stand-in for people.
fn shout(sql: &str, bits: u64) -> String {
    let case = |(at, letter): (usize, char)| match bits >> (at % 64) & 1 {
        1 => letter.to_ascii_uppercase(),
        _ => letter,
    };
    sql.chars().enumerate().map(case).collect()
}

fn kind(sql: &str) -> Kind {
    classify(sql, &Functions::builtin()).kind
}

/// Another digit for each, so that whoever looks at numbers is found out.
fn other_numbers(sql: &str, bits: u64) -> String {
    let other = |(at, letter): (usize, char)| {
        let digit = letter.to_digit(10)?;
        char::from_digit((digit + (bits >> (at % 60) & 7) as u32) % 10, 10)
    };
    sql.chars().enumerate().map(|(at, letter)| other((at, letter)).unwrap_or(letter)).collect()
}

fn class(sql: &str) -> Class {
    classify(sql, &Functions::builtin())
}

proptest! {
    #[test]
    fn what_is_remembered_of_one_text_holds_for_every_text_it_is_given_for(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..8),
        bits in any::<u64>(),
    ) {
        let classifier = Classifier::new();
        for sql in [pieces.join(" "), pieces.concat()] {
            for sql in [other_numbers(&sql, bits), other_numbers(&sql, bits.rotate_left(7)), sql] {
                prop_assert_eq!(classifier.classify(&sql), class(&sql), "{:?}", sql);
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(sql in any::<String>(), pieces in prop::collection::vec(prop::sample::select(PIECES), 0..24)) {
        kind(&sql);
        kind(&pieces.concat());
        kind(&pieces.join(" "));
    }

    #[test]
    fn blanks_and_comments_never_make_a_write_a_read(sql in spaced(WRITES)) {
        prop_assert_ne!(kind(&sql), Kind::Read, "{:?}", sql);
    }

    #[test]
    fn blanks_and_comments_leave_a_read_a_read(sql in spaced(READS)) {
        prop_assert_eq!(kind(&sql), Kind::Read, "{:?}", sql);
    }

    #[test]
    fn upper_and_lower_case_are_the_same(sql in spaced(WRITES), bits in any::<u64>()) {
        // Quoted text is left alone by the statements chosen.
        prop_assert_ne!(kind(&shout(&sql, bits)), Kind::Read, "{:?}", sql);
    }

    #[test]
    fn a_write_inside_a_string_comment_or_quoted_name_is_only_text(sql in spaced(WRITES)) {
        let plain = sql.replace('\r', "\n").replace(['\\', '$'], "");
        prop_assert_eq!(kind(&format!("SELECT '{}'", plain.replace('\'', "''"))), Kind::Read);
        prop_assert_eq!(kind(&format!("SELECT E'{}'", plain.replace('\'', "\\'"))), Kind::Read);
        prop_assert_eq!(kind(&format!("SELECT $q${plain}$q$")), Kind::Read);
        prop_assert_eq!(kind(&format!("SELECT 1 AS \"{}\"", plain.replace('"', "\"\""))), Kind::Read);
        prop_assert_eq!(kind(&format!("SELECT 1 -- {}", plain.replace('\n', " "))), Kind::Read);
    }

    #[test]
    fn what_follows_a_string_counts(text in "[a-z'$\\\\/*\" -]{0,12}", write in spaced(WRITES)) {
        let doubled = text.replace('\'', "''");
        prop_assert_ne!(kind(&format!("SELECT '{doubled}'; {write}")), Kind::Read);
        let escaped = text.replace('\\', "\\\\").replace('\'', "\\'");
        prop_assert_ne!(kind(&format!("SELECT E'{escaped}'; {write}")), Kind::Read);
        prop_assert_ne!(kind(&format!("SELECT $q${text}$q$; {write}")), Kind::Read);
        let quoted = text.replace('"', "\"\"");
        prop_assert_ne!(kind(&format!("SELECT 1 AS \"{quoted}\"; {write}")), Kind::Read);
    }
}
