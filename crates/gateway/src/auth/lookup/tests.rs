use super::*;
use crate::auth::Origin;
use crate::config::{AuthMethod, UserConfig};

fn user(name: &str) -> Arc<User> {
    let verifier = Verifier::read(&"secret".into()).ok();
    let config = UserConfig::default();
    Arc::new(User::new(name, &config, AuthMethod::Scram, verifier, Origin::Query))
}

/// Whether an answer needs no asking, and whether it would do if nobody can be asked.
fn state(answer: &Answer, now: Instant) -> (bool, bool) {
    (matches!(answer.usable(now), Some(Ok(_))), answer.stale(now).is_some())
}

#[test]
fn an_answer_is_good_for_a_while_and_longer_while_nobody_can_be_asked() {
    let at = Instant::now();
    for found in [Some(user("a")), None] {
        let answer = Answer { said: Some((found, at)), ..Answer::default() };
        assert_eq!(state(&answer, at + FRESH / 2), (true, true));
        assert_eq!(state(&answer, at + FRESH), (false, true));
        assert_eq!(state(&answer, at + STALE), (false, false));
    }
    assert_eq!(state(&Answer::default(), at), (false, false));
}

#[test]
fn a_wrong_password_has_the_answer_doubted_and_a_reload_has_it_forgotten() {
    let at = Instant::now();
    let found = user("a");
    let answer = Answer { said: Some((Some(Arc::clone(&found)), at)), ..Answer::default() };
    found.doubt();
    assert_eq!(state(&answer, at + DOUBTFUL / 2), (true, true));
    assert_eq!(state(&answer, at + DOUBTFUL), (false, true));
    let outdated =
        Answer { said: Some((Some(user("a")), at)), outdated: true, ..Answer::default() };
    assert_eq!(state(&outdated, at), (false, false));
}

#[test]
fn a_failure_is_not_repeated_at_once() {
    let at = Instant::now();
    let unknown = Answer { failed: Some(at), ..Answer::default() };
    assert!(matches!(unknown.usable(at + FAILED / 2), Some(Err(_))));
    assert!(unknown.usable(at + FAILED).is_none());
    let known =
        Answer { said: Some((Some(user("a")), at)), failed: Some(at + FRESH), outdated: false };
    assert!(matches!(known.usable(at + FRESH), Some(Ok(Some(_)))));
}

#[test]
fn names_that_nobody_has_make_room_first() {
    let lookup = Lookup::new(Box::new(Vec::new));
    let now = Instant::now();
    for number in 0..MOST {
        let found = (number % 4 == 0).then(|| user("a"));
        let entry = lookup.entry(&number.to_string());
        entry.write(|answer| answer.said = Some((found, now)));
    }
    lookup.entry("one more");
    let names = lookup.names.lock().unwrap();
    assert_eq!(names.len(), MOST / 4 + 1);
    assert!(names.contains_key("0") && !names.contains_key("1"));
}

#[test]
fn room_is_made_among_users_where_there_is_nothing_else() {
    let lookup = Lookup::new(Box::new(Vec::new));
    let now = Instant::now();
    for number in 0..=MOST {
        let entry = lookup.entry(&number.to_string());
        entry.write(|answer| answer.said = Some((Some(user("a")), now)));
    }
    assert_eq!(lookup.names.lock().unwrap().len(), MOST - MOST / 8 + 1);
}

#[test]
fn a_query_that_answers_with_somebody_else_finds_nobody() {
    let row = |name: &str, verifier: Option<&str>| Row {
        name: name.to_owned(),
        verifier: verifier.map(SecretString::from),
    };
    assert!(verified("a", row("b", Some("secret"))).is_none());
    assert!(matches!(verified("a", row("a", Some("secret"))), Some(Some(_))));
    assert!(matches!(verified("a", row("a", None)), Some(None)));
    assert!(matches!(verified("a", row("a", Some("SCRAM-SHA-256$4096:cut"))), Some(None)));
}
