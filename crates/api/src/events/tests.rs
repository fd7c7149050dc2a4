use futures_util::FutureExt as _;
use herdsman_node::{NodeName, Role, Timeline};
use herdsman_watch::{Moment, NodeView, Proof, Verdict, Why};

use super::*;

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn node(role: Role) -> NodeView {
    let evidence_at = Some(Moment::default());
    NodeView { role, readable: role != Role::Unavailable, evidence_at, ..NodeView::default() }
}

fn herd(primary: &str) -> Topology {
    let role = |id: &str| if id == primary { Role::Primary } else { Role::Standby };
    Topology {
        verdict: Verdict::Primary {
            node: name(primary),
            timeline: Timeline(1),
            proof: Proof::Attested,
            reason: "attested".to_owned(),
        },
        nodes: ["n1", "n2"].map(|id| (name(id), node(role(id)))).into(),
        ..Topology::default()
    }
}

fn said(old: &Topology, new: &Topology) -> Vec<String> {
    between(old, new)
        .iter()
        .map(|event| {
            let event = serde_json::to_value(event).unwrap();
            let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            format!("{} {}", text("event"), text("node")).trim_end().to_owned()
        })
        .collect()
}

#[test]
fn a_failover_is_told_step_by_step() {
    let start = Topology::default();
    let healthy = herd("n1");
    assert_eq!(said(&start, &healthy), ["primary n1", "node_up n1", "node_up n2"]);
    assert!(said(&healthy, &healthy).is_empty());

    let mut lost = healthy.clone();
    lost.verdict = Verdict::None { why: Why::NoClaimant, reason: "nobody".to_owned() };
    lost.nodes
        .insert(name("n1"), NodeView { error: Some("refused".to_owned()), ..NodeView::default() });
    assert_eq!(said(&healthy, &lost), ["no_primary", "node_down n1"]);

    let mut promoted = herd("n2");
    promoted.nodes.insert(
        name("n1"),
        NodeView { error: Some("refused".to_owned()), fenced: true, ..NodeView::default() },
    );
    assert_eq!(said(&lost, &promoted), ["primary n2", "fenced n1", "role n2"]);

    let back = herd("n2");
    assert_eq!(said(&promoted, &back), ["unfenced n1", "node_up n1"]);
}

#[test]
fn a_split_brain_and_a_standby_that_must_not_be_read_are_told() {
    let healthy = herd("n1");
    let mut split = healthy.clone();
    let claimants = vec![name("n1"), name("n2")];
    split.verdict = Verdict::SplitBrain { claimants, reason: "no proof".to_owned() };
    split.nodes.insert(name("n2"), node(Role::Primary));
    assert_eq!(said(&healthy, &split), ["split_brain", "role n2"]);
    assert_eq!(said(&split, &healthy), ["primary n1", "role n2"]);

    let mut late = healthy.clone();
    let unreadable = NodeView {
        readable: false,
        reasons: vec!["12 MB behind".to_owned()],
        ..node(Role::Standby)
    };
    late.nodes.insert(name("n2"), unreadable);
    let told = serde_json::to_value(between(&healthy, &late)).unwrap();
    let expected =
        serde_json::json!([{ "event": "unreadable", "node": "n2", "reason": "12 MB behind" }]);
    assert_eq!(told, expected);
    assert_eq!(said(&late, &healthy), ["readable n2"]);
}

fn happen(events: &Events, count: usize) {
    for _ in 0..count {
        events.publish(&Event::Fenced { node: name("n1") }, SystemTime::UNIX_EPOCH);
    }
}

/// What there is to read now.
fn read(feed: &mut LiveFeed) -> String {
    let mut text = String::new();
    while let Some(Some(bytes)) = feed.next().now_or_never() {
        text.push_str(std::str::from_utf8(&bytes).unwrap());
    }
    text
}

fn ids(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("id: ")).collect()
}

#[test]
fn whoever_comes_back_gets_what_it_missed_once() {
    let events = Events::new();
    happen(&events, 1);
    let mut feed = events.follow(None).unwrap();
    assert!(read(&mut feed).starts_with("retry: "));
    happen(&events, 3);
    let text = read(&mut feed);
    let seen = ids(&text);
    assert_eq!(seen.len(), 3, "{text}");
    assert!(text.contains("\"at\":\"1970-01-01T00:00:00.000Z\",\"event\":\"fenced\""), "{text}");
    drop(feed);
    happen(&events, 2);
    let mut again = events.follow(Some(seen[1])).unwrap();
    let text = read(&mut again);
    assert_eq!(ids(&text).len(), 3, "{text}");
    assert_eq!(ids(&text)[0], seen[2]);
    assert!(!text.contains("event: gap"), "{text}");
}

#[test]
fn what_is_no_longer_kept_is_a_gap_and_who_reads_too_slowly_is_told_and_let_go() {
    let events = Events::new();
    happen(&events, 2);
    let mut slow = events.follow(None).unwrap();
    happen(&events, KEPT + 1);
    let text = read(&mut slow);
    assert!(text.ends_with("event: lagged\ndata: {}\n\n"), "{text}");
    assert!(slow.next().now_or_never().unwrap().is_none());
    for unknown in
        ["0-1", "nonsense", &format!("{}-0", events.0.run), &format!("{}-99999", events.0.run)]
    {
        let text = read(&mut events.follow(Some(unknown)).unwrap());
        assert!(text.contains("event: gap"), "{unknown}");
        assert_eq!(ids(&text).len(), KEPT, "{unknown}");
    }
}

#[test]
fn followers_are_bounded_and_places_come_free() {
    let events = Events::new();
    let mut feeds: Vec<_> = (0..MOST).map(|_| events.follow(None).unwrap()).collect();
    assert!(events.follow(None).is_none());
    feeds.pop();
    assert!(events.follow(None).is_some());
}
