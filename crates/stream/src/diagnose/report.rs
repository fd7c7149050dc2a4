//! Findings, and how they read.

use std::fmt;

use serde::Serialize;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and will not for ever or not in every case.
    Warn,
    /// It does not work.
    Fail,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// What it is about.
    pub subject: String,
    /// What it says.
    pub says: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// What a diagnosis found, in the order in which somebody would put things right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `host:port` that was looked at.
    pub endpoint: String,
    /// What was found.
    pub findings: Vec<Finding>,
}

impl Finding {
    pub(super) fn ok(subject: &str, says: impl Into<String>) -> Self {
        Self { level: Level::Ok, subject: subject.to_owned(), says: says.into(), fix: None }
    }

    pub(super) fn warn(subject: &str, says: impl Into<String>, fix: impl Into<String>) -> Self {
        let fix = Some(fix.into());
        Self { level: Level::Warn, subject: subject.to_owned(), says: says.into(), fix }
    }

    pub(super) fn fail(subject: &str, says: impl Into<String>, fix: Option<String>) -> Self {
        Self { level: Level::Fail, subject: subject.to_owned(), says: says.into(), fix }
    }
}

impl Report {
    /// The worst level of all findings.
    #[must_use]
    pub fn level(&self) -> Level {
        self.findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        })
    }
}

/// One line, and one more for what to do.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<4}  {}: {}", self.level, self.subject, self.says)?;
        self.fix.as_ref().map_or(Ok(()), |fix| write!(f, "\n      to do: {fix}"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.findings.iter().try_for_each(|finding| writeln!(f, "{finding}"))
    }
}

/// Bytes in words, as in `1.5 GB`, with PostgreSQL's units of 1024.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["bytes", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut scale = 1_u64;
    let mut chosen = 0;
    while bytes / scale >= 1024 && chosen + 1 < units.len() {
        scale <<= 10;
        chosen += 1;
    }
    let unit = units.get(chosen).copied().unwrap_or("bytes");
    let (whole, rest) = (bytes / scale, bytes % scale);
    let tenths = u128::from(rest) * 10 / u128::from(scale);
    if tenths == 0 || whole >= 100 {
        format!("{whole} {unit}")
    } else {
        format!("{whole}.{tenths} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short_and_never_rounded_up() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 kB"),
            (1536, "1.5 kB"),
            ((1 << 30) - 1, "1023 MB"),
            (5 << 29, "2.5 GB"),
            (u64::MAX, "15.9 EB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn a_report_reads_line_by_line() {
        let findings = vec![
            Finding::ok("wal_level", "logical"),
            Finding::fail("role", "may not", Some("let it".to_owned())),
        ];
        let report = Report { endpoint: "db1:5432".to_owned(), findings };
        assert_eq!(
            report.to_string(),
            "ok    wal_level: logical\nFAIL  role: may not\n      to do: let it\n"
        );
        assert_eq!(report.level(), Level::Fail);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["findings"][0]["level"], "ok");
        assert_eq!(json["findings"][1]["fix"], "let it");
    }
}
