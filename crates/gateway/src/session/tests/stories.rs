//! The stories.

use super::*;

#[test]
fn a_plain_query_goes_through_unchanged() {
    let mut story = Story::new();
    story.needs(Want::Read, &["Q select 1"]);
    story.sent_to_server(&["Q select 1"]);
    story.done(&["T", "D row", "C SELECT 1", "Z I"]);
    story.sent_to_client(&["T", "D row", "C SELECT 1", "Z I"]);
}

#[test]
fn a_write_needs_the_writer_and_is_remembered_as_one() {
    let mut story = Story::new();
    story.needs(Want::Write, &["Q insert into t values (1)"]);
    story.done(&["C INSERT 0 1", "Z I"]);
    assert!(story.session.take_wrote());
    story.needs(Want::Read, &["Q select 1"]);
    story.done(&["C SELECT 1", "Z I"]);
    assert!(!story.session.take_wrote());
}

#[test]
fn a_transaction_begins_with_its_first_statement() {
    let mut story = Story::new();
    assert_eq!(story.client(&["Q begin"]), Fed::More);
    story.sent_to_client(&["C BEGIN", "Z T"]);
    story.needs(Want::Write, &["Q select 1"]);
    story.sent_to_server(&["Q begin", "Q select 1"]);
    assert_eq!(story.server(&["C BEGIN", "Z T", "T", "C SELECT 1", "Z T"]), Received::More);
    story.sent_to_client(&["T", "C SELECT 1", "Z T"]);
    assert_eq!(story.client(&["Q commit"]), Fed::More);
    story.sent_to_server(&["Q commit"]);
    story.done(&["C COMMIT", "Z I"]);
    story.sent_to_client(&["C COMMIT", "Z I"]);
}

#[test]
fn an_empty_transaction_needs_no_server() {
    let mut story = Story::new();
    story.client(&["Q begin", "Q rollback", "Q START TRANSACTION", "Q commit"]);
    story.sent_to_client(&[
        "C BEGIN",
        "Z T",
        "C ROLLBACK",
        "Z I",
        "C START TRANSACTION",
        "Z T",
        "C COMMIT",
        "Z I",
    ]);
}

#[test]
fn a_read_only_transaction_goes_to_a_reader() {
    let mut story = Story::new();
    story.client(&["Q begin read only"]);
    story.needs(Want::Read, &["Q select 1"]);
    story.sent_to_server(&["Q begin read only", "Q select 1"]);
    let mut story = Story::new();
    story.client(&["Q begin isolation level serializable, read only"]);
    story.needs(Want::Write, &["Q select 1"]);
}

#[test]
fn a_statement_is_parsed_once_for_all_who_use_the_connection() {
    let mut one = Story::new();
    one.needs(Want::Read, &["P s1 select 11", "D S s1", "S"]);
    let name = server_name_of("select 11");
    one.sent_to_server(&[&format!("P {name} select 11"), &format!("D S {name}"), "S"]);
    let server = one.done(&["1", "t", "n", "Z I"]);
    one.sent_to_client(&["1", "t", "n", "Z I"]);

    let mut other = Story::new();
    assert_eq!(other.client(&["P mine select 11", "B - mine", "E -", "S"]), Fed::Need);
    other.attach(server);
    other.sent_to_server(&[&format!("B - {name}"), "E -", "S"]);
    other.done(&["2", "C SELECT 1", "Z I"]);
    other.sent_to_client(&["1", "2", "C SELECT 1", "Z I"]);
}

#[test]
fn a_statement_is_parsed_ahead_of_its_use_on_another_connection() {
    let mut story = Story::new();
    story.needs(Want::Read, &["P s1 select 12", "S"]);
    story.sent_to_server(&[&format!("P {} select 12", server_name_of("select 12")), "S"]);
    story.done(&["1", "Z I"]);
    story.sent_to_client(&["1", "Z I"]);
    story.needs(Want::Read, &["B - s1", "E -", "S"]);
    let name = server_name_of("select 12");
    story.sent_to_server(&[&format!("P {name} select 12"), &format!("B - {name}"), "E -", "S"]);
    story.done(&["1", "2", "C SELECT 1", "Z I"]);
    story.sent_to_client(&["2", "C SELECT 1", "Z I"]);
}

