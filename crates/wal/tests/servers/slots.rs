//! Slots on real servers: what is told about them, and what is in the way of making or reading one.

use std::time::Duration;

use herdsman_node::{Conninfo, Lsn, Tls};
use herdsman_sandbox::{Sandbox, on_each_version};
use herdsman_wal::inspect::oldest_transactions;
use herdsman_wal::slot::{self, CreateOptions, Slot, StartFrom, WalStatus, may_start};
use herdsman_wal::{Session, SlotName, WalError};

/// Long enough for a loaded machine; nothing asserts on time but to end a test that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn sandbox(version: u32) -> Sandbox {
    Sandbox::builder().pg_version(version).start().await.unwrap()
}

pub(crate) async fn session(sandbox: &Sandbox, role: &str) -> Session {
    let info = Conninfo::from_pairs(sandbox.conninfo("n1", role).unwrap()).unwrap();
    Session::connect(&info, &Tls::new(&info).unwrap(), Duration::from_secs(30)).await.unwrap()
}

pub(crate) fn name(name: &str) -> SlotName {
    SlotName::new(name).unwrap()
}

async fn look(session: &Session, name_of_it: &str) -> Slot {
    slot::inspect(session, &name(name_of_it)).await.unwrap().unwrap()
}

fn impatient() -> CreateOptions {
    CreateOptions { limit: Duration::from_secs(1), ..CreateOptions::default() }
}

async fn pid(client: &tokio_postgres::Client) -> i32 {
    client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0)
}

/// The error's text for a slot that cannot be made, with nothing left of it.
async fn not_made(session: &Session) -> String {
    let error = slot::create(session, &name("s"), &impatient()).await.unwrap_err();
    assert!(matches!(error, WalError::TimedOut { .. }), "{error}");
    assert_eq!(slot::list(session).await.unwrap(), vec![], "the server went on without us");
    error.to_string()
}

