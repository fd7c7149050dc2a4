use std::collections::BTreeMap;

use herdsman_node::{Conninfo, Lsn};
use herdsman_wal::SlotName;
use herdsman_wal::slot::Slot;

use super::*;
use crate::MeshConfig;
use crate::install::found::{Facts, FoundColumn, FoundIndex, Own};
use crate::setup::MemberState;

fn name(node: &str) -> NodeName {
    NodeName::new(node).unwrap()
}

fn setup(nodes: &[&str]) -> Setup {
    let info = Conninfo::from_pairs([("host", "localhost")]).unwrap();
    let nodes: Vec<NodeName> = nodes.iter().map(|node| name(node)).collect();
    Setup {
        nodes: nodes.iter().map(|node| (node.clone(), info.clone())).collect(),
        config: MeshConfig { nodes, ..MeshConfig::default() },
    }
}

fn node(at: &str) -> Found {
    let facts = Facts {
        version: 180_000,
        identity: at.to_owned(),
        role: "mesh".to_owned(),
        replication: true,
        may_create: true,
        may_be_replica: true,
        wal_level: "logical".to_owned(),
        max_slots: 10,
        max_senders: 10,
        max_origins: 10,
        ..Facts::default()
    };
    Found {
        facts,
        tables: vec![table()],
        schemas: BTreeSet::from(["public".to_owned()]),
        ..Found::default()
    }
}

fn table() -> FoundTable {
    let id = FoundColumn {
        number: 1,
        name: "id".to_owned(),
        sql_type: "integer".to_owned(),
        base: "pg_catalog.int4".to_owned(),
        not_null: true,
        deterministic: true,
        ..FoundColumn::default()
    };
    let key = FoundIndex {
        name: "t_pkey".to_owned(),
        columns: vec![1],
        unique: true,
        primary: true,
        immediate: true,
        valid: true,
        ..FoundIndex::default()
    };
    FoundTable {
        schema: "public".to_owned(),
        name: "t".to_owned(),
        kind: "r".to_owned(),
        persistence: "p".to_owned(),
        identity: "d".to_owned(),
        owned: true,
        columns: vec![id],
        indexes: vec![key],
        ..FoundTable::default()
    }
}

fn survey(nodes: &[(&str, Found)]) -> Survey {
    Survey { nodes: nodes.iter().map(|(at, found)| (name(at), found.clone())).collect() }
}

fn member(id: i16, at: &str, state: MemberState) -> Member {
    Member { id: NodeId(id), name: name(at), state }
}

/// A member of the mesh that knows these.
fn known(at: &str, id: i16, members: &[Member]) -> Found {
    let own =
        Own { name: "mesh".to_owned(), format: 1, node: NodeId(id), node_name: at.to_owned() };
    Found { own: Some(own), members: members.to_vec(), ..node(at) }
}

fn slot(target: i16) -> Slot {
    Slot {
        name: SlotName::new(&format!("herdsman_mesh_to_{target}")).unwrap(),
        plugin: Some("pgoutput".to_owned()),
        database: None,
        database_is_ours: true,
        temporary: false,
        active_pid: None,
        restart: None,
        confirmed: Some(Lsn(1)),
        wal_status: None,
        safe_wal_size: None,
        two_phase: false,
        failover: false,
        synced: false,
        on_standby: false,
        invalidation_reason: None,
        conflicting: false,
        wal_position: Lsn(1),
        decoding: None,
    }
}

#[test]
fn members_are_numbered_in_the_order_of_the_configuration() {
    let setup = setup(&["b", "a"]);
    let plan = plan(&setup, &survey(&[("a", node("a")), ("b", node("b"))]));
    assert_eq!(plan.problems, Vec::<String>::new());
    let says: BTreeMap<&str, &str> =
        plan.steps.iter().take(2).map(|step| (step.node.as_str(), step.what.as_str())).collect();
    assert!(says["b"].contains("member 1") && says["a"].contains("member 2"), "{says:?}");
}

#[test]
fn slots_come_after_the_publication_and_before_any_table() {
    let setup = setup(&["a", "b"]);
    let plan = plan(&setup, &survey(&[("a", node("a")), ("b", node("b"))]));
    let place = |text: &str| {
        let all =
            plan.steps.iter().enumerate().filter(|(_, step)| step.sql.join("\n").contains(text));
        let all: Vec<usize> = all.map(|(place, _)| place).collect();
        (*all.first().unwrap(), *all.last().unwrap())
    };
    let (publication, slots) =
        (place("CREATE PUBLICATION"), place("pg_create_logical_replication_slot"));
    let (progress, tables) = (place("INTO herdsman.progress"), place("CREATE OR REPLACE TRIGGER"));
    assert!(publication.1 < slots.0 && slots.1 < progress.0 && progress.1 < tables.0);
}

