//! A sandbox on a terminal.

use comfy_table::{Table, presets};
use herdsman_sandbox::supervisor::Report;
use herdsman_sandbox::{Fault, LinkFault, NodeStatus, ProcessState, Role};

/// Every node on a line, then the network faults in force.
pub(super) fn nodes(report: &Report) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    // Only in a sandbox of writers can they differ.
    let mixed =
        report.nodes.windows(2).any(|pair| pair.first().map(version) != pair.get(1).map(version));
    let mut header = vec!["NODE", "ROLE", "STATE", "ENDPOINT", "PID", "FOLLOWS", "TIMELINE"];
    header.extend(mixed.then_some("VERSION"));
    table.set_header(header);
    for node in &report.nodes {
        let mut cells = Vec::from(row(node));
        cells.extend(mixed.then(|| node.version.clone()));
        table.add_row(cells);
    }
    let mut text = table.trim_fmt();
    for fault in &report.faults {
        text.push_str(&format!("\n{}", fault_line(fault)));
    }
    text
}

/// Where to find what.
pub(super) fn files(report: &Report) -> String {
    let mut text = format!(
        "\nPostgreSQL {}\ncredentials    {}\nconfiguration  {}",
        report.version,
        report.credentials_file.display(),
        report.config_file.display(),
    );
    if let Some(ca_file) = &report.ca_file {
        text.push_str(&format!("\nauthority      {}", ca_file.display()));
    }
    let next = if report.writers {
        "Make a mesh of it with: herdsman mesh up"
    } else {
        "Watch it with: herdsman run"
    };
    text.push_str(&format!("\n\n{next} {}", report.config_file.display()));
    text
}

/// For programs.
pub(super) fn json(report: &Report) -> String {
    // A report has nothing that JSON lacks.
    serde_json::to_string_pretty(report).unwrap_or_default()
}

fn row(node: &NodeStatus) -> [String; 7] {
    let role = match node.role {
        Some(Role::Primary) => "primary",
        Some(Role::Standby) => "standby",
        None => "-",
    };
    let state = match node.state {
        ProcessState::Running => "running",
        ProcessState::Frozen => "frozen",
        ProcessState::PostmasterFrozen => "postmaster frozen",
        ProcessState::Stopped => "stopped",
    };
    [
        node.name.clone(),
        role.to_owned(),
        state.to_owned(),
        node.endpoint.clone(),
        node.pid.map_or_else(dash, |pid| pid.to_string()),
        node.follows.clone().unwrap_or_else(dash),
        node.timeline.map_or_else(dash, |timeline| timeline.to_string()),
    ]
}

fn fault_line(fault: &LinkFault) -> String {
    let LinkFault { from, to, fault } = fault;
    let from = from.as_deref().unwrap_or("clients");
    let what = match fault {
        Fault::Pass => "pass".to_owned(),
        Fault::Delay(delay) => format!("delayed by {delay:?}"),
        Fault::Stall => "stalled".to_owned(),
        Fault::StallToClient => "stalled on the way back".to_owned(),
        Fault::Cut => "cut".to_owned(),
        other => format!("{other:?}"),
    };
    format!("fault: {from} -> {to} {what}")
}

fn version(node: &NodeStatus) -> &str {
    &node.version
}

fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let node = |name: &str, role, state, follows: Option<&str>| NodeStatus {
            name: name.to_owned(),
            version: "15.20".to_owned(),
            state,
            role,
            timeline: role.map(|_| 1),
            endpoint: "127.0.0.1:5001".to_owned(),
            server_port: 6001,
            pid: (state != ProcessState::Stopped).then_some(42),
            follows: follows.map(str::to_owned),
        };
        Report {
            dir: "/d".into(),
            writers: false,
            version: "15.20".to_owned(),
            nodes: vec![
                node("n1", Some(Role::Primary), ProcessState::Running, None),
                node("n2", None, ProcessState::Stopped, Some("n1")),
            ],
            faults: vec![LinkFault { from: None, to: "n2".to_owned(), fault: Fault::Stall }],
            credentials_file: "/d/credentials".into(),
            config_file: "/d/herdsman.yml".into(),
            ca_file: None,
        }
    }

    #[test]
    fn every_node_has_its_line_and_faults_follow() {
        let shown: Vec<String> = nodes(&report())
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            shown,
            [
                "NODE ROLE STATE ENDPOINT PID FOLLOWS TIMELINE",
                "n1 primary running 127.0.0.1:5001 42 - 1",
                "n2 - stopped 127.0.0.1:5001 - n1 -",
                "fault: clients -> n2 stalled",
            ]
        );
    }

    #[test]
    fn versions_are_shown_where_they_differ() {
        let mut report = report();
        report.nodes[1].version = "18.4".to_owned();
        let shown = nodes(&report);
        assert!(shown.lines().next().unwrap().ends_with("VERSION"), "{shown}");
        assert!(shown.lines().nth(2).unwrap().ends_with("18.4"), "{shown}");
    }

    #[test]
    fn json_reads_back_as_the_same_report() {
        assert_eq!(serde_json::from_str::<Report>(&json(&report())).unwrap(), report());
    }
}
