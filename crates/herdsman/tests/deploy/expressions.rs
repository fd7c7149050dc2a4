//! What an expression of Prometheus asks for.

use std::collections::BTreeSet;

/// The names in an expression.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// Metrics, each with the labels it is chosen by.
    pub(super) metrics: Vec<(String, BTreeSet<String>)>,
    /// Labels that results are put together or matched by.
    pub(super) grouped: BTreeSet<String>,
}

/// Words before a list of labels.
const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// Operators that are words.
const OPERATORS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];

/// Reads an expression, or a sample. Not a parser: it knows of names what they are by what stands around them.
pub(super) fn read(expression: &str) -> Asked {
    let mut asked = Asked::default();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        if first == '{' {
            let (inside, after) = until_closed(rest, '}');
            if let Some((_, labels)) = asked.metrics.last_mut() {
                labels.extend(names(inside));
            }
            rest = after;
        } else if first == '[' {
            rest = until_closed(rest, ']').1;
        } else if first == '"' {
            rest = after_text(rest);
        } else if first.is_ascii_digit() {
            // Of 1e9 or 5m the letter is no name.
            rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.');
        } else if is_of_name(first) {
            let (name, after) = rest.split_at(rest.find(|c| !is_of_name(c)).unwrap_or(rest.len()));
            rest = after.trim_start();
            let is_called = ["(", "by ", "without "].iter().any(|next| rest.starts_with(next));
            if BEFORE_LABELS.contains(&name) && is_called {
                let (inside, after) = until_closed(rest, ')');
                asked.grouped.extend(names(inside));
                rest = after;
            } else if !is_called && !OPERATORS.contains(&name) && !BEFORE_LABELS.contains(&name) {
                asked.metrics.push((name.to_owned(), BTreeSet::new()));
            }
        } else {
            rest = rest.get(first.len_utf8()..).unwrap();
        }
    }
    asked
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// What stands between a bracket and the one that closes it, and what comes after.
fn until_closed(text: &str, closing: char) -> (&str, &str) {
    let mut rest = text.get(1..).unwrap();
    while let Some(next) = rest.find(['"', closing]) {
        let (before, after) = rest.split_at(next);
        if after.starts_with(closing) {
            let inside = text.get(1..text.len() - rest.len() + before.len()).unwrap();
            return (inside, after.get(closing.len_utf8()..).unwrap());
        }
        rest = after_text(after);
    }
    panic!("`{closing}` is missing: {text}");
}

/// What comes after a text in quotation marks.
fn after_text(text: &str) -> &str {
    let mut is_escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == '"' && !is_escaped;
        is_escaped = *c == '\\' && !is_escaped;
        ends
    });
    let (end, _) = end.unwrap_or_else(|| panic!("a quotation mark is missing: {text}"));
    text.get(end + 1..).unwrap()
}

/// The names in a list of labels, or in a choice by them.
fn names(mut list: &str) -> Vec<String> {
    let mut names = Vec::new();
    while let Some(start) = list.find(|c: char| is_of_name(c) || c == '"') {
        list = list.get(start..).unwrap();
        if list.starts_with('"') {
            list = after_text(list);
            continue;
        }
        let (name, after) = list.split_at(list.find(|c| !is_of_name(c)).unwrap_or(list.len()));
        names.push(name.to_owned());
        list = after;
    }
    names
}

#[test]
fn names_are_told_from_everything_else() {
    let labels = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    /// Metrics, each with its labels.
    type Metrics<'a> = &'a [(&'a str, &'a [&'a str])];
    let cases: [(&str, Metrics<'_>, &[&str]); 5] = [
        ("up == 0", &[("up", &[])], &[]),
        (
            "sum by (job, le) (rate(a_total{x=\"}\\\"b\", y=~\"$z\"}[5m])) > 1e3",
            &[("a_total", &["x", "y"])],
            &["job", "le"],
        ),
        (
            "a unless on (i) b and (c offset 5m or bool) * 2",
            &[("a", &[]), ("b", &[]), ("c", &[])],
            &["i"],
        ),
        ("h{} 2", &[("h", &[])], &[]),
        ("increase(a:b[$__range])", &[("a:b", &[])], &[]),
    ];
    for (expression, metrics, grouped) in cases {
        let metrics = metrics.iter().map(|(name, with)| ((*name).to_owned(), labels(with)));
        let expected = Asked { metrics: metrics.collect(), grouped: labels(grouped) };
        assert_eq!(read(expression), expected, "{expression}");
    }
}