on_each_version! {
    async fn a_slot_is_made_told_about_advanced_and_dropped(version: u32) {
        let sandbox = sandbox(version).await;
        let session = session(&sandbox, "postgres").await;
        assert_eq!(slot::inspect(&session, &name("s")).await.unwrap(), None);

        let options = CreateOptions { two_phase: true, ..CreateOptions::default() };
        let created = slot::create(&session, &name("s"), &options).await.unwrap();
        let found = look(&session, "s").await;
        assert_eq!(found.confirmed, Some(created.consistent_point));
        assert_eq!(found.plugin.as_deref(), Some("pgoutput"));
        assert_eq!((found.database.as_deref(), found.database_is_ours), (Some("postgres"), true));
        assert!(found.two_phase && !found.temporary && !found.on_standby);
        assert_eq!(found.wal_status, Some(WalStatus::Reserved));
        assert_eq!(found.lost(), None);
        let from = may_start(None, &found, session.endpoint()).unwrap();
        assert_eq!(from, StartFrom::Slot(created.consistent_point));

        let client = session.client();
        client.batch_execute("create table t (id int primary key); insert into t values (1)").await.unwrap();
        let found = look(&session, "s").await;
        assert!(found.waiting().unwrap() > 0 && found.retained() >= found.waiting(), "{found:?}");
        let at = slot::advance(&session, &name("s"), found.wal_position).await.unwrap();
        assert_eq!(at, found.wal_position);
        // What was skipped is missing to somebody who had only seen the start.
        let found = look(&session, "s").await;
        let error = may_start(Some(created.consistent_point), &found, "n1").unwrap_err();
        assert!(matches!(error, WalError::SlotAhead { slot_at, .. } if slot_at == at), "{error}");

        slot::drop(&session, &name("s")).await.unwrap();
        assert_eq!(slot::list(&session).await.unwrap(), vec![]);
        for error in [
            slot::drop(&session, &name("s")).await.unwrap_err(),
            slot::advance(&session, &name("s"), Lsn(1)).await.unwrap_err(),
        ] {
            assert!(matches!(error, WalError::SlotMissing { .. }), "{error}");
        }
    }

    async fn a_slot_that_has_to_wait_names_the_transaction_in_the_way_and_leaves_nothing_behind(version: u32) {
        let sandbox = sandbox(version).await;
        let session = session(&sandbox, "postgres").await;
        let writer = sandbox.sql("n1", "app").await.unwrap();
        writer.batch_execute("create table t (id int); begin; insert into t values (1)").await.unwrap();
        let text = not_made(&session).await;
        let named = format!("PID {} (user app, database postgres, open for ", pid(&writer).await);
        assert!(text.contains(&named) && text.contains("idle in transaction"), "{text}");

        // A role that may not look into other sessions still learns which one it is.
        session.client().batch_execute("alter role plain replication").await.unwrap();
        let plain = self::session(&sandbox, "plain").await;
        let text = not_made(&plain).await;
        assert!(text.contains(&format!("PID {} (user app", pid(&writer).await)), "{text}");

        writer.batch_execute("commit").await.unwrap();
        slot::create(&plain, &name("s"), &CreateOptions::default()).await.unwrap();
        assert_eq!(oldest_transactions(&session).await.unwrap(), vec![]);
    }

    async fn a_prepared_transaction_in_the_way_is_named_too(version: u32) {
        let builder = Sandbox::builder().pg_version(version).setting("max_prepared_transactions", "5");
        let sandbox = builder.start().await.unwrap();
        let session = session(&sandbox, "postgres").await;
        let writer = sandbox.sql("n1", "app").await.unwrap();
        writer.batch_execute("create table t (id int); begin; insert into t values (1); prepare transaction 'order-7'").await.unwrap();
        let text = not_made(&session).await;
        assert!(text.contains("the prepared transaction `order-7` (user app, database postgres"), "{text}");
    }

    async fn a_slot_in_use_names_the_process_that_reads_it(version: u32) {
        let sandbox = sandbox(version).await;
        let session = session(&sandbox, "postgres").await;
        let reader = self::session(&sandbox, "replicator").await;
        let options = CreateOptions { temporary: true, ..CreateOptions::default() };
        slot::create(&reader, &name("s"), &options).await.unwrap();
        let reader_pid = u32::try_from(pid(reader.client()).await).unwrap();

        for error in [
            may_start(None, &look(&session, "s").await, "n1").unwrap_err(),
            slot::drop(&session, &name("s")).await.unwrap_err(),
            slot::advance(&session, &name("s"), Lsn(u64::MAX >> 8)).await.unwrap_err(),
        ] {
            assert!(matches!(error, WalError::SlotActive { pid, .. } if pid == reader_pid), "{error}");
            assert!(error.is_transient());
        }
    }

    async fn a_slot_of_another_plugin_or_database_is_not_read(version: u32) {
        let sandbox = sandbox(version).await;
        let session = session(&sandbox, "postgres").await;
        let client = session.client();
        client.batch_execute("select pg_create_logical_replication_slot('decoder', 'test_decoding'), pg_create_physical_replication_slot('standby')").await.unwrap();
        client.batch_execute("create database other").await.unwrap();
        let mut pairs = sandbox.conninfo("n1", "postgres").unwrap();
        pairs.insert("dbname".to_owned(), "other".to_owned());
        let info = Conninfo::from_pairs(pairs).unwrap();
        let other = Session::connect(&info, &Tls::new(&info).unwrap(), PATIENCE).await.unwrap();
        slot::create(&other, &name("elsewhere"), &CreateOptions::default()).await.unwrap();

        for (slot, says) in [
            ("decoder", "plugin test_decoding, not pgoutput"),
            ("standby", "physical slot"),
            ("elsewhere", "database `other`"),
        ] {
            let text = may_start(None, &look(&session, slot).await, "n1").unwrap_err().to_string();
            assert!(text.contains(says), "{text}");
        }
        assert_eq!(slot::list(&session).await.unwrap().len(), 3);
    }

    async fn a_failover_slot_is_made_where_the_version_has_them_and_told_where_not(version: u32) {
        let sandbox = sandbox(version).await;
        let session = session(&sandbox, "postgres").await;
        let options = CreateOptions { failover: true, ..CreateOptions::default() };
        let created = slot::create(&session, &name("s"), &options).await.unwrap();
        assert_eq!(created.failover, version >= 17);
        assert_eq!(look(&session, "s").await.failover, version >= 17);
    }

    async fn a_slot_whose_log_was_removed_is_lost_and_says_so(version: u32) {
        let small = [("max_slot_wal_keep_size", "1MB"), ("wal_keep_size", "0"), ("max_wal_size", "32MB"), ("min_wal_size", "32MB")];
        let builder = small.iter().fold(Sandbox::builder().pg_version(version), |b, (k, v)| b.setting(*k, *v));
        let sandbox = builder.start().await.unwrap();
        let session = session(&sandbox, "postgres").await;
        let created = slot::create(&session, &name("s"), &CreateOptions::default()).await.unwrap();
        assert!(look(&session, "s").await.safe_wal_size.is_some());

        let client = session.client();
        client.batch_execute("create table t (id int)").await.unwrap();
        let losing = async {
            while look(&session, "s").await.lost().is_none() {
                for statement in ["insert into t values (1)", "select pg_switch_wal()", "checkpoint"] {
                    client.batch_execute(statement).await.unwrap();
                }
            }
        };
        tokio::time::timeout(PATIENCE, losing).await.unwrap();
        let lost = look(&session, "s").await;
        assert_eq!(lost.retained(), None);
        let error = may_start(Some(created.consistent_point), &lost, session.endpoint()).unwrap_err();
        assert!(matches!(error, WalError::SlotLost { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("max_slot_wal_keep_size") && text.contains(&created.consistent_point.to_string()), "{text}");
        slot::drop(&session, &name("s")).await.unwrap();
    }

    async fn a_role_that_may_not_replicate_is_told_what_it_lacks(version: u32) {
        let sandbox = sandbox(version).await;
        let session = session(&sandbox, "plain").await;
        let error = slot::create(&session, &name("s"), &CreateOptions::default()).await.unwrap_err();
        assert!(error.to_string().contains("ALTER ROLE"), "{error}");
        let facts = herdsman_wal::inspect::inspect(&session).await.unwrap();
        assert!(!facts.may_replicate() && !facts.superuser && facts.may_emit, "{facts:?}");
        assert_eq!((facts.major(), facts.wal_level.as_str(), facts.wal_bytes), (version, "logical", None));
        assert_eq!(facts.max_slot_wal_keep_size, Some(256 << 20));
        let replicator = self::session(&sandbox, "replicator").await;
        assert!(herdsman_wal::inspect::inspect(&replicator).await.unwrap().may_replicate());
    }
}