#[test]
fn the_unnamed_statement_of_an_earlier_batch_is_the_clients_own() {
    let mut story = Story::new();
    story.needs(Want::Read, &["P - select 13", "D S -", "S"]);
    story.sent_to_server(&["P - select 13", "D S -", "S"]);
    story.done(&["1", "t", "n", "Z I"]);
    story.sent_to_client(&["1", "t", "n", "Z I"]);
    story.needs(Want::Read, &["B - -", "E -", "S"]);
    story.sent_to_server(&["P - select 13", "B - -", "E -", "S"]);
    story.done(&["1", "2", "C SELECT 1", "Z I"]);
    story.sent_to_client(&["2", "C SELECT 1", "Z I"]);
    // A simple query takes it away, as on a server; what another client left there is not found in its place.
    story.needs(Want::Read, &["Q select 1"]);
    story.done(&["C SELECT 1", "Z I"]);
    assert_eq!(story.client(&["B - -", "E -", "S"]), Fed::Need);
    story.sent_to_client(&["C SELECT 1", "Z I"]);
    story.out.to_server.clear();
    story.attach(FakeServer::default());
    story.sent_to_server(&["B - hm_none", "E -", "S"]);
    story.done(&["E 26000 none", "Z I"]);
    story.sent_to_client(&["E 26000", "Z I"]);
}

#[test]
fn what_servers_have_taken_is_prepared_without_one() {
    let mut one = Story::new();
    one.needs(Want::Read, &["P a select 14", "S"]);
    one.done(&["1", "Z I"]);
    let mut other = Story::new();
    assert_eq!(other.client(&["P b select 14", "S", "C S b", "S"]), Fed::More);
    other.sent_to_client(&["1", "Z I", "3", "Z I"]);
    assert_eq!(other.client(&["P b select 14", "S"]), Fed::More);
    other.needs(Want::Read, &["B - b", "E -", "S"]);
    let name = server_name_of("select 14");
    other.sent_to_server(&[&format!("P {name} select 14"), &format!("B - {name}"), "E -", "S"]);
}

#[test]
fn a_client_cannot_use_what_others_have_prepared() {
    let mut story = Story::new();
    story.needs(Want::Write, &["B - hm_1", "E -", "S"]);
    story.sent_to_server(&["B - hm_none", "E -", "S"]);
}

#[test]
fn after_an_error_everything_up_to_sync_is_skipped() {
    let mut story = Story::new();
    story.needs(Want::Write, &["P a selec", "B - a", "E -", "P b insert into t values (2)", "S"]);
    story.done(&["E 42601 syntax", "Z I"]);
    story.sent_to_client(&["E 42601", "Z I"]);
    // Neither name is there now.
    story.out.to_server.clear();
    story.needs(Want::Write, &["B - b", "S"]);
    story.sent_to_server(&["B - b", "S"]);
    story.done(&["E 26000 none", "Z I"]);
}

#[test]
fn the_statement_unused_for_longest_is_closed_for_a_new_one() {
    let mut story = Story::new();
    story.prepared = 1;
    story.needs(Want::Read, &["P a select 21", "S"]);
    let server = story.done(&["1", "Z I"]);
    story.out.to_server.clear();
    story.client(&["P b select 22", "S"]);
    story.attach(server);
    let (one, two) = (server_name_of("select 21"), server_name_of("select 22"));
    story.sent_to_server(&[&format!("C S {one}"), &format!("P {two} select 22"), "S"]);
    story.done(&["3", "1", "Z I"]);
    story.sent_to_client(&["1", "Z I", "1", "Z I"]);
}

