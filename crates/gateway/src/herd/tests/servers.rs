//! The questions that the herd asks, on real servers.

use herdsman_sandbox::Sandbox;
use herdsman_watch::{AvailabilityConfig, Setup, WatchConfig, Watcher};
use tokio_postgres::error::SqlState;

use super::*;
use crate::herd::{DEADLINE_SQL, FOLLOWERS_SQL, GuardValue};

struct Real {
    cluster: Sandbox,
    herd: Arc<Herd>,
    _watcher: Watcher,
    _running: tokio_util::sync::DropGuard,
}

impl Real {
    async fn new(version: u32, standbys: usize, options: Options) -> Self {
        let cluster =
            Sandbox::builder().pg_version(version).standbys(standbys).start().await.unwrap();
        let mut watch = WatchConfig::default();
        let mut nodes = BTreeMap::new();
        for node in cluster.node_names() {
            let keys = cluster.conninfo(&node, "herdsman").unwrap();
            let text: Vec<String> =
                keys.iter().map(|(key, value)| format!("{key}='{value}'")).collect();
            nodes.insert(name(&node), text.join(" ").parse::<Conninfo>().unwrap());
            let addresses = cluster.replication_addresses(&node).unwrap();
            watch.replication_addresses.insert(name(&node), addresses);
        }
        let availability = AvailabilityConfig::default();
        let setup = Setup { nodes: nodes.clone(), watch, availability };
        let watcher = Watcher::start(setup).unwrap();
        let herd = Herd::new(&nodes, watcher.watch(), options);
        let stop = CancellationToken::new();
        herd.start(Arc::new(Cuts::default()), &stop);
        let real = Self { cluster, herd, _watcher: watcher, _running: stop.drop_guard() };
        until(|| place(real.choose(Want::Write, &mut Causal::default())) == Some((0, true))).await;
        until(|| real.herd.topology().readers().count() == standbys).await;
        real
    }

    fn choose(&self, want: Want, causal: &mut Causal) -> Choice {
        let load = |_| Load::default();
        self.herd.choose(want, &Target::Split, None, causal, &[], load)
    }

    async fn guarded(&self, guard: &GuardValue) -> Result<(), SqlState> {
        let client = self.cluster.sql("n1", "app").await.unwrap();
        client.batch_execute("SET search_path = nowhere").await.unwrap();
        let outcome = match guard {
            GuardValue::Deadline(at) => client.query_one(DEADLINE_SQL, &[at]).await,
            GuardValue::Followers { until, pids } => {
                let value: Vec<i64> =
                    [*until].into_iter().chain(pids.iter().copied().map(i64::from)).collect();
                client.query_one(FOLLOWERS_SQL, &[&value]).await
            }
        };
        match outcome {
            Ok(row) => {
                assert_eq!(row.get::<_, i32>(0), 1);
                Ok(())
            }
            Err(error) => Err(error.code().expect("the server says no").clone()),
        }
    }
}

