use std::sync::LazyLock;

use herdsman::classify::{Functions, Kind, classify};
use proptest::prelude::*;

use super::{Effect, calls, effect, look, needs_look};

/// Pieces that meet in every order.
const PIECES: &[&str] = &[
    "SELECT",
    "WITH a AS (",
    "INSERT INTO t",
    "UPDATE t SET a =",
    "DELETE FROM t",
    "MERGE INTO t",
    "EXPLAIN",
    "ANALYZE",
    "INTO",
    "TEMP",
    "TEMPORARY",
    "FOR UPDATE",
    "nextval(",
    "lower(",
    "f(",
    "set_config(",
    "\"set_config\" (",
    "pg_advisory_lock(",
    "PG_TRY_ADVISORY_LOCK/**/(",
    "pg_temp",
    "\"pg_temp_3\"",
    "pg_temp.t",
    "setseed(",
    "true",
    "false",
    "(",
    ")",
    ",",
    ";",
    ".",
    "::",
    "=",
    "'a'",
    "'",
    "''",
    "E'",
    "\\",
    "\\'",
    "$$",
    "$1",
    "\"",
    "/*",
    "*/",
    "--",
    "\n",
    "1",
    "U&\"",
    "U&'",
    "é",
    "AS",
    "ON COMMIT DROP",
    "TABLE",
    "t",
    "CREATE",
    "VIEW",
    "BEGIN",
    "ATOMIC",
    "CASE",
    "END",
    "COMMIT",
    "ROLLBACK",
    "TO",
    "SET",
    "RESET",
    "LOCAL",
    "SESSION",
    "ALL",
    "work_mem",
    "search_path",
    "DEFAULT",
    "LISTEN",
    "DO",
    "DECLARE",
    "WITH HOLD",
    "PREPARE",
    "EXECUTE",
    "DISCARD",
    "LOCK",
    "COPY",
    "CALL",
    "VALUES (1)",
    "SHOW",
    "/* herdsman: writer */",
    "/* herdsman: reader */",
];

/// Whole statements, some with what looks like the end of one in them.
const STATEMENTS: &[&str] = &[
    "SELECT 1",
    "",
    "INSERT INTO t VALUES (';', $$;$$, E'\\';')",
    "UPDATE t SET a = CASE WHEN b THEN 1 END -- ;\n",
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN a THEN 1 END; END",
    "CREATE RULE r AS ON INSERT TO t DO (DELETE FROM u; DELETE FROM v)",
    "BEGIN",
    "COMMIT",
    "/* ; /* */ ; */ VALUES (1)",
    "SELECT \"a;b\" FROM t",
    "SET LOCAL a = 1",
];
const STICKY: &[&str] = &[
    "LISTEN a",
    "SELECT pg_advisory_lock(1)",
    "SET a = 1",
    "CREATE TEMP TABLE t (a int)",
    "SELECT 1 INTO TEMP t",
    "INSERT INTO t SELECT set_config('a', 'b', false)",
    "DO LANGUAGE plperl 'x'",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
];

fn soup() -> impl Strategy<Value = String> {
    let pieces = prop::collection::vec(prop::sample::select(PIECES), 0..14);
    (pieces, prop::sample::select(&["", " ", "\n/**/"][..]))
        .prop_map(|(pieces, gap)| pieces.join(gap))
}

/// What the gateway knows of functions changes; what it makes of a text here must not.
static KNOWLEDGE: LazyLock<[Functions; 2]> = LazyLock::new(|| {
    let rows = [("f", true), ("lower", false), ("set_config", true), ("pg_advisory_lock", true)];
    [
        Functions::builtin(),
        Functions::from_catalogue(rows.map(|(name, safe)| (name.to_owned(), safe))),
    ]
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_text_that_needs_no_look_leaves_nothing(sql in soup()) {
        for functions in &*KNOWLEDGE {
            let class = classify(&sql, functions);
            if needs_look(&class, &sql) {
                continue;
            }
            prop_assert_eq!(effect(&sql), Effect::None, "{:?}", class);
            // The same from the text itself, wherever the classifier has not seen all of it.
            if class.kind == Kind::Write && !calls::may_matter(&sql) {
                prop_assert_eq!(look(&class, &sql), Effect::None, "{:?} {:?}", class, sql);
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(sql in any::<String>()) {
        effect(&sql);
    }

    #[test]
    fn what_is_sticky_stays_so_beside_anything(
        before in prop::collection::vec(prop::sample::select(STATEMENTS), 0..4),
        sticky in prop::sample::select(STICKY),
        after in prop::collection::vec(prop::sample::select(STATEMENTS), 0..4),
    ) {
        let several = before.iter().chain(&after).any(|text| !text.is_empty());
        let texts = [before, vec![sticky], after].concat();
        let found = effect(&texts.join(";"));
        let kept = match &found {
            Effect::Sticky(_) | Effect::Unknown => true,
            // One that only sets something is kept as that.
            Effect::Several(effects) => {
                effects.iter().any(|effect| matches!(effect, Effect::Set { .. }))
                    && matches!(effect(sticky), Effect::Set { .. })
            }
            found => !several && matches!(found, Effect::Set { .. }),
        };
        prop_assert!(kept, "{:?}", found);
    }

    #[test]
    fn only_a_single_statement_is_answered_in_its_place(sql in soup(), other in soup()) {
        let sql = format!("{sql};{other}");
        let statements = super::Tokens::of(&sql).filter(|token| token.kind != super::TokenKind::Semicolon);
        if let Effect::Begin { .. } | Effect::Commit | Effect::Rollback | Effect::DiscardAll | Effect::ResetAll = effect(&sql) {
            let words = ["BEGIN", "COMMIT", "END", "ROLLBACK", "DISCARD", "RESET", "ALL"];
            for token in statements {
                prop_assert!(words.iter().any(|word| token.is(word)), "{:?}", sql);
            }
        }
    }
}