#[test]
fn preparing_with_a_flush_does_not_keep_the_server() {
    let mut story = Story::new();
    story.needs(Want::Read, &["P a select 31", "D S a", "H"]);
    let name = server_name_of("select 31");
    story.sent_to_server(&[&format!("P {name} select 31"), &format!("D S {name}"), "S"]);
    story.done(&["1", "t", "n", "Z I"]);
    story.sent_to_client(&["1", "t", "n"]);
    story.needs(Want::Read, &["B - a", "E -", "S"]);
    story.done(&["1", "2", "C SELECT 1", "Z I"]);
    story.sent_to_client(&["2", "C SELECT 1", "Z I"]);
}

#[test]
fn what_was_prepared_with_a_flush_is_shown_also_where_the_server_is_kept() {
    let mut story = Story::new();
    story.session = Session::new(Settings::default(), true);
    story.needs(Want::Read, &["P a select 32", "D S a", "H"]);
    assert_eq!(story.server(&["1", "t", "T"]), Received::More);
    assert!(!story.session.holds_back(), "the client waits for it");
    story.sent_to_client(&["1", "t", "T"]);
    story.client(&["B - a", "E -", "S"]);
    assert_eq!(story.server(&["2", "D row", "C SELECT 1", "Z I"]), Received::Done);
}

#[test]
fn a_failed_preparation_with_a_flush_waits_for_the_clients_sync() {
    for (want, text) in [(Want::Write, "selec"), (Want::Read, "select * from nowhere")] {
        let mut story = Story::new();
        story.needs(want, &[&format!("P a {text}"), "D S a", "H"]);
        assert_eq!(story.server(&["E 42601 wrong", "Z I"]), Received::More);
        story.sent_to_client(&["E 42601"]);
        story.out.to_server.clear();
        assert_eq!(story.client(&["B - a", "E -", "S"]), Fed::More);
        story.sent_to_server(&["S"]);
        story.done(&["Z I"]);
        story.sent_to_client(&["Z I"]);
    }
}

#[test]
fn a_setting_follows_the_client_to_other_connections() {
    let mut story = Story::new();
    story.needs(Want::Write, &["Q set work_mem to '5MB'"]);
    let server = story.done(&["C SET", "Z I"]);
    assert_eq!(server.settings.id, story.session.settings().id);
    assert_ne!(server.settings.id, 0);
    story.out.to_server.clear();
    story.needs(Want::Read, &["Q select 1"]);
    let sent = tell(&std::mem::take(&mut story.out.to_server), true);
    assert_eq!(sent.len(), 2, "{sent:?}");
    assert!(sent[0].starts_with("Q SET") && sent[0].contains("work_mem"), "{sent:?}");
    story.done(&["S x y", "C SET", "Z I", "C SELECT 1", "Z I"]);
    story.sent_to_client(&["C SET", "Z I", "C SELECT 1", "Z I"]);
    // And another client on the first connection does not get it.
    let mut other = Story::new();
    other.client(&["Q select 1"]);
    other.attach(server);
    let sent = tell(&std::mem::take(&mut other.out.to_server), true);
    assert!(sent[0].starts_with("Q RESET") && sent[0].contains("work_mem"), "{sent:?}");
}

#[test]
fn a_setting_made_in_a_transaction_that_fails_is_not_made() {
    let mut story = Story::new();
    story.client(&["Q begin"]);
    story.needs(Want::Write, &["Q set work_mem to '5MB'"]);
    story.server(&["C BEGIN", "Z T", "C SET", "Z T"]);
    assert_ne!(story.session.settings().id, 0);
    story.client(&["Q selec"]);
    story.server(&["E 42601 syntax", "Z E"]);
    story.client(&["Q rollback"]);
    let server = story.done(&["C ROLLBACK", "Z I"]);
    assert_eq!((server.settings.id, story.session.settings().id), (0, 0));
}

