use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::*;

fn sources(folder: &Path, found: &mut String) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if !path.ends_with("codes/tests.rs") {
            found.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_code_is_used_and_every_page_belongs_to_a_code() {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut source = String::new();
    sources(&crate_folder.join("src"), &mut source);
    for code in Code::ALL {
        let uses = ["Code", "Self"].map(|path| format!("{path}::{code:?}"));
        assert!(uses.iter().any(|used| source.contains(used)), "{code} ({code:?}) is not used");
    }
    let pages: BTreeSet<String> = fs::read_dir(crate_folder.join("../../docs/errors"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "README.md")
        .collect();
    let codes: BTreeSet<String> = Code::ALL.iter().map(|code| format!("{code}.md")).collect();
    assert_eq!(pages, codes);
}

#[test]
fn every_page_says_what_it_means_how_to_see_it_and_what_to_do() {
    for code in Code::ALL {
        let page = code.page();
        assert!(page.starts_with(&format!("# {code}: ")), "{code}: {page}");
        for part in ["\n## What it means\n", "\n## How to see it\n", "\n## What to do\n"] {
            assert!(page.contains(part), "{code} lacks {part}");
        }
        assert!(code.title().len() < 64, "{code}");
        for line in page.lines() {
            assert!(line.chars().count() <= 125, "{code}: too wide: {line}");
        }
    }
}

#[test]
fn the_list_of_codes_in_the_documentation_is_complete() {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors/README.md");
    let list = fs::read_to_string(list).unwrap();
    for code in Code::ALL {
        let line = format!("| [{code}]({code}.md) | {} |", code.title());
        assert!(list.contains(&line), "docs/errors/README.md lacks: {line}");
    }
}

#[test]
fn codes_are_in_order_and_read_as_people_write_them() {
    assert!(Code::ALL.is_sorted_by(|a, b| a.name() < b.name()));
    for text in ["H0101", "h0101", "H101", "0101", "101"] {
        assert_eq!(text.parse(), Ok(Code::Unreachable), "{text}");
    }
    for text in ["", "H", "H9999", "0x1", "H-101", "99999999"] {
        assert_eq!(text.parse::<Code>(), Err(NoCode(text.to_owned())), "{text}");
    }
}

/// Those are run by a test; what is only shown here would go out of date.
#[test]
fn every_block_of_sql_stands_in_a_page_whose_statements_are_run() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let run = ["watch.md", "gateway.md"].map(|page| fs::read_to_string(docs.join(page)).unwrap());
    let mut blocks = 0;
    for code in Code::ALL {
        for block in code.page().split("```sql\n").skip(1) {
            let sql = block.split("```").next().unwrap();
            assert!(run.iter().any(|page| page.contains(sql)), "{code}: {sql}");
            blocks += 1;
        }
    }
    assert!(blocks > 0);
}
