//! What README.md and docs/*.md show is run: every `console` block as a session, every configuration through `check`.
//!
//! In each file all ` ```console ` blocks, in order, are one session. A line that starts with `$ ` is a command (a `\` at
//! its end continues it on the next line), the lines below are what it prints. In those a line `…` stands for any number of
//! lines, and a `…` within a line for any text. Numbers, LSNs, blanks and the places of temporary files may differ.

mod compare;
mod page;
mod session;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::cluster::{Cluster, Turn, open_temp_dir, sql};
use crate::docs::page::Page;
use crate::docs::session::Session;
use crate::program::{Folder, ended};

/// Sessions that name the default ports of the API cannot run beside each other.
static DEFAULT_PORTS: Mutex<()> = Mutex::new(());

/// Failures of one file after which the rest is only their echo.
const ENOUGH: usize = 3;

fn pages() -> Vec<Page> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = vec![root.join("README.md")];
    let docs = fs::read_dir(root.join("docs")).into_iter().flatten().flatten();
    files.extend(
        docs.map(|entry| entry.path()).filter(|path| path.extension() == Some("md".as_ref())),
    );
    files.sort();
    let named = |path: &PathBuf| path.strip_prefix(&root).unwrap().display().to_string();
    files
        .iter()
        .filter_map(|path| Some(Page::read(&named(path), &fs::read_to_string(path).ok()?)))
        .collect()
}

/// Runs everything a page shows, and tells what came out otherwise.
fn run(page: &Page) -> Vec<String> {
    let commands: Vec<_> = page.commands().collect();
    let needs_ports = commands.iter().any(|c| c.text.contains("8080") || c.text.contains("8443"));
    let _ports = needs_ports.then(|| DEFAULT_PORTS.lock().unwrap_or_else(PoisonError::into_inner));
    let _turn = Turn::take();
    let mut session = Session::start();
    let mut failures = Vec::new();
    for command in commands {
        if let Err(actual) = session.run(command) {
            failures.push(format!(
                "{}:{}: $ {}\n--- expected\n{}\n--- actual\n{}\n",
                page.name,
                command.line,
                command.text,
                command.expected.trim_start_matches('\n'),
                actual
            ));
        }
        if failures.len() == ENOUGH || session.is_over() {
            break;
        }
    }
    failures
}

#[test]
fn every_command_shown_prints_what_is_shown() {
    let pages: Vec<_> =
        pages().into_iter().filter(|page| page.commands().next().is_some()).collect();
    let failures: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = pages.iter().map(|page| scope.spawn(|| run(page))).collect();
        runs.into_iter().flat_map(|run| run.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// Every whole configuration shown, with its place.
pub fn configurations() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for page in pages() {
        for block in page.blocks.iter().filter(|block| block.language == "yaml") {
            if block.lines.iter().any(|line| line.starts_with("hosts:")) {
                all.push((format!("{}:{}", page.name, block.line), block.lines.join("\n")));
            }
        }
    }
    all
}

#[test]
fn every_configuration_shown_is_good() {
    let problem = |(place, text): (String, String)| {
        check(&text).err().map(|problem| format!("{place}: {problem}"))
    };
    let failures: Vec<String> = configurations().into_iter().filter_map(problem).collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// What is run must be in a `console` block, or nobody notices when it goes out of date.
#[test]
fn every_grant_shown_gives_what_a_watcher_needs() {
    let mut pages = pages();
    // The page that creates the role comes before those that grant it more.
    pages.sort_by_key(|page| page.name != "docs/watch.md");
    let blocks = || pages.iter().flat_map(|p| &p.blocks).filter(|b| b.language == "sql");
    assert!(blocks().count() >= 3, "the statements that create the role are gone");
    let cluster = Cluster::start(1);
    cluster.sql(
        "n1",
        "drop owned by herdsman cascade; drop schema herdsman_monitor cascade; drop role herdsman",
    );
    for block in blocks() {
        cluster.sql("n1", &block.lines.join("\n"));
    }
    let port = cluster.sandbox().server_port("n1").unwrap();
    let asked =
        sql(port, "herdsman", "…", "select count(*) from herdsman_monitor.timeline_history()");
    assert_eq!(asked, Ok("0".to_owned()));
    let asked = sql(port, "herdsman", "…", "select pg_has_role('pg_monitor', 'usage')");
    assert_eq!(asked, Ok("t".to_owned()));
    let asked = sql(port, "herdsman", "…", "insert into public.pgr66_avc values (now())");
    assert_eq!(asked, Ok(String::new()));
}

#[test]
fn no_command_of_ours_hides_in_a_block_that_is_not_run() {
    let mut found = Vec::new();
    for page in pages() {
        for block in page
            .blocks
            .iter()
            .filter(|block| ["sh", "bash", "shell", ""].contains(&&*block.language))
        {
            let ours = block.lines.iter().find(|line| {
                let command = line.trim_start().trim_start_matches("$ ");
                command.starts_with("herdsman ") || line.starts_with("$ ")
            });
            found.extend(ours.map(|line| format!("{}:{}: {line}", page.name, block.line)));
        }
    }
    assert!(found.is_empty(), "make these `console` blocks:\n{}", found.join("\n"));
}

/// Files that a configuration names are put in place, and variables set; everything else must be right by itself.
fn check(text: &str) -> Result<(), String> {
    let folder = Folder::within(&open_temp_dir());
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut text = text.to_owned();
    for path in page::absolute_paths(&text) {
        let file = folder.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let is_log = name.contains("log");
        let contents = match () {
            () if name.contains("key") => made.signing_key.serialize_pem(),
            () if [".pem", ".crt", "cert"].iter().any(|end| name.contains(end)) => made.cert.pem(),
            () if name == "pgbouncer.ini" => {
                "[databases]\nshop = host=10.0.0.1\nshop_ro = host=10.0.0.2\n".to_owned()
            }
            () if name == "userlist.txt" => "\"boss\" \"secret\"\n".to_owned(),
            () => "secret\n".to_owned(),
        };
        if !is_log {
            fs::write(&file, contents).unwrap();
        }
        text = text.replace(&path, &file.display().to_string());
    }
    let file = folder.file("shown.yml", &text);
    let mut command = folder.command(&["check", &file]);
    for variable in page::variables(&text) {
        command.env(variable, "secret-token");
    }
    let ended = ended(&mut command);
    if ended.code == Some(0) { Ok(()) } else { Err(format!("{:?} {}", ended.code, ended.stderr)) }
}