#[test]
fn an_interrupted_first_time_goes_on_with_the_numbers_it_gave() {
    let setup = setup(&["b", "a"]);
    let members = [member(1, "b", MemberState::Active), member(2, "a", MemberState::Active)];
    // As if the configuration had another order when it began.
    let found = survey(&[("a", node("a")), ("b", known("b", 1, &members))]);
    let plan = plan(&setup, &found);
    assert_eq!(plan.problems, Vec::<String>::new());
    assert!(plan.steps.iter().any(|step| step.node == name("a") && step.what.contains("member 2")));
}

#[test]
fn a_number_is_never_given_again() {
    let setup = setup(&["a", "b"]);
    let members = [member(1, "a", MemberState::Active), member(7, "x", MemberState::Gone)];
    let found = survey(&[("a", known("a", 1, &members)), ("b", node("b"))]);
    let joining = Options { joining: BTreeSet::from([name("b")]), merge: false };
    let plan = plan_with(&setup, &found, &joining);
    assert_eq!(plan.problems, Vec::<String>::new());
    assert!(plan.steps.iter().any(|step| step.node == name("b") && step.what.contains("member 8")));
    assert!(plan.steps.iter().any(|step| step.node == name("a")
        && step.sql.iter().any(|sql| sql.contains("VALUES (8, 'b', 'joining')"))));
}

#[test]
fn a_joining_member_reads_from_nobody_before_it_is_filled() {
    let setup = setup(&["a", "b"]);
    let members = [member(1, "a", MemberState::Active), member(2, "b", MemberState::Joining)];
    let found = survey(&[("a", known("a", 1, &members)), ("b", known("b", 2, &members))]);
    let begins = |plan: &Plan| -> Vec<(String, String)> {
        let of = |step: &crate::install::Step| match &step.how {
            crate::install::How::AtSlot { node, .. } => {
                Some((step.node.to_string(), node.to_string()))
            }
            _ => None,
        };
        plan.steps.iter().filter_map(of).collect()
    };
    let own = |node: &str, source: &str| (node.to_owned(), source.to_owned());
    let begun = begins(&plan(&setup, &found));
    assert!(begun.contains(&own("b", "b")) && begun.contains(&own("a", "b")), "{begun:?}");
    assert!(!begun.contains(&own("b", "a")), "{begun:?}");
    let joining = Options { joining: BTreeSet::from([name("b")]), merge: false };
    assert!(begins(&plan_with(&setup, &found, &joining)).contains(&own("b", "a")));
}

#[test]
fn what_a_server_lacks_is_one_problem_each() {
    type Change = fn(&mut Found);
    let setup = setup(&["a"]);
    let cases: [(Change, &str); 9] = [
        (|found| found.facts.version = 140_000, "15 or later"),
        (|found| found.facts.in_recovery = true, "is a standby"),
        (|found| found.facts.wal_level = "replica".to_owned(), "wal_level"),
        (|found| found.facts.max_slots = 0, "max_replication_slots"),
        (|found| found.facts.used_senders = 10, "max_wal_senders"),
        (|found| found.facts.max_origins = 0, "max_active_replication_origins"),
        (|found| found.foreign_schema = true, "has not made"),
        (|found| found.tables[0].row_security = true, "BYPASSRLS"),
        (|found| found.tables[0].typed = true, "NOT OF"),
    ];
    for (change, says) in cases {
        let mut found = node("a");
        change(&mut found);
        let plan = plan(&setup, &survey(&[("a", found)]));
        assert_eq!(plan.problems.len(), 1, "{says}: {:?}", plan.problems);
        assert!(
            plan.problems[0].contains(says) && plan.problems[0].contains("node `a`"),
            "{:?}",
            plan.problems
        );
    }
}

#[test]
fn slots_that_are_there_count_as_the_meshs_own() {
    let setup = setup(&["a", "b"]);
    let members = [member(1, "a", MemberState::Active), member(2, "b", MemberState::Active)];
    let ready = |at: &str, id| {
        let mut found = known(at, id, &members);
        found.facts.max_slots = 2;
        found.slots = vec![slot(1), slot(2)];
        found.progress = BTreeMap::from([(1, Lsn(1)), (2, Lsn(1))]);
        found
    };
    let found = survey(&[("a", ready("a", 1)), ("b", ready("b", 2))]);
    let plan = plan(&setup, &found);
    assert_eq!(plan.problems, Vec::<String>::new());
    assert!(!plan.steps.iter().any(|step| step.sql.join("").contains("replication_slot")));
}

