use herdsman_mesh::install::{Plan, Step};
use herdsman_mesh::status::LinkStatus;

use super::*;
use crate::commands::doctor::finding::Severity;
use crate::commands::doctor::judge::tests::{config, name, says};

fn judged(seen: MeshSeen) -> Vec<Finding> {
    let evidence = Evidence { mesh: Some(seen), ..Evidence::default() };
    findings(&config("mesh: {nodes: [n1, n2], tables: [public.*]}\n"), &evidence)
}

fn with_problem(problem: &str) -> MeshSeen {
    let plan = Plan { problems: vec![problem.to_owned()], ..Plan::default() };
    MeshSeen { plan, ..MeshSeen::default() }
}

fn status(target: TargetStatus) -> MeshSeen {
    let status = Status { targets: [("n1".to_owned(), target)].into(), ..Status::default() };
    MeshSeen { status: Some(Ok(status)), ..MeshSeen::default() }
}

#[test]
fn what_stands_in_the_way_is_told_with_a_statement_that_can_be_run() {
    let check = |problem: &str, code, fix: &str| {
        let found = judged(with_problem(problem));
        says(&found, "mesh", Severity::Error, code, &[fix]);
        assert_eq!(found[0].node, Some(name("n2")), "{problem}");
    };
    check(
        "node `n2`: role \"m\" may not use replication; ALTER ROLE \"m\" REPLICATION",
        Code::MeshBlocked,
        "run `ALTER ROLE \"m\" REPLICATION` there",
    );
    check(
        "node `n2` has wal_level = replica; ALTER SYSTEM SET wal_level = logical, and restart it",
        Code::WalLevel,
        "run `ALTER SYSTEM SET wal_level = logical` there, and restart it",
    );
    check(
        "node `n2` is a standby; name the primary in its place",
        Code::MeshBlocked,
        "name the primary",
    );
}

#[test]
fn a_node_that_is_away_is_no_problem_of_the_plan() {
    let mut seen = with_problem("node `n2` was not looked at; name it in `hosts`");
    seen.unreached.insert(name("n2"), "node `n2`: refused".to_owned());
    let found = judged(seen);
    says(&found, "mesh: login", Severity::Error, Code::MeshBlocked, &["refused", "mesh.login"]);
    assert_eq!(found.len(), 1, "{found:#?}");
}

#[test]
fn a_plan_is_a_note_before_there_is_a_mesh_and_a_warning_afterwards() {
    let plan = || Plan {
        steps: vec![Step::new(&name("n1"), "make the schema", vec![])],
        ..Plan::default()
    };
    let found = judged(MeshSeen { plan: plan(), ..MeshSeen::default() });
    says(&found, "mesh: plan", Severity::Info, Code::MeshPlan, &["1 step", "mesh up"]);
    let status = Some(Ok(Status::default()));
    let found = judged(MeshSeen { plan: plan(), status, ..MeshSeen::default() });
    says(&found, "mesh: plan", Severity::Warning, Code::MeshPlan, &["n1: make the schema"]);
    let found = judged(MeshSeen::default());
    says(&found, "mesh: plan", Severity::Ok, Code::MeshPlan, &[]);
}

#[test]
fn members_and_links_that_stand_still_are_told() {
    let target = |state: &str, problem: Option<&str>, link: LinkStatus| {
        let links = [("n2".to_owned(), link)].into();
        let problem = problem.map(str::to_owned);
        status(TargetStatus { state: state.to_owned(), problem, links, ..TargetStatus::default() })
    };
    let link = LinkStatus::default;
    let found = judged(target("working", None, link()));
    says(&found, "mesh: member", Severity::Ok, Code::MeshLink, &["working"]);
    let idle = Some("no process applies here; start `herdsman run`");
    let found = judged(target("stopped", idle, link()));
    says(&found, "mesh: member", Severity::Warning, Code::MeshLink, &["start `herdsman run`"]);
    let lost = LinkStatus { problem: Some("slot `s` is lost".to_owned()), ..link() };
    let found = judged(target("working", None, lost));
    says(&found, "mesh: n2 to n1", Severity::Error, Code::MeshLink, &["slot `s` is lost"]);
    let late = || LinkStatus { lag_seconds: 61.0, ..link() };
    let found = judged(target("working", None, late()));
    says(&found, "mesh: n2 to n1", Severity::Warning, Code::MeshLink, &["61 s behind"]);
    assert_eq!(judged(target("stopped", idle, late())).len(), 2, "stopped says it all");
}
