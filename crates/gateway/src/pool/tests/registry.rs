//! Pools by database and user, and what operators do with them.

use super::super::{PoolSet, Pools, Reported};
use super::*;
use crate::wire::error::code;

fn pools() -> (Pools, Arc<Fake>) {
    let fake = Arc::new(Fake::default());
    (Pools::with_connector(Arc::clone(&fake) as _), fake)
}

fn set(pools: &Pools, database: &str, user: &str) -> Arc<PoolSet> {
    pools.get_or_create(database, user, rules(2, 10)).unwrap()
}

fn names(pools: &Pools) -> Vec<String> {
    pools.all().iter().map(|set| format!("{}/{}", set.database, set.user)).collect()
}

#[tokio::test]
async fn there_is_one_set_for_a_database_and_user_and_one_pool_in_it_for_a_node() {
    let (pools, _fake) = pools();
    let first = set(&pools, "b", "u");
    assert!(Arc::ptr_eq(&first, &set(&pools, "b", "u")));
    assert!(Arc::ptr_eq(&first.pool(3), &first.pool(3)));
    assert_eq!((&*first.pool(3).name, first.pools().len()), ("n4", 1));
    let _others = (set(&pools, "b", "a"), set(&pools, "a", "u"));
    assert_eq!(names(&pools), ["a/u", "b/a", "b/u"]);
}

#[tokio::test]
async fn pools_that_nobody_uses_are_forgotten() {
    let (pools, _fake) = pools();
    let (used, idle) = (set(&pools, "a", "used"), set(&pools, "a", "idle"));
    drop(set(&pools, "a", "gone"));
    let pool = idle.pool(0);
    taken(&pool, 0).await.unwrap().give_back(0, 0);
    drop((pool, idle));
    pools.sweep(0);
    assert_eq!(names(&pools), ["a/idle", "a/used"]);
    pools.sweep(600_000);
    assert_eq!(names(&pools), ["a/used"]);
    drop(used);
}

#[tokio::test]
async fn a_reload_changes_pools_in_place() {
    let (pools, fake) = pools();
    let (kept, gone) = (set(&pools, "kept", "u"), set(&pools, "gone", "u"));
    let (pool, lost) = (kept.pool(0), gone.pool(0));
    let leases = tokio::join!(taken(&pool, 0), taken(&pool, 0), taken(&lost, 0));
    let (first, second, last) = (leases.0.unwrap(), leases.1.unwrap(), leases.2.unwrap());
    let mut waits = Box::pin(taken(&pool, 0));
    let mut in_vain = Box::pin(taken(&lost, 0));
    assert!(at_once(&mut waits).is_none());
    pools.reload(|set| (&*set.database == "kept").then(|| rules(3, 10)));
    assert_eq!(process(&waits.await.unwrap().server), 4, "there is room for one more");
    assert!(matches!(in_vain.as_mut().await, Err(PoolError::Gone { .. })));
    assert_eq!(names(&pools), ["kept/u"]);
    let process = process(&last.server);
    last.give_back(0, 0);
    assert!(fake.closed(process));
    // Another login than before: nothing of the old one is used again.
    pools.reload(|_| Some(Rules { dbname: "other".to_owned(), ..rules(3, 10) }));
    first.give_back(0, 0);
    drop(second);
    assert_eq!(pool.counts().idle, 0);
}

