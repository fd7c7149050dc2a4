//! Pools on real servers.

use std::future::poll_fn;

use herdsman_node::raw::Credential;
use herdsman_sandbox::{Sandbox, on_each_version};
use tokio::io::AsyncWriteExt;

use super::super::connect::Dial;
use super::super::{Pools, TalkError};
use super::*;
use crate::herd::Seat;

/// Pools of `app` on a sandbox's nodes, and the first node's.
fn pools_on(sandbox: &Sandbox, size: usize) -> (Pools, Arc<Pool>) {
    let seats: Arc<[Seat]> = sandbox
        .node_names()
        .iter()
        .map(|name| {
            let keys = sandbox.conninfo(name, "herdsman").unwrap();
            let conninfo = Arc::new(Conninfo::from_pairs(keys).unwrap());
            Seat { name: name.parse().unwrap(), conninfo }
        })
        .collect();
    let pools = Pools::with_connector(Arc::new(Dial::new(move || Arc::clone(&seats))));
    let set = pools.get_or_create("shop", "app", app(sandbox, size)).unwrap();
    let pool = set.pool(0);
    (pools, pool)
}

fn app(sandbox: &Sandbox, size: usize) -> Rules {
    let password = sandbox.credentials().password("app").unwrap();
    let credential = Credential::Password(password.into());
    let login = ServerLogin { user: "app".to_owned(), credential };
    Rules { login, ..rules(size, 10) }
}

async fn one(version: u32) -> Sandbox {
    Sandbox::builder().pg_version(version).start().await.unwrap()
}

async fn as_superuser(sandbox: &Sandbox, sql: &str) -> i64 {
    let rows = sandbox.sql("n1", "postgres").await.unwrap().simple_query(sql).await.unwrap();
    let value = rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    value.and_then(|value| value.parse().ok()).unwrap_or_default()
}

async fn says(server: &mut Server, sql: &str) -> String {
    server.query(sql).await.unwrap().remove(0).unwrap()
}

