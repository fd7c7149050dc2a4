//! The whole surface of `/v1` as one table: what is asked of which cluster, and both shapes of the answer.

use herdsman_node::Timeline;
use herdsman_watch::{Moment, Proof, Topology, Why};
use hyper::{Method, Uri};

use super::*;
use crate::reply::{HTML, JSON};
use crate::{Groups, router};

const NOW: Moment = Moment::from_millis(60_000);

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn node(role: Role) -> NodeView {
    let heartbeat = Heartbeat::Beat(NOW - std::time::Duration::from_micros(2_067_560));
    NodeView { role, readable: role != Role::Unavailable, heartbeat, ..NodeView::default() }
}

fn cluster(verdict: Verdict, nodes: &[(&str, Role)]) -> Topology {
    let nodes = nodes.iter().map(|(id, role)| (name(id), node(*role))).collect();
    Topology { verdict, nodes, ..Topology::default() }
}

/// One primary (`host1`), two standbys.
fn healthy() -> Topology {
    let verdict = Verdict::Primary {
        node: name("host1"),
        timeline: Timeline(1),
        proof: Proof::Attested,
        reason: "attested".to_owned(),
    };
    let roles = [("host1", Role::Primary), ("host2", Role::Standby), ("host3", Role::Standby)];
    cluster(verdict, &roles)
}

/// Two claimants (`host1`, `host2`), one standby.
fn split() -> Topology {
    let claimants = vec![name("host1"), name("host2")];
    let verdict = Verdict::SplitBrain { claimants, reason: "no proof".to_owned() };
    let roles = [("host1", Role::Primary), ("host2", Role::Primary), ("host3", Role::Standby)];
    cluster(verdict, &roles)
}

/// Nobody answers.
fn dark() -> Topology {
    let verdict = Verdict::None { why: Why::NoClaimant, reason: "nobody claims it".to_owned() };
    let gone = Role::Unavailable;
    let mut topology = cluster(verdict, &[("host1", gone), ("host2", gone), ("host3", gone)]);
    if let Some(node) = topology.nodes.get_mut("host1") {
        node.error = Some("connection refused".to_owned());
    }
    topology
}

fn groups() -> Groups {
    let group = |nodes: &[&str]| nodes.iter().map(|id| name(id)).collect();
    Groups::from([
        ("dc1".to_owned(), group(&["host1", "host9"])),
        ("dc2".to_owned(), group(&["host2", "host3"])),
        ("dc3".to_owned(), group(&["host3"])),
        ("all".to_owned(), group(&["host3"])),
        ("empty".to_owned(), Vec::new()),
    ])
}

fn ask_as(method: &Method, topology: &Topology, bodies: Bodies, target: &str) -> Reply {
    let groups = groups();
    let view = View {
        topology,
        groups: &groups,
        bodies,
        writes: false,
        live: false,
        mesh: None,
        metrics: None,
        hooks: None,
        about: None,
        counted: crate::ApiStatistics::default(),
        now: NOW,
    };
    router::answer(method, &target.parse::<Uri>().unwrap(), &view)
}

fn ask(topology: &Topology, bodies: Bodies, target: &str) -> Reply {
    ask_as(&Method::GET, topology, bodies, target)
}

