use herdsman_node::{Lsn, NodeName, Role, Timeline};
use herdsman_watch::{Lag, NodeView, Proof, Topology, Why};
use ratatui_core::backend::TestBackend;
use ratatui_core::style::{Color, Modifier};
use ratatui_core::terminal::Terminal;

use super::*;
use crate::client::follow::Sent;
use crate::commands::top::data::News;
use crate::commands::top::samples::Samples;
use crate::commands::top::state::Key;

const PLAIN: Paint = Paint { colours: false };

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn herd(lag: f64) -> Topology {
    let primary = NodeView {
        role: Role::Primary,
        readable: true,
        timeline: Some(Timeline(1)),
        lsn: Some(Lsn(0x500_0148)),
        evidence_age_seconds: Some(0.2),
        ..NodeView::default()
    };
    let standby = NodeView {
        role: Role::Standby,
        follows: Some(name("n1")),
        lag: Some(Lag { bytes: 0, seconds: 0.0 }),
        ..primary.clone()
    };
    let late = NodeView {
        readable: lag < 10.0,
        reasons: (lag >= 10.0).then(|| "it is 12.4 s behind".to_owned()).into_iter().collect(),
        lag: Some(Lag { bytes: 98_304, seconds: lag }),
        ..standby.clone()
    };
    Topology {
        version: 6,
        term: 1,
        verdict: Verdict::Primary {
            node: name("n1"),
            timeline: Timeline(1),
            proof: Proof::Attested,
            reason: "2 of 2 standbys that answer follow it, and it says so too".to_owned(),
        },
        nodes: [(name("n1"), primary), (name("n2"), standby), (name("n3"), late)].into(),
        ..Topology::default()
    }
}

fn killed() -> Topology {
    let mut herd = herd(0.3);
    herd.verdict = Verdict::None { why: Why::NoClaimant, reason: "n1 does not answer".to_owned() };
    let gone = NodeView { error: Some("nothing listens there".to_owned()), ..NodeView::default() };
    herd.nodes.insert(name("n1"), gone);
    herd
}

fn state_of(topology: Topology) -> State {
    let mut state = State::new("http://localhost:8080".to_owned());
    state.take(News::Topology(Box::new(topology)), Duration::ZERO);
    state
}

fn drawn(state: &State, (width, height): (u16, u16), paint: Paint) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state, paint)).unwrap();
    terminal
}

