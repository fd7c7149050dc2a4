//! Slots, the queue, and attempts that fail.

use super::*;

#[tokio::test(start_paused = true)]
async fn no_more_connections_are_opened_than_the_pool_may_have() {
    let (pool, fake) = pool(3, 100);
    let mut waiting: Vec<_> = (0..10).map(|_| Box::pin(taken(&pool, 0))).collect();
    for future in &mut waiting {
        assert!(at_once(future).is_none());
    }
    settle().await;
    assert_eq!((fake.opened(), pool.counts().waiting), (3, 7));
    let mut leases = Vec::new();
    for future in &mut waiting[..3] {
        leases.push(future.await.unwrap());
    }
    for future in waiting.drain(..).skip(3) {
        leases.pop().unwrap().give_back(0, 0);
        leases.push(future.await.unwrap());
    }
    assert_eq!(fake.opened(), 3, "the ones there were went round");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses() {
    let (pool, _fake) = pool(1, 1);
    let lease = taken(&pool, 0).await.unwrap();
    let mut waits = Box::pin(taken(&pool, 0));
    assert!(at_once(&mut waits).is_none());
    let refused = taken(&pool, 0).await.unwrap_err();
    assert!(matches!(refused, PoolError::QueueFull { waiting: 1, .. }), "{refused}");
    lease.give_back(0, 0);
    waits.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_queue_of_none_still_lets_free_slots_be_used() {
    let (pool, _fake) = pool(2, 0);
    let (first, second) = tokio::join!(taken(&pool, 0), taken(&pool, 0));
    let _both = (first.unwrap(), second.unwrap());
    assert!(matches!(taken(&pool, 0).await, Err(PoolError::QueueFull { .. })));
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_at_the_deadline() {
    let (pool, _fake) = pool(1, 1);
    let _lease = taken(&pool, 0).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(3);
    let error = pool.take(0, plain(), 0, deadline).await.unwrap_err();
    assert!(matches!(error, PoolError::TimedOut { failure: None, .. }), "{error}");
    assert_eq!(error.to_string(), "no connection to node `n1` came free within 3s");
    assert_eq!((Instant::now(), pool.counts().waiting), (deadline, 0));
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_are_told_why_nothing_can_be_opened() {
    let (pool, fake) = pool(2, 10);
    fake.down.store(true, Ordering::SeqCst);
    fake.delay.store(5, Ordering::SeqCst);
    let outcome = tokio::join!(taken(&pool, 0), taken(&pool, 1), taken(&pool, 0));
    for outcome in [outcome.0, outcome.1, outcome.2] {
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("node `n1`") && error.contains("connection refused"), "{error}");
    }
    assert_eq!(pool.counts(), super::super::Counts::default(), "no slot was lost");
}

#[tokio::test(start_paused = true)]
async fn attempts_are_made_ever_more_seldom_and_one_that_works_ends_that() {
    let (pool, fake) = pool(5, 1000);
    fake.down.store(true, Ordering::SeqCst);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        taken(&pool, 0).await.unwrap_err();
        tokio::time::advance(Duration::from_millis(10)).await;
    }
    // At most every 50 ms, then 100, 200, 400, 800; then every one to two seconds.
    let attempts = fake.attempts();
    assert!((10..=26).contains(&attempts), "{attempts} attempts");
    fake.down.store(false, Ordering::SeqCst);
    tokio::time::advance(Duration::from_secs(2)).await;
    let leases = tokio::join!(taken(&pool, 0), taken(&pool, 0), taken(&pool, 0));
    let _three = (leases.0.unwrap(), leases.1.unwrap(), leases.2.unwrap());
}

#[tokio::test(start_paused = true)]
async fn while_others_have_connections_a_failed_attempt_is_repeated_for_those_who_wait() {
    let (pool, fake) = pool(2, 10);
    let _held = taken(&pool, 0).await.unwrap();
    fake.down.store(true, Ordering::SeqCst);
    let mut waits = Box::pin(taken(&pool, 0));
    assert!(at_once(&mut waits).is_none());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(fake.attempts() > 2 && at_once(&mut waits).is_none(), "{}", fake.attempts());
    fake.down.store(false, Ordering::SeqCst);
    assert_eq!(process(&waits.await.unwrap().server), 2);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_tells_why_no_other_was_opened() {
    let (pool, fake) = pool(2, 10);
    let _held = taken(&pool, 0).await.unwrap();
    fake.down.store(true, Ordering::SeqCst);
    let deadline = Instant::now() + Duration::from_secs(3);
    let error = pool.take(0, plain(), 0, deadline).await.unwrap_err();
    let PoolError::TimedOut { failure: Some(failure), .. } = error else { panic!("{error}") };
    assert!(failure.to_string().contains("connection refused"));
}

#[tokio::test(start_paused = true)]
async fn one_who_leaves_while_a_connection_is_opened_leaves_it_to_the_next() {
    let (pool, fake) = pool(1, 10);
    fake.delay.store(100, Ordering::SeqCst);
    let mut leaves = Box::pin(taken(&pool, 0));
    let mut stays = Box::pin(taken(&pool, 1));
    assert!(at_once(&mut leaves).is_none() && at_once(&mut stays).is_none());
    drop(leaves);
    assert_eq!(process(&stays.await.unwrap().server), 1);
    assert_eq!(fake.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_who_leaves_with_a_connection_under_way_to_it_leaves_it_to_the_next() {
    let (pool, _fake) = pool(1, 10);
    let lease = taken(&pool, 0).await.unwrap();
    let mut leaves = Box::pin(taken(&pool, 0));
    let mut stays = Box::pin(taken(&pool, 1));
    assert!(at_once(&mut leaves).is_none() && at_once(&mut stays).is_none());
    lease.give_back(0, 0);
    assert_eq!(pool.counts().waiting, 1, "the first has been given it and does not know yet");
    drop(leaves);
    let lease = at_once(&mut stays).expect("it was handed on at once").unwrap();
    assert_eq!(process(&lease.server), 1);
    drop((stays, lease));
    assert_eq!(pool.counts().active, 0);
}

#[tokio::test(start_paused = true)]
async fn a_closed_connection_leaves_its_slot_to_one_who_waits() {
    let (pool, fake) = pool(1, 10);
    let lease = taken(&pool, 0).await.unwrap();
    let mut waits = Box::pin(taken(&pool, 0));
    assert!(at_once(&mut waits).is_none());
    drop(lease);
    assert_eq!(process(&waits.await.unwrap().server), 2);
    assert!(fake.closed(1));
}

#[tokio::test(start_paused = true)]
async fn newcomers_do_not_overtake_those_who_wait() {
    let (pool, _fake) = pool(1, 10);
    let lease = taken(&pool, 0).await.unwrap();
    let mut waits = Box::pin(taken(&pool, 0));
    assert!(at_once(&mut waits).is_none());
    lease.give_back(0, 0);
    assert!(pool.idle(0, plain(), 0).is_none());
    waits.await.unwrap().give_back(0, 0);
    assert!(pool.idle(0, plain(), 0).is_some());
}

#[test]
fn a_runtime_that_ends_leaves_no_slot_behind_and_others_are_served() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (ends, stays) = (runtime(), runtime());
    let (pool, fake) = pool(1, 10);
    fake.delay.store(3_600_000, Ordering::SeqCst);
    let opens = Arc::clone(&pool);
    ends.spawn(async move { taken(&opens, 0).await });
    ends.block_on(settle());
    assert_eq!((pool.counts().opening, pool.counts().waiting), (1, 1));
    fake.delay.store(0, Ordering::SeqCst);
    stays.block_on(async {
        let mut waits = Box::pin(taken(&pool, 1));
        assert!(at_once(&mut waits).is_none());
        std::thread::spawn(move || drop(ends)).join().unwrap();
        assert_eq!((pool.counts().opening, pool.counts().waiting), (0, 1));
        pool.sweep(0);
        waits.await.unwrap();
    });
}
