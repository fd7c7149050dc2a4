//! Diagnoses of real set-ups: a sound one, and broken ones, each with the fix that mends it.

use std::time::Duration;

use herdsman_node::{Conninfo, Tls};
use herdsman_sandbox::{Sandbox, on_each_version};
use herdsman_stream::StreamConfig;
use herdsman_stream::diagnose::{Level, Report, Wanted, diagnose};
use herdsman_wal::publication::{PublicationSpec, TableSpec, prepare};
use herdsman_wal::slot::CreateOptions;
use herdsman_wal::{PublicationName, Session, SlotName};

const LIMIT: Duration = Duration::from_secs(30);

fn conninfo(sandbox: &Sandbox, role: &str) -> Conninfo {
    Conninfo::from_pairs(sandbox.conninfo("n1", role).unwrap()).unwrap()
}

fn config() -> StreamConfig {
    StreamConfig { create: false, failover: false, ..StreamConfig::default() }
}

async fn look(sandbox: &Sandbox, role: &str, config: &StreamConfig) -> Report {
    let info = conninfo(sandbox, role);
    let wanted = Wanted::of(config, None).unwrap();
    diagnose(&info, &Tls::new(&info).unwrap(), &wanted, LIMIT).await
}

async fn execute(sandbox: &Sandbox, sql: &str) {
    sandbox.sql("n1", "postgres").await.unwrap().batch_execute(sql).await.unwrap();
}

async fn make(sandbox: &Sandbox, tables: &[&str]) {
    let info = conninfo(sandbox, "postgres");
    let mut session = Session::connect(&info, &Tls::new(&info).unwrap(), LIMIT).await.unwrap();
    let tables = tables.iter().map(|table| TableSpec::whole("public", table)).collect();
    let spec = PublicationSpec::of(PublicationName::new("herdsman").unwrap(), tables);
    let slot = SlotName::new("herdsman").unwrap();
    prepare(&mut session, &spec, &slot, &CreateOptions::default()).await.unwrap();
}