fn text(state: &State, (width, height): (u16, u16)) -> String {
    let terminal = drawn(state, (width, height), PLAIN);
    let cells = terminal.backend().buffer().content();
    let lines = cells.chunks(usize::from(width)).map(|line| {
        let line: String = line.iter().map(ratatui_core::buffer::Cell::symbol).collect();
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

/// The picture in the documentation is what is drawn.
#[test]
fn the_herd_fits_on_80_by_24_as_the_documentation_shows_it() {
    let mut state = state_of(herd(0.0));
    for lag in [0.0, 0.0, 0.2, 0.7, 2.0, 7.0, 12.4] {
        state.take(News::Topology(Box::new(herd(lag))), Duration::ZERO);
    }
    state.press(Key::End);
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/terminal.md");
    let page = std::fs::read_to_string(page).unwrap();
    let shown = page.split("```text\n").nth(1).and_then(|rest| rest.split("\n```").next());
    assert_eq!(text(&state, (80, 24)), shown.unwrap_or_default());
}

#[test]
fn a_lost_primary_is_said_in_words_at_once() {
    let mut state = state_of(herd(0.0));
    state.take(News::Topology(Box::new(killed())), Duration::ZERO);
    let shown = text(&state, (80, 24));
    assert!(shown.contains("\nno primary: n1 does not answer\n"), "{shown}");
    let row = shown.lines().find(|line| line.starts_with("n1  ")).unwrap();
    assert!(row.contains("unavailable") && row.contains("nothing listens there"), "{shown}");
    assert!(row.contains("··"), "its lag is not known: {shown}");
}

#[test]
fn who_is_away_is_said_and_what_is_shown_is_called_old() {
    let mut state = State::new("http://localhost:8080".to_owned());
    state.take(News::Away("failed to ask: refused".to_owned()), Duration::from_secs(2));
    state.now = Duration::from_secs(9);
    let shown = text(&state, (80, 24));
    assert!(
        shown.contains("nothing is known yet\n\naway for 7 s: failed to ask: refused"),
        "{shown}"
    );
    let mut state = state_of(herd(0.0));
    state.take(News::Away("failed to ask: refused".to_owned()), Duration::from_secs(2));
    let shown = text(&state, (80, 24));
    let said = "away for 0 s; below is what was last seen: failed to ask: refused";
    assert!(shown.contains(said) && shown.contains("primary is n1"), "{shown}");
    state.take(News::Topology(Box::new(herd(0.0))), Duration::from_secs(3));
    assert!(!text(&state, (80, 24)).contains("away"));
}

#[test]
fn without_colours_weight_tells_and_with_them_colours() {
    let state = state_of(killed());
    let coloured = drawn(&state, (80, 24), Paint { colours: true });
    let plain = drawn(&state, (80, 24), PLAIN);
    let verdict = |terminal: &Terminal<TestBackend>| terminal.backend().buffer()[(0, 1)].clone();
    assert_eq!(verdict(&coloured).fg, Color::Red);
    assert_eq!(verdict(&plain).modifier, Modifier::REVERSED);
    let colours =
        |cell: &ratatui_core::buffer::Cell| (cell.fg, cell.bg) != (Color::Reset, Color::Reset);
    assert!(!plain.backend().buffer().content().iter().any(colours));
}

#[test]
fn every_page_and_the_help_fit_every_size() {
    for size in [(1, 1), (39, 24), (40, 8), (80, 24), (200, 60)] {
        for key in ['1', '2', '3', '4', '5', '6', '7', '?'] {
            let mut state = told();
            state.press(Key::Letter(key));
            let _drawn_without_panic = text(&state, size);
        }
    }
    assert!(text(&told(), (39, 24)).starts_with("39 × 24 is too small"));
    let mut state = told();
    state.press(Key::Letter('?'));
    let help = text(&state, (80, 24));
    assert!(
        help.contains("hold the picture") && help.contains("/v2/topology, /v2/events"),
        "{help}"
    );
}

/// With a gateway, a stream and a mesh of which everything is told.
fn told() -> State {
    let mut state = state_of(herd(0.0));
    for (second, count) in [(1, 100), (3, 140)] {
        let pool = r#"{database="app",user="u",node="n1"}"#;
        let sink = r#"{slot="herdsman",sink="lines"}"#;
        let text = format!(
            r#"herdsman_gateway_clients{{state="idle"}} 3
herdsman_gateway_clients{{state="in_transaction"}} 2
pgbouncer_pools_server_active_connections{pool} 4
pgbouncer_pools_server_idle_connections{pool} 5
pgbouncer_pools_server_login_connections{pool} 0
pgbouncer_stats_sql_transactions_pooled_total{pool} {count}
herdsman_stream_phase{{slot="herdsman",phase="waiting"}} 0
herdsman_stream_phase{{slot="herdsman",phase="streaming"}} 1
herdsman_stream_source{{slot="herdsman",node="n1"}} 1
herdsman_stream_lag_bytes{{slot="herdsman"}} 2048
herdsman_stream_lag_seconds{{slot="herdsman"}} 1.25
herdsman_stream_rows_total{{slot="herdsman"}} {count}
herdsman_stream_sink_open{sink} 1
herdsman_stream_sink_rows_total{sink} {count}
herdsman_stream_sink_retries_total{sink} 7
herdsman_mesh_target_working{{node="n1"}} 1
herdsman_mesh_target_working{{node="n2"}} 0
herdsman_mesh_conflicts_total{{node="n1"}} 12
herdsman_mesh_link_streaming{{source="n2",target="n1"}} 1
herdsman_mesh_link_streaming{{source="n1",target="n2"}} 0
herdsman_mesh_link_lag_seconds{{source="n2",target="n1"}} 90
herdsman_mesh_link_lag_bytes{{source="n2",target="n1"}} 4096
herdsman_ledger_end_entry{{}} 15
herdsman_ledger_node_applied_entry{{node="lite",engine="sqlite"}} 12
herdsman_ledger_node_lag_entries{{node="lite",engine="sqlite"}} 2
herdsman_ledger_node_lag_seconds{{node="lite",engine="sqlite"}} 0.5
herdsman_ledger_node_following{{node="lite",engine="sqlite"}} 1
herdsman_ledger_node_fenced{{node="lite",engine="sqlite"}} 0
herdsman_ledger_node_following{{node="pg",engine="postgres"}} 0
herdsman_ledger_node_fenced{{node="pg",engine="postgres"}} 1
herdsman_ledger_transactions_total{{node="lite",outcome="committed"}} {count}
herdsman_ledger_transactions_total{{node="lite",outcome="conflict"}} 3
herdsman_hook_runs_total{{hook="pager",outcome="succeeded"}} 4
herdsman_hook_runs_total{{hook="pager",outcome="failed"}} 1
herdsman_hook_failing{{hook="pager"}} 1
herdsman_hook_events_waiting{{hook="pager"}} 2
"#
        );
        state.take(News::Samples(Samples::read(&text)), Duration::from_secs(second));
    }
    let data = r#"{"at":"2026-11-21T22:31:28.123Z","event":"fenced","node":"n1"}"#;
    state.take(News::Event(Sent { data: data.to_owned(), ..Sent::default() }), Duration::ZERO);
    state
}

#[track_caller]
fn shows(key: char, lines: &[&str]) {
    let mut state = told();
    state.press(Key::Letter(key));
    let shown = text(&state, (100, 24));
    // Columns are as wide as they happen to be.
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    for line in lines {
        assert!(shown.lines().any(|one| words(one) == *line), "`{line}` is missing:\n{shown}");
    }
}

#[test]
fn pages_tell_of_events_pools_sinks_and_links() {
    shows('2', &["UTC EVENT NODE", "22:31:28 fenced n1"]);
    shows('3', &["clients: 3 idle, 2 in transaction", "app u n1 4 5 0 20.0 - - -"]);
    shows(
        '4',
        &[
            "slot herdsman: streaming from n1",
            "lag 2.0 kB, 1.2 s; 20.0 rows a second",
            "lines yes 140 20.0 - 7 -",
        ],
    );
    shows(
        '6',
        &[
            "the log ends before entry 15",
            "lite sqlite follows 12 2 0.5 s 140 3 20.0",
            "pg postgres fenced - - - - - -",
        ],
    );
    shows('7', &["pager fails 4 1 - 2 -"]);
    shows('5', &["TARGET CONFLICTS FROM n1 FROM n2", "n1 12 - 1m 30s, 4.0 kB", "n2 - stands -"]);
}

#[test]
fn what_there_is_not_is_said() {
    let mut state = state_of(herd(0.0));
    for (key, said) in [
        ('2', "nothing has happened"),
        ('3', "no gateway"),
        ('4', "no stream"),
        ('5', "no mesh"),
        ('6', "no ledger"),
        ('7', "no hooks"),
    ] {
        state.press(Key::Letter(key));
        assert!(text(&state, (80, 24)).contains(said), "{key}");
    }
}

#[test]
fn many_lines_are_moved_along_and_the_chosen_one_is_always_seen() {
    let mut herd = herd(0.0);
    for number in 10..60 {
        herd.nodes.insert(name(&format!("s{number}")), NodeView::default());
    }
    let mut state = state_of(herd);
    for _ in 0..4 {
        state.press(Key::PageDown);
    }
    let shown = text(&state, (80, 24));
    assert!(shown.contains("\ns47 ") && shown.contains("\ns47: timeline -"), "{shown}");
    state.press(Key::End);
    assert!(text(&state, (80, 24)).contains("\ns59: timeline"), "{}", text(&state, (80, 24)));
}
