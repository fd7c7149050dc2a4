//! What stands in the mesh's way, and whether its members keep up.

use herdsman_mesh::status::{Status, TargetStatus};
use herdsman_node::NodeName;

use super::count;
use crate::codes::Code;
use crate::commands::doctor::evidence::{Evidence, MeshSeen, Seen};
use crate::commands::doctor::finding::Finding;
use crate::config::Config;

/// Changes are applied within a second; what is older than this waits for something.
const LAG_SECONDS: f64 = 60.0;

pub(super) fn findings(config: &Config, evidence: &Evidence) -> Vec<Finding> {
    let Some(seen) = &evidence.mesh else { return Vec::new() };
    let out = |node: &NodeName| matches!(evidence.nodes.get(node), Some(Seen::Out(_)));
    let mut found: Vec<Finding> = seen
        .unreached
        .iter()
        .filter(|(node, _)| !out(node))
        .map(|(node, problem)| {
            let fix = "check `mesh.login`, and what its role may do there";
            Finding::error(Code::MeshBlocked, "mesh: login", problem, fix).on(node)
        })
        .collect();
    let nodes = &config.mesh.nodes;
    let problems = seen.plan.problems.iter().filter(|problem| !is_of_absent(problem, seen));
    found.extend(problems.map(|problem| about_node(blocked(problem), problem, nodes)));
    found.extend(seen.plan.notes.iter().map(|note| {
        let fix = "`herdsman mesh up --plan` says what would be changed";
        about_node(Finding::info(Code::MeshPlan, "mesh: note", note, fix), note, nodes)
    }));
    found.extend(planned(seen));
    match &seen.status {
        None => {}
        Some(Err(problem)) => {
            let fix = "see that at least one member answers, then `herdsman mesh status`";
            found.push(Finding::error(Code::MeshLink, "mesh: status", problem, fix));
        }
        Some(Ok(status)) => found.extend(links(status, nodes, &out)),
    }
    found
}

/// That a node was not looked at is told of the node.
fn is_of_absent(problem: &str, seen: &MeshSeen) -> bool {
    problem.contains("was not looked at")
        && seen.unreached.keys().any(|node| problem.contains(&format!("`{node}`")))
}

fn blocked(problem: &str) -> Finding {
    let code = if problem.contains("wal_level") { Code::WalLevel } else { Code::MeshBlocked };
    let (says, fix) = problem.split_once("; ").unwrap_or((problem, "mend that, and look again"));
    Finding::error(code, "mesh", says, runnable(fix))
}

/// With the statement it begins with, if it does, in backticks.
fn runnable(fix: &str) -> String {
    let verbs = ["ALTER ", "CREATE ", "GRANT "];
    if !verbs.iter().any(|verb| fix.starts_with(verb)) {
        return fix.to_owned();
    }
    match fix.split_once(", and ") {
        Some((statement, rest)) => format!("run `{statement}` there, and {rest}"),
        None => format!("run `{fix}` there"),
    }
}

/// The same, about the first node that is named.
fn about_node(finding: Finding, text: &str, nodes: &[NodeName]) -> Finding {
    let place = |node: &NodeName| text.find(&format!("`{node}`"));
    match nodes.iter().filter(|node| place(node).is_some()).min_by_key(|node| place(node)) {
        Some(node) => finding.on(node),
        None => finding,
    }
}

fn planned(seen: &MeshSeen) -> Option<Finding> {
    let plan = &seen.plan;
    // Without a node or a right the plan is not the one that would be carried out.
    if !plan.problems.is_empty() || !seen.unreached.is_empty() {
        return None;
    }
    let subject = "mesh: plan";
    let Some(first) = plan.steps.first() else {
        let says = format!("{}, nothing to do", count(seen.survey.nodes.len(), "node", "nodes"));
        return Some(Finding::ok(Code::MeshPlan, subject, says));
    };
    let steps = count(plan.steps.len(), "step", "steps");
    if seen.status.is_none() {
        return Some(Finding::info(
            Code::MeshPlan,
            subject,
            format!("the nodes are no mesh yet; {steps} would make them one"),
            "`herdsman mesh up --plan` shows them, `herdsman mesh up` does them",
        ));
    }
    Some(Finding::warning(
        Code::MeshPlan,
        subject,
        format!(
            "the nodes are not as configured: {steps}, first on {}: {}",
            first.node, first.what
        ),
        "`herdsman mesh up --plan` shows them, `herdsman mesh up` does them",
    ))
}

fn links(status: &Status, nodes: &[NodeName], out: &impl Fn(&NodeName) -> bool) -> Vec<Finding> {
    let named = |name: &str| nodes.iter().find(|node| node.as_str() == name);
    let is_out = |name: &str| named(name).is_some_and(out);
    let mut found = Vec::new();
    for (name, target) in status.targets.iter().filter(|(name, _)| !is_out(name)) {
        let mut about = Vec::new();
        about.extend(member(target));
        for (source, link) in &target.links {
            let subject = format!("mesh: {source} to {name}");
            match &link.problem {
                _ if is_out(source) => {}
                Some(problem) => {
                    let fix = "`herdsman mesh status` says more; `herdsman explain H0503` what to do about a slot that is lost";
                    about.push(Finding::error(Code::MeshLink, &subject, problem, fix));
                }
                None if link.lag_seconds > LAG_SECONDS && target.state == "working" => {
                    let says = format!("{:.0} s behind", link.lag_seconds);
                    let fix = "look for long transactions and locks on the target, and for what is written at the source";
                    about.push(Finding::warning(Code::MeshLink, &subject, says, fix));
                }
                None => {}
            }
        }
        found.extend(about.into_iter().map(|finding| match named(name) {
            Some(node) => finding.on(node),
            None => finding,
        }));
    }
    found
}

fn member(target: &TargetStatus) -> Option<Finding> {
    let subject = "mesh: member";
    match (&target.problem, target.state.as_str()) {
        (None, state) => Some(Finding::ok(Code::MeshLink, subject, state)),
        (Some(problem), "stopped") => {
            let (says, _) = problem.split_once("; ").unwrap_or((problem, ""));
            Some(Finding::warning(Code::MeshLink, subject, says, "start `herdsman run`"))
        }
        (Some(problem), _) => {
            let fix = "`herdsman mesh status` says more";
            Some(Finding::error(Code::MeshLink, subject, problem, fix))
        }
    }
}

#[cfg(test)]
mod tests;
