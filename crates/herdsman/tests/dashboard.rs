//! The dashboard as an operator sees it: a real browser, a real program, real servers.
//!
//! With `HERDSMAN_SCREENSHOTS` set, the pictures of `docs/images` are taken on the way.

mod browser;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use self::browser::Browser;
use crate::cluster::{Cluster, until};
use crate::gateway::Gateway;
use crate::mesh::{NODES, TOKEN, Yard};
use crate::program::{Folder, Running, closed_port};

const DESK: (u32, u32) = (1280, 900);
const PHONE: (u32, u32) = (360, 740);

/// Takes a picture, where pictures are wanted.
fn photograph(browser: &Browser, name: &str, (width, height): (u32, u32), dark: bool) {
    if std::env::var_os("HERDSMAN_SCREENSHOTS").is_none() {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/images");
    std::fs::create_dir_all(&folder).unwrap();
    browser.look(width, height, dark);
    browser.value("scrollTo(0, 0); document.activeElement.blur()");
    // Some samples more, for the lines to be lines.
    std::thread::sleep(Duration::from_secs(6));
    browser.photograph(&folder.join(format!("{name}.png")));
    browser.look(DESK.0, DESK.1, false);
}

/// On a desk and on a phone, light and dark, nothing is too wide.
#[track_caller]
fn fits_everywhere(browser: &Browser) {
    for ((width, height), dark) in
        [(DESK, true), (PHONE, false), (PHONE, true), ((320, 600), false)]
    {
        browser.look(width, height, dark);
        let settled = format!(
            "document.getElementById('picture').lastElementChild.getBoundingClientRect().right <= {width}"
        );
        until("it has settled", || browser.value(&settled), |settled| *settled == json!(true));
        browser.fits();
    }
    browser.look(DESK.0, DESK.1, false);
}

#[test]
fn the_page_tells_who_writes_and_why_nobody_does_through_kill_promotion_and_split_brain() {
    let cluster = Cluster::start(2);
    cluster.sql("n1", "create table filler (id bigint primary key, t text)");
    let gateway = Gateway::of(&cluster);
    let folder = Folder::new();
    let password = cluster.sandbox().credentials().password("postgres").unwrap();
    let stream = format!(
        "stream:\n  login: {{user: postgres, dbname: postgres, password: '{password}'}}\n  sinks: {{live: {{sse: {{}}}}}}\n"
    );
    let file = folder.file("herdsman.yml", &gateway.yaml(&stream));
    let running = folder.start(&["run", &file]);
    let url = running.url();
    let browser = Browser::start();
    browser.look(DESK.0, DESK.1, false);
    browser.open(&format!("{url}/"));

    // All is well.
    browser
        .wait("#verdict", &["n1 is the primary", "Proven: ", "3 of 3 nodes answer", "2 standbys"]);
    browser.wait("#contact", &["live"]);
    browser.wait_for_card("n1", &["n1, primary, "]);
    for standby in ["n2", "n3"] {
        browser.wait_for_card(standby, &["standby, follows n1", " behind, "]);
    }
    browser.wait("#events", &["n1 is the primary on timeline 1"]);
    gateway.until_writable(&running);
    browser.wait("#gateway", &["Clients: ", "half take at most", "Pools", "app"]);
    browser.wait("#picture", &["Gateway: "]);
    let busy = AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while busy.load(Ordering::Relaxed) {
                let _done = gateway.as_app("insert into t values (1); select count(*) from t");
                let _done = gateway.as_app("select 1");
            }
        });
        let moving = ["tap", "follows"].map(|line| {
            format!("document.querySelectorAll('#picture :is(.{line}.slow, .{line}.brisk, .{line}.fast)').length")
        });
        for line in moving {
            until("it moves", || browser.value(&line), |lines| lines.as_u64() > Some(0));
        }
        photograph(&browser, "dashboard-light", DESK, false);
        photograph(&browser, "dashboard-dark", DESK, true);
        photograph(&browser, "dashboard-phone", PHONE, false);
        busy.store(false, Ordering::Relaxed);
    });
    browser.wait("#stream", &["reads from n1", "live"]);
    assert_eq!(browser.value("document.getElementById('troubles').hidden"), json!(true));
    let title = browser.value("document.title");
    assert!(title.as_str().unwrap().contains("n1 is the primary"), "{title}");

    // By keyboard alone: to the second card, and into its details.
    browser.value("document.querySelector('.card').focus()");
    browser.key("ArrowDown");
    browser.key("Enter");
    browser.wait("#details", &["n2", "Follows", "n1", "Answers in", "Timeline"]);
    browser.key("Escape");
    browser.wait("#details", &["Choose a node"]);
    fits_everywhere(&browser);

    // The primary dies: nobody may be written to, and it says why.
    cluster.kill("n1");
    browser.wait("#verdict", &["No proven primary", "Nobody may be written to: ", "n1"]);
    assert!(!browser.text("#verdict").contains("is the primary"), "{}", browser.text("#verdict"));
    browser.wait_for_card("n1", &["n1, down"]);
    browser.wait("#troubles", &["n1: does not answer"]);
    browser.wait("#events", &["No proven primary; it was n1", "n1 does not answer"]);
    browser.wait("#stream", &["cannot read now"]);
    fits_everywhere(&browser);
    photograph(&browser, "dashboard-no-primary", (1280, 760), true);

    // Another one is promoted, and the old one comes back.
    cluster.promote("n2");
    browser.wait("#verdict", &["n2 is the primary", "timeline 2"]);
    browser.wait_for_card("n2", &["n2, primary"]);
    browser.wait("#events", &["n2 is the primary on timeline 2, after n1"]);
    cluster.start_node("n1");
    browser.wait_for_card("n1", &["n1, fenced"]);
    browser.wait("#events", &["n1 is fenced: an old primary that must not be used"]);
    assert!(browser.text("#verdict").contains("n2 is the primary"));

    // To a program that was not there it is a riddle: it points at neither.
    let other = Folder::new();
    let file = other.file("herdsman.yml", &Gateway::of(&cluster).yaml(""));
    let second = other.start(&["run", &file]);
    browser.open(&format!("{}/dashboard", second.url()));
    browser
        .wait("#verdict", &["Split brain: n1 and n2 claim", "Nobody is handed out for writes: "]);
    for claimant in ["n1", "n2"] {
        browser.wait_for_card(claimant, &["claims primary"]);
    }
    let pointed_at = "[...document.querySelectorAll('.badge')].filter(one => one.innerText === 'primary').length";
    assert_eq!(browser.value(pointed_at), json!(0));
    fits_everywhere(&browser);
    photograph(&browser, "dashboard-split-brain", (1280, 760), false);
    browser.is_content(&[&url, &second.url()]);

    // Without its server the page does not go on as if nothing had happened.
    drop(second);
    browser.wait(
        "#verdict",
        &["No contact with Herdsman; last known: Split brain", "may be wrong by now"],
    );
    browser.wait("#contact", &["no contact"]);
}

