use herdsman_node::{Lsn, SystemId, Timeline};

use super::*;

fn at(lsn: u64) -> SessionToken {
    SessionToken { system_id: SystemId(7), timeline: Timeline(1), lsn: Lsn(lsn) }
}

fn current() -> Session {
    Session::current().expect("a session")
}

#[tokio::test]
async fn a_task_is_in_a_session_only_inside_its_scope() {
    assert!(Session::current().is_none());
    session(async {
        current().wrote();
        assert_eq!(current().needs(), Needs::AskWriter);
    })
    .await;
    assert!(Session::current().is_none());
}

#[tokio::test]
async fn one_session_knows_nothing_of_the_next() {
    session(async { current().wrote() }).await;
    session(async { assert_eq!(current().needs(), Needs::Nothing) }).await;
}

#[tokio::test]
async fn a_session_inside_a_session_is_the_same_one() {
    session(async {
        current().observe(at(5));
        session(async {
            assert_eq!(current().needs(), Needs::Token(at(5)));
            current().wrote();
        })
        .await;
        assert_eq!(current().needs(), Needs::AskWriter);
    })
    .await;
}

#[tokio::test]
async fn what_an_inner_session_wrote_counts_even_if_it_is_dropped_half_way() {
    session(async {
        let inner = session(async {
            current().wrote();
            std::future::pending::<()>().await;
        });
        tokio::select! {
            biased;
            () = inner => {}
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(current().needs(), Needs::AskWriter);
    })
    .await;
}

#[tokio::test]
async fn an_explicit_session_inside_another_shares_nothing_with_it() {
    session(async {
        current().observe(at(5));
        let own = async {
            assert_eq!(current().needs(), Needs::Nothing);
            current().began();
        };
        Session::new().scope(own).await;
        assert_eq!(current().needs(), Needs::Token(at(5)));
    })
    .await;
}

#[tokio::test]
async fn a_spawned_task_has_a_session_only_if_it_is_given_one() {
    session(async {
        let bare = tokio::spawn(async { Session::current().is_some() });
        assert!(!bare.await.unwrap());
        tokio::spawn(current().scope(async { current().wrote() })).await.unwrap();
        assert_eq!(current().needs(), Needs::AskWriter);
    })
    .await;
}

#[test]
fn a_session_goes_on_from_a_token_and_tells_its_own() {
    let session = Session::with_token(at(5));
    assert_eq!(session.token(), Some(at(5)));
    session.wrote();
    assert_eq!(session.token(), None, "the old token does not stand for the write");
    let mark = session.pending().unwrap();
    session.settle(mark, at(9));
    assert_eq!(session.token(), Some(at(9)));
    assert_eq!(session.pending(), None);
}

#[test]
fn a_write_counts_when_its_answer_comes() {
    let session = Session::new();
    let write = session.writing();
    assert_eq!(session.needs(), Needs::Nothing);
    write.answered();
    assert_eq!(session.needs(), Needs::AskWriter);
}

#[test]
fn a_write_dropped_without_an_answer_ties_the_session_to_the_writer() {
    let session = Session::new();
    drop(session.writing());
    assert_eq!(session.needs(), Needs::Writer);
    session.settle(session.pending().unwrap(), at(9));
    assert_eq!(session.needs(), Needs::Writer);
}

#[test]
fn an_open_transaction_reads_from_the_writer_until_it_ends() {
    let session = Session::with_token(at(5));
    let transaction = session.transaction();
    assert_eq!(session.needs(), Needs::Writer);
    transaction.committed();
    assert_eq!(session.needs(), Needs::AskWriter);
}

#[test]
fn a_transaction_that_did_not_commit_leaves_the_session_as_it_was() {
    let session = Session::with_token(at(5));
    drop(session.transaction());
    assert_eq!(session.needs(), Needs::Token(at(5)));
    let mut refused = session.transaction();
    refused.committing();
    refused.rolled_back();
    assert_eq!(session.needs(), Needs::Token(at(5)));
}

#[test]
fn a_commit_without_an_answer_ties_the_session_to_the_writer() {
    let session = Session::new();
    let mut transaction = session.transaction();
    transaction.committing();
    drop(transaction);
    assert_eq!(session.needs(), Needs::Writer);
}

#[test]
fn a_session_can_be_sent_to_and_shared_by_threads() {
    fn check<T: Send + Sync + Clone + 'static>() {}
    check::<Session>();
}
