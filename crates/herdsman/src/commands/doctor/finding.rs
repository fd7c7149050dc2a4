//! What was found, how much it matters, and what to do about it.

use std::fmt;

use herdsman_node::NodeName;
use serde::Serialize;
use serde::ser::SerializeStruct;

use crate::codes::Code;
use crate::exit::Exit;
use crate::show::clean;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing needs to be done.
    Info,
    /// It works, and will not for ever or not in every case.
    Warning,
    /// It does not work.
    Error,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    pub(super) code: Code,
    /// Where; none where it is about no one node.
    pub(super) node: Option<NodeName>,
    /// What it is about, in a word or two.
    pub(super) subject: String,
    /// What was seen.
    pub(super) evidence: String,
    /// What to do about it, with statements and commands in backticks.
    pub(super) fix: Option<String>,
}

/// Everything that was found, the worst first.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    /// The worst of them.
    severity: Severity,
    findings: Vec<Finding>,
}

impl Finding {
    fn new(severity: Severity, code: Code, subject: &str, evidence: impl Into<String>) -> Self {
        let (subject, evidence) = (subject.to_owned(), evidence.into());
        Self { severity, code, node: None, subject, evidence, fix: None }
    }

    pub(super) fn ok(code: Code, subject: &str, evidence: impl Into<String>) -> Self {
        Self::new(Severity::Ok, code, subject, evidence)
    }

    pub(super) fn info(
        code: Code,
        subject: &str,
        evidence: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self::new(Severity::Info, code, subject, evidence).with(fix)
    }

    pub(super) fn warning(
        code: Code,
        subject: &str,
        evidence: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self::new(Severity::Warning, code, subject, evidence).with(fix)
    }

    pub(super) fn error(
        code: Code,
        subject: &str,
        evidence: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self::new(Severity::Error, code, subject, evidence).with(fix)
    }

    fn with(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }

    /// The same, about a node.
    pub(super) fn on(self, node: &NodeName) -> Self {
        Self { node: Some(node.clone()), ..self }
    }

    /// The SQL statements of the fix, for who wants to run them. What stands in parentheses is for other servers.
    fn sql(&self) -> Vec<String> {
        let mut statements = Vec::new();
        let mut aside = false;
        // What is quoted stands at every other place.
        for (place, part) in self.fix.as_deref().unwrap_or_default().split('`').enumerate() {
            if place % 2 == 0 {
                let parenthesis = part.rmatch_indices(['(', ')']).next();
                aside = parenthesis.map_or(aside, |(_, sign)| sign == "(");
            } else if !aside && is_statement(part) {
                statements.push(part.to_owned());
            }
        }
        statements
    }
}

fn is_statement(text: &str) -> bool {
    const VERBS: [&str; 5] = ["ALTER ", "CREATE ", "DROP ", "GRANT ", "SELECT "];
    // A statement with something to fill in is for people only.
    VERBS.iter().any(|verb| text.starts_with(verb)) && !text.contains('…')
}

impl Report {
    /// Sorts what was found: by severity, then by code and node.
    pub(super) fn of(mut findings: Vec<Finding>) -> Self {
        for finding in &mut findings {
            // What servers say goes to a terminal.
            finding.evidence = clean(&finding.evidence);
            finding.fix = finding.fix.as_deref().map(clean);
        }
        findings.sort_by(|a, b| {
            let key = |f: &Finding| (f.code, f.node.clone(), f.subject.clone());
            b.severity.cmp(&a.severity).then_with(|| key(a).cmp(&key(b)))
        });
        findings.dedup();
        let severity = findings.first().map_or(Severity::Ok, |worst| worst.severity);
        Self { severity, findings }
    }

    pub(super) fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How many are of this severity.
    pub(super) fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// How the program ends.
    pub(super) const fn exit(&self) -> Exit {
        match self.severity {
            Severity::Ok | Severity::Info => Exit::Success,
            Severity::Warning => Exit::Warnings,
            Severity::Error => Exit::Failure,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

impl Serialize for Finding {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Finding", 7)?;
        fields.serialize_field("severity", &self.severity)?;
        fields.serialize_field("code", &self.code)?;
        fields.serialize_field("node", &self.node)?;
        fields.serialize_field("subject", &self.subject)?;
        fields.serialize_field("evidence", &self.evidence)?;
        fields.serialize_field("fix", &self.fix)?;
        fields.serialize_field("sql", &self.sql())?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_begins_with_the_worst_and_says_each_thing_once() {
        let slot = || Finding::warning(Code::SlotUnread, "slot", "a\u{1b}[2J", "drop it");
        let report = Report::of(vec![
            Finding::ok(Code::Version, "version", "15.2"),
            slot(),
            Finding::error(Code::Unreachable, "reach", "refused", "start it"),
            slot(),
            Finding::info(Code::History, "history", "closed", "open it"),
        ]);
        let severities: Vec<_> = report.findings().iter().map(|f| f.severity).collect();
        use Severity::{Error, Info, Ok, Warning};
        assert_eq!(severities, [Error, Warning, Info, Ok]);
        assert_eq!(report.findings()[1].evidence, "a [2J");
        assert_eq!((report.count(Warning), report.exit()), (1, Exit::Failure));
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst() {
        let exit = |findings| Report::of(findings).exit();
        assert_eq!(exit(vec![]), Exit::Success);
        let info = Finding::info(Code::History, "", "", "");
        assert_eq!(exit(vec![info.clone()]), Exit::Success);
        let warning = Finding::warning(Code::Lag, "", "", "");
        assert_eq!(exit(vec![info, warning]), Exit::Warnings);
    }

    #[test]
    fn statements_of_a_fix_are_told_apart_from_its_words() {
        let fix = "run `GRANT a(b) TO \"b\"` on n1 (elsewhere: `GRANT c`), then `herdsman check`, or `ALTER ROLE … x` or `SELECT 1`";
        let finding = Finding::error(Code::Monitor, "", "", fix);
        assert_eq!(finding.sql(), ["GRANT a(b) TO \"b\"", "SELECT 1"]);
        let json = serde_json::to_value(&finding).unwrap();
        assert_eq!(json["code"], "H0109");
        assert_eq!(json["sql"][1], "SELECT 1");
    }
}