#[test]
fn the_page_shows_a_mesh_and_asks_for_the_token_where_rows_are_shown() {
    let yard = Yard::up();
    let more = "ledger: {log: {embedded: {path: all.log}}, nodes: {lite: {sqlite: {path: lite.db}}}}\nhooks:\n  - { name: pager, on: [conflict], exec: { command: [cat] } }\n";
    yard.folder.file("herdsman.yml", &(yard.read("herdsman.yml") + more));
    let (_running, url) = yard.run();
    let browser = Browser::start();
    browser.look(DESK.0, DESK.1, false);
    browser.open(&format!("{url}/"));
    browser.wait("#verdict", &["A mesh: 3 of 3 members take writes"]);
    browser.wait("#mesh .matrix", &["n1", "n2", "n3", "working"]);
    let cells = "document.querySelectorAll('#mesh .matrix td[data-look=fine]').length";
    until("every link streams", || browser.value(cells), |cells| *cells == json!(6));
    yard.sql("n1", "insert into t (v) values ('<i>here</i>')");
    yard.all_tell("select v from t", "<i>here</i>");
    fits_everywhere(&browser);
    browser.is_content(&[&url]);

    // Two write the same row before either hears of the other.
    yard.prints(&["pause", "--url", &url]);
    let held = "document.querySelectorAll('#mesh .matrix td[data-look=bad]').length";
    until("every link is held", || browser.value(held), |held| held.as_u64() >= Some(6));
    for node in NODES {
        yard.sql(node, &format!("update t set v = 'of <b>{node}</b>'"));
    }
    yard.prints(&["resume", "--url", &url]);
    browser.value("document.getElementById('conflicts-ask').click()");
    browser.wait("#conflicts-told", &["Conflicts show rows"]);
    browser.wait("#token", &["The list of conflicts is hidden: ", "kept in this tab only"]);
    let overviews = || browser.requests().iter().filter(|url| url.ends_with("/overview")).count();
    let before = overviews();
    until("the page has gone on", overviews, |now| *now >= before + 3);
    browser.wait("#token", &["The list of conflicts is hidden: "]);
    let enter = |token: &str| {
        browser.value(&format!(
            "document.getElementById('token-field').value = {}; document.getElementById('token').requestSubmit()",
            json!(token)
        ))
    };
    enter("not the token");
    browser.value("document.getElementById('conflicts-ask').click()");
    browser.wait("#token", &["hidden from this token"]);
    enter(TOKEN);
    let shown = || {
        browser.value("document.getElementById('conflicts-ask').click()");
        std::thread::sleep(Duration::from_millis(300));
        browser.text("#conflicts-told") + &browser.text("#conflicts")
    };
    until("the conflict is shown", shown, |text| {
        text.contains("public.t") && text.contains("update and update") && text.contains("<b>")
    });
    assert_eq!(browser.value("document.getElementById('token').hidden"), json!(true));
    assert_eq!(browser.value("localStorage.length"), json!(0), "the token outlives the tab");
    browser.wait("#events", &["has recorded "]);
    let created =
        yard.folder.herdsman(&["ledger", "sql", "CREATE TABLE a (id bigint PRIMARY KEY)"]);
    assert_eq!(created.code, Some(0), "{}", created.stderr);
    browser.wait("#ledger", &["lite", "SQLite", "follows", "which ends before entry "]);
    browser.wait("#hooks", &["pager", "exec", "succeeded"]);
    photograph(&browser, "dashboard-mesh", (1280, 1600), false);
}

