//! How a report reads, on as many columns as there are.

use super::finding::{Finding, Report, Severity};
use crate::codes::Code;

/// The first column: as wide as its longest word, and two blanks.
const MARGIN: usize = 9;

/// What was found, the worst first, and how many of each. With what is as it should be where `all`.
pub(super) fn shown(report: &Report, all: bool, width: usize) -> String {
    let told = report.findings().iter().filter(|finding| all || finding.severity > Severity::Ok);
    let mut parts: Vec<String> = told.map(|finding| paragraph(finding, width)).collect();
    parts.push(summary(report));
    parts.join("\n")
}

fn paragraph(finding: &Finding, width: usize) -> String {
    let place = finding.node.as_ref().map(|node| format!("{node}: ")).unwrap_or_default();
    let head = format!(
        "{:<MARGIN$}{} {place}{}: {}",
        finding.severity.to_string(),
        finding.code,
        finding.subject,
        finding.evidence
    );
    let mut text = wrapped(&head, MARGIN, width);
    if let Some(fix) = &finding.fix {
        text.push('\n');
        text.push_str(&wrapped(&format!("{:MARGIN$}to do: {fix}", ""), MARGIN, width));
    }
    if finding.severity > Severity::Ok {
        text.push('\n');
    }
    text
}

fn summary(report: &Report) -> String {
    let count = |severity, one: &str, many: &str| match report.count(severity) {
        0 => None,
        1 => Some(format!("1 {one}")),
        number => Some(format!("{number} {many}")),
    };
    let bad: Vec<String> = [
        count(Severity::Error, "error", "errors"),
        count(Severity::Warning, "warning", "warnings"),
        count(Severity::Info, "note", "notes"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let fine = report.count(Severity::Ok);
    if bad.is_empty() {
        return format!("all well, {fine} fine");
    }
    let first = report.findings().first().map_or(Code::Internal, |worst| worst.code);
    let bad = bad.join(", ");
    format!("{bad}, {fine} fine; `herdsman explain {first}` says more of the first")
}

/// Broken at blanks; all lines but the first begin at column `margin`. What has no blank is left whole, to be copied.
fn wrapped(text: &str, margin: usize, width: usize) -> String {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut length = 0;
    for (place, word) in text.split(' ').enumerate() {
        let more = word.chars().count();
        let begins = line.trim().is_empty() && !lines.is_empty();
        if place > 0 && !begins && length + 1 + more > width && !line.trim().is_empty() {
            lines.push(std::mem::replace(&mut line, " ".repeat(margin)));
            length = margin;
        } else if place > 0 && !begins {
            line.push(' ');
            length += 1;
        }
        line.push_str(word);
        length += more;
    }
    lines.push(line);
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use herdsman_node::NodeName;

    use super::*;

    fn report() -> Report {
        let node = NodeName::new("n1").unwrap();
        Report::of(vec![
            Finding::ok(Code::Version, "version", "PostgreSQL 15.18").on(&node),
            Finding::warning(
                Code::Monitor,
                "pg_monitor",
                "`mon` may not see who replicates from whom: no proof can be had",
                "run `GRANT pg_monitor TO \"mon\"` on the primary",
            )
            .on(&node),
            Finding::error(Code::SplitBrain, "primary", "n1 and n2 both accept writes", "stop one"),
        ])
    }

    #[test]
    fn a_report_is_read_from_the_top_on_80_columns() {
        assert_eq!(
            shown(&report(), false, 80),
            "\
error    H0005 primary: n1 and n2 both accept writes
         to do: stop one

warning  H0109 n1: pg_monitor: `mon` may not see who replicates from whom: no
         proof can be had
         to do: run `GRANT pg_monitor TO \"mon\"` on the primary

1 error, 1 warning, 1 fine; `herdsman explain H0005` says more of the first"
        );
        let all = shown(&report(), true, 80);
        assert!(all.contains("\nok       H0108 n1: version: PostgreSQL 15.18\n"), "{all}");
    }

    #[test]
    fn nothing_is_wider_than_the_screen_but_what_cannot_be_broken() {
        let long = "x".repeat(100);
        assert_eq!(wrapped(&format!("a b {long} c"), 2, 10), format!("a b\n  {long}\n  c"));
        assert_eq!(wrapped("one two three", 2, 9), "one two\n  three");
        assert_eq!(wrapped("", 2, 9), "");
    }
}