#[test]
fn a_setting_made_in_a_transaction_that_is_rolled_back_is_not_made() {
    let mut story = Story::new();
    story.client(&["Q begin"]);
    story.needs(Want::Write, &["Q set work_mem to '5MB'"]);
    story.server(&["C BEGIN", "Z T", "C SET", "Z T"]);
    story.client(&["Q rollback"]);
    let server = story.done(&["C ROLLBACK", "Z I"]);
    assert_eq!((server.settings.id, story.session.settings().id), (0, 0));
}

#[test]
fn state_that_only_one_server_session_has_keeps_the_connection() {
    let mut story = Story::new();
    story.needs(Want::Write, &["Q create temp table t (a int)"]);
    assert_eq!(story.session.pinned(), None, "it may fail yet");
    story.server(&["C CREATE TABLE", "Z I"]);
    assert_eq!(story.session.pinned(), Some("a temporary table"));
    let mut story = Story::new();
    story.session_state = SessionState::Refuse;
    assert_eq!(story.client(&["Q listen news"]), Fed::Need);
    story.attach(FakeServer::default());
    story.sent_to_client(&["E 0A000", "Z I"]);
    story.sent_to_server(&[]);
}

#[test]
fn what_is_refused_within_a_batch_fails_at_the_server() {
    let mut story = Story::new();
    story.session_state = SessionState::Refuse;
    story.needs(Want::Write, &["P - listen news", "B - -", "E -", "S"]);
    let refused = "B - (it needs a session of its own: session_state is refuse)";
    story.sent_to_server(&["P - listen news", refused, "E -", "S"]);
    story.done(&["1", "E 26000 none", "Z I"]);
    story.sent_to_client(&["1", "E 26000", "Z I"]);
    assert_eq!(story.session.pinned(), None);
}

#[test]
fn a_connection_comes_free_when_what_it_held_is_over() {
    let mut story = Story::new();
    story.needs(Want::Write, &["Q listen news"]);
    story.server(&["C LISTEN", "Z I"]);
    assert_eq!(story.session.pinned(), Some("LISTEN"));
    story.client(&["Q select pg_advisory_unlock_all(); close all; unlisten *; reset all;"]);
    let said = ["D row", "C SELECT 1", "C CLOSE CURSOR ALL", "C UNLISTEN", "C RESET", "Z I"];
    assert_eq!(story.server(&said), Received::Done);
    assert_eq!(story.session.pinned(), None);
}

#[test]
fn who_one_is_outlives_a_reset_and_does_not_reach_others() {
    let mut story = Story::new();
    story.needs(Want::Write, &["Q set role herdsman"]);
    story.done(&["C SET", "Z I"]);
    story.client(&["Q begin"]);
    story.needs(Want::Write, &["Q reset all"]);
    story.server(&["C SET", "Z I", "C BEGIN", "Z T", "C RESET", "Z T"]);
    assert_eq!(story.session.settings().get("role"), Some("'herdsman'"));
    story.client(&["Q commit"]);
    let server = story.done(&["C COMMIT", "Z I"]);
    assert_eq!(server.settings.id, story.session.settings().id);
    assert_ne!(server.settings.id, 0);
}

#[test]
fn a_reader_that_refuses_to_write_is_not_shown() {
    let mut story = Story::new();
    story.needs(Want::Read, &["Q select view_that_writes"]);
    let elsewhere = Received::Elsewhere(Elsewhere::Writes);
    assert_eq!(story.server(&["T", "E 25006 read only"]), elsewhere);
    assert!(story.session.holds_back());
    let keep = story.session.rewind();
    story.out.to_client.truncate(keep);
    story.sent_to_client(&[]);
}

#[test]
fn once_a_row_was_shown_an_error_is_shown_as_well() {
    let mut story = Story::new();
    story.needs(Want::Read, &["Q select 1"]);
    story.done(&["T", "D row", "E 40001 conflict", "Z I"]);
    story.sent_to_client(&["T", "D row", "E 40001", "Z I"]);
}