#[test]
fn the_page_shows_how_far_each_database_of_a_ledger_is_and_which_may_not_go_on() {
    let cluster = Cluster::start(0);
    let folder = Folder::new();
    // The sandbox's superuser owns what the ledger makes.
    let password = cluster.sandbox().credentials().password("postgres").unwrap();
    let login = format!("{{user: postgres, dbname: postgres, password: '{password}'}}");
    let more = format!(
        "bind: 127.0.0.1\nport: 0\nledger:\n  log: {{embedded: {{path: all.log}}}}\n  nodes:\n    lite: {{sqlite: {{path: lite.db}}}}\n    \
         pg: {{postgres: {{host: n1, login: {login}}}}}\nhooks:\n- {{name: pager, on: [no_primary, fenced], exec: {{command: [cat]}}}}\n"
    );
    folder.file("herdsman.yml", &(cluster.hosts(str::to_owned) + &more));
    let running = folder.start(&["run"]);
    let url = running.url();
    let sql = |statement: &str| {
        let ended = folder.herdsman(&["ledger", "sql", "--node", "lite", statement]);
        assert_eq!(ended.code, Some(0), "{statement}: {}", ended.stderr);
    };
    sql("CREATE TABLE account (id bigint PRIMARY KEY, balance bigint)");
    sql("INSERT INTO account VALUES (1, 100)");
    let browser = Browser::start();
    browser.look(DESK.0, DESK.1, false);
    browser.open(&format!("{url}/"));
    browser.wait("#verdict", &["n1 is the primary"]);
    // Where the log ends: what was tried twice has an entry more.
    let end = || {
        let status = folder.herdsman(&["ledger", "status", "--json"]).stdout;
        serde_json::from_str::<serde_json::Value>(&status).unwrap()["end"].as_u64().unwrap()
    };
    let first = end();
    browser.wait("#ledger caption", &[&format!("which ends before entry {}", first + 1)]);
    // The page shows a line for each: who, what, how it is, and its entry.
    let line = |node: &str| {
        format!(
            "[...document.querySelectorAll('#ledger tbody tr')].find(row => row.innerText.startsWith({node:?}))?.innerText ?? ''"
        )
    };
    let is = |node: &str, words: &[&str]| {
        let row = line(node);
        until(
            &format!("{node} is {words:?}"),
            || browser.value(&row),
            |told| words.iter().all(|word| told.as_str().unwrap().contains(word)),
        );
    };
    let at_the_end = format!("\t{first}\t0\t");
    is("lite", &["SQLite", "follows", &at_the_end]);
    is("pg", &["PostgreSQL", "follows", &at_the_end]);
    browser.wait("#hooks", &["pager", "exec", "nothing to do"]);
    assert_eq!(browser.value("document.getElementById('troubles').hidden"), json!(true));
    fits_everywhere(&browser);
    photograph(&browser, "dashboard-ledger", (1280, 860), false);

    // Somebody writes past the ledger, and the log changes that row.
    cluster.sql("n1", "set session_replication_role = replica; update account set balance = 7");
    sql("UPDATE account SET balance = balance - 1 WHERE id = 1");
    is("pg", &["fenced: it may not go on", &format!("\t{}\t", end() - first)]);
    is("lite", &["follows", &format!("\t{}\t0\t", end())]);
    browser.wait("#troubles", &["ledger, pg: fenced"]);
    fits_everywhere(&browser);
    browser.is_content(&[&url]);
}