#[test]
fn a_slot_that_is_of_no_use_is_a_problem_and_its_own_one_is_made_again() {
    type Change = fn(&mut Found);
    let setup = setup(&["a", "b"]);
    let members = [member(1, "a", MemberState::Active), member(2, "b", MemberState::Active)];
    let cases: [(Change, Option<&str>); 6] = [
        (
            |found| found.slots.retain(|slot| slot.name.as_str() != "herdsman_mesh_to_2"),
            Some("has lost the slot"),
        ),
        (|found| found.slots[1].database_is_ours = false, Some("another name")),
        (|found| found.slots[1].plugin = Some("wal2json".to_owned()), Some("has not made")),
        (
            |found| found.slots[1].invalidation_reason = Some("wal_removed".to_owned()),
            Some("let `b` be filled anew: `herdsman mesh remove b`"),
        ),
        (|found| found.slots.retain(|slot| slot.name.as_str() != "herdsman_mesh_to_1"), None),
        // Its own look at its log is made again.
        (|found| found.slots[0].invalidation_reason = Some("wal_removed".to_owned()), None),
    ];
    for (change, says) in cases {
        let ready = |at: &str, id| {
            let mut found = known(at, id, &members);
            found.slots = vec![slot(1), slot(2)];
            found.progress = BTreeMap::from([(1, Lsn(1)), (2, Lsn(1))]);
            found
        };
        let (mut a, b) = (ready("a", 1), ready("b", 2));
        change(&mut a);
        let plan = plan(&setup, &survey(&[("a", a), ("b", b)]));
        match says {
            Some(says) => assert!(
                plan.problems.iter().any(|problem| problem.contains(says)),
                "{says}: {:?}",
                plan.problems
            ),
            None => {
                assert_eq!(plan.problems, Vec::<String>::new());
                assert!(plan.steps.iter().any(|step| step.what.contains("for itself")));
            }
        }
    }
}

#[test]
fn a_member_that_nobody_configures_is_noted() {
    let setup = setup(&["a"]);
    let members = [member(1, "a", MemberState::Active), member(2, "b", MemberState::Active)];
    let plan = plan(&setup, &survey(&[("a", known("a", 1, &members))]));
    assert_eq!(plan.problems, Vec::<String>::new());
    assert!(
        plan.notes.iter().any(|note| note.contains("`b` is a member and not in the configuration"))
    );
}

#[test]
fn a_mesh_whose_name_makes_no_slot_is_refused() {
    let mut setup = setup(&["a"]);
    setup.config.name = "My Mesh".to_owned();
    let plan = plan(&setup, &survey(&[("a", node("a"))]));
    assert!(plan.problems[0].contains("lower-case letters"), "{:?}", plan.problems);
}

#[test]
fn untouched_tables_need_commit_times_and_nothing_that_only_stamps_can_do() {
    let mut setup = setup(&["n1", "n2"]);
    setup.config.mode = crate::config::Mode::Untouched;
    let with = |commit_times: bool, max_origins: u32| {
        let nodes = ["n1", "n2"].map(|at| {
            let mut found = node(at);
            (found.facts.commit_times, found.facts.max_origins) = (commit_times, max_origins);
            if at == "n2" {
                found.tables.clear();
            }
            (name(at), found)
        });
        Survey { nodes: nodes.into() }
    };
    let told = plan(&setup, &with(false, 2)).problems.join("\n");
    assert!(told.contains("SET track_commit_timestamp = on"), "{told}");
    assert!(told.contains("one for each member and one more"), "{told}");
    let plan = plan(&setup, &with(true, 10));
    assert_eq!(plan.problems, Vec::<String>::new());
    let sql: Vec<&String> = plan.steps.iter().flat_map(|step| &step.sql).collect();
    let on_table =
        |sql: &&&String| sql.contains("\"public\".\"t\"") && !sql.contains("CREATE TABLE");
    let on_table: Vec<_> = sql.iter().filter(on_table).collect();
    assert!(
        on_table.iter().all(|sql| ["REPLICA IDENTITY FULL", "ADD TABLE", "herdsman.tables"]
            .iter()
            .any(|part| sql.contains(part))
            || sql.contains("PRIMARY KEY")
            || sql.contains("GRANT")
            || sql.contains("OWNER")),
        "{on_table:#?}"
    );
    assert!(!sql.iter().any(|sql| sql.contains("TRIGGER")), "{sql:#?}");
}
