//! Which connections are not used again, and how those in use are ended.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::Use;
use super::*;

/// A pool with one idle connection.
async fn with_one_idle() -> (Arc<Pool>, Arc<Fake>) {
    let (pool, fake) = pool(2, 10);
    taken(&pool, 0).await.unwrap().give_back(0, 0);
    (pool, fake)
}

/// Has the server of a process answer `answer` to whatever it is sent, as long as it is sent something.
fn answering(fake: &Fake, process: usize, answer: &'static [u8]) {
    let end = fake.ends.lock().unwrap()[process - 1].try_clone().unwrap();
    let mut end = UnixStream::from_std(end).unwrap();
    tokio::spawn(async move {
        while matches!(end.read(&mut [0; 512]).await, Ok(1..)) {
            end.write_all(answer).await.unwrap();
        }
    });
}

/// An answer to an empty query.
const EMPTY: &[u8] = b"I\0\0\0\x04Z\0\0\0\x05I";

#[tokio::test]
async fn a_connection_the_server_has_closed_is_not_handed_out() {
    for last_words in [&b""[..], b"E\0\0\0\x04", b"A\0\0\0\x04", b"S\0\0\0\x20half", b"N\0\0"] {
        let (pool, fake) = with_one_idle().await;
        fake.says(1, last_words);
        if last_words.is_empty() {
            fake.breaks(1);
        }
        settle().await;
        assert!(pool.idle(0, plain(), 0).is_none(), "{last_words:?}");
        assert_eq!((pool.counts().idle, pool.counts().active), (0, 0));
        assert!(fake.closed(1));
    }
}

#[tokio::test]
async fn what_a_server_reports_while_nobody_listens_is_noted() {
    let (pool, fake) = with_one_idle().await;
    fake.says(1, b"N\0\0\0\x04S\0\0\0\x11TimeZone\0CET\0S\0\0\0\x16in_hot_standby\0on\0");
    settle().await;
    let server = pool.idle(0, plain(), 0).unwrap();
    let expected = [("TimeZone", "CET"), ("in_hot_standby", "on")];
    let expected = expected.map(|(name, value)| (name.into(), value.into()));
    assert_eq!(server.reported, expected);
    assert!(server.in_recovery && server.unread.is_empty());
}

#[tokio::test]
async fn what_was_unused_for_long_has_to_answer_before_it_is_used() {
    let (pool, fake) = with_one_idle().await;
    let late = 30_001;
    assert!(pool.idle(0, plain(), late - 1).is_some_and(|server| {
        Lease::new(server, Arc::clone(&pool), 0, false).give_back(0, 0);
        true
    }));
    assert!(pool.idle(0, plain(), late).is_none(), "it is not sure to work");
    answering(&fake, 1, EMPTY);
    let take = || pool.take(0, plain(), late, Instant::now() + LONG);
    assert_eq!(process(&take().await.unwrap()), 1);
}