#[test]
fn a_write_whose_server_is_lost_has_an_unknown_outcome() {
    let mut story = Story::new();
    story.needs(Want::Write, &["Q insert into t values (1)"]);
    assert_eq!(story.lose("gone"), After::GoesOn);
    story.sent_to_client(&["E 08007", "Z I"]);
}

#[test]
fn a_lost_commit_has_an_unknown_outcome_and_a_lost_transaction_has_not() {
    let mut story = Story::new();
    story.client(&["Q begin"]);
    story.needs(Want::Write, &["Q insert into t values (1)"]);
    story.server(&["C BEGIN", "Z T", "C INSERT 0 1", "Z T"]);
    story.sent_to_client(&["C BEGIN", "Z T", "C INSERT 0 1", "Z T"]);
    story.client(&["Q select 1"]);
    story.lose("gone");
    story.sent_to_client(&["E 08006", "Z E"]);
    story.client(&["Q select 1", "Q rollback"]);
    story.sent_to_client(&["E 25P02", "Z E", "C ROLLBACK", "Z I"]);

    story.client(&["Q begin"]);
    story.needs(Want::Write, &["Q insert into t values (1)"]);
    story.server(&["C BEGIN", "Z T", "C INSERT 0 1", "Z T"]);
    story.client(&["Q commit"]);
    story.out.to_client.clear();
    story.lose("gone");
    story.sent_to_client(&["E 08007", "Z I"]);
}

#[test]
fn a_transaction_lost_while_the_client_thinks_is_told_with_its_next_statement() {
    let mut story = Story::new();
    story.client(&["Q begin"]);
    story.needs(Want::Write, &["Q insert into t values (1)"]);
    story.server(&["C BEGIN", "Z T", "C INSERT 0 1", "Z T"]);
    story.out.to_client.clear();
    story.lose("gone");
    story.sent_to_client(&[]);
    story.client(&["Q select 1", "Q commit"]);
    story.sent_to_client(&["E 08006", "Z E", "C ROLLBACK", "Z I"]);
}

#[test]
fn a_commit_of_a_lost_transaction_is_an_error_even_if_it_is_the_first_to_hear() {
    for commit in [&["Q commit"][..], &["P - COMMIT", "B - -", "E -", "S"]] {
        let mut story = Story::new();
        story.client(&["Q begin"]);
        story.needs(Want::Write, &["Q insert into t values (1)"]);
        story.server(&["C BEGIN", "Z T", "C INSERT 0 1", "Z T"]);
        story.out.to_client.clear();
        story.lose("gone");
        story.client(commit);
        story.sent_to_client(&["E 08006", "Z I"]);
        story.needs(Want::Read, &["Q select 1"]);
    }
}

#[test]
fn a_lost_transaction_can_be_rolled_back_in_the_extended_protocol() {
    let mut story = Story::new();
    story.client(&["Q begin"]);
    story.needs(Want::Write, &["Q insert into t values (1)"]);
    story.server(&["C BEGIN", "Z T", "C INSERT 0 1", "Z T"]);
    story.out.to_client.clear();
    story.lose("gone");
    story.client(&["P - select 1", "B - -", "E -", "S"]);
    story.sent_to_client(&["E 08006", "Z E"]);
    story.client(&["P - ROLLBACK", "B - -", "D P -", "E -", "S"]);
    story.sent_to_client(&["1", "2", "n", "C ROLLBACK", "Z I"]);
}

#[test]
fn an_unconfirmed_commit_is_no_clean_success() {
    let mut story = Story::new();
    story.needs(Want::Write, &["Q insert into t values (1)"]);
    story.done(&["N SyncRepWaitForLSN", "C INSERT 0 1", "Z I"]);
    let said = tell(&std::mem::take(&mut story.out.to_client), false);
    assert_eq!(said[1..], ["E 08007", "Z I"]);
}