/// Waits until the server has so many connections of `app`.
async fn until_connections(sandbox: &Sandbox, expected: i64) {
    const COUNT: &str = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'";
    let wait = async {
        while as_superuser(sandbox, COUNT).await != expected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("the number never came");
}

on_each_version! {
    async fn a_new_connection_is_the_right_login_and_knows_how_the_server_commits(version: u32) {
        let sandbox = Sandbox::builder().pg_version(version).standbys(1).start().await.unwrap();
        let (pools, pool) = pools_on(&sandbox, 2);
        let mut lease = taken(&pool, 0).await.unwrap();
        let who = says(&mut lease.server, "SELECT current_user || ' ' || current_database()").await;
        assert_eq!(who, "app postgres");
        assert!(!lease.server.commits_early && !lease.server.in_recovery);
        let reports = |name: &str| lease.server.reported.iter().any(|(known, _)| **known == *name);
        assert!(reports("server_version") && reports("DateStyle") && !lease.server.dirty);
        let pid = lease.server.identity.backend.unwrap().0.to_string();
        assert_eq!(says(&mut lease.server, "SELECT pg_backend_pid()").await, pid);
        as_superuser(&sandbox, "ALTER ROLE app SET synchronous_commit = off").await;
        assert!(taken(&pool, 0).await.unwrap().server.commits_early);
        let standby = pools.all()[0].pool(1);
        assert!(taken(&standby, 0).await.unwrap().server.in_recovery);
    }

    async fn settings_are_made_and_unmade_and_a_refused_one_changes_nothing(version: u32) {
        let sandbox = one(version).await;
        let (_pools, pool) = pools_on(&sandbox, 1);
        let server = &mut taken(&pool, 0).await.unwrap().server;
        let zone = |server: &Server| {
            let zone = server.reported.iter().find(|(name, _)| **name == *"TimeZone");
            zone.unwrap().1.to_string()
        };
        let before = zone(server);
        let wanted = plain().with("timezone", Some("'Asia/Tokyo'"));
        server.apply(&wanted).await.unwrap();
        assert_eq!((zone(server).as_str(), server.settings.id), ("Asia/Tokyo", wanted.id));
        assert_eq!(says(server, "SHOW timezone").await, "Asia/Tokyo");
        let refused = wanted.with("work_mem", Some("'much'"));
        let error = server.apply(&refused).await.unwrap_err();
        let TalkError::Refused(refusal) = &error else { panic!("{error}") };
        assert_eq!(refusal.message.code, "22023");
        assert!(error.to_string().contains("work_mem"), "{error}");
        assert_eq!((server.settings.id, server.dirty), (wanted.id, false));
        server.apply(plain()).await.unwrap();
        assert_eq!(zone(server), before);
    }

    async fn a_connection_that_the_server_ended_is_replaced(version: u32) {
        let sandbox = one(version).await;
        let (_pools, pool) = pools_on(&sandbox, 1);
        let lease = taken(&pool, 0).await.unwrap();
        let id = lease.server.identity.id;
        lease.give_back(0, 0);
        as_superuser(&sandbox, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'").await;
        until_connections(&sandbox, 0).await;
        let mut server = pool.take(0, plain(), 40_000, Instant::now() + LONG).await.unwrap();
        assert_ne!(server.identity.id, id);
        assert_eq!(says(&mut server, "SELECT 1").await, "1");
        assert_eq!(pool.counts().active, 1);
    }

    async fn a_parameter_changed_on_the_server_is_noted_by_the_check(version: u32) {
        let sandbox = one(version).await;
        let (_pools, pool) = pools_on(&sandbox, 1);
        taken(&pool, 0).await.unwrap().give_back(0, 0);
        as_superuser(&sandbox, "ALTER SYSTEM SET timezone = 'Africa/Nairobi'").await;
        as_superuser(&sandbox, "SELECT pg_reload_conf()").await;
        let noted = async {
            loop {
                // Unused for long, so it is asked; that is when a server says so.
                let take = pool.take(0, plain(), 40_000, Instant::now() + LONG);
                let server = take.await.unwrap();
                if server.reported.iter().any(|(_, value)| **value == *"Africa/Nairobi") {
                    return;
                }
                Lease::new(server, Arc::clone(&pool), 0, false).give_back(0, 0);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), noted).await.unwrap();
        assert_eq!(pool.counts().active, 0);
    }

    async fn a_session_s_remains_are_thrown_away(version: u32) {
        let sandbox = one(version).await;
        let (_pools, pool) = pools_on(&sandbox, 1);
        let mut lease = taken(&pool, 0).await.unwrap();
        let pid = lease.server.identity.backend;
        lease.server.query("CREATE TEMP TABLE left_over (); SET work_mem = '1MB'; LISTEN news").await.unwrap();
        lease.reset_and_give_back(0, 0);
        let mut lease = taken(&pool, 0).await.unwrap();
        assert_eq!(lease.server.identity.backend, pid);
        let asked = "SELECT (to_regclass('left_over') IS NULL) || ' ' || current_setting('work_mem')
            || ' ' || (SELECT count(*) FROM pg_listening_channels())";
        assert_eq!(says(&mut lease.server, asked).await, "true 4MB 0");
    }

    async fn severing_wakes_one_who_waits_for_a_frozen_server(version: u32) {
        let sandbox = one(version).await;
        let (pools, pool) = pools_on(&sandbox, 1);
        let server = taken(&pool, 0).await.unwrap().server;
        let mut lease = Lease::new(server, Arc::clone(&pool), 0, true);
        sandbox.freeze("n1").await.unwrap();
        let (outcome, ()) = tokio::join!(lease.server.query("SELECT 1"), async {
            settle().await;
            pools.sever(0, true);
        });
        assert!(matches!(outcome, Err(TalkError::Broken(_))));
        assert!(lease.server.dirty);
        sandbox.thaw("n1").await.unwrap();
        drop(lease);
        until_connections(&sandbox, 0).await;
    }

    async fn connections_with_tls_go_from_worker_to_worker_and_are_watched(version: u32) {
        let sandbox = Sandbox::builder().pg_version(version).tls(true).start().await.unwrap();
        let (_pools, pool) = pools_on(&sandbox, 1);
        let lease = taken(&pool, 0).await.unwrap();
        assert!(matches!(lease.server.stream, RawStream::Tls(_)));
        lease.give_back(0, 0);
        let mut server = pool.idle(1, plain(), 0).unwrap();
        assert_eq!(says(&mut server, "SELECT 1").await, "1");
        Lease::new(server, Arc::clone(&pool), 0, false).give_back(1, 0);
        as_superuser(&sandbox, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'").await;
        until_connections(&sandbox, 0).await;
        let gone = poll_fn(|cx| match pool.idle(1, plain(), 0) {
            None => std::task::Poll::Ready(()),
            Some(server) => {
                Lease::new(server, Arc::clone(&pool), 0, false).give_back(1, 0);
                cx.waker().wake_by_ref();
                std::task::Poll::Pending
            }
        });
        tokio::time::timeout(Duration::from_secs(20), gone).await.expect("it is noticed");
    }

    async fn a_login_that_is_refused_is_told_without_the_password(version: u32) {
        let sandbox = one(version).await;
        let (pools, _pool) = pools_on(&sandbox, 1);
        let login = ServerLogin {
            user: "app".to_owned(),
            credential: Credential::Password("hunter2".into()),
        };
        let set = pools.get_or_create("shop", "other", Rules { login, ..rules(1, 1) }).unwrap();
        let error = taken(&set.pool(0), 0).await.unwrap_err();
        let log = error.to_string();
        assert!(log.contains("n1") && log.contains("28P01") && !log.contains("hunter2"), "{log}");
        let problem = crate::wire::Problem::from(error);
        let words = "password authentication failed for user \"app\"";
        assert_eq!((problem.code, &*problem.message), ("28P01", words));
    }

    async fn closed_connections_are_gone_from_the_server(version: u32) {
        let sandbox = one(version).await;
        let (pools, pool) = pools_on(&sandbox, 3);
        let leases = tokio::join!(taken(&pool, 0), taken(&pool, 0), taken(&pool, 0));
        let (first, second, mut third) = (leases.0.unwrap(), leases.1.unwrap(), leases.2.unwrap());
        // Somebody who remembers it does not keep the connection open.
        let _remembered = Arc::clone(&third.server.identity);
        until_connections(&sandbox, 3).await;
        first.give_back(0, 0);
        pools.sweep(600_000);
        until_connections(&sandbox, 2).await;
        drop(second);
        until_connections(&sandbox, 1).await;
        // In the middle of a statement.
        third.server.stream.write_all(b"Q\0\0\0\x17SELECT pg_sleep(1)\0").await.unwrap();
        drop(third);
        until_connections(&sandbox, 0).await;
    }
}