#[tokio::test]
async fn what_does_not_answer_well_is_replaced() {
    // Not in the state it is left in, an error, and none of PostgreSQL's.
    for answer in [&b"I\0\0\0\x04Z\0\0\0\x05T"[..], b"E\0\0\0\x05\0Z\0\0\0\x05I", b"HTTP/1.1"] {
        let (pool, fake) = with_one_idle().await;
        answering(&fake, 1, answer);
        let server = pool.take(0, plain(), 40_000, Instant::now() + LONG).await.unwrap();
        assert_eq!((process(&server), fake.closed(1)), (2, true), "{answer:?}");
        assert_eq!(pool.counts().active, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn one_who_leaves_during_the_check_leaves_no_half_asked_question_behind() {
    let (pool, fake) = with_one_idle().await;
    let mut leaves = Box::pin(pool.take(0, plain(), 40_000, Instant::now() + LONG));
    assert!(at_once(&mut leaves).is_none());
    drop(leaves);
    assert_eq!(pool.counts().active + pool.counts().idle, 0);
    assert!(fake.closed(1));
}

#[tokio::test]
async fn what_is_too_old_or_dirty_or_has_unread_bytes_is_closed_when_it_comes_back() {
    let spoil: [fn(&mut Server); 4] = [
        |server| server.born = 0,
        |server| server.dirty = true,
        |server| server.unread.extend_from_slice(b"x"),
        |server| server.generation += 1,
    ];
    for (case, spoil) in spoil.into_iter().enumerate() {
        let (pool, fake) = pool(1, 1);
        let mut lease = taken(&pool, 0).await.unwrap();
        lease.server.born = 1;
        spoil(&mut lease.server);
        lease.give_back(0, 3_600_000);
        assert!(fake.closed(1) && pool.counts().idle == 0, "case {case}");
    }
    let (pool, fake) = pool(1, 1);
    let mut lease = taken(&pool, 0).await.unwrap();
    lease.server.born = 1;
    lease.give_back(0, 3_600_000);
    assert!(!fake.closed(1) && pool.counts().idle == 1, "a sound one is kept");
}

#[tokio::test]
async fn a_server_is_told_goodbye() {
    let (pool, fake) = with_one_idle().await;
    pool.sweep(600_000);
    let mut said = Vec::new();
    (&fake.ends.lock().unwrap()[0]).read_to_end(&mut said).unwrap();
    assert_eq!(said, b"X\0\0\0\x04");
}

#[tokio::test]
async fn a_connection_that_is_being_cancelled_comes_back_when_that_is_over_and_is_checked() {
    let (pool, fake) = pool(1, 10);
    let lease = taken(&pool, 0).await.unwrap();
    let identity = Arc::clone(&lease.server.identity);
    identity.cancelling(true);
    identity.cancelling(true);
    lease.give_back(0, 0);
    assert!(pool.idle(0, plain(), 0).is_none());
    let mut waits = Box::pin(taken(&pool, 0));
    assert!(at_once(&mut waits).is_none());
    identity.cancelling(false);
    assert!(at_once(&mut waits).is_none(), "another request is under way");
    answering(&fake, 1, EMPTY);
    identity.cancelling(false);
    assert_eq!(process(&waits.await.unwrap().server), 1);
    assert_eq!(pool.counts().cancelling, 0);
}

#[tokio::test]
async fn severing_wakes_those_who_use_a_connection_and_sends_away_those_who_wait() {
    let (pool, fake) = pool(2, 10);
    let mut lease = taken(&pool, 0).await.unwrap();
    taken(&pool, 0).await.unwrap().give_back(0, 0);
    let idle = pool.idle(0, plain(), 0).unwrap();
    let mut waits = Box::pin(taken(&pool, 0));
    assert!(at_once(&mut waits).is_none());
    let reading = lease.server.stream.read_u8();
    let (read, waited, ()) = tokio::join!(reading, waits, async { pool.sever(false) });
    assert_eq!(read.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert!(matches!(waited, Err(PoolError::Severed { .. })));
    assert!(fake.closed(1) && fake.closed(2));
    drop(idle);
    lease.give_back(0, 0);
    assert_eq!((pool.counts().idle, pool.counts().active), (0, 0), "it is not used again");
}

#[tokio::test]
async fn where_only_the_role_is_lost_those_who_read_may_finish() {
    let (pool, fake) = pool(4, 10);
    let reader = taken(&pool, 0).await.unwrap();
    let server = taken(&pool, 0).await.unwrap().server;
    let writer = Lease::new(server, Arc::clone(&pool), 0, true);
    // Nobody has said yet what it is for.
    let taken_only = pool.take(0, plain(), 0, Instant::now() + LONG).await.unwrap();
    assert_eq!(taken_only.identity.doing(), Use::Taken);
    pool.sever(true);
    assert_eq!([1, 2, 3].map(|process| fake.closed(process)), [false, true, true]);
    reader.give_back(0, 0);
    assert!(fake.closed(1), "it may have another role's settings: it is not used again");
    drop((writer, taken_only));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_being_opened_when_the_node_was_given_up_is_not_used() {
    let (pool, fake) = pool(1, 10);
    fake.delay.store(100, Ordering::SeqCst);
    let mut waits = Box::pin(taken(&pool, 0));
    assert!(at_once(&mut waits).is_none());
    settle().await;
    pool.sever(false);
    assert!(matches!(waits.await, Err(PoolError::Severed { .. })));
    let lease = taken(&pool, 0).await.unwrap();
    assert_eq!((process(&lease.server), fake.closed(1)), (2, true));
}

#[tokio::test]
async fn a_smaller_pool_closes_what_is_too_much() {
    let (pool, fake) = pool(3, 10);
    let leases = tokio::join!(taken(&pool, 0), taken(&pool, 0), taken(&pool, 0));
    let (first, second, third) = (leases.0.unwrap(), leases.1.unwrap(), leases.2.unwrap());
    first.give_back(0, 0);
    pool.change(|state, _| state.limits.size = 1);
    assert!(!fake.closed(1));
    pool.sweep(0);
    assert!(fake.closed(1));
    second.give_back(0, 0);
    third.give_back(0, 0);
    assert_eq!([2, 3].map(|process| fake.closed(process)), [true, false]);
}

#[tokio::test]
async fn the_sweep_closes_what_is_idle_for_long_or_closed_by_the_server() {
    let (pool, fake) = pool(3, 10);
    let leases = tokio::join!(taken(&pool, 0), taken(&pool, 0), taken(&pool, 0));
    let (first, second, third) = (leases.0.unwrap(), leases.1.unwrap(), leases.2.unwrap());
    let order = [&first, &second, &third].map(|lease| process(&lease.server));
    first.give_back(0, 1);
    second.give_back(0, 100_000);
    third.give_back(0, 100_000);
    fake.breaks(order[1]);
    settle().await;
    pool.sweep(600_001);
    assert_eq!(order.map(|process| fake.closed(process)), [true, true, false]);
    assert_eq!(pool.counts().idle, 1);
}