/// An answer expected in `readme`, where it differs from `v0`.
enum Readme {
    Body(&'static str),
    /// Status, code, and what the message must hold.
    Error(u16, &'static str, &'static str),
}

#[track_caller]
fn check(topology: &Topology, target: &str, status: u16, v0: &str, readme: &Readme) {
    let got = ask(topology, Bodies::V0, target);
    assert_eq!((got.status.as_u16(), got.body.as_str()), (status, v0), "v0 {target}");
    assert_eq!(got.content_type, JSON, "v0 {target}");
    let got = ask(topology, Bodies::Readme, target);
    assert_eq!(got.content_type, JSON, "readme {target}");
    match readme {
        Readme::Body(body) => {
            assert_eq!(
                (got.status.as_u16(), got.body.as_str()),
                (status, *body),
                "readme {target}"
            );
        }
        Readme::Error(status, code, words) => {
            assert_eq!(got.status.as_u16(), *status, "readme {target}");
            error(&got, code, words);
        }
    }
}

#[track_caller]
fn error(reply: &Reply, code: &str, words: &str) {
    let json: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(json["error"]["code"], code, "{}", reply.body);
    let message = json["error"]["message"].as_str().unwrap();
    assert!(message.contains(words), "{message}");
}

#[test]
fn primary_is_named_only_while_the_verdict_stands_and_the_group_holds_it() {
    use Readme::{Body, Error};
    let one = || Body("[\n    \"host1\"\n]");
    let none = || Body("[]");
    let unknown =
        || Error(404, "unknown_group", "the groups are `all`, `dc1`, `dc2`, `dc3`, `empty`");
    let (healthy, split, dark) = (healthy(), split(), dark());

    check(&healthy, "/v1/primary", 200, "\"host1\"", &one());
    check(&healthy, "/v1/primary?group=all", 200, "\"host1\"", &one());
    check(&healthy, "/v1/primary?group=dc1", 200, "\"host1\"", &one());
    check(&healthy, "/v1/primary?group=dc2", 404, "\"\"", &none());
    check(&healthy, "/v1/primary?group=empty", 404, "\"\"", &none());
    check(&healthy, "/v1/primary?group=nope", 404, "\"\"", &unknown());
    check(&healthy, "/v1/primary?group=", 404, "\"\"", &unknown());

    check(&split, "/v1/primary", 409, "\"\"", &none());
    check(&split, "/v1/primary?group=dc1", 409, "\"\"", &none());
    check(&split, "/v1/primary?group=dc2", 409, "\"\"", &none());
    check(&split, "/v1/primary?group=dc3", 404, "\"\"", &none());

    check(&dark, "/v1/primary", 404, "\"\"", &none());
    check(&Topology::default(), "/v1/primary", 404, "\"\"", &none());
}

#[test]
fn primary_carries_the_verdict_of_the_cluster_whatever_the_group() {
    for bodies in [Bodies::V0, Bodies::Readme] {
        for target in ["/v1/primary", "/v1/primary?group=dc3", "/v1/primary?group=nope"] {
            assert_eq!(ask(&healthy(), bodies, target).verdict, Some("primary"));
            assert_eq!(ask(&split(), bodies, target).verdict, Some("split-brain"));
            assert_eq!(ask(&dark(), bodies, target).verdict, Some("none"));
        }
        assert_eq!(ask(&healthy(), bodies, "/v1/primaries").verdict, None);
    }
}

#[test]
fn lists_are_sorted_and_an_empty_one_is_null_or_brackets() {
    use Readme::{Body, Error};
    const TWO: &str = "[\n    \"host1\",\n    \"host2\"\n]";
    const STANDBYS: &str = "[\n    \"host2\",\n    \"host3\"\n]";
    const THREE: &str = "[\n    \"host3\"\n]";
    let unknown = || Error(404, "unknown_group", "group `nope` is not configured");
    let (healthy, split, dark) = (healthy(), split(), dark());

    check(&split, "/v1/primaries", 200, TWO, &Body(TWO));
    check(&split, "/v1/primaries?group=dc3", 200, "null", &Body("[]"));
    check(&dark, "/v1/primaries", 200, "null", &Body("[]"));
    check(&healthy, "/v1/primaries?group=nope", 200, "null", &unknown());
    check(&healthy, "/v1/standbys", 200, STANDBYS, &Body(STANDBYS));
    check(&healthy, "/v1/standbys?group=all", 200, STANDBYS, &Body(STANDBYS));
    check(&healthy, "/v1/standbys?group=dc3", 200, THREE, &Body(THREE));
    check(&healthy, "/v1/standbys?group=dc1", 200, "null", &Body("[]"));
    check(&split, "/v1/standbys", 200, THREE, &Body(THREE));
    check(&healthy, "/v1/standbys?group=nope", 200, "null", &unknown());
}

#[test]
fn a_standby_that_must_not_be_read_is_not_listed() {
    let mut topology = healthy();
    topology.nodes.get_mut("host2").unwrap().readable = false;
    let only = "[\n    \"host3\"\n]";
    check(&topology, "/v1/standbys", 200, only, &Readme::Body(only));
    check(
        &topology,
        "/v1/host2/status",
        200,
        "\"standby\"",
        &Readme::Body("[\n    \"standby\"\n]"),
    );
}

#[test]
fn status_tells_the_role_on_all_three_paths() {
    use Readme::{Body, Error};
    let (healthy, dark) = (healthy(), dark());
    for path in ["/v1/{}/status", "/v1/status/{}", "/v1/node/{}"] {
        let path = |id: &str| path.replace("{}", id);
        let primary = Body("[\n    \"primary\"\n]");
        check(&healthy, &path("host1"), 200, "\"primary\"", &primary);
        check(&healthy, &path("host2"), 200, "\"standby\"", &Body("[\n    \"standby\"\n]"));
        let gone = Body("[\n    \"unavailable\"\n]");
        check(&dark, &path("host1"), 422, "\"unavailable\"", &gone);
        let unknown = Error(404, "unknown_node", "the nodes are `host1`, `host2`, `host3`");
        check(&healthy, &path("host9"), 404, "\"invalid\"", &unknown);
    }
}

#[test]
fn availability_compares_the_age_of_the_heartbeat_with_the_limit() {
    use Readme::{Body, Error};
    let exceeded = "\"exceeded (exceeded 1.000000 by 2.067560 msec)\"";
    let never = "\"exceeded (exceeded -1.000000 by 2.067560 msec)\"";
    let zero = "\"exceeded (exceeded 0.000000 by 2.067560 msec)\"";
    let minus_infinity = "\"exceeded (exceeded -Inf by 2.067560 msec)\"";
    let bad = |words| Error(400, "bad_limit", words);
    let topology = healthy();
    let table = [
        ("", 200, "\"ok\"", Body("\"ok\"")),
        ("?limit=3", 200, "\"ok\"", Body("\"ok\"")),
        ("?limit=2.5e0", 200, "\"ok\"", Body("\"ok\"")),
        ("?limit=1", 408, exceeded, Body(exceeded)),
        ("?limit=0", 408, zero, Body(zero)),
        ("?group=nope", 200, "\"ok\"", Body("\"ok\"")),
        ("?limit=", 408, never, bad("`limit=` is not a number of seconds")),
        ("?limit=abc", 408, zero, bad("`limit=abc` is not")),
        ("?limit=-1", 408, never, bad("from 0 on")),
        ("?limit=+nan", 408, zero, bad("limit")),
        ("?limit=%2Bnan", 408, zero, bad("limit")),
        ("?limit=NaN", 200, "\"ok\"", bad("limit")),
        ("?limit=inf", 200, "\"ok\"", bad("limit")),
        ("?limit=1e400", 200, "\"ok\"", bad("limit")),
        ("?limit=-inf", 408, minus_infinity, bad("limit")),
        ("?limit=1&limit=3", 408, exceeded, Error(400, "bad_query", "more than once")),
        ("?limit=%zz", 200, "\"ok\"", Error(400, "bad_query", "`limit=%zz`")),
    ];
    for (query, status, v0, readme) in table {
        check(&topology, &format!("/v1/host2/availability{query}"), status, v0, &readme);
    }
}

#[test]
fn the_limit_of_v0_is_read_in_single_precision() {
    let mut topology = healthy();
    let beat = Heartbeat::Beat(NOW - std::time::Duration::from_millis(2_100));
    topology.nodes.get_mut("host2").unwrap().heartbeat = beat;
    let target = "/v1/host2/availability?limit=2.1";
    let got = ask(&topology, Bodies::V0, target);
    assert_eq!(got.body, "\"exceeded (exceeded 2.100000 by 2.100000 msec)\"");
    assert_eq!(ask(&topology, Bodies::Readme, target).body, "\"ok\"");
}

#[test]
fn an_age_equal_to_the_limit_is_fresh() {
    let mut topology = healthy();
    let beat = Heartbeat::Beat(NOW - std::time::Duration::from_secs(2));
    topology.nodes.get_mut("host2").unwrap().heartbeat = beat;
    check(&topology, "/v1/host2/availability?limit=2", 200, "\"ok\"", &Readme::Body("\"ok\""));
}

#[test]
fn availability_that_cannot_be_told_is_417_with_the_reason() {
    let no_table = "\"table \\\"public\\\".\\\"pgr66_avc\\\" does not exist\"";
    let not_asked = "\"failed to check for table \\\"public\\\".\\\"pgr66_avc\\\"\"";
    let with = |heartbeat| {
        let mut topology = healthy();
        topology.nodes.get_mut("host2").unwrap().heartbeat = heartbeat;
        topology
    };
    let told = |topology: &Topology, v0: &str, words: &str| {
        let got = ask(topology, Bodies::V0, "/v1/host2/availability");
        assert_eq!((got.status.as_u16(), got.body.as_str()), (417, v0));
        let got = ask(topology, Bodies::Readme, "/v1/host2/availability");
        assert_eq!(got.status.as_u16(), 417);
        let text: String = serde_json::from_str(&got.body).unwrap();
        assert!(text.contains(words), "{text}");
    };
    told(&with(Heartbeat::Missing), no_table, "table \"public\".\"pgr66_avc\" does not exist");
    told(
        &with(Heartbeat::Unknown),
        no_table,
        "is not known yet; this request asks for it to be read",
    );
    let failed = with(Heartbeat::Failed("permission denied".to_owned()));
    told(&failed, not_asked, "failed to read the heartbeat of node `host2`: permission denied");
    let dark = dark();
    told(&dark, not_asked, "node `host2` is unavailable");
    let got = ask(&dark, Bodies::Readme, "/v1/host1/availability");
    assert_eq!(got.body, "\"node `host1` is unavailable: connection refused\"");
    let unknown = Readme::Error(404, "unknown_node", "node `host9` is not configured");
    check(&healthy(), "/v1/host9/availability", 417, "\"invalid\"", &unknown);
}

#[test]
fn every_availability_request_wants_the_heartbeat_and_no_other_does() {
    for bodies in [Bodies::V0, Bodies::Readme] {
        for target in ["host1/availability", "host9/availability", "host1/availability?limit=x"] {
            assert!(ask(&healthy(), bodies, &format!("/v1/{target}")).wants_heartbeat, "{target}");
        }
        for target in ["/v1/primary", "/v1/host1/status", "/v1/standbys", "/v2/topology", "/"] {
            assert!(!ask(&healthy(), bodies, target).wants_heartbeat, "{target}");
        }
        let posted = ask_as(&Method::POST, &healthy(), bodies, "/v1/host1/availability");
        assert!(!posted.wants_heartbeat);
    }
}

#[test]
fn nodes_may_be_called_like_paths_and_hold_special_characters() {
    let roles = ["availability", "db primary", "node", "primary", "status", "été", "a<b&c"];
    let roles: Vec<_> = roles.iter().map(|id| (*id, Role::Standby)).collect();
    let topology = cluster(Verdict::default(), &roles);
    let standby = || Readme::Body("[\n    \"standby\"\n]");
    for path in [
        "/v1/primary/status",
        "/v1/node/status",
        "/v1/status/status",
        "/v1/status/node",
        "/v1/node/primary",
        "/v1/node/db%20primary",
        "/v1/%c3%a9t%C3%A9/status",
        "/v1/status/a%3Cb%26c",
        "/%761/status/node",
    ] {
        check(&topology, path, 200, "\"standby\"", &standby());
    }
    check(&topology, "/v1/primary", 404, "\"\"", &Readme::Body("[]"));
    check(&topology, "/v1/status/availability", 200, "\"ok\"", &Readme::Body("\"ok\""));
    assert!(ask(&topology, Bodies::V0, "/v1/standbys").body.contains("\"a\\u003cb\\u0026c\""));
    assert!(ask(&topology, Bodies::Readme, "/v1/standbys").body.contains("\"a<b&c\""));
}

#[test]
fn unknown_paths_and_methods_are_refused_in_the_shape_of_the_mode() {
    let topology = healthy();
    let plain = |method: &Method, target: &str, status: u16, text: &str| {
        let got = ask_as(method, &topology, Bodies::V0, target);
        assert_eq!((got.status.as_u16(), got.body.as_str()), (status, text), "{target}");
        assert!(got.content_type.starts_with("text/plain") && !got.allow);
    };
    let json = |method: &Method, target: &str, status: u16, code: &str, words: &str| {
        let got = ask_as(method, &topology, Bodies::Readme, target);
        assert_eq!((got.status.as_u16(), got.content_type), (status, JSON), "{target}");
        assert_eq!(got.allow, status == 405);
        error(&got, code, words);
    };
    let not_found = "404 page not found";
    for target in
        ["/", "/v1", "/v1/host1", "/v3/primary", "/v1/a%2Fb/status", "/v1/primary//", "/v2/x"]
    {
        plain(&Method::GET, target, 404, not_found);
        json(&Method::GET, target, 404, "unknown_path", "/v1/primary, /v1/primaries");
    }
    for method in [Method::POST, Method::OPTIONS, Method::DELETE] {
        plain(&method, "/v1/primary", 404, not_found);
        json(&method, "/v1/primary", 405, "method_not_allowed", "use GET, HEAD");
        json(&method, "/v2/topology", 405, "method_not_allowed", "use GET, HEAD");
        plain(&method, "/v1/primary/", 404, not_found);
        json(&method, "/v1/primary/", 404, "unknown_path", "/v1/primary");
    }
    for target in ["/v1/%zz/status", "/v1/%ff/status"] {
        plain(&Method::GET, target, 400, "400 Bad Request");
        json(&Method::GET, target, 400, "bad_encoding", "percent-encoded");
    }
    let long = format!("/v1/{}/status", "x".repeat(5000));
    plain(&Method::GET, &long, 414, "414 URI Too Long");
    json(&Method::GET, &long, 414, "uri_too_long", "4096 bytes");
}

#[test]
fn head_is_answered_as_get_is() {
    for bodies in [Bodies::V0, Bodies::Readme] {
        for target in ["/v1/primary", "/v1/standbys", "/v1/host1/status", "/v2/topology"] {
            let head = ask_as(&Method::HEAD, &healthy(), bodies, target);
            assert_eq!(head, ask(&healthy(), bodies, target));
        }
    }
}

#[test]
fn one_slash_too_many_is_redirected() {
    for bodies in [Bodies::V0, Bodies::Readme] {
        let got = ask(&healthy(), bodies, "/v1/primary/?group=a&x=1");
        assert_eq!((got.status.as_u16(), got.content_type), (301, HTML));
        assert_eq!(got.location.as_deref(), Some("/v1/primary?group=a&x=1"));
        assert_eq!(got.body, "<a href=\"/v1/primary?group=a&amp;x=1\">Moved Permanently</a>.\n\n");
        let got = ask(&healthy(), bodies, "/v1/db%20%0d%0a1/status/");
        assert_eq!(got.location.as_deref(), Some("/v1/db%20%0D%0A1/status"));
    }
}

#[test]
fn the_whole_topology_is_served_with_ages_and_groups() {
    let mut topology = healthy();
    topology.version = 7;
    topology.nodes.get_mut("host1").unwrap().evidence_at = Some(Moment::from_millis(59_500));
    let got = ask(&topology, Bodies::Readme, "/v2/topology");
    assert_eq!((got.status.as_u16(), got.content_type), (200, JSON));
    let json: serde_json::Value = serde_json::from_str(&got.body).unwrap();
    assert_eq!(json["version"], 7);
    assert_eq!(json["verdict"]["state"], "primary");
    assert_eq!(json["verdict"]["node"], "host1");
    assert_eq!(json["nodes"]["host1"]["evidence_age_seconds"], 0.5);
    assert_eq!(json["groups"]["dc2"], serde_json::json!(["host2", "host3"]));
    assert_eq!(json["groups"].get("all"), None);
}
