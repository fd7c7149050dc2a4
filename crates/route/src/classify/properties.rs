use proptest::prelude::*;

use super::{Functions, Kind, classify};

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

proptest! {
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