#[test]
fn a_copy_goes_through_in_either_protocol() {
    let mut story = Story::new();
    story.needs(Want::Write, &["Q copy t from stdin"]);
    story.server(&["G"]);
    story.client(&["d row", "d row", "c"]);
    story.sent_to_server(&["Q copy t from stdin", "d row", "d row", "c"]);
    story.done(&["C COPY 2", "Z I"]);
    // libpq sends a Sync behind it, which the server ignores in copy mode, and another one at the end.
    story.needs(Want::Write, &["P - copy t from stdin", "B - -", "E -", "S"]);
    assert_eq!(story.server(&["1", "2", "G"]), Received::More);
    story.client(&["d row", "c", "S"]);
    story.done(&["C COPY 1", "Z I"]);
    story.sent_to_client(&["G", "C COPY 2", "Z I", "1", "2", "G", "C COPY 1", "Z I"]);
}

#[test]
fn data_for_a_copy_may_come_before_it_is_asked_for() {
    let mut story = Story::new();
    story.needs(Want::Write, &["Q copy t from stdin", "d row", "c"]);
    story.sent_to_server(&["Q copy t from stdin", "d row", "c"]);
    story.done(&["G", "C COPY 1", "Z I"]);
}

#[test]
fn data_for_a_copy_that_failed_goes_nowhere() {
    let mut story = Story::new();
    story.needs(Want::Write, &["Q copy t from stdin"]);
    story.server(&["G"]);
    story.done(&["E 22P02 bad", "Z I"]);
    assert_eq!(story.client(&["d row", "d row", "c"]), Fed::More);
    story.needs(Want::Read, &["Q select 1"]);
}

#[test]
fn a_batch_behind_a_read_waits_for_the_reader() {
    let mut story = Story::new();
    story.needs(Want::Read, &["Q select 1"]);
    assert_eq!(story.client(&["Q insert into t values (1)"]), Fed::Wait);
    story.done(&["C SELECT 1", "Z I"]);
    assert_eq!(story.go_on(), Fed::Need);
    assert_eq!(story.session.needs().want, Want::Write);
}

#[test]
fn batches_behind_a_write_are_pipelined() {
    let mut story = Story::new();
    story.needs(Want::Write, &["Q insert into t values (1)"]);
    assert_eq!(story.client(&["Q select 1"]), Fed::More);
    story.sent_to_server(&["Q insert into t values (1)", "Q select 1"]);
    assert_eq!(story.server(&["C INSERT 0 1", "Z I"]), Received::More);
    story.done(&["C SELECT 1", "Z I"]);
}

#[test]
fn names_kept_here_are_deallocated_here() {
    let mut story = Story::new();
    story.needs(Want::Read, &["P a select 41", "S"]);
    story.done(&["1", "Z I"]);
    story.sent_to_client(&["1", "Z I"]);
    assert_eq!(story.client(&["Q deallocate a", "Q discard all"]), Fed::More);
    story.sent_to_client(&["C DEALLOCATE", "Z I", "C DISCARD ALL", "Z I"]);
    assert!(story.session.names.is_empty());
}

#[test]
fn a_message_may_come_in_pieces() {
    let whole = {
        let mut bytes = Vec::new();
        put_frontend(&mut bytes, "P a select 51");
        put_frontend(&mut bytes, "B - a");
        put_frontend(&mut bytes, "E -");
        put_frontend(&mut bytes, "S");
        bytes
    };
    for cut in 1..whole.len() {
        let mut story = Story::new();
        story.input.extend_from_slice(&whole[..cut]);
        assert_eq!(story.go_on(), Fed::More, "cut at {cut}");
        story.input.extend_from_slice(&whole[cut..]);
        assert_eq!(story.go_on(), Fed::Need);
        story.attach(FakeServer::default());
        let name = server_name_of("select 51");
        story.sent_to_server(&[&format!("P {name} select 51"), &format!("B - {name}"), "E -", "S"]);
        let mut answer = Vec::new();
        for said in ["1", "2", "D row", "C SELECT 1", "Z I"] {
            put_backend(&mut answer, said);
        }
        let mut received = Received::More;
        for byte in answer {
            story.from_server.push(byte);
            received = story.server(&[]);
        }
        assert_eq!(received, Received::Done);
        story.sent_to_client(&["1", "2", "D row", "C SELECT 1", "Z I"]);
    }
}