herdsman_sandbox::on_each_version! {
    async fn a_deadline_lets_writes_pass_until_it_is_over(version: u32) {
        let options = Options { write_guard: WriteGuard::Deadline, ..OPTIONS };
        let real = Real::new(version, 0, options).await;
        until(|| real.herd.guard(0).is_some()).await;
        let guard = real.herd.guard(0).map(|guard| guard.value.clone()).unwrap();
        assert_eq!(real.guarded(&guard).await, Ok(()));
        let GuardValue::Deadline(at) = guard else { panic!("{guard:?}") };
        // Two leases earlier is before the look that it came from.
        let over = GuardValue::Deadline(at - 2_000_000);
        assert_eq!(real.guarded(&over).await, Err(SqlState::DIVISION_BY_ZERO));
        // It moves on by itself.
        until(|| matches!(real.herd.guard(0).map(|guard| guard.value.clone()), Some(GuardValue::Deadline(later)) if later > at)).await;
        assert!(real.herd.guard(1).is_none(), "of the primary only");
        // A primary that says nothing any more is vouched for no longer than the lease.
        real.cluster.freeze("n1").await.unwrap();
        until(|| real.herd.guard(0).is_none()).await;
    }

    async fn the_followers_are_those_that_stream_and_are_lowered_by_a_look_at_all(version: u32) {
        let options = Options { write_guard: WriteGuard::Followers, ..OPTIONS };
        let real = Real::new(version, 2, options).await;
        let count = |herd: &Herd| match herd.guard(0).map(|guard| guard.value.clone()) {
            Some(GuardValue::Followers { pids, .. }) => Some(pids.len()),
            _ => None,
        };
        until(|| count(&real.herd) == Some(2)).await;
        let guard = real.herd.guard(0).map(|guard| guard.value.clone()).unwrap();
        assert_eq!(real.guarded(&guard).await, Ok(()));
        let GuardValue::Followers { until: at, pids } = guard.clone() else { panic!("{guard:?}") };
        let fewer = GuardValue::Followers { until: at, pids: pids[..1].to_vec() };
        assert_eq!(real.guarded(&fewer).await, Err(SqlState::DIVISION_BY_ZERO));
        let none = GuardValue::Followers { until: at, pids: Vec::new() };
        assert_eq!(real.guarded(&none).await, Err(SqlState::DIVISION_BY_ZERO));
        let over = GuardValue::Followers { until: at - 2_000_000, pids };
        assert_eq!(real.guarded(&over).await, Err(SqlState::DIVISION_BY_ZERO));
        // A standby that dies leaves the old expectation false, and is then seen to be down.
        real.cluster.kill("n3").await.unwrap();
        until(|| count(&real.herd) == Some(1)).await;
        let after = real.herd.guard(0).map(|guard| guard.value.clone()).unwrap();
        assert_eq!(real.guarded(&after).await, Ok(()));
        assert_eq!(real.guarded(&guard).await, Err(SqlState::DIVISION_BY_ZERO));
    }

    async fn a_reader_is_used_again_once_it_has_what_the_session_wrote(version: u32) {
        let real = Real::new(version, 1, OPTIONS).await;
        let writer = real.cluster.sql("n1", "app").await.unwrap();
        let superuser = real.cluster.sql("n2", "postgres").await.unwrap();
        writer.batch_execute("CREATE TABLE notes (id int)").await.unwrap();
        real.cluster.wait_replayed().await.unwrap();
        superuser.batch_execute("SELECT pg_wal_replay_pause()").await.unwrap();
        let mut causal = Causal::default();
        writer.batch_execute("INSERT INTO notes VALUES (1)").await.unwrap();
        real.herd.wrote(&mut causal, false);
        // Until there is a position, and while the standby has not come so far: the primary.
        until(|| {
            assert_eq!(place(real.choose(Want::Read, &mut causal)), Some((0, false)));
            causal.token.is_some()
        })
        .await;
        for _ in 0..20 {
            assert_eq!(place(real.choose(Want::Read, &mut causal)), Some((0, false)));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        superuser.batch_execute("SELECT pg_wal_replay_resume()").await.unwrap();
        until(|| place(real.choose(Want::Read, &mut causal)) == Some((1, false))).await;
        let reader = real.cluster.sql("n2", "app").await.unwrap();
        let rows = reader.query("SELECT id FROM notes", &[]).await.unwrap();
        assert_eq!(rows.len(), 1);
    }

    async fn an_old_token_after_a_promotion_is_covered_by_the_new_branch_only(version: u32) {
        let real = Real::new(version, 2, OPTIONS).await;
        let writer = real.cluster.sql("n1", "app").await.unwrap();
        writer.batch_execute("CREATE TABLE notes (id int)").await.unwrap();
        let mut causal = Causal::default();
        real.herd.wrote(&mut causal, false);
        until(|| matches!(place(real.choose(Want::Read, &mut causal)), Some((1 | 2, false)))).await;
        let old = causal.token.unwrap();
        assert_eq!(old.timeline, Timeline(1));
        real.cluster.kill("n1").await.unwrap();
        real.cluster.promote("n2").await.unwrap();
        until(|| place(real.choose(Want::Write, &mut Causal::default())) == Some((1, true))).await;
        let writer = real.cluster.sql("n2", "app").await.unwrap();
        writer.batch_execute("INSERT INTO notes VALUES (1)").await.unwrap();
        real.herd.wrote(&mut causal, false);
        // n3 still follows the dead one, and what it has is on the old branch.
        until(|| {
            assert_ne!(place(real.choose(Want::Read, &mut causal)), Some((2, false)));
            causal.token.is_some_and(|token| token.timeline == Timeline(2))
        })
        .await;
        real.cluster.follow("n3", "n2").await.unwrap();
        until(|| place(real.choose(Want::Read, &mut causal)) == Some((2, false))).await;
        let reader = real.cluster.sql("n3", "app").await.unwrap();
        assert_eq!(reader.query("SELECT id FROM notes", &[]).await.unwrap().len(), 1);
    }

    async fn a_groundless_suspicion_is_lifted_by_a_connection_of_our_own(version: u32) {
        // The watcher looks so rarely that it cannot have been the one.
        let real = Real::new(version, 0, OPTIONS).await;
        for _ in 0..5 {
            real.herd.suspect(0);
            assert_eq!(real.choose(Want::Write, &mut Causal::default()), Choice::Wait);
            until(|| place(real.choose(Want::Write, &mut Causal::default())) == Some((0, true))).await;
        }
        // A reason for it keeps it.
        real.cluster.kill("n1").await.unwrap();
        real.herd.suspect(0);
        until(|| real.herd.topology().primary().is_none()).await;
        assert_eq!(real.choose(Want::Write, &mut Causal::default()), Choice::Wait);
    }
}
