//! One healthy set-up, and what is said when one thing about it is not.

use std::time::Duration;

use herdsman_wal::ReplicaIdentity;
use herdsman_wal::publication::{Operations, PublicationSpec, TableSpec};
use herdsman_wal::slot::{Decoding, WalStatus};

use super::*;

fn server() -> ServerFacts {
    ServerFacts {
        version: 180_004,
        version_text: "18.4".to_owned(),
        wal_level: "logical".to_owned(),
        max_replication_slots: 10,
        used_slots: 2,
        max_wal_senders: 10,
        used_senders: 1,
        max_slot_wal_keep_size: Some(8 << 30),
        max_wal_size: 1 << 30,
        wal_bytes: Some(3 << 30),
        output_plugin_libraries: None,
        logical_decoding_work_mem: 64 << 20,
        wal_sender_timeout: Some(Duration::from_secs(60)),
        synchronized_standby_slots: vec!["n2".to_owned()],
        idle_replication_slot_timeout: None,
        sync_replication_slots: false,
        hot_standby_feedback: false,
        in_recovery: false,
        role: "Streamer".to_owned(),
        superuser: false,
        replication: true,
        may_create: true,
        may_emit: true,
        database: "shop".to_owned(),
        wal_position: Lsn(5000),
    }
}

fn slot() -> Slot {
    Slot {
        name: SlotName::new("herdsman").unwrap(),
        plugin: Some("pgoutput".to_owned()),
        database: Some("shop".to_owned()),
        database_is_ours: true,
        temporary: false,
        active_pid: None,
        restart: Some(Lsn(1000)),
        confirmed: Some(Lsn(3000)),
        wal_status: Some(WalStatus::Reserved),
        safe_wal_size: Some(8 << 30),
        two_phase: false,
        failover: true,
        synced: false,
        on_standby: false,
        invalidation_reason: None,
        conflicting: false,
        wal_position: Lsn(5000),
        decoding: None,
    }
}

fn standby() -> Slot {
    let name = SlotName::new("n2").unwrap();
    Slot { name, plugin: None, database: None, confirmed: None, active_pid: Some(7), ..slot() }
}

fn table(name: &str) -> TableFacts {
    TableFacts {
        schema: "public".to_owned(),
        name: name.to_owned(),
        partitioned: false,
        partition_of: None,
        has_primary_key: true,
        deferrable_key: false,
        identity: ReplicaIdentity::Default,
        identity_columns: vec!["id".to_owned()],
        unidentified: vec![],
    }
}

fn keyless() -> TableFacts {
    let unidentified = vec!["public.events".to_owned()];
    TableFacts { has_primary_key: false, identity_columns: vec![], unidentified, ..table("events") }
}

fn publication() -> Publication {
    let name = PublicationName::new("Herd").unwrap();
    let spec = PublicationSpec::of(name, vec![TableSpec::whole("public", "orders")]);
    Publication { spec, schemas: vec![], newer_than: vec![], owned: true }
}

fn wanted() -> Wanted {
    Wanted {
        slot: SlotName::new("herdsman").unwrap(),
        publication: PublicationName::new("Herd").unwrap(),
        tables: vec![Glob::new("public.*").unwrap()],
        exclude: vec![],
        create: true,
        failover: true,
        heartbeat: true,
        lag_guard: LagGuardConfig::default(),
        handled: None,
    }
}

fn facts() -> Facts {
    Facts {
        endpoint: "db1:5432".to_owned(),
        unanswered: vec![],
        server: Some(server()),
        slots: Some(vec![slot(), standby()]),
        publication: Some(publication()),
        tables: Some(vec![table("orders")]),
    }
}

/// What is not as it should be.
fn complaints(wanted: &Wanted, facts: &Facts) -> Vec<Finding> {
    let found = findings(wanted, facts);
    found.into_iter().filter(|finding| finding.level > Level::Ok).collect()
}

/// The only complaint, as it reads.
fn complaint(wanted: &Wanted, facts: &Facts) -> String {
    let found = complaints(wanted, facts);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.first().unwrap().to_string()
}

fn with_server(change: impl FnOnce(&mut ServerFacts)) -> Facts {
    let mut server = server();
    change(&mut server);
    Facts { server: Some(server), ..facts() }
}

