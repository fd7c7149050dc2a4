//! Whether a command printed what is shown, but for what differs each time.

use std::path::Path;

/// Any number of lines, or any text within one.
const ANY: &str = "…";

/// Whether the lines agree. Empty lines at both ends do not count.
pub(super) fn agree(expected: &str, actual: &str) -> bool {
    let expected = lines(expected);
    let actual = lines(actual);
    // reached[i]: the expected lines up to here may stand for the first i lines.
    let mut reached = vec![false; actual.len() + 1];
    reached[0] = true;
    for pattern in &expected {
        let mut next = vec![false; actual.len() + 1];
        if pattern == ANY {
            let first = reached.iter().position(|reached| *reached).unwrap_or(next.len());
            next[first..].fill(true);
        } else {
            for (i, line) in actual.iter().enumerate() {
                next[i + 1] = reached[i] && fits(pattern, line);
            }
        }
        reached = next;
    }
    reached[actual.len()]
}

/// With the places of this run called as a reader's are: `/tmp`, and `~` for the home and the working folder.
pub(super) fn with_usual_places(text: &str, tmp: &Path, homes: [&Path; 2]) -> String {
    let mut text = text.replace(&*tmp.to_string_lossy(), "/tmp");
    for home in homes {
        text = text.replace(&*home.to_string_lossy(), "~");
    }
    text
}

fn lines(text: &str) -> Vec<String> {
    let lines: Vec<_> = text.trim().lines().map(normal).collect();
    if lines == [""] { Vec::new() } else { lines }
}

/// One line without what differs each time: single blanks, no numbers but those in names such as `n1`, and a status of HTTP
/// that stands alone.
fn normal(line: &str) -> String {
    if line.len() == 3 && line.bytes().all(|b| b.is_ascii_digit()) {
        return line.to_owned();
    }
    let words: Vec<_> = line.split_whitespace().map(word).collect();
    words.join(" ")
}

fn word(word: &str) -> String {
    let word = reader_home(word);
    let mut normal = String::new();
    let mut rest = word.as_str();
    let mut in_name = false;
    while let Some(c) = rest.chars().next() {
        let length = if in_name { 0 } else { lsn(rest).max(digits(rest)) };
        if length > 0 {
            normal.push('0');
            rest = rest.get(length..).unwrap();
            // As in `2026-11-22T08`, where no name begins.
            if let Some(after) = rest.strip_prefix('T') {
                normal.push('T');
                rest = after;
            }
        } else {
            normal.push(c);
            in_name = c.is_ascii_alphabetic() || (in_name && c.is_ascii_digit());
            rest = rest.get(c.len_utf8()..).unwrap();
        }
    }
    normal
}

/// `/home/you` is `~`.
fn reader_home(word: &str) -> String {
    let Some((before, after)) = word.split_once("/home/") else { return word.to_owned() };
    let end = after.find('/').unwrap_or(after.len());
    format!("{before}~{}", after.get(end..).unwrap())
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// Length of the LSN that the text begins with: `16/B374D848`.
fn lsn(text: &str) -> usize {
    let half = |text: &str| {
        text.bytes().take_while(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(b)).count()
    };
    let high = half(text);
    let Some(rest) = text.get(high..).and_then(|rest| rest.strip_prefix('/')) else { return 0 };
    let low = half(rest);
    if high == 0 || low == 0 { 0 } else { high + 1 + low }
}

/// Whether a line is what the pattern says, where `…` is any text.
fn fits(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split(ANY).map(str::trim);
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut parts: Vec<_> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap();
    }
    rest.ends_with(last)
}

#[test]
fn numbers_blanks_and_places_may_differ_and_nothing_else() {
    let same = [
        ("n1  primary   0/3000148  0.2 s ago", "n1 primary 16/B374D848 12.75 s ago"),
        ("pid 1", "pid 31337"),
        ("2026-11-22T07:30:12Z", "2027-01-02T18:00:00Z"),
        ("", "\n\n"),
        ("a\n\nb\n", "a\n\nb"),
        ("a\n…\nd", "a\nb\nc\nd"),
        ("a\n…", "a"),
        ("…", ""),
        ("PostgreSQL … from …", "PostgreSQL 15.18 from /x"),
        ("PostgreSQL …", "PostgreSQL 15.18 from /x"),
        ("/home/you/herd/n1", "/home/me/herd/n1"),
    ];
    for (expected, actual) in same {
        assert!(agree(expected, actual), "{expected:?} should agree with {actual:?}");
    }
    let different = [
        ("n1", "n2"),
        ("", "x"),
        ("x", ""),
        ("a\n…\nd", "a\nb\nc"),
        ("a … c", "a b"),
        ("a … b … a", "a a"),
        ("0/1", "x/1"),
        ("a\nb", "b\na"),
        ("/v1/primary", "/v2/primary"),
    ];
    for (expected, actual) in different {
        assert!(!agree(expected, actual), "{expected:?} should not agree with {actual:?}");
    }
    let places = with_usual_places(
        "/t/x/tmp/a /t/x/cwd/b",
        Path::new("/t/x/tmp"),
        [Path::new("/t/x/cwd"), Path::new("/h")],
    );
    assert_eq!(places, "/tmp/a ~/b");
}