/// What the answers to these come to: what the client is shown, what comes next, and what is known afterwards; and who
/// had them. As long as somebody has settings, equal ones have their id.
fn come_to(
    asked: &[&str],
    answered: &[&str],
    cut: Option<usize>,
) -> ((Vec<String>, Received, String), Story) {
    let mut story = Story::new();
    story.client(asked);
    story.attach(FakeServer::default());
    let mut answer = Vec::new();
    for said in answered {
        put_backend(&mut answer, said);
    }
    if let Some(cut) = cut {
        story.from_server.extend_from_slice(&answer[..cut]);
        assert_eq!(story.server(&[]), Received::More);
        story.from_server.extend_from_slice(&answer[cut..]);
    } else {
        story.from_server = answer;
    }
    let received = story.server(&[]);
    assert!(story.from_server.is_empty() || received != Received::Done, "something was left");
    // Whether it was shown is decided for each part.
    story.session.shown = true;
    let settings = story.server.as_ref().map(|server| &server.settings);
    let known = format!("{:?} {settings:?}", story.session);
    ((tell(&story.out.to_client, false), received, known), story)
}

#[test]
fn an_answer_in_one_piece_comes_to_what_it_does_in_two() {
    let asked: [&[&str]; 10] = [
        &["Q select 1"],
        &["Q insert into t values (1)"],
        &["Q begin", "Q select 1"],
        &["Q select 1", "Q select 2"],
        &["Q set work_mem = '1MB'"],
        &["P - select 1", "B - -", "E -", "S"],
        &["P - select 1", "B - -", "D P -", "E -", "S"],
        &["P a select 1", "D S a", "B - a", "E -", "C P -", "S"],
        &["P - insert into t values (1)", "B - -", "E -", "E -", "S"],
        &["P - select 1", "S"],
    ];
    let answered: [&[&str]; 17] = [
        &["T", "D row", "C SELECT 1", "Z I"],
        &["C INSERT 0 1", "Z I"],
        &["C ROLLBACK", "Z I"],
        &["T", "D a", "C SELECT 1", "T", "D b", "C SELECT 1", "Z I"],
        &["C SELECT 1", "Z T"],
        &["N SyncRepWaitForLSN", "C INSERT 0 1", "Z I"],
        &["S application_name x", "C SET", "Z I"],
        &["E 42601 no", "Z I"],
        &["T", "D row", "E 42601 no", "Z I"],
        &["C BEGIN", "Z T", "T", "D row", "C SELECT 1", "Z T"],
        &["1", "2", "D row", "C SELECT 1", "Z I"],
        &["1", "2", "T", "D a", "D b", "C SELECT 2", "Z I"],
        &["1", "t", "n", "2", "C SELECT 0", "3", "Z I"],
        &["1", "2", "C INSERT 0 1", "C INSERT 0 1", "Z I"],
        &["1", "2", "I", "Z I"],
        &["1", "2", "T", "C ROLLBACK", "Z I"],
        &["1", "Z I"],
    ];
    for asked in asked {
        for answered in answered {
            let (whole, _kept) = come_to(asked, answered, None);
            let mut bytes = Vec::new();
            answered.iter().for_each(|said| put_backend(&mut bytes, said));
            for cut in (1..bytes.len()).filter(|_| whole.1 == Received::Done) {
                let (cut_in_two, _) = come_to(asked, answered, Some(cut));
                assert_eq!(whole, cut_in_two, "{asked:?} {answered:?} {cut}");
            }
        }
    }
}

