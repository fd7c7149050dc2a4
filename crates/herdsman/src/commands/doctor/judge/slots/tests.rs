use herdsman_node::Lsn;
use herdsman_wal::publication::TableFacts;
use herdsman_wal::{ReplicaIdentity, SlotName};

use super::*;
use crate::commands::doctor::finding::Severity;
use crate::commands::doctor::judge::tests::{config, diagnosed, evidence, facts, name, says};

const MB: u64 = 1 << 20;

/// Nobody reads it, and so much is held back for it.
fn slot(slot: &str, held: u64) -> Slot {
    Slot {
        name: SlotName::new(slot).unwrap(),
        plugin: None,
        database: None,
        database_is_ours: false,
        temporary: false,
        active_pid: None,
        restart: Some(Lsn(1 << 32)),
        confirmed: None,
        wal_status: Some(WalStatus::Reserved),
        safe_wal_size: None,
        two_phase: false,
        failover: false,
        synced: false,
        on_standby: false,
        invalidation_reason: None,
        conflicting: false,
        wal_position: Lsn((1 << 32) + held),
        decoding: None,
    }
}

fn table(unidentified: &[&str]) -> TableFacts {
    TableFacts {
        schema: "public".to_owned(),
        name: "t".to_owned(),
        partitioned: false,
        partition_of: None,
        has_primary_key: false,
        deferrable_key: false,
        identity: ReplicaIdentity::Default,
        identity_columns: vec![],
        unidentified: unidentified.iter().map(|&name| name.to_owned()).collect(),
    }
}

fn judged(server: &Server) -> Vec<Finding> {
    findings(&config(""), &evidence([]), &name("n1"), server)
}

fn of_slot(slot: Slot, keep_size: Option<u64>) -> Vec<Finding> {
    let mut server = Server { slots: vec![slot], facts: facts(), ..Server::default() };
    server.facts.keep_size = keep_size;
    judged(&server)
}

#[test]
fn an_unread_slot_matters_by_what_it_holds_back() {
    let drop = "`SELECT pg_drop_replication_slot('n2')`";
    let check = |held, keep, severity| {
        let found = of_slot(slot("n2", held), keep);
        says(&found, "slot n2", severity, Code::SlotUnread, &[drop, "start the standby"]);
    };
    check(3 * MB, Some(256 * MB), Severity::Info);
    check(64 * MB, Some(256 * MB), Severity::Warning);
    check(64 * MB, None, Severity::Info);
    check(1024 * MB, None, Severity::Warning);
    check(1024 * MB, Some(64 * 1024 * MB), Severity::Warning);
    let endangered = Slot { wal_status: Some(WalStatus::Unreserved), ..slot("n2", MB) };
    let found = of_slot(endangered, None);
    says(&found, "slot n2", Severity::Error, Code::SlotUnread, &["next checkpoint"]);
}

#[test]
fn slots_that_are_read_or_kept_for_later_are_well() {
    for slot in [
        Slot { active_pid: Some(7), ..slot("n2", 900 * MB) },
        Slot { synced: true, ..slot("n2", 900 * MB) },
        Slot { restart: None, wal_status: None, ..slot("n2", 0) },
    ] {
        says(&of_slot(slot, Some(256 * MB)), "slots", Severity::Ok, Code::SlotUnread, &["1 slot"]);
    }
    assert_eq!(of_slot(Slot { temporary: true, ..slot("n2", 900 * MB) }, None), []);
}

#[test]
fn a_lost_slot_is_an_error() {
    let lost = Slot { wal_status: Some(WalStatus::Lost), restart: None, ..slot("a", 0) };
    let words = ["max_slot_wal_keep_size", "`SELECT pg_drop_replication_slot('a')`"];
    says(&of_slot(lost, None), "slot a", Severity::Error, Code::SlotLost, &words);
}

#[test]
fn a_published_table_without_identity_is_told_with_the_statement() {
    let published = |unidentified: &[&str]| {
        let published = vec![("p".to_owned(), table(unidentified))];
        judged(&Server { published, facts: facts(), ..Server::default() })
    };
    assert_eq!(published(&[]), []);
    let words = ["publication `p`", "`ALTER TABLE public.t REPLICA IDENTITY FULL`"];
    says(&published(&["public.t"]), "table public.t", Severity::Error, Code::NoIdentity, &words);
    let words = ["`ALTER TABLE a REPLICA IDENTITY FULL` and `ALTER TABLE b"];
    says(&published(&["a", "b"]), "table public.t", Severity::Error, Code::NoIdentity, &words);
}

#[test]
fn what_the_stream_uses_is_left_to_its_own_diagnosis() {
    let config = config("stream: {sinks: {lines: {stdout: {}}}}\n");
    let mut evidence = evidence([]);
    evidence.stream = Some(diagnosed(name("n1"), vec![]));
    let server = Server {
        slots: vec![slot("herdsman", 2048 * MB)],
        published: vec![("herdsman".to_owned(), table(&["public.t"]))],
        facts: facts(),
        ..Server::default()
    };
    assert_eq!(findings(&config, &evidence, &name("n1"), &server), []);
    let elsewhere = findings(&config, &evidence, &name("n2"), &server);
    assert_eq!(elsewhere.len(), 2, "{elsewhere:#?}");
}