/// The finding on a subject, as it reads.
#[track_caller]
fn on(report: &Report, subject: &str) -> String {
    let found = report.findings.iter().filter(|finding| finding.subject == subject);
    let worst = found.max_by_key(|finding| finding.level);
    worst.unwrap_or_else(|| panic!("nothing on {subject}: {report}")).to_string()
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

on_each_version! {
    async fn a_sound_set_up_has_nothing_that_fails_and_is_not_read_by_looking_at_it(version: u32) {
        let sandbox = Sandbox::builder().pg_version(version).start().await.unwrap();
        execute(&sandbox, "create table orders (id int primary key)").await;
        make(&sandbox, &["orders"]).await;
        execute(&sandbox, "insert into orders select generate_series(1, 1000)").await;
        let position = "select confirmed_flush_lsn::text from pg_replication_slots";
        let client = sandbox.sql("n1", "postgres").await.unwrap();
        let before: String = client.query_one(position, &[]).await.unwrap().get(0);

        let report = look(&sandbox, "postgres", &config()).await;
        assert!(report.level() < Level::Fail, "{report}");
        says(&on(&report, "connection"), &["ok", &format!("PostgreSQL {version}.")]);
        says(&on(&report, "wal_level"), &["logical"]);
        says(&on(&report, "slot"), &["ok", "`herdsman` exists and can be read"]);
        says(&on(&report, "publication"), &["ok", "\"herdsman\" has 1 table"]);
        says(&on(&report, "table public.orders"), &["ok", "primary key (id)"]);
        says(&on(&report, "max_slot_wal_keep_size"), &["ok", "256 MB"]);
        assert!(!on(&report, "waiting").contains(" 0 bytes"), "{report}");

        let after: String = client.query_one(position, &[]).await.unwrap().get(0);
        assert_eq!(before, after);
        let decoded = "select coalesce(sum(total_txns), 0)::bigint from pg_stat_replication_slots";
        assert_eq!(client.query_one(decoded, &[]).await.unwrap().get::<_, i64>(0), 0);
    }

    async fn broken_set_ups_are_told_with_what_mends_them(version: u32) {
        let builder = Sandbox::builder().pg_version(version).setting("max_slot_wal_keep_size", "-1");
        let sandbox = builder.start().await.unwrap();
        execute(&sandbox, "create table orders (id int primary key); create table events (id int)").await;

        // Nothing is there, and a role that may do nothing.
        let report = look(&sandbox, "plain", &config()).await;
        says(&on(&report, "role"), &["FAIL", "ALTER ROLE \"plain\" REPLICATION"]);
        says(&on(&report, "publication"), &["FAIL", "CREATE PUBLICATION \"herdsman\""]);
        says(&on(&report, "slot"), &["FAIL", "there is no slot `herdsman`"]);
        says(&on(&report, "max_slot_wal_keep_size"), &["warn", "max_slot_wal_keep_size = '4GB'"]);
        says(&on(&report, "table public.events"), &["FAIL", "ALTER TABLE public.events REPLICA IDENTITY FULL"]);

        // The slot first and the publication after it, with a table that has no key.
        execute(&sandbox, "select pg_create_logical_replication_slot('herdsman', 'pgoutput')").await;
        execute(&sandbox, "insert into orders values (1); create publication herdsman for table events").await;
        let report = look(&sandbox, "postgres", &config()).await;
        says(&on(&report, "publication"), &["warn", "after the position that slot `herdsman` stands at", "stream recreate"]);
        says(&on(&report, "table public.events"), &["FAIL", "fail as long as it is published"]);
        let text = on(&report, "tables");
        says(&text, &["FAIL", "ALTER PUBLICATION \"herdsman\" ADD TABLE \"public\".\"orders\""]);

        // Every fix that is named mends what it is named for.
        execute(&sandbox, "alter table public.events replica identity full; alter publication \"herdsman\" add table \"public\".\"orders\"; alter role \"plain\" replication").await;
        execute(&sandbox, "select pg_drop_replication_slot('herdsman')").await;
        make(&sandbox, &["orders", "events"]).await;
        let report = look(&sandbox, "plain", &config()).await;
        assert!(report.level() < Level::Fail, "{report}");
        says(&on(&report, "publication"), &["ok"]);

        // The slot of somebody else's plugin, as the gem made them.
        execute(&sandbox, "select pg_drop_replication_slot('herdsman'), pg_create_logical_replication_slot('herdsman', 'test_decoding')").await;
        let report = look(&sandbox, "postgres", &config()).await;
        says(&on(&report, "slot"), &["FAIL", "test_decoding, not pgoutput"]);
    }

    async fn a_server_without_logical_log_or_without_an_answer_is_told(version: u32) {
        let builder = Sandbox::builder().pg_version(version).setting("wal_level", "replica");
        let sandbox = builder.start().await.unwrap();
        let report = look(&sandbox, "postgres", &config()).await;
        says(&on(&report, "wal_level"), &["FAIL", "replica, expected logical", "restart"]);
        sandbox.stop("n1").await.unwrap();
        let report = look(&sandbox, "postgres", &config()).await;
        assert_eq!(report.findings.len(), 1, "{report}");
        says(&on(&report, "connection"), &["FAIL", "failed to connect to"]);
    }

    async fn a_standby_that_is_waited_for_and_away_is_told(version: u32) {
        if version < 17 {
            return;
        }
        let builder = Sandbox::builder().pg_version(version).setting("synchronized_standby_slots", "gone");
        let sandbox = builder.start().await.unwrap();
        let config = StreamConfig { failover: true, ..config() };
        let report = look(&sandbox, "postgres", &config).await;
        says(&on(&report, "synchronized_standby_slots"), &["FAIL", "slot `gone` does not exist"]);
    }
}