#[test]
fn a_check_travels_with_a_write_and_is_not_seen() {
    let mut story = Story::new();
    story.guard = true;
    story.needs(Want::Write, &["Q insert into t values (1)"]);
    story.sent_to_server(&["Q guard'7';insert into t values (1)"]);
    story.done(&["D row", "C SELECT 1", "C INSERT 0 1", "Z I"]);
    story.sent_to_client(&["C INSERT 0 1", "Z I"]);
    story.needs(Want::Write, &["P - insert into t values (1)", "B - -", "E -", "S"]);
    story.sent_to_server(&[
        "P hm_guard guard",
        "B - hm_guard",
        "E -",
        "P - insert into t values (1)",
        "B - -",
        "E -",
        "S",
    ]);
    story.done(&["1", "2", "D row", "C SELECT 1", "1", "2", "C INSERT 0 1", "Z I"]);
    story.sent_to_client(&["1", "2", "C INSERT 0 1", "Z I"]);
}

#[test]
fn a_commit_long_after_its_check_is_checked_again() {
    let mut story = Story::new();
    story.guard = true;
    story.needs(Want::Write, &["P - insert into t values (1)", "B - -", "E -", "H"]);
    story.server(&["1", "2", "D row", "C SELECT 1", "1", "2", "C INSERT 0 1"]);
    story.out.to_server.clear();
    story.client(&["S"]);
    story.sent_to_server(&["B - hm_guard", "E -", "S"]);
    story.done(&["2", "E 22012 division", "Z I"]);
    story.sent_to_client(&["1", "2", "C INSERT 0 1", "E 40001", "Z I"]);
}

#[test]
fn what_a_kept_connection_is_refused_is_not_sent_again() {
    let mut story = Story::new();
    story.guard = true;
    story.needs(Want::Write, &["Q listen news"]);
    let server = story.done(&["D row", "C SELECT 1", "C LISTEN", "Z I"]);
    story.server = Some(server);
    story.out.to_server.clear();
    // The next one waits for the first, so that only the one refused is not done.
    assert_eq!(story.client(&["Q select 1", "Q insert into t values (1)"]), Fed::Wait);
    story.sent_to_server(&["Q select 1"]);
    story.server(&["D row", "C SELECT 1", "Z I"]);
    story.out.to_client.clear();
    story.go_on();
    story.sent_to_server(&["Q guard'7';insert into t values (1)"]);
    assert_eq!(story.server(&["E 22012 division", "Z I"]), Received::Done);
    story.sent_to_client(&["E 40001", "Z I"]);
}

#[test]
fn a_write_whose_check_fails_was_not_done_and_is_sent_again() {
    let mut story = Story::new();
    story.guard = true;
    story.needs(Want::Write, &["P - insert into t values (1)", "B - -", "E -", "S"]);
    assert!(story.session.keeps());
    assert_eq!(story.server(&["1", "2", "E 22012 division"]), Received::Guarded);
    let keep = story.session.rewind();
    story.out.to_client.truncate(keep);
    story.sent_to_client(&[]);
}

#[test]
fn a_commit_whose_check_fails_fails_the_transaction() {
    let mut story = Story::new();
    story.guard = true;
    story.client(&["Q begin"]);
    story.needs(Want::Write, &["Q insert into t values (1)"]);
    story.sent_to_server(&["Q begin", "Q insert into t values (1)"]);
    story.server(&["C BEGIN", "Z T", "C INSERT 0 1", "Z T"]);
    story.out.to_client.clear();
    story.client(&["Q commit"]);
    story.sent_to_server(&["Q guard'7';commit"]);
    assert_eq!(story.server(&["E 22012 division", "Z E"]), Received::More);
    story.sent_to_client(&["E 40001", "Z E"]);
    story.client(&["Q rollback"]);
    story.done(&["C ROLLBACK", "Z I"]);
    story.sent_to_client(&["C ROLLBACK", "Z I"]);
}

/// What this text is called on servers, as long as some story holds it.
fn server_name_of(text: &str) -> String {
    String::from_utf8(crate::statements::intern(text.as_bytes(), &[0, 0]).name.to_vec()).unwrap()
}