/// A program that watches one node, which is not there.
fn alone(folder: &Folder, name: &str) -> Running {
    let port = closed_port();
    let file = folder.file(
        "herdsman.yml",
        &format!("hosts:\n  '{name}': {{host: 127.0.0.1, port: {port}, sslmode: disable}}\nbind: 127.0.0.1\nport: 0\n"),
    );
    folder.start(&["run", &file])
}

#[test]
fn numbers_are_made_readable_and_percentiles_lie_between_their_bounds() {
    let folder = Folder::new();
    let running = alone(&folder, "n1");
    let browser = Browser::start();
    browser.open(&format!("{}/", running.url()));
    let cases = [
        ("text", "bytes(0)", json!("0 B")),
        ("text", "bytes(1536)", json!("1.5 kB")),
        ("text", "bytes(null)", json!("–")),
        ("text", "seconds(0.0000421)", json!("42.1 µs")),
        ("text", "seconds(0.25)", json!("250 ms")),
        ("text", "seconds(75)", json!("1 min 15 s")),
        ("text", "list(['a', 'b', 'c'])", json!("a, b and c")),
        ("store", "quantile(new Map(), 0.5)", json!(null)),
        ("store", "quantile(new Map([[64, 50], [128, 50], [Infinity, 0]]), 0.5)", json!(64e-6)),
        ("store", "quantile(new Map([[64, 50], [128, 50], [Infinity, 0]]), 0.75)", json!(96e-6)),
        ("store", "quantile(new Map([[64, 1], [Infinity, 9]]), 0.95)", json!(64e-6)),
        // Whom a node followed is a line still, and nobody is above themselves.
        (
            "layout",
            "family({verdict: {}, nodes: {a: {follows: 'b'}, b: {follows: 'a'}}}, new Map()).lines.length",
            json!(1),
        ),
        (
            "layout",
            "family({verdict: {}, nodes: {a: {}, b: {}}}, new Map([['b', 'a']])).lines[0].lost",
            json!(true),
        ),
    ];
    for (module, call, expected) in cases {
        let found =
            browser.value(&format!("import('/dashboard/{module}.js').then(it => it.{call})"));
        assert_eq!(found, expected, "{call}");
    }
}

#[test]
fn names_from_elsewhere_are_text_and_run_nothing() {
    let folder = Folder::new();
    let name = "<img src=x onerror=document.title=1>";
    let running = alone(&folder, name);
    let browser = Browser::start();
    browser.open(&format!("{}/", running.url()));
    browser.wait("#picture .card .name", &[name]);
    browser.wait("#troubles", &[name, "does not answer"]);
    assert_eq!(browser.value("document.images.length"), json!(0));
    // What a mistake in the page would meet: the policy runs no script that came as text.
    let injected = "new Promise(done => { const script = document.createElement('script'); script.textContent = 'window.ran = 1'; \
                    document.body.append(script); setTimeout(() => done(window.ran ?? 0), 50); })";
    assert_eq!(browser.value(injected), json!(0));
    assert!(browser.complaints().iter().any(|told| told.contains("Content Security Policy")));
}
