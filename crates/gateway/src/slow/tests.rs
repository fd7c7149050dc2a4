use proptest::prelude::*;

use super::normalise;

#[test]
fn literals_are_left_out_and_names_are_kept() {
    for (sql, expected) in [
        ("SELECT 1", "SELECT ?"),
        (
            "select  a ,\n\t'it''s' -- secret\n from \"T;\" where b=-1.5e3",
            "select a , ? from \"T;\" where b=-?",
        ),
        (
            "SELECT E'a\\'b', $$x$$, $t$y$t$, B'01', X'ff', N'n', U&'\\0041' UESCAPE '!'",
            "SELECT ?, ?, ?, ?, ?, ?, ? UESCAPE ?",
        ),
        ("SELECT $1, a1 FROM t2 WHERE c IN (1)", "SELECT $1, a1 FROM t2 WHERE c IN (?)"),
        ("a IN (1, 'b' , -3)", "a IN (?…)"),
        ("VALUES (1, 2), ($1, 2), (a, 2)", "VALUES (?…), ($1, ?), (a, ?)"),
        ("f((1, 2), 3)", "f((?…), ?)"),
        ("/* secret */ SELECT/* b */1", "SELECT ?"),
        ("date'2020-01-01'::date", "date?::date"),
        ("SELECT 'ends \\' here', 'b'", "SELECT …"),
        ("SELECT 'unterminated", "SELECT …"),
        ("SELECT 12abc, 'x'", "SELECT …"),
        ("", ""),
    ] {
        assert_eq!(normalise(sql, 1000), expected, "{sql:?}");
    }
}

#[test]
fn it_is_cut_between_letters() {
    assert_eq!(normalise("SELECT \"äöü\"", 9), "SELECT \"");
    assert_eq!(normalise("SELECT \"äöü\"", 10), "SELECT \"ä");
    assert_eq!(normalise("SELECT a", 0), "");
}

proptest! {
    #[test]
    fn no_literal_survives(
        secret in "[g-z]{6}[0-9]{3}",
        forms in prop::collection::vec((0_usize..7, "[ ,()=+-]{0,3}|AND|, *f\\(|IN \\(|--\n|/\\* '? \\*/"), 1..8),
        max in 0_usize..400,
    ) {
        let mut sql = "SELECT 1 ".to_owned();
        for (form, between) in &forms {
            let literal = match form {
                0 => format!("'{secret}'"),
                1 => format!("'a''{secret}'"),
                2 => format!("E'\\'{secret}\\\\'"),
                3 => format!("$${secret}'$$"),
                4 => format!("$q$ {secret} $$ $q$"),
                5 => format!("U&'{secret}'"),
                _ => format!("/* {secret} */ '\\{secret}\\'"),
            };
            sql.push_str(&format!(" {literal} {between} "));
        }
        sql.push_str(&format!("'{secret}"));
        let text = normalise(&sql, max);
        prop_assert!(text.len() <= max);
        prop_assert!(!text.contains(&secret), "{text} of {sql}");
    }

    #[test]
    fn no_number_survives(numbers in prop::collection::vec(10_000_u64.., 1..6), text in any::<String>()) {
        let list = numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        let out = normalise(&format!("SELECT * FROM t WHERE a IN ({list}) AND b = {} -- {}", numbers[0], text), 4000);
        for number in &numbers {
            prop_assert!(!out.contains(&number.to_string()), "{}", out);
        }
        normalise(&text, 100);
    }
}
