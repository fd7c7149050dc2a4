//! The pages as one book: all of them are in it, their links lead somewhere, and figures beside others are measured ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

fn root() -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap()
}

fn pages_in(folder: &str) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.extension() == Some("md".as_ref()))
        .collect()
}

/// The lines of a page that are no code, without the code within them.
fn prose(text: &str) -> Vec<String> {
    let mut is_code = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            lines.push(line.split('`').step_by(2).collect());
        }
    }
    lines
}

/// Where the links of a page lead, but to other sites.
fn links(text: &str) -> Vec<String> {
    // A link may go over the end of a line, and the code in its name does not matter.
    let text = prose(text).join(" ");
    let inline = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let named = text.split("]: ").skip(1).filter_map(|rest| rest.split_whitespace().next());
    let ours = |link: &&str| !link.contains("://") && !link.starts_with("mailto:");
    inline.chain(named).filter(ours).map(str::to_owned).collect()
}

/// What headings of a page are called in links.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut is_code = false;
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let mut anchors = BTreeSet::new();
    for line in text.lines() {
        is_code ^= line.trim_start().starts_with("```");
        let level = line.len() - line.trim_start_matches('#').len();
        let (1..=6, false, Some(heading)) = (level, is_code, line.get(level..)) else { continue };
        let Some(heading) = heading.strip_prefix(' ') else { continue };
        let kept = |c: char| match c {
            ' ' => Some('-'),
            c => (c.is_alphanumeric() || c == '-' || c == '_').then_some(c),
        };
        let anchor: String = heading.trim().to_lowercase().chars().filter_map(kept).collect();
        let times = seen.entry(anchor.clone()).or_default();
        anchors.insert(if *times == 0 { anchor } else { format!("{anchor}-{times}") });
        *times += 1;
    }
    anchors
}

#[test]
fn every_page_is_in_the_summary_once() {
    let text = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let mut listed = links(&text);
    listed.sort();
    let docs = root().join("docs");
    let pages = ["docs", "docs/errors"].into_iter().flat_map(pages_in);
    let names = pages.map(|page| page.strip_prefix(&docs).unwrap().to_str().unwrap().to_owned());
    let mut names: Vec<_> = names.filter(|name| name != "SUMMARY.md").collect();
    names.sort();
    assert_eq!(listed, names);
}

#[test]
fn every_link_of_every_page_leads_somewhere() {
    let folders = ["", "docs", "docs/errors", "deploy", "bench"];
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in folders.into_iter().flat_map(pages_in) {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            count += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match path {
                "" => page.clone(),
                path => page.parent().unwrap().join(path),
            };
            let found = fs::read_to_string(&target);
            let leads = match anchor {
                "" => target.exists(),
                anchor => found.is_ok_and(|text| anchors(&text).contains(anchor)),
            };
            if !leads {
                wrong.push(format!("{}: {link}", page.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(count > 100, "links are missed: {count}");
    assert!(wrong.is_empty(), "these lead nowhere:\n{}", wrong.join("\n"));
}

/// The numbers in a text, as they are written.
fn numbers(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_digit() || c == '.' || c == ','));
    let numbers = words.flat_map(|word| word.split("..")).map(|word| word.trim_matches(['.', ',']));
    numbers.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[test]
fn figures_beside_others_are_those_that_were_measured() {
    let page = fs::read_to_string(root().join("docs/compare.md")).unwrap();
    let measured = numbers(&fs::read_to_string(root().join("bench/README.md")).unwrap());
    let shown = numbers(&prose(&page).join("\n"));
    assert!(shown.len() > 50, "figures are missed: {shown:?}");
    // Names that have numbers in them.
    let known = ["66"].map(str::to_owned);
    let made_up: Vec<_> = shown
        .iter()
        .filter(|figure| !measured.contains(*figure) && !known.contains(figure))
        .collect();
    assert!(made_up.is_empty(), "bench/README.md has none of {made_up:?}");
}

#[test]
fn in_the_book_links_out_of_it_lead_to_the_repository() {
    let config = fs::read_to_string(root().join("book.toml")).unwrap();
    assert!(config.contains("command = \"scripts/book-links\""));
    let run = |args: &[&str], input: &str| {
        let mut command = Command::new(root().join("scripts/book-links"));
        let mut child = command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is not installed; ./test installs it");
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    assert_eq!(run(&["supports", "html"], "").status.code(), Some(0));
    assert_eq!(run(&["supports", "epub"], "").status.code(), Some(1));
    let chapter = |content: &str, below: serde_json::Value| json!({"Chapter": {"name": "x", "content": content, "sub_items": below}});
    let before = "[a](../bench/README.md#x) [b](watch.md) [c](https://../y)";
    let after = "[a](https://r/blob/main/bench/README.md#x) [b](watch.md) [c](https://../y)";
    for items in ["items", "sections"] {
        let book = |text: &str| json!({items: ["Separator", chapter(text, json!([chapter(text, json!([]))]))]});
        let context = json!({"config": {"output": {"html": {"git-repository-url": "https://r/"}}}});
        let told = run(&[], &json!([context, book(before)]).to_string());
        let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
        assert_eq!(told, book(after));
    }
}

#[test]
fn links_and_anchors_are_read_as_they_are_shown() {
    let text = "# A b\n## `C_d`, e – f\n## A b\n```\n# no\n[x](no.md)\n```\n[`code`](a.md#b) and `[no](no.md)`\n\n[r]: b.md\n";
    assert_eq!(links(text), ["a.md#b", "b.md"]);
    let expected = ["a-b", "c_d-e--f", "a-b-1"].map(str::to_owned);
    assert_eq!(anchors(text), BTreeSet::from(expected));
}
