use herdsman::classify::{TokenKind, Tokens};
use proptest::prelude::*;

use super::Settings;
use crate::effects::{Effect, effect};

fn settings(values: &[(&str, &str)]) -> Settings {
    let none = Settings::default();
    values.iter().fold(none, |settings, (name, value)| settings.with(name, Some(value)))
}

fn startup(parameters: &[(&str, &str)]) -> Result<Settings, String> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Settings::from_startup(&parameters.iter().map(own).collect::<Vec<_>>())
}

#[test]
fn equal_settings_share_an_id_however_they_came_about() {
    let one = settings(&[("a", "1"), ("b", "2")]);
    let other = settings(&[("b", "3"), ("c", "4"), ("a", "1"), ("b", "2")]).with("c", None);
    assert_eq!(one.id, other.id);
    assert_eq!(one, other);
    assert_ne!(one.id, one.with("b", Some("3")).id);
    assert_eq!(one.with("a", None).with("b", None).id, 0);
    assert_eq!(Settings::default().id, 0);
    assert_eq!(one.get("b"), Some("2"));
    assert_eq!(one.with("b", Some("DEFAULT")).get("b"), None);
}

#[test]
fn a_connection_is_told_the_difference_and_nothing_else() {
    let had = settings(&[("work_mem", "64"), ("app.user", "'bob'"), ("datestyle", "'iso'")]);
    let wanted = settings(&[("work_mem", "128"), ("datestyle", "'iso'"), ("timezone", "'UTC'")]);
    assert_eq!(
        wanted.change_from(&had),
        "RESET \"app\".\"user\";SET \"timezone\" TO 'UTC';SET \"work_mem\" TO 128;"
    );
    assert_eq!(wanted.change_from(&wanted), "");
    let zone = settings(&[("timezone", "INTERVAL '-08:00' HOUR TO MINUTE")]);
    assert_eq!(
        zone.change_from(&Settings::default()),
        "SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE;"
    );
}

#[test]
fn who_one_is_goes_first_and_comes_last() {
    let bob = settings(&[("session_authorization", "'bob'"), ("role", "'r'"), ("a", "1")]);
    let eve = settings(&[("session_authorization", "'eve'"), ("role", "'r'"), ("b", "2")]);
    assert_eq!(
        eve.change_from(&bob),
        "RESET \"role\";RESET \"session_authorization\";RESET \"a\";SET \"b\" TO 2;SET \"session_authorization\" TO 'eve';\
         SET \"role\" TO 'r';"
    );
    assert_eq!(
        Settings::default().change_from(&bob),
        "RESET \"role\";RESET \"session_authorization\";RESET \"a\";"
    );
    let same = bob.with("a", Some("2"));
    assert_eq!(same.change_from(&bob), "SET \"a\" TO 2;");
    assert!(!bob.harmless() && settings(&[("a", "1")]).harmless());
    // Another user is in no role.
    assert_eq!(bob.with("session_authorization", Some("'bob'")).get("role"), None);
    assert_eq!(bob.with("session_authorization", None).get("role"), None);
}

#[test]
fn reset_all_leaves_who_one_is() {
    let first = settings(&[("role", "'first'"), ("a", "1"), ("z", "2")]);
    let now = settings(&[("role", "'now'"), ("a", "3"), ("b", "4")]);
    assert_eq!(now.after_reset_all(&first), first.with("role", Some("'now'")));
    assert_eq!(now.after_reset_all(&Settings::default()), settings(&[("role", "'now'")]));
    assert_eq!(settings(&[("b", "4")]).after_reset_all(&first), first.with("role", None));
}

#[test]
fn the_start_up_packet_is_read_as_postgresql_reads_it() {
    let read = startup(&[
        ("user", "bob"),
        ("database", "farm"),
        ("replication", "false"),
        ("_pq_.x", "1"),
        ("DateStyle", "ISO, MDY"),
        ("search_path", "\"$user\", Farm"),
        ("application_name", "it's \\ me"),
        ("client_encoding", "'utf-8'"),
        (
            "options",
            "-c work_mem=4MB --enable-seqscan=off  -cgeqo=on -c app.text=a\\ b\\\\c -c herdsman.target=reader -c geqo=off \
             -c DateStyle=German",
        ),
    ])
    .expect("it can be read");
    let read: Vec<_> = read.values.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(
        read,
        [
            ("app.text", "E'a b\\\\c'"),
            ("application_name", "E'it''s \\\\ me'"),
            ("datestyle", "'ISO, MDY'"),
            ("enable_seqscan", "'off'"),
            ("geqo", "'off'"),
            ("search_path", "'$user', 'farm'"),
            ("work_mem", "'4MB'"),
        ]
    );
    assert_eq!(startup(&[("user", "bob"), ("client_encoding", "UTF8")]).map(|read| read.id), Ok(0));
    assert_eq!(
        startup(&[("client_encoding", "LATIN1")])
            .map(|read| read.get("client_encoding").map(str::to_owned)),
        Ok(Some("'LATIN1'".to_owned()))
    );
}

