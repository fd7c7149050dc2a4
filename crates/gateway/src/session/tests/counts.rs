//! What of prepared statements is counted.

use super::*;

/// By the client, on servers, bound; since the last time.
fn counted(story: &mut Story) -> (u64, u64, u64) {
    let done = std::mem::take(&mut story.session.prepared);
    (done.client_parses, done.server_parses, done.binds)
}

#[test]
fn a_statement_is_prepared_once_on_a_server_that_keeps_it() {
    let mut story = Story::new();
    story.needs(Want::Read, &["P a select 61", "B - a", "E -", "S"]);
    story.done(&["1", "2", "C SELECT 1", "Z I"]);
    assert_eq!(counted(&mut story), (1, 1, 1));
    story.needs(Want::Read, &["B - a", "E -", "S"]);
    assert_eq!(counted(&mut story), (0, 1, 1), "a server that has not seen it");
}

#[test]
fn what_is_prepared_without_a_server_is_counted_as_the_client_s() {
    let mut story = Story::new();
    story.needs(Want::Read, &["P a select 62", "S"]);
    story.done(&["1", "Z I"]);
    counted(&mut story);
    assert_eq!(story.client(&["P b select 62", "S"]), Fed::More);
    assert_eq!(counted(&mut story), (1, 0, 0));
}

#[test]
fn what_is_asked_of_another_node_was_said_once() {
    let mut story = Story::new();
    story.needs(Want::Read, &["P - select 63", "B - -", "E -", "S"]);
    story.session.rewind();
    assert_eq!(counted(&mut story), (0, 1, 0));
}