#[tokio::test(start_paused = true)]
async fn a_paused_database_makes_newcomers_wait_and_others_go_on() {
    let (pools, fake) = pools();
    let before = set(&pools, "a", "before").pool(0);
    let lease = taken(&before, 0).await.unwrap();
    pools.pause(Some("a"));
    let after = set(&pools, "a", "after").pool(0);
    let mut waiting = [Box::pin(taken(&before, 0)), Box::pin(taken(&after, 0))];
    for future in &mut waiting {
        assert!(at_once(future).is_none());
    }
    taken(&set(&pools, "b", "u").pool(0), 0).await.unwrap();
    let come_back = pools.come_back(Some("a"));
    let give_back = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!fake.closed(1));
        lease.give_back(0, 0);
    };
    tokio::join!(come_back, give_back);
    assert!(fake.closed(1) && pools.is_paused(Some("a")) && !pools.is_paused(Some("b")));
    for future in &mut waiting {
        assert!(at_once(future).is_none(), "it is still paused");
    }
    pools.resume(Some("a"));
    for future in waiting {
        future.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn pausing_everything_covers_what_is_made_later_until_everything_is_resumed() {
    let (pools, _fake) = pools();
    pools.pause(None);
    let pool = set(&pools, "a", "u").pool(0);
    let mut waits = Box::pin(taken(&pool, 0));
    assert!(at_once(&mut waits).is_none() && pools.is_paused(None));
    pools.resume(None);
    waits.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn resuming_one_database_while_everything_is_paused_lets_nobody_through() {
    let (pools, _fake) = pools();
    let pool = set(&pools, "a", "u").pool(0);
    pools.pause(Some("a"));
    pools.pause(None);
    let mut waits = Box::pin(taken(&pool, 0));
    assert!(pools.resume(Some("a")), "its own pause is over");
    assert!(!pools.resume(Some("a")), "it had no other");
    settle().await;
    assert!(at_once(&mut waits).is_none() && pools.is_paused(Some("a")));
    assert!(pools.resume(None) && !pools.resume(None));
    waits.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_database_paused_twice_over_is_free_once_everything_is_resumed() {
    let (pools, _fake) = pools();
    let pool = set(&pools, "a", "u").pool(0);
    pools.pause(None);
    pools.pause(Some("a"));
    pools.resume(None);
    assert!(!pools.is_paused(Some("a")));
    taken(&pool, 0).await.unwrap();
}

#[tokio::test]
async fn killing_a_database_ends_its_connections_and_pauses_it() {
    let (pools, fake) = pools();
    let pool = set(&pools, "a", "u").pool(0);
    let other = set(&pools, "b", "u").pool(0);
    let _leases = (taken(&pool, 0).await.unwrap(), taken(&other, 0).await.unwrap());
    pools.kill("a");
    assert_eq!([1, 2].map(|process| fake.closed(process)), [true, false]);
    assert!(pools.is_paused(Some("a")));
}

#[tokio::test]
async fn a_disabled_database_takes_no_new_clients() {
    let (pools, _fake) = pools();
    pools.disable("a");
    let problem = pools.get_or_create("a", "u", rules(1, 1)).unwrap_err();
    assert_eq!(problem.code, code::CANNOT_CONNECT_NOW);
    pools.enable("a");
    assert!(!pools.is_disabled("a"));
    set(&pools, "a", "u");
}

#[tokio::test]
async fn reconnecting_replaces_idle_connections_now_and_others_when_they_come_back() {
    let (pools, fake) = pools();
    let pool = set(&pools, "a", "u").pool(0);
    let leases = tokio::join!(taken(&pool, 0), taken(&pool, 0));
    let (busy, idle) = (leases.0.unwrap(), leases.1.unwrap());
    let order = [&busy, &idle].map(|lease| process(&lease.server));
    idle.give_back(0, 0);
    pools.reconnect(Some("a"));
    assert_eq!(order.map(|process| fake.closed(process)), [false, true]);
    busy.give_back(0, 0);
    assert!(fake.closed(order[0]));
}

#[tokio::test]
async fn only_the_node_that_is_lost_is_severed() {
    let (pools, fake) = pools();
    let set = set(&pools, "a", "u");
    let _leases = (taken(&set.pool(0), 0).await.unwrap(), taken(&set.pool(1), 0).await.unwrap());
    pools.sever(1, false);
    assert_eq!([1, 2].map(|process| fake.closed(process)), [false, true]);
}

#[tokio::test]
async fn welcomes_are_kept_for_the_settings_last_used() {
    let (pools, _fake) = pools();
    let set = set(&pools, "a", "u");
    let reported = |id: u64| Reported::from([("id".into(), id.to_string().into())]);
    for id in 0..256 {
        set.keep_welcome(id, reported(id));
    }
    assert_eq!(set.welcomed(0), Some(reported(0)));
    set.keep_welcome(256, reported(256));
    assert_eq!(set.welcomed(1), None, "it was used longest ago");
    assert_eq!([0, 2, 256].map(|id| set.welcomed(id)), [0, 2, 256].map(|id| Some(reported(id))));
    set.forget_welcomes();
    assert_eq!(set.welcomed(0), None);
}
