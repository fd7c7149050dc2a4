use herdsman_api::Scope;

use super::*;

#[test]
fn every_verb_takes_the_scope_of_what_it_does() {
    let (look, read, operate) = (None, Some(Scope::Read), Some(Scope::Operate));
    let expected = [
        ("status", look),
        ("job", read),
        ("conflicts", read),
        ("pause", operate),
        ("resume", operate),
        // They make servers work, if they change nothing.
        ("plan", operate),
        ("verify", operate),
        ("sequences", operate),
        ("orphans", operate),
        ("up", operate),
        ("add", operate),
        ("remove", operate),
        ("ddl", operate),
    ];
    let found: std::collections::BTreeMap<_, _> =
        VERBS.iter().map(|(name, verb)| (*name, verb.takes())).collect();
    assert_eq!(found, expected.into());
}