#[test]
fn what_cannot_be_read_in_a_start_up_packet_is_said() {
    for (parameters, says) in [
        (("options", "-c"), "followed by nothing"),
        (("options", "-c work_mem"), "has no value"),
        (("options", "-e"), "only -c name=value"),
        (("options", "work_mem=1"), "only -c name=value"),
        (("options", "-c a;b=1"), "cannot be the name"),
        (("a b", "1"), "cannot be the name"),
        (("", "1"), "cannot be the name"),
        (("search_path", "a,,b"), "cannot be one"),
        (("search_path", "pg_temp"), "pg_temp"),
    ] {
        let problem = startup(&[parameters]).expect_err("it cannot be read");
        assert!(problem.contains(says), "{parameters:?}: {problem}");
    }
    let many: Vec<_> = (0..300).map(|number| (format!("a{number}"), "1".to_owned())).collect();
    assert!(Settings::from_startup(&many).is_err());
}

#[test]
fn a_name_or_value_that_cannot_be_one_changes_nothing() {
    let none = Settings::default();
    for (name, value) in [
        ("a; DROP TABLE t", "1"),
        ("a\"b", "1"),
        ("", "1"),
        ("a.", "1"),
        ("1a", "1"),
        ("a", "1; DROP TABLE t"),
        ("a", "1 -- b"),
        ("a", "1 /* b */"),
        ("a", "1 -- "),
        ("a", "f(1)"),
        ("a", "'b"),
        ("a", "'b\\'"),
        ("a", ""),
        ("a", "b"),
        ("a", "'b' \0"),
    ] {
        assert_eq!(none.with(name, Some(value)), none, "{name} {value}");
    }
    assert_eq!(none.with("a", Some("'--; /* b'")).get("a"), Some("'--; /* b'"));
}

#[test]
fn serializable_transactions_keep_to_the_writer() {
    let serializable = settings(&[("default_transaction_isolation", "'Serializable'")]);
    assert!(serializable.needs_writer());
    assert!(!settings(&[("default_transaction_isolation", "'repeatable read'")]).needs_writer());
}

/// What stands in a text that only sets and resets: how many statements.
fn statements(sql: &str) -> Option<usize> {
    let tokens: Vec<_> = Tokens::of(sql).collect();
    let mut found = 0;
    for statement in tokens.split(|token| token.kind == TokenKind::Semicolon) {
        let Some(first) = statement.first() else { continue };
        let known = first.is("set") || first.is("reset");
        let clear = statement.iter().all(|token| token.kind != TokenKind::Unclear);
        if !known || !clear {
            return None;
        }
        found += 1;
    }
    Some(found)
}

/// What breaks out of quotes, if anything does.
fn nasty() -> impl Strategy<Value = String> {
    let pieces = [
        "'",
        "''",
        "\\",
        "\\'",
        "\"",
        ";",
        "--",
        "/*",
        "*/",
        "$$",
        "$a$",
        "E'",
        "U&'",
        ",",
        " ",
        "\n",
        "a",
        "B",
        "é",
        "1",
        "-",
        "=",
        "DROP TABLE t",
        ".",
    ];
    prop_oneof![
        prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..8)
            .prop_map(|pieces| pieces.concat()),
        any::<String>(),
    ]
}

fn differing(one: &Settings, other: &Settings) -> usize {
    let missing = other.values.iter().filter(|(name, _)| one.get(name).is_none()).count();
    let changed = one.values.iter().filter(|(name, value)| other.get(name) != Some(value)).count();
    missing + changed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn nothing_in_a_start_up_packet_becomes_another_statement(
        names in prop::collection::vec(prop_oneof!["[a-c](\\.[a-c])?", nasty()], 1..4),
        values in prop::collection::vec(nasty(), 4),
        options in nasty(),
    ) {
        let mut parameters: Vec<_> = names.into_iter().zip(values).collect();
        parameters.push(("options".to_owned(), format!("-c x={options}")));
        if let Ok(read) = Settings::from_startup(&parameters) {
            let sql = read.change_from(&Settings::default());
            prop_assert_eq!(statements(&sql), Some(read.values.len()), "{}", sql);
            let back = Settings::default().change_from(&read);
            prop_assert_eq!(statements(&back), Some(read.values.len()), "{}", back);
        }
    }

    #[test]
    fn nothing_in_a_set_becomes_another_statement(
        name in "[a-c](\\.[a-c])?", value in nasty(), former in nasty(), quoted in any::<bool>(),
    ) {
        let value = if quoted { format!("'{value}'") } else { value };
        let mut made = Settings::default();
        if let Effect::Set { name, value } = effect(&format!("SET {name} TO {value}")) {
            made = made.with(&name, Some(&value));
            prop_assert_eq!(made.get(&name), Some(value.as_str()));
        }
        let had = Settings::default().with("b", Some(&former)).with("x", Some("1"));
        let sql = made.change_from(&had);
        prop_assert_eq!(statements(&sql), Some(differing(&made, &had)), "{}", sql);
    }

    #[test]
    fn a_connection_told_the_difference_has_what_is_wanted(
        had in prop::collection::vec(("[a-d]|role|session_authorization", "[1-3]"), 0..6),
        wanted in prop::collection::vec(("[a-d]|role|session_authorization", "[1-3]"), 0..6),
    ) {
        let make = |values: &[(String, String)]| {
            values.iter().fold(Settings::default(), |all, (name, value)| all.with(name, Some(value)))
        };
        let (had, wanted) = (make(&had), make(&wanted));
        let mut now = had.clone();
        for statement in wanted.change_from(&had).split_terminator(';') {
            now = match effect(statement) {
                Effect::Set { name, value } => now.with(&name, Some(&value)),
                Effect::Reset(name) => now.with(&name, None),
                other => return Err(TestCaseError::fail(format!("{statement}: {other:?}"))),
            };
        }
        prop_assert_eq!(now, wanted);
    }
}