fn with_slot(change: impl FnOnce(&mut Slot)) -> Facts {
    let mut slot = slot();
    change(&mut slot);
    Facts { slots: Some(vec![slot, standby()]), ..facts() }
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

#[test]
fn a_healthy_set_up_is_told_in_full_without_a_complaint() {
    let found = findings(&wanted(), &facts());
    assert_eq!(complaints(&wanted(), &facts()), vec![], "{found:#?}");
    let text = Report { endpoint: "db1:5432".to_owned(), findings: found }.to_string();
    let lines = [
        "ok    connection: db1:5432 lets `Streamer` into database `shop`, PostgreSQL 18.4",
        "ok    wal_level: logical",
        "ok    role: `Streamer` may use replication slots",
        "ok    slots: 2 of 10 in use",
        "ok    publication: \"Herd\" has 1 table",
        "ok    table public.orders: primary key (id)",
        "ok    slot: `herdsman` exists and can be read, from 0/BB8",
        "ok    waiting: 1.9 kB of log since 0/BB8",
        "ok    log held back: 3.9 kB for `herdsman`; 8 GB more",
        "ok    max_slot_wal_keep_size: 8 GB",
        "ok    failover: standbys that are waited for: n2",
    ];
    says(&text, &lines);
}

#[test]
fn a_server_that_cannot_be_asked_is_the_one_complaint() {
    let facts = Facts {
        unanswered: vec![("connection", "failed to connect to db1:5432: refused".to_owned())],
        server: None,
        slots: None,
        publication: None,
        tables: None,
        ..facts()
    };
    assert_eq!(
        complaint(&wanted(), &facts),
        "FAIL  connection: failed to connect to db1:5432: refused"
    );
    assert_eq!(findings(&wanted(), &facts).len(), 1);
}

#[test]
fn what_the_server_lacks_comes_with_the_statement_that_helps() {
    type Change = fn(&mut ServerFacts);
    let cases: [(Change, &[&str]); 9] = [
        (
            |s| s.wal_level = "replica".to_owned(),
            &["FAIL", "ALTER SYSTEM SET wal_level = 'logical'", "restart"],
        ),
        (
            |s| s.output_plugin_libraries = Some(vec!["test_decoding".to_owned()]),
            &["FAIL", "ALTER SYSTEM SET output_plugin_libraries = test_decoding, pgoutput"],
        ),
        (|s| s.replication = false, &["FAIL", "ALTER ROLE \"Streamer\" REPLICATION"]),
        (|s| s.used_senders = 10, &["FAIL", "raise max_wal_senders to 15"]),
        (
            |s| s.may_emit = false,
            &[
                "FAIL",
                "GRANT EXECUTE ON FUNCTION pg_logical_emit_message(boolean, text, text, boolean) TO \"Streamer\"",
            ],
        ),
        (|s| s.wal_sender_timeout = None, &["warn", "wal_sender_timeout"]),
        (
            |s| s.idle_replication_slot_timeout = Some(Duration::from_secs(3600)),
            &["warn", "3600 s"],
        ),
        (
            |s| s.max_slot_wal_keep_size = None,
            &[
                "warn",
                "fills the server's disk; the log takes 3 GB now",
                "max_slot_wal_keep_size = '4GB'",
            ],
        ),
        (
            |s| s.max_slot_wal_keep_size = Some(1 << 20),
            &["warn", "1 MB, less than the log between two checkpoints"],
        ),
    ];
    for (change, parts) in cases {
        says(&complaint(&wanted(), &with_server(change)), parts);
    }
}

#[test]
fn a_server_with_a_list_of_plugins_that_has_ours_is_fine() {
    let facts = with_server(|s| {
        s.output_plugin_libraries = Some(vec!["pgoutput".to_owned(), "test_decoding".to_owned()]);
    });
    assert_eq!(complaints(&wanted(), &facts), vec![]);
    let found = findings(&wanted(), &facts);
    // Readers that come from wal2json learn why it stopped.
    assert!(found.iter().any(|finding| finding.says.contains("wal2json may not")), "{found:#?}");
}

#[test]
fn the_advised_limit_follows_from_what_is_held_back_already() {
    let mut facts = with_server(|s| s.max_slot_wal_keep_size = None);
    facts.slots = Some(vec![
        Slot {
            active_pid: Some(4),
            restart: Some(Lsn(0)),
            confirmed: Some(Lsn(0)),
            wal_position: Lsn(9 << 29),
            safe_wal_size: None,
            ..slot()
        },
        standby(),
    ]);
    let found = complaints(&wanted(), &facts);
    let advice = found.iter().find(|f| f.subject == "max_slot_wal_keep_size").unwrap();
    says(&advice.to_string(), &["'9GB'"]);
}

#[test]
fn a_slot_that_cannot_be_read_says_why() {
    type Change = fn(&mut Slot);
    let cases: [(Change, &[&str]); 4] = [
        (
            |s| {
                s.wal_status = Some(WalStatus::Lost);
                s.restart = None;
            },
            &["FAIL", "is lost", "herdsman stream recreate"],
        ),
        (|s| s.plugin = Some("wal2json".to_owned()), &["FAIL", "plugin wal2json, not pgoutput"]),
        (|s| s.database_is_ours = false, &["FAIL", "database `shop`"]),
        (
            |s| s.wal_status = Some(WalStatus::Unreserved),
            &["FAIL", "log held back", "the next checkpoint may remove it"],
        ),
    ];
    for (change, parts) in cases {
        says(&complaint(&wanted(), &with_slot(change)), parts);
    }
    let ahead = Wanted { handled: Some(Lsn(2999)), ..wanted() };
    says(&complaint(&ahead, &facts()), &["FAIL", "0/BB8, ahead of 0/BB7", "recreate"]);
    let behind = Wanted { handled: Some(Lsn(3500)), ..wanted() };
    assert_eq!(complaints(&behind, &facts()), vec![]);
}

#[test]
fn a_slot_that_is_being_read_is_as_it_should_be() {
    let facts = with_slot(|slot| slot.active_pid = Some(42));
    assert_eq!(complaints(&wanted(), &facts), vec![]);
    let found = findings(&wanted(), &facts);
    assert!(found.iter().any(|f| f.says.contains("is being read (PID 42)")), "{found:#?}");
}

#[test]
fn a_slot_that_holds_back_much_is_complained_of_whosever_it_is() {
    let much = |slot: &mut Slot| slot.wal_position = Lsn(2 << 30);
    says(&complaint(&wanted(), &with_slot(much)), &["warn", "log held back: 1.9 GB"]);
    let tight = |slot: &mut Slot| slot.safe_wal_size = Some(1000);
    says(&complaint(&wanted(), &with_slot(tight)), &["warn", "1000 bytes more and the server"]);
    let mut other = Slot { name: SlotName::new("forgotten").unwrap(), ..slot() };
    much(&mut other);
    let facts = Facts { slots: Some(vec![slot(), standby(), other]), ..facts() };
    says(&complaint(&wanted(), &facts), &["warn", "pg_drop_replication_slot('forgotten')"]);
}

#[test]
fn transactions_that_went_through_the_disk_are_told() {
    let decoding = Decoding {
        spilled_transactions: 3,
        transactions: 8,
        spill_bytes: 1 << 30,
        ..Decoding::default()
    };
    let found = findings(&wanted(), &with_slot(|slot| slot.decoding = Some(decoding)));
    assert!(found.iter().any(|f| f.says.starts_with("3 of 8 transactions")), "{found:#?}");
}

#[test]
fn what_is_missing_is_made_at_the_start_or_has_to_be_made_first() {
    let bare = Facts { slots: Some(vec![standby()]), publication: None, ..facts() };
    let found = complaints(&wanted(), &bare);
    assert!(found.iter().all(|f| f.level == Level::Warn) && found.len() == 2, "{found:#?}");
    let found = complaints(&Wanted { create: false, ..wanted() }, &bare);
    assert!(found.iter().all(|f| f.level == Level::Fail) && found.len() == 2, "{found:#?}");
    says(&found[0].to_string(), &["CREATE PUBLICATION \"Herd\" FOR TABLE"]);
    says(&found[1].to_string(), &["herdsman stream slots create"]);
    let mut denied = with_server(|s| s.may_create = false);
    denied.publication = None;
    says(
        &complaint(&wanted(), &denied),
        &["FAIL", "GRANT CREATE ON DATABASE \"shop\" TO \"Streamer\""],
    );
    let mut full = with_server(|s| s.used_slots = 10);
    full.slots = bare.slots;
    let found = complaints(&wanted(), &full);
    says(&found[0].to_string(), &["FAIL", "max_replication_slots to 15"]);
}

#[test]
fn a_publication_that_came_after_the_slot_is_noticed() {
    let late = Publication { newer_than: vec![slot().name], ..publication() };
    let text = complaint(&wanted(), &Facts { publication: Some(late), ..facts() });
    says(&text, &["warn", "publication does not exist", "stream recreate"]);
    let other = vec![SlotName::new("other").unwrap()];
    let late = Publication { newer_than: other, ..publication() };
    assert_eq!(complaints(&wanted(), &Facts { publication: Some(late), ..facts() }), vec![]);
}

#[test]
fn tables_that_are_not_published_are_named() {
    let facts = Facts { tables: Some(vec![table("orders"), table("Users")]), ..facts() };
    says(
        &complaint(&wanted(), &facts),
        &["warn", "\"public\".\"Users\"", "added when the stream starts"],
    );
    let by_hand = Wanted { create: false, ..wanted() };
    let text = complaint(&by_hand, &facts);
    says(&text, &["FAIL", "ALTER PUBLICATION \"Herd\" ADD TABLE \"public\".\"Users\""]);
    let all = |p: Publication| Facts { publication: Some(p), ..facts.clone() };
    let schema = Publication { schemas: vec!["public".to_owned()], ..publication() };
    assert_eq!(complaints(&wanted(), &all(schema)), vec![]);
    let mut every = publication();
    every.spec.all_tables = true;
    assert_eq!(complaints(&wanted(), &all(every)), vec![]);
    let typo = Wanted { tables: vec![Glob::new("public.order").unwrap()], ..wanted() };
    says(&complaint(&typo, &facts), &["warn", "no table matches `public.order`"]);
}

#[test]
fn a_table_without_a_key_is_told_by_what_publishing_it_does() {
    let mut facts = Facts { tables: Some(vec![table("orders"), keyless()]), ..facts() };
    let found = complaints(&wanted(), &facts);
    let about = |found: &[Finding]| {
        found.iter().find(|f| f.subject == "table public.events").unwrap().to_string()
    };
    says(
        &about(&found),
        &["FAIL", "it is not published", "ALTER TABLE public.events REPLICA IDENTITY FULL"],
    );

    let mut published = publication();
    published.spec.tables.push(TableSpec::whole("public", "events"));
    facts.publication = Some(published.clone());
    says(
        &complaint(&wanted(), &facts),
        &["FAIL", "UPDATE and DELETE on it fail as long as it is published"],
    );
    // Nobody asked for it, and it fails all the same.
    let others = Wanted { tables: vec![Glob::new("public.orders").unwrap()], ..wanted() };
    says(&complaint(&others, &facts), &["FAIL", "table public.events"]);

    published.spec.operations =
        Operations { update: false, delete: false, ..Operations::default() };
    facts.publication = Some(published);
    let found = complaints(&wanted(), &facts);
    says(&about(&found), &["warn", "only its inserts"]);
    says(&found[0].to_string(), &["warn", "does not publish: update, delete"]);
}

#[test]
fn a_standby_that_is_away_and_waited_for_stops_everything() {
    let away = Slot { active_pid: None, ..standby() };
    let facts_away = Facts { slots: Some(vec![slot(), away]), ..facts() };
    says(
        &complaint(&wanted(), &facts_away),
        &["FAIL", "slot `n2` is not in use", "synchronized_standby_slots"],
    );
    let misspelt =
        with_server(|s| s.synchronized_standby_slots = vec!["n2".to_owned(), "n3".to_owned()]);
    says(&complaint(&wanted(), &misspelt), &["FAIL", "slot `n3` does not exist"]);
}

#[test]
fn whether_the_stream_outlives_a_promotion_is_told() {
    let unwaited = with_server(|s| s.synchronized_standby_slots.clear());
    says(
        &complaint(&wanted(), &unwaited),
        &["warn", "ALTER SYSTEM SET synchronized_standby_slots = n2", "sync_replication_slots"],
    );
    let plain = with_slot(|slot| slot.failover = false);
    says(
        &complaint(&wanted(), &plain),
        &["warn", "ALTER_REPLICATION_SLOT herdsman (FAILOVER true)"],
    );
    let old = with_server(|s| {
        s.version = 150_018;
        s.synchronized_standby_slots.clear();
    });
    says(&complaint(&wanted(), &old), &["warn", "no failover slots", "on_lost_slot: resnapshot"]);
    for facts in [unwaited, plain, old] {
        assert_eq!(complaints(&Wanted { failover: false, ..wanted() }, &facts), vec![]);
    }
}

#[test]
fn a_standby_as_the_source_is_told_what_it_needs() {
    let standby = with_server(|s| s.in_recovery = true);
    let found = complaints(&Wanted { failover: false, ..wanted() }, &standby);
    let text: String = found.iter().map(ToString::to_string).collect();
    says(&text, &["hot_standby_feedback = on", "a standby cannot write one"]);
}
