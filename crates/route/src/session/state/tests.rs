use herdsman_node::{Lsn, SystemId, Timeline};

use super::*;

fn at(lsn: u64) -> SessionToken {
    SessionToken { system_id: SystemId(7), timeline: Timeline(1), lsn: Lsn(lsn) }
}

/// Runs the steps on a new session and tells what its reads need and what can be told of it.
fn after(steps: &[&dyn Fn(&mut State)]) -> (Needs, Ending) {
    let mut state = State::default();
    for step in steps {
        step(&mut state);
    }
    (state.needs(), state.ending())
}

fn settle(state: &mut State, lsn: u64) {
    let mark = state.pending().unwrap();
    state.settle(mark, at(lsn));
}

#[test]
fn what_a_read_needs_follows_from_what_was_written() {
    type Step<'a> = &'a dyn Fn(&mut State);
    let wrote: Step<'_> = &State::wrote;
    let began: Step<'_> = &State::began;
    let sent: Step<'_> = &State::sent;
    let answered: Step<'_> = &|s| s.answered(true);
    let lost: Step<'_> = &|s| s.answered(false);
    let opened: Step<'_> = &State::opened;
    let committed: Step<'_> = &|s| s.closed(End::Committed);
    let rolled_back: Step<'_> = &|s| s.closed(End::RolledBack);
    let unknown: Step<'_> = &|s| s.closed(End::Unknown);
    let observe5: Step<'_> = &|s| s.observe(at(5));
    let settle9: Step<'_> = &|s| settle(s, 9);
    let cases: &[(&str, &[Step<'_>], Needs, Ending)] = &[
        ("nothing", &[], Needs::Nothing, Ending::Nothing),
        ("given a token", &[observe5], Needs::Token(at(5)), Ending::Token(at(5))),
        ("wrote", &[wrote], Needs::AskWriter, Ending::Ask),
        ("wrote, asked", &[wrote, settle9], Needs::Token(at(9)), Ending::Token(at(9))),
        ("asked, wrote again", &[wrote, settle9, wrote], Needs::AskWriter, Ending::Ask),
        ("given a token, wrote", &[observe5, wrote], Needs::AskWriter, Ending::Ask),
        ("a write in flight", &[sent], Needs::Nothing, Ending::Unfinished),
        ("its answer", &[sent, answered], Needs::AskWriter, Ending::Ask),
        ("its answer lost", &[sent, lost], Needs::Writer, Ending::Ask),
        ("lost, asked", &[sent, lost, settle9], Needs::Writer, Ending::Ask),
        ("handed out", &[began], Needs::Writer, Ending::Ask),
        ("handed out, asked", &[began, settle9], Needs::Writer, Ending::Ask),
        ("open", &[opened], Needs::Writer, Ending::Unfinished),
        ("open, wrote beside", &[opened, wrote], Needs::Writer, Ending::Unfinished),
        ("committed", &[opened, committed], Needs::AskWriter, Ending::Ask),
        ("rolled back", &[opened, rolled_back], Needs::Nothing, Ending::Nothing),
        (
            "rolled back after a token",
            &[observe5, opened, rolled_back],
            Needs::Token(at(5)),
            Ending::Token(at(5)),
        ),
        ("commit lost", &[opened, unknown], Needs::Writer, Ending::Ask),
        ("one of two committed", &[opened, opened, committed], Needs::Writer, Ending::Unfinished),
    ];
    for (what, steps, needs, ending) in cases {
        assert_eq!(after(steps), (*needs, *ending), "{what}");
    }
}

#[test]
fn a_write_after_the_mark_is_not_settled_by_it() {
    let mut state = State::default();
    state.wrote();
    let mark = state.pending().unwrap();
    state.wrote();
    state.settle(mark, at(9));
    assert_eq!(state.needs(), Needs::AskWriter);
    settle(&mut state, 10);
    assert_eq!(state.needs(), Needs::Token(at(10)));
}

#[test]
fn an_answer_that_comes_late_takes_nothing_back() {
    let mut state = State::default();
    state.wrote();
    let slow = state.pending().unwrap();
    state.wrote();
    settle(&mut state, 10);
    state.settle(slow, at(9));
    assert_eq!(state.needs(), Needs::Token(at(10)));
    assert_eq!(state.pending(), None);
}

#[test]
fn tokens_of_two_clusters_are_sorted_out_by_the_writer() {
    let foreign = SessionToken { system_id: SystemId(8), ..at(7) };
    let mut state = State::default();
    state.observe(at(9));
    state.observe(foreign);
    assert_eq!(state.needs(), Needs::AskWriter);
    state.observe(at(5));
    assert_eq!(state.needs(), Needs::AskWriter, "9 was forgotten, 5 is not enough");
    settle(&mut state, 10);
    assert_eq!(state.needs(), Needs::Token(at(10)));
}

#[test]
fn a_late_answer_of_another_cluster_does_not_stand_for_ours() {
    let mut state = State::default();
    state.wrote();
    let slow = state.pending().unwrap();
    state.wrote();
    settle(&mut state, 10);
    state.settle(slow, SessionToken { system_id: SystemId(8), ..at(99) });
    assert_eq!(state.needs(), Needs::AskWriter);
}

#[test]
fn an_older_question_does_not_bring_back_what_another_cluster_displaced() {
    let mut state = State::default();
    state.wrote();
    let first = state.pending().unwrap();
    let second = state.pending().unwrap();
    state.observe(at(3));
    state.settle(second, SessionToken { system_id: SystemId(8), ..at(99) });
    assert_eq!(state.pending(), None);
    state.settle(first, at(2));
    assert_eq!(state.needs(), Needs::AskWriter, "3 was forgotten, 2 is not enough");
}

#[test]
fn a_token_of_another_cluster_gives_way_to_the_writers_own() {
    let mut state = State::default();
    state.observe(SessionToken { system_id: SystemId(8), ..at(1 << 40) });
    state.wrote();
    settle(&mut state, 9);
    assert_eq!(state.needs(), Needs::Token(at(9)));
}
